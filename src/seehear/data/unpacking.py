"""Videos out of the containers that others put them in: WebDataset's tar files, Parquet with bytes;
and of pictures and videos that lie in a folder beside their sound.

A sample is KEY.mp4 (or another of `VIDEOS`) with perhaps KEY.wav (`SOUNDS`), KEY.json and KEY.cls
in a tar file or a folder, or a row of a Parquet file with such columns: bytes, or structs of bytes
and path as datasets writes them. Each becomes one ordinary file; sound that lies beside its video
is joined to it, neither re-encoded, as Matroska. Pictures (KEY.jpg, or KEY.1.jpg, KEY.2.jpg, ...)
in place of a video are shown one after the other while their sound plays: `slides`.

    OUT/SOURCE/KEY.mp4   SOURCE without its ending
    OUT/metadata.jsonl   file_name and what is known of it, a line a video; `--classes` reads it
    OUT/unpacked.json    of which sources it is
"""

from __future__ import annotations

import heapq
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from seehear.data.remote import absolute, is_remote, local
from seehear.data.slides import slides
from seehear.errors import MediaError, SeehearError, UsageError
from seehear.machine.console import Console
from seehear.machine.files import atomic_file, write_json
from seehear.machine.lists import read_table
from seehear.machine.locks import one_writer
from seehear.machine.outputs import check_place, is_empty_folder, read_marker

VIDEOS = ("mp4", "webm", "mkv", "mov", "avi", "video")  # endings, and names of columns
SOUNDS = ("wav", "flac", "mp3", "ogg", "m4a", "audio")
WORDS = {"cls": "label", "txt": "text"}  # endings of texts -> what they are called
PICTURES = ("jpg", "jpeg", "png", "webp", "bmp", "image", "images")
SOURCES = (".tar", ".parquet")
LISTS = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # beside files, as VideoFolder's
ENDING = "|".join((*VIDEOS, *SOUNDS, *WORDS, "json", rf"(\d+\.)?({'|'.join(PICTURES)})"))
ROWS = 16  # of a Parquet file at once: each may hold megabytes


@dataclass
class Sample:
    """One video as it lies in its container, and what is known of it."""

    key: str
    parts: dict[str, bytes] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def part(self, endings: Sequence[str]) -> str | None:
        """The first of some endings that is there."""
        return next((ending for ending in endings if ending in self.parts), None)

    def pictures(self) -> list[bytes]:
        """Its still pictures: KEY.jpg, then KEY.1.jpg, KEY.2.jpg, ... by their numbers."""
        found = [(*name.rpartition(".")[::2], name) for name in self.parts]
        numbered = [(int(n or -1), name) for n, kind, name in found if kind in PICTURES]
        return [self.parts[name] for _, name in sorted(numbered)]


def unpack(
    sources: str | Path | Sequence[str | Path], out: str | Path, *, console: Console | None = None
) -> dict[str, Any]:
    """Write videos in tar and Parquet files, and pictures with sound, as files for `seehear.index`.

    Args:
        sources: such files, here or at an address, or folders of them; or folders of pictures, or
            of videos, with their sound beside them.
        out: the folder. The same call goes on where it was stopped.
        console: where progress is shown; stderr by default.
    Returns:
        "path", "videos", "joined" (with sound that lay beside), "stills" (of these, of one picture,
        which `index` leaves out without `stills`), "left_out" (reason -> samples).
    Raises:
        UsageError: no such file, or something else at `out`.
        SeehearError: a file is damaged, or nothing is a video.
    """
    out, files = Path(out), files_of([sources] if isinstance(sources, str | Path) else sources)
    counts: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    with console or Console() as shown, one_writer(out):
        begin(out, files)
        count = shown.watch("unpacking", len(files), unit="files")
        with atomic_file(out / "metadata.jsonl") as temporary, temporary.open("w") as lines:
            for done, source in enumerate(files):
                count(done)
                for sample in samples_of(source):
                    name, what = write_sample(out, Path(source).stem, sample)
                    if name is None:
                        left_out[what] += 1
                        continue
                    counts.update({"videos": 1, "joined": what != "", "stills": what == "still"})
                    lines.write(json.dumps({"file_name": name} | sample.about) + "\n")
    if not counts["videos"]:
        raise SeehearError(f"{files[0]} has no videos, and no pictures beside their sound.")
    kinds = {name: counts[name] for name in ("videos", "joined", "stills")}
    return {"path": str(out), **kinds, "left_out": dict(left_out)}


