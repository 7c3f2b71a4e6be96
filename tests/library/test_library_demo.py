"""Does a run that has learned something put new videos where they belong, and find sights by sound?

Needs a finished demo: runs/demo, or the folder that SEEHEAR_DEMO names (seedN/videos,
seedN/index-train, seedN/xdc).

Measure of assigning: a cluster is *of* the event that most of its training rows show. An event was
*consistently assigned* in training when at least 80 % of its rows lie in clusters that are of it.
Of the segments of freshly synthesised videos of such events at least 80 % must be put into
clusters that are of their event, in every space. Measure of searching: for at least half of the
sounds of fresh videos, the first video found is of the same event; chance is 1 in 12.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import seehear
from seehear.data.index import Index
from seehear.evaluation import read_classes
from seehear.library import assign, open_run, search
from seehear.library.trained import Trained

CONSISTENT = FOLLOWED = 0.8
FOUND = 0.5
FRESH_SEED = 4711
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def seed_folder() -> Path:
    place = os.environ.get("SEEHEAR_DEMO", Path(__file__).parents[2] / "runs" / "demo")
    found = [p for p in sorted(Path(place).glob("seed*")) if (p / "xdc" / "encoders").is_dir()]
    if not found:
        pytest.skip(
            f"{place} holds no finished XDC run: run `make demo`, or name another folder in "
            f"SEEHEAR_DEMO"
        )
    return found[0]


@pytest.fixture(scope="module")
def trained(seed_folder: Path) -> Trained:
    return open_run(seed_folder / "xdc", device="cpu")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fresh") / "videos"
    seehear.synth(folder, videos=240, seed=FRESH_SEED, workers=1, progress=False)
    return folder


def events_of(folder: Path, paths: list[str]) -> np.ndarray:
    classes = read_classes(folder / "classes.csv")
    return np.array([classes.names[classes.of[str(Path(path).resolve())]] for path in paths])


def test_new_videos_of_consistently_assigned_events_go_where_training_ones_went(
    seed_folder, trained, fresh
):
    index = Index.open(seed_folder / "index-train")
    event_N = events_of(seed_folder / "videos", [index.path(row) for row in range(len(index))])
    labels = assign(trained, fresh, workers=1)
    new_M = events_of(fresh, labels["path"].to_pylist())
    for name, clustering in trained.clusterings.items():
        if len(clustering.centroids_KD) < 12:  # not one for every event
            continue
        label_N = trained.labels[name]
        of = {}
        for k in range(len(clustering.centroids_KD)):
            members, counts = np.unique(event_N[label_N == k], return_counts=True)
            of[k] = members[counts.argmax()] if len(members) else ""
        fits_N = np.array([of.get(k) for k in label_N.tolist()]) == event_N
        fits_M = np.array([of[k] for k in labels[f"{name}_cluster"].to_pylist()]) == new_M
        consistent = [e for e in np.unique(event_N) if fits_N[event_N == e].mean() >= CONSISTENT]
        shares = {str(e): round(float(fits_M[new_M == e].mean()), 2) for e in consistent}
        print(
            name,
            len(consistent),
            "of 12 events:",
            shares,
            "far:",
            np.mean(labels[f"{name}_far"].to_pylist()),
        )
        assert len(consistent) >= 6, name
        assert np.mean(list(shares.values())) >= FOLLOWED, (name, shares)


def test_a_sound_finds_videos_of_its_event(seed_folder, trained, fresh):
    classes = read_classes(fresh / "classes.csv")
    queries = sorted(classes.of)[::4]
    right = {"audio": 0, "video": 0}
    for query in queries:
        for by in right:
            best = search(trained, query, use="audio", by=by, top=1)["path"].to_pylist()
            right[by] += int(
                events_of(seed_folder / "videos", best)[0] == classes.names[classes.of[query]]
            )
    shares = {by: count / len(queries) for by, count in right.items()}
    print("first video of the same event, of", len(queries), "sounds:", shares)
    assert all(share >= FOUND for share in shares.values()), shares
