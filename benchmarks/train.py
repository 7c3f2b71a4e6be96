"""What does a round reach of what its parts could do alone, how fast is the step, and what do more
ranks cost?

    python benchmarks/train.py                      # round, shapes and ranks: about 8 minutes
    python benchmarks/train.py --parts round        # one of: round, shapes, ranks
    python benchmarks/train.py --device cuda        # the shapes of the paper on a GPU

round   Rounds of the method on videos of 340x256 that were packed, training on one thread and
        decoding in one process, and before and after each the steps alone: one of each student, of
        the same encoders and batch size, on a batch in memory. The share is clips/s of training,
        its waiting included, over clips/s of these steps, both of that turn; the median counts.
shapes  R(2+1)D-18 and the audio ResNet-18, 64 wide: forward, and forward + backward + SGD, in turn
        with the same networks in a plain loop: contiguous, eager, fp32 or bf16 autocast, PyTorch's
        own 3-D convolutions, no fused optimiser. On a CPU bf16 only where the probe takes it, and
        of the shapes the small ones, unless --shapes has others: the large ones take many minutes.
ranks   The same round on 1, 2 and 4 ranks of one thread each (gloo), on the debug preset's encoders
        twice as wide. Efficiency is clips/s over that of one rank, divided by the cores that the
        ranks can have. What the machine can give at all is seen from runs of one rank, one a core,
        that share nothing. Bytes are counted where they are sent (all-reduces of a round by size),
        and computed from the sizes of the tensors.

The clock is wall time, so what else runs on the machine counts; ratios are those of neighbouring
moments.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from common import HELPERS, RESULTS, arguments, fact_lines, facts, note, save, table

import seehear

PARTS = ("round", "shapes", "ranks")
ROUND = {  # preset small, narrower and not as deep, so that data must come fast
    "encoders.video_width": 8,
    "encoders.video_depth": 10,
    "encoders.audio_width": 8,
    "encoders.audio_depth": 10,
    "cluster.num_clusters": 16,
    "train.epochs": 2,
    "train.patience": 0,
    "train.batch_size": 8,
    "train.heldout_share": 0.0,
    "data.cache_gigabytes": 0.0,
    "data.workers": 1,
    "compute.threads": 1,
}
SHAPES = {
    "8x112x112": (8, 112),
    "8x224x224": (8, 224),
    "32x112x112": (32, 112),
    "audio 40x100": (0, 0),
}
# of the shapes that a CPU times unless others are asked for
CPU_BATCHES = {"8x112x112": 4, "audio 40x100": 32}
RANKS = {
    "encoders.video_width": 8,
    "encoders.audio_width": 8,
    "train.epochs": 2,
    "train.batch_size": 32,
    "train.batch_parts": 4,
    "train.heldout_share": 0.0,
    "compute.threads": 1,
    "compute.precision": "fp32",
    "compute.memory_format": "contiguous",
}


def main() -> None:
    parser = arguments(__doc__)
    add = parser.add_argument
    add("--parts", default=",".join(PARTS))
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--videos", type=int, default=48, help="about so many segments of 3 s in a round")
    add("--turns", type=int, default=4, help="rounds, and turns of each number of ranks")
    add("--cache", type=Path, help="keep the videos of a round in this folder")
    add("--seconds", type=float, default=6.0, help="for each shape and way")
    add("--shapes", nargs="+", choices=SHAPES, help="by default all on a GPU, small ones on a CPU")
    add("--batch", type=int, default=0, help="clips; by default 32, and 4 or 1 of video on a CPU")
    add("--rank-of", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rank_of:
        work_as_rank(args.rank_of)
        return
    measured: dict[str, Any] = {}
    for part in args.parts.split(","):
        found = {"round": whole_round, "shapes": shapes, "ranks": scaling}[part](args)
        measured[part] = {"about": facts(), **found}
        note({part: found})
    report(measured, "train" if args.device == "cpu" else "train-cuda")


# --- a round against its parts --------------------------------------------------------------------


def whole_round(args: argparse.Namespace) -> dict[str, Any]:
    """Clips/s of training within a round, and of each part alone."""
    import torch
    from speed import made_up_batch, once, works

    from seehear.config import override
    from seehear.data.clips import Clips
    from seehear.machine.devices import choose
    from seehear.method.encoders.building import build_pair
    from seehear.method.method import deep_cluster
    from seehear.method.state import State
    from seehear.presets import preset_settings

    torch.set_num_threads(1)
    changes = {**ROUND, "rounds": args.turns, "compute.device": args.device}
    cfg = override(preset_settings("small"), changes)
    size = cfg.train.batch_size
    with tempfile.TemporaryDirectory() as place:
        index = packed_videos(args.cache or Path(place), args.videos)
        numerics = choose(cfg.compute, build_pair(cfg), cfg.clip)
        batch = made_up_batch(cfg.clip, size)
        other = build_pair(cfg)
        other.renew_heads({m: {"made_up": 16} for m in other.modalities}, torch.Generator())
        forward, step = works(cfg, numerics.place(other), numerics, batch)
        clips, pair = Clips(index, cfg.clip, cfg.data, 0), numerics.place(build_pair(cfg))
        turns: list[dict[str, Any]] = []
        stages = Stages()
        rounds = stages.rounds(deep_cluster(State(pair, numerics), clips, cfg))
        data_s = decoding_alone(clips, size)

        def alone(work: Any) -> float:
            """Seconds of a clip, of each student's in a step."""
            clips_done = size * (len(other.students) if work is step else 1)
            return once(work, numerics.device, 2.0) / clips_done

        before = alone(step)
        for _ in range(args.turns):
            begin = time.perf_counter()
            learning = next(rounds).learning
            round_s, stages_s = time.perf_counter() - begin, stages.seconds(begin)
            after = alone(step)
            step_s = (before + after) / 2
            parts_s = learning.clips * step_s + len(index) * max(alone(forward), data_s)
            turns.append(
                {
                    "training_clips_per_s": round(learning.clips_per_second, 2),
                    "step_alone_clips_per_s": round(1 / step_s, 2),
                    "share_of_step": round(learning.clips_per_second * step_s, 3),
                    "waiting_share": round(learning.waiting_share, 4),
                    "round_s": round(round_s, 2),
                    "parts_s": round(parts_s, 2),
                    "share_of_parts": round(parts_s / round_s, 3),
                    "stages_s": stages_s,
                }
            )
            note(turns[-1])
            before = after
        clips.close()
    return {
        "what": "R(2+1)D-10 and ResNet-10 of width 8, 8x112x112, batch 8, 2 epochs, packed from "
        "340x256",
        "numerics": f"{numerics.device} {numerics.precision} {numerics.memory_format}, 1 thread, 1 "
        "decoding process",
        "rows": len(index),
        "data_alone_clips_per_s": round(1 / data_s, 1),
        **{
            share: statistics.median(turn[share] for turn in turns)
            for share in ("share_of_step", "share_of_parts")
        },
        "stages_s": {
            name: round(statistics.median(turn["stages_s"].get(name, 0.0) for turn in turns), 2)
            for name in turns[-1]["stages_s"]
        },
        "turns": turns,
    }


