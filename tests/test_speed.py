"""Are work, time and peak of the step and of k-means counted right, and do the commands say what would help?"""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from planted import AS_DEBUG, tiny_settings
from seehear.cli import cli
from seehear.encoders import AudioEncoder, VideoEncoder
from seehear.numerics import Numerics
from seehear.speed import Rate, counted, matmul_peak, measure_kmeans, measure_step, step_advice

FIXED = ["--compute.precision", "fp32", "--compute.memory_format", "contiguous"]


def test_operations_are_those_of_the_definition():
    one, layer = torch.randn(7, 5), torch.nn.Linear(5, 3)
    assert counted(lambda: layer(one)) == 2 * 7 * 5 * 3
    image, convolution = torch.randn(2, 3, 8, 8), torch.nn.Conv2d(3, 4, 3, padding=1)
    assert counted(lambda: convolution(image)) == 2 * 2 * 4 * 8 * 8 * 3 * 9
    audio = AudioEncoder(64, 18).eval()
    with torch.no_grad():
        flops = counted(lambda: audio(torch.zeros(1, 1, 224, 224)))
    # ResNet-18 has 1.814 G multiplications with three input channels at 224x224, the stem 0.079 G more than with one.
    assert flops / 2 == pytest.approx(1.814e9 - 0.079e9, rel=0.01)


def test_a_step_is_three_forward_passes_of_work():
    found = measure_step(tiny_settings(AS_DEBUG), seconds=0.05)
    work = found.what["gigaflop_a_clip"]
    assert 2 < work["step"] / work["forward"] < 3.01  # the first layers need no gradient of their input
    assert [rate.work for rate in found.rates] == ["forward", "step"]
    for rate in found.rates:
        assert rate.teraflops == pytest.approx(work[rate.work] / 1e3 / (rate.milliseconds / 1e3), rel=0.2, abs=2e-5)
    assert found.advice


@pytest.mark.thorough
def test_kmeans_is_timed_in_every_precision():
    found = measure_kmeans(3000, 32, 8)
    assert [rate.work for rate in found.rates] == ["fp32", "bf16", "int8"] == list(found.peak_teraflops)
    assert "a million rows" in found.advice


def test_the_peak_is_above_what_a_network_reaches():
    encoder, frames = VideoEncoder(8, 10).eval(), torch.rand(2, 3, 4, 32, 32)
    import time

    with torch.no_grad():
        flops = counted(lambda: encoder(frames))
        begin = time.perf_counter()
        encoder(frames)
    assert matmul_peak("cpu", "fp32", repeats=1) > flops / (time.perf_counter() - begin) / 1e12


def test_advice_names_what_helps():
    cfg, slow = tiny_settings(), [Rate("step", 1.0, 1.0, 0.1)]
    assert "--compute.precision bf16" in step_advice(Numerics("cuda", "fp32", "contiguous"), slow, cfg)
    assert "--train.batch_size" in step_advice(Numerics("cuda", "bf16", "channels_last"), slow, cfg)
    compiled = Numerics("cuda", "bf16", "channels_last", compiler="inductor")
    assert "--train.batch_size" in step_advice(compiled, slow, cfg)
    assert "near" in step_advice(compiled, [Rate("step", 1.0, 1.0, 0.5)], cfg)
    assert "--encoders.video_width" in step_advice(Numerics("cpu", "fp32", "contiguous"), slow, cfg)


@pytest.mark.thorough
def test_the_commands_print_a_table_or_json():
    train = ["bench", "train", "--preset", "debug", "--seconds", "0.02", *FIXED]
    done = CliRunner().invoke(cli, train)
    assert done.exit_code == 0, done.output
    assert "GFLOP a clip" in done.output
    assert "peak of a matrix product" in done.output
    assert json.loads(CliRunner().invoke(cli, [*train, "--json"]).stdout)["what"]["frames"] == "4x32x32"
    kmeans = ["bench", "kmeans", "--rows", "2000", "--clusters", "4", "--width", "16"]
    done = CliRunner().invoke(cli, kmeans)
    assert done.exit_code == 0, done.output
    assert "int8" in done.output
    assert json.loads(CliRunner().invoke(cli, [*kmeans, "--json"]).stdout)["what"]["clusters"] == 4
    refused = CliRunner().invoke(cli, ["bench", "kmeans", "--rows", "10", "--clusters", "20"])
    assert "more than the 10" in str(refused.exception) + refused.output
