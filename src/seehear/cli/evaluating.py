"""What a model is worth: evaluate, for every task, and a table of several results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

import seehear
from seehear.cli.base import print_table, say
from seehear.machine.console import counted

NAMED = 3  # items left out that are named on a terminal; the result names more

OF_TASK = {  # option -> the tasks that it belongs to; the others are for all of them
    "classifier": ("probe",),
    "low_shot": ("probe", "finetune"),
    "baseline": ("probe",),
    "num_crops": ("probe", "retrieval", "features"),
    "num_clusters": ("clusters",),
    "preset": ("finetune",),
    "frames": ("finetune",),
    "freeze": ("finetune",),
    "scratch": ("finetune",),
    "resume": ("finetune",),
    "overwrite": ("finetune", "features"),
    "changes": ("finetune",),
    "form": ("features",),
    "stride_seconds": ("features",),
    "out": ("features",),
}


class ByTask(click.Command):
    """A command whose help lists the options of each task under the task's name."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options for all tasks first."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for option in self.get_params(ctx):
            if isinstance(option, click.Argument):
                continue
            shown = option.get_help_record(ctx)
            if shown is None and isinstance(option, click.Option):
                option.hidden = False
                shown = option.get_help_record(ctx)
                option.hidden = True
            if shown is not None:
                tasks = OF_TASK.get(option.name or "", ())
                groups.setdefault(
                    f"Options of {' and '.join(tasks)}" if tasks else "Options", []
                ).append(shown)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> list[int]:
    """ "1,5,10" -> [1, 5, 10]."""
    if not value:
        return []
    try:
        found = [int(part) for part in value.replace(",", " ").split()]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise click.BadParameter(
            f"{value!r} must be positive whole numbers separated by commas, such as 1,5,10,20."
        )
    return found


