"""The commands of a trained run as a person and a machine use them, and what a terminal gets to
see.
"""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from command_here import command, run
from seehear.cli.using import open_file
from seehear.errors import printable
from seehear.machine import console as progress


@pytest.fixture(scope="module")
def features(finished_run: Path, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of features made by the command, of a folder with a name that does harm to a careless
    terminal.
    """
    folder = tmp_path_factory.mktemp("using") / "v"
    folder.mkdir()
    source = sorted(videos.rglob("*.mp4"))
    for i, name in enumerate(["-a.mp4", "b\x1b[31m\n[bold].mp4", "c.mp4"]):
        shutil.copy(source[i], folder / name)
    out = folder.parent / "f.parquet"
    done = run("embed", finished_run, folder, "--out", out, "--workers", 1, "--device", "cpu")
    assert "3 segments (3 with video, 3 with audio)" in done.stdout
    assert f"seehear assign {finished_run} {out}" in done.stdout
    assert done.stderr == ""
    return out


@pytest.mark.thorough
def test_results_are_json_for_machines(finished_run, features, tmp_path):
    summary = json.loads(
        run("assign", finished_run, features, "--out", tmp_path / "l.parquet", "--json").stdout
    )
    assert summary["rows"] == 3
    assert summary["far"].keys() == {"video", "audio", "joint"}
    assert len(pq.read_table(tmp_path / "l.parquet")) == 3
    query = features.parent / "v" / "c.mp4"
    hits = json.loads(
        run("search", finished_run, "--query", query, "--in", features, "--json").stdout
    )
    assert hits[0]["path"] == str(query)
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    exported = run(
        "export-labels", finished_run, "--to", "csv", "--out", tmp_path / "l.csv", "--json"
    )
    assert json.loads(exported.stdout)["segments"] == 40


@pytest.mark.thorough
def test_names_of_files_move_nothing_on_a_terminal(finished_run, features):
    query = features.parent / "v" / "c.mp4"
    shown = run("search", finished_run, "--query", query, "--in", features, "--top", 3).stdout
    assert "\x1b" not in shown
    assert r"b\x1b[31m\n[bold].mp4" in shown
    assert "-a.mp4" in shown


def test_control_characters_and_directional_marks_are_written_out():
    assert printable("a\x1b[2J\r\n‮b é 雨") == r"a\x1b[2J\r\n\u202eb é 雨"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("assign", "{run}", "nowhere", "--out", "l.csv"), r"nowhere does not exist"),
        (
            ("assign", "{run}", "{videos}", "--out", "l.json"),
            r"l\.json does not end in \.parquet or \.csv",
        ),
        (("embed", "{run}", "{videos}", "--out", "f.csv"), r"f\.csv does not end in \.parquet"),
        (
            ("embed", "nowhere", "{videos}", "--out", "f.parquet"),
            r"nowhere has no trained encoders|nowhere is no run",
        ),
        (("search", "{run}", "--query", "no\nne.wav"), r"no\\nne\.wav does not exist"),
        (("search", "{run}", "--query", "q", "--by", "smell"), r"Invalid value for '--by'"),
        (("search", "{run}", "--query", "q", "--unlike", "3"), r"--unlike belongs to --like"),
        (
            ("search", "{run}", "--cluster", "video:0", "--unlike", "3"),
            r"--unlike belongs to --like",
        ),
        (
            ("export-labels", "{run}", "--to", "parquet", "--out", "l.csv"),
            r"l\.csv does not end in \.parquet",
        ),
        (
            ("subset", "{run}", "--size", "3", "--out", "s.xlsx"),
            r"s\.xlsx does not end in \.csv or",
        ),
        (("export-labels", "{run}", "--to", "excel", "--out", "x"), r"no format 'excel'"),
        (("export-labels", "{run}", "--to", "csv", "--out", "."), r"is a folder"),
        (("evaluate", "{run}", "--table", "--json"), r"--table is Markdown"),
        (("completion", "tcsh"), r"Invalid value"),
    ],
)
def test_wrong_use_is_told_and_leaves_nothing_behind(
    finished_run, videos, tmp_path, monkeypatch, capsys, arguments, says
):
    monkeypatch.chdir(tmp_path)
    assert (
        command(monkeypatch, *(a.format(run=finished_run, videos=videos) for a in arguments)) == 2
    )
    told = capsys.readouterr().err
    assert told.startswith("Error: ")
    assert re.search(says, told), told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # nobody waits for the player
def test_open_hands_the_name_to_the_player_and_to_no_shell(tmp_path, videos, monkeypatch):
    """The player is a program of this test, which writes down what it is given."""
    player = tmp_path / "bin" / "xdg-open"
    player.parent.mkdir()
    player.write_text(
        f'#!/bin/sh\nprintf "%s" "$1" > "{tmp_path}/opened.part"\nmv "{tmp_path}/opened.part" '
        f'"{tmp_path}/opened"\n'
    )
    player.chmod(0o755)
    hostile = tmp_path / "v; touch hacked $(touch hacked)"
    hostile.mkdir()
    shutil.copy(next(videos.rglob("*.mp4")), hostile / "a.mp4")
    monkeypatch.setenv("PATH", f"{player.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    open_file(hostile / "a.mp4")
    for _ in range(1000):
        if (tmp_path / "opened").exists():
            break
        subprocess.run(["sleep", "0.01"], check=True)
    assert (tmp_path / "opened").read_text() == str(hostile / "a.mp4")
    assert not list(tmp_path.rglob("hacked"))


def on_a_terminal(command: list[str], **environment: str) -> str:
    """What a program shows on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    base = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    env = {**base, "TERM": "xterm-256color", "COLUMNS": "100", **environment}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0, shown.decode()
    return shown.decode()


def test_no_color_is_respected():
    code = (
        "from seehear.machine.console import Console\n"
        "with Console() as console:\n"
        "    count = console.watch('counting', 40)\n"
        "    for i in range(41): count(i)\n"
        "    console.say('done')\n"
        "    console._progress.refresh()"
    )
    program = [sys.executable, "-c", code]
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
    assert colour.search(on_a_terminal(program))
    plain = on_a_terminal(program, NO_COLOR="1")
    assert "counting" in plain
    assert not colour.search(plain)


def test_in_a_log_a_long_stage_says_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    with progress.Console() as console:
        count = console.watch("embedding", 1000)
        for done in (200, 400):  # what an earlier call has done tells nothing of the speed
            count(done)
    line = capsys.readouterr().err
    assert re.fullmatch(r"embedding: 400/1000, [\d.]+/(s|min), \d+ s left\n", line)
    with progress.Console(quiet=True) as console:
        count = console.watch("embedding", 2)
        count(1)
        count(2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("speed", "said"), [(1234.5, "1234/s"), (3.21, "3.2/s"), (0.05, "3.0/min")]
)
def test_rates_are_told_in_a_unit_that_fits(speed, said):
    assert progress.rate(speed) == said


def test_help_takes_less_than_three_tenths_of_a_second_of_a_core():
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "seehear", "--help"], check=True, stdout=subprocess.DEVNULL
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.3


def test_help_imports_nothing_heavy():
    code = (
        "import sys, seehear.cli; print([m for m in ('torch', 'av', 'pyarrow', 'numpy', "
        "'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
