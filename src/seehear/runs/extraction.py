"""Features of an index by encoders as they are, a group of rows at a time.

A group that was extracted waits beside the run that is to be (`data.parts`), so that a kill in the
middle of many hours costs one group. Ranks share the groups.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from seehear.data.clips import Clips
from seehear.data.parts import Part, Work, begin, do, parts_of
from seehear.machine import distributed
from seehear.machine.console import Console, Tell
from seehear.method.features import Features, extract, rows_of_this_rank
from seehear.models.model import Model

ROWS_A_GROUP = 1024


@dataclass(frozen=True)
class Extraction:
    """What extracts the features of some rows, of which any share may be unreadable."""

    model: Model
    clips: Clips

    @property
    def schema(self) -> pa.Schema:
        """Features as they are, null where a row cannot be read, and why."""
        widths = {m: self.model.pair.feature_dim(m) for m in self.model.modalities}
        columns = [(m, pa.list_(pa.float32(), width)) for m, width in widths.items()]
        return pa.schema([*columns, ("reason", pa.string())])

    def __call__(self, rows: range, tell: Tell) -> pa.Table:
        """The features of some rows, with the columns of `schema`."""
        clips = self.clips

        def progress(done: int) -> None:
            tell(done, Counter(clips.reasons[row] for row in rows if row in clips.reasons))

        of = (self.model.pair, clips, self.model.numerics)
        found = extract(*of, rows=np.asarray(rows), progress=progress)
        there_n = np.isin(rows, found.rows)
        columns: dict[str, Any] = {}
        for modality, part_nD in found.of.items():
            part_ND = np.zeros((len(rows), part_nD.shape[1]), np.float32)
            part_ND[there_n] = part_nD.numpy()
            columns[modality] = pa.FixedSizeListArray.from_arrays(
                pa.array(part_ND.reshape(-1)), part_ND.shape[1], mask=pa.array(~there_n)
            )
        why = (clips.reasons.get(row) for row in rows)
        columns["reason"] = [None if ok else one for ok, one in zip(there_n, why, strict=True)]
        return pa.table(columns, self.schema)


def work_of(model: Model, clips: Clips, out: Path) -> Work:
    """Extracting the features of all rows; `out` is the run."""
    todo = Extraction(model, clips.apart())
    return Work(
        "encoders",
        out,
        parts_of(out),
        {"source": clips.index.digest, "model": model.digest},
        {},
        len(clips),
        ROWS_A_GROUP,
        todo,
        todo.schema,
        gives_way=True,
    )


def extracted(work: Work, clips: Clips, console: Console) -> Features:
    """Do what is missing of all rows, with the other ranks; the features of this rank's rows.

    Raises:
        TrainingError: more of these cannot be read than the settings allow.
    """
    distributed.on_rank_zero(lambda: begin(work, Part()))
    mine = Part(distributed.rank() + 1, distributed.world_size())
    do(work, mine, console, "features", "clips")
    distributed.barrier()
    rows = rows_of_this_rank(clips)
    numbers = np.unique(rows // ROWS_A_GROUP).tolist()
    tables = [table for number in numbers if (table := work.table(number)) is not None]
    table = pa.concat_tables([work.schema.empty_table(), *tables])
    first = int(numbers[0]) * ROWS_A_GROUP if numbers else 0
    table = table.slice(int(rows[0]) - first if len(rows) else 0, len(rows))
    failed = Counter(table["reason"].drop_null().to_pylist())
    clips.check_failed(failed, len(rows))
    parts = {}
    for modality in work.schema.names[:-1]:
        column = table[modality].combine_chunks().drop_null()
        width = work.schema.field(modality).type.list_size
        parts[modality] = torch.from_numpy(column.flatten().to_numpy().reshape(-1, width).copy())
    return Features(rows[table["reason"].is_null().to_numpy()], parts)
