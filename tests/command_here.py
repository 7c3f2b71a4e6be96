"""A command in this process: starting one for each takes longer than most commands do."""

from __future__ import annotations

import sys

import pytest

from seehear.cli import main


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of `seehear WORDS`; what it prints is there for `capsys`."""
    monkeypatch.setattr(sys, "argv", ["seehear", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)
