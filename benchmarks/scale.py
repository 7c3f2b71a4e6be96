"""What do 65 million segments cost, in seconds and in memory, before a single one of them is
decoded?

    python benchmarks/scale.py                                  # 10^6 to 6.5 x 10^7 rows
    python benchmarks/scale.py --rows 100000 1000000

For each number of rows N, each in a process of its own: an index of N videos with a segment each,
without media, is written and opened (its pages dropped from the system's cache before), and what a
run does with an index and with labels is done over all N rows, by the functions that runs use.
Before that what an index is made of, the answers of files that were looked at, is written by 16
parts and merged. Pictures and sound are left out, and so is the width of a real network: features
(N, 16) are made from row numbers, and written to a file piece by piece, as rank 0 writes those of
four ranks; one iteration of k-means, with 256 centroids, goes over the file chunk by chunk through
`seehear.kmeans.assign`.

Of each stage: seconds of the wall clock and of the processor (one thread computes), how far the
resident memory rose above where it was (`peak`, mapped pages of files that the stage looked at
included), and what of its own it kept for later stages (`kept`).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import math
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import VIDEO_FACTS, arguments, fact_lines, facts, in_a_process, note, save, table

WIDTH, CLUSTERS = 16, 256
CHUNK_ROWS = 2**18
BATCH = 256
ROOT = "/nowhere"
PARTS, RANKS = 16, 4
PIECE_ROWS = 2**16


def main() -> None:
    parser = arguments(__doc__)
    sizes = [1_000_000, 4_000_000, 16_000_000, 65_000_000]
    parser.add_argument("--rows", type=int, nargs="+", default=sizes)
    help = "where the files are made; 200 bytes a row; the system's by default"
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help=help)
    help = "where groups of parts wait, which are synced to disk one by one; as --folder by default"
    parser.add_argument("--waiting", type=Path, help=help)
    help = "at most so many files go through parts and merge"
    parser.add_argument("--merged-rows", type=int, default=16_000_000, help=help)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        with (
            tempfile.TemporaryDirectory(dir=args.folder) as folder,
            tempfile.TemporaryDirectory(dir=args.waiting or args.folder) as waiting,
        ):
            one = Measurement(args.one, Path(folder), Path(waiting), args.merged_rows)
            print(json.dumps(one.everything()))
        return
    found = []
    try:
        for rows in args.rows:
            # the system's pool gives memory back, so that it is counted
            pool = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
            where = "--folder", args.folder, "--waiting", args.waiting or args.folder
            most = "--merged-rows", args.merged_rows
            found.append(in_a_process(__file__, "--one", rows, *where, *most, **pool))
    except subprocess.CalledProcessError as error:
        note(f"{rows:,} rows: ended with {error.returncode}; its error is above.")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    disk = shutil.disk_usage(args.folder).free
    about = facts(memory_bytes=memory, disk_free_bytes=disk, clusters=CLUSTERS, width=WIDTH)
    growth = {name: exponent(found, name) for one in found for name in one["stages"]}
    result: dict[str, Any] = {
        "sizes": found,
        "growth": growth,
        "limits": limits(found[-1], memory, disk),
    }
    save("scale", {**result, **about}, as_page(about, **result))


# --- one number of rows ---------------------------------------------------------------------------


class Measurement:
    """All stages for one number of rows."""

    def __init__(self, rows: int, folder: Path, waiting: Path, merged_rows: int) -> None:
        self.rows, self.folder, self.waiting, self.merged_rows = rows, folder, waiting, merged_rows
        self.stages: dict[str, dict[str, float]] = {}

    def everything(self) -> dict[str, Any]:
        import torch

        from seehear.data.clips import Clips
        from seehear.presets import preset_settings

        torch.set_num_threads(1)
        self.merge()
        self.write()
        index = self.open()
        cfg = preset_settings("small")
        clips = Clips(index, cfg.clip, cfg.data, seed=0)
        with self.stage("does it fit in memory (cache_bytes)"):
            clips.cache_bytes()
        with self.stage("split off 5 % of the videos"):
            train, heldout = clips.split(0.05)
        assert len(train) + len(heldout) == self.rows
        labels = self.cluster()
        self.draw(train, labels)
        with self.stage(f"what to decode of a batch of {BATCH}"):
            requests = [clips.request(int(row), 0) for row in train[:BATCH]]
        assert len(requests) == min(BATCH, len(train))
        self.save(labels)
        files = sorted((self.folder / "index").iterdir())
        disk = {path.name: path.stat().st_size for path in files}
        return {"rows": self.rows, "stages": self.stages, "disk_bytes": disk}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a block."""
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
        before, begin, begin_cpu = status(), time.perf_counter(), time.process_time()
        yield
        took = time.perf_counter() - begin, time.process_time() - begin_cpu
        peak = status()["VmHWM"] - before["VmRSS"]
        gc.collect()
        kept = status()["RssAnon"] - before["RssAnon"]
        keys = ("seconds", "cpu_seconds", "peak_bytes", "kept_bytes")
        values = *took, max(0, peak), max(0, kept)
        self.stages[name] = dict(zip(keys, values, strict=True))
        note({"rows": self.rows, "stage": name, **self.stages[name]})

    def merge(self) -> None:
        """Parts of an index, which are made of what files hold, and the index of all of them."""
        import pyarrow as pa

        from seehear.data.index.cutting import rows_of
        from seehear.data.index.files import Files
        from seehear.data.index.looking import work_of
        from seehear.data.index.writing import write_table
        from seehear.data.parts import Part, do
        from seehear.machine.console import Console

        if self.rows > self.merged_rows:
            return
        settings = {"segment_seconds": 10.0, "min_seconds": 1.0, "stills": 0.0}
        with self.stage("the list of files (simulated)"):
            rows = np.arange(self.rows)
            columns = [names_of(self.rows, f"{ROOT}/"), 10**6 + rows, 10**18 + rows]
            columns[0] = columns[0].cast(pa.large_binary())
            nothing = pa.array([""]).take(pa.array(np.zeros(self.rows, np.int8)))
            table = pa.table([*columns, nothing, nothing], list(Files.of(()).table.schema.names))
            files = Files(table)
            del rows, columns, nothing, table
        call = {"paths": [ROOT], "segments": None, "overwrite": False, **settings}
        with self.stage("the digest of the list"):
            work = work_of(self.waiting / "merged", files, call, 1, 1.0)
        work = replace(work, do=looked_at)
        del files
        with self.stage(f"{PARTS} parts of an index (simulated answers)"):
            for number in range(1, PARTS + 1):
                do(work, Part(number, PARTS, False), Console(quiet=True), "parts", "files")
        with self.stage("merge: groups read, rows made"):
            merged, rejected = rows_of(work.tables(), settings, ROOT)
        assert (len(merged), len(rejected)) == (self.rows, 0)
        info = {"root": ROOT, "paths": [ROOT], "settings": settings, "rejected": {}}
        with self.stage("merge: index written"):
            write_table(self.folder / "merged", merged, rejected, info)
        shutil.rmtree(self.folder / "merged")
        work.remove()

    def write(self) -> None:
        from seehear.data.index.writing import write_table

        with self.stage("make the columns (simulated)"):
            table = simulated(self.rows)
        info: dict[str, Any] = {"root": ROOT, "paths": [ROOT], "settings": None, "rejected": {}}
        with self.stage("write the index"):
            write_table(self.folder / "index", table, [], info)

    def open(self) -> Any:
        from seehear.data.index import Index

        for path in (self.folder / "index").iterdir():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with self.stage("open the index"):
            index = Index.open(self.folder / "index")
        rows = np.random.default_rng(0).integers(0, self.rows, 1000).tolist()
        with self.stage("look up 1000 paths"):
            paths = [index.path(row) for row in rows]
        assert paths == [f"{ROOT}/{row:09d}.mp4" for row in rows]
        return index

    def cluster(self) -> np.ndarray:
        """Features written piece by piece, and one iteration of k-means over their file; labels."""
        import torch

        from seehear.machine.distributed import rows_of_rank
        from seehear.method.features import write_features
        from seehear.method.kmeans import assign

        source = Features()
        labels = np.empty(self.rows, np.int32)

        def pieces() -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
            for rank in range(RANKS):
                shard = rows_of_rank(self.rows, rank, RANKS)
                for start in range(shard.start, shard.stop, PIECE_ROWS):
                    stop = min(start + PIECE_ROWS, shard.stop)
                    yield np.arange(start, stop), {"video": source.rows(start, stop)}

        with self.stage(f"features to a file, of {RANKS} ranks, D {WIDTH}"):
            write_features(self.folder, pieces(), self.rows)
        sums = torch.zeros(CLUSTERS, WIDTH, dtype=torch.float64)
        counts = torch.zeros(CLUSTERS, dtype=torch.int64)
        path = self.folder / "video.npy"
        header = path.stat().st_size - self.rows * WIDTH * 2
        with (
            self.stage(f"k-means from the file, an iteration, K {CLUSTERS}, D {WIDTH}"),
            path.open("rb") as file,
        ):
            file.seek(header)
            for start in range(0, self.rows, CHUNK_ROWS):
                half = np.fromfile(file, np.float16, CHUNK_ROWS * WIDTH).reshape(-1, WIDTH)
                features = torch.from_numpy(half.astype(np.float32))
                found = assign(features, source.centres)
                sums += torch.zeros(CLUSTERS, WIDTH).index_add_(0, found, features).double()
                counts += torch.bincount(found, minlength=CLUSTERS)
                labels[start : start + len(found)] = found.numpy()
        path.unlink()
        assert int(counts.sum()) == self.rows
        assert np.array_equal(labels[:1000], source.planted(0, min(1000, self.rows)))
        return labels

    def draw(self, train: np.ndarray, labels: np.ndarray) -> None:
        """The orders of an epoch: made, and looked at to the end."""
        from seehear.data.order import epoch_rows

        for uniform, what in ((False, "rows"), (True, "clusters")):
            with self.stage(f"order uniform over {what}"):
                order = epoch_rows(train, {"video": labels}, (0, 0), uniform=uniform)
            times, drawn = np.zeros(CLUSTERS, np.int64), 0
            with self.stage(f"order uniform over {what}, looked at"):
                seen = np.zeros(self.rows, np.bool_)
                for start in range(0, len(order), CHUNK_ROWS):
                    rows = order[start : start + CHUNK_ROWS]
                    seen[rows] = True
                    drawn += len(rows)
                    times += np.bincount(labels[rows], minlength=CLUSTERS)
            assert drawn == len(train)
            assert uniform or int(seen.sum()) == len(train)
            assert not uniform or times[times > 0].max() - times[times > 0].min() <= 1

    def save(self, labels: np.ndarray) -> None:
        """Labels after a round: written, read back, compared with those of the round before."""
        import pyarrow.parquet as pq
        import torch

        from seehear.method.agreement import nmi
        from seehear.runs.checkpoint import read_state, write_clusters, write_state

        zeros = torch.zeros(CLUSTERS, WIDTH)
        state = {"video": {"labels": torch.from_numpy(labels), "centroids": zeros}}
        with self.stage("write labels.parquet"):
            write_clusters(self.folder, state)
        with self.stage("read labels.parquet"):
            table = pq.read_table(self.folder / "labels.parquet", columns=["video"])
            again = table["video"].to_numpy()
        assert np.array_equal(labels, again)
        with self.stage("write a checkpoint of the labels"):
            write_state(self.folder, {"clusters": state})
        with self.stage("read the checkpoint"):
            restored = read_state(self.folder)["clusters"]["video"]["labels"].numpy()
        assert np.array_equal(labels, restored)
        with self.stage("NMI with the last round's labels"):
            assert abs(nmi(labels, restored) - 1) < 1e-9


