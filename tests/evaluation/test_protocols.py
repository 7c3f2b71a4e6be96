"""Are the defaults the field's, and does what they stand for happen? Clips over the whole item,
crops, splits, time.
"""

from __future__ import annotations

import wave
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_evaluation_tasks import CLIP, QUIET, labelled, plain_model

import seehear
from planted import clips_in_memory
from seehear.config import Clip, Data
from seehear.data.augment import augment_frames
from seehear.data.clips import Clips, Position
from seehear.data.index import Index
from seehear.data.segments import Segment
from seehear.evaluation.context import Evaluation
from seehear.evaluation.datasets import LAYOUTS, Split
from seehear.evaluation.protocols import PROTOCOLS, clips_of_rows, forecast, protocol_of
from seehear.evaluation.retrieval import evaluate_retrieval
from seehear.method.features import extract

RATE_HZ = 16000
TONES_HZ = (300.0, 900.0, 2700.0)


def write_sound(path, tone_hz, generator, *, sounding_s, seconds):
    """A tone in noise for a while, then digital silence, as sounds are padded to one length."""
    times_s = np.arange(round(sounding_s * RATE_HZ)) / RATE_HZ
    sound = 0.3 * np.sin(2 * np.pi * (tone_hz * times_s + generator.random())) + generator.normal(
        0, 0.02, len(times_s)
    )
    padded = np.concatenate([sound, np.zeros(round(seconds * RATE_HZ) - len(sound))])
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((padded * 32767).astype("<i2").tobytes())


def esc50(root, *, sounding_s=1.2, seconds=5.0):
    generator = np.random.default_rng(0)
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in (1, 2, 3):
        for target, tone_hz in enumerate(TONES_HZ):
            for take in "AB":
                name = f"{fold}-{target}-{take}-{target}.wav"
                lines.append(f"{name},{fold},{target},tone{target},False,1,{take}")
                write_sound(
                    root / "audio" / name,
                    tone_hz,
                    generator,
                    sounding_s=sounding_s,
                    seconds=seconds,
                )
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text("\n".join(lines))
    return root


@pytest.mark.thorough
def test_a_sound_padded_with_silence_is_heard_by_default(tmp_path):
    given = {"data": esc50(tmp_path / "ESC-50"), "results": tmp_path / "r", "console": QUIET}
    usual = seehear.evaluate(plain_model(), **given)
    ten = seehear.evaluate(plain_model(), num_clips=10, classifier="svm", **given)
    middle = seehear.evaluate(plain_model(), num_clips=1, **given)
    assert usual["values"]["audio"] == ten["values"]["audio"]
    assert usual["values"]["audio"]["top1"] == 1.0
    assert middle["values"]["audio"]["top1"] < 0.5  # silence: chance is a third
    assert usual["protocol"].startswith("linear SVM")
    assert "10 clips" in usual["protocol"]
    assert "mean over the splits fold 1, fold 2, fold 3" in usual["protocol"]
    assert usual["clips"]["per_item"] == 10


def test_a_sound_that_is_no_longer_than_a_clip_is_heard_once(tmp_path):
    root = esc50(tmp_path / "ESC-50", sounding_s=0.4, seconds=0.4)
    counts = []

    class Listening(type(QUIET)):
        def watch(self, what, total, *more, **shown):
            counts.append((what, total))
            return super().watch(what, total, *more, **shown)

    seehear.evaluate(
        plain_model(), data=root, results=tmp_path / "r", console=Listening(quiet=True)
    )
    assert ("features", 18) in counts


def test_clips_of_an_item_in_several_rows_are_spread_over_all_of_it():
    item_n = np.array([3, 3, 3, 8, 5, 5])
    counts_n = clips_of_rows(item_n, np.array([10.0, 10.0, 10.0, 7.0, 10.0, 0.03]), 10)
    assert counts_n.tolist() == [3, 4, 3, 10, 10, 1]
    assert clips_of_rows(np.zeros(4, int), np.array([4.0, 1.0, 2.0, 1.0]), 16).tolist() == [
        8,
        2,
        4,
        2,
    ]
    # no row is passed over
    assert clips_of_rows(np.zeros(5, int), np.ones(5), 1).tolist() == [1] * 5
    assert clips_of_rows(np.array([1, 0, 1, 0]), np.array([1.0, 3.0, 1.0, 1.0]), 8).tolist() == [
        4,
        6,
        4,
        2,
    ]


def test_rows_weigh_as_many_clips_as_they_give():
    data = labelled([0, 1], [0], [1])
    data = replace(data, item_N=np.array([0, 0, 1]), items=("a", "b"))
    pooled, there = data.pool(np.arange(3), np.array([[1.0], [4.0], [7.0]]), np.array([2, 1, 5]))
    assert pooled.tolist() == [[2.0], [7.0]]
    assert there.all()


def in_memory(shape_HW, rows=3):
    clip = Clip(
        frames=4, frame_rate_hz=4.0, short_side_pixels=36, crop_pixels=32, sound_seconds=0.5
    )
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (rows, 8, *shape_HW, 3), dtype=np.uint8)
    segments = [Segment(part, np.zeros(24000, np.float32)) for part in frames]
    return clips_in_memory(segments, clip, Data(), 0), segments


