"""What lies in the containers that others put videos in, sample by sample?

`unpacking` says which containers, and what a sample has in each.
"""

from __future__ import annotations

import json
import math
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seehear.data.remote import local
from seehear.errors import SeehearError, UsageError
from seehear.machine.lists import check_length, read_table

VIDEOS = ("mp4", "webm", "mkv", "mov", "avi", "video")  # endings, and names of columns
SOUNDS = ("wav", "flac", "mp3", "ogg", "m4a", "audio")
WORDS = {"cls": "label", "txt": "text"}  # endings of texts -> what they are called
PICTURES = ("jpg", "jpeg", "png", "webp", "bmp", "image", "images")
LISTS = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # beside files, as VideoFolder's
ENDING = "|".join((*VIDEOS, *SOUNDS, *WORDS, "json", rf"(\d+\.)?({'|'.join(PICTURES)})"))
ROWS = 16  # of a Parquet file at once: each may hold megabytes
IS_FILE = re.compile(r"^path$|file_name$")  # names of columns
BLOCK_BYTES = 512  # of a tar file


@dataclass
class Sample:
    """One video as it lies in its container, and what is known of it."""

    key: str
    parts: dict[str, bytes] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    wrong: str = ""  # why it is left out, whatever else it has
    changed_ns: int = 0  # when what it was read from was changed

    def part(self, endings: Sequence[str]) -> str | None:
        """The first of some endings that is there."""
        return next((ending for ending in endings if ending in self.parts), None)

    def pictures(self) -> list[bytes]:
        """Its still pictures: KEY.jpg, then KEY.1.jpg, KEY.2.jpg, ... by their numbers."""
        found = [(*name.rpartition(".")[::2], name) for name in self.parts]
        numbered = [(int(n or -1), name) for n, kind, name in found if kind in PICTURES]
        return [self.parts[name] for _, name in sorted(numbered)]


def samples_of(source: str) -> Iterator[Sample]:
    """The samples of a file, in its order."""
    with local(source) as copy:
        try:
            path, is_tar = Path(copy), source.endswith(".tar")
            # not that of modification, which what fetches files may set back
            changed_ns = 0 if path.is_dir() else path.stat().st_ctime_ns
            for sample in (in_folder if path.is_dir() else in_tar if is_tar else in_parquet)(path):
                sample.changed_ns = max(sample.changed_ns, changed_ns)
                yield sample
        except (tarfile.TarError, OSError, ValueError, EOFError, pa.ArrowException) as error:
            if isinstance(error, SeehearError):
                raise
            raise SeehearError(f"{source} cannot be read ({error}). Fetch it again.") from None
        except MemoryError:
            raise SeehearError(
                f"{source} has something larger than memory. Leave it out."
            ) from None


def in_tar(path: Path) -> Iterator[Sample]:
    """Members of one name, to the first dot, are one sample; ordinary files alone have content."""
    sample = None
    with tarfile.open(path) as tar:
        for member in tar:
            folder, slash, name = member.name.rpartition("/")
            stem, _, ending = name.partition(".")
            key, ending = folder + slash + stem, ending.lower()
            if member.isdir() or not stem:
                continue
            if sample is None or sample.key != key:
                if sample is not None:
                    yield sample
                sample = Sample(key)
            # a sparse one may be larger than any disk
            if re.fullmatch(ENDING, ending) and member.isreg() and not member.issparse():
                file = tar.extractfile(member)
                add(sample, ending, file.read() if file else b"")
        check_end(tar)
    if sample is not None:
        yield sample


def check_end(tar: tarfile.TarFile) -> None:
    """Raise ValueError where a tar file does not end with zeros: tarfile takes all for the end."""
    assert tar.fileobj is not None, "open"
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(BLOCK_BYTES).strip(b"\0"):
        raise ValueError(f"it is damaged, or cut off, at byte {tar.offset}")


def add(sample: Sample, ending: str, content: bytes) -> None:
    """Take a member: what is known of a video, or the bytes of it."""
    if ending == "json":
        try:
            about = json.loads(content)
        except (ValueError, RecursionError):
            sample.wrong = "its JSON cannot be read"
            return
        sample.about |= plain(about if isinstance(about, dict) else {"json": about})
    elif ending in WORDS:
        sample.about[WORDS[ending]] = content.decode(errors="replace").strip()
    else:
        sample.parts[ending] = content