class Features:
    """Features (N, D) float32 by row number: one of K centres, and one of 65,536 drawn noises."""

    def __init__(self) -> None:
        import torch

        generator = torch.Generator().manual_seed(0)
        self.centres = torch.randn(CLUSTERS, WIDTH, generator=generator)
        self.noise = torch.randn(2**16, WIDTH, generator=generator) * 0.3

    def planted(self, start: int, stop: int) -> np.ndarray:
        """The centre of each row."""
        from seehear.method.kmeans.seeding import hashes

        return (hashes(1, np.arange(start, stop)) % np.uint64(CLUSTERS)).astype(np.int64)

    def rows(self, start: int, stop: int) -> Any:
        """The features of rows start to stop - 1."""
        import torch

        from seehear.method.kmeans.seeding import hashes

        noise = (hashes(2, np.arange(start, stop)) % np.uint64(len(self.noise))).astype(np.int64)
        features = self.noise[torch.from_numpy(noise)]
        return features.add_(self.centres[torch.from_numpy(self.planted(start, stop))])


def looked_at(numbers: range, tell: Any = None) -> Any:
    """What looking at some files says."""
    import pyarrow as pa

    from seehear.data.index.looking import SEEN

    rows = np.arange(numbers.start, numbers.stop)
    columns: dict[str, Any] = {
        "path": [f"{ROOT}/{row:09d}.mp4" for row in numbers],
        "usable_start_s": np.zeros(len(rows)),
        "usable_seconds": 1.0 + rows % 9,
        "file_bytes": 10**6 + rows,
        "modified_ns": 10**18 + rows,
        "reason": pa.nulls(len(rows), pa.string()),
        "detail": pa.nulls(len(rows), pa.string()),
        "video_codec": ["h264"] * len(rows),
        "audio_codec": ["aac"] * len(rows),
    }
    columns |= {name: np.full(len(rows), value) for name, value in VIDEO_FACTS.items()}
    arrays = [pa.array(columns[name]).cast(SEEN.field(name).type) for name in SEEN.names]
    return pa.Table.from_arrays(arrays, schema=SEEN)


