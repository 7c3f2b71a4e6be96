"""How do features reach other programs? Whole sets as Parquet or NumPy, or an array a video.

parquet    features.parquet: item, class, row, start_s, seconds, and a list of numbers a modality
numpy      <modality>.npy (N, D) float32, and items.csv with the same lines
sequence   <item>.npy (T, D) float32 a video, one feature every stride, as temporal localisation
           reads it (THUMOS14, ActivityNet); sequences.json holds stride, window, frame rate and
           duration

Beside them features.json lists the files, so that the folder is known for what it is when it is to
be replaced.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from seehear.config import Data
from seehear.data.clips import Clips
from seehear.data.index.lookup import look_up
from seehear.data.stretches import Stretch
from seehear.errors import SettingsError
from seehear.evaluation.context import Evaluation
from seehear.machine.files import whole_folder, write_json
from seehear.machine.locks import one_writer
from seehear.machine.outputs import FEATURES, check_folder
from seehear.machine.spreadsheets import write_csv
from seehear.method.features import extract

FORMATS = ("parquet", "numpy", "sequence")


def evaluate_features(
    context: Evaluation,
    *,
    out: Path,
    form: str = "parquet",
    stride_seconds: float = 0.5,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write features of all rows to the folder `out`, whole or not at all.

    Args:
        context: the model and the set.
        out: the folder; must not exist unless `overwrite` is set.
        form: "parquet", "numpy" or "sequence".
        stride_seconds: between the features of a sequence.
    Raises:
        SettingsError: an unknown form, a stride that is not positive, or a folder that exists.
    """
    if form not in FORMATS:
        what = f"There is no format {form} of features"
        raise SettingsError(f"{what}. It must be {', '.join(FORMATS)}.")
    if not stride_seconds > 0:
        what = f"--stride-seconds is {stride_seconds:g}"
        raise SettingsError(f"{what}. It must be positive; 0.25 to 1 is usual.")
    inputs = [context.data.index.folder, *([context.model.run] if context.model.run else [])]
    check_folder(out, FEATURES, overwrite=overwrite, inputs=inputs)
    with one_writer(out), whole_folder(out, replaces=FEATURES) as folder:
        if form == "sequence":
            written = write_sequences(folder, context, stride_seconds)
        else:
            written = write_rows(folder, context, form)
        files = sorted(path.name for path in folder.iterdir())
        write_json(
            folder / FEATURES.marker, {"form": form, "model": context.model.digest, "files": files}
        )
    return {"values": written, "out": str(out), "form": form, "protocol": context.clips_sentence}


def write_rows(folder: Path, context: Evaluation, form: str) -> dict[str, int]:
    """One feature a row."""
    data, features = context.data, context.features
    rows = features.rows
    lines: dict[str, list[Any]] = {
        "item": [data.items[i] for i in data.item_N[rows]],
        "class": [class_names(context, int(item)) for item in data.item_N[rows]],
        "path": [data.index.original_path(int(row)) for row in rows],
        "start_s": data.index.original_start_s[rows].tolist(),
        "seconds": data.index.seconds[rows].tolist(),
    }
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns: dict[str, Any] = {name: pa.array(values) for name, values in lines.items()}
        for modality, part in features.of.items():
            flat = pa.array(part.numpy().reshape(-1))
            columns[modality] = pa.FixedSizeListArray.from_arrays(flat, part.shape[1])
        pq.write_table(pa.table(columns), folder / "features.parquet", compression="zstd")
    else:
        for modality, part in features.of.items():
            np.save(folder / f"{modality}.npy", part.numpy())
        write_csv(folder / "items.csv", lines)
    return {"rows": len(rows), **{f"{m}_width": part.shape[1] for m, part in features.of.items()}}


def write_sequences(folder: Path, context: Evaluation, stride_seconds: float) -> dict[str, int]:
    """One (T, D) array a video and modality: windows of a clip, `stride_seconds` apart."""
    data, model = context.data, context.model
    paths = {data.index.path(row): int(data.item_N[row]) for row in data.rows.tolist()}
    whole = look_up([Stretch(path) for path in paths], context.modalities, console=context.console)
    window_s = model.clip.span_seconds(context.modalities)
    stretches, of_file, infos = [], [], []
    for row in range(len(whole.index)):
        start_s, seconds = float(whole.index.start_s[row]), float(whole.index.seconds[row])
        count = 1 + max(0, int((seconds - window_s) / stride_seconds + 1e-6))
        infos.append((whole.index.path(row), seconds, float(whole.index.fps[row]), count))
        stretches += [
            Stretch(infos[-1][0], start_s + i * stride_seconds, window_s) for i in range(count)
        ]
        of_file += [row] * count
    windows = look_up(stretches, context.modalities)
    clips = Clips(windows.index, model.clip, Data(), context.seed, context.modalities)
    features = extract(
        model.pair,
        clips,
        model.numerics,
        progress=context.console.watch("windows", len(windows.index)),
    )
    file_n = np.array(of_file)[windows.stretch_N[features.rows]]
    records, taken = [], set[str]()
    for number, (path, seconds, fps, count) in enumerate(infos):
        mine = file_n == number
        name = file_name(data.items[paths[path]], taken)
        for modality, part in features.of.items():
            ending = f".{modality}.npy" if len(features.of) > 1 else ".npy"
            np.save(folder / f"{name}{ending}", part[np.flatnonzero(mine)].numpy())
        record = {
            "item": data.items[paths[path]],
            "file": name,
            "features": int(mine.sum()),
            "windows": count,
        }
        records.append({**record, "duration_s": seconds, "fps": fps})
    about = {
        "stride_s": stride_seconds,
        "window_s": window_s,
        "modalities": list(features.of),
        "videos": records,
    }
    write_json(folder / "sequences.json", about)
    return {"videos": len(records), "windows": len(windows.index)}


def class_names(context: Evaluation, item: int) -> str:
    """The class of an item, or its classes joined by "|"; nothing in a set without classes."""
    data = context.data
    if not data.classes:
        return ""
    if data.multilabel:
        return "|".join(data.classes[c] for c in np.flatnonzero(data.target_V[item]))
    return str(data.classes[data.target_V[item]])


def file_name(item: str, taken: set[str]) -> str:
    """A name for files that is not taken: the item's stem, made safe, perhaps numbered."""
    stem = re.sub(r"[^\w.-]", "_", Path(item).stem).strip(".") or "video"
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return name
