"""What does it save to open a file once for several clips of it?

    python benchmarks/reopen.py        # CPU time of one thread, about five minutes

Segments of 10 s out of files of 340x256 with a key frame every 250 frames: films of 10 minutes with 60 segments, videos
of a minute with 6, videos of 10 s with 1, and those of a minute packed, where each segment is a file of its own. One
epoch of clips of 8 frames and 2 s of sound, as training reads it without decoding processes, so that the CPU time of
this process is all there is:

epoch    rows in the order of an epoch, with `data.shuffle_window` at 0 and at 512 draws, in turn;
pass     rows in the order of the index, as extraction reads them, with the files closed after each clip and left open.

Ratios are of neighbouring turns; the median counts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import decode

import seehear
from seehear import clips as clips_module
from seehear.clips import CENTRED, Clips
from seehear.config import override
from seehear.presets import preset_settings
from seehear.runs import commit, processor
from seehear.sampling import epoch_rows, windowed
from seehear.together import left_open
from seehear.updates import Plan

RESULTS = Path(__file__).parent / "results"
SETS = {"600 s": (600, 2), "60 s": (60, 10), "10 s": (10, 60)}  # length, and files of it
WINDOW, BATCH = 512, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=4, help="how often each way is read after a first time")
    turns, rows = parser.parse_args().turns, []
    with tempfile.TemporaryDirectory() as place:
        for name, index in indexes(Path(place)):
            ways = {
                "epoch": (epoch(index, 0), epoch(index, WINDOW)),
                "pass": (in_order(index, False), in_order(index, True)),
            }
            for kind, (anew, kept) in ways.items():
                spent = in_turn(anew, kept, turns)
                ratio = statistics.median(kept / anew for anew, kept in spent)
                anew_ms, kept_ms = (statistics.median(one) / len(index) * 1e3 for one in zip(*spent, strict=True))
                row = {"set": name, "rows": len(index), "read": kind, "anew_ms": round(anew_ms, 2)}
                rows.append(row | {"kept_ms": round(kept_ms, 2), "ratio": round(ratio, 3)})
                print(json.dumps(rows[-1]), flush=True)
    command = " ".join(["python benchmarks/reopen.py", *sys.argv[1:]])
    about = {"command": command, "commit": commit(), "processor": processor(), "window": WINDOW}
    path = RESULTS / "reopen.json"
    path.write_text(json.dumps(about | {"turns": turns, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def indexes(place: Path) -> Iterator[tuple[str, seehear.Index]]:
    """Each set, indexed; its files are copies of each other, which cost the decoder the same."""
    for name, (seconds, files) in SETS.items():
        folder = place / name.replace(" ", "")
        folder.mkdir()
        write(folder / "0.mp4", place / "long.mp4", seconds)
        for copy in range(1, files):
            shutil.copy(folder / "0.mp4", folder / f"{copy}.mp4")
        to = place / f"index-{folder.name}"
        seehear.index(folder, to, segment_seconds=10.0, workers=1, progress=False)
        yield name, seehear.Index.open(to)
    seehear.pack(place / "index-60s", place / "packed", preset="small", workers=1)
    yield "60 s, packed", seehear.Index.open(place / "packed")


def write(path: Path, once: Path, seconds: int) -> None:
    """So long a file, of the packets of a shorter one, again and again."""
    if not once.exists():
        decode.write(once, 0, 340, 256, 250)
    with av.open(str(path), "w") as out:
        streams: dict[int, Any] = {}
        last: dict[int, int] = {}
        for turn in range(-(-seconds // decode.SECONDS)):
            with av.open(str(once)) as file:
                for stream in file.streams if turn == 0 else ():
                    streams[stream.index] = out.add_stream_from_template(stream)
                for packet in file.demux():
                    number, tick_s = packet.stream.index, float(packet.time_base or 1)
                    at_s = turn * decode.SECONDS
                    if packet.dts is None or packet.pts * tick_s + at_s >= seconds:
                        continue
                    packet.pts, packet.dts = (t + round(at_s / tick_s) for t in (packet.pts, packet.dts))
                    if packet.dts > last.get(number, -(2**40)):  # sound is a little longer than the pictures
                        last[number] = packet.dts
                        packet.stream = streams[number]
                        out.mux(packet)


def clips_of(index: seehear.Index) -> Clips:
    cfg = override(preset_settings("small"), {"data.workers": 0, "data.cache_gigabytes": 0.0})
    return Clips(index, cfg.clip, cfg.data, seed=0)


def epoch(index: seehear.Index, window: int) -> Callable[[int], None]:
    """Reads the clips of an epoch as training does."""
    clips = clips_of(index)
    batches = window // BATCH

    def read(number: int) -> None:
        rows: Any = epoch_rows(np.arange(len(index)), {}, 0, number, uniform=False)
        if window:
            rows = windowed(rows, index.video, batches * BATCH, 0, number)
        plan = Plan(lambda rows_B: [rows_B], rows, BATCH, range(len(index) // BATCH), batches)
        for _ in clips.pieces(plan, epoch=number, num_rows=plan.num_rows, together=plan.together):
            pass

    return read


def in_order(index: seehear.Index, stay_open: bool) -> Callable[[int], None]:
    """Reads the middle of each segment as extraction does."""
    clips = clips_of(index)

    def read(number: int) -> None:
        clips_module.left_open = left_open if stay_open else iter
        for _ in clips.batches(np.arange(len(index)), epoch=CENTRED, batch_size=BATCH):
            pass
        clips_module.left_open = left_open

    return read


def in_turn(anew: Callable[[int], None], kept: Callable[[int], None], turns: int) -> list[tuple[float, float]]:
    """CPU seconds of both, turn by turn; the first turn, in which caches fill, does not count."""
    spent = []
    for turn in range(turns + 1):
        seconds = {}
        for read in (anew, kept) if turn % 2 else (kept, anew):
            begin = time.process_time()
            read(turn)
            seconds[read] = time.process_time() - begin
        spent.append((seconds[anew], seconds[kept]))
    return spent[1:]


if __name__ == "__main__":
    main()
