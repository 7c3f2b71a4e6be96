"""GRID's alignments -> the list of segments for `seehear index --segments`: a row a word.

    python examples/lipreading/words.py GRID words.csv

GRID holds videos (.mpg or .mp4) and, anywhere below, an alignment of the same name for each
(NAME.align: a line `begin end word` in 1/25,000 s, `sil` and `sp` for silence). Each word becomes
0.6 s centred on it, within the file. A fifth of the sentences, by a checksum of their names, is the
split "test": words of one sentence are never in both.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from pathlib import Path

UNITS_A_SECOND = 25_000  # of an .align file: 1,000 a frame of 1/25 s
SPAN_S = 0.6
SILENCE = {"sil", "sp"}


def words_of(path: Path) -> list[tuple[float, float, str]]:
    """Of an alignment: begin and end in seconds, and the word."""
    lines = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    return [
        (int(begin) / UNITS_A_SECOND, int(end) / UNITS_A_SECOND, word)
        for begin, end, word in lines
        if word not in SILENCE
    ]


def split_of(sentence: str) -> str:
    return "test" if zlib.crc32(sentence.encode()) % 5 == 0 else "train"


def write(grid: Path, out: Path) -> str:
    """Write the list of a speaker's words; returns what is in it, in words."""
    alignments = {path.stem: path for path in sorted(grid.rglob("*.align"))}
    videos = [path for path in sorted(grid.rglob("*")) if path.suffix in (".mpg", ".mp4")]
    rows = [
        (video.relative_to(grid), max(0.0, (begin + end - SPAN_S) / 2), word, video.stem)
        for video in videos
        if video.stem in alignments
        for begin, end, word in words_of(alignments[video.stem])
    ]
    if not rows:
        raise SystemExit(f"No video below {grid} has an .align file of its name.")
    with out.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "start_s", "end_s", "class", "split"])
        for path, start_s, word, sentence in rows:
            times = f"{start_s:.4f}", f"{start_s + SPAN_S:.4f}"
            table.writerow([path, *times, word, split_of(sentence)])
    return f"{len(rows)} words of {len({row[0] for row in rows})} sentences in {out}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("grid", type=Path, help="videos and .align files of one speaker")
    parser.add_argument("out", type=Path, help="the CSV to write")
    args = parser.parse_args()
    print(write(args.grid, args.out))


if __name__ == "__main__":
    main()
