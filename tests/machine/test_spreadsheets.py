"""Is no cell of a CSV file a formula, and does what we read ourselves come back as it was?"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seehear.evaluation.classes import read_classes
from seehear.machine.spreadsheets import harmless, plain, write_csv

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0"]


@given(st.text(alphabet="'=+-@\t\r ab", max_size=6) | st.text())
def test_every_text_comes_back_and_none_is_a_formula(text: str) -> None:
    assert not harmless(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert plain(harmless(text)) == text


@pytest.mark.parametrize("text", ["rain", "a=b", "", "'quoted'", "ü", " =x"])
def test_other_texts_and_numbers_are_left_alone(text: str) -> None:
    assert harmless(text) == plain(text) == text
    assert [harmless(value) for value in (-1.5, 3, None, True)] == [-1.5, 3, None, True]


def test_a_file_has_harmless_cells_and_headers(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", {"=name": FORMULAS, "number": range(-3, 4), "none": [None] * 7})
    with (tmp_path / "x.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["'=name", "number", "none"]
    assert [line[0] for line in lines[1:]] == [f"'{text}" for text in FORMULAS]
    assert [line[1:] for line in lines[1:]] == [[str(n), ""] for n in range(-3, 4)]


def test_classes_that_look_like_formulas_are_read_back(tmp_path: Path) -> None:
    paths = ["=a.mp4", "-b.mp4", "'=c.mp4", "d.mp4"]
    for path in paths:
        (tmp_path / path).touch()
    write_csv(tmp_path / "classes.csv", {"path": paths, "class": ["+x", "-y", "+x", "z"]})
    found = read_classes(tmp_path / "classes.csv")
    assert found.names == ("+x", "-y", "z")
    assert {Path(path).name for path in found.of} == set(paths)
