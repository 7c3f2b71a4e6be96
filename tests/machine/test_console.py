"""What a person sees while work goes on: lines in a log, bars on a terminal, nothing if asked."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tarfile
import time

import pytest

from seehear.errors import Interrupted
from seehear.machine import console
from seehear.machine.console import Console, duration, listing, rate

SHOWS = """
import time
from seehear.machine.console import Console
with Console() as console:
    count = console.watch("reading", 40, lambda: "epoch 1/2", unit="clips")
    for done in range(41):
        count(done)
    time.sleep(0.3)
    console.say("half-way")
    console.watch("k-means", None)
"""


def test_elsewhere_a_stage_says_how_far_it_is_in_plain_lines(monkeypatch, capsys):
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.0)
    count = Console().watch("reading", 40, lambda: "epoch 1/2", unit="clips")
    count(10)
    assert capsys.readouterr().err == "", "what an earlier call did is no speed"
    count(30)
    said = capsys.readouterr().err
    assert said.startswith("reading: 30/40, ")
    assert " clips/s, " in said
    assert said.endswith(" left, epoch 1/2\n")
    Console(quiet=True).watch("reading", 40)(30)
    monkeypatch.setattr(console, "PLAIN_SECONDS", 60.0)
    Console().watch("reading", 40)(30)
    assert capsys.readouterr().err == ""


def test_whoever_counts_is_left_once_a_console_is_stopped():
    root = Console(quiet=True)
    counts = [root.watch("a", 4), root.labelled("part").watch("b", 4)]
    for count in counts:
        count(1)
    root.stopped.set()
    for count in counts:
        with pytest.raises(Interrupted):
            count(2)


def test_a_stage_that_counts_nothing_says_now_and_then_that_it_is_at_work(monkeypatch, capsys):
    monkeypatch.setattr(console, "SILENT_SECONDS", 0.2)
    with Console() as shown, shown:  # a function that is given a console enters it once more
        time.sleep(0.3)
        assert capsys.readouterr().err == "", "nothing has begun"
        shown.watch("choosing a precision", None)
        time.sleep(0.5)
        assert "choosing a precision: at work for 0 s\n" in capsys.readouterr().err
        with shown:
            pass
        shown.labelled("seed 1").watch("k-means", None)
        time.sleep(0.5)
        assert "[seed 1] k-means: at work for 0 s\n" in capsys.readouterr().err
    with Console(quiet=True) as silent:
        silent.watch("choosing a precision", None)
        time.sleep(0.5)
    assert capsys.readouterr().err == "", "what is over is no stage any more"


def test_a_function_shows_the_bars_of_a_console_that_is_given(tmp_path):
    with tarfile.open(tmp_path / "one.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"))
    program = f"""
import contextlib
from seehear.data.unpacking import unpack
from seehear.machine.console import Console
with contextlib.suppress(Exception):
    unpack(["{tmp_path}/one.tar"], "{tmp_path}/out", console=Console())
"""
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", program],
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        check=True,
    )
    os.close(theirs)
    assert b"unpacking" in os.read(ours, 65536)
    os.close(ours)


def test_a_terminal_gets_a_bar_with_what_else_is_worth_showing():
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", SHOWS],
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # how a terminal says that nobody writes any more
        pass
    os.close(ours)
    assert child.wait() == 0
    text = shown.decode()
    assert "40/40" in text
    assert "epoch 1/2" in text
    assert "half-way" in text
    assert "k-means" in text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(40, "40 s"), (120, "2 min"), (7200, "2.0 h"), (111_600, "31.0 h"), (3 * 86_400, "3 days")],
)
def test_times_are_said_as_a_person_does(seconds, said):
    assert duration(seconds) == said


def test_rates_and_reasons_in_words():
    assert [rate(30.4, "clips"), rate(2.25), rate(0.1, "MB")] == [
        "30 clips/s",
        "2.2/s",
        "6.0 MB/min",
    ]
    assert listing({"silent audio": 4, "truncated": 1}) == "4 silent audio, 1 truncated"
