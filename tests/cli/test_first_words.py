"""What a newcomer types first, and a little wrong: each answer is one line that says what to do."""

from __future__ import annotations

import json
import os
import shutil
import wave
from pathlib import Path

import pytest

import seehear
from command_here import command
from seehear.cli.evaluating import show_accuracy
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
        ("unpack v.tar --out o", "v.tar does not exist. Name tar or Parquet files, or folders."),
        ("unpack readme.txt --out o", "readme.txt is neither: unpack reads files that end in .tar"),
        ("explore v", "v does not exist."),
        ("explore", "Missing argument 'VIDEOS...'. See `seehear explore --help`."),
        ("pretrain x --out r --resume", "r does not exist. To begin, leave out --resume."),
        ("index . --out i --segments s.csv", "s.csv does not exist. Put the list there"),
        ("index . --out i --ray-address h:1", "--ray-address goes with --engine ray."),
        ("synth s --videos 0", "Error: --videos is 0. It must lie between 12 and"),
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


def test_what_was_left_out_is_said_by_reason_with_examples(videos, monkeypatch, capsys):
    Path("v").mkdir()
    shutil.copy(next(videos.rglob("*.mp4")), "v/good.mp4")
    for number in range(5):
        Path(f"v/{number}.mp4").write_text("no video" * number)
    with wave.open("v/song.wav", "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    assert command(monkeypatch, "index", "v", "--out", "i") == 0
    assert "Which: seehear rejected i\n" in capsys.readouterr().out
    assert command(monkeypatch, "rejected", "i") == 0
    said = capsys.readouterr().out.splitlines()
    invalid = "Invalid data found when processing input"
    assert said == [
        "not a media file: 4 files. The content is of no known format with moving pictures or "
        "sound, whatever the name says.",
        *(f"    {number}.mp4 ({invalid})" for number in (1, 2, 3)),
        "    and 1 more: --reason 'not a media file'",
        "empty file: 1 file. The file has no bytes.",
        "    0.mp4",
        "no video stream: 1 file. There is no video stream (a cover picture is none).",
        "    song.wav",
    ]
    assert command(monkeypatch, "rejected", "i", "--reason", "Not a media file", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"not a media file": [f"{n}.mp4 ({invalid})" for n in (1, 2, 3, 4)]}
    assert command(monkeypatch, "rejected", "i", "--reason", "silent") == 2
    assert "Reasons here: empty file, not a media file, no video" in capsys.readouterr().err


def test_what_was_left_out_is_said_where_nothing_is_left(index_folder, monkeypatch, capsys):
    assert command(monkeypatch, "rejected", index_folder) == 0
    assert capsys.readouterr().out == f"Nothing was left out of {index_folder}.\n"
    Path("a.mp4").write_text("no video")
    assert command(monkeypatch, "index", "a.mp4", "--out", "i") == 2
    capsys.readouterr()
    assert command(monkeypatch, "rejected", "i") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("    a.mp4 (")
    assert command(monkeypatch, "rejected", "nowhere") == 2
    assert capsys.readouterr().err.startswith("Error: nowhere does not exist. Make one: ")


def test_an_index_is_updated_with_its_own_settings(videos, monkeypatch, capsys):
    found = sorted(videos.rglob("*.mp4"))
    Path("v").mkdir()
    shutil.copy(found[0], "v/0.mp4")
    words = ("index", "v", "--out", "i")
    assert command(monkeypatch, *words, "--segment-seconds", 1, "--min-seconds", 0.5) == 0
    shutil.copy(found[1], "v/1.mp4")
    assert command(monkeypatch, *words) == 0
    assert "i: 4 segments of 2 videos" in capsys.readouterr().out
    assert command(monkeypatch, *words, "--segment-seconds", 2) == 2
    assert "was made with --segment-seconds = 1, now it is 2" in capsys.readouterr().err


def test_a_subset_of_more_than_there_are_says_so(finished_run, monkeypatch, capsys):
    words = ("--size", "1000", "--out", "all.csv")
    assert command(monkeypatch, "subset", finished_run, *words) == 0
    assert "segments, all that there are, of " in capsys.readouterr().out
    words = ("--size", "5", "--out", "five.csv")
    assert command(monkeypatch, "subset", finished_run, *words) == 0
    assert "five.csv: 5 segments of " in capsys.readouterr().out


def test_accuracy_from_few_examples_has_its_unit(capsys):
    result = {"values": {"video": {"top1": 0.5}}, "low_shot": {"video": {}}, "majority": None}
    result["low_shot"]["video"] = {"1": {"mean": 0.25}, "5": {"mean": 0.4}}
    show_accuracy(result | {"n_test": 4, "chance": 0.25, "num_classes": 4})
    said = capsys.readouterr().out
    assert "video, top-1, %: 25.0 with 1 example, 40.0 with 5 examples a class\n" in said
