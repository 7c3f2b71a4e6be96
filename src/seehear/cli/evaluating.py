"""What a model is worth: evaluate, for every task, and a table of several results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

import seehear
from seehear.cli.base import (
    PATH,
    WORD,
    Command,
    Decorator,
    Existing,
    Numbers,
    answer,
    command,
    explain,
    flag,
    option,
    print_table,
    say,
    shared,
)
from seehear.machine.console import counted

NAMED = 3  # items left out that are named on a terminal; the result names more


class TaskOption(click.Option):
    """An option that belongs to some tasks alone: `tasks`, their names between spaces."""

    def __init__(self, *args: Any, tasks: str, **how: Any) -> None:
        super().__init__(*args, **how)
        self.hidden = True
        self.tasks = tasks.split()

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Hidden from lists of all options; `ByTask` shows it."""
        self.hidden = False
        try:
            return super().get_help_record(ctx)
        finally:
            self.hidden = True


class ByTask(Command):
    """A command whose help lists the options of each task under the task's name."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Options for all tasks first."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            shown = param.get_help_record(ctx)
            tasks = param.tasks if isinstance(param, TaskOption) else []
            title = f"Options of {' and '.join(tasks)}" if tasks else "Options"
            if shown is not None and not isinstance(param, click.Argument):
                groups.setdefault(title, []).append(shown)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def of(tasks: str, names: str, help: str, **how: Any) -> Decorator:
    """An option of some tasks."""
    return option(names, help, cls=TaskOption, tasks=tasks, **how)


@command(cls=ByTask, short_help="Measure a model where classes are known.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@option("--task", "probe, finetune, retrieval, clusters or features.", default="probe", type=WORD)
@option(
    "--data", "An index, or a benchmark's folder.", type=Existing("Name an index, or a folder.")
)
@option("--classes", "For an index, a CSV: path,class[,split].", type=Existing())
@option(
    "--dataset", "The benchmark's layout: ucf101, esc50, folders, ...", default="auto", type=WORD
)
@option("--modality", "video or audio. [default: all there are]", type=WORD)
@option("--clips num_clips", "Clips of each item, averaged. [default: 10; clusters: 1]", type=int)
@option("--results", "Folder to write to. [default: RUN/results]", type=PATH)
@option("--seed", "Draws what is drawn.", default=0)
@shared("--device")
@flag("--table", "Print results of several runs side by side instead.")
@shared("--json")
@of(
    "probe retrieval features",
    "--crops num_crops",
    "Crops of each clip, 1 or 3. [default: the field's on the set]",
    type=int,
)
@of("probe", "--classifier", "logistic or svm. [default: the field's on the set]", type=WORD)
@of(
    "probe finetune",
    "--low-shot",
    "Examples a class: 1,5,10,20, beside all; finetune: one number.",
    type=Numbers(),
)
@of(
    "probe",
    "--baseline",
    "Also classify by hand-made colour, motion and log-mel statistics.",
    is_flag=True,
)
@of(
    "clusters",
    "--num-clusters",
    "K: classes (as many), run (the run's) or a number. [default: run]",
    type=WORD,
)
@of(
    "finetune",
    "--preset",
    "ucf101, hmdb51, their -8frames, kinetics-linear, esc50, default.",
    type=WORD,
)
@of("finetune", "--frames", "Frames in a clip, 8 or 32. [default: the preset's]", type=int)
@of("finetune", "--freeze", "Train the classifier alone.", is_flag=True)
@of("finetune", "--scratch", "Start from random weights instead.", is_flag=True)
@of("finetune", "--resume", "Go on after the last checkpoint.", is_flag=True)
@of("finetune features", "--overwrite", "Replace what is there.", is_flag=True)
@of("finetune", "--set changes", "Change a setting: lr=0.001.", multiple=True, metavar="NAME=VALUE")
@of(
    "probe finetune retrieval clusters",
    "--explain",
    "Also say what the numbers mean.",
    is_flag=True,
)
@of("features", "--format form", "parquet, numpy or sequence. [default: parquet]", type=WORD)
@of("features", "--stride-seconds", "Between features of a sequence. [default: 0.5]", type=float)
@of("features", "--out", "Folder for the features.", type=PATH)
def evaluate(models: tuple[str, ...], table: bool, as_json: bool, **given: Any) -> None:
    """Measure MODEL on videos or sounds whose classes are known.

    MODEL is a run, an encoders/ folder, released weights by name (`seehear weights list`) or file,
    or hf:NAME. The data are an index with --classes, or a benchmark as its makers publish it
    (docs/datasets.md).
    """
    if table:
        if as_json:
            raise click.UsageError(
                "--table is Markdown. For JSON, read RUN/results, or leave --table out."
            )
        from seehear.evaluation.table import compare

        say(compare(models))
        return
    if len(models) > 1:
        raise click.UsageError("Several models are for --table; measure one at a time.")
    if given["data"] is None:
        raise click.UsageError(
            "Missing option '--data': an index with --classes, or a benchmark's folder."
        )
    if given["task"] == "features" and given["out"] is None:
        raise click.UsageError("Missing option '--out': the folder for the features.")
    arguments = for_task(given)
    explained = arguments.pop("explain", False)
    result = seehear.evaluate(models[0], **arguments)
    if not result:  # another rank has it
        return
    if not as_json:
        show(result)
        if explained:
            explain(result["task"])
    answer(as_json, result, f"Written: {result['written']}")


def for_task(given: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, without those of other tasks.

    Raises:
        UsageError: one belongs to another task.
    """
    for param in click.get_current_context().command.params:
        if not isinstance(param, TaskOption) or param.name is None:
            continue
        value = given[param.name]
        is_given = value is not None and value is not False and value != ()
        if given["task"] not in param.tasks and is_given:
            raise click.UsageError(
                f"{param.opts[0]} belongs to --task {' or '.join(param.tasks)}, not to "
                f"{given['task']}."
            )
        if not is_given:
            del given[param.name]
    if "changes" in given:
        given["changes"] = dict(parted(change) for change in given["changes"])
    return given


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
            first = v.get("top1", v.get("map"))
            between = v.get("top1_interval", v.get("map_interval"))
            interval = f"{between[0]:.1%} - {between[1]:.1%}".replace("%", "") if between else ""
            rows.append([modality + label, share(first), interval, share(v.get("top5"))])
    if "map" in next(iter(result["values"].values())):
        rows[0][1] = "mAP, %"
    print_table(rows)
    for label, key in (("", "low_shot"), (" baseline", "baseline_low_shot")):
        found = result.get(key)
        for modality, counts in found.items() if isinstance(found, Mapping) else ():
            each = [
                f"{share(v['mean'])} with {counted(int(k), 'example')}" for k, v in counts.items()
            ]
            say(f"{modality}{label}, {rows[0][1]}: {', '.join(each)} a class")
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
            rows.append([direction, gallery, *map(share, v["recall"].values())])
            rows[-1].append(share(v["chance"]["1"]))
    print_table(rows)
    clips = counted(result["clips"]["per_item"], "clip")
    print(f"split: {', '.join(result['splits'])}; {clips} an item")


def show_clusters(result: Mapping[str, Any]) -> None:
    """Agreement of each space's clusters with the classes, and of the spaces with each other."""
    heads = ("K", "NMI", "AMI", "ARI", "purity", "Hungarian", "entropy")
    names = ("num_clusters", *map(str.lower, heads[1:]))
    rows = [["clusters", *heads, "sizes"]]
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
