"""The way from videos to encoders: synth, index, rejected, pack, pretrain, demo, settings."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Any

import click

import seehear
from seehear import config
from seehear.cli.base import (
    AT_LEAST_1,
    PATH,
    VIDEOS,
    WORD,
    Existing,
    Numbers,
    answer,
    command,
    complaints,
    engine_of,
    explain,
    flag,
    option,
    print_table,
    say,
    shared,
    with_settings,
)
from seehear.machine.console import counted

EXAMPLES = 3  # of each reason for leaving a file out


@command(short_help="Write synthetic videos of sounding events.")
@click.argument("out", type=PATH)
@option("--videos", "How many to write.", default=1500)
@option("--classes", "How many kinds of events, 2 to 12.", default=12)
@option("--seed", "Another seed, other videos.", default=0)
@shared("--workers")
def synth(out: Path, videos: int, **options: Any) -> None:
    """Write synthetic videos of sounding events to the folder OUT, with classes.csv beside them."""
    path = seehear.synth(out, videos=videos, **options)
    say(f"{videos} videos; their classes are in {path}")
    say(f"Next: seehear index {out} --out INDEX")


@command(short_help="Videos out of others' containers; pictures with sound.")
@click.argument("sources", nargs=-1, required=True, type=VIDEOS)
@option("--out", "The folder of videos.", required=True, type=PATH)
@shared("--quiet", "--json")
def unpack(sources: tuple[Path | str, ...], out: Path, quiet: bool, as_json: bool) -> None:
    """Write the videos in SOURCES (tar and Parquet files, or folders of them) as ordinary files.

    Sound that lies beside its video (KEY.mp4 and KEY.wav) is joined to it; pictures beside a sound
    (KEY.jpg, or KEY_1.jpg, KEY_2.jpg, ...) become a video, also in a folder of such. What is known
    of them (KEY.json, KEY.cls, columns) is in OUT/metadata.jsonl. It goes on after a kill.
    """
    from seehear.data.unpacking import unpack as write
    from seehear.machine.console import Console, counted

    found = write(sources, out, console=Console(quiet=quiet))
    left_out = ", ".join(f"{many} {reason}" for reason, many in found["left_out"].items())
    joined = f", {found['joined']} joined with their sound" if found["joined"] else ""
    joined += f", {found['stills']} of one still picture" if found["stills"] else ""
    stills = " --stills" if found["stills"] else ""
    answer(
        as_json,
        found,
        f"{out}: {counted(found['videos'], 'video')}{joined}.",
        left_out and f"Left out: {left_out}.",
        f"Next: seehear index {shlex.quote(str(out))} --out INDEX{stills}",
    )


@command(short_help="List usable segments, and why others are not.")
@click.argument("videos", nargs=-1, required=True, type=VIDEOS)
@option("--out", "The folder of the index.", required=True, type=PATH)
@option("--segments", "A CSV of the segments to take: path,start_s,end_s[,class,...].", type=PATH)
@option("--segment-seconds", "Longest segment. [default: 10, or the index's]", type=float)
@option("--min-seconds", "A shorter tail is dropped. [default: 1, or the index's]", type=float)
@flag("--stills", "Keep files whose picture never changes.", default=None)
@shared("--workers", "--timeout")
@flag("--overwrite", "Look at everything anew, with other settings perhaps.")
@shared("--part", "--engine", "--ray-address", "--json")
def index(videos: tuple[Path | str, ...], out: Path, as_json: bool, **options: Any) -> None:
    """List the usable segments of VIDEOS (files, or folders of any depth), and a reason for each
    file left out.

    VIDEOS may be addresses: s3://, gs://, hf://, https:// (docs/remote.md), or a .txt file with an
    address or a local file a line. Run it again to add new files and drop vanished ones. Runs,
    reports and indexes among the videos are passed over.
    """
    options["engine"] = engine_of(options)
    summary = seehear.index(videos, out, **options)
    next_line = f"Next: seehear pretrain {out} --out RUN" if not options["part"] else ""
    answer(as_json, summary.to_dict(), summary.describe(), next_line)


@command(short_help="Which files were left out of an index, and why.")
@click.argument("index", type=PATH)
@option("--reason", "List all files of this reason, such as 'silent audio'.", type=WORD)
@shared("--json")
def rejected(index: Path, reason: str | None, as_json: bool) -> None:
    """Say which files were left out of INDEX: each reason, what it means, and some examples."""
    from seehear.data.index.rejected import left_out
    from seehear.data.media import REASONS

    kinds: dict[str, list[str]] = {}
    for path, why, detail in zip(*left_out(index).to_pydict().values(), strict=True):
        kinds.setdefault(why, []).append(f"{path} ({detail})" if detail else path)
    if reason is not None and reason not in kinds:
        there = ", ".join(kinds) or "none"
        raise click.UsageError(f"Nothing was left out as '{reason}'. Reasons here: {there}.")
    lines = [] if kinds else [f"Nothing was left out of {index}."]
    for why in sorted(kinds, key=lambda why: (-len(kinds[why]), why)):
        if reason in (None, why):
            files = kinds[why] if reason else kinds[why][:EXAMPLES]
            more = len(kinds[why]) - len(files)
            lines += [f"{why}: {counted(len(kinds[why]), 'file')}. {REASONS.get(why, '')}"]
            lines += [f"    {file}" for file in files]
            lines += [f"    and {more} more: --reason '{why}'"] * (more > 0)
    answer(as_json, {why: kinds[why] for why in kinds if reason in (None, why)}, *lines)


@command(short_help="Re-encode an index so that training reads it faster.")
@click.argument("index", type=PATH)
@option("--out", "The folder of the packed index.", required=True, type=PATH)
@option("--preset", "Whose clips it is for: debug, demo, small, paper.", default="small", type=WORD)
@option("--short-side short_side_pixels", "Another short side, in pixels.", type=int)
@option("--fps frame_rate_hz", "Another frame rate.", type=float)
@option("--quality", "x264's constant rate factor; lower: better, larger.", default=20)
@option("--shard-segments", "In a shard.", default=4096, type=AT_LEAST_1, hidden=True)
@shared("--workers")
@flag("--estimate", "Only say what it will take.")
@flag("--overwrite", "Remove what was packed there before.")
@shared("--part", "--engine", "--ray-address", "--json")
@option("--timeout timeout_s", "Seconds that one segment may take.", default=120.0, hidden=True)
def pack(index: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Re-encode every segment of INDEX to what training reads, in shards that decode several times
    faster.

    The folder is an index: `pretrain`, `evaluate`, `report` and `embed` take it. A killed pack goes
    on when it is started again.
    """
    options["engine"] = engine_of(options)
    summary = seehear.pack(index, out, **options)
    next_line = f"Next: seehear pretrain {out} --out RUN --preset {options['preset']}"
    is_whole = bool(getattr(summary, "digest", ""))  # neither an estimate nor a part
    answer(as_json, summary.to_dict(), summary.describe(), next_line if is_whole else "")