def simulated(rows: int) -> Any:
    """The table of an index of so many videos with one segment each, made column by column."""
    from seehear.data.index.columns import SCHEMA, assemble

    generator = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "start_s": np.zeros(rows),
        "seconds": generator.integers(2_000, 10_001, rows, np.int16) / 1000,
        "video_codec": codec("h264", rows),
        "audio_codec": codec("aac", rows),
        "file_bytes": generator.integers(10**5, 10**7, rows),
        "modified_ns": np.arange(rows) * 1000 + 1_700_000_000_000_000_000,
    }
    for name, value in VIDEO_FACTS.items():
        columns[name] = np.full(rows, value, SCHEMA.field(name).type.to_pandas_dtype())
    return assemble(columns, names_of(rows), np.arange(rows, dtype=np.int32), SCHEMA)


def codec(name: str, rows: int) -> Any:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int16)), pa.array([name]))


def names_of(rows: int, before: str = "") -> Any:
    """000000000.mp4 and so on, without a Python string for any of them."""
    import pyarrow as pa

    begin = np.frombuffer(before.encode(), np.uint8)
    ending = np.frombuffer(b".mp4", np.uint8)
    letters = np.empty((rows, len(begin) + 9 + len(ending)), np.uint8)
    letters[:, : len(begin)], letters[:, -len(ending) :] = begin, ending
    for start in range(0, rows, CHUNK_ROWS):
        rest = np.arange(start, min(start + CHUNK_ROWS, rows))
        for place in range(len(begin) + 8, len(begin) - 1, -1):
            letters[start : start + CHUNK_ROWS, place] = rest % 10 + ord("0")
            rest //= 10
    offsets = np.arange(rows + 1, dtype=np.int64) * letters.shape[1]
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(letters.reshape(-1))]
    return pa.Array.from_buffers(pa.large_string(), rows, buffers)


