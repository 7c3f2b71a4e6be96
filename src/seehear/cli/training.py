"""The way from videos to encoders: synth, index, pack, pretrain, demo, settings."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Any

import click

import seehear
from seehear import config
from seehear.cli.base import PathOrAddress, print_table, say, with_settings
from seehear.errors import SettingsError


@click.command(short_help="Write synthetic videos of sounding events.")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--videos", default=1500, show_default=True, help="How many to write.")
@click.option("--classes", default=12, show_default=True, help="How many kinds of events, 2 to 12.")
@click.option("--seed", default=0, show_default=True, help="Another seed, other videos.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes. [default: one a core]")
def synth(out: Path, videos: int, classes: int, seed: int, workers: int | None) -> None:
    """Write synthetic videos of sounding events to the folder OUT, with classes.csv beside them."""
    path = seehear.synth(out, videos=videos, classes=classes, seed=seed, workers=workers)
    say(f"{videos} videos; their classes are in {path}")
    say(f"Next: seehear index {out} --out INDEX")


@click.command(short_help="List usable segments, and why others are not.")
@click.argument("videos", nargs=-1, required=True, type=PathOrAddress())
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The folder of the index."
)
@click.option(
    "--segment-seconds",
    default=10.0,
    show_default=True,
    help="Longest segment a video is cut into.",
)
@click.option("--min-seconds", default=1.0, show_default=True, help="A shorter tail is dropped.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes. [default: one a core]")
@click.option(
    "--timeout",
    "timeout_s",
    default=30.0,
    show_default=True,
    help="Seconds that one file may take.",
)
@click.option(
    "--overwrite", is_flag=True, help="Look at everything anew, with other settings perhaps."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def index(videos: tuple[Path | str, ...], out: Path, as_json: bool, **options: Any) -> None:
    """List the usable segments of VIDEOS (files, or folders of any depth), and a reason for each
    file left out.

    VIDEOS may be addresses: s3://, gs://, hf://, https:// (docs/remote.md), or a .txt file with one
    on each line. Run it again to add new files and drop vanished ones. Runs, reports and indexes
    among the videos are passed over.
    """
    summary = seehear.index(videos, out, **options)
    if as_json:
        say(json.dumps(summary.to_dict()))
        return
    say(summary.describe())
    say(f"Next: seehear pretrain {out} --out RUN")


@click.command(short_help="Re-encode an index so that training reads it faster.")
@click.argument("index", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The folder of the packed index."
)
@click.option(
    "--preset",
    default="small",
    show_default=True,
    help="Whose clips it is for: debug, demo, small, paper.",
)
@click.option("--short-side", "short_side_pixels", type=int, help="Another short side, in pixels.")
@click.option("--fps", "frame_rate_hz", type=float, help="Another frame rate.")
@click.option(
    "--quality",
    default=20,
    show_default=True,
    help="x264's constant rate factor; lower: better, larger.",
)
@click.option(
    "--shard-gb", "shard_gigabytes", default=1.0, show_default=True, help="Size of a shard."
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes. [default: one a core]")
@click.option("--estimate", is_flag=True, help="Only say what it will take.")
@click.option("--overwrite", is_flag=True, help="Remove what was packed there before.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option(
    "--timeout", "timeout_s", default=120.0, hidden=True, help="Seconds that one segment may take."
)
def pack(index: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Re-encode every segment of INDEX to what training reads, in shards that decode several times
    faster.

    The folder is an index: `pretrain`, `evaluate`, `report` and `embed` take it. A killed pack goes
    on when it is started again.
    """
    summary = seehear.pack(index, out, **options)
    if as_json:
        say(json.dumps(summary.to_dict()))
        return
    say(summary.describe())
    if summary.digest:
        say(f"Next: seehear pretrain {out} --out RUN --preset {options['preset']}")


