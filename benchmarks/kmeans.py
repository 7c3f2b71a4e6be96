"""How fast is k-means here, against faiss and scikit-learn, in one run and in turns?

    python benchmarks/kmeans.py                    # all cores
    python benchmarks/kmeans.py --threads 1 --rows 100000 --turns 5   # one core each, CPU seconds
    python benchmarks/kmeans.py --device cuda      # against faiss-gpu and flash-kmeans

Every contestant lives in a process of its own, reads the same features from the same file, starts
from the same centroids and waits for its turn, so that a busy machine slows all of them alike.
(With several threads a busy machine slows some much more than others: whoever synchronises threads
often waits for the core that is taken.) What is timed is a whole call: so many moves of the
centroids, and the labels of all rows. Each turn has other first centroids; ratios are those of one
turn. Inertia is computed by one function from each contestant's labels and centroids.

The features are like those of a network after a ReLU, and overlap: relu(h A / 8 + m + e / 2) with h
and A standard normal, 64 factors, m one of 500 centres of standard deviation 0.6, e standard normal
noise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, fact_lines, facts, note, save, table
from numpy.typing import NDArray

PACKAGES = ("faiss-cpu", "faiss-gpu", "flash-kmeans")
CONTESTANTS = {
    "cpu": ["faiss", "faiss tuned", "scikit-learn", "seehear"],
    "cuda": ["faiss gpu", "flash-kmeans", "seehear"],
}
HOPELESS = 3
"""Who takes so many times as long as the first contestant is not asked about larger sizes."""

TUNED = {"OPENBLAS_CORETYPE": "SKYLAKEX"}
"""The fastest kernels of the OpenBLAS in faiss-cpu, where AVX-512 is there."""

Array = NDArray[np.float32]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 500_000])
    parser.add_argument("--clusters", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--moves", type=int, default=10)
    parser.add_argument("--device", default="cpu", choices=CONTESTANTS)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--name", help="results/NAME.json and .md; kmeans-DEVICE by default")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--features", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, np.load(args.features, mmap_mode="r"), args)
        return
    results, absent = race(args)
    clock = "CPU seconds" if args.threads == 1 and args.device == "cpu" else "wall clock"
    about = facts(*PACKAGES, threads=args.threads, clock=clock, absent=absent)
    name = args.name or f"kmeans-{args.device}"
    head = f"N | K | | s, {args.moves} moves | times as fast | inertia"
    cells = [
        [
            f"{one['rows']:,}",
            f"{one['clusters']:,}",
            one["name"],
            f"{one['s_whole']:.2f}",
            f"{one['times_as_fast']:.2f} ({one['least']:.2f} to {one['most']:.2f})",
            f"{one['more_inertia']:+.3%}",
        ]
        for one in results
    ]
    page = [f"# k-means: {name}", "", *fact_lines(about), "", *table(head, cells, left=3)]
    save(name, {"about": about, "results": results}, page)


# --- the race -------------------------------------------------------------------------------------


def race(args: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """All contestants on all sizes; and why others took no part."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        features = write_features(Path(folder, "features.npy"), max(args.rows), args.width)
        invited = [Contestant(name, features, args) for name in CONTESTANTS[args.device]]
        absent = {one.name: one.missing for one in invited if one.missing}
        for rows in args.rows:
            for clusters in args.clusters:
                there = [one for one in invited if one.name not in absent]
                lines = race_once(there, rows, clusters, args)
                for line in lines:
                    if line["times_as_fast"] < 1 / HOPELESS:
                        absent[line["name"]] = f"too slow beyond {rows:,} rows and K {clusters:,}"
                results += lines
        for one in invited:
            one.dismiss()
    return results, absent


