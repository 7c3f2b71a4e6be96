"""How good do the encoders become when they are trained on classes? Fine-tuning, from pretrained or
from new weights.

For each split: the encoders and a new linear head for each modality learn the training items for a
fixed number of epochs; then, once, the test items are scored by clips spread evenly over them.
Nothing is chosen on a test part.

`finetune` a fine-tune, split by split · `settings` knobs and presets · `training` what is learned
and how · `testing` scores of items · `files` the folder, resuming, the finished classifier.
"""

from __future__ import annotations

from seehear.evaluation.finetuning.files import Classifier, load_classifier
from seehear.evaluation.finetuning.finetune import evaluate_finetune, finetune
from seehear.evaluation.finetuning.settings import (
    PRESETS,
    Finetune,
    FinetunePreset,
    finetune_settings,
)

__all__ = [
    "PRESETS",
    "Classifier",
    "Finetune",
    "FinetunePreset",
    "evaluate_finetune",
    "finetune",
    "finetune_settings",
    "load_classifier",
]
