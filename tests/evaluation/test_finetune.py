"""Fine-tuning learns planted classes, is honest about what stays frozen, and goes on bit for bit
after a crash.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from planted_set import CPU, Planted, settings_with
from seehear.config import Clip, Data
from seehear.data.clips import Clips, evenly
from seehear.errors import RunError, SettingsError, TrainingError
from seehear.evaluation.finetuning import finetune, finetune_settings, load_classifier
from seehear.evaluation.finetuning.testing import item_scores
from seehear.evaluation.finetuning.training import (
    learn_classes,
    rate,
    starting_pair,
    training_items,
)
from seehear.evaluation.sets import LabelledSet
from seehear.machine.console import Console
from seehear.method.encoders import Pair
from seehear.method.features import encoder_inputs
from seehear.method.state import State
from seehear.models.model import Model


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted()


@pytest.fixture(scope="module")
def one_split(planted: Planted) -> LabelledSet:
    return replace(planted.data, splits=planted.data.splits[:1])


def weights(folder: Path, split: int = 0) -> dict[str, bytes]:
    done = folder / "splits" / f"{split:02d}" / "finished"
    return {path.name: path.read_bytes() for path in sorted(done.glob("*.safetensors"))}


def told(folder: Path, split: int = 0) -> dict:
    """The result of a split without times."""
    result = json.loads(
        (folder / "splits" / f"{split:02d}" / "finished" / "result.json").read_text()
    )
    result.pop("seconds")
    return result


def test_each_setting_of_the_data_goes_where_it_belongs():
    changes = {
        "finetune.max_failed_share": 0.3,
        "finetune.workers": 2,
        "finetune.cache_gigabytes": 5.0,
    }
    found = finetune_settings(changes=changes).data
    assert found == Data(workers=2, cache_gigabytes=5.0, max_failed_share=0.3)


def test_planted_classes_are_learned_and_the_classifier_can_be_used(planted, one_split, tmp_path):
    result = planted.run(tmp_path / "f", settings_with(epochs=10, lr=5e-3), data=one_split)
    for modality in ("video", "audio"):
        values = result["values"][modality]
        low, high = values["top1_interval"]
        assert values["top1"] >= 0.8
        assert low <= values["top1"] <= high
        assert "top5" not in values  # there are four classes
    assert [(s["split"], s["n_test"]) for s in result["splits"]] == [("1", 24)]
    assert not result["scratch"]
    assert "10 epochs" in result["protocol"]
    classifier = load_classifier(tmp_path / "f", device="cpu")
    assert classifier.classes == planted.data.classes
    rows = planted.data.splits[0].test
    batch = next(planted.clips.batches(rows, epoch=evenly(1)[0], batch_size=24))
    frames = encoder_inputs(batch, planted.cfg.clip, CPU, classifier.model.pair)["video"]
    hits = classifier.video(frames).argmax(dim=1).numpy() == planted.class_N[rows]
    assert hits.mean() >= 0.8
    assert_allclose(classifier.audio(batch.waveform_BL).sum(dim=1), 1, atol=1e-5)


def test_freezing_leaves_weights_and_batch_norms_as_they_were(planted, one_split, tmp_path):
    planted.run(
        tmp_path / "f", settings_with(freeze=True, weight_decay=0.5, batch_parts=3), data=one_split
    )
    planted.run(tmp_path / "g", settings_with(), data=one_split)
    before = planted.model.pair.encoders.state_dict()
    after, trained = (
        load_classifier(tmp_path / n, device="cpu").model.pair.encoders.state_dict() for n in "fg"
    )
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(
        torch.equal(trained[name], tensor)
        for name, tensor in before.items()
        if name.endswith((".weight", "_mean"))
    )


def test_scratch_begins_elsewhere_with_calibrated_batch_norms(planted):
    lesson = planted.lesson(settings_with(), np.arange(20))
    pretrained, new, again = (
        starting_pair(planted.model.pair, lesson, scratch=scratch, seed=5)
        for scratch in (False, True, True)
    )
    for name, tensor in planted.model.pair.encoders.state_dict().items():
        assert torch.equal(pretrained.encoders.state_dict()[name], tensor)
        assert torch.equal(new.encoders.state_dict()[name], again.encoders.state_dict()[name])
        if name.endswith("weight") and tensor.ndim > 1:
            other = new.encoders.state_dict()[name]
            assert not torch.equal(other, tensor)
            assert 0.5 < float(other.std() / tensor.std()) < 2  # initialised by the same rule
    heads = [pair.heads.state_dict() for pair in (pretrained, new)]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])
    # Statistics are of the training rows alone: other rows change nothing.
    frames = encoder_inputs(
        next(planted.clips.batches(np.arange(20), epoch=evenly(1)[0], batch_size=20)),
        planted.cfg.clip,
        CPU,
        new,
    )["audio"]
    assert_allclose(new.encoders["audio"].standardise.running_mean, frames.mean(), rtol=1e-4)


def test_scratch_of_a_part_without_a_rule_is_an_error(planted):
    class Odd(torch.nn.Module):
        feature_dim = 3

        def __init__(self) -> None:
            super().__init__()
            self.token = torch.nn.Parameter(torch.zeros(3))

    pair = Pair(Odd(), Odd())
    with pytest.raises(SettingsError, match="cannot be made anew: its Odd has weights"):
        starting_pair(pair, planted.lesson(settings_with(), np.arange(20)), scratch=True, seed=0)


def test_low_shot_draws_are_nested_by_class_and_the_same_for_both_starts(
    planted, one_split, tmp_path
):
    data, split = planted.data, planted.data.splits[0]
    drawn = {n: training_items(data, split, n, 0.0, seed=3)[0] for n in (1, 2, 5, 100)}
    for count in (1, 2, 5):
        assert np.bincount(planted.class_N[drawn[count]]).tolist() == [count] * 4
    assert set(drawn[1]) < set(drawn[2]) < set(drawn[5]) < set(drawn[100]) == set(split.train)
    assert not np.array_equal(drawn[2], training_items(data, split, 2, 0.0, seed=4)[0])
    results = [
        planted.run(
            tmp_path / str(scratch),
            settings_with(epochs=1),
            data=one_split,
            low_shot=2,
            scratch=scratch,
        )
        for scratch in (False, True)
    ]
    assert [r["splits"][0]["n_train"] for r in results] == [8, 8]
    assert results[0]["splits"][0]["steps"] == results[1]["splits"][0]["steps"] == 1


@pytest.mark.parametrize("rows", [5, 12, 40])
def test_epoch_steps_give_the_same_number_of_updates_whatever_the_rows(planted, rows):
    drawn: list[tuple[int, list[int]]] = []

    class Recording(Clips):
        def pieces(self, chunks: Any, **which: Any) -> Any:
            drawn.extend((which["epoch"], chunk.tolist()) for chunk in chunks)
            return super().pieces(chunks, **which)

    lesson = planted.lesson(settings_with(epoch_steps=7), np.arange(rows))
    clips = copy.copy(planted.clips)
    clips.__class__ = Recording
    pair = starting_pair(planted.model.pair, lesson, scratch=False, seed=0)
    state = State(pair, CPU)
    for _ in learn_classes(state, replace(lesson, clips=clips)):
        pass
    assert state.learning.steps == len(drawn) == 14
    assert all(len(batch) == min(8, rows) for _, batch in drawn)
    for number in {
        number for number, _ in drawn
    }:  # each pass draws a row once, with draws of its own
        once = [row for epoch, batch in drawn for row in batch if epoch == number]
        assert len(set(once)) == len(once) <= rows


def test_learning_rate_falls_to_a_tenth_every_few_epochs():
    cfg = settings_with(epochs=8, schedule="step", step_epochs=2, lr=0.2, warmup_share=0.0)
    rates = [rate(2 * epoch + 1, 2, cfg) for epoch in range(8)]
    assert_allclose(rates, np.repeat([0.2, 0.02, 0.002, 0.0002], 2))


def slow_scores(pair: Pair, clips: Clips, rows: np.ndarray, shares: list[float]) -> np.ndarray:
    """The mean softmax over clips, one clip at a time."""
    from seehear.data.clips import Position

    found = []
    for row in rows:
        for share in shares:
            batch = next(clips.batches(np.array([row]), epoch=Position(share), batch_size=1))
            with torch.no_grad():
                found.append(
                    pair(encoder_inputs(batch, clips.clip, CPU, pair))["video"]["class"].softmax(
                        dim=1
                    )[0]
                )
    return torch.stack(found).double().mean(dim=0).numpy()


def test_averaging_over_clips_equals_a_slow_version(planted):
    pair = starting_pair(
        planted.model.pair, planted.lesson(settings_with(), np.arange(8)), scratch=False, seed=0
    ).eval()
    pair.heads["video"][
        "class"
    ].weight.data *= 50  # so that averages of softmax and of scores differ
    item_N = np.array([0, 0, 0, 1, 1, 2] + [-1] * 58)
    data = replace(planted.data, item_N=item_N, target_V=np.array([1, 0, 3]))
    found = item_scores(pair, planted.clips, CPU, data, np.arange(6), 4)
    halves, quarters = [0.25, 0.75], [0.125, 0.375, 0.625, 0.875]
    slow = [
        slow_scores(pair, planted.clips, rows, shares)
        for rows, shares in (([0, 1, 2], halves), ([3, 4], halves), ([5], quarters))
    ]
    assert found.items.tolist() == [0, 1, 2]
    assert found.clips == 6 + 4 + 4
    assert_allclose(found.scores["video"], slow, atol=1e-6)


def test_several_classes_an_item_give_average_precision(planted, one_split, tmp_path):
    several = np.eye(4, dtype=bool)[planted.class_N]
    several[:, 0] |= planted.class_N == 1
    data = replace(one_split, target_V=several, modalities=("audio",))
    result = planted.run(tmp_path / "f", settings_with(epochs=8, lr=5e-3), data=data)
    assert set(result["values"]) == {"audio"}
    assert result["values"]["audio"]["map"] > 0.8
    assert result["values"]["audio"]["map_interval"][0] <= result["values"]["audio"]["map"]
    assert "sigmoid" in result["protocol"]
    with pytest.raises(SettingsError, match="low-shot"):
        planted.run(tmp_path / "g", settings_with(), data=data, low_shot=1)


def test_heldout_items_are_of_the_training_part_and_only_looked_at(planted, one_split, tmp_path):
    train, kept_out = training_items(planted.data, planted.data.splits[0], None, 0.25, seed=0)
    assert len(kept_out) == 10
    assert set(train) | set(kept_out) == set(planted.data.splits[0].train)
    result = planted.run(tmp_path / "f", settings_with(heldout_share=0.25), data=one_split)
    assert all(
        0 <= entry["heldout_accuracy"]["video"] <= 1 for entry in result["splits"][0]["history"]
    )
    validation = replace(one_split.splits[0], validation=np.arange(36, 40), train=np.arange(36))
    seen = planted.run(
        tmp_path / "g", settings_with(), data=replace(one_split, splits=(validation,))
    )
    assert "top1" in seen["splits"][0]["validation"]["audio"]


def test_losses_that_are_not_finite_name_step_rows_and_settings(planted, one_split, tmp_path):
    wild = settings_with(lr=1e30, optimizer="sgd", warmup_share=0.0, epochs=3)
    with pytest.raises(
        TrainingError, match=r"not finite in epoch \d, step \d.*rows \d.*finetune\.lr below 1e\+30"
    ):
        planted.run(tmp_path / "f", wild, data=one_split)


class Stopped(Exception):
    pass


@pytest.mark.thorough
def test_stopped_between_steps_goes_on_bit_for_bit(planted, tmp_path, monkeypatch):
    # 4 steps an epoch
    cfg = settings_with(epochs=2, heldout_share=0.1, checkpoint_minutes=0, batch_parts=2)
    unbroken = planted.run(tmp_path / "unbroken", replace(cfg, checkpoint_minutes=10.0))
    from seehear.evaluation.finetuning import files

    saved, save = [], files.save_state

    def stop_after(folder, step, state):
        save(folder, step, state)
        saved.append((folder.name, step))
        if len(saved) in (6, 14):  # in the middle of a pass in both splits
            raise Stopped

    monkeypatch.setattr(files, "save_state", stop_after)
    broken = tmp_path / "broken"
    with pytest.raises(Stopped):
        planted.run(broken, cfg)
    assert not (broken / "splits/00/finished").exists()
    with pytest.raises(
        RunError, match=r"exists\. Go on with --resume, or start anew with --overwrite"
    ):
        planted.run(broken, cfg)
    with pytest.raises(Stopped):
        planted.run(broken, cfg, resume=True)
    # A damaged last checkpoint falls back to the one before.
    last = sorted((broken / "splits/01/steps").glob("*/checkpoint.pt"))[-1]
    last.write_bytes(last.read_bytes()[:-50])
    result = planted.run(broken, cfg, resume=True)
    steps = [step for split, step in saved if split == "01"]
    assert steps == [*range(1, 7), *range(6, 9)], "the step of the damaged checkpoint comes again"
    for split in (0, 1):
        assert weights(broken, split) == weights(tmp_path / "unbroken", split)
        assert told(broken, split) == told(tmp_path / "unbroken", split)
        assert not (broken / f"splits/{split:02d}/steps").exists()
    assert result["values"] == unbroken["values"]
    assert [s["split"] for s in result["splits"]] == ["1", "2"]
    for modality, values in result["values"].items():
        assert values["top1"] == pytest.approx(
            np.mean([s["values"][modality]["top1"] for s in result["splits"]])
        )
    before = len(saved)
    assert planted.run(broken, cfg, resume=True)["values"] == unbroken["values"]
    assert len(saved) == before, "finished splits are not trained again"


def test_going_on_with_something_else_names_it_and_both_values(planted, one_split, tmp_path):
    out = tmp_path / "f"
    planted.run(out, settings_with(epochs=1), data=one_split)
    with pytest.raises(
        RunError,
        match=r"finetune\.lr is 0\.5, and the fine-tune at .* begun with 0\.001.*--overwrite",
    ):
        planted.run(out, settings_with(epochs=1, lr=0.5), data=one_split, resume=True)
    with pytest.raises(RunError, match=r"low_shot is 3, .* with None"):
        planted.run(out, settings_with(epochs=1), data=one_split, low_shot=3, resume=True)
    moved = replace(one_split, target_V=np.roll(planted.class_N, 1))
    with pytest.raises(RunError, match="the digest of the data is sha256"):
        planted.run(out, settings_with(epochs=1), data=moved, resume=True)
    # changes no result
    planted.run(out, settings_with(epochs=1, threads=1), data=one_split, resume=True)
    with pytest.raises(RunError, match="no fine-tune to go on with"):
        planted.run(tmp_path / "nothing", settings_with(), data=one_split, resume=True)
    planted.run(out, settings_with(epochs=1, lr=0.01), data=one_split, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="is no fine-tune of seehear"):
        planted.run(tmp_path / "mine", settings_with(), data=one_split, overwrite=True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_settings_that_do_not_exist_or_fit(planted, one_split, tmp_path):
    with pytest.raises(
        SettingsError, match=r"no setting finetune\.lrr\. Did you mean finetune\.lr"
    ):
        finetune_settings(changes={"finetune.lrr": 1})
    with pytest.raises(SettingsError, match=r"no setting lr\. Did you mean finetune\.lr\?"):
        finetune_settings(changes={"lr": 1})
    with pytest.raises(SettingsError, match=r"no preset ucf11 .*Did you mean ucf101\?"):
        finetune_settings("ucf11")
    with pytest.raises(SettingsError, match="low_shot is 0"):
        planted.run(tmp_path / "f", settings_with(), data=one_split, low_shot=0)
    silent = Model(copy.deepcopy(planted.model.pair), Clip(), CPU, {})
    del silent.pair.encoders["audio"]
    sound = replace(one_split, modalities=("audio",))
    with pytest.raises(SettingsError, match=r"serves audio, .* encoders for video only"):
        finetune(silent, sound, tmp_path / "g", settings_with(), console=Console(quiet=True))
    with pytest.raises(RunError, match="has no finished fine-tune"):
        load_classifier(tmp_path)


def test_training_the_head_alone_needs_no_gradients_of_encoders(planted):
    lesson = planted.lesson(settings_with(freeze=True, epochs=1), np.arange(16))
    pair = starting_pair(planted.model.pair, lesson, scratch=False, seed=0)
    for _ in learn_classes(State(pair, CPU), lesson):
        pass
    assert all(p.grad is None for p in pair.encoders.parameters())
    assert all(p.grad is not None for p in pair.heads.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_gpu_classes_are_learned_too(planted, one_split, tmp_path, precision):
    cfg = settings_with(epochs=16, lr=5e-3, precision=precision)
    result = planted.run(tmp_path / "f", cfg, data=one_split, device="cuda")
    assert all(values["top1"] >= 0.8 for values in result["values"].values())
    again = planted.run(tmp_path / "f", cfg, data=one_split, device="cuda", resume=True)
    assert again["values"] == result["values"]
    planted.run(
        tmp_path / "g",
        settings_with(precision=precision),
        data=one_split,
        device="cuda",
        scratch=True,
    )
    assert load_classifier(tmp_path / "g", device="cuda").classes == planted.data.classes
