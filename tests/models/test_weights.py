from __future__ import annotations

import dataclasses
import importlib
import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import r2plus1d
import seehear
from command_here import command
from seehear.errors import CheckpointError, RunError, UsageError
from seehear.method.encoders import Pair, VideoEncoder
from seehear.models.converting import account, convert, open_checkpoint, read_checkpoint
from seehear.models.released import BN_EPS, RELEASED, TORCHVISION_CLIP, XDC_CLIP, find

RULES = ("conv", "block")


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, torch.Tensor]]:
    return {rule: r2plus1d.state_dict(rule) for rule in RULES}


@pytest.fixture(scope="module")
def files(states, tmp_path_factory) -> dict[str, Path]:
    """Both kinds as files: XDC's without a classifier, torchvision's with one."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.save(states["conv"], folder / "conv.pth")
    fc = {"fc.weight": torch.zeros(400, 512), "fc.bias": torch.zeros(400)}
    # of 2019
    torch.save(states["block"] | fc, folder / "block.pth", _use_new_zipfile_serialization=False)
    return {rule: folder / f"{rule}.pth" for rule in RULES}


def small(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("rule", RULES)
def test_keys_and_shapes_are_those_of_the_published_networks(rule):
    shapes = r2plus1d.shapes(rule)
    with torch.device("meta"):
        ours = {
            key: tuple(value.shape)
            for key, value in VideoEncoder(midplanes=rule).state_dict().items()
        }
    assert ours == shapes
    learned = [shape for key, shape in shapes.items() if key.endswith(("weight", "bias"))]
    assert sum(math.prod(shape) for shape in learned) == r2plus1d.PARAMETERS[rule]


@pytest.mark.thorough
@pytest.mark.parametrize("rule", RULES)
def test_a_checkpoint_becomes_an_encoder_that_computes_what_the_published_network_does(
    rule, files, states, tmp_path
):
    accounting = convert(files[rule], tmp_path / "encoders")
    assert len(accounting.matched) == len(r2plus1d.shapes(rule))
    assert accounting.left_out == (("fc.weight", "fc.bias") if rule == "block" else ())
    model = seehear.load(tmp_path / "encoders", device="cpu")
    frames = torch.rand(2, 3, 5, 40, 32, generator=torch.Generator().manual_seed(1))
    double = {key: value.double() for key, value in states[rule].items()}
    wanted = r2plus1d.forward(double, frames.double(), rule)
    torch.testing.assert_close(model.video(frames).double(), wanted, rtol=1e-4, atol=1e-4)
    exact = model.pair.encoders["video"].double()(frames.double())
    torch.testing.assert_close(exact, wanted, rtol=1e-6, atol=1e-6)
    record = json.loads((tmp_path / "encoders" / "encoders.json").read_text())
    assert record["modalities"] == ["video"]
    assert record["encoders"]["midplanes"] == rule
    assert record["bn_eps"] == r2plus1d.EPS[rule]
    assert model.clip == (XDC_CLIP if rule == "conv" else TORCHVISION_CLIP)
    straight = seehear.load(files[rule], device="cpu")
    assert straight.digest == seehear.load(tmp_path / "encoders", device="cpu").digest
    assert straight.info == model.info


def test_the_output_is_torchvisions_where_it_can_be_imported(tmp_path):
    try:
        video = importlib.import_module("torchvision.models.video")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    network = video.r2plus1d_18(weights=None).eval()
    model = seehear.load(small(network.state_dict(), tmp_path / "theirs.pth"), device="cpu")
    network.fc = torch.nn.Identity()
    frames = torch.rand(2, 3, 8, 56, 56)
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1, 1) for values in (r2plus1d.MEAN, r2plus1d.STD)
    )
    with torch.inference_mode():
        torch.testing.assert_close(
            model.video(frames), network((frames - mean) / std), rtol=1e-5, atol=1e-5
        )


def test_wrappings_of_a_state_dict_are_taken_off(states, tmp_path):
    parallel = {f"module.{key}": value for key, value in states["conv"].items()}
    opened = open_checkpoint(small({"epoch": 3, "state_dict": parallel}, tmp_path / "w.pth"))
    assert opened.accounting.matched
    assert not opened.accounting.unexpected
    save_file(states["block"], tmp_path / "w.safetensors")
    assert open_checkpoint(tmp_path / "w.safetensors").record["encoders"]["midplanes"] == "block"


def test_counters_of_batch_norms_may_be_missing_and_are_named(states, tmp_path):
    old = {
        key: value
        for key, value in states["conv"].items()
        if not key.endswith("num_batches_tracked")
    }
    opened = open_checkpoint(small(old, tmp_path / "old.pth"))
    assert set(opened.accounting.not_there) == states["conv"].keys() - old.keys()
    assert int(opened.pair.encoders["video"].state_dict()["stem.1.num_batches_tracked"]) == 0


@pytest.mark.parametrize(
    ("rule", "other", "numbers"), [("conv", "block", "288 where"), ("block", "conv", "230 where")]
)
def test_a_wrong_rule_of_mid_planes_is_named(rule, other, numbers, files):
    message = rf'layer2.0.conv2.0.0.weight has {numbers} the encoder has .*midplanes="{rule}"'
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(files[rule], midplanes=other)


def test_anything_that_is_not_accounted_for_is_an_error(states, tmp_path):
    state = dict(states["conv"])
    del state["layer3.1.conv2.1.running_var"]
    with pytest.raises(CheckpointError, match=r"1 are missing \(layer3.1.conv2.1.running_var\)"):
        open_checkpoint(small(state, tmp_path / "a.pth"))
    deeper = states["conv"] | {
        f"layer3.{n}.conv1.0.0.weight": torch.zeros(576, 256, 1, 3, 3) for n in range(2, 6)
    }
    with pytest.raises(
        CheckpointError, match=r"4 are unknown \(layer3.2.conv1.0.0.weight, .*, \.\.\.\)"
    ):
        open_checkpoint(small(deeper, tmp_path / "b.pth"))
    other_stem = states["conv"] | {"stem.0.weight": torch.zeros(45, 2, 1, 7, 7)}
    with pytest.raises(
        CheckpointError, match=r"1 have another shape \(stem.0.weight: \(45, 2, 1, 7, 7\), not"
    ):
        open_checkpoint(small(other_stem, tmp_path / "c.pth"))


def test_an_image_network_is_another_architecture(tmp_path):
    resnet50 = {
        "conv1.weight": torch.zeros(64, 3, 7, 7),
        "bn1.weight": torch.zeros(64),
        "fc.bias": torch.zeros(1000),
    }
    resnet50 |= {
        f"layer{i}.0.conv{j}.weight": torch.zeros(8, 8, 1, 1)
        for i in (1, 2, 3, 4)
        for j in (1, 2, 3)
    }
    with pytest.raises(
        CheckpointError,
        match=r"is not of this architecture, R\(2\+1\)D-18: 0 keys fit, 185 are missing",
    ):
        open_checkpoint(small(resnet50, tmp_path / "resnet50.pth"))


class Evil:
    """Code in a pickle: opening it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    torch.save(
        {"stem.0.weight": torch.zeros(1), "x": Evil(tmp_path / "ran")}, tmp_path / "evil.pth"
    )
    for protocol in (2, 4):
        (tmp_path / f"plain{protocol}.pth").write_bytes(
            pickle.dumps(Evil(tmp_path / "ran"), protocol)
        )
    for name in ("evil.pth", "plain2.pth"):
        with pytest.raises(CheckpointError, match="made by running code"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(
        CheckpointError, match=r"no checkpoint of PyTorch, or a damaged one \(Unsupported"
    ):
        read_checkpoint(tmp_path / "plain4.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("share", [0.0, 0.00001, 0.5, 0.999999])
def test_a_truncated_file_is_one_clear_line(rule, share, files, tmp_path):
    content = files[rule].read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"cut.pth is .*(truncated|damaged)") as caught:
        open_checkpoint(tmp_path / "cut.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([torch.zeros(2)], "holds a list"),
        ({}, "holds a dict"),
        ({"epoch": 1, "optimizer": {}}, "a dictionary with epoch, optimizer"),
        (torch.zeros(3), "holds a Tensor"),
    ],
)
def test_what_is_no_state_dict_is_said_to_be_none(content, says, tmp_path):
    with pytest.raises(CheckpointError, match=says):
        read_checkpoint(small(content, tmp_path / "x.pth"))


