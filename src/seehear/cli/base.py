"""What all commands share: the group, settings as options, tables on stdout. No command is here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import seehear
from seehear import config
from seehear.errors import printable

ON_RANKS = {"pretrain", "evaluate"}  # commands that torchrun may start
# settings with a line of their own in --help; the others work by dotted name
SHOWN = ("variant", "seed", "rounds")


class InOrder(click.Group):
    """Commands in the order in which they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names as they were added."""
        return list(self.commands)


@click.group(
    cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(seehear.__version__, prog_name="seehear")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Learn to see by hearing and to hear by seeing, from a folder of unlabelled videos.

    \b
    The way from videos to encoders:
      seehear index VIDEOS --out INDEX             which files can be used, and why not the others
      seehear pretrain INDEX --out RUN             learn, without labels
      seehear evaluate RUN --data INDEX --classes classes.csv
      seehear report RUN --open                    look at the clusters, listen to them, name them
    What the encoders are for:
      seehear assign RUN VIDEOS --out labels.parquet
      seehear search RUN --query sound.wav --by video
    No videos at hand? `seehear demo` makes some and shows that the method works.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and ctx.invoked_subcommand not in ON_RANKS:
        raise click.UsageError(
            f"`seehear {ctx.invoked_subcommand}` runs as one process, and torchrun started "
            f"{os.environ['WORLD_SIZE']}. "
            f"Run it without torchrun; pretrain and evaluate work on several ranks."
        )


class PathOrAddress(click.ParamType[Path | str]):
    """A local path, or an address on another machine, which stays as it was typed."""

    name = "path"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | str:
        """A `Path`, or an address as a text."""
        return str(value) if "://" in str(value) else Path(value)


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every setting as an option of its dotted name; they arrive as the argument
    `settings`.
    """
    leaves = list(config.leaves(config.Settings()))

    def collect(**arguments: Any) -> Any:
        settings = {leaf.name: arguments.pop(leaf.name.replace(".", "__")) for leaf in leaves}
        return command(
            settings={name: value for name, value in settings.items() if value is not None},
            **arguments,
        )

    collect.__doc__, collect.__name__ = command.__doc__, command.__name__
    for leaf in reversed(leaves):
        names = [f"--{leaf.name}", leaf.name.replace(".", "__")]
        option = click.option(
            *names, metavar="VALUE", help=leaf.help, hidden=leaf.name not in SHOWN
        )
        collect = option(collect)
    return collect


def say(text: object, *, flush: bool = False) -> None:
    """Print a result on stdout; names of files and classes in it move nothing on a terminal."""
    print("\n".join(map(printable, str(text).split("\n"))), flush=flush)


def print_table(rows: list[list[str]]) -> None:
    """A table on stdout, the first row its head; words are text, whatever brackets and control
    characters they hold.

    On a terminal, long cells are folded. Elsewhere the table is as wide as it must be.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD)
    for i, head in enumerate(rows[0]):
        words = i > 0 and any(not is_number(row[i]) for row in rows[1:])
        grid.add_column(head, justify="left" if i == 0 or words else "right", overflow="fold")
    for row in rows[1:]:
        grid.add_row(*(Text(printable(cell)) for cell in row))
    wide = sum(max(len(printable(row[i])) for row in rows) + 4 for i in range(len(rows[0])))
    Console(
        width=None if sys.stdout.isatty() else max(100, wide), markup=False, highlight=False
    ).print(grid)


def is_number(cell: str) -> bool:
    """Whether a cell begins like a number, so that it stands on the right; empty cells do too."""
    return not cell or cell.lstrip("-")[:1].isdigit()
