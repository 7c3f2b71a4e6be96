"""From a speaker of GRID to a table and a page: words on silent lips, without a label.

    python examples/lipreading/lipreading.py GRID --out OUT

Writes OUT/words.csv, OUT/index, OUT/run and OUT/run/report. It goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import words

import seehear
from seehear.config import read_toml


def read_lips(
    grid: Path, out: Path, *, seed: int = 0, more: Mapping[str, object] | None = None
) -> None:
    """Index, train, measure, and build the page.

    Args:
        grid: videos of one speaker, with alignments.
        out: a folder; what is there already is used.
        more: settings beside those of settings.toml, by dotted name.
    """
    out.mkdir(parents=True, exist_ok=True)
    listed = out / "words.csv"
    words.write(grid, listed)
    seehear.index(grid, out / "index", segments=listed)
    settings = (
        read_toml(Path(__file__).parent / "settings.toml") | {"seed": seed} | dict(more or {})
    )
    run = seehear.pretrain(out / "index", out / "run", settings=settings, resume="if there").path
    data = {"data": out / "index", "classes": listed}
    seehear.evaluate(run, task="probe", baseline=True, low_shot=(1,), num_clips=1, **data)
    seehear.evaluate(run, task="retrieval", num_clips=1, **data)
    seehear.report(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("grid", type=Path, help="videos and .align files of one speaker")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    read_lips(args.grid, args.out, seed=args.seed)


if __name__ == "__main__":
    main()
