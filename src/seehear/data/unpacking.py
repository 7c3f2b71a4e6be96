"""Videos out of the containers that others put them in: WebDataset's tar files, Parquet with bytes;
and of pictures and videos that lie in a folder beside their sound.

A sample is KEY.mp4 (or another of `VIDEOS`) with perhaps KEY.wav (`SOUNDS`), KEY.json and KEY.cls
in a tar file or a folder, or a row of a Parquet file with such columns: bytes, or structs of bytes
and path as datasets writes them. Each becomes one ordinary file; sound that lies beside its video
is joined to it, neither re-encoded, as Matroska. Pictures (KEY.jpg, or KEY.1.jpg, KEY.2.jpg, ...)
in place of a video are shown one after the other while their sound plays: `slides`.

    OUT/SOURCE/KEY.mp4   SOURCE without its ending, KEY as file systems take it; KEY-2.mp4, ... for
                         others that are spelt the same then
    OUT/metadata.jsonl   file_name and what is known of it, a line a video; `--classes` reads it
    OUT/unpacked.json    of which sources it is
"""

from __future__ import annotations

import heapq
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain, count
from pathlib import Path
from typing import Any

import av

from seehear.data.media.opening import OPEN_OPTIONS
from seehear.data.remote import absolute, is_remote
from seehear.data.samples import LISTS, SOUNDS, VIDEOS, Sample, samples_of
from seehear.data.slides import slides
from seehear.errors import MediaError, SeehearError, UsageError
from seehear.machine.console import Console, listing
from seehear.machine.files import atomic_file, write_json
from seehear.machine.locks import one_writer
from seehear.machine.outputs import check_place, is_empty_folder, read_marker

SOURCES = (".tar", ".parquet")
LONGEST_BYTES = 200  # of a name: file systems take 255, and what is unfinished has a longer one


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
    counts = Counter(videos=0, joined=0, stills=0)
    left_out: Counter[str] = Counter()
    taken: set[str] = set()
    with console or Console() as shown, one_writer(out):
        begin(out, files)
        count = shown.watch("unpacking", len(files), unit="files")
        with atomic_file(out / "metadata.jsonl") as temporary, temporary.open("w") as lines:
            for done, source in enumerate(files):
                count(done)
                for sample in samples_of(source):
                    kind, why = kind_of(sample)
                    if why:
                        left_out[why] += 1
                        continue
                    name = name_of(Path(source).stem, sample, taken)
                    if not write_sample(out / name, sample):
                        left_out[f"{kind} and sound could not be joined"] += 1
                        continue
                    counts["videos"] += 1
                    counts["joined"] += sample.part(SOUNDS) is not None
                    counts["stills"] += kind == "picture"
                    lines.write(json.dumps({"file_name": name} | sample.about) + "\n")
    if not counts["videos"]:
        why = f" Left out: {listing(left_out)}." if left_out else ""
        raise SeehearError(f"{files[0]} has no videos, and no pictures beside their sound.{why}")
    return {"path": str(out), **counts, "left_out": dict(left_out)}


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


def kind_of(sample: Sample) -> tuple[str, str]:
    """Whether a sample is a "video", "pictures" or a "picture"; or why it is left out."""
    pictures = 0 if sample.part(VIDEOS) else len(sample.pictures())
    is_one = sample.part(VIDEOS) or (pictures and sample.part(SOUNDS))
    why = sample.wrong or ("" if is_one else "no video")
    return "picture" if pictures == 1 else "pictures" if pictures else "video", why


def name_of(folder: str, sample: Sample, taken: set[str]) -> str:
    """What the file of a sample is called, which is no name of another one; `taken` gets it."""
    video = sample.part(VIDEOS)
    ending = "mkv" if sample.part(SOUNDS) else "mp4" if video == "video" else video
    *above, last = (re.sub(r"[^\w.-]", "_", part).strip(".") for part in sample.key.split("/"))
    # no folder has the name of a file
    above = [re.sub(rf"\.({'|'.join(VIDEOS)})$", r"_\1", short(part)) for part in above]
    stem = "/".join([folder, *above, short(last)])
    names = (f"{stem}{n}.{ending}" for n in chain([""], (f"-{n}" for n in count(2))))
    name = next(name for name in names if name.casefold() not in taken)
    taken.add(name.casefold())
    return name


def short(part: str) -> str:
    """A part of a path that file systems take."""
    return part.encode()[:LONGEST_BYTES].decode(errors="ignore") or "_"


def write_sample(path: Path, sample: Sample) -> bool:
    """Write a sample's file, unless it is there; False where picture and sound cannot be joined."""
    if path.exists() and path.stat().st_mtime_ns > sample.changed_ns:
        return True
    video, sound = sample.part(VIDEOS), sample.part(SOUNDS)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_file(path) as temporary:
            if sound is None:
                temporary.write_bytes(sample.parts[video or ""])
            else:
                join(sample, sample.parts[sound], temporary)
    except (av.FFmpegError, ValueError, MediaError):
        return False
    return True


def join(sample: Sample, sound: bytes, path: Path) -> None:
    """Write pictures and sound as Matroska, packet by packet."""
    with ExitStack() as opened:
        heard = packets_of(sound, "audio", opened)
        video = sample.part(VIDEOS)
        if video is None:  # the sound lasts as long as its packets, whatever its header says
            there = (p for p in heard[1] if p.pts is not None)
            ends_s = (float((p.pts + (p.duration or 0)) * p.time_base) for p in there)
            content = slides(sample.pictures(), max(ends_s, default=0.0))
        else:
            content = sample.parts[video]
        seen = packets_of(content, "video", opened)
        both = opened.enter_context(av.open(str(path), "w", format="matroska"))
        packets = []
        for which, (stream, some) in enumerate((seen, heard)):
            copy = both.add_stream_from_template(stream)
            packets.append([(float(p.dts * p.time_base), which, copy, p) for p in some])
        for _, _, copy, packet in heapq.merge(*packets, key=lambda item: item[:2]):
            packet.stream = copy
            both.mux(packet)


def packets_of(content: bytes, kind: str, opened: ExitStack) -> tuple[Any, list[Any]]:
    """The first stream of a kind, and its packets.

    Raises:
        MediaError: there is none that can be read; whatever FFmpeg says is no fault of the disk.
    """
    try:
        file = av.open(io.BytesIO(content), "r", options=OPEN_OPTIONS, metadata_errors="replace")
        stream = getattr(opened.enter_context(file).streams, kind)[0]
        packets = [p for p in file.demux(stream) if p.dts is not None]
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise MediaError("", "unreadable", str(error)) from None
    return stream, packets
