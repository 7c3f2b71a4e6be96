"""How do several models compare? A Markdown table of their results, published numbers apart."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seehear.errors import RunError
from seehear.machine.outputs import TASKS
from seehear.machine.reading import readable

# What the official repository of XDC states for R(2+1)D-18 after full fine-tuning, and what VATT
# quotes for ESC-50:
# (task, set, modality) -> {model: value in %}. Other protocols, data and budgets than ours: for
# orientation only.
PUBLISHED: dict[tuple[str, str, str], dict[str, float]] = {
    ("finetune", "ucf101", "video"): {
        "XDC, IG-Kinetics": 95.5,
        "XDC, IG-Random": 94.6,
        "XDC, AudioSet": 93.0,
        "supervised, Kinetics": 94.2,
        "supervised, ImageNet": 84.0,
    },
    ("finetune", "hmdb51", "video"): {
        "XDC, IG-Kinetics": 68.9,
        "XDC, IG-Random": 66.5,
        "XDC, AudioSet": 63.7,
        "supervised, Kinetics": 65.1,
        "supervised, ImageNet": 48.1,
    },
    ("probe", "esc50", "audio"): {"XDC, as quoted by VATT": 84.8},
    ("probe", "esc10", "audio"): {  # Piczak 2015, on MFCC and zero crossings
        "k-nearest neighbours": 66.7,
        "linear SVM": 67.5,
        "random forest": 72.7,
        "people": 95.7,
    },
}


def compare(folders: Sequence[str | Path]) -> str:
    """Markdown: a row a number, a column a model, chance and n; published numbers below.

    Args:
        folders: runs, or folders of results.
    Raises:
        RunError: a folder holds no results.
    """
    columns = {str(folder): results_of(Path(folder)) for folder in folders}
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    beside: dict[tuple[str, str, str], str] = {}
    for folder, results in columns.items():
        for path, result in results.items():
            with readable(path, "Remove it, or evaluate again."):
                for measure, value in numbers(result):
                    task = " ".join([result["task"], *result.get("variant", ())])
                    key = (task, result["data"]["name"], measure)
                    lines.setdefault(key, {})[folder] = value
                    beside[key] = chance_of(result, measure)
    names = short_names(list(columns))
    head = ["task", "set", "measure", "chance", *(names[folder] for folder in columns)]
    rows = [
        [*key, beside[key], *(found.get(folder, "") for folder in columns)]
        for key, found in sorted(lines.items())
    ]
    return "\n".join(
        [*markdown(head, rows), *published_for({(key[0].split()[0], key[1]) for key in lines})]
    )


def results_of(folder: Path) -> dict[Path, dict[str, Any]]:
    """All results in a run or a folder of results, by file."""
    place = folder / "results" if (folder / "results").is_dir() else folder
    found = {}
    for path in sorted(place.glob("*.json")):
        with readable(path, "Remove it, or evaluate again."):
            result = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(result, dict) and {"task", "data", "values"} <= result.keys():
                found[path] = result
            elif re.fullmatch(rf"({TASKS})-.*", path.stem):
                raise ValueError("it is no result")
    if not found:
        how = f"seehear evaluate {folder} --task probe --data DATA"
        raise RunError(f"{folder} has no results. Make some: {how}")
    return found


def numbers(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The numbers of a result that a table shows: (measure, value), in %; NMI from 0 to 1."""
    found = []
    for name, values in result["values"].items():
        if result["task"] in ("probe", "finetune"):
            for measure in ("top1", "top5", "map"):
                if measure in values:
                    between = values.get(f"{measure}_interval")
                    found.append((f"{name} {measure}, %", percent(values[measure], between)))
        elif result["task"] == "retrieval":
            for gallery, measured in values.items():
                where = f"{gallery}, split {', '.join(result['splits'])}"
                first = percent(measured["recall"]["1"], measured["interval"])
                found.append((f"{name} R@1 ({where}), %", first))
                found.append((f"{name} R@5 ({where}), %", percent(measured["recall"]["5"])))
        elif result["task"] == "clusters":
            of = f"K = {values['num_clusters']}"  # what has another K is no match
            found.append((f"{name} NMI, {of}", f"{values['nmi']:.3f}"))
            found.append((f"{name} purity, {of}, %", percent(values["purity"])))
    return found


def chance_of(result: Mapping[str, Any], measure: str) -> str:
    """What guessing reaches, where that is one number."""
    if result["task"] in ("probe", "finetune") and "top5" not in measure:
        return percent(result["chance"])
    if result["task"] == "retrieval":
        direction, rank = measure.split(" R@")
        gallery = rank.split("(")[1].split(",")[0]
        return percent(result["values"][direction][gallery]["chance"][rank.split(" ")[0]])
    return "0" if " NMI, " in measure else ""


def published_for(shown: set[tuple[str, str]]) -> list[str]:
    """Published numbers for the tasks and sets that a table shows."""
    lines = []
    for (task, name, modality), values in PUBLISHED.items():
        if (task, name) in shown:
            listing = ", ".join(f"{model} {value}" for model, value in values.items())
            what = f"Published for {task} on {name}, {modality}, for orientation"
            lines.append(f"{what} (other data and budgets): {listing}.")
    return ["", *lines] if lines else []


def short_names(folders: Sequence[str]) -> dict[str, str]:
    """The last part of each path, or the whole where that is not unique."""
    last = [Path(folder).name for folder in folders]
    pairs = zip(folders, last, strict=True)
    return {folder: name if last.count(name) == 1 else folder for folder, name in pairs}


def percent(value: float, between: Sequence[float] | None = None) -> str:
    """A share as a percentage, with its interval."""
    shown = f"{100 * value:.1f}"
    return f"{shown} ({100 * between[0]:.1f}-{100 * between[1]:.1f})" if between else shown


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines, columns padded to be read as they are."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    rule = ["-" * width for width in widths]
    return ["| " + " | ".join(row) + " |" for row in (padded[0], rule, *padded[1:])]
