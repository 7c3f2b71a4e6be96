from __future__ import annotations

import os
import platform
import subprocess
import sys
from timeit import Timer

import pytest
import torch

from planted import tiny_settings
from seehear.config import Compute
from seehear.errors import SettingsError
from seehear.machine import devices as numerics
from seehear.machine.devices import Numerics, choose
from seehear.method.encoders.building import build_pair


@pytest.mark.parametrize("tried", [("fp32", "bf16"), ("fp32",)])
def test_the_probe_times_all_candidates_chooses_among_them_and_leaves_the_pair_alone(
    tried, monkeypatch
):
    monkeypatch.setattr(numerics, "is_bf16_worth_a_try", lambda device: "bf16" in tried)
    cfg = tiny_settings()
    pair = build_pair(cfg)
    before = {k: v.clone() for k, v in pair.state_dict().items()}
    chosen = choose(Compute(device="cpu"), pair, cfg.clip)
    timed = dict(chosen.probe_ms)
    assert set(timed) == {f"{p} {m}" for p in tried for m in ("contiguous", "channels_last")}
    assert f"{chosen.precision} {chosen.memory_format}" in timed
    best = min(timed.values())
    assert timed[f"{chosen.precision} {chosen.memory_format}"] <= 1.11 * best
    assert all(torch.equal(before[k], v) for k, v in pair.state_dict().items())
    assert all(p.grad is None for p in pair.parameters())


def test_a_precision_is_tried_unless_its_products_are_far_slower():
    matrices = {
        dtype: torch.ones(512, 512, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)
    }
    milliseconds = {}
    for dtype, matrix in matrices.items():
        times = Timer("a @ a", globals={"a": matrix}).repeat(5, 3)
        milliseconds[dtype] = min(times)
    ratio = milliseconds[torch.bfloat16] / milliseconds[torch.float32]
    if not 1 < ratio < 4:  # nearer to the limit, a busy machine may say one thing or the other
        assert numerics.is_bf16_worth_a_try("cpu") == (ratio < 2)


def test_batch_norm_over_ranks_is_refused_where_there_is_none():
    with pytest.raises(
        SettingsError, match=r"sync_batch_norm is true and the device is cpu.*--train\.batch_parts"
    ):
        choose(
            Compute(device="cpu", sync_batch_norm=True),
            build_pair(tiny_settings()),
            tiny_settings().clip,
        )


def test_what_is_fixed_is_taken_without_a_probe():
    cfg = tiny_settings()
    chosen = choose(
        Compute(device="cpu", precision="bf16", memory_format="contiguous"),
        build_pair(cfg),
        cfg.clip,
    )
    assert chosen == Numerics("cpu", "bf16", "contiguous")


@pytest.mark.parametrize(
    "way", [Numerics("cpu", "fp32", "channels_last"), Numerics("cpu", "bf16", "channels_last")]
)
def test_layout_and_precision_change_features_only_by_rounding(way):
    encoder = build_pair(tiny_settings())
    frames = torch.rand(2, 3, 4, 32, 32)
    encoder.eval().requires_grad_(False)
    plain = encoder.encoders["video"](frames)
    way.place(encoder)
    with way.autocast():
        other = encoder.encoders["video"](way.arrange(frames)).float()
    tolerance = 1e-5 if way.precision == "fp32" else 0.05
    assert float((plain - other).norm() / plain.norm()) < tolerance


def test_a_device_that_is_not_there_is_a_clear_error():
    with pytest.raises(SettingsError, match=r"compute\.device is 'cuda:99'.*Try auto"):
        choose(Compute(device="cuda:99"), build_pair(tiny_settings()), tiny_settings().clip)
    with pytest.raises(SettingsError, match="'banana'"):
        choose(Compute(device="banana"), build_pair(tiny_settings()), tiny_settings().clip)


def faults_of_a_large_block(environment: dict[str, str]) -> int:
    """Pages that a process is given by the system for a block of 64 MB that it has had and freed
    before.
    """
    code = """if True:
        import resource
        from seehear.machine.devices import keep_memory
        keep_memory()
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            bytearray(2**26)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    return int(done.stdout)


@pytest.mark.thorough
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told so")
def test_memory_is_kept_unless_the_environment_says_otherwise():
    kept = faults_of_a_large_block({})
    given_back = faults_of_a_large_block({"MALLOC_TRIM_THRESHOLD_": "131072"})  # as by default
    assert given_back >= 16  # pages of 4 MB or less
    assert kept < given_back / 4
