"""A run works from any folder, and after it, its index and its videos were moved, together or
apart.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import seehear
from seehear.data.index import Index
from seehear.errors import IndexFileError, SeehearError
from seehear.library import export_labels, search
from seehear.runs.folder import Run


@pytest.fixture(scope="module")
def project(videos, tmp_path_factory) -> Path:
    """A folder with videos, an index and a run, all made by relative paths from inside it."""
    folder = tmp_path_factory.mktemp("project") / "here"
    (folder / "videos").mkdir(parents=True)
    for path in sorted(videos.rglob("*.mp4"))[:12]:
        shutil.copy2(path, folder / "videos")
    settings = {
        "compute.precision": "fp32",
        "compute.memory_format": "contiguous",
        "data.workers": 0,
        "rounds": 1,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        seehear.index("videos", "index", workers=1, progress=False)
        seehear.pretrain("index", "runs/mine", preset="debug", settings=settings)
    return folder


@pytest.fixture
def moved(project, tmp_path) -> Path:
    """All of it at another place, and nothing at the old one."""
    kept = project.with_name("kept")
    shutil.copytree(project, tmp_path / "there")
    project.rename(kept)
    yield tmp_path / "there"
    kept.rename(project)


def found_by(run: Path, query: Path, **how: object) -> list[str]:
    """The paths of the best hits."""
    return search(run, query, top=3, **how)["path"].to_pylist()


def test_a_run_works_from_any_folder(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, video = project / "runs" / "mine", next((project / "videos").iterdir())
    assert all(Path(path).is_file() for path in found_by(run, video))
    assert export_labels(run, "csv", tmp_path / "labels.csv")["segments"] == 12
    assert seehear.report(run, out=tmp_path / "report", previews=2, workers=1).notes == []
    monkeypatch.chdir(run)
    assert export_labels(".", "csv", tmp_path / "more.csv")["segments"] == 12
    seehear.pretrain("../../index", ".", resume=True)


def test_all_moved_together_is_found_again(moved, tmp_path):
    run, video = moved / "runs" / "mine", next((moved / "videos").iterdir())
    assert all(path.startswith(str(moved)) for path in found_by(run, video))
    export_labels(run, "csv", tmp_path / "labels.csv")
    built = seehear.report(run, out=tmp_path / "report", previews=2, workers=1)
    assert (built.notes, built.previews, built.previews_failed) == ([], 2, {})
    index = Index.open(moved / "index")
    index.check()
    again = seehear.index(moved / "videos", moved / "index", workers=1, progress=False)
    assert (again.added, again.changed, again.dropped) == (0, 0, 0)
    assert again.digest == index.digest
    seehear.pretrain(moved / "index", run, resume=True, settings={"rounds": 2})
    assert Path(Run.open(run).record["index"]["absolute"]) == moved / "index"


def test_a_run_that_moved_alone_and_one_whose_index_did(project, moved, tmp_path):
    shutil.move(moved / "runs" / "mine", tmp_path / "run")
    run, video = tmp_path / "run", next((moved / "videos").iterdir())
    with pytest.raises(SeehearError, match=r"is not there.*--index.*--in") as error:
        search(run, video)
    assert "\n" not in str(error.value)
    with pytest.raises(SeehearError, match="--index"):
        export_labels(run, "csv", tmp_path / "l.csv")
    assert "--index" in seehear.report(run, out=tmp_path / "report", previews=0).notes[0]
    assert len(found_by(run, video, gallery=moved / "index")) == 3
    export_labels(run, "csv", tmp_path / "l.csv", index=moved / "index")
    assert (
        seehear.report(run, index=moved / "index", out=tmp_path / "report", previews=0).notes == []
    )
    seehear.pretrain(moved / "index", run, resume=True)
    assert len(found_by(run, video)) == 3, (
        "the place of an index with which a run goes on is remembered"
    )


def test_videos_that_moved_alone_are_named_to_the_index(moved, tmp_path):
    index, digest = moved / "index", Index.open(moved / "index").digest
    (moved / "videos").rename(tmp_path / "clips")
    with pytest.raises(IndexFileError, match=rf"seehear index FOLDER --out {index}") as error:
        Index.open(index).check()
    assert "\n" not in str(error.value)
    again = seehear.index(tmp_path / "clips", index, workers=1, progress=False)
    assert (again.digest, again.added, again.changed, again.dropped) == (digest, 0, 0, 0)
    Index.open(index).check()
    assert all(
        path.startswith(str(tmp_path / "clips"))
        for path in found_by(
            moved / "runs" / "mine", tmp_path / "clips" / next((tmp_path / "clips").iterdir()).name
        )
    )


def test_another_index_is_not_taken_for_the_runs(moved, tmp_path):
    run = moved / "runs" / "mine"
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy2(next((moved / "videos").iterdir()), few)
    shutil.rmtree(moved / "index")
    seehear.index(few, moved / "index", workers=1, progress=False)
    for call in (
        lambda: search(run, next(few.iterdir())),
        lambda: export_labels(run, "csv", tmp_path / "l.csv"),
        lambda: export_labels(run, "csv", tmp_path / "l.csv", index=moved / "index"),
    ):
        with pytest.raises(SeehearError, match=r"another index \(12 rows then, 1 now\)"):
            call()