@command(short_help="Make one result of what was done with --part.")
@click.argument("out", type=PATH)
@shared("--json")
def merge(out: Path, as_json: bool) -> None:
    """Make OUT of its parts: what index, pack, embed or assign would have written alone.

    Each part was made with the same --out and with --part 1/N to N/N, by any machine that sees the
    folder. Where one is missing, or a video has changed since, a line says so.
    """
    summary = seehear.merge(out)
    text = summary.describe() if hasattr(summary, "describe") else None
    found = summary if isinstance(summary, dict) else summary.to_dict()
    answer(as_json, found, text or f"{out}: {found['rows']} segments.{complaints(found)}")


@command(short_help="Learn from an index, without labels.")
@click.argument("index", type=PATH)
@option("--out", "The folder of the run.", required=True, type=PATH)
@option("--preset", "debug, demo, small or paper; `seehear settings`.", default="small", type=WORD)
@option(
    "--config config_file",
    "A TOML file with settings.",
    type=Existing("`seehear settings` prints one to start from."),
)
@flag("--resume", "Go on from the last checkpoint.")
@flag("--resume-if-there", "The same, or begin where there is no run yet.")
@flag("--overwrite", "Remove the run that is there first.")
@flag("--tensorboard", "Also write RUN/tensorboard.")
@flag("--explain", "Say first what the numbers mean.")
@shared("--quiet")
@with_settings
def pretrain(
    index: Path, out: Path, config_file: Path | None, settings: dict[str, Any], **options: Any
) -> None:
    """Train a video and an audio encoder on the segments of INDEX, without labels: new ones, or
    those of --start.video and --start.audio: hf:NAME, a run, or released weights.

    On several GPUs: torchrun --nproc-per-node 8 -m seehear pretrain ... Stopped by a signal it
    saves and exits with 75.

    Every setting is an option by its dotted name, such as --train.lr 0.01 or --cluster.num_clusters
    128; `seehear settings PRESET` prints them all with their meaning.
    """
    from seehear.machine import distributed
    from seehear.machine.console import Console, duration

    if_there, console = options.pop("resume_if_there"), Console(quiet=options.pop("quiet"))
    if (options["resume"] or if_there) and options["overwrite"]:
        raise click.UsageError("--resume and --overwrite exclude each other.")
    if if_there:
        options["resume"] = "if there"
    if options.pop("explain"):
        explain("pretrain", console.say)
    from_file = config.read_toml(config_file) if config_file else {}
    begin = time.perf_counter()
    run = seehear.pretrain(index, out, settings=from_file | settings, console=console, **options)
    if distributed.rank() > 0:
        return
    log = run.read_log()
    moved = [c["nmi_last"] for c in log[-1]["clusters"].values() if c["nmi_last"] is not None]
    settled = f"; NMI with the round before {'/'.join(f'{x:.2f}' for x in moved)}" if moved else ""
    took = duration(time.perf_counter() - begin)
    say(f"{counted(len(log), 'round')}, {log[-1]['rows']} segments, {took} this time{settled}.")
    if options["preset"] == "debug":
        say("Preset debug shows that every stage runs; it learns nothing. To learn: --preset demo")
    say(f"Trained encoders: {run.path / 'encoders'}")
    named = shlex.quote(str(out))
    say(f"Next, look and listen: seehear report {named} --open")
    say(f"On new videos: seehear assign {named} VIDEOS --out labels.parquet")
    say(f"Where classes are known: seehear evaluate {named} --data INDEX --classes classes.csv")


