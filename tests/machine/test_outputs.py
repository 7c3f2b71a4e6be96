"""No command removes or replaces what seehear did not write, whatever stands at its --out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import seehear
from seehear.errors import SeehearError
from seehear.evaluation import TASKS
from seehear.library import assign_to_file, embed_to_file, export_labels
from seehear.machine import outputs

THESIS = "thesis/years of work.txt"


@dataclass(frozen=True)
class Command:
    """A command that writes: what it makes, and how it is called with an --out."""

    folder: bool
    call: Callable[..., object]
    replaces: bool = True


@pytest.fixture(scope="module")
def commands(finished_run, index_folder, videos, tmp_path_factory) -> dict[str, Command]:
    """Every command that takes --out or replaces a folder, on one finished run."""
    one = tmp_path_factory.mktemp("one")
    for path in sorted((videos).rglob("*.mp4"))[:4]:
        shutil.copy2(path, one)
    features = one.parent / "features.parquet"
    embed_to_file(finished_run, one, features, workers=1)
    few = one.parent / "few"
    seehear.index(one, few, workers=1, progress=False)
    csv, run = videos / "classes.csv", finished_run
    quick = {"data.workers": 0, "compute.precision": "fp32", "compute.memory_format": "contiguous"}

    def measure(out, overwrite):
        seehear.evaluate(
            run, task="features", data=index_folder, classes=csv, out=out, overwrite=overwrite
        )

    def pretrain(out, overwrite):
        seehear.pretrain(
            index_folder, out, preset="debug", settings=quick | {"rounds": 1}, overwrite=overwrite
        )

    def labels(to):
        return lambda out, overwrite: export_labels(run, to, out, overwrite=overwrite)

    return {
        "embed": Command(False, lambda o, w: embed_to_file(run, one, o, overwrite=w, workers=1)),
        "assign": Command(False, lambda o, w: assign_to_file(run, features, o, overwrite=w)),
        "duplicates": Command(
            False, lambda o, w: seehear.duplicates(few, o, overwrite=w, workers=1)
        ),
        "subset": Command(True, lambda o, w: seehear.subset(run, 5, o, overwrite=w)),
        "export-labels csv": Command(False, labels("csv")),
        "export-labels fiftyone": Command(True, labels("fiftyone")),
        "export-labels label-studio": Command(True, labels("label-studio")),
        "export": Command(True, lambda o, w: seehear.export(run, "safetensors", o, overwrite=w)),
        "features": Command(True, measure),
        "report": Command(True, lambda o, w: seehear.report(run, out=o, previews=0, workers=1)),
        "index": Command(
            True, lambda o, w: seehear.index(one, o, overwrite=w, workers=1, progress=False)
        ),
        "pack": Command(
            True, lambda o, w: seehear.pack(few, o, preset="debug", overwrite=w, workers=1)
        ),
        "synth": Command(
            True,
            lambda o, w: seehear.synth(o, videos=2, classes=2, workers=1, progress=False),
            False,
        ),
        "pretrain": Command(True, pretrain),
    }


NAMES = [
    "embed",
    "assign",
    "duplicates",
    "subset",
    "export-labels csv",
    "export-labels fiftyone",
    "export-labels label-studio",
    "export",
    "features",
    "report",
    "index",
    "pack",
    "synth",
    "pretrain",
]


def contents(folder: Path) -> dict[str, object]:
    """All that is in a folder: what kind each thing is, and what it holds."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        kind = (
            "link"
            if path.is_symlink()
            else "file"
            if path.is_file()
            else "folder"
            if path.is_dir()
            else "special"
        )
        held = path.readlink() if kind == "link" else path.read_bytes() if kind == "file" else None
        found[str(path.relative_to(folder))] = (kind, held)
    return found


def refused(
    command: Command, out: Path, within: Path, says: str = "", *, overwrite: bool = True
) -> str:
    """The message of a command that must fail in one line and touch nothing."""
    before = contents(within)
    with pytest.raises(SeehearError) as error:
        command.call(out, overwrite)
    message = str(error.value)
    assert "\n" not in message
    assert says in message, message
    assert error.value.exit_code == 2
    assert contents(within) == before
    return message


@pytest.mark.parametrize("name", NAMES)
def test_what_others_wrote_is_never_replaced(commands, name, tmp_path):
    command = commands[name]
    out = tmp_path / "out"
    (out / "thesis").mkdir(parents=True)
    (out / THESIS).write_text("x")
    refused(command, out, tmp_path, str(out))
    for marker in (
        "run.json",
        "index.json",
        "export.json",
        "features.json",
        "finetune.json",
        "synth.json",
        "plan.json",
    ):
        (out / marker).write_text('{"name": "of another program", "version": 1}')
    (out / "index.html").write_text("<h1>My home page</h1>")
    (out / "data").mkdir()
    (out / "data" / "report.js").write_text("console.log('mine')")
    for shard in ("shard-00000.tar", "shard-00001.tar"):
        (out / shard).write_text("the shards of another program")
    refused(command, out, tmp_path, str(out))
    file = tmp_path / "out.parquet"
    file.write_text("a,b\n1,2\n")
    refused(command, file, tmp_path, str(file))


