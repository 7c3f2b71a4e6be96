"""GRID's alignments -> the list of segments for `seehear index --segments`: a row a word.

    python examples/lipreading/words.py GRID words.csv
    python examples/lipreading/words.py GRID windows.csv --windows

GRID holds videos (.mpg or .mp4) and, anywhere below, an alignment of the same name for each
(NAME.align: a line `begin end word` in 1/25,000 s, `sil` and `sp` for silence). Each word becomes
0.6 s centred on it, within the file. A fifth of the sentences, by a checksum of their names, is the
split "test": words of one sentence are never in both. With --windows no alignment is read: 0.5 s of
every sentence from every quarter of a second on, whatever is said there.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from pathlib import Path

UNITS_A_SECOND = 25_000  # of an .align file: 1,000 a frame of 1/25 s
SPAN_S = 0.6
SILENCE = {"sil", "sp"}
WINDOW_S, STEP_S, SENTENCE_S = 0.5, 0.25, 2.98  # every video of GRID is as long


def words_of(path: Path) -> list[tuple[float, float, str]]:
    """Of an alignment: begin and end in seconds, and the word."""
    found = []
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        try:
            begin, end, word = line.split() or ("0", "0", "sil")  # a blank line
            times = int(begin) / UNITS_A_SECOND, int(end) / UNITS_A_SECOND
        except ValueError:
            raise SystemExit(f"{path}, line {number}: not `begin end word` but {line!r}.") from None
        if word not in SILENCE:
            found.append((*times, word))
    return found


def split_of(sentence: str) -> str:
    return "test" if zlib.crc32(sentence.encode()) % 5 == 0 else "train"


def words_in(grid: Path) -> list[tuple[Path, float, float, str]]:
    """The video, where in it a segment begins, its length, and the word: each of the alignments."""
    alignments = files_in(grid, ".align")
    named: dict[str, list[Path]] = {path.stem: [] for path in alignments}
    for path in alignments:
        named[path.stem].append(path)
    return [
        (video, max(0.0, (begin + end - SPAN_S) / 2), SPAN_S, word)
        for video in videos_in(grid)
        if video.stem in named
        for begin, end, word in words_of(alignment_of(video, named[video.stem]))
    ]


def alignment_of(video: Path, found: list[Path]) -> Path:
    """Of several the one in a folder named as one of the video's: speakers say the same sentences,
    whose names are the same.
    """
    own = [path for path in found if path.parent.name in video.parts] if len(found) > 1 else found
    if len(own) != 1:
        raise SystemExit(f"Which alignment is of {video}? {', '.join(map(str, own or found))}")
    return own[0]


def windows_in(grid: Path) -> list[tuple[Path, float, float, str]]:
    """The same without an alignment: windows at equal distances, without a word."""
    count = int((SENTENCE_S - WINDOW_S) / STEP_S) + 1
    return [(video, n * STEP_S, WINDOW_S, "") for video in videos_in(grid) for n in range(count)]


def videos_in(grid: Path) -> list[Path]:
    return files_in(grid, ".mpg", ".mp4")


def files_in(grid: Path, *endings: str) -> list[Path]:
    """But for hidden ones, such as macOS leaves beside what it unpacks."""
    found = (path for path in sorted(grid.rglob("*")) if not path.name.startswith("."))
    return [path for path in found if path.suffix in endings]


def write(grid: Path, out: Path, *, windows: bool = False) -> str:
    """Write the list of a speaker's words, or of windows; returns what is in it, in words."""
    rows = windows_in(grid) if windows else words_in(grid)
    if not rows:
        lacking = (
            "is a video (.mpg or .mp4)" if windows else "is a video with an .align file of its name"
        )
        raise SystemExit(f"Nothing below {grid} {lacking}.")
    with out.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "start_s", "end_s", "class", "split"])
        for video, start_s, seconds, word in rows:
            times = f"{start_s:.4f}", f"{start_s + seconds:.4f}"
            table.writerow([video.relative_to(grid), *times, word, split_of(video.stem)])
    kind = "windows" if windows else "words"
    return f"{len(rows)} {kind} of {len({row[0] for row in rows})} sentences in {out}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("grid", type=Path, help="videos and .align files of one speaker")
    parser.add_argument("out", type=Path, help="the CSV to write")
    parser.add_argument("--windows", action="store_true", help="every 0.25 s, knowing no words")
    args = parser.parse_args()
    print(write(args.grid, args.out, windows=args.windows))


if __name__ == "__main__":
    main()
