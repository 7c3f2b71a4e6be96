"""How fast is k-means here, against faiss and scikit-learn, in one run and in turns?

    python benchmarks/kmeans.py                    # all cores, about 8 minutes on two
    python benchmarks/kmeans.py --threads 1        # one core each, in CPU seconds
    python benchmarks/kmeans.py --device cuda      # against faiss-gpu and flash-kmeans
    python benchmarks/kmeans.py --growth           # seconds against N and K

Every contestant lives in a process of its own, reads the same features from the same file, starts
from the same centroids and waits for its turn, so that a busy machine slows all of them alike.
(With several threads a busy machine slows some much more than others: whoever synchronises threads
often waits for the core that is taken.) Seconds per iteration are (T(n) - T(1)) / (n - 1), from the
least of the repeats, where T(i) is a whole call with i moves of the centroids, labels of all rows
included. Inertia is computed by one function from each contestant's labels and centroids.

The features are like those of a network after a ReLU, and overlap: relu(h A / 8 + m + e / 2) with h
and A standard normal, 64 factors, m one of 500 centres of standard deviation 0.6, e standard normal
noise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESULTS = Path(__file__).parent / "results"
HOPELESS = (
    3  # who takes so many times as long as the first contestant is not asked about larger sizes
)
# the fastest kernels of the OpenBLAS in faiss-cpu, where AVX-512 is there
TUNED = {"OPENBLAS_CORETYPE": "SKYLAKEX"}
Array = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 500_000])
    parser.add_argument("--clusters", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument(
        "--repeats", type=int, default=3, help="above 200,000 rows there is one, of 10 moves"
    )
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument(
        "--name",
        help="results/NAME.json and .md; kmeans-cpu, kmeans-cuda or kmeans-growth by default",
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--features", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, np.load(args.features, mmap_mode="r"), args)
    elif args.growth:
        report(args, growth(args), args.name or "kmeans-growth")
    else:
        results, absent = race(args)
        report(args, results, args.name or f"kmeans-{args.device}", absent)


# --- the race -------------------------------------------------------------------------------------


def race(args: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Time all contestants on all sizes: one entry per size and contestant, and why others took no
    part.
    """
    results = []
    with tempfile.TemporaryDirectory() as folder:
        features = write_features(Path(folder, "features.npy"), max(args.rows), args.width)
        invited = [Contestant(name, features, args) for name in names(args.device)]
        absent = {one.name: one.missing for one in invited if one.missing}
        contestants = [one for one in invited if not one.missing]
        for rows in args.rows:
            for clusters in args.clusters:
                lines = race_once(contestants, rows, clusters, args)
                for line in lines:
                    if line["s_per_iteration"] > HOPELESS * lines[0]["s_per_iteration"]:
                        absent[line["name"]] = (
                            f"beyond {rows:,} rows and K {clusters:,}: over {HOPELESS} times as "
                            f"slow"
                        )
                contestants = [one for one in contestants if one.name not in absent]
                results += lines
        for one in invited:
            one.dismiss()
    return results, absent


