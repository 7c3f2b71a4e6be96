"""Would keeping a file open for the next clip of it pay, and how often could that be?

    python benchmarks/reopen.py        # CPU time of one thread, under a minute

A file of 340x256 with a key frame every 250 frames, 10 s, and the same packed: so many clips of 8 frames and 2 s of
sound, one after another at rising times, with a file opened anew for each clip and with one that stays open, in turn.
That is the most there is to gain: it takes draws that are put in order by file, and a process that keeps files to
itself. In a packed index each segment is a file of its own, so that only a second clip of the same segment could gain.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import decode

from seehear import media
from seehear.runs import commit, processor

RESULTS = Path(__file__).parent / "results"
CLIPS = 3  # of one file, as its segments give in an epoch
TURNS = 12


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name in ("long", "packed"):
            path = decode.make_set(Path(place), name)[0]
            spent: dict[str, list[float]] = {"anew": [], "kept": []}
            for turn in range(TURNS + 1):
                starts_s = np.sort(np.random.default_rng(turn).uniform(0, decode.SECONDS - 2.5, CLIPS))
                for way, clips in (("anew", anew), ("kept", kept)) if turn % 2 else (("kept", kept), ("anew", anew)):
                    begin = time.process_time()
                    clips(path, starts_s)
                    if turn:
                        spent[way].append((time.process_time() - begin) * 1e3 / CLIPS)
            ratio = statistics.median(np.array(spent["kept"]) / np.array(spent["anew"]))
            row = {"set": name} | {f"{way}_ms": round(statistics.median(ms), 2) for way, ms in spent.items()}
            rows.append(row | {"ratio": round(ratio, 3)})
            print(json.dumps(rows[-1]))
    about = {"command": "python benchmarks/reopen.py", "commit": commit(), "processor": processor()}
    path = RESULTS / "reopen.json"
    path.write_text(json.dumps(about | {"clips_of_a_file": CLIPS, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def anew(path: str, starts_s: np.ndarray) -> None:
    """Each clip from a file opened for it."""
    for start_s in starts_s.tolist():
        with media.Reader(path) as reader:
            read(reader, start_s)


def kept(path: str, starts_s: np.ndarray) -> None:
    """All clips from one open file."""
    with media.Reader(path) as reader:
        for start_s in starts_s.tolist():
            read(reader, start_s)


def read(reader: media.Reader, start_s: float) -> None:
    """8 frames, 4 apart, and 2 s of sound."""
    times_s = start_s + np.arange(decode.FRAMES) * decode.APART / decode.FPS
    reader.frames(times_s.tolist(), short_side_pixels=decode.SIDE)
    reader.sound(start_s, decode.SOUND_S, sample_rate_hz=decode.RATE_HZ)


if __name__ == "__main__":
    main()