@click.command(short_help="Learn from an index, without labels.")
@click.argument("index", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The folder of the run."
)
@click.option(
    "--preset",
    default="small",
    show_default=True,
    help="debug, demo, small or paper; `seehear settings`.",
)
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="A TOML file with settings."
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
@click.option(
    "--resume-if-there", is_flag=True, help="The same, or begin where there is no run yet."
)
@click.option("--overwrite", is_flag=True, help="Remove the run that is there first.")
@click.option("--tensorboard", is_flag=True, help="Also write RUN/tensorboard.")
@click.option("--quiet", is_flag=True, help="No progress.")
@with_settings
def pretrain(
    index: Path,
    out: Path,
    config_file: Path | None,
    quiet: bool,
    settings: dict[str, Any],
    resume: bool,
    resume_if_there: bool,
    **options: Any,
) -> None:
    """Train a video and an audio encoder on the segments of INDEX, without labels.

    On several GPUs: torchrun --nproc-per-node 8 -m seehear pretrain ... Stopped by a signal it
    saves and exits with 75.

    Every setting is an option by its dotted name, such as --train.lr 0.01 or --cluster.num_clusters
    128; `seehear settings PRESET` prints them all with their meaning.
    """
    from seehear.machine import distributed
    from seehear.machine.console import Console, counted, duration

    if (resume or resume_if_there) and options["overwrite"]:
        raise click.UsageError("--resume and --overwrite exclude each other.")
    options["resume"] = "if there" if resume_if_there else resume
    from_file = config.read_toml(config_file) if config_file else {}
    begin = time.perf_counter()
    run = seehear.pretrain(
        index, out, settings=from_file | settings, console=Console(quiet=quiet), **options
    )
    if distributed.rank() > 0:
        return
    log = run.read_log()
    moved = [c["nmi_last"] for c in log[-1]["clusters"].values() if c["nmi_last"] is not None]
    settled = (
        f"; NMI with the round before {'/'.join(f'{value:.2f}' for value in moved)}"
        if moved
        else ""
    )
    took = duration(time.perf_counter() - begin)
    say(f"{counted(len(log), 'round')}, {log[-1]['rows']} segments, {took} this time{settled}.")
    say(f"Trained encoders: {run.path / 'encoders'}")
    named = shlex.quote(str(out))
    say(f"Next, look and listen: seehear report {named} --open")
    say(f"On new videos: seehear assign {named} VIDEOS --out labels.parquet")
    say(f"Where classes are known: seehear evaluate {named} --data INDEX --classes classes.csv")


@click.command(short_help="Show in minutes that the method works.")
@click.option(
    "--out",
    default=Path("runs/demo"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="The folder.",
)
@click.option("--seeds", default="0", show_default=True, help="One or several, such as 0,1,2.")
@click.option(
    "--variant", default="sdc,xdc", show_default=True, help="One or several of xdc, sdc, mdc, cdc."
)
@click.option(
    "--videos", default=1500, show_default=True, help="How many to synthesise for each seed."
)
def demo(out: Path, seeds: str, variant: str, videos: int) -> None:
    """Show in minutes that the method works: synthesise, index, train, probe, compare."""
    from seehear.reporting.demo import table

    begin = time.perf_counter()
    chosen = list(config.parse(tuple[int, ...], seeds)) if seeds.replace(",", "").isdigit() else []
    if not chosen:
        raise SettingsError(
            f"--seeds is {seeds!r}. It must be whole numbers separated by commas, such as 0,1,2."
        )
    names = variant.replace(",", " ").split()
    report = seehear.demo(out, seeds=chosen, variants=names, videos=videos)
    print_table(table(report))
    took = time.perf_counter() - begin
    say(
        f"Seeds {seeds}; {videos} videos each, a fifth of them for testing; {took / 60:.1f} "
        f"minutes, "
        f"{report['peak_memory_gb']:.1f} GB; {out}/demo.json"
    )
    page = Path(report["seeds"][str(chosen[0])]["page"]).resolve().as_uri()
    say(f"Look and listen: open {page} in a browser")
    say(
        "On your own videos: seehear index FOLDER --out INDEX && seehear pretrain INDEX --out RUN "
        "--preset demo"
    )


@click.command(short_help="Print every setting of a preset.")
@click.argument("preset", default="small")
def settings(preset: str) -> None:
    """Print every setting of PRESET (debug, demo, small, paper) as TOML, to read or to start a file
    from.
    """
    from seehear.presets import PRESETS, preset_settings

    chosen = preset_settings(preset)
    about = PRESETS[preset]
    for label in ("paper", "cost", "expected", "command"):
        say(f"# {label}: {getattr(about, label)}")
    group = ""
    for leaf in config.leaves(chosen):
        *groups, name = leaf.name.split(".")
        if groups and groups[0] != group:
            group = groups[0]
            say(f"\n[{group}]")
        value = list(leaf.default) if isinstance(leaf.default, tuple) else leaf.default
        say(f"{name} = {json.dumps(value)}  # {leaf.help}")


COMMANDS = (demo, synth, index, pack, pretrain, settings)
