"""Shared by all tests: one thread, so that results and times do not depend on a busy machine; a
small set of videos.
"""

from __future__ import annotations

import os
from pathlib import Path

# Before torch is imported, also in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# No deadline: machines are busy; time limits belong to benchmarks.
settings.register_profile("seehear", deadline=None)
settings.load_profile("seehear")


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 synthetic videos of 4 events, with classes.csv."""
    import seehear

    folder = tmp_path_factory.mktemp("set") / "videos"
    seehear.synth(folder, videos=40, classes=4, seed=3, progress=False)
    return folder


@pytest.fixture(scope="session")
def index_folder(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of `videos`."""
    import seehear

    folder = tmp_path_factory.mktemp("index") / "index"
    seehear.index([videos], folder, progress=False)
    return folder


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of videos with hostile names and classes, and its report; see
    `report_run.py`.
    """
    from report_run import make_run

    return make_run(tmp_path_factory.mktemp("shown"))


@pytest.fixture(scope="session")
def finished_run(index_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the smallest settings on `index_folder`; it has learned nothing worth
    having. Leave it be.
    """
    import seehear

    folder = tmp_path_factory.mktemp("finished") / "run"
    settings = {
        "compute.precision": "fp32",
        "compute.memory_format": "contiguous",
        "data.workers": 0,
    }
    settings["data.cache_gigabytes"] = (
        0  # sound cut from memory differs at a clip's edges from sound that is read
    )
    seehear.pretrain(index_folder, folder, preset="debug", settings=settings)
    return folder
