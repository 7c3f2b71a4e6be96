"""What all commands share: the group, options, settings as options, answers on stdout."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import seehear
from seehear import config
from seehear.errors import UsageError, printable
from seehear.machine.files import strict

ON_RANKS = {"pretrain", "cluster", "evaluate"}  # commands that torchrun may start
# settings with a line of their own in --help; the others work by dotted name
SHOWN = ("variant", "rounds")

Decorator = Callable[[Any], Any]


class Command(click.Command):
    """A command whose errors name options as they are typed, and say where help is."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; `--lr` is answered with `--train.lr`."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            word = error.option_name.lstrip("-").replace("-", "_")
            options = [name for param in self.params for name in param.opts]
            near = [name for name in options if name.rpartition(".")[2] == word]
            if not near:
                raise
            text = f"No such option '{error.option_name}'. Did you mean '{' or '.join(near)}'?"
            raise click.UsageError(text, ctx) from None
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, if files are there; an error says `--fps`, not `frame_rate_hz`."""
        for param in self.params:
            if isinstance(param.type, Existing):
                param.type.check(ctx.params[param.name or ""])
        try:
            return super().invoke(ctx)
        except UsageError as error:
            text = str(error)
            for param in self.params:
                pattern = rf"(?<![\w.]){param.name}\b" if "_" in str(param.name) else None
                pattern = pattern or rf"^{param.name}(?= is )"
                text = re.sub(pattern, param.opts[0], text)
            error.args = (text,)
            raise


class InOrder(click.Group):
    """Commands in the order in which they are needed; without a command, its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names as they were added."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Nothing typed is a question, not a mistake."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)


@click.group(
    cls=InOrder,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "show_default": True,
    },
)
@click.version_option(seehear.__version__, prog_name="seehear")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Learn to see by hearing and to hear by seeing, from a folder of unlabelled videos.

    \b
    From videos to clusters that play, all at once:
      seehear explore VIDEOS
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
            f"Run it without torchrun; pretrain, cluster and evaluate work on several ranks."
        )


class PathOrAddress(click.ParamType[Path | str]):
    """A local path, or an address on another machine, which stays as it was typed."""

    name = "path"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Path | str:
        """A `Path`, or an address as a text."""
        return str(value) if "://" in str(value) else Path(value)


class Existing(click.Path):
    """The path of what must be there when the command runs; `advice` says what to do if not."""

    def __init__(self, advice: str = "Name a file that is there.") -> None:
        super().__init__(path_type=Path)
        self.advice = advice

    def check(self, path: Path | None) -> None:
        """Raise UsageError where nothing is there."""
        if path is not None and not path.exists():
            raise UsageError(f"{path} does not exist. {self.advice}")


class Word(click.ParamType[str]):
    """One of some words that the function behind knows, in capitals or not."""

    name = "text"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """In small letters."""
        return str(value).lower()


class Numbers(click.ParamType[tuple[int, ...]]):
    """Positive whole numbers: "1,5,10" -> (1, 5, 10)."""

    name = "numbers"

    def __init__(self, least: int = 1) -> None:
        self.least = least

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """A tuple."""
        try:
            found: tuple[int, ...] = config.parse(tuple[int, ...], value)
        except ValueError:
            found = ()
        if not found or min(found) < self.least:
            self.fail(
                f"{value!r} must be whole numbers from {self.least} up, separated by commas, "
                f"such as 1,5,10.",
                param,
                ctx,
            )
        return found


PATH = click.Path(path_type=Path)
VIDEOS = PathOrAddress()
RUN = Existing("Make a run: seehear pretrain INDEX --out RUN")
WORD = Word()
AT_LEAST_1 = click.IntRange(min=1)


def command(name: str | None = None, cls: type[Command] = Command, **about: Any) -> Decorator:
    """A command of ours."""
    return click.command(name, cls, **about)


