"""Files of data as damage and strangers leave them: settings, lists, tables, weights, features,
records.

Each kind of file (`KINDS`) is read from a folder that holds all of them whole but for the one that
is damaged. A case is a function of (seed, kind, number). Its answer is right if it is

    same     what the whole file gives
    refused  one line of a `SeehearError` that names the file
    other    something else, where the file has no digest and its content may be anything: `KINDS`
             says so

and nothing else: no other exception, no signal, no hang, no more than `MOST_BYTES` of memory. Cases
are tried in a process of its own, so that one which ends it is known:

    PYTHONPATH=tests python -m fuzz.data FOLDER KIND SEED FIRST COUNT

FOLDER is what `write_whole` wrote; kinds in `OF_RUNS` need a finished run in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuzz.corpus import DAMAGES

MOST_BYTES = 3 * 2**30  # of address space, beyond what the process has before the first case
CASE_SECONDS = 20
HUGE = [
    b"0",
    b"-1",
    b"1e400",
    b"9" * 400,
    b"NaN",
    b"4611686018427387904",
    b"[" * 3000,
    b'""',
    b"null",
    b"\\ud800",
]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    file: which file of the folder is damaged.
    read: folder -> what is in the file, as something that can be compared.
    may_differ: whether a damaged file may say something else.
    text: whether it is text, so that numbers in it become others.
    forged: what makes the digests fit that others keep of the file, so that its content alone is
    what is refused.
    """

    file: str
    read: Callable[[Path], Any]
    may_differ: bool = False
    text: bool = False
    forged: Callable[[Path], None] = lambda folder: None


# --- what is read ---------------------------------------------------------------------------------


def read_index(folder: Path) -> Any:
    from seehear.data.index import Index

    index = Index.open(folder / "index")
    columns = [
        index.video,
        index.start_s,
        index.seconds,
        index.width,
        index.file_bytes,
        index.modified_ns,
    ]
    paths = [index.path(row) for row in range(len(index))]
    return [column.tolist() for column in columns], paths, index.info, index.rejected_files()


def seal_index(folder: Path) -> None:
    """Give the index in a folder the digests of the files that it has."""
    from seehear.data.index.info import write_info
    from seehear.data.index.writing import digests_of

    info = json.loads((folder / "index" / "index.json").read_text())
    del info["check"]
    write_info(folder / "index" / "index.json", info | {"files": digests_of(folder / "index")})


def seal_facts(folder: Path) -> None:
    """Give the index.json in a folder its own digest, if it is JSON still."""
    from seehear.data.index.info import write_info

    try:
        info = json.loads((folder / "index" / "index.json").read_bytes())
        write_info(folder / "index" / "index.json", {k: v for k, v in info.items() if k != "check"})
    except (ValueError, AttributeError, RecursionError):
        pass


def read_settings(folder: Path) -> Any:
    from seehear.config import from_dict, read_toml

    return asdict(from_dict(read_toml(folder / "settings.toml")))


def read_class_list(folder: Path) -> Any:
    from seehear.evaluation.classes import read_classes

    found = read_classes(folder / "classes.csv")
    return found.names, found.of, found.split


def read_name_list(folder: Path) -> Any:
    from seehear.runs.names import read_names

    return read_names(folder, {"video": 4, "audio": 4})


def read_encoders(folder: Path) -> Any:
    from seehear.models.files import load_encoders

    stored = load_encoders(folder / "encoders")
    return digest_of(stored.pair.state_dict()), stored.clip


