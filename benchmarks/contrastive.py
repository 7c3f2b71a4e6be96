"""Is it clustering that learns, or would any loss that compares do? Contrastive learning on the
videos of the demo, with its encoders, clips, optimiser and passes over the videos.

    python benchmarks/contrastive.py --seeds 0 1 2

infonce: a video and its own sound against the other sounds of the batch, both ways (CPC, van den
Oord et al., 2018; across senses as in CMC, Tian et al., 2020). simclr: two draws of the same
picture, with colour jitter, against the other pictures (Chen et al., 2020). Both have linear
projections. Measured as the demo measures: linear probe on test videos, NMI of k-means on training
videos with the true events. Writes results/NAME.json; what it trains is not kept.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, arguments, facts
from torch import Tensor
from torch.nn import functional as F

from seehear.config import override
from seehear.data.order import shuffled
from seehear.machine.console import Console
from seehear.machine.files import write_json
from seehear.method.clusters import space_of
from seehear.method.encoders import Pair
from seehear.method.encoders.building import build_pair
from seehear.method.features import calibrate, encoder_inputs
from seehear.method.method import final_clusters
from seehear.method.state import State
from seehear.method.step import make_optimizer
from seehear.method.train import learning_rate
from seehear.presets import preset_settings
from seehear.reporting.demo import Stage, nmi_with_classes, prepare, probe_pair

WAYS = {"infonce": ("video", "audio"), "simclr": ("video",)}
WIDTH = 128  # of the projections
TEMPERATURE = 0.1
BATCH = 64  # clips to tell apart; XDC's 16 would be few
# of simclr: else colours alone tell videos apart
JITTER: Any = {"brightness": 0.2, "contrast": 0.4}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--videos", type=int, default=1500)
    parser.add_argument("--epochs", type=int, help="by default as many as XDC in the demo")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    with Console() as console:
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as folder:
                cfg = override(preset_settings("demo"), {"seed": seed})
                stage = prepare(Path(folder), seed, args.videos, cfg, console)
                turns = cfg.rounds // 2 if cfg.train.order == "alternating" else cfg.rounds
                epochs = args.epochs or turns * cfg.train.epochs
                found[str(seed)] = {way: measure(stage, way, epochs) for way in args.ways}
            console.say(f"seed {seed}, {epochs} epochs: {found[str(seed)]}")
    args.results.mkdir(parents=True, exist_ok=True)
    write_json(args.results / "contrastive.json", facts(epochs=epochs) | {"seeds": found})


def measure(stage: Stage, way: str, epochs: int) -> dict[str, float]:
    """Train, probe, and cluster; an encoder that was not trained is not shown."""
    begin = time.process_time()
    pair, modalities, cfg = trained(stage, way, epochs), WAYS[way], stage.settings
    seconds = round(time.process_time() - begin, 1)
    _, clusters = final_clusters(State(pair, stage.numerics), stage.train_clips, cfg)
    labels = {n: c.labels_N for n, c in clusters.items() if space_of(n) in modalities}
    nmi = nmi_with_classes(labels, stage.classes.of_rows(stage.train_index))
    probes = probe_pair(stage, pair)
    return {m: probes[m] for m in modalities} | nmi | {"cpu_seconds": seconds}


def trained(stage: Stage, way: str, epochs: int) -> Pair:
    """New encoders after so many epochs."""
    cfg, clips, modalities = stage.settings, stage.train_clips, WAYS[way]
    train = replace(cfg.train, epochs=epochs)
    pair = stage.numerics.place(build_pair(cfg))
    calibrate(pair, clips, stage.numerics)
    draws = torch.Generator().manual_seed(cfg.seed)
    pair.renew_heads({m: {way: WIDTH} for m in modalities}, draws)
    optimizer = make_optimizer(pair, train, modalities)
    steps = len(clips) // min(BATCH, len(clips))
    for epoch in range(epochs):
        for step, (one_BD, other_BD) in enumerate(views(stage, pair, way, epoch)):
            rate = learning_rate(epoch * steps + step, steps, epoch + 1 == epochs, train)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            contrast(one_BD, other_BD).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return pair


def views(stage: Stage, pair: Pair, way: str, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Projections of two views of the same clips, batch by batch."""
    clips, cfg, modalities = stage.train_clips, stage.settings, WAYS[way]
    clip = replace(cfg.clip, **JITTER) if way == "simclr" else cfg.clip
    order = shuffled(stage.train_clips.split(0.0)[0], (cfg.seed, epoch, 0xC0))
    draws = (2 * epoch, 2 * epoch + 1) if way == "simclr" else (epoch,)
    passes = [
        clips.batches(order, epoch=e, batch_size=BATCH, keep_last=False, modalities=modalities)
        for e in draws
    ]
    pair.train()
    for batches in zip(*passes, strict=True):
        with stage.numerics.autocast():
            inputs = [encoder_inputs(batch, clip, stage.numerics, pair) for batch in batches]
            scores = [pair(some)[m][way].float() for some in inputs for m in modalities]
        yield scores[0], scores[1]


def contrast(one_BD: Tensor, other_BD: Tensor) -> Tensor:
    """InfoNCE, both ways: which of the other views is of the same clip?"""
    scores_BB = F.normalize(one_BD, dim=1) @ F.normalize(other_BD, dim=1).T / TEMPERATURE
    same_B = torch.arange(len(scores_BB), device=scores_BB.device)
    return (F.cross_entropy(scores_BB, same_B) + F.cross_entropy(scores_BB.T, same_B)) / 2


if __name__ == "__main__":
    main()
