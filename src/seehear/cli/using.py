"""What a trained run is for: embed, assign, search, duplicates, subset,
export-labels."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seehear.cli.base import (
    AT_LEAST_1,
    PATH,
    RUN,
    VIDEOS,
    WORD,
    Existing,
    Numbers,
    answer,
    command,
    complaints,
    engine_of,
    flag,
    option,
    print_table,
    reasons_of,
    shared,
)
from seehear.errors import SeehearError
from seehear.machine.console import counted

if TYPE_CHECKING:
    import pyarrow as pa

MODALITY = click.Choice(["auto", "video", "audio"], case_sensitive=False)


@command(short_help="Features of new videos and sounds.")
@click.argument("run", type=PATH)
@click.argument("videos", nargs=-1, required=True, type=VIDEOS)
@option("--out", "The Parquet file to write.", required=True, type=PATH)
@shared("--segment-seconds", "--min-seconds")
@option("--clips num_clips", "Averaged a segment.", type=AT_LEAST_1, default=1)
@shared("--workers", "--device")
@option("--timeout timeout_s", "Seconds that a file may take.", default=30.0, hidden=True)
@flag("--overwrite", "Replace the file, or what an unfinished call left.")
@shared("--part", "--engine", "--ray-address", "--quiet", "--json")
def embed(run: Path, videos: tuple[Path | str, ...], as_json: bool, **options: Any) -> None:
    """Write the features of VIDEOS by the encoders of RUN: an index, or files and folders of videos
    and sounds.

    A row a segment. Files with one stream only are fine. After a kill the same line goes on where
    it stopped.
    """
    from seehear.library import embed_to_file
    from seehear.machine.console import Console

    console = Console(quiet=options.pop("quiet"))
    options["engine"] = engine_of(options)
    summary = embed_to_file(run, one_or_all(videos), console=console, **options)
    if options["part"]:
        answer(as_json, summary, said_of_part(summary))
        return
    check_any_readable(summary)
    there = ", ".join(f"{summary[m]} with {m}" for m in ("video", "audio") if m in summary)
    answer(
        as_json,
        summary,
        f"{summary['path']}: {summary['rows']} segments ({there}).{complaints(summary)}",
        f"Next: seehear assign {shlex.join([str(run), summary['path']])} --out labels.parquet",
    )


@command(short_help="Clusters of new videos and sounds.")
@click.argument("run", type=RUN)
@click.argument("videos", nargs=-1, required=True, type=VIDEOS)
@option("--out", "The Parquet file to write, or CSV by its ending.", required=True, type=PATH)
@shared("--segment-seconds", "--min-seconds", "--workers", "--device")
@flag("--overwrite", "Replace the file.")
@shared("--part", "--quiet", "--json")
def assign(run: Path, videos: tuple[Path | str, ...], as_json: bool, **options: Any) -> None:
    """Write the clusters of VIDEOS: an index, files and folders, or a file of features from
    `seehear embed`.

    A row a segment: cluster, distance, margin to the second nearest, name, and whether it is far
    from all training.
    """
    from seehear.library import assign_to_file
    from seehear.machine.console import Console

    with Console(quiet=options.pop("quiet")) as console:
        summary = assign_to_file(run, one_or_all(videos), console=console, **options)
    if options["part"]:
        answer(as_json, summary, said_of_part(summary))
        return
    check_any_readable(summary)
    far = ", ".join(f"{count} by {name}" for name, count in summary["far"].items())
    answer(
        as_json,
        summary,
        f"{summary['path']}: {summary['rows']} segments.{complaints(summary)}",
        f"Far from everything seen in training: {far}.",
    )


@command(short_help="Nearest segments to a video, sound or picture.")
@click.argument("run", type=RUN)
@option("--query", "A video, a sound file, or a picture.", type=PATH)
@option("--like", "In its place rows of the run, such as 12,40.", type=Numbers(least=0))
@option("--unlike", "With --like: rows that are not meant.", type=Numbers(least=0))
@option("--cluster", "In its place a cluster: video:3, or its name.")
@option("--in gallery", "An index or file of features. [default: the run's own videos]", type=PATH)
@option("--by", "What is compared there.", type=MODALITY, default="auto")
@option("--use", "What of the query is.", type=MODALITY, default="auto")
@option("--top", "How many.", type=AT_LEAST_1, default=20)
@flag("--exact", "Score every row, however many there are.", hidden=True)
@shared("--device")
@flag("--open open_best", "Open the best hit with the system's player.")
@shared("--json")
def search(run: Path, as_json: bool, open_best: bool, **options: Any) -> None:
    """Find the segments nearest to a query, by what is seen or heard in them.

    A sound finds sounds, or videos that look like it (--by video); a picture or video likewise.
    Rows of the run find their like, and with --unlike what a classifier of both tells apart.
    """
    from seehear.library import search as find
    from seehear.library import search_like
    from seehear.machine.console import Console

    query, like, unlike, cluster = (
        options.pop(name) for name in ("query", "like", "unlike", "cluster")
    )
    if sum(map(bool, (query, like, cluster))) != 1:
        raise click.UsageError("Give one of --query FILE, --like ROWS and --cluster NAME.")
    if query is None and (options.pop("use") != "auto" or options.pop("exact")):
        raise click.UsageError("--use and --exact belong to --query.")
    if unlike and not like:
        raise click.UsageError("--unlike belongs to --like.")
    with Console() as console:
        if query is not None:
            hits = find(run, query, console=console, **options)
        else:
            hits = search_like(run, like or cluster, unlike or (), console=console, **options)
    if not len(hits):
        raise SeehearError(
            f"There is nothing to find in {options['gallery'] or run}: none of its segments could "
            f"be read. Are its files still there? `seehear index` again says why not."
        )
    if as_json:
        answer(True, hits.to_pylist())
    else:
        print_table(hit_rows(hits))
    if open_best:
        open_file(hits["path"][0].as_py())


@command(short_help="Copies among segments, and which to keep.")
@click.argument("source", type=Existing("Name a run, an index, or a file of features."))
@option("--out", "The Parquet file to write, or CSV by its ending.", required=True, type=PATH)
@option("--same", "What copies share: both, picture, sound or either.", default="both", type=WORD)
@shared("--index", "--workers", "--timeout")
@flag("--overwrite", "Replace the file.")
@shared("--quiet", "--json")
def duplicates(source: Path, as_json: bool, **options: Any) -> None:
    """Write groups of copies among the segments of SOURCE: a run, an index, or a file of features.

    Copies may be encoded anew, made smaller, cropped a little, cut elsewhere, or have another sound
    (--same picture) or picture (--same sound). Each group has one to keep.
    """
    from seehear.library import duplicates as find
    from seehear.machine.console import Console

    summary = find(source, console=Console(quiet=options.pop("quiet")), **options)
    if summary["segments"] and sum(summary["unreadable"].values()) == summary["segments"]:
        raise SeehearError(f"Nothing could be read: {reasons_of(summary)}.")
    unread = f" Could not be read: {reasons_of(summary)}." if summary["unreadable"] else ""
    answer(
        as_json,
        summary,
        f"{summary['path']}: of {counted(summary['segments'], 'segment')}, {summary['copies']} to "
        f"leave out, in {counted(summary['groups'], 'group')} of copies. Files of the same bytes "
        f"as another: {summary['files']}.{unread}",
    )


@command(short_help="A balanced part of the videos.")
@click.argument("run", type=RUN)
@option("--size", "How many segments.", required=True, type=AT_LEAST_1)
@option("--out", "A .csv or .parquet file, or the folder of an index.", required=True, type=PATH)
@option("--by", "The clustering: joint, video, audio, ... [default: what the report opens with]")
@option("--within", "Of a cluster: spread or nearest.", default="spread", type=WORD)
@option("--without", "A file of `seehear duplicates`: no copies.", type=Existing())
@option("--seed", "Another seed, other segments.", default=0)
@shared("--index")
@flag("--overwrite", "Replace an earlier one.")
@shared("--json")
def subset(run: Path, as_json: bool, **options: Any) -> None:
    """Write SIZE of the segments that RUN was trained on, as many of each cluster as can be.

    A list (.csv) goes into `seehear index --segments`; an index goes into `seehear pretrain`.
    """
    from seehear.library import subset as choose

    part = choose(run, **options)
    drawn, number = part["random"], counted(part["segments"], "segment")
    fewer = ", all that there are," * (part["segments"] < options["size"])
    answer(
        as_json,
        part,
        f"{part['path']}: {number}{fewer} of {counted(part['videos'], 'video')}, "
        f"from {part['clusters']} of {part['of']} clusters by {part['by']}, worth {part['even']:g} "
        f"even ones. Drawn at random: {drawn['clusters']}, worth {drawn['even']:g}.",
        ""
        if Path(part["path"]).suffix
        else f"Next: seehear pretrain {shlex.quote(part['path'])} --out ANOTHER",
    )


@command("export-labels", short_help="Clusters for other programs.")
@click.argument("run", type=RUN)
@option(
    "--to",
    "csv, parquet, features (Parquet), jsonl, classes, fiftyone or label-studio.",
    required=True,
    type=WORD,
)
@option("--out", "The file, or folder of the last two, to write.", required=True, type=PATH)
@option("--embedding", "features: video, audio or joint, as one column.", type=WORD)
@shared("--index")
@option("--root", "label-studio: the folder that its local file server shows.", type=PATH)
@flag("--overwrite", "Replace an earlier export.")
@shared("--json")
def export_labels(run: Path, as_json: bool, **options: Any) -> None:
    """Write the clusters of the videos that RUN was trained on, with their names, a row or range a
    segment.
    """
    from seehear.library import export_labels as export

    summary = export(run, **options)
    classes = summary.get("classes", {})
    answer(
        as_json,
        summary,
        f"{summary['path']}: {sum(classes.values())} of {summary['segments']} segments are classed."
        if classes
        else f"{summary['path']}: {summary['segments']} segments of {summary['videos']} videos, "
        f"clustered by {', '.join(summary['clusterings'])}.",
        ", ".join(f"{count} {name}" for name, count in classes.items()),
        f"Next: seehear evaluate {shlex.quote(str(run))} --task finetune --data INDEX --classes "
        f"{shlex.quote(summary['path'])}"
        if classes
        else "",
    )


def said_of_part(summary: dict[str, Any]) -> str:
    """What was done of a part, in words."""
    from seehear.data.parts import PartSummary

    return PartSummary(**summary).describe()


def one_or_all(videos: tuple[Path | str, ...]) -> Path | str | list[Path | str]:
    """A single path by itself, since it may be an index or a file of features."""
    return videos[0] if len(videos) == 1 else list(videos)


def check_any_readable(summary: dict[str, Any]) -> None:
    """Raise SeehearError where nothing could be read: that is no result."""
    if not summary["rows"] and summary["unreadable"]:
        raise SeehearError(
            f"Nothing could be read: {reasons_of(summary)}. {summary['path']} says which."
        )


def hit_rows(hits: pa.Table) -> list[list[str]]:
    """The hits as a person reads them; of many clusterings those with names, or the joint ones."""
    spaces = [name[: -len("_cluster")] for name in hits.column_names if name.endswith("_cluster")]
    if len(spaces) > 3:
        named = [space for space in spaces if any(hits[f"{space}_name"].to_pylist())]
        spaces = named or [space for space in spaces if space.startswith("joint")]
    rows = [["rank", "row", "score", "start", "path", *spaces]]
    for hit in hits.to_pylist():
        clusters = [hit[f"{space}_name"] or str(hit[f"{space}_cluster"]) for space in spaces]
        score, start = f"{hit['score']:.3f}", f"{hit['start_s']:.1f} s"
        rows.append([str(hit["rank"]), str(hit["row"]), score, start, hit["path"], *clusters])
    return rows


def open_file(path: str | Path) -> None:
    """Open a file with the system's player, without waiting for it; no shell sees its name."""
    import shutil
    import subprocess
    import sys
    import webbrowser

    path = Path(path).absolute()  # so that no name looks like an option
    if not path.is_file():
        raise SeehearError(f"{path} cannot be opened: it is not there any more.")
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    if program := shutil.which(opener):
        quiet = subprocess.DEVNULL
        subprocess.Popen(
            [program, str(path)], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
        )
    elif not webbrowser.open(path.as_uri()):
        raise SeehearError(
            f"There is no {opener} and no browser here to show it. Open it yourself: {path}"
        )


COMMANDS = (embed, assign, search, duplicates, subset, export_labels)
