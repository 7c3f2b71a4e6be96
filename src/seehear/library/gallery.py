"""Where is searched? Rows with features, some at a time: those of a run, of an index, or of a file
of features.

Every gallery hands out blocks of at most `BLOCK_ROWS` rows, so that a million rows take no more
memory than a thousand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from seehear.data.index import Index
from seehear.data.placing import MODALITIES
from seehear.errors import UsageError
from seehear.library.clusters import BLOCK_ROWS, blocks_of, check_finite
from seehear.library.embedding import embed_to_file
from seehear.library.parts import FORMAT
from seehear.library.trained import Trained
from seehear.machine.console import Console
from seehear.machine.reading import readable

# numbers of rows (n,), and modality -> their features (n, D) float32
Block = tuple[np.ndarray, dict[str, Tensor]]


class RunGallery:
    """The rows that a run was trained on."""

    def __init__(self, trained: Trained, index: Index | None = None) -> None:
        self.trained, self.index = trained, index
        self.modalities = tuple(trained.features)
        self.name = f"run-{trained.model.digest}"

    def __len__(self) -> int:
        return len(next(iter(self.trained.features.values())))

    def blocks(self, modalities: Sequence[str]) -> Iterator[Block]:
        """All rows that have these features."""
        return blocks_of(self.trained.features, modalities)

    def rows(self, numbers: Sequence[int]) -> pa.Table:
        """path, start_s, seconds of some rows."""
        index = self.index or self.trained.index()
        columns = {
            "path": [index.original_path(row) for row in numbers],
            "start_s": index.original_start_s[list(numbers)],
            "seconds": index.seconds[list(numbers)],
        }
        return pa.table(columns, _PLACE)


class TableGallery:
    """A file of features, or a table of them in memory."""

    def __init__(self, source: pa.Table | Path, trained: Trained) -> None:
        self.source: Any = source if isinstance(source, pa.Table) else open_features(source)
        schema = source.schema if isinstance(source, pa.Table) else self.source.schema_arrow
        self.path = Path("The table") if isinstance(source, pa.Table) else source
        metadata = check_features(schema, str(self.path), trained)
        self.modalities = tuple(
            m for m in MODALITIES if m in schema.names and m in trained.model.modalities
        )
        self.fields = {name: kind for name, kind in _PLAIN.items() if name in schema.names}
        self.fields |= {
            m: pa.list_(pa.float32(), trained.model.pair.feature_dim(m)) for m in self.modalities
        }
        self.name = f"{metadata['model']}-{metadata.get('source', '').removeprefix('sha256:')[:12]}"

    def __len__(self) -> int:
        if isinstance(self.source, pa.Table):
            return len(self.source)
        return int(self.source.metadata.num_rows)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of all rows, in parts, of the types of `embed`, however another program has
        written them.

        All features are finite; UsageError otherwise.
        """
        there = [name for name in columns if name in self.fields]
        with readable(self.path, "Make it anew with `seehear embed`."):
            if isinstance(self.source, pa.Table):
                batches = iter(self.source.select(there).to_batches(BLOCK_ROWS))
            else:
                batches = self.source.iter_batches(BLOCK_ROWS, columns=there)
        start = 0
        while True:
            with readable(self.path, "Make it anew with `seehear embed`."):
                batch = next(batches, None)
                if batch is None:
                    return
                arrays = {name: plain(batch[name], self.fields[name], name) for name in there}
                arrays |= {
                    name: pa.nulls(len(batch), _PLAIN[name])
                    for name in columns
                    if name not in arrays
                }
                batch = pa.RecordBatch.from_pydict({name: arrays[name] for name in columns})
                batch.validate(full=True)
            for modality in [name for name in there if name in self.modalities]:
                rows = np.flatnonzero(batch[modality].is_valid().to_numpy(zero_copy_only=False))
                check_finite(
                    str(self.path),
                    modality,
                    start + rows,
                    torch.from_numpy(matrix(batch[modality])[rows]),
                )
            yield batch
            start += len(batch)

    def blocks(self, modalities: Sequence[str]) -> Iterator[Block]:
        """All rows that have these features."""
        start = 0
        for batch in self.batches(modalities):
            good = np.ones(len(batch), dtype=bool)
            for modality in modalities:
                good &= batch[modality].is_valid().to_numpy(zero_copy_only=False)
            features = {
                m: torch.from_numpy(matrix(batch[m])[good].astype(np.float32)) for m in modalities
            }
            yield start + np.flatnonzero(good), features
            start += len(batch)

    def rows(self, numbers: Sequence[int]) -> pa.Table:
        """path, start_s, seconds of some rows."""
        found: dict[int, dict[str, object]] = {}
        start = 0
        for batch in self.batches(_PLACE.names):
            here = [n for n in numbers if start <= n < start + len(batch)]
            found.update(
                zip(
                    here,
                    batch.take(pa.array([n - start for n in here], pa.int64())).to_pylist(),
                    strict=True,
                )
            )
            start += len(batch)
        places = pa.Table.from_pylist([found[n] for n in numbers], _PLACE)
        if any(column.null_count for column in places.columns):
            raise UsageError(
                f"{self.path} has features of rows without path, start_s or seconds. Make it anew."
            )
        return places

    def features(self, number: int) -> dict[str, Tensor]:
        """The features that one row has: modality -> (1, D) float32."""
        start = 0
        for batch in self.batches(self.modalities):
            if number < start + len(batch):
                row = batch.slice(number - start, 1)
                there = [m for m in self.modalities if row[m].null_count == 0]
                return {m: torch.from_numpy(matrix(row[m]).astype(np.float32)) for m in there}
            start += len(batch)
        raise AssertionError(f"row {number} of {start}")


