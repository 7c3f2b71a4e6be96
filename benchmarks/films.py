"""When do rows have to be compared with their recording alone? XDC on films, cut into segments.

    python benchmarks/films.py --seeds 0 1 2

A film is a recording with surroundings of its own: background, colours, camera, exposure, grain;
pitch, hum, noise, microphone, gain. They are the synthetic videos' nuisances, drawn once a film.
Each of its segments, of 2 s, shows one event, drawn from six by itself, with a timing of its own.
As many segments in all, as films of 1, 2, 4, 8 and 32; the test films have one each, and
surroundings that training has not seen. Preset demo, reduced; `cluster.centre` all and recording.
With --one-event all segments of a film show the same event: there centring has to hurt.

Of the final clusters of the training rows: NMI with the events, and AMI with the films (NMI with
many films is high by chance). Of the test segments: accuracy of a linear probe. Writes
results/films.json and films.md as it goes, and begins with what is there; what it trains is not
kept.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, save

from seehear.config import Settings, flatten, override
from seehear.data.clips import Clips
from seehear.data.index import Index, index
from seehear.data.synthetic.scenes import (
    CATALOGUE,
    EVENTS,
    FRAMES_PER_SECOND,
    PITCH_OCTAVES,
    photograph,
    record,
    set_stage,
)
from seehear.data.synthetic.sounds import SAMPLE_RATE_HZ
from seehear.data.synthetic.timing import draw_timing
from seehear.data.synthetic.writer import write_video
from seehear.evaluation.classes import read_classes
from seehear.evaluation.clusters import agreement, final_labels
from seehear.evaluation.sets import of_index
from seehear.machine.console import Console
from seehear.machine.devices import choose, set_threads
from seehear.machine.files import now, versions
from seehear.method.encoders.building import build_pair
from seehear.models.model import load
from seehear.presets import preset_settings
from seehear.reporting.demo import Stage, fixed, probe_pair
from seehear.runs.pretrain import pretrain

SECONDS = 2.0  # of a segment
SIZE_PIXELS = 32
CLASSES = 6  # of the twelve events, from the first on
REDUCED = {  # of preset demo, so that a run takes two minutes on one thread
    "cluster.num_clusters": (16,),
    "cluster.features": "l2",
    "rounds": 4,
    "train.order": "alternating",
    "train.epochs": 8,
    "clip.short_side_pixels": 28,
    "clip.crop_pixels": 24,
}
PER_FILM = (1, 2, 4, 8, 32)
CENTRES = ("all", "recording")  # auto is one of both, for each length of films
MEASURES = {  # key -> head, factor, form
    "nmi_video": ("NMI with events, video", 1, "{:.2f}"),
    "nmi_audio": ("audio", 1, "{:.2f}"),
    "ami_film_video": ("AMI with films, video", 1, "{:.2f}"),
    "ami_film_audio": ("audio", 1, "{:.2f}"),
    "video": ("probe, %, video", 100, "{:.1f}"),
    "audio": ("audio", 100, "{:.1f}"),
}


def main() -> None:
    """One line a run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--per-film", type=int, nargs="+", default=PER_FILM)
    parser.add_argument("--centres", nargs="+", choices=CENTRES, default=CENTRES)
    parser.add_argument("--segments", type=int, default=1152, help="to train on; a third more test")
    parser.add_argument("--one-event", action="store_true", help="a film: give another --name")
    parser.add_argument("--name", default="films", help="of the results")
    args = parser.parse_args()
    kept = RESULTS / f"{args.name}.json"
    cells = json.loads(kept.read_text())["cells"] if kept.exists() else {}
    with Console() as console:
        for seed in args.seeds:
            for per_film in args.per_film:
                # of films of one segment nothing is taken: both are one run
                wanted = [c for c in args.centres if per_film > 1 or c == "all"]
                wanted = [c for c in wanted if key(per_film, c, seed) not in cells]
                if not wanted:
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    stage = prepare(Path(folder), seed, per_film, args, console)
                    for centre in wanted:
                        begin = time.process_time()
                        found = measure(stage, centre)
                        found["cpu_seconds"] = round(time.process_time() - begin, 1)
                        cells[key(per_film, centre, seed)] = found
                        console.say(f"{key(per_film, centre, seed)}: {found}")
                        command = {"command": shlex.join(["python", *sys.argv]), "created": now()}
                        content = {"cells": cells, "reduced": REDUCED, **command, **versions()}
                        save(args.name, content, table(cells))


def key(per_film: int, centre: str, seed: int) -> str:
    """A cell's name."""
    return f"{per_film} {centre} seed{seed}"


def prepare(
    folder: Path, seed: int, per_film: int, args: argparse.Namespace, console: Console
) -> Stage:
    """Write films, index their segments, and decode each once."""
    cfg = override(preset_settings("demo"), {**REDUCED, "seed": seed, "data.workers": 0})
    set_threads(cfg.compute)
    listed = write_films(folder / "films", seed, per_film, args.segments, args.one_event)
    index(folder / "films", folder / "index", segments=listed, workers=1, progress=False)
    everything = Index.open(folder / "index")
    train_index = everything.of_split("train")
    classes = read_classes(listed)
    clips, train_clips = (Clips(i, cfg.clip, cfg.data, seed) for i in (everything, train_index))
    for c in (clips, train_clips):
        c.fill(console.watch("decoding", len(c)))
    numerics = choose(cfg.compute, build_pair(cfg), cfg.clip)
    videos = of_index(everything, classes, seed)
    return Stage(folder, clips, train_index, train_clips, videos, classes, cfg, numerics, console)