@pytest.mark.parametrize("shape_HW", [(36, 64), (64, 36), (36, 36)])
def test_three_crops_are_both_ends_and_the_middle_of_the_longer_side(shape_HW):
    clips, segments = in_memory(shape_HW)
    (batch,) = clips.sampled(np.arange(3), 1, num_crops=3)
    assert batch.rows_B.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    cut = (
        augment_frames(batch.frames_BTHWC, batch.draws_BD, clips.clip)
        .permute(0, 2, 3, 4, 1)
        .numpy()
    )
    longer = max(shape_HW)
    for row in range(3):
        for crop, first in enumerate((0, (longer - 32) // 2, longer - 32)):
            spans = [slice(2, 34), slice(first, first + 32)]
            down, across = spans if shape_HW[1] >= shape_HW[0] else spans[::-1]
            expected = segments[row].frames_GHWC[2:6, down, across]  # five starts: the middle one
            assert np.array_equal(cut[3 * row + crop], expected)


def test_crops_read_from_files_are_those_cut_from_memory(index_folder):
    index = Index.open(index_folder)
    small = replace(CLIP, short_side_pixels=34)
    read, filled = (Clips(index, small, Data(workers=0), 0) for _ in range(2))
    assert filled.fill()
    for one, other in zip(
        *(c.sampled(np.arange(4), 2, num_crops=3) for c in (read, filled)), strict=True
    ):
        assert one.rows_B.tolist() == other.rows_B.tolist()
        assert torch.equal(one.frames_BTHWC, other.frames_BTHWC)
        assert torch.equal(one.draws_BD, other.draws_BD)


def test_features_are_means_over_clips_and_crops():
    clips, _ = in_memory((36, 64))
    model = plain_model()
    found = extract(
        model.pair, clips, model.numerics, num_clips=np.array([2, 1, 2]), num_crops=3, batch_size=5
    )
    assert found.rows.tolist() == [0, 1, 2]
    for row, shares in ((0, (0.25, 0.75)), (1, (0.5,)), (2, (0.25, 0.75))):
        parts = []
        for share in shares:
            for place in (0.0, 0.5, 1 - 2**-24):
                at = np.array([row])
                (batch,) = clips.batches(at, epoch=Position(share, (place, place)), batch_size=1)
                frames = augment_frames(batch.frames_BTHWC[:1], batch.draws_BD[:1], clips.clip)
                parts.append(model.pair.encoders["video"](frames))
        assert found.of["video"][row].numpy() == pytest.approx(
            torch.cat(parts).mean(dim=0).numpy(), abs=1e-5
        )


def test_defaults_are_of_layouts_that_there_are():
    assert set(PROTOCOLS) <= set(LAYOUTS)
    assert {protocol_of(name, "probe").clips for name in LAYOUTS} == {10}
    assert {name for name in LAYOUTS if protocol_of(name, "probe").crops == 3} >= {
        "kinetics400",
        "vggsound",
        "audioset",
    }
    assert protocol_of("ucf101", "finetune").crops == protocol_of("hmdb51", "probe").crops == 1
    assert (
        protocol_of("kinetics400", "clusters").clips,
        protocol_of("kinetics400", "clusters").crops,
    ) == (1, 1)


def test_retrieval_is_of_the_split_that_the_field_reports_and_names_it(tmp_path):
    generator = np.random.default_rng(0)
    data = labelled(generator.integers(0, 8, 60), np.arange(40), np.arange(40, 60))
    nobody = np.empty(0, dtype=np.int64)
    others = [Split(name, np.arange(20, 60), np.arange(20), nobody) for name in ("2", "3")]
    first = replace(data.splits[0], name="1")
    alone = replace(data, splits=(first,))
    pooled = {"video": generator.normal(size=(60, 5))}, np.ones(60, dtype=bool)
    found = []
    for name, splits in (
        ("ucf101", (first, *others)),
        ("esc50", (first, *others)),
        ("x", alone.splits),
    ):
        usual = protocol_of(name, "retrieval")
        context = Evaluation(
            plain_model(), replace(data, splits=splits), 0, None, QUIET, tmp_path, usual=usual
        )
        context.__dict__["pooled"] = pooled
        found.append(evaluate_retrieval(context))
    of_actions, of_folds, of_one = found
    assert of_actions["splits"] == ["1"]
    assert of_actions["values"] == of_one["values"]
    assert of_actions["n_test"] == 20
    assert of_actions["protocol"].endswith("split 1")
    assert of_folds["splits"] == ["1", "2", "3"]
    assert of_folds["values"] != of_one["values"]


def test_what_takes_long_says_so_once_by_the_rate_of_the_first_clips():
    now, lines, counted = [0.0], [], []
    told = forecast(counted.append, 3000, lines.append, "Quicker: --clips 1.", lambda: now[0])
    for done in range(0, 1000, 10):
        told(done)
        now[0] += 0.5  # 20 a second
    assert lines == ["3000 clips at 20/s: 2 min left. Quicker: --clips 1."]
    assert counted == list(range(0, 1000, 10))
    lines.clear()
    quick = forecast(counted.append, 400, lines.append, "", lambda: now[0])
    for done in range(0, 400, 10):
        quick(done)
        now[0] += 0.5  # all in 20 s
    assert not lines


@pytest.mark.parametrize("crops", [0, -1, 2, 5])
def test_a_number_of_crops_that_cannot_be_is_said(tmp_path, index_folder, videos, crops):
    given = {
        "data": index_folder,
        "classes": videos / "classes.csv",
        "results": tmp_path,
        "console": QUIET,
    }
    with pytest.raises(seehear.errors.SettingsError, match=f"--crops is {crops}"):
        seehear.evaluate(plain_model(), num_crops=crops, **given)
