"""What a run is worth: evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

import seehear


@click.command(short_help="Measure a run where classes are known.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--task", default="probe", show_default=True, help="probe or clusters.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="An index of the videos.")
@click.option("--classes", required=True, type=click.Path(path_type=Path), help="CSV: path,class[,split].")
@click.option("--seed", default=0, show_default=True, help="Draws the split where the file has none.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def evaluate(run: Path, as_json: bool, **options: Any) -> None:
    """Measure the encoders of RUN on videos whose classes are known."""
    result = seehear.evaluate(run, **options)
    if as_json:
        print(json.dumps(result))
    elif result["task"] == "probe":
        for modality, value in result["values"].items():
            print(f"{modality} probe: {value:.1%}")
        print(f"chance {result['chance']:.1%}, majority {result['majority']:.1%}; {result['n_test']} test videos")
    else:
        for space, values in result["values"].items():
            print(f"{space} clusters: NMI {values['nmi']:.2f}, purity {values['purity']:.1%}")
    if not as_json:
        print(f"Written: {run / 'results' / result['task']}.json")


COMMANDS = (evaluate,)
