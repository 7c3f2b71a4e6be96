"""Where is searched? Rows with features: those of a run, of an index, or of a file of features.

Every gallery hands out blocks of at most `BLOCK_ROWS` rows, so that a million rows take no more
memory than a thousand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from seehear.data.index import Index
from seehear.data.media.members import stamp
from seehear.errors import UsageError
from seehear.library.embedding import FORMAT, embed_to_file, metadata_of
from seehear.library.trained import (
    BLOCK_ROWS,
    Block,
    Centroids,
    Trained,
    blocks_of,
    check_features_finite,
    without_recordings,
)
from seehear.machine.console import Console
from seehear.machine.reading import readable
from seehear.method.recordings import Recordings

PLACE = pa.schema([("path", pa.string()), ("start_s", pa.float64()), ("seconds", pa.float64())])
_ANEW = "Make it anew with `seehear embed`."


class _Gallery:
    """What both kinds have."""

    trained: Trained
    recordings: Any  # Recordings | None: those of the rows, where anything is taken for them

    def unit_vectors(
        self, space: str, rows: NDArray[np.int64], features: Mapping[str, Tensor]
    ) -> Tensor:
        """Features (n, D) of some rows -> (n, d) of unit length, in the space of clusters."""
        centred = without_recordings(self.recordings, rows, features)
        return self.trained.unit_vectors(space, centred)


class RunGallery(_Gallery):
    """The rows that a run was trained on."""

    def __init__(self, trained: Trained, index: Index | None = None) -> None:
        self.trained, self.index = trained, index
        self.modalities = tuple(trained.features)
        self.name, self.recordings = f"run-{trained.model.digest}", trained.recordings

    def __len__(self) -> int:
        return len(next(iter(self.trained.features.values())))

    def blocks(self, modalities: Sequence[str]) -> Iterator[Block]:
        """All rows that have these features."""
        return blocks_of(self.trained.features, modalities)

    def rows_of(self, path: str) -> NDArray[np.int64]:
        """The rows of a file, by its absolute path."""
        return (self.index or self.trained.index()).rows_of(path)

    def places(self, rows: Sequence[int]) -> pa.Table:
        """path, start_s, seconds of some rows."""
        index = self.index or self.trained.index()
        paths = [index.original_path(row) for row in rows]
        numbers = list(rows)
        columns = [paths, index.original_start_s[numbers], index.seconds[numbers]]
        return pa.table(dict(zip(PLACE.names, columns, strict=True)), PLACE)

    def clusters(self, rows: Sequence[int]) -> dict[str, list[int | None]]:
        """clustering -> the cluster of each of some rows."""
        of = {name: self.trained.labels[name][list(rows)] for name in self.trained.clusterings}
        return {name: [int(k) if k >= 0 else None for k in labels] for name, labels in of.items()}


class TableGallery(_Gallery):
    """A file of features, or a table of them in memory, that another program may have rewritten."""

    def __init__(self, source: pa.Table | Path, trained: Trained) -> None:
        self.trained = trained
        if isinstance(source, pa.Table):
            self.path, schema, self.num_rows = "The table", source.schema, len(source)
        else:
            self.path = str(source)
            with readable(source, _ANEW, UsageError):
                source = pq.ParquetFile(source)
            schema, self.num_rows = source.schema_arrow, source.metadata.num_rows
        self.source: Any = source
        metadata = check_features(schema, self.path, trained)
        self.modalities = tuple(m for m in trained.model.modalities if m in schema.names)
        widths = {m: trained.model.pair.feature_dim(m) for m in self.modalities}
        features = [(m, pa.list_(pa.float32(), width)) for m, width in widths.items()]
        words = [(name, pa.string()) for name in ("recording", "reason")]
        self.schema = pa.schema([*PLACE, *words, *features])
        self.columns = {name for name in self.schema.names if name in schema.names}
        self.name = f"{metadata['model']}-{metadata.get('source', '').removeprefix('sha256:')[:12]}"

    def __len__(self) -> int:
        return int(self.num_rows)

    @property
    def plan(self) -> dict[str, Any]:
        """What labels of these rows are of."""
        written = stamp(self.path) if isinstance(self.source, pq.ParquetFile) else ""
        return {"files": f"{self.name}, {len(self)} rows, {written}"}

    def batches(
        self, columns: Sequence[str], rows: range | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Some columns of some rows, all by default, as `embed` has them; features are finite."""
        rows = range(len(self)) if rows is None else rows
        there, start = [name for name in columns if name in self.columns], rows.start
        schema = pa.schema([self.schema.field(name) for name in columns])
        with readable(Path(self.path), _ANEW):
            for raw in self._raw(there, rows):
                arrays = [
                    as_embedded(raw[name], kind, name)
                    if name in there
                    else pa.nulls(len(raw), kind)
                    for name, kind in zip(schema.names, schema.types, strict=True)
                ]
                batch = pa.record_batch(arrays, schema)
                batch.validate(full=True)
                for modality in (name for name in there if name in self.modalities):
                    there_N, features = features_in(batch, (modality,))
                    rows_n = start + np.flatnonzero(there_N)
                    check_features_finite(self.path, modality, rows_n, features[modality])
                yield batch
                start += len(batch)

    def _raw(self, columns: list[str], rows: range) -> Iterator[pa.RecordBatch]:
        if isinstance(self.source, pa.Table):
            table = self.source.select(columns).slice(rows.start, len(rows))
            return iter(table.to_batches(BLOCK_ROWS))
        if len(rows) == len(self):
            batches: Iterator[pa.RecordBatch] = self.source.iter_batches(
                BLOCK_ROWS, columns=columns
            )
            return batches
        metadata = self.source.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        ends = np.cumsum(sizes)
        first, last = np.searchsorted(ends, (rows.start, rows.stop - 1), side="right").tolist()
        table = self.source.read_row_groups([*range(first, last + 1)], columns=columns)
        table = table.slice(rows.start - int(ends[first] - sizes[first]), len(rows))
        return iter(table.combine_chunks().to_batches(BLOCK_ROWS))

    def blocks(self, modalities: Sequence[str]) -> Iterator[Block]:
        """All rows that have these features."""
        start = 0
        for batch in self.batches(modalities):
            there_N, features = features_in(batch, modalities)
            yield start + np.flatnonzero(there_N), features
            start += len(batch)

    def words(self, name: str) -> pa.Array:
        """A column of strings, as a dictionary and indices into it."""
        parts = [batch[name] for batch in self.batches([name])]
        return pa.chunked_array(parts, pa.string()).combine_chunks().dictionary_encode()

    @cached_property
    def recordings(self) -> Recordings | None:
        """The recordings of the rows, where needed: of the column `recording`, or the files."""
        if not self.trained.centrings:
            return None
        words = self.words("recording" if "recording" in self.columns else "path")
        number_N = words.indices.fill_null(-1).to_numpy().astype(np.int64)
        nameless = np.flatnonzero(number_N < 0)
        number_N[nameless] = len(words.dictionary) + nameless  # each is a recording of its own
        blocks = chain.from_iterable(self.blocks((modality,)) for modality in self.modalities)
        return Recordings.of(number_N, blocks, self.trained.centrings)

    def rows_of(self, path: str) -> NDArray[np.int64]:
        """The rows of a file, by its absolute path."""
        words = self.words("path")
        number = words.dictionary.index(path).as_py()  # -1 where it is not there
        return np.flatnonzero(words.indices.fill_null(-2).to_numpy() == number)

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Some columns of some rows, in their order."""
        order = np.argsort(rows, kind="stable")
        ascending, found, start = np.asarray(rows, np.int64)[order], [], 0
        for batch in self.batches(columns):
            first, last = np.searchsorted(ascending, (start, start + len(batch)))
            found.append(batch.take(pa.array(ascending[first:last] - start)))
            start += len(batch)
        schema = pa.schema([self.schema.field(name) for name in columns])
        return pa.Table.from_batches(found, schema).take(pa.array(np.argsort(order)))

    def places(self, rows: Sequence[int]) -> pa.Table:
        """path, start_s, seconds of some rows."""
        places = self.take(rows, PLACE.names)
        lacks = any(column.null_count for column in places.columns)
        if lacks or not all(np.isfinite(places[name]).all() for name in PLACE.names[1:]):
            raise UsageError(
                f"{self.path} has features of rows without path, start_s or seconds. Make it anew."
            )
        return places

    def clusters(self, rows: Sequence[int]) -> dict[str, list[int | None]]:
        """clustering -> the cluster of each of some rows."""
        table, found = self.take(rows, self.modalities), {}
        batch = pa.record_batch([column.combine_chunks() for column in table.columns], table.schema)
        for name, clustering in self.trained.clusterings.items():
            there_N, cluster_N, *_ = self.nearest(batch, np.asarray(rows, np.int64), clustering)
            found[name] = pa.array(cluster_N, mask=~there_N).to_pylist()
        return found

    def nearest(
        self, batch: pa.RecordBatch, rows_N: NDArray[np.int64], clustering: Centroids
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Which rows of a batch have a cluster, (N,) bool; and that, distance and margin, 0 for
        other rows.

        rows_N: the numbers of the rows in the table.
        """
        there_N = np.zeros(len(batch), dtype=bool)
        cluster_N = np.zeros(len(batch), np.int32)
        distance_N, margin_N = np.zeros(len(batch), np.float32), np.zeros(len(batch), np.float32)
        if all(modality in batch.schema.names for modality in clustering.modalities):
            there_N, features = features_in(batch, clustering.modalities)
            centred = without_recordings(self.recordings, rows_N[there_N], features)
            nearest = (part_n.numpy() for part_n in clustering.nearest(centred))
            cluster_N[there_N], distance_N[there_N], margin_N[there_N] = nearest
        return there_N, cluster_N, distance_N, margin_N