def read_checkpoint(name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        from seehear.method.encoders import VideoEncoder
        from seehear.models.converting import load_into, read_checkpoint

        encoder = VideoEncoder(4, 10)
        load_into(encoder, read_checkpoint(folder / name), folder / name)
        return digest_of(encoder.state_dict())

    return read


def digest_of(state: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(f"{key} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


KINDS: dict[str, Kind] = {
    "csv": Kind("classes.csv", read_class_list, may_differ=True, text=True),
    "toml": Kind("settings.toml", read_settings, may_differ=True, text=True),
    "names": Kind("names.json", read_name_list, may_differ=True, text=True),
    "facts": Kind("index/index.json", read_index, text=True),
    "forged-facts": Kind(
        "index/index.json", read_index, may_differ=True, text=True, forged=seal_facts
    ),
    "arrow": Kind("index/index.arrow", read_index),
    "forged-arrow": Kind("index/index.arrow", read_index, may_differ=True, forged=seal_index),
    "parquet": Kind("index/rejected.parquet", read_index),
    "forged-parquet": Kind(
        "index/rejected.parquet", read_index, may_differ=True, forged=seal_index
    ),
    "record": Kind("encoders/encoders.json", read_encoders, may_differ=True, text=True),
    "safetensors": Kind("encoders/video.safetensors", read_encoders, may_differ=True),
    "pt": Kind("video.pt", read_checkpoint("video.pt"), may_differ=True),
    "old-pt": Kind("old.pt", read_checkpoint("old.pt"), may_differ=True),
}


def read_features(folder: Path) -> Any:
    from seehear.library import assign

    return assign(open_once(folder), folder / "features.parquet").to_pydict()


def read_arrays(folder: Path) -> Any:
    from seehear.library.gallery import RunGallery
    from seehear.library.trained import open_run

    gallery = RunGallery(open_run(open_once(folder).model))
    return [(rows.tolist(), part["video"].tolist()) for rows, part in gallery.blocks(["video"])]


_opened: dict[Path, Any] = {}


def open_once(folder: Path) -> Any:
    """The run in a folder, whose encoders are loaded once."""
    from seehear.library.trained import open_run

    if folder not in _opened:
        _opened[folder] = open_run(folder / "run")
    return _opened[folder]


OF_RUNS: dict[str, Kind] = {
    "features": Kind("features.parquet", read_features, may_differ=True),
    "arrays": Kind("run/features/video.npy", read_arrays, may_differ=True),
}


def write_whole(folder: Path, run: Path | None = None) -> None:
    """Write one whole file of each kind; with a finished run those of `OF_RUNS`, too."""
    import torch

    from seehear.config import Encoders, Settings
    from seehear.data.index.columns import FACTS, Video
    from seehear.data.index.rejected import Rejected
    from seehear.data.index.writing import write_index
    from seehear.method.encoders import VideoEncoder
    from seehear.models.files import pair_of, save_encoders

    folder.mkdir(parents=True)
    lines = [
        f"videos/{number}.mp4,class {number % 3},{'test' if number % 4 else 'train'}"
        for number in range(20)
    ]
    (folder / "classes.csv").write_text("\n".join(["path,class,split", *lines, ""]))
    toml = (
        "[train]\nlr = 0.1\nepochs = 3\n[clip]\nframes = 8\nframe_rate_hz = "
        "15.0\n[cluster]\nnum_clusters = [4, 8]\n"
    )
    (folder / "settings.toml").write_text(f'seed = 3\nvariant = "xdc"\n{toml}')
    names = {"video": {"0": "rain", "3": "a dog"}, "audio": {"1": "wind"}}
    (folder / "names.json").write_text(json.dumps({"format": 1, "names": names}, indent=1))
    facts = {name: "h264" if "codec" in name else 25 for name in FACTS}
    starts, seconds = np.array([0.0, 10.0]), np.array([10.0, 4.5])
    videos = [Video(f"/videos/{number}é.mp4", facts, starts, seconds) for number in range(12)]
    rejected = [Rejected(f"/videos/{number}.txt", "too short", "", 7, 9) for number in range(5)]
    settings = {"segment_seconds": 10.0, "min_seconds": 1.0}
    info = {
        "root": "/videos",
        "paths": ["/videos"],
        "settings": settings,
        "rejected": {"too short": 5},
    }
    write_index(folder / "index", videos, rejected, info)
    shapes = Encoders(4, 10, "conv", 4, 10)
    torch.manual_seed(0)
    save_encoders(folder / "encoders", pair_of(shapes), Settings(encoders=shapes), {"source": {}})
    state = VideoEncoder(4, 10).state_dict()
    torch.save(state, folder / "video.pt")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    if run is not None:
        from seehear.library import embed_to_file

        shutil.copytree(run, folder / "run")
        embed_to_file(
            open_once(folder).model,
            open_once(folder).index(),
            folder / "features.parquet",
            workers=1,
        )


# --- damage ---------------------------------------------------------------------------------------


def damage(content: bytearray, kind: Kind, rng: np.random.Generator) -> str:
    """Damage a file in one to three ways; returns which."""
    names = [*DAMAGES, "inserted", *(["number", "line"] if kind.text else [])]
    ways = [
        names[i]
        for i in rng.choice(len(names), size=int(rng.choice([1, 1, 1, 2, 3])), replace=False)
    ]
    for way in ways:
        if content:
            OTHERS.get(way, DAMAGES.get(way, insert))(content, rng)
    return "-".join(ways)


def insert(content: bytearray, rng: np.random.Generator) -> None:
    """A few bytes too many."""
    at = int(rng.integers(len(content) + 1))
    content[at:at] = rng.bytes(int(rng.integers(1, 30)))


def change_number(content: bytearray, rng: np.random.Generator) -> None:
    """A number or a word of a text becomes an awkward one."""
    words = list(re.finditer(rb"[0-9.]+|[a-z_]+", bytes(content)))
    if words:
        word = words[int(rng.integers(len(words)))]
        content[word.start() : word.end()] = HUGE[int(rng.integers(len(HUGE)))]


def change_lines(content: bytearray, rng: np.random.Generator) -> None:
    """Two lines change places, or one comes twice."""
    lines = bytes(content).split(b"\n")
    a, b = rng.integers(len(lines), size=2)
    if rng.random() < 0.5:
        lines[a], lines[b] = lines[b], lines[a]
    else:
        lines.insert(a, lines[b])
    content[:] = b"\n".join(lines)


OTHERS = {"number": change_number, "line": change_lines, "inserted": insert}


# --- trial ----------------------------------------------------------------------------------------


def try_kind(folder: Path, name: str, seed: int, first: int, count: int) -> Counter[str]:
    """Try some cases of a kind in a process of its own: how often each outcome came.

    Raises:
        AssertionError: an answer was none of those that are right; it names the case.
    """
    command = [
        sys.executable,
        "-m",
        "fuzz.data",
        str(folder),
        name,
        str(seed),
        str(first),
        str(count),
    ]
    tests = str(Path(__file__).parents[1])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    lines = done.stdout.splitlines()
    where = f"{name}, seed {seed}, case {first + len(lines)}"
    assert done.returncode == 0, f"{where}: ended with {done.returncode}. {done.stderr[-3000:]}"
    assert len(lines) == count, where
    return Counter(lines)


def main() -> None:
    """Try cases and print the outcome of each."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    seed, first, count = map(int, sys.argv[3:])
    kind, work = (KINDS | OF_RUNS)[name], folder.parent / f"work-{name}-{os.getpid()}"
    warnings.simplefilter("ignore")
    shutil.copytree(folder, work)
    wanted, whole = kind.read(work), (work / kind.file).read_bytes()
    limit_memory()
    try:
        for number in range(first, first + count):
            rng = np.random.default_rng((seed, sorted(KINDS | OF_RUNS).index(name), number))
            content = bytearray(whole)
            damage(content, kind, rng)
            (work / kind.file).unlink()
            (work / kind.file).write_bytes(content)
            kind.forged(work)
            print(outcome(kind, work, wanted), flush=True)
            if name.startswith("forged") or kind.file.startswith("index/"):
                shutil.rmtree(work / "index")
                shutil.copytree(folder / "index", work / "index")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def outcome(kind: Kind, work: Path, wanted: Any) -> str:
    """What came of one case."""
    from seehear.errors import SeehearError

    try:
        with limited_time():
            found = kind.read(work)
    except SeehearError as error:
        line = str(error)
        assert "\n" not in line, line
        names_it = str(work) in line or (kind.file == "settings.toml" and "." in line)
        assert names_it, f"the file is not named: {line}"
        return "refused"
    if found == wanted:
        return "same"
    assert kind.may_differ, "something else was read without a word"
    return "other"


@contextmanager
def limited_time() -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise AssertionError(f"took longer than {CASE_SECONDS} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(CASE_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
