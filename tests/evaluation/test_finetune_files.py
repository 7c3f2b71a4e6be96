"""Fine-tuning on real files: a process that was killed goes on, another clip length is read, the
folder can be used.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import seehear
from planted import tiny_settings
from seehear.data.index import Index
from seehear.errors import CheckpointError
from seehear.evaluation.finetuning import finetune, finetune_settings, load_classifier
from seehear.evaluation.sets import LabelledSet, of_index, read_classes
from seehear.machine.console import Console
from seehear.method.encoders.building import build_pair
from seehear.models.files import save_encoders
from seehear.runs.checkpoint import read_state, write_state

SETTINGS = {
    "finetune.precision": "fp32",
    "finetune.memory_format": "contiguous",
    "finetune.workers": 0,
    "finetune.frames": 6,
    "finetune.epochs": 6,
    "finetune.clips": 2,
    "finetune.batch_size": 8,
    "finetune.checkpoint_minutes": 0,
}
HERE = Path(__file__).parent
SCRIPT = """
import sys
sys.path[:0] = {tests!r}
from pathlib import Path
from test_finetune_files import tuned
tuned(*map(Path, sys.argv[1:]))
"""


def tuned(
    encoders: Path, videos: Path, index_folder: Path, out: Path, *, resume: bool = False
) -> dict:
    data = labelled(videos, index_folder)
    with Console(quiet=True) as console:
        model = seehear.load(encoders, device="cpu")
        return finetune(
            model, data, out, finetune_settings(changes=SETTINGS), resume=resume, console=console
        )


def labelled(videos: Path, index_folder: Path) -> LabelledSet:
    return of_index(Index.open(index_folder), read_classes(videos / "classes.csv"), 0)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cfg = tiny_settings()
    folder = tmp_path_factory.mktemp("model") / "encoders"
    save_encoders(folder, build_pair(cfg), cfg, {"variant": "none"})
    return folder


@pytest.mark.slow
def test_a_killed_process_goes_on_bit_for_bit(encoders, videos, index_folder, tmp_path):
    unbroken = tuned(encoders, videos, index_folder, tmp_path / "unbroken")
    broken = tmp_path / "broken"
    script = SCRIPT.format(tests=[str(HERE), str(HERE.parent / "helpers")])
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, (encoders, videos, index_folder, broken))]
    )
    until = time.monotonic() + 120
    while not list((broken / "splits/00/steps").glob("*5")) and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"
    assert not (broken / "splits/00/finished").exists()
    result = tuned(encoders, videos, index_folder, broken, resume=True)
    assert result["values"] == unbroken["values"]
    for name in ("video.safetensors", "audio.safetensors", "heads.safetensors", "scores.npz"):
        parts = [
            (tmp_path / run / "splits/00/finished" / name).read_bytes()
            for run in ("unbroken", "broken")
        ]
        assert parts[0] == parts[1], name
    use(result, videos, index_folder, broken)


def use(result: dict, videos: Path, index_folder: Path, out: Path) -> None:
    """The clip has the frames that were asked for, and what is in the folder says the same as the
    result.
    """
    data = labelled(videos, index_folder)
    assert result["clip"]["frames"] == 6
    assert "6 frames at 4 Hz" in result["protocol"]
    classifier = load_classifier(out, device="cpu")
    assert classifier.model.clip.frames == 6
    assert classifier.classes == data.classes
    record = json.loads((out / "splits/00/finished/encoders.json").read_text())
    assert record["variant"] == "none"
    assert record["finetuned"]["settings"]["epochs"] == 6
    with np.load(out / "splits/00/finished/scores.npz") as scores:
        hits = scores["audio"].argmax(axis=1) == data.target_V[scores["items"]]
        assert hits.mean() == pytest.approx(result["values"]["audio"]["top1"])
        assert scores["items"].tolist() == data.splits[0].test.tolist()
    model = seehear.load(out / "splits/00/finished", device="cpu")  # the encoders alone
    assert model.clip.frames == 6


def test_a_checkpoint_that_holds_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self) -> tuple:
            return (os.system, ("touch " + str(tmp_path / "ran"),))

    write_state(tmp_path, {"trap": Trap()})
    with pytest.raises(CheckpointError, match="no checkpoint of tensors and data"):
        read_state(tmp_path)
    assert not (tmp_path / "ran").exists()
