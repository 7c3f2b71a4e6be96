"""How are files of a run read that something may have damaged, or another program rewritten?

Whatever goes wrong ends in one line that names the file and says what to do. What another program
has only written in another way is read: rows in another order, wider numbers, Fortran's order.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seehear.errors import RunError, SeehearError, SettingsError
from seehear.machine.outputs import read_marker

CLUSTERING = r"(video|audio|joint)(_[0-9]{1,9})?"


@contextlib.contextmanager
def readable(path: Path, advice: str, error: type[SeehearError] = RunError) -> Iterator[None]:
    """Turn whatever the content of a file leads to into one line that names the file."""
    try:
        yield
    except Exception as wrong:  # of whatever kind the bytes of a stranger lead to
        if isinstance(wrong, SeehearError) and not isinstance(wrong, SettingsError):
            raise
        what = wrong.strerror if isinstance(wrong, OSError) and wrong.strerror else str(wrong)
        told = " ".join(what.split())[:200] or type(wrong).__name__
        told = f"no {told}" if isinstance(wrong, KeyError) else told
        raise error(f"{path} cannot be read ({told}). {advice}") from None


def anew(run: Path) -> str:
    """How what the finished encoders say is made again."""
    if read_marker(run / "run.json").get("encoder"):
        return "Make it anew: seehear cluster with --overwrite."
    return f"Make it anew: remove {run / 'encoders'}, then run seehear pretrain with --resume."


def rows_of(run: Path) -> int | None:
    """How many rows a run was trained on, as its run.json says."""
    about = read_marker(run / "run.json").get("index")
    rows = about.get("rows") if isinstance(about, dict) else None
    return rows if isinstance(rows, int) else None


def read_labels(
    path: Path, advice: str, sizes: Mapping[str, int] | None = None, num_rows: int | None = None
) -> dict[str, NDArray[np.int32]]:
    """The labels of every row, (N,) int32 by clustering, -1 where a row could not be read.

    Where `labels.parquet` has a column `row`, its lines may stand in any order. `sizes` says how
    many clusters there are by clustering, all of which must be there. Raises RunError where it
    cannot be read, or does not hold that.
    """
    import pyarrow.parquet as pq

    with readable(path, advice):
        table = pq.read_table(path)
        order = np.arange(len(table))
        if num_rows not in (None, len(table)):
            raise ValueError(f"it has {len(table)} rows, and run.json says {num_rows}")
        if "row" in table.column_names:
            order = np.argsort(table["row"].to_numpy(), kind="stable")
            if not np.array_equal(table["row"].to_numpy()[order], np.arange(len(table))):
                raise ValueError("its rows are not 0 to N - 1")
        found = {}
        names = [name for name in table.column_names if re.fullmatch(CLUSTERING, name)]
        if sizes and not sizes.keys() <= set(names):
            raise ValueError(
                f"it has {', '.join(names)}, and centroids.safetensors {', '.join(sizes)}"
            )
        for name in [name for name in names if not sizes or name in sizes]:
            values = table[name].to_numpy()[order]
            most = sizes[name] if sizes else np.iinfo(np.int32).max
            is_number = values.dtype.kind in "iuf"
            if not is_number or not ((values >= -1) & (values < most) & (values % 1 == 0)).all():
                raise ValueError(
                    f"{name} does not hold -1 to {most - 1}, as centroids.safetensors has clusters"
                )
            found[name] = values.astype(np.int32)
        if not found:
            raise ValueError("it has no labels of video, audio or joint")
        return found


def open_features(
    run: Path, num_rows: int | None = None, widths: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """The features of a finished run: modality -> (N, D), mapped; NaN where unreadable.

    There must be so many rows, and by modality so many columns; RunError where files hold something
    else, or are not there.
    """
    paths = [path for m in ("video", "audio") if (path := run / "features" / f"{m}.npy").exists()]
    if not paths:
        raise RunError(
            f"{run} has no features of its rows in features/. Make them: seehear pretrain ... "
            f"--resume"
        )
    found: dict[str, Any] = {}
    for path in paths:
        with readable(path, anew(run)):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            wanted = (num_rows or len(array), (widths or {}).get(path.stem, array.shape[-1]))
            if array.shape != wanted or array.dtype.kind != "f":
                raise ValueError(
                    f"it holds {array.dtype} {array.shape}, not floating point {wanted}"
                )
            found[path.stem] = array
            num_rows = len(array)
    return found


def open_recordings(run: Path, num_rows: int) -> NDArray[np.int32]:
    """Which recording each row of a finished run is of, (N,) int32, mapped.

    Raises:
        RunError: it is not there, or holds something else.
    """
    path = run / "features" / "recording.npy"
    with readable(path, anew(run)):
        array: NDArray[np.int32] = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.shape != (num_rows,) or array.dtype != np.int32 or array.min(initial=0) < 0:
            raise ValueError(f"it holds {array.dtype} {array.shape}, not {num_rows} recordings")
        return array
