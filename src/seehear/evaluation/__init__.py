"""How good is what was learned? One file a question; only here are human classes read.

`probe` linear classifiers on frozen features · `finetune` the whole encoder · `retrieval` nearest
neighbours, also across the senses · `clusters` pseudo-labels against classes · `features` features
for other programs · `table` several results side by side. Beneath: `sets` and `datasets` what is
measured on, `protocols` what the field takes on each set, `context` features extracted once,
`linear` and `classifiers` linear models and intervals, `baselines` what no learning at all reaches.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from seehear.data.placing import MODALITIES
from seehear.errors import SettingsError
from seehear.evaluation.classes import Classes, read_classes
from seehear.evaluation.clusters import evaluate_clusters
from seehear.evaluation.context import Evaluation, rates
from seehear.evaluation.features import evaluate_features
from seehear.evaluation.finetuning import evaluate_finetune
from seehear.evaluation.linear import noted
from seehear.evaluation.probe import evaluate_probe
from seehear.evaluation.protocols import protocol_of
from seehear.evaluation.retrieval import evaluate_retrieval
from seehear.evaluation.sets import LabelledSet, only, open_set
from seehear.machine import distributed
from seehear.machine.console import Console
from seehear.machine.devices import find_device
from seehear.machine.files import now, versions, write_json
from seehear.machine.outputs import read_marker
from seehear.models.model import Model, load

__all__ = ["TASKS", "Classes", "evaluate", "read_classes"]

TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "probe": evaluate_probe,
    "finetune": evaluate_finetune,
    "retrieval": evaluate_retrieval,
    "clusters": evaluate_clusters,
    "features": evaluate_features,
}
UNDIVIDED = ("clusters", "features")  # tasks that need no parts to train and to test on
ON_RANKS = ("probe", "finetune", "retrieval", "features")  # tasks that ranks do together
NAMED = 20  # missing items whose names stand in a result


def evaluate(
    model: str | Path | Model,
    *,
    task: str = "probe",
    data: str | Path,
    classes: str | Path | None = None,
    dataset: str = "auto",
    modality: str | None = None,
    num_clips: int | None = None,
    num_crops: int | None = None,
    seed: int = 0,
    device: str = "auto",
    results: str | Path | None = None,
    console: Console | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Measure a model on a set whose classes are known, and write `<task>-<set>.json`.

    Under torchrun all processes call it alike: each extracts features of its share, and the first
    goes on alone; a fine-tune they do together.

    Args:
        model: the folder of a run or of its encoders, the name of released weights, a checkpoint,
            or a loaded model.
        task: "probe", "finetune", "retrieval", "clusters" or "features".
        data: the folder of an index, with `classes`, or of a benchmark as its makers publish it.
        classes: for an index, a CSV file with the columns `path` (relative to the file), `class`
            and, if wanted, `split`.
        dataset: the layout of the benchmark, a name of `seehear.evaluation.datasets.LAYOUTS`;
            "auto" finds it out.
        modality: "video" or "audio" to measure one; by default all that the model and the set have.
        num_clips: so many clips of each item, spread evenly over it, have their features averaged;
            after a fine-tune their scores. By default what the field takes, 10; 1 of each segment
            for clusters.
        num_crops: so many crops of each clip's frames, from end to end of the longer side, are
            averaged as well. By default what the field takes on the set
            (`seehear.evaluation.protocols`): 3 or 1, the centre.
        seed: draws what is drawn: a split where there is none, few examples, bootstrap replicates.
        device: where the encoders run.
        results: the folder to write to; by default `results` of the run, or `results/<model>` here.
        console: where progress is shown; stderr by default.
        options: of the task: see `seehear.evaluation.probe.evaluate_probe` and so on.
    Returns:
        What is written: values beside chance and majority rate, n, protocol, digests, missing
        files, versions. On ranks but the first, nothing.
    Raises:
        SettingsError: an unknown task or option, or classes that do not fit the set.
        RunError: there are no encoders.
    """
    check_asked(task, modality, num_clips, num_crops)
    device = join(task, options, device)
    loaded = model if isinstance(model, Model) else load(model, device=device)
    path = None if isinstance(model, Model) else Path(model)
    if distributed.rank() > 0:
        console = Console(quiet=True)
    wanted = (modality,) if modality else ()
    with console or Console() as shown:
        there = loaded.modalities
        if modality and modality not in there:
            raise SettingsError(f"{model} has no {modality} encoder; it has {' and '.join(there)}.")
        opened = open_set(
            Path(data),
            classes=Path(classes) if classes else None,
            layout=dataset,
            wanted=wanted,
            seed=seed,
            divided=task not in UNDIVIDED,
            needs_classes=task != "features",
            console=shown,
        )
        opened = measurable(opened, there, wanted)
        folder = Path(results) if results else home_of(path, loaded)
        usual = protocol_of(opened.name, task)
        context = Evaluation(
            loaded, opened, seed, num_clips, shown, folder, num_crops=num_crops, usual=usual
        )
        on_all = task == "finetune"  # else the first goes on alone with the features of all
        if not on_all and distributed.world_size() > 1:
            _ = context.features
            if distributed.rank() > 0:
                return {}
        with nullcontext() if on_all else distributed.without_ranks(), noted() as notes:
            found = TASKS[task](context, **options)
        if distributed.rank() > 0:
            return {}
        result = {**head(task, path, loaded, opened), **about(context), **found, "notes": notes}
        result |= {"created": now(), **versions()}
    written = file_of(folder, "-".join([task, *found.get("variant", ())]), opened)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(written, result)
    return {**result, "written": str(written)}


