"""What a newcomer types first, and a little wrong: each answer is one line that says what to do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import seehear
from command_here import command
from seehear.runs.folder import Run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without runs, and with a file that is no video."""
    monkeypatch.chdir(tmp_path)
    Path("readme.txt").write_text("no video")


@pytest.mark.parametrize(
    ("words", "begins"), [((), "Usage: seehear "), (("weights",), "Usage: seehear weights")]
)
def test_nothing_typed_is_answered_with_help(words, begins, monkeypatch, capsys):
    assert command(monkeypatch, *words) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(begins)
    assert "Commands:" in printed.out
    assert printed.err == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("pretrain x --out r --lr 0.1", "'--lr'. Did you mean '--train.lr'?"),
        ("pretrain x --out r --batch-size 8", "Did you mean '--train.batch_size'?"),
        ("index x --out", "'--out' requires an argument. See `seehear index --help`."),
        ("demo --seeds 0,,1", "'0,,1' must be whole numbers from 0 up"),
        ("evaluate r --data d --low-shot 4,,5", "'4,,5' must be whole numbers from 1 up"),
        ("pack x --out p --fps 0", "--fps is 0"),
        ("index readme.txt --out i --segment-seconds -1", "--segment-seconds is -1"),
        ("report r", "r does not exist. Make a run: seehear pretrain"),
        ("pretrain x --out r --config s.toml", "s.toml does not exist. `seehear settings` prints"),
        ("evaluate r --data d", "d does not exist."),
        ("evaluate r --data . --classes c.csv", "c.csv does not exist."),
        ("weights convert w.pt --out e", "w.pt does not exist."),
        ("index v --out i", "v does not exist."),
        ("search r --query q.wav", "r does not exist."),
        ("explore v", "v does not exist."),
        ("explore", "Missing argument 'VIDEOS...'. See `seehear explore --help`."),
        ("cluster x --out r", "Missing option '--encoder'. See `seehear cluster --help`."),
        ("cluster x --out r --encoder e", "e has no trained encoders: there is no such run"),
        ("cluster x --out r --encoder e --num-clusters 1", "'1' must be whole numbers from 2 up"),
        ("search . --top 3", "Give one of --query FILE, --like ROWS and --cluster NAME."),
        ("search . --like 1 --query readme.txt", "Give one of --query"),
        ("search . --like 1 --exact", "--use and --exact belong to --query."),
        ("search . --like 1,x", "'1,x' must be whole numbers from 0 up"),
        ("subset r --size 5 --out s.csv", "r does not exist. Make a run: seehear pretrain"),
        ("subset . --out s.csv", "Missing option '--size'"),
        ("subset . --size 5 --out s.csv --without d.parquet", "d.parquet does not exist."),
        ("duplicates r --out d.csv", "r does not exist. Name a run, an index, or a file of"),
        ("duplicates . --out d.csv", "is no run"),
        ("duplicates readme.txt --out d.csv", "readme.txt"),
        ("duplicates x --out d.csv --same smell", "same is 'smell'. It must be both, picture,"),
    ],
)
def test_a_mistake_is_one_line_with_what_to_type(words, says, index_folder, monkeypatch, capsys):
    typed = words.replace(" x ", f" {index_folder} ").split(" ")
    assert command(monkeypatch, *typed) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert says in error


def test_words_may_be_in_capitals_and_debug_says_that_it_learns_nothing(
    index_folder, monkeypatch, capsys
):
    words = "--out r --preset DEBUG --variant SDC --rounds 1 --compute.precision FP32 --quiet"
    assert command(monkeypatch, "pretrain", index_folder, *words.split()) == 0
    assert Run.open(Path("r")).settings().variant == "sdc"
    assert capsys.readouterr().out.count("it learns nothing") == 1


def test_labels_are_not_written_to_a_spreadsheet(finished_run, monkeypatch, capsys):
    assert command(monkeypatch, "assign", finished_run, "readme.txt", "--out", "x.xlsx") == 2
    assert "x.xlsx does not end in .parquet or .csv" in capsys.readouterr().err
    assert not Path("x.xlsx").exists()


@pytest.mark.parametrize("name", ["assign", "embed"])
def test_what_cannot_be_read_at_all_is_no_success(name, finished_run, monkeypatch, capsys):
    words = ("readme.txt", "--out", "l.parquet", "--quiet")
    assert command(monkeypatch, name, finished_run, *words) == 1
    assert capsys.readouterr().err == (
        "Error: Nothing could be read: 1 not a media file. l.parquet says which.\n"
    )


def test_a_search_where_nothing_can_be_read_says_so(finished_run, videos, monkeypatch, capsys):
    found = sorted(videos.rglob("*.mp4"))
    Path("v").mkdir()
    for number in range(2):
        shutil.copy(found[number], f"v/{number}.mp4")
    seehear.index("v", "i", workers=1, progress=False)
    for path in Path("v").iterdir():  # as long and as old as it was, and no video any more
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    words = ("--query", found[5], "--in", "i", "--device", "cpu")
    assert command(monkeypatch, "search", finished_run, *words) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("Error: There is nothing to find in i: none of its segments could be")