Gallery = RunGallery | TableGallery

_PLAIN = {
    "path": pa.string(),
    "start_s": pa.float64(),
    "seconds": pa.float64(),
    "reason": pa.string(),
}
_PLACE = pa.schema([("path", pa.string()), ("start_s", pa.float64()), ("seconds", pa.float64())])


def gallery_of(
    trained: Trained, place: str | Path | pa.Table | Index | None, console: Console | None = None
) -> Gallery:
    """Open a gallery.

    Args:
        place: None for the rows that the run was trained on; a file or table of features; or an
            index, whose features are computed once and kept in the run's folder, in `library/`.
    Raises:
        UsageError: there is nothing to search in at `place`.
    """
    if place is None:
        return RunGallery(trained)
    if isinstance(place, pa.Table):
        return TableGallery(place, trained)
    if isinstance(place, Index):
        return of_index(trained, place, console)
    path = Path(place)
    if path.is_file():
        return TableGallery(path, trained)
    if (path / "index.json").exists():
        return of_index(trained, Index.open(path), console)
    what = "is no index and no file of features" if path.exists() else "does not exist"
    raise UsageError(
        f"{path} {what}. Make one: seehear embed {trained.path} VIDEOS --out features.parquet"
    )


def of_index(trained: Trained, index: Index, console: Console | None) -> Gallery:
    """The rows of an index; features that were computed before are found again."""
    if index.digest == trained.run.field("index", "digest"):
        return RunGallery(trained, index)
    kept = (
        trained.path
        / "library"
        / f"{index.digest.removeprefix('sha256:')[:12]}-{trained.model.digest}.parquet"
    )
    if not kept.exists():
        index.check()
        kept.parent.mkdir(exist_ok=True)
        embed_to_file(trained.model, index, kept, console=console)
    return TableGallery(kept, trained)


def open_features(path: Path) -> pq.ParquetFile:
    """A file of features.

    Raises:
        UsageError: it cannot be read.
    """
    with readable(path, "Make it anew with `seehear embed`.", UsageError):
        return pq.ParquetFile(path)


def check_features(schema: pa.Schema, what: str, trained: Trained) -> dict[str, str]:
    """The metadata of a table of features, which must be of the encoders of this run.

    Raises:
        UsageError: it is of others, or no table of features.
    """
    pairs = (schema.metadata or {}).items()
    metadata = {
        key.decode(errors="replace"): value.decode(errors="replace") for key, value in pairs
    }
    if metadata.get("format") != FORMAT:
        raise UsageError(
            f"{what} holds no features of seehear embed, or another program has dropped the "
            f"metadata that say of which "
            f"encoders they are. Make them: seehear embed {trained.path} VIDEOS"
        )
    lacking = [name for name in ("path", "start_s", "seconds") if name not in schema.names]
    if lacking or not any(m in schema.names for m in trained.model.modalities):
        raise UsageError(
            f"{what} has no {', '.join(lacking) or 'features'}. Make it anew with `seehear embed`."
        )
    if metadata.get("model") != trained.model.digest:
        raise UsageError(
            f"{what} holds features of other encoders ({metadata.get('model')}, here "
            f"{trained.model.digest}), which "
            f"cannot be compared. Make them anew: seehear embed {trained.path} VIDEOS"
        )
    return metadata


def plain(column: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    """A column as `embed` has it: words and numbers of one type, features as lists of one length.

    Raises:
        ValueError: it holds something else.
    """
    if not pa.types.is_fixed_size_list(kind):
        return column.cast(kind)
    if not hasattr(column.type, "value_type") or not pa.types.is_floating(column.type.value_type):
        raise ValueError(f"{name} holds {column.type}, not lists of floating point")
    valid_n = column.is_valid().to_numpy(zero_copy_only=False)
    # of the rows that are not null
    values = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    lengths = (
        column.value_lengths().drop_null().to_numpy()
        if not is_fixed(column)
        else [column.type.list_size]
    )
    if (
        any(length != kind.list_size for length in set(lengths))
        or len(values) != valid_n.sum() * kind.list_size
    ):
        raise ValueError(
            f"{name} holds lists of another length than the {kind.list_size} of these encoders"
        )
    array_nD = np.zeros((len(column), kind.list_size), np.float32)
    array_nD[valid_n] = values.reshape(-1, kind.list_size)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(array_nD.reshape(-1)), kind.list_size, mask=pa.array(~valid_n)
    )


def is_fixed(column: pa.Array) -> bool:
    """Whether all lists of a column have one length by its type."""
    return bool(pa.types.is_fixed_size_list(column.type))


def matrix(column: pa.Array) -> np.ndarray:
    """A column of fixed-size lists as (n, D); rows that are null hold anything."""
    width = column.type.list_size
    values: np.ndarray = column.values.to_numpy(zero_copy_only=False)
    return values[column.offset * width : (column.offset + len(column)) * width].reshape(-1, width)