def check_asked(
    task: str, modality: str | None, num_clips: int | None, num_crops: int | None
) -> None:
    """Raise SettingsError for what no task could do."""
    if task not in TASKS:
        near = difflib.get_close_matches(task, TASKS, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise SettingsError(f"There is no task {task}. {hint}Tasks: {', '.join(TASKS)}.")
    if modality not in (None, *MODALITIES):
        raise SettingsError(f"There is no modality {modality}. It must be video or audio.")
    if num_clips is not None and num_clips < 1:
        what = f"--clips is {num_clips}. It must be at least 1"
        raise SettingsError(f"{what}; 10 is usual for videos of 10 s.")
    if num_crops is not None and (num_crops not in (1, 3) or task == "finetune"):
        what = f"--crops is {num_crops}, for {task}. It must be 1, the centre, or 3"
        raise SettingsError(f"{what}: left, centre and right; a fine-tune tests the centre.")


def join(task: str, options: Mapping[str, Any], device: str) -> str:
    """Join the other ranks, if torchrun started this process; returns the device of this one.

    Raises:
        SettingsError: the task runs as one process.
    """
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1:
        return device
    if task not in ON_RANKS or options.get("form") == "sequence":
        what = f"Task {task}" if task not in ON_RANKS else "Task features with --format sequence"
        raise SettingsError(
            f"{what} runs as one process, and torchrun started {ranks}. Run it without torchrun; "
            f"{', '.join(ON_RANKS)} work on several ranks."
        )
    return str(distributed.start(find_device(device)))


def measurable(data: LabelledSet, there: tuple[str, ...], wanted: tuple[str, ...]) -> LabelledSet:
    """The set reduced to what the model has and the caller wants."""
    left = only(data, wanted or there)
    if not left.modalities:
        has, serves = " and ".join(there), " and ".join(data.modalities)
        what = f"The model has {has}, and {data.name} serves {serves}"
        raise SettingsError(f"{what}: there is nothing to measure.")
    return left


def home_of(path: Path | None, model: Model) -> Path:
    """Where results of a model go."""
    if model.run is not None:
        return model.run / "results"
    return Path("results") / plain(path.stem if path else str(model.info.get("name", "model")))


def plain(name: str) -> str:
    """A name that is safe as part of a file name."""
    return re.sub(r"[^\w.-]", "_", name)


def file_of(folder: Path, task: str, data: LabelledSet) -> Path:
    """`<task>-<set>.json`; if that is taken by something else, with a digest or a number."""
    path = folder / f"{task}-{plain(data.name)}.json"
    apart = f"{path.stem}-{data.digest.split(':')[-1][:8]}"
    stems = [path.stem, apart, *(f"{apart}-{n}" for n in range(2, 100))]
    names = map(path.with_stem, stems)
    return next(n for n in names if not os.path.lexists(n) or is_result_of(n, data))


def is_result_of(path: Path, data: LabelledSet) -> bool:
    """Whether a file is a result on this set."""
    about = read_marker(path).get("data")
    return isinstance(about, dict) and about.get("digest") == data.digest


def head(task: str, path: Path | None, model: Model, data: LabelledSet) -> dict[str, Any]:
    """What was measured on what."""
    reasons = Counter(sorted(data.left_out.values()))
    return {
        "task": task,
        "model": {"name": str(path or model.info.get("name", "model")), "digest": model.digest},
        "data": {
            "name": data.name,
            "source": data.source,
            "digest": data.digest,
            "num_official": data.num_official,
            "num_present": data.num_official - len(data.missing),
            "num_missing": len(data.missing),
            "missing": list(data.missing[:NAMED]),
            "unopened": data.unreadable,
            "left_out": dict(reasons.most_common()),
            "kind": data.kind,
            "left_out_items": dict(list(data.left_out.items())[:NAMED]),
        },
    }


def about(context: Evaluation) -> dict[str, Any]:
    """What every result holds beside its values."""
    data = context.data
    readable_V = context.pooled[1] if "features" in context.__dict__ else present(data)
    rated: Mapping[str, Any] = rates(data, readable_V)
    return {
        **rated,
        "modalities": list(context.modalities),
        "clips": {
            **asdict(context.model.clip),
            "per_item": context.clips_an_item,
            "crops": context.crops,
        },
        "seed": context.seed,
        "unreadable": dict(context.reading.failures),
    }


def present(data: LabelledSet) -> np.ndarray:
    """Which items have a row, (V,) bool."""
    there_V = np.zeros(len(data.items), dtype=bool)
    there_V[data.item_N[data.rows]] = True
    return there_V
