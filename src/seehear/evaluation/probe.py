"""What do frozen features know? A linear classifier on them, trained on some videos and tested on others.

Logistic regression on standardised features; a video's feature is the mean over its segments. The regularisation is
chosen on a fifth of the training videos, never on the test videos.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seehear.clips import Clips
from seehear.config import Data
from seehear.errors import SettingsError
from seehear.evaluation.classes import Classes, real
from seehear.features import extract
from seehear.indexing import Index
from seehear.model import Model, load
from seehear.progress import Console
from seehear.runs import Run, now, versions

STRENGTHS = (0.01, 0.1, 1.0)  # inverse regularisation C, tried on the held-out fifth
VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class VideoSet:
    """Videos with classes, and which rows of the index are theirs.

    video_N: (N,) int64, the video of each row, -1 for rows without a class; class_V int64; test_V bool.
    """

    video_N: np.ndarray
    class_V: np.ndarray
    test_V: np.ndarray
    missing: tuple[str, ...]

    def pool(self, rows: np.ndarray, features_nD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean feature of each video: (V, D), and which videos have one (V,) bool."""
        sums = np.zeros((len(self.class_V), features_nD.shape[1]))
        counts = np.zeros(len(self.class_V))
        video_n = self.video_N[rows]
        np.add.at(sums, video_n[video_n >= 0], features_nD[video_n >= 0])
        np.add.at(counts, video_n[video_n >= 0], 1)
        return sums / np.maximum(counts, 1)[:, None], counts > 0


def evaluate_probe(run: Path, data: Path, classes: Classes, *, seed: int, device: str) -> dict[str, Any]:
    """Probe both encoders of a run on an index; write and return `results/probe.json`."""
    model = load(run, device=device)
    index = Index.open(data)
    index.check()
    videos = video_set(index, classes, seed)
    clips = Clips(index, model.clip, Data(), seed, model.modalities)
    with Console() as console:
        values = probe_model(model, clips, videos, console)
    result = {
        "task": "probe",
        "model": model.digest,
        "values": values,
        **rates(videos, classes),
        "protocol": "logistic regression on standardised features of the middle clip of each segment, averaged over "
        f"a video's segments; C of {list(STRENGTHS)} chosen on {VALIDATION_SHARE:.0%} of the training videos; split by "
        + ("the file's column" if classes.split else f"video, drawn from seed {seed}"),
        "classes": str(classes.file),
        "index": {"path": str(index.folder), "digest": index.digest},
        "missing_files": list(videos.missing),
        "unreadable": dict(clips.failures),
        "created": now(),
        **versions(),
    }
    Run.open(run).write_result("probe", result)
    return result


def probe_model(model: Model, clips: Clips, videos: VideoSet, console: Console) -> dict[str, float]:
    """Test accuracy in [0, 1] of a linear probe on each encoder that the model has."""
    rows = np.flatnonzero(videos.video_N >= 0)
    features = extract(model.pair, clips, model.numerics, rows=rows, progress=console.watch("features", len(rows)))
    return {m: probe(part.numpy(), features.rows, videos) for m, part in features.of.items()}


def probe(features_nD: np.ndarray, rows: np.ndarray, videos: VideoSet) -> float:
    """Test accuracy in [0, 1] of a linear classifier on features (n, D) of some rows."""
    pooled_VD, there_V = videos.pool(rows, features_nD)
    train, test = there_V & ~videos.test_V, there_V & videos.test_V
    return linear_accuracy(pooled_VD[train], videos.class_V[train], pooled_VD[test], videos.class_V[test])


def linear_accuracy(train_nD: np.ndarray, train_n: np.ndarray, test_mD: np.ndarray, test_m: np.ndarray) -> float:
    """Accuracy on the test part of logistic regression fitted on the train part, C chosen within the train part."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    def fitted(strength: float, x: np.ndarray, y: np.ndarray) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000, tol=1e-3)).fit(x, y)

    with threadpool_limits(1):  # these matrices are too small for threads to pay
        strength = STRENGTHS[0]
        if np.bincount(train_n).max() > 1 and len(train_n) * VALIDATION_SHARE >= len(np.unique(train_n)):
            many = np.bincount(train_n)[train_n] > 1  # a class of one video cannot be divided
            fit_x, held_x, fit_y, held_y = train_test_split(
                train_nD[many], train_n[many], test_size=VALIDATION_SHARE, random_state=0, stratify=train_n[many]
            )
            strength = max(STRENGTHS, key=lambda c: fitted(c, fit_x, fit_y).score(held_x, held_y))
        return float(fitted(strength, train_nD, train_n).score(test_mD, test_m))


def video_set(index: Index, classes: Classes, seed: int) -> VideoSet:
    """The videos of an index that have a class, with their split.

    Raises:
        SettingsError: no video of the index has a class, or train or test has none.
    """
    path_N = [real(index.path(row)) for row in range(len(index))]
    paths = sorted({path for path in path_N if path in classes.of})
    if not paths:
        raise SettingsError(
            f"No video of {index.folder} is in {classes.file}, whose paths are relative to its own folder "
            f"(such as {next(iter(classes.of))}). Index that folder, or correct the paths."
        )
    number = {path: i for i, path in enumerate(paths)}
    test_V = classes.is_test(paths, seed)
    class_V = np.array([classes.of[path] for path in paths], dtype=np.int64)
    for name, part in (("train", ~test_V), ("test", test_V)):
        if len(np.unique(class_V[part])) < 2:
            raise SettingsError(
                f"The {name} videos of {index.folder} have fewer than two classes ({int(part.sum())} videos). Index "
                f"more of {classes.file}, or change its split column."
            )
    return VideoSet(
        video_N=np.array([number.get(path, -1) for path in path_N], dtype=np.int64),
        class_V=class_V,
        test_V=test_V,
        missing=tuple(sorted(set(classes.of) - set(paths))),
    )


def rates(videos: VideoSet, classes: Classes) -> dict[str, Any]:
    """What the values must be compared with: chance, majority rate, and how many videos."""
    train, test = videos.class_V[~videos.test_V], videos.class_V[videos.test_V]
    majority = np.bincount(train).argmax()
    return {
        "chance": 1 / len(classes.names),
        "majority": float(np.mean(test == majority)),
        "n_train": len(train),
        "n_test": len(test),
        "num_classes": len(classes.names),
    }