def option(names: str, help: str, **how: Any) -> Decorator:
    """An option; `names` as typed, then that of the argument where it differs."""
    return click.option(*names.split(), help=help, **how)


def flag(names: str, help: str, **how: Any) -> Decorator:
    """An option without a value."""
    return option(names, help, is_flag=True, **how)


SHARED = {
    "--segment-seconds": option(
        "--segment-seconds", "Longest segment a file is cut into.", default=10.0
    ),
    "--min-seconds": option("--min-seconds", "A shorter tail is dropped.", default=1.0),
    "--workers": option("--workers", "Processes. [default: one a core]", type=AT_LEAST_1),
    "--timeout": option("--timeout timeout_s", "Seconds that a file may take.", default=30.0),
    "--device": option("--device", "auto, cpu, cuda, ...", default="auto"),
    "--index": option("--index", "The run's index. [default: where the run found it]", type=PATH),
    "--part": option("--part", "One of several processes, such as 3/16; then: seehear merge OUT."),
    "--engine": option(
        "--engine", "local or ray.", default="local", type=click.Choice(["local", "ray"])
    ),
    "--ray-address": option(
        "--ray-address", "Of a Ray cluster. [default: one is started here]", hidden=True
    ),
    "--quiet": flag("--quiet", "No progress."),
    "--json": flag("--json as_json", "Print the result as JSON."),
}


def shared(*names: str) -> Decorator:
    """Options that several commands have, in this order."""

    def add(function: Any) -> Any:
        for name in reversed(names):
            function = SHARED[name](function)
        return function

    return add


def engine_of(options: dict[str, Any]) -> str:
    """What --engine and --ray-address mean for a function; takes the latter out."""
    address = options.pop("ray_address")
    if address and options["engine"] != "ray":
        raise click.UsageError("--ray-address goes with --engine ray.")
    return f"ray:{address}" if address else str(options["engine"])


def with_settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every setting as an option; they arrive as the argument `settings`."""
    leaves = list(config.leaves(config.Settings()))

    def collect(**arguments: Any) -> Any:
        settings = {leaf.name: arguments.pop(leaf.name.replace(".", "__")) for leaf in leaves}
        return function(
            settings={name: value for name, value in settings.items() if value is not None},
            **arguments,
        )

    collect.__doc__, collect.__name__ = function.__doc__, function.__name__
    for leaf in reversed(leaves):
        names = f"--{leaf.name} {leaf.name.replace('.', '__')}"
        collect = option(names, leaf.help, metavar="VALUE", hidden=leaf.name not in SHOWN)(collect)
    return collect


def say(text: object, *, flush: bool = False) -> None:
    """Print a result on stdout; names of files and classes in it move nothing on a terminal."""
    print("\n".join(map(printable, str(text).split("\n"))), flush=flush)


def answer(as_json: bool, data: Any, *lines: str) -> None:
    """Print a result: for a program, or for a person, for whom empty lines are left out."""
    for line in (json.dumps(strict(data)),) if as_json else filter(None, lines):
        say(line)


def explain(where: str, say: Callable[[str], None] = say) -> None:
    """What the words of a command's answer mean."""
    from seehear.reporting.glossary import explanation

    for line in explanation(where):
        say(line)


def reasons_of(summary: dict[str, Any]) -> str:
    """ "1 not a media file, 2 no permission"."""
    return ", ".join(f"{count} {reason}" for reason, count in summary["unreadable"].items())


def complaints(summary: dict[str, Any]) -> str:
    """What could not be read, in a sentence."""
    count = sum(summary["unreadable"].values())
    return f" Not or not wholly readable: {count} ({reasons_of(summary)})." if count else ""


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
    width = None if sys.stdout.isatty() else max(100, wide)
    Console(width=width, markup=False, highlight=False).print(grid)


def is_number(cell: str) -> bool:
    """Whether a cell begins like a number, so that it stands on the right; empty cells do too."""
    return not cell or cell.lstrip("-")[:1].isdigit()
