"""How is the report of a run put together? Reads the run's files, cuts previews, writes a folder
whole or not at all.

RUN/report/index.html, *.css, *.js    the page
RUN/report/data/*.js                  its data, loaded when it is needed
RUN/report/previews/                  moving pictures, stills and spectrograms (hard links to
                                      RUN/previews)
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from seehear.data.index import Index
from seehear.errors import SettingsError
from seehear.evaluation.clusters import agreement
from seehear.machine.console import Console
from seehear.machine.distributed import cores
from seehear.machine.files import now, whole_folder
from seehear.machine.locks import one_writer
from seehear.machine.outputs import REPORT, check_file, check_folder
from seehear.machine.reading import open_features, read_labels, readable
from seehear.method.agreement import most_agreed
from seehear.reporting.cards import (
    LISTED_ROWS,
    Centred,
    Grouping,
    cards_of,
    listed_rows,
    read_centroids,
    read_groupings,
    space_in,
)
from seehear.reporting.glossary import words_of
from seehear.reporting.health import health
from seehear.reporting.matrix import meeting, standing_rows
from seehear.reporting.previews import Previews, choose, link, make
from seehear.reporting.projection import check_projection, choose_points, project, to_uint16
from seehear.reporting.scripts import packed, write_data
from seehear.reporting.segments import Rows, find_classes, find_index
from seehear.reporting.single import is_single, write_single
from seehear.reporting.vectors import vectors
from seehear.runs.folder import Run
from seehear.runs.names import as_json, read_names, read_ticks

PAGE = Path(__file__).parent / "page"
MOST_ROUNDS = 12  # whose labels the map can show


@dataclass(frozen=True)
class Report:
    """A report that was built: where it is, the verdict, and how much of the run it shows."""

    path: str  # of index.html
    verdict: str
    rows: int
    previews: int
    previews_cut: int  # of them, those that were not there already
    previews_failed: dict[str, int]  # reason -> how many
    megabytes: float
    notes: list[str]  # what is missing, and why
    single: str | None = None  # the page as one file

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def report(
    run: str | Path,
    *,
    index: str | Path | None = None,
    classes: str | Path | None = None,
    projection: str = "pca",
    previews: int = 2000,
    out: str | Path | None = None,
    single_file: bool = False,
    workers: int | None = None,
    console: Console | None = None,
) -> Report:
    """Build the report of a run: a folder with a page that opens from disk, without a network.

    Args:
        run: the run's folder; one that has not finished gets a report of its health alone.
        index: the index that it was trained on; by default where the run found it.
        classes: a CSV file with the columns `path` and `class`, to show what clusters hold.
        projection: of the map: "pca", or "umap" where that is installed.
        previews: at most so many segments get moving pictures with sound.
        out: the folder to write; by default `report` in the run's. What is no report stays.
        single_file: also write all of it as one file, beside the folder, with .html after its name.
        workers: processes that cut previews; by default one for each core.
        console: where progress is shown; stderr by default.
    Returns:
        Where it is, the verdict, and counts.
    Raises:
        UsageError: no run, an index or classes that do not fit, or something else at `out`.
    """
    opened = Run.open(Path(run))
    check_projection(projection)
    workers = cores() if workers is None else workers
    for name, value, least in (("previews", previews, 0), ("workers", workers, 1)):
        if value < least:
            raise SettingsError(f"{name} is {value}. It must be at least {least}.")
    folder = Path(out) if out is not None else opened.path / "report"
    check_folder(folder, REPORT, overwrite=True, inputs=[opened.path])
    single = folder.with_name(f"{folder.name}.html") if single_file else None
    if single is not None:
        check_file(single, is_single, "report", overwrite=True)
    found, note = find_index(opened, index)
    known = find_classes(found, classes)
    with console or Console() as shown:
        state = health(opened)
        groupings = read_groupings(opened.path) if state["finished"] else []
        cut = Previews()
        if groupings and found is not None and previews:
            chosen = chosen_rows(groupings, previews)
            cut = make(found, chosen, opened.path / "previews", workers, shown)
        rows = Rows(found, groupings, known[1] if known else None, cut)
        classes_of = list(known[0].names) if known else None
        data = head(opened, found, note) | {"health": state, "classes": classes_of}
        with one_writer(folder):
            megabytes = write_report(folder, opened, rows, data, projection, shown)
        if single is not None:
            write_single(folder, single)
    return Report(
        path=str(folder / "index.html"),
        verdict=state["verdict"]["kind"],
        rows=int(opened.field("index", "rows")),
        previews=len(cut.keys),
        previews_cut=cut.cut,
        previews_failed=cut.reasons,
        megabytes=megabytes,
        notes=data["notes"],
        single=None if single is None else str(single),
    )


def write_report(
    folder: Path, run: Run, rows: Rows, data: dict[str, Any], projection: str, console: Console
) -> float:
    """Write the page, its data (adding to `data`) and previews, whole; returns megabytes."""
    with whole_folder(folder, replaces=REPORT) as temporary:
        for file in sorted(PAGE.iterdir()):
            name = "index.html" if file.name == "page.html" else file.name
            shutil.copyfile(file, temporary / name)
        # A server answers this file with another: from disk, nothing can be saved.
        write_data(temporary / "data", "session", None)
        keys = list(rows.previews.keys.values())
        total = link(keys, run.path / "previews", temporary / "previews")
        if rows.groupings:
            total += write_clusters(temporary / "data", data, rows, console)
            total += write_map(temporary / "data", data, rows, run, projection)
        data["sampling"] = sampling(rows, data, total)
        total += write_data(temporary / "data", "report", data)
    return round(total / 1e6, 1)


def head(run: Run, index: Index | None, note: str) -> dict[str, Any]:
    """What the head of the page says."""
    settings = run.settings()
    about = {
        "name": run.path.resolve().name,
        "made": run.record.get("encoder") or settings.variant.upper(),
        "rounds": settings.rounds,
        "centre": settings.cluster.centre,
        "rows": run.field("index", "rows"),
        "videos": None if index is None else index.num_videos,
        "hours": None if index is None else round(float(index.seconds.sum()) / 3600, 2),
        "created": run.field("created"),
        "digest": run.field("index", "digest"),
    }
    return {
        "format": 1,
        "seehear": metadata.version("seehear"),
        "created": now(),
        "run": about,
        "names": as_json(read_names(run.path), read_ticks(run.path)),
        "notes": [note] if note else [],
        "glossary": words_of("page"),
    }


def chosen_rows(groupings: Sequence[Grouping], budget: int) -> np.ndarray:
    """The rows that get a preview."""
    pairs = pairs_of(groupings)
    cells = np.concatenate(
        [np.zeros(0, np.int64), *(standing_rows(*pair, count=budget) for pair in pairs)]
    )
    return choose({g.name: g.rank_N for g in groupings}, cells, budget)


def pairs_of(groupings: Sequence[Grouping]) -> list[tuple[Grouping, Grouping]]:
    """Clusterings of video and of audio with the same number of clusters asked for."""
    by_name = {g.name: g for g in groupings}
    return [
        (g, by_name[twin])
        for g in groupings
        if g.space == "video" and (twin := g.name.replace("video", "audio", 1)) in by_name
    ]


def others_of(grouping: Grouping, groupings: Sequence[Grouping]) -> list[Grouping]:
    """The clusterings that one is compared with: the others of the same number of clusters."""
    suffix = grouping.name.removeprefix(grouping.space)
    wanted = {f"{space}{suffix}" for space in ("video", "audio")} - {grouping.name}
    return [g for g in groupings if g.name in wanted]


def write_clusters(folder: Path, data: dict[str, Any], rows: Rows, console: Console) -> int:
    """Cards, matrix, and a file of members for each cluster; returns bytes written."""
    total, spaces = 0, []
    num_classes = len(data["classes"] or [])
    for grouping in rows.groupings:
        others = others_of(grouping, rows.groupings)
        cards = cards_of(grouping, others, rows.class_N, num_classes)
        shown = np.array(
            sorted({row for card in cards["cards"] for row in card["nearest"]}), np.int64
        )
        cards["segments"] = rows.columns(shown, grouping)
        if rows.class_N is not None:
            cards["agreement"] = (
                agreement(grouping.labels_N, rows.class_N) if (rows.class_N >= 0).any() else None
            )
        members = listed_rows(grouping, others[0] if others else None)
        cards["listed"] = len(members)
        bounds = np.searchsorted(grouping.labels_N[members], np.arange(grouping.num_clusters + 1))
        count = console.watch(f"{grouping.name} clusters", grouping.num_clusters)
        for k, (a, b) in enumerate(pairwise(bounds)):
            if b > a:
                columns = rows.columns(members[a:b], grouping)
                total += write_data(folder, f"members/{grouping.name}-{k}", columns)
            count(k + 1)
        spaces.append(cards)
    data["spaces"] = spaces
    meetings = [meeting(*pair) for pair in pairs_of(rows.groupings)]
    kept = ("video", "audio", "ami")
    data["meetings"] = [{key: m[key] for key in kept} for m in meetings]
    data["opening"] = most_agreed({g.name: g.labels_N for g in rows.groupings})
    return total + write_data(folder, "meetings", meetings)


def write_map(folder: Path, data: dict[str, Any], rows: Rows, run: Run, projection: str) -> int:
    """Points of the map, what is known of each, and labels by round; returns bytes written."""
    readable_N = np.any([g.labels_N >= 0 for g in rows.groupings], axis=0)
    points = choose_points(readable_N, np.array(sorted(rows.previews.keys), np.int64))
    positions, explained = {}, {}
    tensors = read_centroids(run.path)
    spaces = {g.name: space_in(tensors, g.name) for g in rows.groupings}
    centred = Centred(run.path, open_features(run.path), spaces)
    for modality, features in centred(points).items():
        xy, share = project(features.numpy(), projection)
        positions[modality] = packed(to_uint16(xy))
        explained[modality] = None if share is None else round(share, 4)
    columns = rows.columns(points)
    for name, labels in columns["labels"].items():
        columns["labels"][name] = packed(np.array(labels, np.int32))
    columns["row"] = packed(points.astype(np.int32))
    if "class" in columns:
        columns["class"] = packed(np.array(columns["class"], np.int32))
    known = {"positions": positions, "segments": columns, "vectors": vectors(run.path, points)}
    total = write_data(folder, "map", known)
    rounds = shown_rounds(run)
    for number in rounds:
        total += write_data(folder, f"rounds/{number}", round_labels(run, number, points))
    data["map"] = {
        "projection": projection,
        "points": len(points),
        "explained": explained,
        "rounds": rounds,
    }
    return total


def shown_rounds(run: Run) -> list[int]:
    """The rounds whose labels the map can show: all, or evenly spread ones, first and last too."""
    rounds = [n for n in run.rounds() if (run.round_path(n) / "labels.parquet").exists()]
    if len(rounds) <= MOST_ROUNDS:
        return rounds
    return [rounds[i] for i in np.linspace(0, len(rounds) - 1, MOST_ROUNDS).round().astype(int)]


def round_labels(run: Run, number: int, points: np.ndarray) -> dict[str, str]:
    """The labels of some rows in one round: clustering -> packed int32."""
    path = run.round_path(number) / "labels.parquet"
    advice = "Move it away to see the others."
    with readable(path, advice):
        return {
            name: packed(labels_N[points]) for name, labels_N in read_labels(path, advice).items()
        }


def sampling(rows: Rows, data: dict[str, Any], total: int) -> dict[str, Any]:
    """How much of the run the page shows."""
    return {
        "previews": len(rows.previews.keys),
        "failed": rows.previews.reasons,
        "listed": {space["name"]: space["listed"] for space in data.get("spaces", [])},
        "listed_most": LISTED_ROWS,
        "labelled": {g.name: int((g.labels_N >= 0).sum()) for g in rows.groupings},
        "points": data["map"]["points"] if "map" in data else 0,
        "megabytes": round(total / 1e6, 1),
    }
