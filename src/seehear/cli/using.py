"""What a trained run is for: embed, assign, search, export-labels."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seehear.cli.base import PathOrAddress, print_table, say

if TYPE_CHECKING:
    import pyarrow as pa

PATH = click.Path(path_type=Path)


@click.command(short_help="Features of new videos and sounds.")
@click.argument("run", type=PATH)
@click.argument("videos", nargs=-1, required=True, type=PathOrAddress())
@click.option("--out", required=True, type=PATH, help="The Parquet file to write.")
@click.option(
    "--segment-seconds", default=10.0, show_default=True, help="Longest segment a file is cut into."
)
@click.option("--min-seconds", default=1.0, show_default=True, help="A shorter tail is dropped.")
@click.option(
    "--clips",
    "num_clips",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Averaged a segment.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes. [default: one a core]")
@click.option(
    "--timeout",
    "timeout_s",
    default=30.0,
    show_default=True,
    help="Seconds that opening a file may take.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option(
    "--overwrite", is_flag=True, help="Replace the file, or what an unfinished call left."
)
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def embed(
    run: Path, videos: tuple[Path | str, ...], as_json: bool, quiet: bool, **options: Any
) -> None:
    """Write the features of VIDEOS by the encoders of RUN: an index, or files and folders of videos
    and sounds.

    A row a segment. Files with one stream only are fine. After a kill the same line goes on where
    it stopped.
    """
    from seehear.library import embed_to_file
    from seehear.machine.console import Console

    summary = embed_to_file(run, one_or_all(videos), console=Console(quiet=quiet), **options)
    if as_json:
        say(json.dumps(summary))
        return
    there = ", ".join(f"{summary[m]} with {m}" for m in ("video", "audio") if m in summary)
    say(f"{summary['path']}: {summary['rows']} segments ({there}).{complaints(summary)}")
    say(f"Next: seehear assign {shlex.join([str(run), summary['path']])} --out labels.parquet")


@click.command(short_help="Clusters of new videos and sounds.")
@click.argument("run", type=PATH)
@click.argument("videos", nargs=-1, required=True, type=PathOrAddress())
@click.option(
    "--out", required=True, type=PATH, help="The Parquet file to write, or CSV by its ending."
)
@click.option(
    "--segment-seconds", default=10.0, show_default=True, help="Longest segment a file is cut into."
)
@click.option("--min-seconds", default=1.0, show_default=True, help="A shorter tail is dropped.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes. [default: one a core]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def assign(
    run: Path, videos: tuple[Path | str, ...], as_json: bool, quiet: bool, **options: Any
) -> None:
    """Write the clusters of VIDEOS: an index, files and folders, or a file of features from
    `seehear embed`.

    A row a segment: cluster, distance, margin to the second nearest, name, and whether it is far
    from all training.
    """
    from seehear.library import assign_to_file
    from seehear.machine.console import Console

    with Console(quiet=quiet) as console:
        summary = assign_to_file(run, one_or_all(videos), console=console, **options)
    if as_json:
        say(json.dumps(summary))
        return
    far = ", ".join(f"{count} by {name}" for name, count in summary["far"].items())
    say(f"{summary['path']}: {summary['rows']} segments.{complaints(summary)}")
    say(f"Far from everything seen in training: {far}.")


@click.command(short_help="Nearest segments to a video, sound or picture.")
@click.argument("run", type=PATH)
@click.option("--query", required=True, type=PATH, help="A video, a sound file, or a picture.")
@click.option(
    "--in",
    "gallery",
    type=PATH,
    help="An index or a file of features. [default: the run's own videos]",
)
@click.option(
    "--by",
    type=click.Choice(["auto", "video", "audio"]),
    default="auto",
    help="What is compared there.",
)
@click.option(
    "--use",
    type=click.Choice(["auto", "video", "audio"]),
    default="auto",
    help="What of the query is.",
)
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@click.option("--exact", is_flag=True, help="Score every row, however many there are.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option(
    "--open", "open_best", is_flag=True, help="Open the best hit with the system's player."
)
@click.option("--json", "as_json", is_flag=True, help="Print the hits as JSON.")
def search(run: Path, query: Path, as_json: bool, open_best: bool, **options: Any) -> None:
    """Find the segments nearest to a query, by what is seen or heard in them.

    A sound finds sounds, or videos that look like it (--by video); a picture or video likewise.
    """
    from seehear.library import search as find
    from seehear.library.opening import open_file
    from seehear.machine.console import Console

    with Console() as console:
        hits = find(run, query, console=console, **options)
    if as_json:
        say(json.dumps(hits.to_pylist()))
    else:
        print_table(hit_rows(hits))
    if open_best and len(hits):
        open_file(hits["path"][0].as_py())


@click.command("export-labels", short_help="Clusters for other programs.")
@click.argument("run", type=PATH)
@click.option("--to", required=True, help="csv, parquet, fiftyone or label-studio.")
@click.option("--out", required=True, type=PATH, help="The file (csv, parquet) or folder to write.")
@click.option("--index", type=PATH, help="The run's index. [default: where the run found it]")
@click.option(
    "--root", type=PATH, help="label-studio: the folder that its local file server shows."
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def export_labels(run: Path, as_json: bool, **options: Any) -> None:
    """Write the clusters of the videos that RUN was trained on, with their names, a row or range a
    segment.
    """
    from seehear.library import export_labels as export

    summary = export(run, **options)
    if as_json:
        say(json.dumps(summary))
        return
    say(
        f"{summary['path']}: {summary['segments']} segments of {summary['videos']} videos, "
        f"clustered by "
        f"{', '.join(summary['clusterings'])}."
    )


def one_or_all(videos: tuple[Path | str, ...]) -> Path | str | list[Path | str]:
    """A single path by itself, since it may be an index or a file of features."""
    return videos[0] if len(videos) == 1 else list(videos)


def complaints(summary: dict[str, Any]) -> str:
    """What could not be read, in a sentence."""
    reasons = summary["unreadable"]
    listing = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return f" Not or not wholly readable: {sum(reasons.values())} ({listing})." if reasons else ""


def hit_rows(hits: pa.Table) -> list[list[str]]:
    """The hits as a person reads them."""
    names = [
        name.removesuffix("_cluster") for name in hits.column_names if name.endswith("_cluster")
    ]
    rows = [["rank", "score", "start", "path", *names]]
    for hit in hits.to_pylist():
        clusters = [hit[f"{name}_name"] or str(hit[f"{name}_cluster"]) for name in names]
        rows.append(
            [
                str(hit["rank"]),
                f"{hit['score']:.3f}",
                f"{hit['start_s']:.1f} s",
                hit["path"],
                *clusters,
            ]
        )
    return rows


COMMANDS = (embed, assign, search, export_labels)