class Stages:
    """Watches the stages of rounds, to know when each begins."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, float]] = []

    def rounds(self, steps: Iterator[Any]) -> Iterator[Any]:
        """The rounds among the steps."""
        stage = ""
        for now in steps:
            if hasattr(now, "learned"):
                stage = ""
                yield now
            elif now.stage != stage:
                stage = now.stage
                self.begun.append((stage, time.perf_counter()))

    def seconds(self, round_begun_s: float) -> dict[str, float]:
        """Seconds of the stages of a round that is over, and of what came before the first."""
        moments = [("before", round_begun_s), *self.begun, ("", time.perf_counter())]
        self.begun = []
        return {
            name: round(end_s - begin_s, 2) for (name, begin_s), (_, end_s) in pairwise(moments)
        }


def packed_videos(place: Path, videos: int) -> seehear.Index:
    """An index of packed segments of 3 s, made from 340x256 with a key frame every 250."""
    import decode

    if (place / "packed" / "index.json").exists():
        return seehear.Index.open(place / "packed")
    (place / "videos").mkdir(parents=True)
    made = [place / "videos" / f"{number}.mp4" for number in range(2)]
    for number, path in enumerate(made):
        decode.write(path, number, 340, 256, 250)
    for copy in range(1, -(-videos // (4 * len(made)))):
        for path in made:  # the same content again costs the decoder the same
            shutil.copy(path, path.with_name(f"{copy}-{path.name}"))
    seehear.index(place / "videos", place / "index", segment_seconds=3.0, workers=1, progress=False)
    seehear.pack(place / "index", place / "packed", preset="small", workers=1)
    return seehear.Index.open(place / "packed")


def decoding_alone(clips: Any, batch_size: int) -> float:
    """Seconds a clip that the decoding process takes when nothing else runs."""
    rows = np.arange(len(clips))
    list(clips.batches(rows[:batch_size], epoch=90, batch_size=batch_size))  # starts the process
    begin = time.perf_counter()
    read = sum(len(batch.rows_B) for batch in clips.batches(rows, epoch=91, batch_size=batch_size))
    return (time.perf_counter() - begin) / read


# --- the step by shape ----------------------------------------------------------------------------


def shapes(args: argparse.Namespace) -> dict[str, Any]:
    """Clips/s forward and of a step, ours and plain, with the share of the peak ours reaches."""
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        return {"not_run": "no CUDA device on this machine"}
    wanted = args.shapes or (SHAPES if args.device == "cuda" else CPU_BATCHES)
    rows = []
    for name in wanted:
        rows.append(one_shape(name, *SHAPES[name], args) | {"shape": name})
        note(rows[-1])
    found: dict[str, Any] = {"rows": rows, "device": args.device}
    if args.device == "cpu":
        absent = [*(name for name in SHAPES if name not in wanted), "all of --device cuda"]
        found["not_run"] = ", ".join(absent)
    return found


def one_shape(name: str, frames: int, crop_pixels: int, args: argparse.Namespace) -> dict[str, Any]:
    """Ours and plain loops on one shape, in turns."""
    import torch
    from speed import counted, matmul_peak, once

    from seehear.config import Compute
    from seehear.machine.devices import choose
    from seehear.method.encoders import AudioEncoder, Pair, VideoEncoder
    from seehear.presets import preset_settings

    torch.set_num_threads(1)
    is_video, device = frames > 0, args.device
    size = args.batch or (32 if device == "cuda" else CPU_BATCHES.get(name, 1))
    shape = (size, 3, frames, crop_pixels, crop_pixels) if is_video else (size, 1, 40, 100)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network: Any = VideoEncoder() if is_video else AudioEncoder()
    clip = preset_settings("small").clip
    pair = Pair(video=network) if is_video else Pair(audio=network)
    precision: Any = "bf16" if device == "cuda" and not is_video else "auto"
    numerics = choose(Compute(device=device, precision=precision), pair, clip)
    numerics.place(pair)
    inputs = numerics.arrange(x.to(device)) if is_video else x.to(device)
    ways = {"ours": (network, inputs, numerics.precision == "bf16")}
    plain_ways = {"fp32": False, "bf16": True}
    if device == "cpu" and numerics.precision == "fp32":
        # where the probe took fp32, bf16 is computed by way of fp32, and takes minutes a step
        del plain_ways["bf16"]
    for plain, is_bf16 in plain_ways.items():
        ways[plain] = (plain_copy(network).to(device), x.to(device), is_bf16)
    seconds: dict[str, dict[str, list[float]]] = {"forward": {}, "step": {}}
    flops = {}
    for turn in range(3):
        for way, (encoder, inputs, is_bf16) in ways.items():
            forward, step = loop(encoder, inputs, is_bf16, fused=way == "ours" and device == "cuda")
            for kind, work in (("forward", forward), ("step", step)):
                if way == "ours" and turn == 0:
                    flops[kind] = counted(work) / size
                clip_s = once(work, device, args.seconds / 6) / size
                seconds[kind].setdefault(way, []).append(clip_s)
    peak = matmul_peak(device, numerics.precision)
    row: dict[str, Any] = {"numerics": f"{numerics.precision} {numerics.memory_format}"}
    row["batch"] = size
    for kind, found in seconds.items():
        row[kind] = {way: round(1 / statistics.median(values), 2) for way, values in found.items()}
        for plain in plain_ways:
            ratios = np.array(found[plain]) / np.array(found["ours"])
            row[kind][f"times_as_fast_as_{plain}"] = round(float(np.median(ratios)), 2)
        reached = flops[kind] / statistics.median(found["ours"]) / 1e12
        row[kind] |= {"teraflops": round(reached, 4), "share_of_peak": round(reached / peak, 3)}
    return row | {"peak_teraflops": round(peak, 3)}


def plain_copy(network: Any) -> Any:
    """The same network of PyTorch's own layers in the contiguous layout."""
    import copy

    import torch
    from torch import nn

    from seehear.method.encoders import Conv2Plus1D

    other = copy.deepcopy(network)
    for module in other.modules():
        if isinstance(module, Conv2Plus1D):
            module.__class__ = nn.Conv3d  # type: ignore[assignment]
            weight = module.weight.data
            module.weight.data = weight.contiguous(memory_format=torch.contiguous_format)
    return other


