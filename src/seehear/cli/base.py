"""What all commands share: the group, settings as options, tables on stdout. No command is here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

import seehear
from seehear import config

SHOWN = ("variant", "seed", "rounds")  # settings with a line of their own in --help; the others work by dotted name


class InOrder(click.Group):
    """Commands in the order in which they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names as they were added."""
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(seehear.__version__, prog_name="seehear")
def cli() -> None:
    """Learn to see by hearing and to hear by seeing, from a folder of unlabelled videos.

    \b
    The way from videos to encoders:
      seehear index VIDEOS --out INDEX             which files can be used, and why not the others
      seehear pretrain INDEX --out RUN             learn, without labels
      seehear evaluate RUN --data INDEX --classes classes.csv
    No videos at hand? `seehear demo` makes some and shows that the method works.
    """


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every setting as an option of its dotted name; they arrive as the argument `settings`."""
    leaves = list(config.leaves(config.Settings()))

    def collect(**arguments: Any) -> Any:
        settings = {leaf.name: arguments.pop(leaf.name.replace(".", "__")) for leaf in leaves}
        return command(settings={name: value for name, value in settings.items() if value is not None}, **arguments)

    collect.__doc__, collect.__name__ = command.__doc__, command.__name__
    for leaf in reversed(leaves):
        names = [f"--{leaf.name}", leaf.name.replace(".", "__")]
        option = click.option(*names, metavar="VALUE", help=leaf.help, hidden=leaf.name not in SHOWN)
        collect = option(collect)
    return collect


def print_table(rows: list[list[str]]) -> None:
    """A table on stdout, the first row its head."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD)
    for i, head in enumerate(rows[0]):
        grid.add_column(head, justify="right" if i else "left")
    for row in rows[1:]:
        grid.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 100).print(grid)
