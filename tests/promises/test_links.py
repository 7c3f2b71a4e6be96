"""Links of the documentation lead to files and headings, and README's do so outside of the
repository, too.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from test_promises import PAGES, ROOT

import seehear

LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")
ADDRESS = "https://example.org/some/where"


def headings(page: Path) -> set[str]:
    """The anchors of a page, named as GitHub names them; the build of the site checks its own."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "page",
    [*PAGES, *sorted((ROOT / "examples").rglob("*.md"))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for _, target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in headings(file), target


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the description of a package is made of, without an address."""
    for name in ("pyproject.toml", "README.md", "hatch_build.py", "src/seehear/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    text = (tmp_path / "pyproject.toml").read_text(encoding="utf-8")
    text = re.sub(r"^\[project\.urls\]\n(.+\n)*", "", text, flags=re.MULTILINE)
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    return tmp_path


def description(project: Path) -> str:
    """The text that the package index would show."""
    core = pytest.importorskip("hatchling.metadata.core")
    manager = pytest.importorskip("hatchling.plugin.manager")
    metadata = core.ProjectMetadata(str(project), manager.PluginManager())
    assert metadata.core.readme_content_type == "text/markdown"
    return metadata.core.readme


def test_without_an_address_the_description_is_the_readme(project: Path) -> None:
    assert description(project) == (ROOT / "README.md").read_text(encoding="utf-8")


def test_with_an_address_links_and_pictures_work_anywhere(project: Path) -> None:
    with (project / "pyproject.toml").open("a", encoding="utf-8") as pyproject:
        pyproject.write(f'\n[project.urls]\nRepository = "{ADDRESS}/"\n')
    found = LINK.findall(description(project))
    assert [mark for mark, _ in found].count("!") == 2
    assert len(found) == len(LINK.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    for mark, target in found:
        if not target.startswith(ADDRESS):
            assert target.startswith("https://"), target
            continue
        start = f"{ADDRESS}/{'raw' if mark else 'blob'}/v{seehear.__version__}/"
        assert target.startswith(start)
        assert (ROOT / target.removeprefix(start).partition("#")[0]).exists(), target