def race_once(
    contestants: list[Contestant], rows: int, clusters: int, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """One size: everyone in turn, and again."""
    large = rows > 200_000
    repeats, moves = (1, 10) if large else (args.repeats, args.iterations)
    found: dict[str, dict[str, list[float]]] = {
        one.name: {"short": [], "long": [], "inertia": []} for one in contestants
    }
    for repeat in range(repeats):
        for one in contestants:
            if repeat == 0:
                one.ask(rows=min(rows, 20_000), clusters=clusters, moves=1, start=0)  # warm up
            short = one.ask(rows=rows, clusters=clusters, moves=1, start=repeat)
            long = one.ask(rows=rows, clusters=clusters, moves=moves, start=repeat)
            found[one.name]["short"].append(short["seconds"])
            found[one.name]["long"].append(long["seconds"])
            found[one.name]["inertia"].append(long["inertia"])
    lines = []
    for one in contestants:
        times = found[one.name]
        line = {
            "rows": rows,
            "clusters": clusters,
            "name": one.name,
            "moves": moves,
            "repeats": repeats,
        }
        line["s_per_iteration"] = (min(times["long"]) - min(times["short"])) / (moves - 1)
        line["s_whole"] = min(times["long"])
        line["inertia"] = float(np.mean(times["inertia"]))
        lines.append(line)
        print(
            f"{rows:>9,} {clusters:>6,}  {one.name:<16} {line['s_per_iteration']:.4f} s",
            file=sys.stderr,
            flush=True,
        )
    return lines


def names(device: str) -> list[str]:
    if device == "cuda":
        return ["faiss gpu", "flash-kmeans", "seehear"]
    return ["faiss", "faiss tuned", "scikit-learn", "seehear"]


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
        if (
            answer is not None and "missing" not in answer
        ):  # chosen kernels may need instructions that are not there
            self._write(rows=2000, clusters=8, moves=1, start=0)
            answer = self._answer()
        self.missing = (
            "its kernels cannot run on this processor"
            if answer is None
            else answer.get("missing", "")
        )
        if self.missing:
            print(f"{name} does not take part: {self.missing}", file=sys.stderr)

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


# --- in the contestant's process
# -----------------------------------------------------------------------------------


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
        picked = np.random.default_rng(question["start"]).choice(
            len(rows), question["clusters"], replace=False
        )
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
        model = faiss.Kmeans(
            width,
            clusters,
            niter=moves,
            seed=1,
            gpu=gpu,
            min_points_per_centroid=1,
            max_points_per_centroid=len(rows),
        )
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
    """The sum of squared distances of the rows to the centroids of their labels, in float64 over
    chunks.
    """
    total = 0.0
    for start in range(0, len(rows), 10_000):
        off = rows[start : start + 10_000] - centroids[labels[start : start + 10_000]]
        total += float(np.einsum("nd,nd->", off, off, dtype=np.float64))
    return total


# --- growth ---------------------------------------------------------------------------------------


def growth(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds of an iteration against N at two K, and against K at one N."""
    sizes = [
        (rows, clusters)
        for clusters in (64, 1024)
        for rows in (10_000, 31_623, 100_000, 316_228, 1_000_000)
    ]
    sizes += [(100_000, clusters) for clusters in (256, 4096, 16_384, 65_536)]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        features = write_features(Path(folder, "features.npy"), 1_000_000, args.width)
        one = Contestant("seehear", features, args)
        for rows, clusters in sizes:
            moves = 3 if clusters > 1024 or rows > 200_000 else 10
            one.ask(rows=min(rows, 20_000), clusters=min(clusters, 1024), moves=1, start=0)
            times = []
            for _ in range(2 if moves == 3 else 3):
                short = one.ask(rows=rows, clusters=clusters, moves=1, start=0)["seconds"]
                times.append(
                    (one.ask(rows=rows, clusters=clusters, moves=moves, start=0)["seconds"] - short)
                    / (moves - 1)
                )
            line = {
                "rows": rows,
                "clusters": clusters,
                "name": one.name,
                "s_per_iteration": min(times),
            }
            line["ns_per_row_and_cluster"] = min(times) / rows / clusters * 1e9
            results.append(line)
            print(f"{rows:>9,} {clusters:>6,} {min(times):.4f} s", file=sys.stderr, flush=True)
        one.dismiss()
    return results


# --- features and reports
# ------------------------------------------------------------------------------------------


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


def report(
    args: argparse.Namespace,
    results: list[dict[str, Any]],
    name: str,
    absent: dict[str, str] | None = None,
) -> None:
    """Write results/NAME.json and .md, and print the latter."""
    about = {"command": " ".join(["python benchmarks/kmeans.py", *sys.argv[1:]]), **machine(args)}
    for contestant, reason in (absent or {}).items():
        about[f"without {contestant}"] = reason
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(
        json.dumps({"about": about, "results": results}, indent=1) + "\n"
    )
    lines = [f"# k-means: {name}", ""]
    lines += [f"- {key}: {value}" for key, value in about.items()]
    lines += ["", *(growth_table(results) if args.growth else race_table(results)), ""]
    (RESULTS / f"{name}.md").write_text("\n".join(lines))
    print("\n".join(lines))


def race_table(results: list[dict[str, Any]]) -> list[str]:
    """A Markdown table; speed and inertia are against the first contestant of each size."""
    lines = [
        "| N | K | | s per iteration | times as fast | s whole (moves) | times as fast, whole | "
        "inertia |"
    ]
    lines += ["|---:|---:|---|---:|---:|---:|---:|---:|"]
    for line in results:
        base = next(
            one
            for one in results
            if (one["rows"], one["clusters"]) == (line["rows"], line["clusters"])
        )
        cells = [
            f"{line['rows']:,}",
            f"{line['clusters']:,}",
            line["name"],
            f"{line['s_per_iteration']:.4f}",
        ]
        cells += [
            f"{base['s_per_iteration'] / line['s_per_iteration']:.2f}",
            f"{line['s_whole']:.2f} ({line['moves']})",
        ]
        cells += [
            f"{base['s_whole'] / line['s_whole']:.2f}",
            f"{line['inertia'] / base['inertia'] - 1:+.3%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def growth_table(results: list[dict[str, Any]]) -> list[str]:
    lines = ["| N | K | s per iteration | ns per row and cluster |", "|---:|---:|---:|---:|"]
    lines += [
        f"| {line['rows']:,} | {line['clusters']:,} | {line['s_per_iteration']:.4f} "
        f"| {line['ns_per_row_and_cluster']:.2f} |"
        for line in results
    ]
    return lines


def machine(args: argparse.Namespace) -> dict[str, str]:
    """Processor, memory and versions."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    about = {"processor": platform.processor() or platform.machine(), "threads": str(args.threads)}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in found.items()}
        flags = fields.get("flags", "").split()
        about["processor"] = fields.get("model name", about["processor"])
        wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
        about["instructions"] = ", ".join(flag for flag in wanted if flag in flags) or "unknown"
    about["clock"] = "CPU seconds" if args.threads == 1 and args.device == "cpu" else "wall clock"
    if args.device == "cuda":
        about["gpu"] = torch.cuda.get_device_name()
    else:
        about["cuda"] = (
            "not run: no CUDA device on this machine"
            if not torch.cuda.is_available()
            else "not run"
        )
    packages = ["torch", "faiss-cpu", "faiss-gpu", "flash-kmeans", "scikit-learn", "numpy"]
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    about["versions"] = ", ".join(["python " + platform.python_version(), *versions])
    return about


if __name__ == "__main__":
    main()