def files_of(sources: Sequence[str | Path]) -> list[str]:
    """The tar and Parquet files that were named, or are in folders that were, or such a folder."""
    found: list[str] = []
    for source in sources:
        path = Path(source)
        if not is_remote(str(source)) and path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix in SOURCES and p.is_file())
            found += [absolute(p) for p in inside if p.name not in LISTS] or [absolute(path)]
        elif is_remote(str(source)) or path.is_file():
            found.append(absolute(source))
        else:
            raise UsageError(f"{source} does not exist. Name tar or Parquet files, or folders.")
        if not found[-1].endswith(SOURCES) and not path.is_dir():
            what = "unpack reads files that end in .tar or .parquet, and folders."
            raise UsageError(f"{source} is neither: {what}")
    stems = Counter(Path(path).stem for path in found)
    if twice := next((stem for stem, times in stems.items() if times > 1), None):
        raise UsageError(f"Two files are called {twice}. Unpack them into folders of their own.")
    return found


def begin(out: Path, files: list[str]) -> None:
    """Make the folder, or find one of the same sources."""
    refuse = "Choose another --out; nothing was touched."
    check_place(out, refuse)
    if out.exists() and not (out.is_dir() and is_empty_folder(out)):
        there = read_marker(out / "unpacked.json").get("sources") if out.is_dir() else None
        if there != files:
            what = "was unpacked from other files" if there else "exists, and was not unpacked"
            raise UsageError(f"{out} {what}. {refuse}")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "unpacked.json", {"sources": files})


def samples_of(source: str) -> Iterator[Sample]:
    """The samples of a file, in its order."""
    with local(source) as copy:
        try:
            path, is_tar = Path(copy), source.endswith(".tar")
            yield from (in_folder if path.is_dir() else in_tar if is_tar else in_parquet)(path)
        except (tarfile.TarError, OSError, ValueError, EOFError) as error:
            if isinstance(error, SeehearError):
                raise
            raise SeehearError(f"{source} cannot be read ({error}). Fetch it again.") from None


def in_tar(path: Path) -> Iterator[Sample]:
    """Members side by side of one name up to the first dot of its last part are one sample."""
    sample = None
    with tarfile.open(path) as tar:
        for member in tar:
            folder, slash, name = member.name.rpartition("/")
            stem, _, ending = name.partition(".")
            key, ending = folder + slash + stem, ending.lower()
            if not member.isfile() or not stem:
                continue
            if sample is None or sample.key != key:
                if sample is not None:
                    yield sample
                sample = Sample(key)
            if re.fullmatch(ENDING, ending):
                file = tar.extractfile(member)
                add(sample, ending, file.read() if file else b"")
    if sample is not None:
        yield sample


def add(sample: Sample, ending: str, content: bytes) -> None:
    """Take a member: what is known of a video, or the bytes of it."""
    if ending == "json":
        about = json.loads(content)
        sample.about |= plain(about if isinstance(about, dict) else {"json": about})
    elif ending in WORDS:
        sample.about[WORDS[ending]] = content.decode(errors="replace").strip()
    else:
        sample.parts[ending] = content


