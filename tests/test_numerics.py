from __future__ import annotations

import pytest
import torch

from planted import tiny_settings
from seehear.config import Compute
from seehear.errors import SettingsError
from seehear.model import build_pair
from seehear.numerics import Numerics, choose


def test_the_probe_times_all_candidates_chooses_among_them_and_leaves_the_pair_alone():
    cfg = tiny_settings()
    pair = build_pair(cfg)
    before = {k: v.clone() for k, v in pair.state_dict().items()}
    chosen = choose(Compute(device="cpu"), pair, cfg.clip)
    timed = dict(chosen.probe_ms)
    assert set(timed) == {f"{p} {m}" for p in ("fp32", "bf16") for m in ("contiguous", "channels_last")}
    assert f"{chosen.precision} {chosen.memory_format}" in timed
    best = min(timed.values())
    assert timed[f"{chosen.precision} {chosen.memory_format}"] <= 1.11 * best
    assert all(torch.equal(before[k], v) for k, v in pair.state_dict().items())
    assert all(p.grad is None for p in pair.parameters())


def test_what_is_fixed_is_taken_without_a_probe():
    cfg = tiny_settings()
    chosen = choose(Compute(device="cpu", precision="bf16", memory_format="contiguous"), build_pair(cfg), cfg.clip)
    assert chosen == Numerics("cpu", "bf16", "contiguous")


@pytest.mark.parametrize(
    "numerics", [Numerics("cpu", "fp32", "channels_last"), Numerics("cpu", "bf16", "channels_last")]
)
def test_layout_and_precision_change_features_only_by_rounding(numerics):
    encoder = build_pair(tiny_settings())
    frames = torch.rand(2, 3, 4, 32, 32)
    encoder.eval().requires_grad_(False)
    plain = encoder.encoders["video"](frames)
    numerics.place(encoder)
    with numerics.autocast():
        other = encoder.encoders["video"](numerics.arrange(frames)).float()
    tolerance = 1e-5 if numerics.precision == "fp32" else 0.05
    assert float((plain - other).norm() / plain.norm()) < tolerance


def test_a_device_that_is_not_there_is_a_clear_error():
    with pytest.raises(SettingsError, match=r"compute\.device is 'cuda:99'.*Try auto"):
        choose(Compute(device="cuda:99"), build_pair(tiny_settings()), tiny_settings().clip)
    with pytest.raises(SettingsError, match="'banana'"):
        choose(Compute(device="banana"), build_pair(tiny_settings()), tiny_settings().clip)