@click.command(cls=ByTask, short_help="Measure a model where classes are known.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--task",
    default="probe",
    show_default=True,
    help="probe, finetune, retrieval, clusters or features.",
)
@click.option("--data", type=click.Path(path_type=Path), help="An index, or a benchmark's folder.")
@click.option(
    "--classes", type=click.Path(path_type=Path), help="For an index, a CSV: path,class[,split]."
)
@click.option(
    "--dataset",
    default="auto",
    show_default=True,
    help="The benchmark's layout: ucf101, esc50, folders, ...",
)
@click.option("--modality", help="video or audio. [default: all there are]")
@click.option(
    "--clips",
    "num_clips",
    type=int,
    help="Clips of each item, averaged. [default: 10; clusters: 1]",
)
@click.option(
    "--crops",
    "num_crops",
    type=int,
    hidden=True,
    help="Crops of each clip, 1 or 3. [default: the field's on the set]",
)
@click.option(
    "--results", type=click.Path(path_type=Path), help="Folder to write to. [default: RUN/results]"
)
@click.option("--seed", default=0, show_default=True, help="Draws what is drawn.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option("--table", is_flag=True, help="Print results of several runs side by side instead.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--classifier", hidden=True, help="logistic or svm. [default: the field's on the set]"
)
@click.option(
    "--low-shot",
    callback=numbers,
    hidden=True,
    help="Examples a class: 1,5,10,20, beside all; finetune: one number.",
)
@click.option(
    "--baseline",
    is_flag=True,
    hidden=True,
    help="Also classify by hand-made colour, motion and log-mel statistics.",
)
@click.option(
    "--num-clusters",
    hidden=True,
    help="K: classes (as many), run (the run's) or a number. [default: run]",
)
@click.option(
    "--preset", hidden=True, help="ucf101, hmdb51, their -8frames, kinetics-linear, esc50, default."
)
@click.option(
    "--frames", type=int, hidden=True, help="Frames in a clip, 8 or 32. [default: the preset's]"
)
@click.option("--freeze", is_flag=True, hidden=True, help="Train the classifier alone.")
@click.option("--scratch", is_flag=True, hidden=True, help="Start from random weights instead.")
@click.option("--resume", is_flag=True, hidden=True, help="Go on after the last checkpoint.")
@click.option("--overwrite", is_flag=True, hidden=True, help="Replace what is there.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    hidden=True,
    metavar="NAME=VALUE",
    help="Change a setting: lr=0.001.",
)
@click.option(
    "--format", "form", hidden=True, help="parquet, numpy or sequence. [default: parquet]"
)
@click.option(
    "--stride-seconds",
    type=float,
    hidden=True,
    help="Between features of a sequence. [default: 0.5]",
)
@click.option(
    "--out", type=click.Path(path_type=Path), hidden=True, help="Folder for the features."
)
def evaluate(models: tuple[str, ...], table: bool, as_json: bool, **given: Any) -> None:
    """Measure MODEL on videos or sounds whose classes are known.

    MODEL is a run, an encoders/ folder, released weights by name (`seehear weights list`) or file,
    or hf:NAME. The data are an index with --classes, or a benchmark as its makers publish it
    (docs/datasets.md).
    """
    if table and as_json:
        raise click.UsageError(
            "--table is Markdown. For JSON, read RUN/results, or leave --table out."
        )
    if table:
        from seehear.evaluation.table import compare

        say(compare(models))
        return
    task, data = given.pop("task"), given.pop("data")
    if len(models) > 1:
        raise click.UsageError("Several models are for --table; measure one at a time.")
    if data is None:
        raise click.UsageError(
            "Missing option '--data': an index with --classes, or a benchmark's folder."
        )
    if task == "features" and given["out"] is None:
        raise click.UsageError("Missing option '--out': the folder for the features.")
    for name, tasks in OF_TASK.items():
        option = {"changes": "set", "form": "format", "num_crops": "crops"}.get(name, name)
        if task not in tasks and given[name] not in (None, False, [], ()):
            raise click.UsageError(
                f"--{option.replace('_', '-')} belongs to --task {' or '.join(tasks)}, not to "
                f"{task}."
            )
        if task not in tasks or given[name] in (None, [], ()):
            del given[name]
    if "changes" in given:
        given["changes"] = dict(parted(change) for change in given["changes"])
    result = seehear.evaluate(models[0], task=task, data=data, **given)
    if not result:  # another rank has it
        return
    if as_json:
        say(json.dumps(result))
        return
    show(result)
    say(f"Written: {result['written']}")


def parted(change: str) -> tuple[str, str]:
    """ "lr=0.001" -> ("lr", "0.001")."""
    name, sign, value = change.partition("=")
    if not sign:
        raise click.UsageError(f"--set {change} must be NAME=VALUE, such as lr=0.001.")
    return name.strip(), value.strip()


def show(result: Mapping[str, Any]) -> None:
    """A result for a person."""
    data = result["data"]
    if data["left_out"]:
        count, official = sum(data["left_out"].values()), data["num_official"]
        where = "are not in the index" if data["kind"] == "index" else "cannot be measured"
        say(f"{count} of {official} items {where}: {listing(data['left_out'])}")
        say(f"for instance {listing_of_some(data['left_out_items'])}")
    if result["unreadable"]:
        say(
            f"{sum(result['unreadable'].values())} clips could not be read: "
            f"{listing(result['unreadable'])}"
        )
    if result.get("num_unread_test"):
        say(f"{result['num_unread_test']} test items that could not be read count as wrong")
    for note in result.get("notes", ()):
        say(f"Note: {note}")
    shower = {"retrieval": show_retrieval, "clusters": show_clusters, "features": show_features}
    shower.get(result["task"], show_accuracy)(result)


def listing(counts: Mapping[str, int]) -> str:
    """ "4 silent audio, 3 no file"."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def listing_of_some(reasons: Mapping[str, str]) -> str:
    """The first few items with their reasons."""
    return ", ".join(f"{item!r} ({reason})" for item, reason in list(reasons.items())[:NAMED])


def show_accuracy(result: Mapping[str, Any]) -> None:
    """Accuracies with their intervals, and what they must be compared with."""
    rows = [["", "top-1, %", "95 % interval", "top-5, %"]]
    for label, key in (("", "values"), (" baseline", "baseline")):
        for modality, v in result.get(key, {}).items():
            first, between = (
                v.get("top1", v.get("map")),
                v.get("top1_interval", v.get("map_interval")),
            )
            interval = f"{between[0]:.1%} - {between[1]:.1%}".replace("%", "") if between else ""
            rows.append([modality + label, share(first), interval, share(v.get("top5"))])
    if "map" in next(iter(result["values"].values())):
        rows[0][1] = "mAP, %"
    print_table(rows)
    for label, key in (("", "low_shot"), (" baseline", "baseline_low_shot")):
        found = result.get(key)
        for modality, counts in found.items() if isinstance(found, Mapping) else ():
            listing = ", ".join(f"{count}: {share(v['mean'])}" for count, v in counts.items())
            say(f"{modality}{label}, examples a class: {listing}")
    majority = f", majority {result['majority']:.1%}" if result["majority"] is not None else ""
    if "folder" in result:
        say(f"networks and checkpoints: {result['folder']}")
    tests = result["n_test"] if isinstance(result["n_test"], int) else sum(result["n_test"])
    say(
        f"chance {result['chance']:.1%}{majority}; {tests} test items, {result['num_classes']} "
        f"classes"
    )


def show_retrieval(result: Mapping[str, Any]) -> None:
    """Recall at each rank, chance beside the first."""
    ranks = list(next(iter(next(iter(result["values"].values())).values()))["recall"])
    rows = [["query to answer", "gallery", *(f"R@{k}, %" for k in ranks), "chance R@1"]]
    for direction, galleries in result["values"].items():
        for gallery, v in galleries.items():
            rows.append(
                [
                    direction,
                    gallery,
                    *(share(x) for x in v["recall"].values()),
                    share(v["chance"]["1"]),
                ]
            )
    print_table(rows)
    print(f"split: {', '.join(result['splits'])}; {result['clips']['per_item']} clips an item")


def show_clusters(result: Mapping[str, Any]) -> None:
    """Agreement of each space's clusters with the classes, and of the spaces with each other."""
    names = {
        "num_clusters": "K",
        "nmi": "NMI",
        "ami": "AMI",
        "ari": "ARI",
        "purity": "purity",
        "hungarian": "Hungarian",
        "entropy": "entropy",
    }
    rows = [["clusters", *names.values(), "sizes"]]
    for space, v in result["values"].items():
        sizes = v["sizes"]
        measures = [str(v[key]) if key == "num_clusters" else f"{v[key]:.3f}" for key in names]
        rows.append([space, *measures, f"{sizes['smallest']}-{sizes['largest']}"])
    print_table(rows)
    say(f"K is {result['num_clusters_is']}; NMI is normalised by the {result['nmi_normalisation']}")
    for pair, value in result["between"].items():
        say(f"NMI between {pair}: {value:.3f}")
    for space, v in result["values"].items():
        best = [
            f"{c['cluster']} ({next(iter(c['classes']))}, {c['share']:.0%} of {c['size']})"
            for c in v["purest"][:3]
        ]
        say(f"purest {space} clusters: {', '.join(best)}")


def show_features(result: Mapping[str, Any]) -> None:
    """What was written where."""
    values = result["values"]
    counts = [
        counted(values[name], name[:-1]) for name in ("rows", "videos", "windows") if name in values
    ]
    widths = [
        f"{values[f'{m}_width']} numbers ({m})"
        for m in ("video", "audio")
        if f"{m}_width" in values
    ]
    say(
        f"{result['out']}: {', '.join(counts)}"
        + (f"; {' and '.join(widths)} a row" if widths else "")
    )


def share(value: float | None) -> str:
    """A share of 1 as a percentage."""
    return "" if value is None else f"{100 * value:.1f}"


COMMANDS = (evaluate,)