def in_parquet(path: Path) -> Iterator[Sample]:
    """Rows; those of structs that name their file are called like it, others by number."""
    import pyarrow.parquet as pq

    number = 0
    for batch in pq.ParquetFile(path).iter_batches(ROWS):
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
    about: dict[Path, dict[str, str]] = {}
    taken: set[Path] = set()
    for line, row in enumerate(rows_of(folder)):
        named = {name: folder / text for name, text in row.items() if folder / text in endings}
        known = {name: text for name, text in row.items() if name not in (*named, "path")}
        about |= dict.fromkeys(named.values(), known)
        if len(named) > 1:
            key = folder / f"{line:09d}-{next(iter(named.values())).stem}"
            parts = {part_name(endings[p], str(n)): p for n, p in enumerate(named.values())}
            samples[key], taken = parts, taken | {*parts.values()}
    heard = {p.with_suffix("") for p, e in endings.items() if e in SOUNDS and p not in taken}
    for path, ending in endings.items():
        key, number = path.with_suffix(""), ""
        if key not in heard and (found := re.fullmatch(r"(.+)[._-](\d+)", key.name)):
            key, number = key.with_name(found[1]), found[2]
        if key in heard and path not in taken:
            samples.setdefault(key, {})[part_name(ending, number)] = path
    for key, parts in sorted(samples.items()):
        sample = Sample(key.relative_to(folder).as_posix())
        for ending, path in parts.items():
            sample.about |= about.get(path, {})
            add(sample, ending, path.read_bytes())
        if len(sample.parts) > 1:  # else there is but the sound
            yield sample


def rows_of(folder: Path) -> Iterator[dict[str, str]]:
    """The lines of a folder's metadata, if it has any."""
    for path in [folder / name for name in LISTS if (folder / name).is_file()][:1]:
        rows = read_table(str(path))
        names = next(rows).fields
        for row in rows:
            yield dict(zip(names, row.fields, strict=False))


def part_name(ending: str, number: str) -> str:
    """What a part of a sample is called, which may have several pictures."""
    return f"{number}.{ending}" if number and ending in PICTURES else ending


def plain(about: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON holds as it is: texts, numbers, and what is true or false."""
    return {k: v for k, v in about.items() if isinstance(v, str | int | float) and k != "file_name"}


def write_sample(out: Path, folder: str, sample: Sample) -> tuple[str | None, str]:
    """Write the file of a sample, unless it is there; its name and "", "joined" or, of one picture,
    "still"; or why it is none.
    """
    video, sound, pictures = sample.part(VIDEOS), sample.part(SOUNDS), sample.pictures()
    if video is None and not (pictures and sound):
        return None, "no video"
    what = "" if not sound else "joined" if video or len(pictures) > 1 else "still"
    ending = "mkv" if sound else "mp4" if video == "video" else video
    parts = [re.sub(r"[^\w.-]", "_", part).strip(".") or "_" for part in sample.key.split("/")]
    name = "/".join([folder, *parts[:-1], f"{parts[-1]}.{ending}"])
    path = out / name
    if path.exists():
        return name, what
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_file(path) as temporary:
            if sound is None:
                temporary.write_bytes(sample.parts[video or ""])
            else:
                heard = sample.parts[sound]
                seen = sample.parts[video] if video else slides(pictures, seconds_of(heard))
                join(seen, heard, temporary)
    except (av.FFmpegError, ValueError, IndexError, MediaError):
        return None, f"{'video' if video else 'pictures'} and sound could not be joined"
    return name, what


def seconds_of(sound: bytes) -> float:
    """How long the packets of a sound last, whatever its header says."""
    with av.open(io.BytesIO(sound), "r") as heard:
        of = heard.demux(heard.streams.audio[0])
        return max(
            (float((p.pts + (p.duration or 0)) * p.time_base) for p in of if p.pts is not None),
            default=0.0,
        )


def join(video: bytes, sound: bytes, path: Path) -> None:
    """Write the pictures of one file and the sound of another as Matroska, packet by packet."""
    with (
        av.open(io.BytesIO(video), "r") as seen,
        av.open(io.BytesIO(sound), "r") as heard,
        av.open(str(path), "w", format="matroska") as both,
    ):
        streams = seen.streams.video[0], heard.streams.audio[0]
        copies = [both.add_stream_from_template(stream) for stream in streams]
        demuxed: tuple[Any, Any] = (seen.demux(streams[0]), heard.demux(streams[1]))
        packets = [
            [(float(p.dts * p.time_base), which, p) for p in of if p.dts is not None]
            for which, of in enumerate(demuxed)
        ]
        for _, which, packet in heapq.merge(*packets, key=lambda item: item[:2]):
            packet.stream = copies[which]
            both.mux(packet)