@pytest.mark.parametrize("name", NAMES)
def test_devices_pipes_and_links_that_lead_nowhere_good(commands, name, tmp_path):
    command = commands[name]
    os.mkfifo(tmp_path / "pipe")
    refused(command, tmp_path / "pipe", tmp_path)
    refused(command, Path("/dev/null"), tmp_path)
    assert Path("/dev/null").is_char_device()
    (tmp_path / "precious").write_text("x")
    refused(command, tmp_path / "precious" / "out", tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "photo.jpg").write_text("x")
    (tmp_path / "link").symlink_to("folder")
    refused(command, tmp_path / "link", tmp_path)
    (tmp_path / "to-file").symlink_to("precious")
    refused(command, tmp_path / "to-file", tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    refused(command, tmp_path / "loop", tmp_path, "leads to itself")


@pytest.mark.parametrize("name", NAMES)
def test_the_root_the_home_folder_and_one_that_holds_the_input_are_refused(
    commands, name, tmp_path, monkeypatch, videos
):
    command = commands[name]
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    refused(command, home, tmp_path, str(home))
    refused(command, Path("/"), tmp_path)
    refused(command, videos.parent, tmp_path)
    monkeypatch.chdir(tmp_path)
    refused(command, Path(), tmp_path)
    refused(command, Path(".."), tmp_path)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("synth", "pack", "pretrain")])
def test_its_own_is_replaced_through_a_link_but_not_with_a_note_in_it(commands, name, tmp_path):
    command = commands[name]
    real = tmp_path / "disk" / "real"
    real.parent.mkdir()
    (tmp_path / "link").symlink_to(real)
    command.call(tmp_path / "link", False)
    first = contents(real) if command.folder else real.read_bytes()
    if name not in ("report", "index"):
        refused(command, tmp_path / "link", tmp_path, "exists", overwrite=False)
    command.call(tmp_path / "link", True)
    assert (tmp_path / "link").is_symlink()
    if command.folder:
        assert contents(real).keys() == first.keys()
        (real / ".DS_Store").write_text("of the system")
        (real / "note.txt").write_text("mine")
        if name == "index":  # replaces its files one by one, and leaves others alone
            command.call(real, True)
            assert (real / "note.txt").read_text() == "mine"
        else:
            refused(command, real, tmp_path, "note.txt")
    assert not [p for p in (tmp_path / "disk").iterdir() if p.name != "real"], (
        "nothing is left behind"
    )


@pytest.mark.parametrize(
    "where",
    [
        "note.txt",
        "rounds/note.txt",
        "rounds/000/note.txt",
        "results/mine.json",
        "report/note.txt",
        "x/y",
        "library/x",
    ],
)
def test_a_run_with_something_of_others_anywhere_is_not_overwritten(
    commands, finished_run, tmp_path, where
):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    (run / "report").mkdir(exist_ok=True)
    assert not list(outputs.foreign(run, outputs.RUN))
    (run / where).parent.mkdir(exist_ok=True)
    (run / where).write_text("mine")
    refused(commands["pretrain"], run, tmp_path, where if where != "x/y" else "x")


def test_all_that_a_run_comes_to_hold_is_known_as_its_own(shown, finished_run):
    """Fails for a file that is written to runs and has no name in `outputs`."""
    for run in (finished_run, *(path.parent for path in shown.rglob("run.json"))):
        assert not list(outputs.foreign(run, outputs.RUN))
    assert set(outputs.TASKS.split("|")) == set(TASKS)


def test_features_and_labels_are_not_taken_for_each_other(commands, tmp_path):
    commands["embed"].call(tmp_path / "f.parquet", False)
    commands["assign"].call(tmp_path / "l.parquet", False)
    refused(commands["assign"], tmp_path / "f.parquet", tmp_path, "f.parquet")
    refused(commands["embed"], tmp_path / "l.parquet", tmp_path, "l.parquet")


def test_what_a_run_needs_itself_is_no_place_for_others(commands, finished_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    for name in ("export", "features", "export-labels fiftyone", "report"):
        for own in ("features", "encoders", "clusters", "rounds"):
            refused(commands[name], run / own, tmp_path, own)


def test_parts_of_others_are_in_the_way_and_stay(commands, tmp_path):
    parts = tmp_path / ".f.parquet.parts"
    parts.mkdir()
    (parts / "letter.txt").write_text("x")
    refused(commands["embed"], tmp_path / "f.parquet", tmp_path, "letter.txt")


def test_a_result_of_another_program_keeps_its_name(finished_run, index_folder, videos, tmp_path):
    name = "clusters-index.json"
    (tmp_path / name).write_text('{"mine": true}')
    given = {
        "task": "clusters",
        "data": index_folder,
        "classes": videos / "classes.csv",
        "results": tmp_path,
    }
    written = [seehear.evaluate(finished_run, **given)["written"] for _ in range(2)]
    assert json.loads((tmp_path / name).read_text()) == {"mine": True}
    assert written[0] == written[1] != str(tmp_path / name)


def test_packing_replaces_the_shards_that_its_index_lists(commands, tmp_path):
    out = tmp_path / "packed"
    commands["pack"].call(out, False)
    (out / "shard-00042.tar").write_text("of another program")
    refused(commands["pack"], out, tmp_path, "shard-00042.tar")
    (out / "shard-00042.tar").unlink()
    commands["pack"].call(out, True)