def in_parquet(path: Path) -> Iterator[Sample]:
    """Rows; those of structs that name their file are called like it, others by number."""
    number, file = 0, pq.ParquetFile(path)
    # Python's times hold no nanoseconds, and JSON no times
    columns = [field.name for field in file.schema_arrow if not pa.types.is_temporal(field.type)]
    for batch in file.iter_batches(ROWS, columns=columns):
        for row in batch.to_pylist():
            sample, names = Sample(f"{number:09d}"), []
            for column, given in row.items():
                several = given if isinstance(given, list) else [given]
                for n, value in enumerate(several):
                    content = value.get("bytes") if isinstance(value, dict) else value
                    if isinstance(content, bytes):
                        part = part_name(column.lower(), str(n) if len(several) > 1 else "")
                        sample.parts[part] = content
                        names += [value.get("path")] if isinstance(value, dict) else []
            if names and names[0]:
                sample.key = f"{sample.key}-{Path(str(names[0])).stem}"
            sample.about = plain(row)
            number += 1
            yield sample


def in_folder(folder: Path) -> Iterator[Sample]:
    """What has a sound of its name beside it, or with it in a line of the folder's metadata."""
    endings = {path: path.suffix.lower()[1:] for path in sorted(folder.rglob("*"))}
    endings = {p: e for p, e in endings.items() if re.fullmatch(ENDING, e) and p.is_file()}
    samples: dict[Path, dict[str, Path]] = {}  # key -> ending -> file
    about: dict[Path, dict[str, str]] = {}  # file, or key of a line -> what is known of it
    rows, changed_ns = rows_of(folder)
    for line, row in enumerate(rows):
        named = {name: folder / text for name, text in row.items() if folder / text in endings}
        known = {name: text for name, text in row.items() if name not in (*named, "path")}
        about |= dict.fromkeys(named.values(), known)
        key = folder / f"{line:09d}-{next(iter(named.values()), folder).stem}"
        if any(text and name not in named and IS_FILE.search(name) for name, text in row.items()):
            yield Sample(str(key), wrong="named in the metadata, and not there")
        elif len(named) > 1:
            parts = {part_name(endings[p], str(n)): p for n, p in enumerate(named.values())}
            samples[key], about[key] = parts, known
    if rows and not about:
        raise UsageError(
            f"The metadata of {folder} name no file in it. One column must be called file_name, or "
            "end in it, with commas between columns."
        )
    taken = {path for parts in samples.values() for path in parts.values()}
    heard = {p.with_suffix("") for p, e in endings.items() if e in SOUNDS and p not in taken}
    for path, ending in endings.items():
        key, number = path.with_suffix(""), ""
        if key not in heard and (found := re.fullmatch(r"(.+)[._-](\d+)", key.name)):
            key, number = key.with_name(found[1]), found[2]
        if key in heard and path not in taken:
            samples.setdefault(key, {})[part_name(ending, number)] = path
    for key, parts in sorted(samples.items()):
        sample = Sample(key.relative_to(folder).as_posix(), changed_ns=changed_ns)
        for ending, path in parts.items():
            sample.about |= about.get(path, {})
            sample.changed_ns = max(sample.changed_ns, path.stat().st_ctime_ns)
            add(sample, ending, path.read_bytes())
        sample.about |= about.get(key, {})
        if len(sample.parts) > 1:  # else there is but the sound
            yield sample


def rows_of(folder: Path) -> tuple[list[dict[str, str]], int]:
    """The lines of a folder's metadata, and when they were changed; if it has any."""
    for path in [folder / name for name in LISTS if (folder / name).is_file()][:1]:
        header, *rows = read_table(str(path))
        for row in rows:
            check_length(row, header)
        found = [dict(zip(header.fields, row.fields, strict=True)) for row in rows]
        return found, path.stat().st_ctime_ns
    return [], 0


def part_name(ending: str, number: str) -> str:
    """What a part of a sample is called, which may have several pictures."""
    return f"{number}.{ending}" if number and ending in PICTURES else ending


def plain(about: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON holds as it is: texts, finite numbers, and what is true or false."""
    return {
        k: v
        for k, v in about.items()
        if (isinstance(v, str | int) or (isinstance(v, float) and math.isfinite(v)))
        and k != "file_name"
    }
