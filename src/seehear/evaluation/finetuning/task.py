"""Fine-tuning as one of the evaluation's tasks: its options, its folder, and what its result is
called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from seehear.errors import SettingsError
from seehear.evaluation.context import Evaluation
from seehear.evaluation.finetuning.run import finetune
from seehear.evaluation.finetuning.settings import PREFIX, finetune_settings
from seehear.machine import distributed
from seehear.machine.locks import one_writer


def evaluate_finetune(
    context: Evaluation,
    *,
    preset: str = "default",
    frames: int | None = None,
    freeze: bool = False,
    scratch: bool = False,
    low_shot: int | Sequence[int] = (),
    resume: bool = False,
    overwrite: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train the encoders with a new head on the classes, and score the test items.

    Args:
        context: the model and the set. Checkpoints go to a folder in `context.results`.
        preset: "default" or another of `PRESETS`.
        frames: in a clip; by default as the preset says.
        freeze: train the head alone.
        scratch: start from new random weights.
        low_shot: train on so many examples of each class, one number.
        resume: go on after the last checkpoint.
        overwrite: begin anew where a fine-tune is.
        changes: further settings by name, with or without "finetune.".
    Returns:
        As `finetune`, and "variant": what distinguishes it from a fine-tune without these options.
    """
    counts = [low_shot] if isinstance(low_shot, int) else list(low_shot)
    if len(counts) > 1:
        raise SettingsError(
            f"--low-shot is {counts}. A fine-tune takes one number; run it once for each."
        )
    wanted = {
        name if name.startswith(PREFIX) else PREFIX + name: value
        for name, value in (changes or {}).items()
    }
    given = {"frames": frames, "freeze": freeze or None, "clips": context.num_clips}
    wanted |= {PREFIX + name: value for name, value in given.items() if value is not None}
    settings = finetune_settings(preset, wanted)
    variant = [] if preset == "default" else [preset]
    variant += [f"{settings.frames}-frames"] if frames is not None else []
    variant += [f"{counts[0]}-shot"] if counts else []
    variant += ["frozen"] * settings.freeze + ["scratch"] * scratch
    name = "-".join(["finetune", *variant, re.sub(r"[^\w.-]", "_", context.data.name)])
    with ExitStack() as held:  # by the first rank, which writes
        distributed.by_first(
            lambda: held.enter_context(one_writer(context.results / name, inside=True))
        )
        found = finetune(
            context.model,
            context.data,
            context.results / name,
            settings,
            seed=context.seed,
            device=str(context.model.numerics.device),
            resume=resume,
            overwrite=overwrite,
            low_shot=counts[0] if counts else None,
            scratch=scratch,
            console=context.console,
        )
    clip = found.pop("clip")
    return {
        **found,
        "preset": preset,
        "variant": variant,
        "clips": {**clip, "per_item": settings.clips},
    }
