"""What do the encoders say of new files? A row a segment, with the features of each stream that it
has.

    path, start_s, seconds   the segment; null times for a file that cannot be read
    video, audio             fixed-size lists of float16, null where the segment has no such stream
    reason                   why something could not be read, a key of `seehear.data.media.REASONS`;
    otherwise null

Work goes on group by group, so that memory does not grow with the number of files, and each
finished group is kept beside the output until all are there: the same call after a kill goes on
where it stopped (`parts`).
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from seehear.config import Data
from seehear.data.clips import Clips
from seehear.data.index import Index
from seehear.data.index.mapped import WORDS
from seehear.data.index.table import FACTS, Video
from seehear.library.parts import Plan, is_features, write_groups
from seehear.library.pieces import Cutting, Paths, Piece, Source, group_of, num_groups, source_of
from seehear.machine.console import Console, Watch, unwatched
from seehear.machine.distributed import cores
from seehear.machine.outputs import check_file
from seehear.method.features import extract
from seehear.models.model import MODALITIES, Model, load

FORMAT = "seehear features 1"
FEW_PIECES = 16  # are read in this process: starting others would take longer
_LARGEST = float(np.finfo(np.float16).max)
_NO_FACTS = {name: "" if kind in (pa.string(), WORDS) else 0 for name, kind in FACTS.items()}


def embed(
    model: Model | str | Path,
    videos: Paths | Index,
    *,
    segment_seconds: float = 10.0,
    min_seconds: float = 1.0,
    num_clips: int = 1,
    workers: int | None = None,
    timeout_s: float = 30.0,
    device: str = "auto",
    console: Console | None = None,
) -> pa.Table:
    """The features of new files, as a table in memory; for many files see `embed_to_file`.

    Args:
        model: encoders, or the folder of a run.
        videos: an index or its folder; or video and audio files, or folders that hold them at any
            depth.
        segment_seconds: the longest segment that a file is cut into; an index keeps its own
            segments.
        min_seconds: a shorter tail is dropped; a shorter file is one segment.
        num_clips: so many clips of a segment, evenly spread, are averaged; runs cluster the feature
            of one, the middle.
        workers: processes; by default one a core.
        timeout_s: a file that takes longer to open has the reason "timed out".
        device: where the encoders of a run are put.
        console: where progress is shown.
    Returns:
        path, start_s, seconds, video, audio, reason; in the order of the index, or of the paths.
    Raises:
        UsageError: there is nothing at a path, or settings that cannot be.
        RunError: `model` is no run with encoders.
    """
    model = load(model, device=device) if not isinstance(model, Model) else model
    cutting = cutting_of(model, segment_seconds, min_seconds, workers, timeout_s)
    source = source_of(videos, cutting)
    watch = console.watch if console else unwatched
    found = tables(model, source, num_clips, cutting.workers, watch)
    return pa.concat_tables([schema_of(model).empty_table(), *found]).replace_schema_metadata(
        metadata_of(model, source, cutting, num_clips)
    )


def embed_to_file(
    model: Model | str | Path,
    videos: Paths | Index,
    out: str | Path,
    *,
    segment_seconds: float = 10.0,
    min_seconds: float = 1.0,
    num_clips: int = 1,
    workers: int | None = None,
    timeout_s: float = 30.0,
    overwrite: bool = False,
    device: str = "auto",
    console: Console | None = None,
) -> dict[str, Any]:
    """Write the features of new files to a Parquet file, with bounded memory; the same call after a
    kill goes on.

    Args:
        out: the file to write. Until it is complete there is a hidden folder of its name beside it.
        overwrite: replace `out`, and forget what an unfinished call with other settings left.
        model, videos, segment_seconds, min_seconds, num_clips, workers, timeout_s, device, console:
            as for `embed`.
    Returns:
        "path", "rows" (segments), "video" and "audio" (segments that have the feature),
        "unreadable" (reason -> rows).
    Raises:
        UsageError: `out` exists or has another ending than .parquet, or what is unfinished was
            begun with other encoders, files or settings.
    """
    check_file(Path(out), is_features, "features", overwrite=overwrite, endings=(".parquet",))
    model = load(model, device=device) if not isinstance(model, Model) else model
    cutting = cutting_of(model, segment_seconds, min_seconds, workers, timeout_s)
    source = source_of(videos, cutting)
    plan = Plan(
        Path(out), metadata_of(model, source, cutting, num_clips), schema_of(model), overwrite
    )
    with nullcontext(console) if console else Console() as console:

        def missing(begin: int) -> Iterator[pa.Table]:
            return tables(model, source, num_clips, cutting.workers, console.watch, begin)

        return write_groups(plan, missing, num_groups(source))


def cutting_of(
    model: Model, segment_seconds: float, min_seconds: float, workers: int | None, timeout_s: float
) -> Cutting:
    """The arguments of a call as one."""
    modalities = tuple(m for m in MODALITIES if m in model.pair.encoders)
    cutting = Cutting(segment_seconds, min_seconds, modalities, workers or cores(), timeout_s)
    cutting.check()
    return cutting


def schema_of(model: Model) -> pa.Schema:
    """The columns; a modality without an encoder is not there."""
    widths = {m: model.pair.feature_dim(m) for m in MODALITIES if m in model.pair.encoders}
    return pa.schema(
        [
            ("path", pa.string()),
            ("start_s", pa.float64()),
            ("seconds", pa.float64()),
            *((modality, pa.list_(pa.float16(), width)) for modality, width in widths.items()),
            ("reason", pa.string()),
        ]
    )


def metadata_of(model: Model, source: Source, cutting: Cutting, num_clips: int) -> dict[str, str]:
    """What a table of features is of; two with the same have the same rows."""
    settings = {
        "segment_seconds": cutting.segment_seconds,
        "min_seconds": cutting.min_seconds,
        "num_clips": num_clips,
        "group_size": source.group_size,
    }
    return {
        "format": FORMAT,
        "model": model.digest,
        "source": source.digest,
        "settings": json.dumps(settings),
    }


def tables(
    model: Model, source: Source, num_clips: int, workers: int, watch: Watch, begin: int = 0
) -> Iterator[pa.Table]:
    """The features of a source from its group number `begin` on, a table a group."""
    count = watch("embedding", len(source))
    for number in range(begin, num_groups(source)):
        part = group_of(source, number)
        count(part.start)
        pieces = source.pieces(part)

        def step(share: float, part: range = part) -> None:
            count(part.start + int(share * len(part)))

        yield embed_pieces(model, pieces, num_clips, workers, step)
        count(part.stop)


def embed_pieces(
    model: Model,
    pieces: Sequence[Piece],
    num_clips: int,
    workers: int,
    progress: Any = lambda share: None,
) -> pa.Table:
    """The features of some segments, as a table; where one stream of a segment fails, the other is
    still read.
    """
    found: dict[str, dict[int, np.ndarray]] = {
        m: {} for m in MODALITIES if m in model.pair.encoders
    }
    reasons = {i: piece.reason for i, piece in enumerate(pieces) if piece.reason}
    waiting: dict[tuple[str, ...], list[int]] = {}
    for i, piece in enumerate(pieces):
        if piece.modalities:
            waiting.setdefault(piece.modalities, []).append(i)
    done = len(reasons)
    for modalities in sorted(waiting, key=len, reverse=True):
        chosen = sorted(waiting[modalities])
        size = len(chosen) * num_clips

        def step(clips: int, before: int = done, rows: int = len(chosen), size: int = size) -> None:
            progress((before + rows * clips / size) / len(pieces))

        failed = read(model, pieces, chosen, modalities, num_clips, workers, found, step)
        done += len(chosen)
        reasons |= failed
        if len(modalities) > 1:  # perhaps one of the streams is well
            for modality in modalities:
                read(
                    model,
                    pieces,
                    sorted(failed),
                    (modality,),
                    num_clips,
                    workers,
                    found,
                    lambda clips: None,
                )
    return table_of(model, pieces, found, reasons)


def read(
    model: Model,
    pieces: Sequence[Piece],
    chosen: Sequence[int],
    modalities: tuple[str, ...],
    num_clips: int,
    workers: int,
    found: dict[str, dict[int, np.ndarray]],
    progress: Any,
) -> dict[int, str]:
    """Put the features of the chosen pieces into `found`; returns why others could not be read."""
    if not chosen:
        return {}
    index = index_of([pieces[i] for i in chosen])
    data = Data(workers=0 if len(chosen) < FEW_PIECES else workers, max_failed_share=1.0)
    clips = Clips(index, model.clip, data, 0, modalities)
    features = extract(model.pair, clips, model.numerics, num_clips=num_clips, progress=progress)
    for modality, part in features.of.items():
        values_nD = part.clamp(-_LARGEST, _LARGEST).numpy().astype(np.float16)
        found[modality] |= {
            chosen[row]: values_nD[n] for n, row in enumerate(features.rows.tolist())
        }
    there = set(features.rows.tolist())
    return {chosen[row]: clips.reasons[row] for row in range(len(chosen)) if row not in there}


def index_of(pieces: Sequence[Piece]) -> Index:
    """Pieces as an index in memory, in their order; those of a file are neighbours."""
    videos = []
    for path, group in itertools.groupby(pieces, key=lambda piece: piece.path):
        parts = list(group)
        facts = _NO_FACTS | {
            "audio_track": None,
            "width": parts[0].width,
            "height": parts[0].height,
        }
        if parts[0].hearing is not None:
            facts |= {
                "audio_track": parts[0].hearing.track,
                "audio_channel": parts[0].hearing.channel,
            }
        starts, seconds = (
            np.array([getattr(p, name) for p in parts], np.float64)
            for name in ("start_s", "seconds")
        )
        videos.append(Video(path, facts, starts, seconds))
    return Index.in_memory(videos, os.sep)


def table_of(
    model: Model,
    pieces: Sequence[Piece],
    found: dict[str, dict[int, np.ndarray]],
    reasons: dict[int, str],
) -> pa.Table:
    """Pieces and what was found of them as a table."""
    schema = schema_of(model)
    timed = [bool(piece.modalities) for piece in pieces]
    columns: dict[str, Any] = {
        "path": [piece.shown[0] for piece in pieces],
        "start_s": [
            piece.shown[1] if known else None for piece, known in zip(pieces, timed, strict=True)
        ],
        "seconds": [
            piece.seconds if known else None for piece, known in zip(pieces, timed, strict=True)
        ],
        "reason": [reasons.get(i) for i in range(len(pieces))],
    }
    for modality, values in found.items():
        width = schema.field(modality).type.list_size
        array_ND = np.zeros((len(pieces), width), np.float16)
        for i, feature_D in values.items():
            array_ND[i] = feature_D
        absent_N = np.array([i not in values for i in range(len(pieces))], dtype=bool)
        columns[modality] = pa.FixedSizeListArray.from_arrays(
            pa.array(array_ND.reshape(-1)), width, mask=pa.array(absent_N)
        )
    return pa.table({name: columns[name] for name in schema.names}, schema)
