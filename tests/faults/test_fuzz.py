"""Forty mutilated videos through index, clips and reader, and some files of data; `make fuzz` tries
thousands.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.corpus import DAMAGES, damage_of, whole_files, write_case
from fuzz.data import KINDS, OF_RUNS, try_kind, write_whole
from fuzz.trial import USED, try_cases

CASES = 40


@pytest.mark.thorough
def test_mutilated_media_get_a_reason_or_are_read(tmp_path: Path) -> None:
    whole = whole_files(tmp_path / "whole", real=False)
    (tmp_path / "cases").mkdir()
    paths = [write_case(tmp_path / "cases", whole, 7, number) for number in range(CASES)]
    assert {damage_of(path) for path in paths} == set(DAMAGES)
    outcomes = try_cases(paths, tmp_path / "index")
    counts = outcomes.counts()
    assert sum(counts["index"].values()) == sum(counts["reader"].values()) == CASES
    assert sum(counts["clips"].values()) == counts["index"][USED]
    assert 4 < counts["index"][USED] < 36  # the damage is neither nothing nor everything


def test_a_case_is_a_function_of_its_number(tmp_path: Path) -> None:
    whole = whole_files(tmp_path / "whole", real=False, names=("h264.mp4", "mpeg4.avi"))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    a, b = (write_case(tmp_path / name, whole, 1, 5) for name in "ab")
    assert a.name == b.name
    assert a.read_bytes() == b.read_bytes()
    assert a.read_bytes() != whole[5 % len(whole)].read_bytes()


@pytest.fixture(scope="module")
def whole_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "whole"
    write_whole(folder)
    return folder


@pytest.mark.parametrize("kind", ["csv", "forged-facts", "forged-arrow", "forged-parquet"])
def test_damaged_files_of_data_are_refused_in_a_line_or_read(whole_data: Path, kind: str) -> None:
    counts = try_kind(whole_data, kind, 3, 0, 12)
    assert counts["refused"] > 4  # the damage is not nothing


@pytest.mark.thorough
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_more_damaged_files_of_data(whole_data: Path, kind: str) -> None:
    counts = try_kind(whole_data, kind, 4, 0, 40)
    assert counts["refused"] > 10


@pytest.mark.thorough
@pytest.mark.parametrize("kind", sorted(OF_RUNS))
def test_damaged_files_of_a_run(finished_run: Path, tmp_path: Path, kind: str) -> None:
    write_whole(tmp_path / "whole", finished_run)
    assert try_kind(tmp_path / "whole", kind, 4, 0, 40)["refused"] > 5