def status() -> dict[str, int]:
    """Resident memory in bytes: now, the most since the peak was set back, and no file's."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM", "RssAnon")}


# --- the report -----------------------------------------------------------------------------------


def exponent(found: list[dict[str, Any]], name: str) -> float | None:
    """By which power of N a stage's CPU seconds grow, where it takes over 20 ms."""
    stages = ((one["rows"], one["stages"].get(name)) for one in found)
    times = [(rows, stage["cpu_seconds"]) for rows, stage in stages if stage]
    points = [(math.log(rows), math.log(seconds)) for rows, seconds in times if seconds > 0.02]
    if len(points) < 2:
        return None
    rows_log, seconds_log = zip(*points, strict=True)
    return statistics.linear_regression(rows_log, seconds_log).slope


def limits(largest: dict[str, Any], memory: int, disk: int) -> dict[str, Any]:
    """What writing, using and the files need a row, and for how many this machine has room."""
    stages = {name: s for name, s in largest["stages"].items() if "simulated" not in name}
    hungriest = max(stages, key=lambda name: stages[name]["peak_bytes"])
    # are there while the index is written
    columns = largest["stages"]["make the columns (simulated)"]["peak_bytes"]
    written = (columns + stages["write the index"]["peak_bytes"]) / largest["rows"]
    others = [s["peak_bytes"] for name, s in stages.items() if name != "write the index"]
    used = max(others) / largest["rows"]
    # an update has the old and the new
    stored = 2 * sum(largest["disk_bytes"].values()) / largest["rows"]
    return {
        "hungriest": hungriest,
        "writing_bytes_a_row": written,
        "using_bytes_a_row": used,
        "disk_bytes_a_row": stored,
        "rows_by_memory": int(memory / written),
        "rows_by_disk": int((disk + sum(largest["disk_bytes"].values())) / stored),
    }


