"""Do compiled, recomputed, and deterministic steps learn what a plain step learns?"""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch

import seehear
from planted import made_up_batch, tiny_settings
from seehear.config import Compute, override
from seehear.machine.devices import Numerics, choose, kernels, try_compiler, upload
from seehear.method.encoders import VideoEncoder
from seehear.method.encoders.building import build_pair
from seehear.method.learning import Sums
from seehear.method.step import Update, make_optimizer

CPU = Numerics("cpu", "fp32", "contiguous")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def stepped(numerics=CPU, steps=2, cfg=None, prepare=lambda pair: None):
    """A pair after some steps on made-up clips, and what was summed."""
    cfg = cfg or tiny_settings()
    pair = build_pair(cfg)
    pair.renew_heads({"video": {"x": 4}, "audio": {"x": 4}}, torch.Generator().manual_seed(0))
    numerics.place(pair)
    prepare(pair)
    batch = made_up_batch(cfg.clip, 6)
    update = Update(
        pair,
        cfg.clip,
        {"x": np.arange(6) % 4},
        cfg.train,
        numerics,
        make_optimizer(pair, cfg.train),
    )
    sums = Sums(update.students, numerics.device)
    pair.train()
    for _ in range(steps):
        update([batch], batch.rows_B, 0, sums)
    return pair, sums


def same(one, other, **tolerance):
    assert one.state_dict().keys() == other.state_dict().keys()
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a.cpu(), b.cpu(), **tolerance)


# --- activations computed again


@pytest.mark.parametrize("synced", [False, True])
def test_recomputing_gives_the_same_gradients_and_counts_each_batch_once(synced):
    def gradients(recompute):
        torch.manual_seed(0)
        encoder = VideoEncoder(4, 10)
        if synced:
            torch.nn.SyncBatchNorm.convert_sync_batchnorm(encoder)
        encoder.recompute = recompute
        frames = torch.rand(3, 3, 4, 24, 24, generator=torch.Generator().manual_seed(1))
        encoder.train()(frames).square().sum().backward()
        return encoder, [p.grad for p in encoder.parameters()]

    (plain, wanted), (again, found) = gradients(False), gradients(True)
    assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))
    same(plain, again, rtol=0, atol=0)
    assert int(again.state_dict()["stem.1.num_batches_tracked"]) == 1
    assert again.stem[1].momentum == 0.1


def test_recomputing_keeps_less_for_the_backward_pass():
    def kept_bytes(recompute):
        encoder, kept = VideoEncoder(4, 10), []
        encoder.recompute = recompute
        pack = lambda x: kept.append(x.numel() * x.element_size()) or x  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            encoder(torch.rand(2, 3, 4, 32, 32))
        return sum(kept)

    assert kept_bytes(True) < 0.35 * kept_bytes(False)


def test_a_step_with_recomputation_is_the_same_step():
    same(stepped()[0], stepped(prepare=lambda pair: pair.recompute(True))[0], rtol=0, atol=0)


# --- compiled


@pytest.mark.thorough
@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
def test_compiled_steps_learn_the_same(compiler):
    torch.compiler.reset()
    compiled = dataclasses.replace(CPU, compiler=compiler)
    same(stepped()[0], stepped(compiled)[0], rtol=1e-4, atol=1e-5)


def test_a_compiler_that_pays_is_taken_and_recorded_and_one_that_fails_is_not(monkeypatch):
    cfg = tiny_settings()
    with monkeypatch.context() as patched:
        patched.setattr("seehear.machine.devices.probe", lambda candidates, pair, clip: [2.0, 1.0])
        chosen = choose(
            override(cfg, {"compute.compile": "inductor"}).compute, build_pair(cfg), cfg.clip
        )
    assert (chosen.compiler, chosen.note) == ("inductor", "")
    assert Numerics.from_record(chosen.describe()) == chosen
    assert dict(chosen.probe_ms)["inductor"] == 1.0

    def broken(*args, **kwargs):
        raise RuntimeError("no C compiler\nand more")

    monkeypatch.setattr(torch.nn.Module, "compile", broken)
    fallen = try_compiler(CPU, "inductor", build_pair(cfg), cfg.clip)
    assert fallen.compiler == "off"
    assert fallen.note == "torch.compile (inductor) failed: no C compiler"


def test_a_compiler_that_is_no_faster_is_left_out(monkeypatch):
    cfg = tiny_settings()
    monkeypatch.setattr("seehear.machine.devices.probe", lambda candidates, pair, clip: [2.0, 1.9])
    assert (
        "does not pay: 1.90 ms a clip, 2.00 without"
        in try_compiler(CPU, "inductor", build_pair(cfg), cfg.clip).note
    )
    monkeypatch.setattr("seehear.machine.devices.probe", lambda candidates, pair, clip: [2.0, 1.0])
    assert try_compiler(CPU, "inductor", build_pair(cfg), cfg.clip).compiler == "inductor"


def test_a_record_of_before_there_were_compilers_can_be_read():
    record = {"device": "cpu", "precision": "fp32", "memory_format": "contiguous", "probe_ms": {}}
    assert Numerics.from_record(record) == CPU


