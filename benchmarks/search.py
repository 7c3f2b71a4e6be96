"""How long does a search over a million segments take, and how much memory?

    python benchmarks/search.py                   # about 10 minutes and 3 GB of disk on one core
    python benchmarks/search.py --rows 100000

A run is simulated: the smallest encoders of the paper's width (512 columns) with random weights,
and a million rows of random float16 features in the run's files, as `seehear pretrain` leaves them.
Each search is a process of its own, so that its peak memory is its own; its time is that of the
call `search` with everything imported and the run opened: of the first call, and the mean of two
more. The query is a synthetic sound.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import VIDEO_FACTS, arguments, fact_lines, facts, in_a_process, note, save, table

CASES = {  # by, use, exact
    "audio with audio": ("audio", "audio", True),
    "audio with video": ("video", "audio", True),
    "joint with joint": ("auto", "auto", True),
    "audio with audio, faiss": ("audio", "audio", False),
}
WIDTH, CLUSTERS, REPEATS = 512, 256, 2


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(args.folder, args.case, args.threads)))
        return
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as place:
        simulate(Path(place), args.rows)
        for case in CASES:
            told = "--case", case, "--folder", place, "--threads", args.threads
            try:
                found[case] = in_a_process(__file__, *told, OMP_NUM_THREADS=str(args.threads))
            except subprocess.CalledProcessError as error:
                found[case] = {"failed": f"exit code {error.returncode}"}
            note({case: found[case]})
    about = facts(rows=args.rows, columns=WIDTH, threads=args.threads)
    keys = ("first_s", "first_cpu_s", "then_s", "then_cpu_s")
    rows = [
        [case, v["failed"]]
        if "failed" in v
        else [case, *(v[key] for key in keys), f"{v['peak_mb']} ({v['before_mb']})"]
        for case, v in found.items()
    ]
    page = [
        "# Search over a simulated run",
        "",
        *fact_lines(about),
        "- memory: the process's own, without pages of the run's files, which the system takes "
        "back when it needs them",
        "- the first faiss search builds the index; the others read it",
        "",
        *table(" | first, s | first, CPU s | then, s | then, CPU s | peak MB (run opened)", rows),
    ]
    save("search", {**about, "cases": found}, page)


def simulate(folder: Path, rows: int) -> None:
    """Write videos of a few seconds, and a run and an index of so many rows."""
    import torch

    import seehear
    from seehear.config import Cluster, Encoders, Settings
    from seehear.data.index.columns import Video
    from seehear.data.index.writing import write_index
    from seehear.machine.files import now
    from seehear.method.clusters import Clusters, Space
    from seehear.method.encoders import Pair
    from seehear.method.encoders.building import build_pair
    from seehear.method.features import Features
    from seehear.method.kmeans import Clustering
    from seehear.models.files import save_encoders
    from seehear.models.matching import fit_matching
    from seehear.presets import preset_settings
    from seehear.runs.checkpoint import write_clusters
    from seehear.runs.folder import Run

    seehear.synth(folder / "videos", videos=2, classes=2, workers=1, progress=False)
    of = VIDEO_FACTS | {"video_codec": "h264", "audio_codec": "aac"}
    of |= {"file_bytes": 1, "modified_ns": 0}
    segments = 10
    tens = np.full(segments, 10.0)
    files = [
        Video(f"/library/{i:06d}.mp4", of, 10.0 * np.arange(segments, dtype=np.float64), tens)
        for i in range(rows // segments)
    ]
    info = {"root": "/library", "paths": ["/library"], "rejected": {}, "created": now()}
    info = write_index(folder / "index", files, [], info)
    rows = len(files) * segments
    generator = np.random.default_rng(0)
    (folder / "run" / "features").mkdir(parents=True)
    sample: dict[str, Any] = {}
    for modality in ("video", "audio"):
        path = folder / "run" / "features" / f"{modality}.npy"
        array = np.lib.format.open_memmap(path, "w+", np.float16, (rows, WIDTH))
        for start in range(0, rows, 50_000):
            stop = min(start + 50_000, rows)
            array[start:stop] = generator.random((stop - start, WIDTH), dtype=np.float32)
        array.flush()
        sample[modality] = torch.from_numpy(array[:20_000].astype(np.float32))
    base = preset_settings("debug")
    small = Encoders(video_width=64, video_depth=10, audio_width=64, audio_depth=10)
    cfg = Settings(clip=base.clip, encoders=small, cluster=Cluster(num_clusters=(CLUSTERS,)))
    pair: Pair = build_pair(cfg)
    heads = {"video": {"audio": CLUSTERS}, "audio": {"video": CLUSTERS}}
    pair.renew_heads(heads, torch.Generator().manual_seed(0))
    labels = generator.integers(0, CLUSTERS, rows).astype(np.int32)
    clusters = {}
    for name in ("video", "audio", "joint"):
        parts = [sample[m] for m in (("video", "audio") if name == "joint" else (name,))]
        space = Space.fit(parts, "l2")
        centroids = space(parts)[:CLUSTERS].clone()
        sizes = torch.from_numpy(np.bincount(labels, minlength=CLUSTERS))
        counts: Any = {"inertia": 0.0, "reseeded": 0, "iterations": 1}
        found = Clustering(torch.from_numpy(labels), centroids, sizes, **counts)
        clusters[name] = Clusters(labels, found, space)
    run = folder / "run"
    (run / "clusters").mkdir()
    write_clusters(run / "clusters", {name: c.state_dict() for name, c in clusters.items()})
    few = Features(np.arange(len(sample["video"])), sample)
    taught = {name: clusters[name] for name in ("video", "audio")}
    matching = fit_matching(pair, few, taught, cfg.cluster, np.arange(rows))
    save_encoders(run / "encoders", pair, cfg, {}, matching)
    place = {"path": str(folder / "index"), "digest": info["digest"], "rows": rows}
    record = {"format": 1, "settings": cfg.to_dict(), "index": place}
    (run / "run.json").write_text(json.dumps(record))
    assert Run.open(run).record["index"]["rows"] == rows


def measure(folder: Path, case: str, threads: int) -> dict[str, Any]:
    """Seconds of the first call and of the calls after it, in CPU time too, and the peak of
    memory.
    """
    import torch

    from seehear.library import open_run, search

    torch.set_num_threads(threads)
    by, use, exact = CASES[case]
    trained = open_run(folder / "run", device="cpu")
    query = sorted((folder / "videos").rglob("*.mp4"))[0]
    memory = Memory()
    walls, cpus = [], []
    for _ in range(1 + REPEATS):
        wall, cpu = time.perf_counter(), time.process_time()
        hits = search(trained, query, by=by, use=use, exact=exact)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    assert len(hits) == 20
    return {
        "first_s": round(walls[0], 2),
        "then_s": round(statistics.fmean(walls[1:]), 2),
        "first_cpu_s": round(cpus[0], 2),
        "then_cpu_s": round(statistics.fmean(cpus[1:]), 2),
        **memory.stop(),
    }


class Memory:
    """The most memory of this process's own that there was since now, looked at a hundred times a
    second.
    """

    def __init__(self) -> None:
        self.before_mb = self.peak_mb = self.own_mb()
        self.over = threading.Event()
        self.watch = threading.Thread(target=self.look, daemon=True)
        self.watch.start()

    def look(self) -> None:
        while not self.over.wait(0.01):
            self.peak_mb = max(self.peak_mb, self.own_mb())

    def own_mb(self) -> float:
        """Without pages of files, which the system takes back when it needs them."""
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1e3

    def stop(self) -> dict[str, int]:
        self.over.set()
        self.watch.join()
        return {"peak_mb": round(self.peak_mb), "before_mb": round(self.before_mb)}


if __name__ == "__main__":
    main()
