"""Packed segments -> shards of about a gigabyte: tar files, written whole, read back, compared.

    KEY.json   what is known of the segment and its original
    KEY.mp4    the segment

is WebDataset's layout, so other programs read a shard from its beginning; here a segment is read by
its offset. Headers hold no time and no owner, so the same segments make the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from seehear.data.index.columns import member_key, shard_name
from seehear.data.index.examination import Rejection
from seehear.data.index.packed import MEMBERS
from seehear.data.media.members import HEADER_BYTES
from seehear.errors import SeehearError
from seehear.machine.files import atomic_file

BLOCK_BYTES = 512  # of a tar file

PACKED = pa.schema(
    [
        *MEMBERS,
        ("reason", pa.string()),  # why a segment was not packed: then there is nothing else
        ("detail", pa.string()),
        ("shard_bytes", pa.int64()),
        ("shard_sha256", pa.string()),
    ]
)
"""What is known of a segment after its shard was written."""


@dataclass(frozen=True)
class Segment:
    """A segment of the source index: what packing it gave."""

    row: int
    answer: dict[str, Any] | Rejection

    @property
    def bytes_in_shard(self) -> int:
        """What it takes in a shard."""
        if isinstance(self.answer, Rejection):
            return 0
        texts = len(json.dumps(self.answer, ensure_ascii=False).encode())
        return sum(
            HEADER_BYTES + -(-size // BLOCK_BYTES) * BLOCK_BYTES
            for size in (texts, self.answer["bytes"])
        )


def write_shard(folder: Path, work: Path, number: int, parts: Sequence[Segment]) -> pa.Table:
    """Write a shard of the parts in `work/parts`; what it holds, with the columns of `PACKED`.

    Parts are neighbours in the source index; of rejected ones the reason is kept. Raises
    SeehearError where what was written is not what is read back.
    """
    good = [part for part in parts if not isinstance(part.answer, Rejection)]
    places: list[dict[str, Any]] = []
    with atomic_file(folder / shard_name(number)) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for part in good:
                assert not isinstance(part.answer, Rejection)
                key = member_key(part.row)
                _add(tar, f"{key}.json", json.dumps(part.answer, ensure_ascii=False).encode())
                offset = tar.offset + HEADER_BYTES
                _add(tar, f"{key}.mp4", (work / "parts" / f"{key}.mp4").read_bytes())
                places.append(_place(part, number, offset))
        digest = _read_back(temporary, places, [str(part.answer["sha256"]) for part in good])  # type: ignore[index]
        size = temporary.stat().st_size
    failures = [
        {"source_row": p.row, "shard": number, "reason": p.answer.reason, "detail": p.answer.detail}
        for p in parts
        if isinstance(p.answer, Rejection)
    ]
    shard = {"shard_bytes": size, "shard_sha256": digest}
    rows = sorted([*places, *failures], key=lambda row: row["source_row"])
    return pa.Table.from_pylist([row | shard for row in rows], PACKED)


def is_there(folder: Path, packed: pa.Table) -> bool:
    """Whether the shard of a table is there, as long as it was."""
    with contextlib.suppress(OSError, IndexError):
        number, size = packed["shard"][0].as_py(), packed["shard_bytes"][0].as_py()
        return bool((folder / shard_name(number)).stat().st_size == size)
    return False


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size, header.mode = len(content), 0o644
    tar.addfile(header, io.BytesIO(content))


def _place(part: Segment, number: int, offset: int) -> dict[str, Any]:
    assert not isinstance(part.answer, Rejection)
    facts = {name: part.answer.get(name) for name in MEMBERS.names}
    return facts | {
        "source_row": part.row,
        "shard": number,
        "offset": offset,
        "file_bytes": part.answer["bytes"],
        "modified_ns": 0,
    }


def _read_back(shard: Path, places: Sequence[dict[str, Any]], digests: Sequence[str]) -> str:
    """SHA-256 of a shard, after a look at whether each packed file is in it byte by byte."""
    whole = hashlib.sha256()
    with shard.open("rb") as file:
        for place, wanted in zip(places, digests, strict=True):
            whole.update(file.read(place["offset"] - file.tell()))
            content = file.read(place["file_bytes"])
            whole.update(content)
            if hashlib.sha256(content).hexdigest() != wanted:
                raise SeehearError(
                    f"{shard.parent / shard_name(place['shard'])} does not hold what was written "
                    f"(segment {place['source_row']}). Is the disk sound? Pack again: what is done "
                    "is kept."
                )
        whole.update(file.read())
    return whole.hexdigest()
