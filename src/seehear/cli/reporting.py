"""What a run found, to look at: report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

import seehear
from seehear.cli.base import say


@click.command(short_help="Build a page to look at a run, listen to it, and name clusters.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--open", "open_page", is_flag=True, help="Show it in a browser.")
@click.option(
    "--serve",
    is_flag=True,
    help="Serve it to this machine alone, so that names are saved to the run.",
)
@click.option("--port", default=0, show_default=True, help="Of --serve; 0 takes a free one.")
@click.option(
    "--index",
    type=click.Path(path_type=Path),
    help="The run's index. [default: where the run found it]",
)
@click.option(
    "--classes", type=click.Path(path_type=Path), help="CSV: path,class. Shows what clusters hold."
)
@click.option("--map", "projection", default="pca", show_default=True, help="pca or umap.")
@click.option(
    "--previews",
    default=2000,
    show_default=True,
    help="So many segments, at most, with picture and sound.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The folder. [default: RUN/report]")
@click.option("--workers", type=click.IntRange(min=1), help="Processes. [default: one a core]")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def report(
    run: Path, open_page: bool, serve: bool, port: int, as_json: bool, **options: Any
) -> None:
    """Build the report of RUN: health, clusters with picture and sound, a map, and names for
    clusters.

    The page is RUN/report/index.html; it opens from disk and needs no network.
    """
    built = seehear.report(run, **options)
    page = Path(built.path).resolve()
    if as_json:
        say(json.dumps(built.to_dict()))
    else:
        say(
            f"{built.path}: {built.verdict}; {built.rows} segments, {built.previews} with "
            f"previews, "
            f"{built.megabytes:g} MB"
        )
        for note in built.notes:
            say(note)
        if built.previews_failed:
            reasons = ", ".join(
                f"{reason}: {count}" for reason, count in built.previews_failed.items()
            )
            say(f"Without a preview, since the file could not be read: {reasons}")
    if serve:
        serve_page(page.parent, run, port, open_page, quiet=as_json)
    elif open_page:
        click.launch(page.as_uri())
    elif not as_json:
        say(
            f"Next: open {page.as_uri()} in a browser, or seehear report {run} --serve --open to "
            f"name clusters"
        )


def serve_page(folder: Path, run: Path, port: int, open_page: bool, *, quiet: bool) -> None:
    """Serve until interrupted."""
    from seehear.reporting import serve

    server = serve(folder, run, port)
    try:
        if not quiet:
            where = (
                f"Serving {server.address} to this machine alone; names go to "
                f"{run / 'names.json'}. Ctrl-C ends it."
            )
            say(where, flush=True)
        if open_page:
            click.launch(server.address)
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


COMMANDS = (report,)