def loop(encoder: Any, inputs: Any, is_bf16: bool, *, fused: bool) -> tuple[Any, Any]:
    """The forward pass and a whole step with a loss that costs nothing."""
    import torch

    optimizer = torch.optim.SGD(encoder.parameters(), lr=1e-4, momentum=0.9, fused=fused or None)

    def autocast() -> torch.autocast:
        return torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=is_bf16)

    def forward() -> None:
        encoder.eval()
        with torch.no_grad(), autocast():
            encoder(inputs)

    def step() -> None:
        encoder.train()
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            features_BD = encoder(inputs)
        features_BD.float().square().mean().backward()
        optimizer.step()

    return forward, step


# --- ranks ----------------------------------------------------------------------------------------


def scaling(args: argparse.Namespace) -> dict[str, Any]:
    """A round on 1, 2 and 4 ranks, in turns."""
    cores = len(os.sched_getaffinity(0))
    found: dict[int, list[dict[str, Any]]] = {1: [], 2: [], 4: []}
    strangers = []  # clips/s of a run on each core, at once, which know nothing of each other
    with tempfile.TemporaryDirectory() as place:
        for turn in range(args.turns):
            for ranks in found:
                found[ranks] += as_ranks(ranks, 1, Path(place, f"{ranks}-{turn}"))
            runs = as_ranks(1, cores, Path(place, f"strangers-{turn}"))
            strangers.append(sum(one["clips_per_s"] for one in runs))
    alone = np.array([turn["clips_per_s"] for turn in found[1]])
    rows = []
    for ranks, turns in found.items():
        speed = np.array([turn["clips_per_s"] for turn in turns])
        speedup = float(np.median(speed / alone))
        row = {"ranks": ranks, "clips_per_s": round(float(np.median(speed)), 1)}
        row |= {"speedup": round(speedup, 3), "efficiency": round(speedup / min(ranks, cores), 3)}
        sent = ("bytes", "messages")
        rows.append(row | {key: turns[0][key] for key in turns[0] if key.startswith(sent)})
    ceiling = float(np.median(np.array(strangers) / alone))
    return {"cores": cores, "strangers_speedup": round(ceiling, 3), "rows": rows}