@command(short_help="Cluster an index by encoders as they are, without training.")
@click.argument("index", type=PATH)
@option("--out", "The folder, to be read as a run.", required=True, type=PATH)
@option(
    "--encoder",
    "hf:NAME, a run, or released weights; one for each sense by repeating it.",
    required=True,
    multiple=True,
)
@option(
    "--num-clusters",
    "K, or several. [default: one for 20 segments, at most 256]",
    type=Numbers(least=2),
)
@shared("--workers", "--device")
@flag("--overwrite", "Replace the run that is there.")
@shared("--quiet")
def cluster(index: Path, out: Path, quiet: bool, workers: int | None, **options: Any) -> None:
    """Cluster the segments of INDEX by the features of trained encoders, without training.

    What is written is read as a run: report, assign, search, export-labels, evaluate. An encoder of
    one sense gives the clusters of that sense alone; each sense is taken from the first --encoder
    that has it.
    """
    from seehear.machine import distributed
    from seehear.machine.console import Console, duration

    begin = time.perf_counter()
    options["workers"] = -1 if workers is None else workers
    run = seehear.cluster(index, out, console=Console(quiet=quiet), **options)
    if distributed.rank() > 0:
        return
    sizes = " or ".join(map(str, run.settings().cluster.num_clusters))
    took = duration(time.perf_counter() - begin)
    rows = run.field("index", "rows")
    say(f"{run.path}: {rows} segments in {sizes} clusters by {run.field('encoder')}, {took}.")
    say(f"Next, look and listen: seehear report {shlex.quote(str(out))} --open")


@command(short_help="Show in minutes that the method works.")
@option("--out", "The folder.", default=Path("runs/demo"), type=PATH)
@option("--seeds", "One or several, such as 0,1,2.", default="0", type=Numbers(least=0))
@option(
    "--variant",
    "One or several of xdc, sdc, mdc, cdc, same-modality.",
    default="sdc,xdc",
    type=WORD,
)
@option("--videos", "How many to synthesise for each seed.", default=1500)
def demo(out: Path, seeds: tuple[int, ...], variant: str, videos: int) -> None:
    """Show in minutes that the method works: synthesise, index, train, probe, compare."""
    from seehear.reporting.demo import table

    begin = time.perf_counter()
    names = variant.replace(",", " ").split()
    report = seehear.demo(out, seeds=list(seeds), variants=names, videos=videos)
    print_table(table(report))
    took = time.perf_counter() - begin
    say(
        f"Seeds {','.join(map(str, seeds))}; {videos} videos each, a fifth of them for testing; "
        f"{took / 60:.1f} minutes, {report['peak_memory_gb']:.1f} GB; {out}/demo.json"
    )
    page = Path(report["seeds"][str(seeds[0])]["page"]).resolve().as_uri()
    say(f"Look and listen: open {page} in a browser")
    say(
        "On your own videos: seehear index FOLDER --out INDEX && seehear pretrain INDEX --out RUN "
        "--preset demo"
    )


@command(short_help="Print every setting of a preset.")
@click.argument("preset", default="small", type=WORD)
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


COMMANDS = (demo, synth, unpack, index, rejected, pack, merge, pretrain, cluster, settings)
