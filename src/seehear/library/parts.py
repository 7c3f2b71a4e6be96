"""How does a table of millions of rows get to disk in parts, so that a killed call goes on where it
stopped?

    features.parquet                     the result, once it is whole
    .features.parquet.parts/plan.json    what it is of: encoders, files, settings, format
    .features.parquet.parts/000012.parquet   a finished group

Each part appears whole or not at all. When all are there they are copied into one file, part by
part, and removed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seehear.errors import UsageError
from seehear.machine import outputs
from seehear.machine.files import TEMPORARY, atomic_file, write_json
from seehear.machine.locks import one_writer
from seehear.machine.outputs import check_file
from seehear.models.model import MODALITIES

_MEANING = {
    "model": "encoders",
    "source": "files (some were added, removed or changed)",
    "settings": "settings",
    "format": "format",
}


@dataclass(frozen=True)
class Plan:
    """What is to be written where.

    Args:
        out: the file.
        metadata: what it is of; parts of something else are refused.
        schema: its columns.
        overwrite: replace what is there.
    """

    out: Path
    metadata: dict[str, str]
    schema: pa.Schema
    overwrite: bool

    @property
    def folder(self) -> Path:
        """Where parts wait."""
        return self.out.with_name(f".{self.out.name}.parts")

    def part(self, number: int) -> Path:
        """The file of one group."""
        return self.folder / f"{number:06d}.parquet"


def write_groups(
    plan: Plan, missing: Callable[[int], Iterator[pa.Table]], num_groups: int
) -> dict[str, Any]:
    """Write all groups that are missing, then the result.

    Args:
        missing: the tables of the groups from a number on.
    Returns:
        A summary: "path", "rows", a count for each modality, "unreadable" (reason -> rows).
    Raises:
        UsageError: the result exists, or parts of something else.
    """
    check_file(plan.out, is_features, "features", overwrite=plan.overwrite)
    with one_writer(plan.out):
        begin = prepare(plan)
        for number, table in enumerate(missing(begin) if begin < num_groups else (), begin):
            with atomic_file(plan.part(number)) as temporary:
                pq.write_table(table, temporary, compression="zstd")
        summary = merge(plan, num_groups)
        outputs.remove(plan.folder, outputs.PARTS)
    return summary


def is_features(path: Path) -> bool:
    """Whether a file holds what `embed_to_file` wrote."""
    try:
        return bool(
            (pq.read_schema(path).metadata or {})
            .get(b"format", b"")
            .startswith(b"seehear features")
        )
    except (OSError, ValueError, pa.ArrowException):
        return False


def prepare(plan: Plan) -> int:
    """Make the folder of parts, or find one of the same plan; returns the first group that is
    missing.
    """
    out, folder = plan.out, plan.folder
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
        raise UsageError(f"{folder} is in the way: parts of {out} are to wait there. Move it away.")
    other = next(outputs.foreign(folder, outputs.PARTS), None) if folder.is_dir() else None
    if other is not None:
        raise UsageError(f"{folder / other} is in the way of the parts of {out}. Move it away.")
    begun = outputs.read_marker(folder / "plan.json")
    if begun != plan.metadata and not plan.overwrite and (begun or plan.part(0).exists()):
        differ = [_MEANING[key] for key in plan.metadata if begun.get(key) != plan.metadata[key]]
        what = (
            f"was begun with other {' and '.join(differ)}"
            if begun
            else f"cannot go on: {folder}/plan.json is damaged"
        )
        raise UsageError(
            f"{out} {what}. Call it as it was begun to go on, or start anew with --overwrite."
        )
    if begun != plan.metadata:
        outputs.remove(folder, outputs.PARTS)
    folder.mkdir(parents=True, exist_ok=True)
    for rest in folder.glob(f"{TEMPORARY}*"):  # of a process that died
        rest.unlink()
    write_json(folder / "plan.json", plan.metadata)
    begin = 0
    while is_whole(plan.part(begin), plan.schema):
        begin += 1
    return begin


def is_whole(part: Path, schema: pa.Schema) -> bool:
    """Whether a part is there and can be read; what damaged it has cost this group and those after
    it.
    """
    try:
        return part.is_file() and bool(pq.read_table(part).schema.equals(schema))
    except (OSError, ValueError, pa.ArrowException):
        return False


def merge(plan: Plan, num_groups: int) -> dict[str, Any]:
    """Copy all parts into the result, one at a time."""
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    schema = plan.schema.with_metadata(plan.metadata)
    with (
        atomic_file(plan.out) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for number in range(num_groups):
            table = pq.read_table(plan.part(number)).replace_schema_metadata(plan.metadata)
            writer.write_table(table)
            tally(table, counts, reasons)
    there = {modality: counts[modality] for modality in MODALITIES if modality in schema.names}
    return {
        "path": str(plan.out),
        "rows": counts["rows"],
        **there,
        "unreadable": dict(reasons.most_common()),
    }


def tally(table: pa.Table, counts: Counter[str], reasons: Counter[str]) -> None:
    """Count what a table of features holds."""
    counts["rows"] += len(table) - table["start_s"].null_count
    for modality in MODALITIES:
        if modality in table.column_names:
            counts[modality] += len(table) - table[modality].null_count
    reasons.update(reason for reason in table["reason"].to_pylist() if reason is not None)
