"""Does it work here, and does the shell know the commands? doctor, completion."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from seehear.errors import printable

MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "bad": ("BROKEN", "red")}
INSTALL = {
    "bash": 'add this line to ~/.bashrc: eval "$(seehear completion bash)"',
    "zsh": 'add this line to ~/.zshrc, after compinit: eval "$(seehear completion zsh)"',
    "fish": "seehear completion fish > ~/.config/fish/completions/seehear.fish",
}


@click.command(short_help="What works on this machine, and what is wrong.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=".", help="Where runs will be written."
)
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def doctor(folder: Path, as_json: bool) -> int:
    """Look at versions, devices, precision, decoder, memory, disk and threads; exit code 1 when
    something is broken.
    """
    from rich.console import Console
    from rich.text import Text

    from seehear.cli.diagnosis import as_data, diagnose, is_broken

    checks = diagnose(folder)
    if as_json:
        print(json.dumps(as_data(checks)))
        return int(is_broken(checks))
    console = Console(soft_wrap=True, highlight=False)
    for check in checks:
        word, colour = MARKS[check.status]
        console.print(
            Text.assemble((f"{word:8}", colour), f" {check.name:10} {printable(check.found)}")
        )
        if check.advice:
            console.print(Text(f"{'':20}{printable(check.advice)}"))
    wrong = [check.name for check in checks if check.status != "ok"]
    console.print(Text("All is well." if not wrong else f"To look at: {', '.join(wrong)}."))
    return int(is_broken(checks))


@click.command(short_help="Teach the shell to complete commands.")
@click.argument("shell", type=click.Choice(list(INSTALL)))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete commands and options; how to install it is on
    stderr.
    """
    from click.shell_completion import get_completion_class

    from seehear.cli.base import cli

    found = get_completion_class(shell)
    assert found is not None, shell
    print(found(cli, {}, "seehear", "_SEEHEAR_COMPLETE").source())
    if sys.stdout.isatty():
        print(f"To install: {INSTALL[shell]}", file=sys.stderr)


COMMANDS = (doctor, completion)
