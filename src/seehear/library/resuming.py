"""How does a table of millions of rows get to disk in parts, so that a killed call goes on where it stopped?

    features.parquet                     the result, once it is whole
    .features.parquet.parts/plan.json    what it is of: encoders, files, settings, format
    .features.parquet.parts/000012.parquet   a finished group

Each part appears whole or not at all. When all are there they are copied into one file, part by part, and removed.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seehear.errors import UsageError
from seehear.model import MODALITIES
from seehear.runs import TEMPORARY, atomic_file, write_json

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


def write_groups(plan: Plan, missing: Callable[[int], Iterator[pa.Table]], num_groups: int) -> dict[str, Any]:
    """Write all groups that are missing, then the result.

    Args:
        missing: the tables of the groups from a number on.
    Returns:
        A summary: "path", "rows", a count for each modality, "unreadable" (reason -> rows).
    Raises:
        UsageError: the result exists, or parts of something else.
    """
    begin = prepare(plan)
    for number, table in enumerate(missing(begin) if begin < num_groups else (), begin):
        with atomic_file(plan.part(number)) as temporary:
            pq.write_table(table, temporary, compression="zstd")
    summary = merge(plan, num_groups)
    shutil.rmtree(plan.folder)
    return summary


def prepare(plan: Plan) -> int:
    """Make the folder of parts, or find one of the same plan; returns the first group that is missing."""
    out, folder = plan.out, plan.folder
    if out.is_dir():
        raise UsageError(f"{out} is a folder. Choose a file for --out; nothing was touched.")
    if out.exists() and not plan.overwrite:
        raise UsageError(f"{out} exists. Choose another --out, or replace it with --overwrite.")
    try:
        begun = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        begun = None
    if begun != plan.metadata:
        if begun is not None and not plan.overwrite:
            other = [_MEANING[key] for key in plan.metadata if begun.get(key) != plan.metadata[key]]
            raise UsageError(
                f"{out} was begun with other {' and '.join(other)}. Call it as it was begun to go on, or start anew "
                "with --overwrite."
            )
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    for rest in folder.glob(f"{TEMPORARY}*"):  # of a process that died
        rest.unlink()
    write_json(folder / "plan.json", plan.metadata)
    begin = 0
    while plan.part(begin).exists():
        begin += 1
    return begin


def merge(plan: Plan, num_groups: int) -> dict[str, Any]:
    """Copy all parts into the result, one at a time."""
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    schema = plan.schema.with_metadata(plan.metadata)
    with atomic_file(plan.out) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for number in range(num_groups):
            table = pq.read_table(plan.part(number)).replace_schema_metadata(plan.metadata)
            writer.write_table(table)
            tally(table, counts, reasons)
    there = {modality: counts[modality] for modality in MODALITIES if modality in schema.names}
    return {"path": str(plan.out), "rows": counts["rows"], **there, "unreadable": dict(reasons.most_common())}


def tally(table: pa.Table, counts: Counter[str], reasons: Counter[str]) -> None:
    """Count what a table of features holds."""
    counts["rows"] += len(table) - table["start_s"].null_count
    for modality in MODALITIES:
        if modality in table.column_names:
            counts[modality] += len(table) - table[modality].null_count
    reasons.update(reason for reason in table["reason"].to_pylist() if reason is not None)
