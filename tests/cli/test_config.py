from __future__ import annotations

import dataclasses
import tomllib
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seehear import config
from seehear.config import Settings, differences, from_dict, leaves, override, read_toml
from seehear.errors import SettingsError
from seehear.presets import PRESETS, preset_settings

NAMES = [leaf.name for leaf in leaves(Settings())]


def test_every_setting_has_a_meaning_and_its_default_is_allowed():
    for leaf in leaves(Settings()):
        assert leaf.help, leaf.name
        assert config.convert(leaf, leaf.default) == leaf.default
        for choice in get_args(leaf.type):  # a user reads there what may be typed
            named = choice == leaf.default or not isinstance(choice, str) or choice in leaf.help
            assert named, (leaf.name, choice)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_the_way_through_json_and_toml_and_state_what_they_are(name, tmp_path):
    from click.testing import CliRunner

    from seehear.cli import cli

    settings = preset_settings(name)
    assert from_dict(settings.to_dict()) == settings
    printed = CliRunner().invoke(cli, ["settings", name]).output
    (tmp_path / "s.toml").write_text(printed)
    assert override(Settings(), read_toml(tmp_path / "s.toml")) == settings
    for text in ("paper", "cost", "expected", "command"):
        assert getattr(PRESETS[name], text)
        assert f"# {text}: " in printed
    assert tomllib.loads(printed)["rounds"] == settings.rounds


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("train.lr", "0.1", 0.1),
        ("train.batch_size", "16", 16),
        ("clip.flip", "false", False),
        ("variant", "cdc", "cdc"),
        ("variant", "XDC", "xdc"),
        ("cluster.num_clusters", "8", (8,)),
        ("cluster.num_clusters", "8,16", (8, 16)),
        ("cluster.num_clusters", [8, 16], (8, 16)),
        ("cluster.num_clusters", 8, (8,)),
        ("train.lr", 1, 1.0),
        ("compute.device", "cuda:1", "cuda:1"),
    ],
)
def test_values_get_the_type_of_their_setting(name, typed, value):
    settings = override(Settings(), {name: typed})
    leaf = {leaf.name: leaf for leaf in leaves(settings)}[name]
    assert leaf.default == value
    assert type(leaf.default) is type(value)
    assert set(differences(Settings(), settings)) <= {name}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.lrr": 1}, r"no setting train\.lrr\. Did you mean train\.lr"),
        ({"lr": 1}, r"Did you mean train\.lr\?"),
        ({"precision": "fp32"}, r"Did you mean compute\.precision"),
        ({"zzzz": 1}, "seehear settings"),
        ({"train.lr": "fast"}, r"train\.lr is 'fast'\. It must be a number"),
        ({"train.lr": float("nan")}, "at least 0"),
        ({"train.batch_size": "1.5"}, "a whole number"),
        ({"train.batch_size": 1}, "at least 2"),
        ({"train.batch_size": True}, "a whole number"),
        ({"clip.flip": "maybe"}, "true or false"),
        ({"variant": "xyz"}, "one of xdc, sdc, mdc, cdc, same-modality"),
        ({"cluster.num_clusters": ""}, "whole numbers separated by commas"),
        (
            {"cluster.num_clusters": "4,,5"},
            "is '4,,5'. It must be whole numbers separated by commas",
        ),
        ({"cluster.num_clusters": "4,1"}, r"num_clusters is 1\. It must be at least 2"),
        ({"clip.crop_pixels": 200}, r"more than clip\.short_side_pixels \(128\)"),
        ({"encoders.video_depth": 12}, "10 or 18"),
    ],
)
def test_what_cannot_be_says_what_and_what_to_do(changes, message):
    with pytest.raises(SettingsError, match=message):
        override(Settings(), changes)


@given(
    st.dictionaries(
        st.sampled_from(NAMES), st.text() | st.integers() | st.floats() | st.booleans() | st.none()
    )
)
def test_any_value_is_taken_or_refused_cleanly(changes):
    try:
        settings = override(Settings(), changes)
    except SettingsError as error:
        message = str(error)
        assert message.endswith((".", "?")), message
    else:
        assert from_dict(settings.to_dict()) == settings


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().seed = 1  # type: ignore[misc]


def test_a_settings_file_that_is_missing_or_broken_says_so(tmp_path):
    with pytest.raises(SettingsError, match="does not exist"):
        read_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("rounds = \n")
    with pytest.raises(SettingsError, match="line 1"):
        read_toml(tmp_path / "bad.toml")


def test_an_unknown_preset_suggests_the_nearest():
    with pytest.raises(SettingsError, match=r"Did you mean debug\?"):
        preset_settings("debgu")
