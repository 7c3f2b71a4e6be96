"""CSV files as people and spreadsheets write them: blanks, quotes, marks, line ends, and what
cannot be meant.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seehear.errors import SettingsError
from seehear.evaluation.classes import read_classes
from seehear.evaluation.datasets import read_benchmark
from seehear.machine.lists import read_rows

WRITTEN = {  # one table, written in many ways
    "plain": "path,class,split\na.mp4,dog bark,train\nb.mp4,cat,test\n",
    "blanks": " path , class ,split \n a.mp4 ,\tdog bark , train\nb.mp4, cat,test \n",
    "quotes": '"path", "class", "split"\n"a.mp4" , "dog bark", "train" \n"b.mp4" ,"cat"\t,test\n',
    "mark and returns": "\ufeffpath, class, split\r\na.mp4, dog bark, train\r\nb.mp4, cat, "
    "test\r\n",
    "empty lines": "\n  \npath,class,split\n\n,,\na.mp4,dog bark,train\n\t\nb.mp4,cat,test\n\n",
    "old returns": "path,class,split\ra.mp4,dog bark,train\rb.mp4,cat,test",
    "other order": "split, note, class, path\ntrain,, dog bark, a.mp4\ntest, x, cat, b.mp4\n",
    "no-break spaces": "path,\u00a0class\u00a0,split\na.mp4,\u00a0dog "
    "bark,train\nb.mp4,cat\u00a0,test\n",
}


@pytest.mark.parametrize("way", WRITTEN)
def test_a_table_says_the_same_however_it_is_written(tmp_path: Path, way: str) -> None:
    path = tmp_path / "classes.csv"
    path.write_bytes(WRITTEN[way].encode())
    classes = read_classes(path)
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"")
    a, b = str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")
    assert classes.names == ("cat", "dog bark")
    assert (classes.of, classes.split) == ({a: 1, b: 0}, {a: "train", b: "test"})
    benchmark = read_benchmark(tmp_path, "csv")
    assert [item.name for item in benchmark.items] == ["a.mp4", "b.mp4"]


def test_quotes_keep_commas_line_ends_and_quotes(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_text(
        'path,class\n"a, b.mp4" ,"say ""x"" , twice"\n"c\nd.mp4","cat"\n', encoding="utf-8"
    )
    classes = read_classes(path)
    assert set(classes.of) == {str(tmp_path / "a, b.mp4"), str(tmp_path / "c\nd.mp4")}
    assert classes.names == ("cat", 'say "x" , twice')


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            "path,class\na.mp4,dog\n\nb.mp4,cat\n ./a.mp4 , cat\n",
            r"line 5: ./a.mp4 already has the class 'dog' in line 2, and 'cat' here",
        ),
        (
            "path,class,split\na.mp4,dog,train\nb.mp4,cat,test\na.mp4,dog,test\n",
            r"line 4: .* 'train' in line 2, and 'test' here",
        ),
        ("path;class\na.mp4;dog\n", r"no column 'path'. Its first line must be: path,class"),
        ("path,class, class\na.mp4,dog,cat\n", r"several columns 'class'"),
        ("path,class\na.mp4, \nb.mp4,cat\n", r"line 2: every line must have a path and a class"),
        ("path,class\na.mp4,dog,more\n", r"line 2: .* no more columns"),
        ("path,class,split\na.mp4,dog, Train\n", r"line 2: split is 'Train'"),
        ('path,class\na.mp4,"dog\nb.mp4,cat\n', r"line 2: this is not CSV"),
        ("", r"no column 'path'"),
    ],
)
def test_what_cannot_be_meant_is_one_line_that_names_the_place(
    tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "classes.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError, match=says) as raised:
        read_classes(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_device_or_a_pipe_is_no_list(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (
        tmp_path / "pipe.csv",
        Path("/dev/zero"),
    ):  # to read one waits, the other never ends
        with pytest.raises(
            SettingsError, match=rf"{path} cannot be read \(it is a device or a pipe\)"
        ):
            read_classes(path)


def test_the_same_line_twice_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_text("path, class\na.mp4, dog\nb.mp4, cat\na.mp4 ,dog\n", encoding="utf-8")
    assert len(read_classes(path).of) == 2


def test_lists_of_benchmarks_may_have_blanks_around_quotes(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text('"a" , "b"\t,c \n""  , " , " ,"d"\n', encoding="utf-8")
    file = str(path)
    assert list(read_rows(file)) == [(file, 1, ["a", "b", "c"]), (file, 2, ["", ",", "d"])]
