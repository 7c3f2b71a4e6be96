"""Encoders from elsewhere, and for elsewhere: weights, export."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

import seehear
from seehear.cli.base import InOrder, print_table, say


@click.group(cls=InOrder, short_help="Released weights: list, fetch, convert.")
def weights() -> None:
    """Video encoders that others released: XDC's official ones, and torchvision's."""


@weights.command("list", short_help="Show which there are.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known of them as JSON.")
def list_weights(as_json: bool) -> None:
    """List the released weights that are known by name."""
    from seehear.models.fetching import weights_folder
    from seehear.models.released import RELEASED

    cached = {name: (weights_folder() / entry.file).exists() for name, entry in RELEASED.items()}
    if as_json:
        say(
            json.dumps(
                [asdict(entry) | {"cached": cached[name]} for name, entry in RELEASED.items()]
            )
        )
        return
    rows = [["name", "UCF101", "HMDB51", "clip", "licence", "here"]]
    for name, entry in RELEASED.items():
        clip = f"{entry.clip.frames} frames, {entry.clip.frame_rate_hz:g} Hz"
        numbers = [
            f"{entry.published[b]:.1f}" if b in entry.published else ""
            for b in ("UCF101", "HMDB51")
        ]
        rows.append([name, *numbers, clip, entry.licence, "yes" if cached[name] else ""])
    print_table(rows)
    say(
        "Accuracies in % are its makers', after fine-tuning the whole network. Use: "
        "seehear.load(NAME)"
    )


@weights.command(short_help="Download one, once.")
@click.argument("name")
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="The folder. [default: $SEEHEAR_HOME/weights or ~/.cache]",
)
@click.option("--quiet", is_flag=True, help="No progress.")
def fetch(name: str, cache: Path | None, quiet: bool) -> None:
    """Download the released weights NAME, going on with what is there, and check them; prints the
    file's path.
    """
    from seehear.machine.console import Console
    from seehear.models.fetching import fetch

    say(fetch(name, cache, console=Console(quiet=quiet)))


@weights.command(short_help="Make an encoders/ folder of a checkpoint.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The folder of the encoders."
)
@click.option(
    "--midplanes",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "conv", "block"]),
    help="How the inner width is counted: conv (XDC), block (torchvision).",
)
@click.option("--overwrite", is_flag=True, help="Replace the encoders that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print what became of every key as JSON.")
def convert(file: Path, out: Path, midplanes: str, overwrite: bool, as_json: bool) -> None:
    """Make an encoders/ folder of FILE, a checkpoint of R(2+1)D-18 by XDC, torchvision or you."""
    from seehear.models.converting import convert

    accounting = convert(file, out, midplanes=midplanes, overwrite=overwrite)  # type: ignore[arg-type]
    if as_json:
        say(json.dumps(asdict(accounting) | {"left_out": accounting.left_out, "out": str(out)}))
        return
    say(f"{len(accounting.matched)} keys fit.")
    if accounting.left_out:
        say(f"Left out: {', '.join(accounting.left_out)}")
    if accounting.not_there:
        say(f"Not in the file, set to 0: {len(accounting.not_there)} counters of batch norms")
    say(f"Encoder: {out}")
    say(f'Use: seehear.embed_file(seehear.load("{out}"), "clip.mp4")')


@click.command(short_help="Write encoders for other programs.")
@click.argument("run", type=str)
@click.option("--to", required=True, help="safetensors, torchscript, onnx or hub.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder.")
@click.option("--licence", help="Of the weights, for the model card, such as apache-2.0.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def export(
    run: str, to: str, out: Path, licence: str | None, overwrite: bool, as_json: bool
) -> None:
    """Write the encoders of RUN (a run, an encoders/ folder, released weights) for other
    programs.
    """
    record = seehear.export(run, to, out, licence=licence, overwrite=overwrite)
    if as_json:
        say(json.dumps(record))
        return
    for modality, difference in record.get("differences", {}).items():
        say(f"{modality}: features differ from the encoder's by at most {difference:.1e}")
    say(f"Written to {out}: {', '.join(record['files'])}")


COMMANDS = (weights, export)
