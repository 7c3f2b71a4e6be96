from __future__ import annotations

import pytest
import torch

from seehear.method.encoders import AudioEncoder, Conv2Plus1D, Pair, VideoEncoder, midplanes
from seehear.method.encoders.building import build_pair
from seehear.presets import preset_settings


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("rule", "count"), [("conv", 33_165_639), ("block", 31_300_125)])
def test_the_full_video_encoder_has_the_published_number_of_parameters(rule, count):
    with torch.device("meta"):
        assert parameters(VideoEncoder(midplanes=rule)) == count


def test_the_full_audio_encoder_is_resnet18_with_one_channel_and_no_classifier():
    with torch.device("meta"):
        rgb_resnet18, classifier = 11_689_512, 512 * 1000 + 1000
        assert parameters(AudioEncoder()) == rgb_resnet18 - classifier - 2 * 64 * 49


@pytest.mark.parametrize(
    ("c_in", "c_out", "mid"),
    [
        (64, 64, 144),
        (64, 128, 230),
        (128, 128, 288),
        (128, 256, 460),
        (256, 256, 576),
        (256, 512, 921),
        (512, 512, 1152),
    ],
)
def test_midplanes_are_those_of_the_paper(c_in, c_out, mid):
    assert midplanes(c_in, c_out) == mid


def test_state_dict_has_the_names_and_shapes_of_released_checkpoints():
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in VideoEncoder().state_dict().items()}
    assert shapes["stem.0.weight"] == (45, 3, 1, 7, 7)
    assert shapes["stem.3.weight"] == (64, 45, 3, 1, 1)
    assert shapes["layer1.0.conv1.0.0.weight"] == (144, 64, 1, 3, 3)
    assert shapes["layer2.0.conv2.0.0.weight"] == (288, 128, 1, 3, 3)
    assert shapes["layer2.0.conv1.0.3.weight"] == (128, 230, 3, 1, 1)
    assert shapes["layer4.0.downsample.0.weight"] == (512, 256, 1, 1, 1)
    assert "layer3.1.conv2.1.running_var" in shapes
    assert not any("rgb" in k or k.startswith("fc") for k in shapes)
    with torch.device("meta"):
        block = {k: tuple(v.shape) for k, v in VideoEncoder(midplanes="block").state_dict().items()}
    assert block["layer2.0.conv2.0.0.weight"] == (230, 128, 1, 3, 3)
    assert block.keys() == shapes.keys()


@pytest.mark.parametrize("depth", [10, 18])
@pytest.mark.parametrize("size", [(1, 16, 16), (8, 32, 32), (5, 33, 47)])
def test_any_clip_size_gives_one_feature_a_clip(depth, size):
    encoder = VideoEncoder(width=4, depth=depth)
    assert encoder(torch.rand(2, 3, *size)).shape == (2, 32)
    assert AudioEncoder(4, depth)(torch.randn(2, 1, 40, 100)).shape == (2, 32)


def test_uint8_frames_mean_the_same_as_floats_in_0_to_1():
    encoder = VideoEncoder(width=4, depth=10).eval()
    frames = torch.randint(0, 256, (2, 3, 4, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(encoder(frames), encoder(frames.float() / 255))


def test_a_louder_recording_is_standardised_away_in_training():
    encoder = AudioEncoder(4, 10)
    logmel = torch.randn(4, 1, 40, 100)
    torch.testing.assert_close(encoder(logmel), encoder(logmel + 3.0), rtol=1e-3, atol=1e-4)


def test_wrong_depth_or_width_is_an_error_with_the_value():
    with pytest.raises(ValueError, match=r"video depth is 34.*10, 18"):
        VideoEncoder(depth=34)
    with pytest.raises(ValueError, match="audio width is 0"):
        AudioEncoder(width=0)


def test_heads_follow_the_teachers_and_are_drawn_from_the_generator():
    pair = Pair(VideoEncoder(4, 10), AudioEncoder(4, 10))
    heads = {"video": {"audio": 5, "video": 7}, "audio": {"video": 7}}
    pair.renew_heads(heads, torch.Generator().manual_seed(1))
    scores = pair({"video": torch.rand(2, 3, 4, 16, 16), "audio": torch.randn(2, 1, 40, 50)})
    assert {s: {n: tuple(v.shape) for n, v in h.items()} for s, h in scores.items()} == {
        "video": {"audio": (2, 5), "video": (2, 7)},
        "audio": {"video": (2, 7)},
    }
    before = pair.heads["video"]["audio"].weight.clone()
    pair.renew_heads(heads, torch.Generator().manual_seed(1))
    assert torch.equal(before, pair.heads["video"]["audio"].weight)
    pair.renew_heads(heads, torch.Generator().manual_seed(2))
    assert not torch.equal(before, pair.heads["video"]["audio"].weight)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        ((1, 7, 7), (1, 2, 2), (0, 3, 3)),
        ((3, 1, 1), (2, 1, 1), (1, 0, 0)),
        ((1, 3, 3), 1, (0, 1, 1)),
        ((3, 1, 1), 1, (1, 0, 0)),
        ((1, 1, 1), 2, 0),
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_convolutions_on_views_are_3d_convolutions(kernel, stride, padding, layout):
    ours = Conv2Plus1D(5, 7, kernel, stride=stride, padding=padding, bias=False).double()
    theirs = torch.nn.Conv3d(5, 7, kernel, stride=stride, padding=padding, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 5, 11, 9, dtype=torch.float64).contiguous(memory_format=layout)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, z = ours(a), theirs(b)
    torch.testing.assert_close(y, z)
    weights = torch.randn_like(z)
    (y * weights).sum().backward()
    (z * weights).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


@pytest.mark.parametrize("shape", [(2, 128, 4, 28, 230), (2, 64, 4, 28, 230), (4, 45, 4, 16, 64)])
def test_bf16_gradients_are_off_by_rounding_only(shape):
    batch, c_in, frames, side, c_out = shape
    conv = Conv2Plus1D(c_in, c_out, (1, 3, 3), padding=(0, 1, 1), bias=False)
    x = torch.randn(batch, c_in, frames, side, side).contiguous(
        memory_format=torch.channels_last_3d
    )
    weights = torch.randn(batch, c_out, frames, side, side)
    gradients = []
    for enabled in (False, True):
        conv.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            y = conv(x)
        (y.float() * weights).sum().backward()
        gradients.append(conv.weight.grad.clone())
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < 0.01


def test_new_heads_leave_the_global_generator_alone():
    """A pair may be built from it in another thread at the same time, as the demo does."""
    pair = build_pair(preset_settings("debug"))
    before = torch.random.get_rng_state()
    pair.renew_heads({"video": {"audio": 5}, "audio": {"video": 5}}, torch.Generator())
    assert torch.equal(torch.random.get_rng_state(), before)