def as_ranks(ranks: int, runs: int, told: Path) -> list[dict[str, Any]]:
    """What so many runs at once tell, each of so many ranks."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={ranks}", __file__, "--rank-of"]
    files = [told.with_name(f"{told.name}-{run}.json") for run in range(runs)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen([*command, str(file)], env=env) for file in files]
    codes = [process.wait() for process in started]
    if any(codes):
        raise SystemExit(f"a run of {ranks} ranks failed")
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def work_as_rank(told: Path) -> None:
    """Two rounds as one of several ranks; rank 0 writes what the second took and sent."""
    import torch
    from torch import nn

    sys.path.insert(0, str(HELPERS))
    from planted import planted_clips, tiny_settings
    from seehear.machine import distributed
    from seehear.machine.devices import Numerics
    from seehear.method.encoders.building import build_pair
    from seehear.method.method import deep_cluster
    from seehear.method.state import Round, State

    torch.set_num_threads(1)
    distributed.start("cpu")
    cfg = tiny_settings({**RANKS, "rounds": 2})
    clips, _ = planted_clips(cfg, 256)
    pair, sent = build_pair(cfg), []
    reduce = distributed.all_reduce

    def counting(tensor: torch.Tensor, *how: Any) -> torch.Tensor:
        sent.append(tensor.numel() * tensor.element_size())
        return reduce(tensor, *how)

    distributed.all_reduce = counting  # type: ignore[assignment]
    state = State(pair, Numerics("cpu", "fp32", "contiguous"))
    rounds = (now for now in deep_cluster(state, clips, cfg) if isinstance(now, Round))
    next(rounds)  # kernels are made and memory is taken in the first steps
    sent.clear()
    learning = next(rounds).learning
    step_bytes = []  # of each student: gradients, running statistics, loss and hits, four counts
    for student in pair.students:
        modules = pair.modules_of([student])
        norms = [m for m in modules.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        numbers = sum(p.numel() for p in modules.parameters())
        step_bytes.append(4 * (numbers + sum(2 * norm.num_features for norm in norms) + 2 + 4))
    if distributed.rank() == 0:
        ranks = distributed.world_size()
        steps = [size for size in sent if size in step_bytes]
        answer = {
            "clips_per_s": round(learning.clips_per_second, 1),
            "bytes_per_step": step_bytes if ranks > 1 else 0,
            "messages_of_steps": len(steps),
            "steps": learning.steps,
            "bytes_per_round": sum(sent) if ranks > 1 else 0,
            "bytes_per_round_of_steps": sum(steps) if ranks > 1 else 0,
            "bytes_per_round_of_labels": 4 * len(clips) * 2 if ranks > 1 else 0,
        }
        assert ranks == 1 or len(steps) == learning.steps, (learning.steps, sorted(set(sent)))
        told.write_text(json.dumps(answer), encoding="utf-8")
    distributed.barrier()
    distributed.stop()


# --- report ---------------------------------------------------------------------------------------


def report(measured: dict[str, Any], name: str) -> None:
    """Write results/NAME.json and .md; parts that were not measured now stay as they are there."""
    path = RESULTS / f"{name}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    data = {part: (before | measured)[part] for part in PARTS if part in before | measured}
    lines = ["# Training"]
    for part, found in data.items():
        of_part = {"round": round_lines, "shapes": shape_lines, "ranks": rank_lines}[part]
        lines += ["", f"## {part}", "", *fact_lines(found["about"]), "", *of_part(found)]
    save(name, data, lines)


def round_lines(found: dict[str, Any]) -> list[str]:
    spent = ", ".join(f"{name} {seconds}" for name, seconds in found["stages_s"].items())
    text = (
        f"{found['what']}; {found['numerics']}; {found['rows']} rows. Data alone: "
        f"{found['data_alone_clips_per_s']} clips/s. Training reaches {found['share_of_step']:.1%} "
        f"of the steps alone, the whole round {found['share_of_parts']:.1%} of training and "
        f"extraction alone. Seconds of a round, median: {spent}."
    )
    head = "turn | training, clips/s | steps alone | share | waiting | round, s | parts, s | share"
    rows = [
        [
            number,
            turn["training_clips_per_s"],
            turn["step_alone_clips_per_s"],
            f"{turn['share_of_step']:.1%}",
            f"{turn['waiting_share']:.1%}",
            turn["round_s"],
            turn["parts_s"],
            f"{turn['share_of_parts']:.1%}",
        ]
        for number, turn in enumerate(found["turns"])
    ]
    return [text, "", *table(head, rows, left=0)]


def shape_lines(found: dict[str, Any]) -> list[str]:
    lines = [f"Not run: {found['not_run']}.", ""] if "not_run" in found else []
    cells = []
    for row in found.get("rows", []):
        for kind in ("forward", "step"):
            one = row[kind]
            plain = [
                f"{one[way]} ({one[f'times_as_fast_as_{way}']})" if way in one else "not run"
                for way in ("fp32", "bf16")
            ]
            ours = f"{one['ours']} ({row['numerics']})"
            cells.append([row["shape"], kind, ours, f"{one['share_of_peak']:.0%}", *plain])
    lines += ["Clips/s; in brackets how many times as fast ours is.", ""]
    return lines + table("shape | | ours | of the peak | plain fp32 | plain bf16", cells, left=2)


def rank_lines(found: dict[str, Any]) -> list[str]:
    text = (
        f"{found['cores']} cores. Runs of one rank that know nothing of each other, one a core at "
        f"once, reach together {found['strangers_speedup']} times what one reaches alone: that is "
        "all the machine can give."
    )
    head = "ranks | clips/s | speed-up | of the ideal for the cores | bytes a step | bytes a round"
    keys = ("ranks", "clips_per_s", "speedup", "efficiency", "bytes_per_step", "bytes_per_round")
    return [text, "", *table(head, [[row[key] for key in keys] for row in found["rows"]], left=0)]


if __name__ == "__main__":
    main()
