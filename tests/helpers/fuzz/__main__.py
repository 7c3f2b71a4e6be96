"""Fuzz for as long as wanted: `PYTHONPATH=tests python -m fuzz --cases 2000 --seed 0`; then files
of data.

Cases are made and tried in lots, so that a disk holds little; the counts are printed, and written
with `--out`. A case is a function of seed and number: `--seed 0 --only 17 --only 230` tries two of
them again, `--first 500` those from 500 on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import seehear
from fuzz.corpus import damage_of, whole_files, write_case
from fuzz.data import KINDS, OF_RUNS, try_kind, write_whole
from fuzz.trial import LOT, USED, try_cases
from seehear.data.decoding.pool import LOST

MEMORY_BYTES = 16 * 2**30  # address space of this process; each worker has its own, smaller limit


def main() -> int:
    """Try all cases; 0 when every one of them was answered as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument(
        "--only", type=int, action="append", help="the number of a case to try; may be given again"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout-s", type=float, default=30.0)
    parser.add_argument(
        "--keep", type=Path, help="where files of cases go that crash, hang or raise"
    )
    parser.add_argument("--data-cases", type=int, default=300, help="of each kind of file of data")
    parser.add_argument("--out", type=Path, help="a JSON file for the counts")
    wanted = parser.parse_args()
    limit_memory()
    begin = time.monotonic()
    totals: dict[str, Counter[str]] = {}
    lost: list[str] = []
    wanted_numbers = wanted.only or range(wanted.first, wanted.first + wanted.cases)
    with tempfile.TemporaryDirectory() as temporary:
        whole = whole_files(Path(temporary) / "whole")
        for first in range(0, len(wanted_numbers), LOT):
            folder = Path(temporary) / "cases"
            folder.mkdir()
            numbers = wanted_numbers[first : first + LOT]
            paths = [write_case(folder, whole, wanted.seed, number) for number in numbers]
            try:
                outcomes = try_cases(
                    paths,
                    Path(temporary) / f"index{first}",
                    workers=wanted.workers,
                    timeout_s=wanted.timeout_s,
                )
            except AssertionError as error:
                print(f"cases {numbers[0]} to {numbers[-1]}: {error}", file=sys.stderr)
                if wanted.keep:
                    shutil.copytree(folder, wanted.keep, dirs_exist_ok=True)
                return 1
            for way, counts in outcomes.counts().items():
                totals.setdefault(way, Counter()).update(counts)
            for path in paths:
                read = outcomes.read[path.name]
                totals.setdefault("damage", Counter())[
                    f"{damage_of(path)}: {'read' if read == USED else 'refused'}"
                ] += 1
                said = {
                    way: of[path.name]
                    for way, of in outcomes.ways().items()
                    if of.get(path.name) in LOST
                }
                lost += [f"{path.name}: {reason} ({way})" for way, reason in said.items()]
                if wanted.keep and said:
                    wanted.keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, wanted.keep)
            shutil.rmtree(folder)
            slowest = max(outcomes.read, key=lambda name: outcomes.seconds.get(name, 0.0))
            ways = ", ".join(f"{way} {outcomes.seconds[way]:.0f} s" for way in outcomes.counts())
            print(
                f"{first + len(numbers)} cases, {time.monotonic() - begin:.0f} s ({ways}); the "
                f"slowest: {slowest}, "
                f"{outcomes.seconds.get(slowest, 0.0):.1f} s",
                file=sys.stderr,
            )
    result = {
        "data": {} if wanted.only else try_data(wanted.seed, wanted.data_cases),
        "cases": len(wanted_numbers),
        "seed": wanted.seed,
        "whole_files": len(whole),
        "seconds": round(time.monotonic() - begin, 1),
        "outcomes": {way: dict(counts.most_common()) for way, counts in totals.items()},
        "lost": lost,  # files that cost a process, to be tried again with --only
    }
    print(json.dumps(result, indent=1))
    if wanted.out:
        wanted.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def try_data(seed: int, cases: int) -> dict[str, dict[str, int]]:
    """What came of files of data, by their kind (`fuzz.data`)."""
    counts = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        seehear.synth(folder / "videos", videos=16, classes=4, seed=seed, progress=False)
        seehear.index([folder / "videos"], folder / "index", progress=False)
        seehear.pretrain(folder / "index", folder / "run", preset="debug")
        write_whole(folder / "whole", folder / "run")
        for kind in [*KINDS, *OF_RUNS]:
            counts[kind] = dict(try_kind(folder / "whole", kind, seed, 0, cases))
            print(f"{kind}: {counts[kind]}", file=sys.stderr)
    return counts


def limit_memory() -> None:
    """Let this process fail rather than take the machine's memory."""
    try:
        import resource
    except ImportError:  # another system than Linux or macOS
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))


if __name__ == "__main__":
    sys.exit(main())
