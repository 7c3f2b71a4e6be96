"""What a run found, to look at: explore, report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

import seehear
from seehear.cli.base import (
    PATH,
    RUN,
    VIDEOS,
    WORD,
    Existing,
    answer,
    command,
    flag,
    option,
    say,
    shared,
)


@command(short_help="From a folder of videos to clusters that play.")
@click.argument("videos", nargs=-1, required=True, type=VIDEOS)
@option("--out", "The folder of all that is made.", default=Path("explored"), type=PATH)
@option("--encoder", "As of `seehear cluster`. [default: downloaded ones, or train]", multiple=True)
@shared("--workers", "--device")
@flag("--no-open", "Do not show the page in a browser.")
@flag("--overwrite", "Cluster anew, by other encoders perhaps.")
@shared("--quiet", "--json")
def explore(
    videos: tuple[Path | str, ...], no_open: bool, quiet: bool, as_json: bool, **options: Any
) -> None:
    """Index VIDEOS, cluster what is seen and heard in them, build the page and open it.

    By encoders that are named or were downloaded before (video and sound), as they are; else small
    ones are trained on VIDEOS, and how long that takes is said before it starts. Interrupted, the
    same line goes on.
    """
    from seehear.machine.console import Console

    built = seehear.explore(videos, console=Console(quiet=quiet), **options)
    run, page = options["out"] / "run", Path(built.path).resolve()
    answer(
        as_json,
        built.to_dict(),
        f"{built.path}: {built.verdict}; {built.rows} segments, {built.previews} with previews",
        *built.notes,
        f"Next, to name clusters and search: seehear report {shlex.quote(str(run))} --serve --open",
    )
    if not no_open:
        click.launch(page.as_uri())


@command(short_help="Build a page to look at a run, listen to it, and name clusters.")
@click.argument("run", type=RUN)
@flag("--open open_page", "Show it in a browser.")
@flag("--serve", "Serve it to this machine alone, so that names are saved to the run.")
@option("--port", "Of --serve; 0 takes a free one.", default=0)
@shared("--index")
@option("--classes", "CSV: path,class. Shows what clusters hold.", type=Existing())
@option("--map projection", "pca or umap.", default="pca", type=WORD)
@option("--previews", "So many segments, at most, with picture and sound.", default=2000)
@option("--out", "The folder. [default: RUN/report]", type=PATH)
@flag("--single-file", "Also write one file to send, RUN/report.html.")
@shared("--workers", "--json")
def report(
    run: Path, open_page: bool, serve: bool, port: int, as_json: bool, **options: Any
) -> None:
    """Build the report of RUN: health, clusters with picture and sound, a map, and names for
    clusters.

    The page is RUN/report/index.html; it opens from disk and needs no network.
    """
    built = seehear.report(run, **options)
    page = Path(built.path).resolve()
    reasons = ", ".join(f"{reason}: {count}" for reason, count in built.previews_failed.items())
    answer(
        as_json,
        built.to_dict(),
        f"{built.path}: {built.verdict}; {built.rows} segments, {built.previews} with previews, "
        f"{built.megabytes:g} MB",
        f"In one file: {built.single}" if built.single else "",
        *built.notes,
        reasons and f"Without a preview, since the file could not be read: {reasons}",
    )
    if serve:
        serve_page(page.parent, run, port, options["index"], open_page=open_page, quiet=as_json)
    elif open_page:
        click.launch(page.as_uri())
    elif not as_json:
        say(
            f"Next: open {page.as_uri()} in a browser, or seehear report {run} --serve --open to "
            f"name clusters"
        )


def serve_page(
    folder: Path, run: Path, port: int, index: Path | None, *, open_page: bool, quiet: bool
) -> None:
    """Serve until interrupted."""
    from seehear.reporting import serve

    server = serve(folder, run, port, index)
    try:
        if not quiet:
            say(
                f"Serving {server.address} to this machine alone; names go to "
                f"{run / 'names.json'}. Ctrl-C ends it.",
                flush=True,
            )
        if open_page:
            click.launch(server.address)
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


COMMANDS = (explore, report)