def race_once(
    contestants: list[Contestant], rows: int, clusters: int, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """One size: everyone in turn, and again."""
    turns: dict[str, list[dict[str, float]]] = {one.name: [] for one in contestants}
    for turn in range(args.turns):
        for one in contestants:
            if turn == 0:
                one.ask(rows=min(rows, 20_000), clusters=clusters, moves=1, start=0)  # warm up
            answer = one.ask(rows=rows, clusters=clusters, moves=args.moves, start=turn)
            turns[one.name].append(answer)
    lines = []
    base_s, base_inertia = (
        np.array([turn[key] for turn in turns[contestants[0].name]])
        for key in ("seconds", "inertia")
    )
    for name, found in turns.items():
        seconds = np.array([turn["seconds"] for turn in found])
        inertia = np.array([turn["inertia"] for turn in found])
        line = {"rows": rows, "clusters": clusters, "name": name, "moves": args.moves}
        line |= {"turns": args.turns, "s_whole": statistics.median(seconds)}
        ratios = base_s / seconds
        line |= {"times_as_fast": float(np.median(ratios)), "least": ratios.min()}
        line |= {"most": ratios.max(), "more_inertia": inertia.mean() / base_inertia.mean() - 1}
        lines.append(line)
        note(line)
    return lines


class Contestant:
    """A process that has the features and answers questions, one line of JSON each."""

    def __init__(self, name: str, features: Path, args: argparse.Namespace) -> None:
        self.name = name
        command = [sys.executable, __file__, "--worker", name, "--features", str(features)]
        command += ["--device", args.device, "--threads", str(args.threads)]
        threads = {"OMP_NUM_THREADS": str(args.threads), "OPENBLAS_NUM_THREADS": str(args.threads)}
        environment = {**os.environ, **threads, **(TUNED if name == "faiss tuned" else {})}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        answer = self._answer()
        if answer is not None and "missing" not in answer:
            # chosen kernels may need instructions that are not there
            self._write(rows=2000, clusters=8, moves=1, start=0)
            answer = self._answer()
        died = "its kernels cannot run on this processor"
        self.missing = died if answer is None else answer.get("missing", "")

    def ask(self, **question: int) -> dict[str, float]:
        self._write(**question)
        answer = self._answer()
        if answer is None:
            raise SystemExit(f"{self.name} died; its error is above.")
        return answer

    def dismiss(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _write(self, **question: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()

    def _answer(self) -> dict[str, Any] | None:
        """The next line; None from a process that has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer


# --- in the contestant's process ------------------------------------------------------------------


def work(name: str, features: Array, args: argparse.Namespace) -> None:
    """Answer questions until there are no more."""
    makers = {
        "faiss": with_faiss,
        "scikit-learn": with_scikit_learn,
        "flash-kmeans": with_flash,
        "seehear": with_seehear,
    }
    try:
        search = makers[name.split()[0]](name, args.device)
    except (ImportError, RuntimeError) as error:
        print(json.dumps({"missing": str(error)}), flush=True)
        return
    print(json.dumps({}), flush=True)
    clock = time.process_time if args.threads == 1 and args.device == "cpu" else time.perf_counter
    rows = np.empty((0, features.shape[1]), dtype=np.float32)
    for line in sys.stdin:
        question = json.loads(line)
        if len(rows) != question["rows"]:
            rows = np.array(features[: question["rows"]])
        generator = np.random.default_rng(question["start"])
        picked = generator.choice(len(rows), question["clusters"], replace=False)
        first = np.ascontiguousarray(rows[np.sort(picked)])
        start = clock()
        labels, centroids = search(rows, first, question["moves"])
        answer = {"seconds": clock() - start, "inertia": inertia(rows, labels, centroids)}
        print(json.dumps(answer), flush=True)


def with_faiss(name: str, device: str) -> Any:
    import faiss

    gpu = "gpu" in name
    if gpu and not getattr(faiss, "get_num_gpus", lambda: 0)():
        raise ImportError("this faiss has no GPU")

    def search(rows: Array, first: Array, moves: int) -> tuple[Any, Any]:
        clusters, width = first.shape
        all_rows = {"min_points_per_centroid": 1, "max_points_per_centroid": len(rows)}
        model = faiss.Kmeans(width, clusters, niter=moves, seed=1, gpu=gpu, **all_rows)
        model.train(rows, init_centroids=first)
        return model.index.search(rows, 1)[1][:, 0], model.centroids

    return search


def with_scikit_learn(name: str, device: str) -> Any:
    from sklearn.cluster import KMeans

    def search(rows: Array, first: Array, moves: int) -> tuple[Any, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = KMeans(len(first), init=first, n_init=1, max_iter=moves, tol=0).fit(rows)
        return model.labels_, model.cluster_centers_

    return search


def with_flash(name: str, device: str) -> Any:
    import torch
    from flash_kmeans import batch_kmeans_Euclid

    def search(rows: Array, first: Array, moves: int) -> tuple[Any, Any]:
        on_gpu = torch.from_numpy(rows).to(device, torch.bfloat16)[None]
        start = torch.from_numpy(first).to(device, torch.bfloat16)[None]
        labels, centroids, _ = batch_kmeans_Euclid(
            on_gpu, len(first), max_iters=moves, tol=0.0, init_centroids=start
        )
        return labels[0].cpu().numpy(), centroids[0].float().cpu().numpy()

    return search


def with_seehear(name: str, device: str) -> Any:
    import torch

    from seehear.method.kmeans import kmeans

    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("torch sees no CUDA device")

    def search(rows: Array, first: Array, moves: int) -> tuple[Any, Any]:
        on_device = torch.from_numpy(rows).to(device)
        found = kmeans(on_device, len(first), seed=0, init=first, iterations=moves)
        return found.labels.cpu().numpy(), found.centroids.cpu().numpy()

    return search


def inertia(rows: Array, labels: NDArray[np.int64], centroids: Array) -> float:
    """The sum of squared distances of rows to their centroids, in float64 over chunks."""
    total = 0.0
    for start in range(0, len(rows), 10_000):
        off = rows[start : start + 10_000] - centroids[labels[start : start + 10_000]]
        total += float(np.einsum("nd,nd->", off, off, dtype=np.float64))
    return total


def write_features(path: Path, rows: int, width: int) -> Path:
    """Draw features (see the top of this file) and write them, (rows, width) float32."""
    random = np.random.default_rng(0)
    mixing = random.standard_normal((64, width), dtype=np.float32) / 8
    centres = random.standard_normal((500, width), dtype=np.float32) * np.float32(0.6)
    features = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, width))
    for start in range(0, rows, 20_000):
        many = min(20_000, rows - start)
        chunk = random.standard_normal((many, 64), dtype=np.float32) @ mixing
        chunk += centres[random.integers(500, size=many)]
        chunk += random.standard_normal((many, width), dtype=np.float32) / 2
        features[start : start + many] = np.maximum(chunk, 0)
    features.flush()
    return path


if __name__ == "__main__":
    main()
