"""What each rank does in test_finetune_ranks.py; run under torchrun with a folder."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from planted import AS_DEBUG
from planted_set import Planted, settings_with
from seehear.evaluation.finetuning import files
from seehear.machine import distributed

CFG = settings_with(
    batch_parts=4, batch_size=16, optimizer="sgd", lr=0.02, heldout_share=0.1, clips=3
)
STOPPED_STEP = 3  # of 4


def tuned(out: Path, *, resume: bool = False) -> dict[str, Any]:
    """A fine-tune on the planted set."""
    return Planted(AS_DEBUG).run(out, CFG, resume=resume)


def tuned_and_stopped(out: Path, stopped: Path) -> dict[str, Any]:
    """The same; its folder as it was at a step of the second split is copied."""
    save = files.save_state

    def save_and_copy(folder: Path, step: int, state: dict[str, Any]) -> None:
        save(folder, step, state)
        if (folder.name, step) == ("01", STOPPED_STEP):
            shutil.copytree(out, stopped)

    files.save_state = save_and_copy
    found = Planted(AS_DEBUG).run(out, replace(CFG, checkpoint_minutes=0.0))
    files.save_state = save
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    distributed.start("cpu", timeout_s=120)
    tuned_and_stopped(folder / "ranks", folder / "stopped")
    distributed.barrier()
    if distributed.rank() == 0:
        shutil.copytree(folder / "stopped", folder / "fewer")
    distributed.barrier()
    tuned(folder / "stopped", resume=True)
    distributed.barrier()


if __name__ == "__main__":
    main()