Gallery = RunGallery | TableGallery


def gallery_of(
    trained: Trained, place: str | Path | pa.Table | Index | None, console: Console | None = None
) -> Gallery:
    """Open a gallery: None for the rows of the run, a file or table of features, or an index.

    The features of an index are computed once and kept in the run's folder, in `library/`.
    """
    if place is None:
        return RunGallery(trained)
    if isinstance(place, pa.Table):
        return TableGallery(place, trained)
    if isinstance(place, Index):
        return gallery_of_index(trained, place, console)
    path = Path(place)
    if path.is_file():
        return TableGallery(path, trained)
    if (path / "index.json").exists():
        return gallery_of_index(trained, Index.open(path), console)
    what = "is no index and no file of features" if path.exists() else "does not exist"
    raise UsageError(
        f"{path} {what}. Make one: seehear embed {trained.path} VIDEOS --out features.parquet"
    )


def gallery_of_index(trained: Trained, index: Index, console: Console | None) -> Gallery:
    """The rows of an index; features that were computed before are found again."""
    if index.digest == trained.run.field("index", "digest"):
        return RunGallery(trained, index)
    name = f"{index.digest.removeprefix('sha256:')[:12]}-{trained.model.digest}.parquet"
    kept = trained.path / "library" / name
    if not kept.exists():
        index.check()
        kept.parent.mkdir(exist_ok=True)
        embed_to_file(trained.model, index, kept, console=console)
    return TableGallery(kept, trained)


