"""How fast is it here? bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from seehear import config
from seehear.cli.base import print_table, say, with_settings


@click.group(short_help="How fast clips come, and what would help.")
def bench() -> None:
    """Measure parts of a training run on this machine."""


@bench.command(short_help="Clips a second out of an index.")
@click.argument("index", type=click.Path(path_type=Path))
@click.option(
    "--preset", default="small", show_default=True, help="Whose clips: debug, demo, small or paper."
)
@click.option(
    "--clips",
    "num_clips",
    type=click.IntRange(min=3),
    default=96,
    show_default=True,
    help="To read.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the measurement as JSON.")
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
    if as_json:
        say(json.dumps(found.to_dict()))
        return
    print_table(found.table())
    each = f"{found.clips_per_second_per_worker:.1f} clips/s a worker"
    say(f"{found.workers} workers: {found.clips_per_second:.1f} clips/s in all, {each}.")
    if found.unreadable:
        say(f"{found.unreadable} clips could not be read.")
    say(found.advice)


COMMANDS = (bench,)