def as_page(
    about: dict[str, Any],
    sizes: list[dict[str, Any]],
    growth: dict[str, float | None],
    limits: dict[str, Any],
) -> list[str]:
    """The result as Markdown."""
    last = sizes[-1]
    rows = []
    for name in dict.fromkeys(name for one in reversed(sizes) for name in one["stages"]):
        cells = [name, *(cell(one["stages"].get(name)) for one in sizes)]
        if name in last["stages"]:
            power = growth[name]
            kept = last["stages"][name]["kept_bytes"] / last["rows"]
            cells += [f"{kept:.1f}", "flat" if power is None else f"N^{power:.2f}"]
        rows.append(cells)
    heads = ["stage", *(f"{one['rows']:,}" for one in sizes), "bytes a row kept", "grows as"]
    files = ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in last["disk_bytes"].items())
    return [
        "# At the size of the internet, simulated",
        "",
        *fact_lines(about),
        "",
        "Seconds of the wall clock (of the processor), and the peak of resident memory above where "
        "it was, in MB.",
        "",
        *table(" | ".join(heads), rows),
        "",
        f"On disk at {last['rows']:,} rows: {files}.",
        "",
        "The limit of this machine: writing an index holds its columns in memory, "
        f"{limits['writing_bytes_a_row']:.0f} bytes a row at the peak: there is memory for "
        f"{limits['rows_by_memory'] / 1e6:.0f} million rows; everything else peaks at "
        f"{limits['using_bytes_a_row']:.0f} bytes a row. An update has the old and new files on "
        f"disk, {limits['disk_bytes_a_row']:.0f} bytes a row: room for "
        f"{limits['rows_by_disk'] / 1e6:.0f} million rows here.",
        "",
        "`kept` counts memory of the process's own that later stages go on using. Growth is of CPU "
        "seconds over the sizes that take 20 ms; "
        "`flat` stands where no size takes so long, or one alone.",
    ]


def cell(stage: dict[str, float] | None) -> str:
    """Seconds and megabytes."""
    if not stage:
        return "-"
    wall, cpu = (f"{stage[name]:.2f}" for name in ("seconds", "cpu_seconds"))
    return f"{wall} ({cpu}) s, {stage['peak_bytes'] / 1e6:,.0f} MB"


if __name__ == "__main__":
    main()
