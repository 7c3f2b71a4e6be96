"""Files that people and other programmes write: whatever is in them, there is an answer or a
`SeehearError`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import benchmark_folders
from seehear.config import Settings, from_dict, leaves, override, read_toml
from seehear.data.index import Index
from seehear.data.index.info import read_info
from seehear.errors import IndexFileError, SeehearError, SettingsError
from seehear.evaluation.classes import read_classes
from seehear.evaluation.datasets import LAYOUTS, read_benchmark
from seehear.runs.folder import Run
from seehear.runs.names import read_names

PIECES = [
    b'"',
    b"'",
    b",",
    b"\n",
    b"\r",
    b"\0",
    b"=",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"..",
    b"/",
]
PIECES += [
    b"nan",
    b"inf",
    b"-1",
    b"1e999",
    b"9" * 400,
    b"null",
    b"true",
    b"[" * 3000,
    b"\\ud800",
    "é".encode(),
    b"1_0",
]

names = st.sampled_from([leaf.name for leaf in leaves(Settings())])
plain = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400)
)
anything = st.recursive(
    plain, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3)
)


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """Text with a few places replaced by awkward pieces, or anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 12))
        content[first : first + length] = draw(st.sampled_from(PIECES) | st.binary(max_size=4))
    return bytes(content)


def survives(parse: Callable[[], Any]) -> bool:
    """Whether there was an answer rather than a `SeehearError`; anything else is raised."""
    try:
        parse()
    except SeehearError:
        return False
    return True