def check_features(schema: pa.Schema, what: str, trained: Trained) -> dict[str, str]:
    """The metadata of a table of features; UsageError unless it is of the encoders of this run."""
    metadata = metadata_of(schema)
    make = f"seehear embed {trained.path} VIDEOS"
    if metadata.get("format") != FORMAT:
        raise UsageError(
            f"{what} holds no features of seehear embed, or another program has dropped the "
            f"metadata that say of which encoders they are. Make them: {make}"
        )
    lacking = [name for name in PLACE.names if name not in schema.names]
    if lacking or not any(m in schema.names for m in trained.model.modalities):
        raise UsageError(f"{what} has no {', '.join(lacking) or 'features'}. {_ANEW}")
    if metadata.get("model") != trained.model.digest:
        raise UsageError(
            f"{what} holds features of other encoders ({metadata.get('model')}, here "
            f"{trained.model.digest}), which cannot be compared. Make them anew: {make}"
        )
    return metadata


def features_in(
    batch: pa.RecordBatch, modalities: Sequence[str]
) -> tuple[np.ndarray, dict[str, Tensor]]:
    """Which rows of a batch have all of these features, (N,) bool, and theirs, (n, D) float32."""
    there_N = np.ones(len(batch), dtype=bool)
    for modality in modalities:
        there_N &= batch[modality].is_valid().to_numpy(zero_copy_only=False)
    return there_N, {m: torch.from_numpy(matrix(batch[m])[there_N]) for m in modalities}


def as_embedded(column: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    """A column as `embed` has it, whatever its type; ValueError where it holds something else."""
    if not pa.types.is_fixed_size_list(kind):
        return column.cast(kind)
    if not hasattr(column.type, "value_type") or not pa.types.is_floating(column.type.value_type):
        raise ValueError(f"{name} holds {column.type}, not lists of floating point")
    width, valid_n = kind.list_size, column.is_valid().to_numpy(zero_copy_only=False)
    values = column.flatten().to_numpy(zero_copy_only=False)  # of the rows that are not null
    if pa.types.is_fixed_size_list(column.type):
        lengths = {column.type.list_size}
    else:
        lengths = set(column.value_lengths().drop_null().to_pylist())
    if lengths - {width} or len(values) != valid_n.sum() * width:
        raise ValueError(f"{name} holds lists of another length than the {width} of these encoders")
    array_nD = np.zeros((len(column), width), np.float32)
    array_nD[valid_n] = values.reshape(-1, width)
    mask = pa.array(~valid_n)
    return pa.FixedSizeListArray.from_arrays(pa.array(array_nD.reshape(-1)), width, mask=mask)


def matrix(column: pa.Array) -> np.ndarray:
    """A column of fixed-size lists as (n, D); rows that are null hold anything."""
    width = column.type.list_size
    values: np.ndarray = column.values.to_numpy(zero_copy_only=False)
    return values[column.offset * width : (column.offset + len(column)) * width].reshape(-1, width)
