"""How does a table of millions of rows get to disk so that a killed call goes on where it stopped?

    features.parquet                         the result, once it is whole
    .features.parquet.parts/plan.json        what it is of: encoders, files, settings, format
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

from seehear.data.placing import MODALITIES
from seehear.errors import UsageError
from seehear.machine import outputs
from seehear.machine.files import TEMPORARY, atomic_file, write_json
from seehear.machine.locks import one_writer
from seehear.machine.outputs import check_file

FORMAT = "seehear features 1"
_MEANING = {
    "model": "encoders",
    "source": "files (some were added, removed or changed)",
    "settings": "settings",
    "format": "format",
}


@dataclass(frozen=True)
class Output:
    """Where features are written; `overwrite` replaces what is there, unfinished parts too."""

    out: Path
    overwrite: bool

    @property
    def folder(self) -> Path:
        """Where parts wait."""
        return self.out.with_name(f".{self.out.name}.parts")

    def part(self, number: int) -> Path:
        """The file of one group."""
        return self.folder / f"{number:06d}.parquet"


def write_groups(
    output: Output, schema: pa.Schema, missing: Callable[[int], Iterator[pa.Table]], num_groups: int
) -> dict[str, Any]:
    """Write all groups that are missing, then the result; returns the summary of `embed_to_file`.

    The metadata of `schema` say what the features are of: parts of something else are refused.
    `missing` makes the tables of the groups from a number on.
    """
    check_file(output.out, is_features, "features", overwrite=output.overwrite)
    with one_writer(output.out):
        begin = begin_parts(output, schema)
        for number, table in enumerate(missing(begin) if begin < num_groups else (), begin):
            with atomic_file(output.part(number)) as temporary:
                pq.write_table(table, temporary, compression="zstd")
        summary = join_parts(output, schema, num_groups)
        outputs.remove(output.folder, outputs.PARTS)
    return summary


def metadata_of(schema: pa.Schema) -> dict[str, str]:
    """What a table of features says of itself."""
    pairs = (schema.metadata or {}).items()
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in pairs}


def is_features(path: Path) -> bool:
    """Whether a file holds what `embed_to_file` wrote."""
    try:
        return metadata_of(pq.read_schema(path)).get("format", "").startswith("seehear features")
    except (OSError, ValueError, pa.ArrowException):
        return False


def begin_parts(output: Output, schema: pa.Schema) -> int:
    """Make the folder of parts, or find one of the same; the first group that is missing."""
    out, folder, plan = output.out, output.folder, metadata_of(schema)
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
        raise UsageError(f"{folder} is in the way: parts of {out} are to wait there. Move it away.")
    other = next(outputs.foreign(folder, outputs.PARTS), None) if folder.is_dir() else None
    if other is not None:
        raise UsageError(f"{folder / other} is in the way of the parts of {out}. Move it away.")
    begun = outputs.read_marker(folder / "plan.json")
    if begun != plan and not output.overwrite and (begun or output.part(0).exists()):
        differ = [_MEANING[key] for key in plan if begun.get(key) != plan[key]]
        what = (
            f"was begun with other {' and '.join(differ)}"
            if begun
            else f"cannot go on: {folder}/plan.json is damaged"
        )
        raise UsageError(
            f"{out} {what}. Call it as it was begun to go on, or start anew with --overwrite."
        )
    if begun != plan:
        outputs.remove(folder, outputs.PARTS)
    folder.mkdir(parents=True, exist_ok=True)
    for rest in folder.glob(f"{TEMPORARY}*"):  # of a process that died
        rest.unlink()
    write_json(folder / "plan.json", plan)
    begin = 0
    while is_whole(output.part(begin), schema):
        begin += 1
    return begin


def is_whole(part: Path, schema: pa.Schema) -> bool:
    """Whether a part can be read; where it is damaged, it and those after it are made anew."""
    try:
        return part.is_file() and bool(pq.read_table(part).schema.equals(schema))
    except (OSError, ValueError, pa.ArrowException):
        return False


def join_parts(output: Output, schema: pa.Schema, num_groups: int) -> dict[str, Any]:
    """Copy all parts into the result, one at a time, and count what they hold."""
    counts = Counter(dict.fromkeys(("rows", *(m for m in MODALITIES if m in schema.names)), 0))
    reasons: Counter[str] = Counter()
    with (
        atomic_file(output.out) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for number in range(num_groups):
            table = pq.read_table(output.part(number)).cast(schema)
            writer.write_table(table)
            for what in counts:
                column = table["start_s" if what == "rows" else what]
                counts[what] += len(table) - column.null_count
            reasons.update(table["reason"].drop_null().to_pylist())
    return {"path": str(output.out), **counts, "unreadable": dict(reasons.most_common())}
