"""The site of the documentation builds without a warning, and has what it promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import seehear
from seehear.cli import cli
from seehear.config import leaves
from seehear.presets import preset_settings

pytest.importorskip("mkdocstrings")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.thorough
def test_every_public_name_setting_and_command_is_on_the_site(site: Path) -> None:
    for name in set(seehear.__all__) - {"__version__"} | {"kmeans"}:
        page = (site / "api" / f"seehear.{name}" / "index.html").read_text(encoding="utf-8")
        assert f"seehear.{name}" in page
    settings = (site / "settings" / "index.html").read_text(encoding="utf-8")
    for leaf in leaves(preset_settings("small")):
        assert f"<code>{leaf.name}</code>" in settings
    commands = (site / "commands" / "index.html").read_text(encoding="utf-8")
    assert all(f"Usage: seehear {name}" in commands for name in cli.commands)


@pytest.mark.thorough
def test_what_the_site_shows_is_on_the_site(site: Path) -> None:
    """Pictures of the first page are there, and no page fetches anything from another machine."""
    first = (site / "index.html").read_text(encoding="utf-8")
    pictures = re.findall(r'<img[^>]* src="([^"]+)"', first)
    assert len(pictures) >= 2
    assert all((site / picture).is_file() for picture in pictures)
    assert "<code>examples/folder_to_names.ipynb</code>" in first  # not a part of the site
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|link)[^>]* (?:src|href)="https?://[^"]*"', text), (
            page
        )