@settings(max_examples=150)
@given(
    mutated(
        b'variant = "sdc"\nseed = 3\n[train]\nlr = 0.02\nepochs = 4\n[cluster]\nnum_clusters = '
        b"[8, 16]\n"
    )
)
@example(b"seed = " + b"9" * 5000)
@example(b"[train]\nlr = " + b"9" * 400)
@example(b"[[train]]\n[train.lr]")
@example(b"a = " + b"[" * 100000)
def test_settings_files(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "settings.toml"
    path.write_bytes(content)
    survives(lambda: override(Settings(), read_toml(path)))


@settings(max_examples=150)
@given(st.dictionaries(names | st.text(max_size=12), anything, max_size=3))
@example({"train.lr": 10**400})
@example({"cluster.num_clusters": [2, None]})
def test_overrides(changes: dict[str, Any]) -> None:
    survives(lambda: override(Settings(), changes))
    survives(lambda: from_dict(changes))


@settings(max_examples=150)
@given(mutated(b"path,class,split\na.mp4,rain,train\nb.mp4,dog,test\nc/d.mp4,dog,train\n"))
@example(b"path,class\na\0b.mp4,rain\nc.mp4,dog\n")
@example(b"path,class\n" + b"a" * 5000 + b",rain\nc.mp4,dog\n")
@example(b'path,class\n"' + b"a" * 200000 + b'",rain\n')
def test_classes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "classes.csv"
    path.write_bytes(content)
    survives(lambda: read_classes(path))


@settings(max_examples=150)
@given(
    mutated(b'{"format": 1, "names": {"video": {"3": "rain", "4": "dog"}, "joint": {"0": "sea"}}}')
)
@example(b"[" * 100000)
@example(b'{"format": 1, "names": {"video": {"3": "\\ud800"}}}')
def test_names(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "names.json").write_bytes(content)
    survives(lambda: read_names(folder))
    survives(lambda: read_names(folder, {"video": 5, "joint": 1}))


@settings(max_examples=100)
@given(
    mutated(
        b'{"format": 1, "seehear": "0.1", "settings": {"seed": 1, "train": {"lr": 0.1}}, "index": '
        b"{}}"
    )
)
@example(b"[]")
@example(b"[" * 100000)
def test_the_record_of_a_run(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "run.json").write_bytes(content)
    survives(lambda: Run.open(folder))


@pytest.fixture(scope="module")
def small_index(index_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of an index that may be damaged."""
    import shutil

    return Path(shutil.copytree(index_folder, tmp_path_factory.mktemp("index") / "index"))


@settings(max_examples=200)
@given(data=st.data())
def test_the_facts_of_an_index(index_folder: Path, small_index: Path, data: st.DataObject) -> None:
    whole = (index_folder / "index.json").read_bytes()
    if data.draw(st.booleans()):
        content = data.draw(mutated(whole))
    else:
        info = json.loads(whole)
        info[data.draw(st.sampled_from(sorted(info)))] = data.draw(anything)
        content = json.dumps(info, default=str).encode()
    (small_index / "index.json").write_bytes(content)
    if survives(lambda: read_info(small_index)):
        survives(lambda: Index.open(small_index).path(0))


@pytest.mark.parametrize(
    "digest", ["sha256:../../../x", "sha256:" + "0" * 63 + "/", "md5:" + "0" * 64, "", None, 3]
)
def test_a_digest_cannot_be_a_path(index_folder: Path, small_index: Path, digest: object) -> None:
    info = json.loads((index_folder / "index.json").read_bytes()) | {"digest": digest}
    (small_index / "index.json").write_text(json.dumps(info))
    with pytest.raises(IndexFileError, match="digest"):
        read_info(small_index)


@pytest.mark.parametrize("layout", sorted(benchmark_folders.SMALL))
@settings(max_examples=12)
@given(data=st.data())
def test_lists_of_benchmarks(
    tmp_path_factory: pytest.TempPathFactory, layout: str, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp(layout)
    benchmark_folders.SMALL[layout](root)
    lists = sorted(path for path in root.rglob("*") if path.suffix in (".txt", ".csv"))
    if lists:
        path = data.draw(st.sampled_from(lists))
        path.write_bytes(data.draw(mutated(path.read_bytes())))
    survives(lambda: read_benchmark(root))
    if layout in LAYOUTS:
        survives(lambda: read_benchmark(root, layout))


def test_no_path_of_a_list_leads_out_of_its_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.mp4"
    outside.touch()
    for name in ("../outside.mp4", str(outside), "x/../../outside.mp4"):
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        (root / "classes.csv").write_text(f"path,class\n{name},rain\nb.mp4,dog\n")
        with pytest.raises(SettingsError, match="leads out"):
            read_benchmark(root, "csv")


def test_no_shell_is_called_and_nothing_is_unpickled() -> None:
    """By the source, and by what `subprocess` is given: lists of words, never a line for a
    shell.
    """
    import seehear

    for path in Path(seehear.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"shell\s*=\s*True|os\.system\(|os\.popen\(|[^.]\beval\(", text), path
        if path.parts[-2:] != (
            "decoding",
            "process.py",
        ):  # what processes of this program say to each other
            assert not re.search(r"pickle\.loads?\(|Unpickler\(", text), path
        assert not re.search(
            r"\bexec\(|marshal|shelve|allow_pickle\s*=\s*True|weights_only\s*=\s*False", text
        ), path
        for call in re.findall(r"torch\.load\(.*\)", text):
            assert "weights_only=True" in call, (path, call)
        for call in re.findall(r"np\.load\((.*)\)", text):
            assert "allow_pickle" not in call or "allow_pickle=False" in call, (path, call)


def test_a_name_with_a_command_in_it_is_a_name(tmp_path: Path) -> None:
    from media_files import write_media

    folder = tmp_path / "videos; touch hacked"
    folder.mkdir()
    write_media(
        folder / "$(touch hacked) `touch hacked`; touch hacked | x & '\"\n.mp4", seconds=2.0
    )
    arguments = [
        sys.executable,
        "-m",
        "seehear",
        "index",
        str(folder),
        "--out",
        str(tmp_path / "index"),
    ]
    subprocess.run(arguments, check=True, cwd=tmp_path, capture_output=True, timeout=120)
    assert not list(tmp_path.rglob("hacked"))
    assert len(Index.open(tmp_path / "index")) == 1