def write_films(folder: Path, seed: int, per_film: int, segments: int, one_event: bool) -> Path:
    """Films, and the CSV of their segments: path,start_s,end_s,class,split."""
    folder.mkdir()
    films = [("train", per_film)] * (segments // per_film) + [("test", 1)] * (segments // 3)
    rows = []
    for number, (split, length) in enumerate(films):
        path = folder / f"{number:05d}.mp4"
        draws = np.random.default_rng([seed, number])
        events = [EVENTS[i] for i in draws.integers(CLASSES, size=length)]
        events = events[:1] * length if one_event else events
        parts = [segment((seed, number), place, event) for place, event in enumerate(events)]
        write_video(path, *(np.concatenate(part) for part in zip(*parts, strict=True)))
        times = [(place * SECONDS, (place + 1) * SECONDS) for place in range(length)]
        rows += [(path.name, *time, e, split) for time, e in zip(times, events, strict=True)]
    listed = folder / "segments.csv"
    with listed.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("path", "start_s", "end_s", "class", "split"), *rows])
    return listed


def segment(film: tuple[int, int], place: int, event: str) -> tuple[np.ndarray, np.ndarray]:
    """Frames and sound of one event in a film; all but event and timing are the film's."""

    def of_film(what: int) -> np.random.Generator:
        return np.random.default_rng([*film, what])

    kind, own = CATALOGUE[event], np.random.default_rng([*film, 9, place])
    timing = draw_timing(own, SECONDS, kind.period_s, kind.unevenness)
    t_T = np.arange(round(SECONDS * FRAMES_PER_SECOND), dtype=np.float32) / FRAMES_PER_SECOND
    t_S = np.arange(round(SECONDS * SAMPLE_RATE_HZ), dtype=np.float32) / SAMPLE_RATE_HZ
    canvas, background_THWC, colour_C = set_stage(of_film(1), t_T, SIZE_PIXELS)
    cover_THW = kind.paint(canvas, timing, own)
    frames_THWC = photograph(of_film(2), background_THWC, cover_THW, colour_C)
    pitch = float(2 ** of_film(3).uniform(-PITCH_OCTAVES, PITCH_OCTAVES))
    return frames_THWC, record(of_film(4), kind.sound(t_S, timing, pitch, own))


def measure(stage: Stage, centre: str) -> dict[str, float]:
    """Train with one `cluster.centre`; the measures of the finished run."""
    cfg: Settings = override(stage.settings, {"cluster.centre": centre, **fixed(stage.numerics)})
    with tempfile.TemporaryDirectory() as out:
        run = pretrain(
            stage.train_index,
            Path(out) / "run",
            preset="demo",
            settings=flatten(cfg.to_dict()),
            console=Console(quiet=True),
            clips=stage.train_clips,
        )
        labels, pair = final_labels(run.path), load(run.path).pair
        last = json.loads((run.path / "log.jsonl").read_text().splitlines()[-1])
    film_N = stage.train_index.recording
    class_N = stage.classes.of_rows(stage.train_index)
    found = {f"nmi_{m}": agreement(labels[m], class_N)["nmi"] for m in ("video", "audio")}
    found |= {f"ami_film_{m}": agreement(labels[m], film_N)["ami"] for m in ("video", "audio")}
    shares = {f"share_{m}": share for m, share in last["between_recordings"].items()}
    return found | shares | probe_pair(stage, pair)


def table(cells: dict[str, dict[str, float]]) -> list[str]:
    """The cells in Markdown: mean and range over seeds."""
    heads = ["segments a film", "centre", "seeds", *(head for head, *_ in MEASURES.values())]
    lines = [f"| {' | '.join(heads)} |", "|---:|---|---|" + "---:|" * len(MEASURES)]
    ways: dict[tuple[int, int], list[tuple[int, dict[str, Any]]]] = {}
    for name, found in cells.items():
        per_film, centre, seed = name.split()
        way = (int(per_film), CENTRES.index(centre))
        ways.setdefault(way, []).append((int(seed.removeprefix("seed")), found))
    for (length, centre_at), several in sorted(ways.items()):
        seeds = ", ".join(str(seed) for seed, _ in sorted(several, key=lambda pair: pair[0]))
        values = []
        for measure_key, (_, factor, form) in MEASURES.items():
            numbers = [factor * found[measure_key] for _, found in several]
            text = form.format(statistics.fmean(numbers))
            if len(numbers) > 1:
                text += f" ({form.format(min(numbers))}-{form.format(max(numbers))})"
            values.append(text)
        lines.append(f"| {length} | {CENTRES[centre_at]} | {seeds} | {' | '.join(values)} |")
    return lines


if __name__ == "__main__":
    main()
