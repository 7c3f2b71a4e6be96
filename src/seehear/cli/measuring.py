"""How fast is it here? bench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from seehear import config
from seehear.cli.base import (
    PATH,
    WORD,
    InOrder,
    answer,
    command,
    option,
    print_table,
    shared,
    with_settings,
)


@click.group(cls=InOrder, short_help="How fast clips come, and what would help.")
def bench() -> None:
    """Measure parts of a training run on this machine."""


@command(short_help="Clips a second out of an index.")
@click.argument("index", type=PATH)
@option("--preset", "Whose clips: debug, demo, small or paper.", default="small", type=WORD)
@option("--clips num_clips", "To read.", type=click.IntRange(min=3), default=96)
@shared("--json")
@with_settings
def data(index: Path, preset: str, num_clips: int, as_json: bool, settings: dict[str, Any]) -> None:
    """Read clips of INDEX as training would: clips/s in all and per worker, where the time goes,
    what would help.
    """
    from seehear.data.advice import measure
    from seehear.data.index import Index
    from seehear.machine.console import Console
    from seehear.presets import preset_settings

    cfg = config.override(preset_settings(preset), settings)
    with Console(quiet=as_json) as console:
        found = measure(Index.open(index), cfg, num_clips=num_clips, console=console)
    if not as_json:
        print_table(found.table())
    answer(
        as_json,
        found.to_dict(),
        f"{found.workers} workers: {found.clips_per_second:.1f} clips/s in all, "
        f"{found.clips_per_second_per_worker:.1f} clips/s a worker.",
        f"{found.unreadable} clips could not be read." if found.unreadable else "",
        found.advice,
    )


bench.add_command(data)
COMMANDS = (bench,)
