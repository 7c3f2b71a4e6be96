"""The tour's commands, in its order, on a handful of videos."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from test_promises import ROOT, blocks

from command_here import command

# what the tour types -> what stands for it here: few videos, no browser, rows that are there
TINY = {
    "synth videos": "synth videos --videos 40 --classes 2",
    "explore videos/train": "explore videos/train --no-open --workers 1",
    "--serve --open": "--previews 4",
    "--cluster joint_32:17": "--cluster joint:0",
    "--like 15 --unlike 755": "--like 3 --unlike 5",
    "--size 120": "--size 8",
    "--task finetune": "--task finetune --modality audio --set epochs=1",
}


@pytest.mark.thorough
def test_the_commands_of_the_tour_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    for name in ("HF_HOME", "SEEHEAR_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    lines = [
        line for _, text in blocks("sh", [ROOT / "docs" / "tour.md"]) for line in text.splitlines()
    ]
    typed = [line.split("  #")[0] for line in lines if line.startswith("seehear ")]
    assert len(typed) >= 9
    for line in typed:
        for said, here in TINY.items():
            line = line.replace(said, here)
        assert command(monkeypatch, *shlex.split(line)[1:]) == 0, line
        if " report " in line:  # what a person does there
            names = {"joint": {"0": "spinning bar", "1": "rain"}}
            ticks = {"rain": {"3": True, "4": True}, "flapping wings": {"5": True, "6": True}}
            written = {"format": 1, "names": names, "ticks": ticks}
            (tmp_path / "explored" / "run" / "names.json").write_text(json.dumps(written))
    assert "chance" in capsys.readouterr().out
    for name in ("copies.parquet", "part/index.arrow", "named.csv"):
        assert (tmp_path / name).exists()
