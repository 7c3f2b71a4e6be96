"""How does one file hold all that going on needs, and how is damage to it found?

A round's folder holds `checkpoint.pt` (weights, labels, position; a dictionary of tensors and plain
data), the labels and centroids again in formats for other programs, the line of the log as
`round.json`, and the SHA-256 of the checkpoint, by which truncation and flipped bits are found. The
folder appears whole or not at all. Loading uses `weights_only=True`: a checkpoint from a stranger
is data, never code.

Within a round a checkpoint is one file, `midway/ROUND-STEP-DIGEST.pt`; its name ends with the first
16 digits of its own SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from seehear.errors import CheckpointError
from seehear.machine import outputs
from seehear.machine.files import digest_of, sync, unfinished, whole_folder, write_json
from seehear.machine.tensors import check_archive, first_line
from seehear.runs.folder import Run

F = TypeVar("F")
T = TypeVar("T")

GROUP_ROWS = 2**20  # of labels, in one piece of their file
KEPT = 2  # the last so many rounds keep their checkpoint; labels and numbers of all rounds stay


def save_round(run: Run, number: int, state: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
    """Write one round's folder; `summary` becomes `round.json`.

    Args:
        state: tensors and plain data; `state["last"][name]` holds "labels" (N,) and "centroids" (K,
            D) of the round.
    """
    with whole_folder(run.round_path(number), replaces=outputs.ROUND) as folder:
        write_state(folder, state)
        write_clusters(folder, state["last"])
        write_json(folder / "round.json", summary)
    for old in run.rounds()[:-KEPT]:
        (run.round_path(old) / "checkpoint.pt").unlink(missing_ok=True)


def save_midway(run: Run, number: int, step: int, state: Mapping[str, Any]) -> Path:
    """Write a checkpoint within a round, after `step` steps of it; the last two are kept."""
    folder = run.path / "midway"
    name = f"{number:03d}-{step:09d}"
    with unfinished(folder / name) as temporary:
        folder.mkdir(exist_ok=True)
        _save(state, temporary)
        path = folder / f"{name}-{digest_of(temporary)[:16]}.pt"
        sync(temporary)
        temporary.replace(path)
        sync(folder)
    for old in midways(run)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def midways(run: Run) -> list[Path]:
    """The checkpoints within rounds, the newest last."""
    name = re.compile(outputs.MIDWAY.names[0])
    return sorted(
        path for path in (run.path / "midway").glob("[0-9]*.pt") if name.fullmatch(path.name)
    )


def newest(run: Run) -> tuple[int, bool, bytes] | None:
    """The checkpoint that is furthest of those that are whole; None where none was written.

    Returns:
        Its round, whether that round is over, and its content, for `parse`.
    Raises:
        CheckpointError: there are some, and none can be read.
    """

    def read(found: tuple[int, float, Path]) -> tuple[int, bool, bytes]:
        number, step, path = found
        is_over = step == math.inf
        data = verified(path, path.with_suffix(".sha256") if is_over else path.stem[-16:])
        parse(data)
        return number, is_over, data

    return first_whole(furthest_first(run), read)


def first_whole(found: Iterable[F], read: Callable[[F], T]) -> T | None:
    """What the first holds that can be read; None of nothing, CheckpointError if none can be."""
    problems = []
    for one in found:
        try:
            return read(one)
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        problems.append("No earlier checkpoint is left: start anew with --overwrite.")
        raise CheckpointError(" ".join(problems))
    return None


def furthest_first(run: Run) -> list[tuple[int, float, Path]]:
    """Round, step within it (infinite where it is over) and file of each, the furthest first."""
    last = run.rounds()[-KEPT:]
    whole = [(number, math.inf, run.round_path(number) / "checkpoint.pt") for number in last]
    within = [(int(p.name.split("-")[0]), float(p.name.split("-")[1]), p) for p in midways(run)]
    return sorted(whole + within, reverse=True)


def parse(data: bytes, name: str = "This") -> dict[str, Any]:
    """The state in a checkpoint's content, by whose name an error calls it; never runs code.

    Raises:
        CheckpointError: it holds something else than tensors and data.
    """
    try:
        check_archive(io.BytesIO(data), name)
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # of whatever kind the bytes lead to
        raise CheckpointError(
            f"{name} is no checkpoint of tensors and data ({first_line(error)})."
        ) from None
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{name} is no checkpoint of tensors and data, but a {type(state).__name__}."
        )
    return state


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write `checkpoint.pt` and its SHA-256 into a folder that is being made."""
    _save(state, folder / "checkpoint.pt")
    (folder / "checkpoint.sha256").write_text(
        digest_of(folder / "checkpoint.pt") + "\n", encoding="ascii"
    )


def read_state(folder: Path) -> dict[str, Any]:
    """The inverse of `write_state`; never runs code.

    Raises:
        CheckpointError: the checkpoint is missing, truncated, changed, or no data.
    """
    path = folder / "checkpoint.pt"
    return parse(verified(path, folder / "checkpoint.sha256"), str(path))


def verified(path: Path, digest: str | Path) -> bytes:
    """A file's content, whose SHA-256 begins with `digest`, or is in the file of that path.

    Raises:
        CheckpointError: it is missing, truncated, or changed.
    """
    try:
        wanted = digest.read_text("ascii").strip() if isinstance(digest, Path) else digest
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from None
    found = hashlib.sha256(data).hexdigest()
    # all 64 digits of a file of digests, at least 16 of a name
    if not found.startswith(wanted) or len(wanted) < (64 if isinstance(digest, Path) else 16):
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 is {found[:12]}..., not {wanted[:12]}..."
        )
    return data


def write_clusters(folder: Path, clusters: Mapping[str, Mapping[str, Any]]) -> None:
    """`labels.parquet` (row, a column a clustering; -1: unreadable), `centroids.safetensors`."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.torch import save_file

    labels = {name: c["labels"].numpy() for name, c in clusters.items()}
    schema = pa.schema([("row", pa.int64()), *((name, pa.int32()) for name in labels)])
    count = len(next(iter(labels.values())))
    with pq.ParquetWriter(folder / "labels.parquet", schema, compression="zstd") as writer:
        for start in range(0, max(count, 1), GROUP_ROWS):
            columns = {"row": np.arange(start, min(start + GROUP_ROWS, count), dtype=np.int64)}
            columns |= {
                name: labels_N[start : start + GROUP_ROWS] for name, labels_N in labels.items()
            }
            writer.write_table(pa.table(columns, schema))
    tensors = {  # cloned, since several clusterings of a space share its preparation
        f"{name}.{key}": value.clone(memory_format=torch.contiguous_format)
        for name, c in clusters.items()
        for key, value in c.items()
        if key not in ("labels", "numbers", "of_features")
    }
    save_file(tensors, folder / "centroids.safetensors")


def _save(state: Mapping[str, Any], path: Path) -> None:
    # A file of Python's: PyTorch's own writer refuses some names, and does not say what the system
    # said.
    with path.open("wb") as file:
        torch.save(dict(state), file)
