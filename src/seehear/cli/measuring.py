"""How fast is it here? bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seehear import config
from seehear.cli.base import print_table, with_settings

if TYPE_CHECKING:
    from seehear.speed import Speed


@click.group(short_help="How fast clips, steps and k-means are, and what would help.")
def bench() -> None:
    """Measure parts of a training run on this machine."""


@bench.command(short_help="Clips a second out of an index.")
@click.argument("index", type=click.Path(path_type=Path))
@click.option("--preset", default="small", show_default=True, help="Whose clips: debug, demo, small or paper.")
@click.option("--clips", "num_clips", type=click.IntRange(min=3), default=96, show_default=True, help="To read.")
@click.option("--json", "as_json", is_flag=True, help="Print the measurement as JSON.")
@with_settings
def data(index: Path, preset: str, num_clips: int, as_json: bool, settings: dict[str, Any]) -> None:
    """Read clips of INDEX as training would: clips/s in all and per worker, where the time goes, what would help."""
    from seehear.indexing import Index
    from seehear.presets import preset_settings
    from seehear.progress import Console
    from seehear.throughput import measure

    cfg = config.override(preset_settings(preset), settings)
    with Console(quiet=as_json) as console:
        found = measure(Index.open(index), cfg, num_clips=num_clips, console=console)
    if as_json:
        print(json.dumps(found.to_dict()))
        return
    print_table(found.table())
    each = f"{found.clips_per_second_per_worker:.1f} clips/s a worker"
    print(f"{found.workers} workers: {found.clips_per_second:.1f} clips/s in all, {each}.")
    if found.unreadable:
        print(f"{found.unreadable} clips could not be read.")
    print(found.advice)


@bench.command(short_help="Clips a second of the training step.")
@click.option("--preset", default="small", show_default=True, help="Whose step: debug, demo, small or paper.")
@click.option("--seconds", type=click.FloatRange(min=0.01), default=5.0, show_default=True, help="For each pass.")
@click.option("--json", "as_json", is_flag=True, help="Print the measurement as JSON.")
@with_settings
def train(preset: str, seconds: float, as_json: bool, settings: dict[str, Any]) -> None:
    """Train on one made-up batch: clips/s forward and of whole steps, against the peak of a matrix product."""
    from seehear.numerics import set_threads
    from seehear.presets import preset_settings
    from seehear.speed import measure_step

    cfg = config.override(preset_settings(preset), settings)
    set_threads(cfg.compute)
    found = measure_step(cfg, seconds=seconds)
    if as_json:
        print(json.dumps(found.to_dict()))
        return
    what, rows = found.what, [["work", "ms a clip", "clips/s", "GFLOP a clip", "TFLOP/s", "of the peak"]]
    for rate in found.rates:
        cells = [f"{rate.milliseconds:.3f}", f"{1000 / rate.milliseconds:.1f}"]
        cells += [f"{what['gigaflop_a_clip'][rate.work]:.2f}", f"{rate.teraflops:.3f}", f"{rate.share_of_peak:.0%}"]
        rows.append([rate.work, *cells])
    print_table(rows)
    layout = f"{what['precision']}, {what['memory_format']}, batch of {what['batch_size']}"
    print(f"{what['frames']} frames and sound on {found.device}: {layout}{threads_of(found)}; {peaks_of(found)}.")
    if what["note"]:
        print(what["note"])
    print(found.advice)


@bench.command("kmeans", short_help="Seconds an iteration of k-means takes.")
@click.option("--rows", type=click.IntRange(min=10), default=50_000, show_default=True, help="N, made up.")
@click.option("--clusters", type=click.IntRange(min=2), default=256, show_default=True, help="K.")
@click.option("--width", type=click.IntRange(min=1), default=512, show_default=True, help="D, of the features.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option("--json", "as_json", is_flag=True, help="Print the measurement as JSON.")
def cluster(rows: int, clusters: int, width: int, device: str, as_json: bool) -> None:
    """Cluster made-up rows in each precision: time an iteration, against the peak of a matrix product."""
    from seehear.config import Compute
    from seehear.errors import SettingsError
    from seehear.speed import measure_kmeans

    if clusters > rows:
        raise SettingsError(f"--clusters is {clusters}, more than the {rows} of --rows. Lower it, or raise --rows.")
    found = measure_kmeans(rows, width, clusters, compute=Compute(device=device))
    if as_json:
        print(json.dumps(found.to_dict()))
        return
    table = [["precision", "ms an iteration", "TFLOP/s", "of the peak"]]
    table += [[r.work, f"{r.milliseconds:.2f}", f"{r.teraflops:.3f}", f"{r.share_of_peak:.0%}"] for r in found.rates]
    print_table(table)
    print(f"{rows} rows, {clusters} clusters, {width} wide on {found.device}{threads_of(found)}; {peaks_of(found)}.")
    print(found.advice)


def threads_of(found: Speed) -> str:
    """On a CPU, with how many threads."""
    return f", {found.threads} threads" if found.device == "cpu" else ""


def peaks_of(found: Speed) -> str:
    """The peaks in words."""
    peaks = ", ".join(f"{peak:.3f} TFLOP/s in {precision}" for precision, peak in found.peak_teraflops.items())
    return f"peak of a matrix product {peaks}"


COMMANDS = (bench,)