# --- settings of kernels


def test_deterministic_kernels_are_asked_for_and_only_within_the_block():
    with kernels(Compute(deterministic=True)):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        first = stepped()[0]
        same(first, stepped()[0], rtol=0, atol=0)
    assert not torch.are_deterministic_algorithms_enabled()
    with kernels(Compute()):
        assert torch.backends.cudnn.benchmark
        assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark


@pytest.mark.thorough
def test_a_run_with_all_of_it_ends(index_folder, tmp_path):
    settings = {
        "compute.precision": "fp32",
        "compute.memory_format": "contiguous",
        "data.workers": 0,
        "rounds": 1,
    }
    settings |= {"compute.deterministic": True, "compute.checkpoint_activations": True}
    plain = {key: value for key, value in settings.items() if value is not True}
    one = seehear.pretrain(index_folder, tmp_path / "all", preset="debug", settings=settings)
    other = seehear.pretrain(index_folder, tmp_path / "plain", preset="debug", settings=plain)
    assert one.read_log()[0]["loss"] == other.read_log()[0]["loss"]


# --- a batch of which something is not finite


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_first_step_that_is_not_finite_leaves_everything_as_it_was(optimizer):
    cfg = tiny_settings({"train.optimizer": optimizer})

    def after(batches):
        pair = build_pair(cfg)
        pair.renew_heads({"video": {"x": 4}, "audio": {"x": 4}}, torch.Generator().manual_seed(0))
        update = Update(
            pair, cfg.clip, {"x": np.arange(6) % 4}, cfg.train, CPU, make_optimizer(pair, cfg.train)
        )
        sums, pair = Sums(update.students, "cpu"), pair.train()
        found = [update([batch], batch.rows_B, 0, sums).is_finite() for batch in batches]
        return pair, update.optimizer.state_dict()["state"], sums.table_S2, found

    good = made_up_batch(cfg.clip, 6)
    wrong = dataclasses.replace(good, waveform_BL=torch.full_like(good.waveform_BL, float("nan")))
    pair, state, table, found = after([wrong, good, good])
    wanted_pair, wanted_state, wanted_table, _ = after([good, good])
    assert found == [False, True, True]
    same(pair, wanted_pair, rtol=0, atol=0)
    torch.testing.assert_close(state, wanted_state, rtol=0, atol=0)
    assert torch.equal(table, wanted_table)


def test_upload_is_the_tensor_itself_where_it_is_there_already():
    here = torch.ones(3)
    assert upload(here, "cpu") is here


# --- on a GPU


@gpu
@pytest.mark.gpu
def test_on_a_gpu_a_step_does_not_wait_and_its_verdict_arrives():
    numerics = Numerics("cuda", "bf16", "channels_last")
    cfg = tiny_settings({"train.optimizer": "adamw"})
    stepped(numerics, cfg=cfg)  # allocates, and copies the filters
    pair, batch = build_pair(cfg), made_up_batch(cfg.clip, 6)
    pair.renew_heads({"video": {"x": 4}, "audio": {"x": 4}}, torch.Generator().manual_seed(0))
    numerics.place(pair)
    optimizer = make_optimizer(pair, cfg.train)
    assert optimizer.defaults["fused"]
    update = Update(pair, cfg.clip, {"x": np.arange(6) % 4}, cfg.train, numerics, optimizer)
    sums = Sums(update.students, "cuda")
    pair.train()
    update([batch], batch.rows_B, 0, sums)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            steps = [update([batch], batch.rows_B, 0, sums) for _ in range(4)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not waits
    assert all(step.is_finite() for step in steps)
    wrong = dataclasses.replace(batch, waveform_BL=torch.full_like(batch.waveform_BL, float("nan")))
    before = {name: x.clone() for name, x in pair.state_dict().items()}
    assert not update([wrong], wrong.rows_B, 0, sums).is_finite()
    torch.testing.assert_close(dict(pair.state_dict()), before, rtol=0, atol=0)


@gpu
@pytest.mark.gpu
def test_on_a_gpu_recomputation_learns_the_same():
    numerics = Numerics("cuda", "fp32", "channels_last")
    with kernels(Compute(deterministic=True)):
        same(
            stepped(numerics)[0],
            stepped(numerics, prepare=lambda pair: pair.recompute(True))[0],
            rtol=1e-4,
            atol=1e-5,
        )


@gpu
@pytest.mark.gpu
@pytest.mark.slow
def test_on_a_gpu_compiled_steps_learn_the_same():
    plain = Numerics("cuda", "fp32", "channels_last")
    same(
        stepped(plain)[0],
        stepped(dataclasses.replace(plain, compiler="inductor"))[0],
        rtol=1e-3,
        atol=1e-4,
    )


@gpu
@pytest.mark.gpu
def test_on_a_gpu_uploads_arrive_whole():
    for _ in range(20):
        there = torch.randint(0, 255, (4, 8, 64, 64, 3), dtype=torch.uint8)
        assert torch.equal(upload(there, "cuda").cpu(), there)
