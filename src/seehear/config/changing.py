"""How is a setting declared, and changed by its dotted name, from a shell, TOML or Python?"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from seehear.errors import SettingsError

LARGEST = 2**63  # no setting is a whole number that 64 bits do not hold
BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

T = TypeVar("T")


def setting(
    default: T, help: str, *, low: float | None = None, high: float | None = None, usual: str = ""
) -> T:
    """A field with its meaning and the closed range that it must lie in."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "usual": usual})


@dataclass(frozen=True)
class Leaf:
    """One setting: where it stands and what may be put there."""

    name: str
    type: Any
    default: Any
    help: str
    low: float | None
    high: float | None
    usual: str


def leaves(settings: Any, prefix: str = "") -> Iterator[Leaf]:
    """Every single setting with its dotted name, in the order of the dataclasses."""
    hints = typing.get_type_hints(type(settings))
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{f.name}.")
        else:
            yield Leaf(prefix + f.name, hints[f.name], value, **f.metadata)


def override(settings: T, changes: Mapping[str, Any], prefix: str = "") -> T:
    """New settings with some changed, by dotted name; strings are converted to the setting's type.

    Args:
        settings: `Settings`, or the settings of a task, a dataclass of fields made by `setting`.
        changes: value by name.
        prefix: what the names begin with, such as "finetune.".
    Raises:
        SettingsError: an unknown name (with the nearest ones), a wrong type, or out of range.
    """
    known = {leaf.name: leaf for leaf in leaves(settings, prefix)}
    for name, value in changes.items():
        if name not in known:
            raise SettingsError(unknown_setting(name, known))
        path = name.removeprefix(prefix).split(".")
        settings = replace_at(settings, path, convert(known[name], value))
    if hasattr(settings, "check"):  # what contradicts each other
        settings.check()
    return settings


def unknown_setting(name: str, known: Mapping[str, Leaf]) -> str:
    """The message for a name that is no setting, with the nearest names there are."""
    by_last = [k for k in known if k.split(".")[-1] == name.split(".")[-1]]
    near = by_last or difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`seehear settings` lists them all."
    return f"There is no setting {name}. {hint}"


def replace_at(settings: Any, path: list[str], value: Any) -> Any:
    """A copy of nested dataclasses with the value at one path replaced."""
    if len(path) > 1:
        value = replace_at(getattr(settings, path[0]), path[1:], value)
    return dataclasses.replace(settings, **{path[0]: value})


def convert(leaf: Leaf, value: Any) -> Any:
    """A value from a shell, TOML, JSON or Python in the setting's type, within its range."""
    try:
        value = parse(leaf.type, value)
    except (ValueError, TypeError, OverflowError):
        shown = f"{str(value)[:40]!r}" if isinstance(value, str | int) else f"{value!r:.40}"
        raise SettingsError(
            f"{leaf.name} is {shown}. It must be {describe(leaf.type)} ({leaf.help})."
        ) from None
    for number in value if isinstance(value, tuple) else (value,):
        too_low = leaf.low is not None and not number >= leaf.low
        if too_low or (leaf.high is not None and not number <= leaf.high):
            high = f" and at most {leaf.high:g}" if leaf.high is not None else ""
            usual = f"; usual: {leaf.usual}" if leaf.usual else ""
            raise SettingsError(
                f"{leaf.name} is {number:g}. It must be at least {leaf.low:g}{high}{usual}."
            )
    return value


def parse(wanted: Any, value: Any) -> Any:
    """One value as one type; ValueError where that cannot be."""
    origin = typing.get_origin(wanted)
    if origin is Literal:
        value = value.lower() if isinstance(value, str) else value
        if value not in typing.get_args(wanted):
            raise ValueError
        return value
    if origin is tuple:
        # "4,,5" has an empty part, which is no number
        parts = re.split(r"\s*,\s*|\s+", value.strip()) if isinstance(value, str) else value
        parts = [parts] if isinstance(parts, int) else list(parts)
        if not parts:
            raise ValueError
        return tuple(parse(typing.get_args(wanted)[0], part) for part in parts)
    if wanted is bool:
        value = BOOLS.get(value.lower()) if isinstance(value, str) else value
        if not isinstance(value, bool):
            raise ValueError
        return value
    if isinstance(value, bool) or (wanted is int and isinstance(value, float)):
        raise ValueError
    made = wanted(value)
    if (wanted is str and made is not value) or (wanted is int and abs(made) >= LARGEST):
        raise ValueError
    return made


def describe(wanted: Any) -> str:
    """A type in words: "one of conv, block", "a whole number"."""
    if typing.get_origin(wanted) is Literal:
        return "one of " + ", ".join(typing.get_args(wanted))
    if isinstance(wanted, types.GenericAlias):
        return "whole numbers separated by commas"
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(wanted, "text")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"lr": 1}} -> {"train.lr": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def read_toml(path: Path) -> dict[str, Any]:
    """Changes by dotted name from a TOML file.

    Raises:
        SettingsError: the file is missing or not TOML; the message names the line.
    """
    try:
        return flatten(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise SettingsError(
            f"{path} does not exist. `seehear settings` prints one to start from."
        ) from None
    # ValueError: no TOML, no UTF-8, endless numbers
    except (ValueError, OSError, RecursionError) as error:
        raise SettingsError(f"{path} is not readable as TOML: {error}.") from None


def differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Settings that differ, by dotted name: (old, new)."""
    then = {leaf.name: leaf.default for leaf in leaves(old, prefix)}
    now = {leaf.name: leaf.default for leaf in leaves(new, prefix)}
    return {name: (then[name], now[name]) for name in now if then[name] != now[name]}