def test_other_files_are_no_checkpoints(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"<html>not found</html>")
    (tmp_path / "a.safetensors").write_bytes(b"<html>not found</html>")
    with pytest.raises(CheckpointError, match="no checkpoint of PyTorch"):
        read_checkpoint(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_checkpoint(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        read_checkpoint(tmp_path / "b.pth")


def test_a_released_file_is_known_by_its_bytes(files, monkeypatch, tmp_path):
    from seehear.machine.files import digest_of

    entry = find("r2plus1d_18_xdc_audioset")
    known = dataclasses.replace(entry, sha256=digest_of(files["conv"])[:8])
    monkeypatch.setitem(RELEASED, entry.name, known)
    model = seehear.load(files["conv"], device="cpu")
    assert model.info["source"]["name"] == entry.name
    assert model.info["source"]["licence"] == "MIT"
    assert model.info["source"]["published"] == {"UCF101": 93.0, "HMDB51": 63.7}
    with pytest.raises(
        UsageError, match="r2plus1d_18_xdc_audioset has no audio encoder, only one for video"
    ):
        model.audio(torch.zeros(1, 16000))


def test_the_table_of_released_weights_is_consistent():
    assert len(RELEASED) == 6
    for name, entry in RELEASED.items():
        assert entry.name == name
        assert entry.file.endswith(f"-{entry.sha256}.pth")
        assert len(entry.sha256) == 8
        assert entry.midplanes == ("conv" if "HumamAlwassel/XDC" in entry.url else "block")
        assert BN_EPS[entry.midplanes] == r2plus1d.EPS[entry.midplanes]
        assert bool(entry.published) == (entry.licence == "MIT")
    with pytest.raises(UsageError, match="Did you mean r2plus1d_18_xdc_audioset"):
        find("r2plus1d_xdc_audioset")
    with pytest.raises(
        RunError, match=r"r2plus1d_18_kinetic has no trained encoders.*Did you mean .*kinetics400"
    ):
        seehear.load("r2plus1d_18_kinetic")


def test_accounting_separates_what_is_where():
    theirs = {"a": torch.zeros(1), "b": torch.zeros(2), "fc.bias": torch.zeros(1)}
    found = account(theirs, {"a": torch.zeros(1), "b": torch.zeros(3), "c": torch.zeros(1)})
    assert found.matched == ("a",)
    assert found.missing == ("c",)
    assert found.unexpected == found.left_out == ("fc.bias",)
    assert found.mismatched == {"b": ((2,), (3,))}


@pytest.mark.thorough
def test_convert_from_the_command_line(files, tmp_path, monkeypatch, capsys):
    out = str(tmp_path / "out")
    assert command(monkeypatch, "weights", "convert", str(files["block"]), "--out", out) == 0
    printed = capsys.readouterr().out
    assert "222 keys fit." in printed
    assert "Left out: fc.weight, fc.bias" in printed
    assert command(monkeypatch, "weights", "convert", str(files["block"]), "--out", out) == 2
    assert "out exists. Choose another --out" in capsys.readouterr().err
    assert (
        command(
            monkeypatch,
            "weights",
            "convert",
            str(files["conv"]),
            "--out",
            out,
            "--overwrite",
            "--json",
        )
        == 0
    )
    assert len(json.loads(capsys.readouterr().out)["matched"]) == 222
    assert (
        command(monkeypatch, "weights", "convert", str(tmp_path / "no.pth"), "--out", out + "2")
        == 2
    )
    assert "no.pth does not exist." in capsys.readouterr().err
    assert not (tmp_path / "out2").exists()


def test_list_from_the_command_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("SEEHEAR_HOME", str(tmp_path))
    assert command(monkeypatch, "weights", "list") == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in RELEASED)
    assert "95.5" in printed
    assert command(monkeypatch, "weights", "list", "--json") == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == list(RELEASED)


def test_a_pair_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="needs a video encoder, an audio encoder, or both"):
        Pair()
