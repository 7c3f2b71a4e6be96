"""What the documentation says is true: its commands parse, its Python runs, its files exist, its
settings are there.
"""

from __future__ import annotations

import ast
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import seehear
from seehear import config
from seehear.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / "docs").glob("*.md"),
    ]
)


def blocks(language: str, pages: list[Path] = PAGES) -> list[tuple[str, str]]:
    """All code blocks of a language: (page, text)."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [
        (page.name, text)
        for page in pages
        for text in pattern.findall(page.read_text(encoding="utf-8"))
    ]


def commands() -> list[str]:
    """Every line of a shell block, and every inline `seehear ...` with arguments."""
    texts = [text.replace("\\\n", "") for _, text in blocks("sh")]
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    for page in PAGES:
        lines += re.findall(r"`(seehear [a-z]+ [^`]+)`", page.read_text(encoding="utf-8"))
    return sorted({line.split("  #")[0].strip() for line in lines})


@pytest.mark.parametrize("line", commands())
def test_commands_of_the_documentation_are_commands(line):
    words = shlex.split(re.sub(r"^torchrun .* -m seehear", "seehear", line.split(" > ")[0]))
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
        return
    if words[0] != "seehear" or "..." in line:
        return
    command = cli.get_command(click.Context(cli), words[1])
    assert command is not None, line
    values = command.make_context(words[1], words[2:]).params  # an unknown option raises
    changes = {k.replace("__", "."): v for k, v in values.get("settings", {}).items()}
    config.override(config.Settings(), changes)


@pytest.fixture(scope="module")
def workplace(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    (folder / "videos").symlink_to(videos)
    return folder


@pytest.mark.thorough
def test_the_python_of_the_readme_and_of_evaluation_runs_from_top_to_bottom(workplace):
    pages = [
        ROOT / "README.md",
        *(ROOT / "docs" / f"{name}.md" for name in ("method", "evaluation", "finetuning")),
    ]
    script = "\n".join(text for page in pages for _, text in blocks("python", [page]))
    (workplace / "readme.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-W", "error", "readme.py"],
        cwd=workplace,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert "torch.Size([2, 32]) torch.Size([2, 32])" in done.stdout
    assert "\n0 {'video': [" in done.stdout
    assert "torch.Size([2, 4])" in done.stdout.splitlines()[-1]


def test_files_and_modules_named_in_texts_exist():
    """Files in the docstring of a room are in it; paths and names of the package, wherever they
    stand, are there.
    """
    for room in sorted((ROOT / "src").rglob("__init__.py")):
        for name in re.findall(
            r"`([a-z_]+\.py)`", ast.get_docstring(ast.parse(room.read_text())) or ""
        ):
            assert (room.parent / name).exists() or (room.parent.parent / name).exists(), (
                f"{room}: {name}"
            )
    sources = [
        path for folder in ("src", "benchmarks", "tests") for path in (ROOT / folder).rglob("*.py")
    ]
    for page in [*PAGES, *sources]:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:src|tests|benchmarks|docs|examples)/[\w./-]+)`", text):
            assert (ROOT / name).exists(), f"{page}: {name}"
        for name in re.findall(r"`(seehear(?:\.[A-Za-z_]+)+)`", text.replace("`seehear.NAME`", "")):
            pkgutil.resolve_name(name)  # raises for what is not there


def test_the_folders_of_the_caches_are_those_of_the_documentation(monkeypatch, tmp_path):
    from seehear.data import remote
    from seehear.models.fetching import weights_folder

    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SEEHEAR_HOME", "SEEHEAR_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for page, folder in (("remote.md", remote.cache_folder), ("weights.md", weights_folder)):
        said = re.findall(
            r"`(~/\.cache/[^`]+)`", (ROOT / "docs" / page).read_text(encoding="utf-8")
        )
        assert said == [f"~/{folder().relative_to(tmp_path)}"], page


def test_settings_named_in_the_documentation_exist():
    known = {leaf.name for leaf in config.leaves(config.Settings())}
    groups = "|".join({name.split(".")[0] for name in known if "." in name})
    for page in PAGES:
        for name in re.findall(
            rf"`(?:--)?((?:{groups})\.(?!json)[a-z_]+)`", page.read_text(encoding="utf-8")
        ):
            assert name in known, f"{page.name}: {name}"


def test_importing_seehear_and_asking_for_help_need_no_torch():
    code = (
        "import sys, seehear, seehear.cli; sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", seehear.__all__)
def test_public_names_are_there_and_documented(name):
    value = getattr(seehear, name)
    assert name in dir(seehear)
    assert name.startswith("__") or value.__doc__


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'indx'"):
        _ = seehear.indx


def test_every_command_has_help_of_at_most_about_ten_options():
    for name, command in cli.commands.items():
        assert command.help, name
        shown = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
        assert len(shown) <= 11, name
        assert all(p.help for p in shown), name


def test_version_is_one():
    from importlib import metadata

    assert metadata.version("seehear") == seehear.__version__
    assert f"version: {seehear.__version__}" in (ROOT / "CITATION.cff").read_text()


def test_the_project_names_no_place_of_its_making():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for file in listed.stdout.splitlines():
        path = ROOT / file
        if path.suffix in {
            ".py",
            ".md",
            ".toml",
            ".txt",
            ".cff",
            ".svg",
            ".html",
            ".js",
        } and path != Path(__file__):
            assert not re.search(
                r"/work/|\bissue \d|\bsession \d", path.read_text(encoding="utf-8")
            ), file


def test_every_reason_for_leaving_a_file_out_is_documented():
    from seehear.data.media import REASONS

    page = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    assert all(f"| {reason} | {meaning} |" in page for reason, meaning in REASONS.items())


@pytest.mark.thorough
def test_a_script_needs_no_main_guard(workplace, index_folder):
    (workplace / "unguarded.py").write_text(
        f"import seehear\nseehear.pretrain({str(index_folder)!r}, 'unguarded', preset='debug', "
        "settings={'data.workers': 1, 'rounds': 1})\n"
    )
    done = subprocess.run(
        [sys.executable, "unguarded.py"], cwd=workplace, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
