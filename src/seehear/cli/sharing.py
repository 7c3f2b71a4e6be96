"""Encoders from elsewhere, and for elsewhere: weights, export."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import seehear
from seehear.cli.base import (
    PATH,
    WORD,
    Existing,
    InOrder,
    answer,
    command,
    flag,
    option,
    print_table,
    say,
    shared,
)


@click.group(cls=InOrder, short_help="Released weights: list, fetch, convert.")
def weights() -> None:
    """Video encoders that others released: XDC's official ones, and torchvision's."""


@command("list", short_help="Show which there are.")
@shared("--json")
def list_weights(as_json: bool) -> None:
    """List the released weights that are known by name."""
    from seehear.models.fetching import weights_folder
    from seehear.models.released import RELEASED

    cached = {name: (weights_folder() / entry.file).exists() for name, entry in RELEASED.items()}
    if not as_json:
        rows = [["name", "UCF101", "HMDB51", "clip", "licence", "here"]]
        for name, entry in RELEASED.items():
            clip = f"{entry.clip.frames} frames, {entry.clip.frame_rate_hz:g} Hz"
            given = [entry.published.get(benchmark) for benchmark in ("UCF101", "HMDB51")]
            numbers = ["" if value is None else f"{value:.1f}" for value in given]
            rows.append([name, *numbers, clip, entry.licence, "yes" if cached[name] else ""])
        print_table(rows)
    answer(
        as_json,
        [asdict(entry) | {"cached": cached[name]} for name, entry in RELEASED.items()],
        "Accuracies in % are its makers', after fine-tuning the whole network. Use: "
        "seehear.load(NAME)",
    )


@command(short_help="Download one, once.")
@click.argument("name")
@option("--cache", "The folder. [default: $SEEHEAR_HOME/weights or ~/.cache]", type=PATH)
@shared("--quiet")
def fetch(name: str, cache: Path | None, quiet: bool) -> None:
    """Download the released weights NAME, going on with what is there, and check them; prints the
    file's path.
    """
    from seehear.machine.console import Console
    from seehear.models.fetching import fetch

    say(fetch(name, cache, console=Console(quiet=quiet)))


@command(short_help="Make an encoders/ folder of a checkpoint.")
@click.argument("file", type=Existing("Name a checkpoint that is there."))
@option("--out", "The folder of the encoders.", required=True, type=PATH)
@option(
    "--midplanes",
    "How the inner width is counted: conv (XDC), block (torchvision).",
    default="auto",
    type=click.Choice(["auto", "conv", "block"], case_sensitive=False),
)
@flag("--overwrite", "Replace the encoders that are there.")
@shared("--json")
def convert(file: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Make an encoders/ folder of FILE, a checkpoint of R(2+1)D-18 by XDC, torchvision or you."""
    from seehear.models.converting import convert

    accounting = convert(file, out, **options)
    absent = len(accounting.not_there)
    answer(
        as_json,
        asdict(accounting) | {"left_out": accounting.left_out, "out": str(out)},
        f"{len(accounting.matched)} keys fit.",
        f"Left out: {', '.join(accounting.left_out)}" if accounting.left_out else "",
        f"Not in the file, set to 0: {absent} counters of batch norms" if absent else "",
        f"Encoder: {out}",
        f'Use: seehear.embed_file(seehear.load("{out}"), "clip.mp4")',
    )


@command(short_help="Write encoders for other programs.")
@click.argument("run", type=str)
@option("--to", "safetensors, torchscript, onnx or hub.", required=True, type=WORD)
@option("--out", "The folder.", required=True, type=PATH)
@option("--licence", "Of the weights, for the model card, such as apache-2.0.")
@flag("--overwrite", "Replace an earlier export.")
@shared("--json")
def export(run: str, out: Path, as_json: bool, **options: Any) -> None:
    """Write the encoders of RUN (a run, an encoders/ folder, released weights) for other
    programs.
    """
    record = seehear.export(run, out=out, **options)
    answer(
        as_json,
        record,
        *(
            f"{modality}: features differ from the encoder's by at most {difference:.1e}"
            for modality, difference in record.get("differences", {}).items()
        ),
        f"Written to {out}: {', '.join(record['files'])}",
    )


for made in (list_weights, fetch, convert):
    weights.add_command(made)
COMMANDS = (weights, export)
