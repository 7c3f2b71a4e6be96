"""Pages of the site that are made from the code: settings, commands, names, README, changes.

A hook of MkDocs (mkdocs.yml): nothing of it is written down twice, so nothing can be out of date.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import seehear
import seehear.kmeans
from seehear import cli
from seehear.config import leaves
from seehear.presets import PRESETS, preset_settings

ROOT = Path(__file__).parents[1]
MODULES = {"media": "seehear.data.media", "kmeans": "seehear.method.kmeans"}
NAMES = sorted({*seehear.__all__, *MODULES} - {"__version__"}, key=str.lower)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """MkDocs asks for the files of the site."""
    pages = {
        "index.md": readme(),
        "changes.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        "settings.md": settings(),
        "commands.md": commands(),
        "api.md": names(),
    }
    pages |= {f"api/seehear.{name}.md": page_of(name) for name in NAMES}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """README is the first page; the site has no other file from outside of docs/."""
    return unlinked(markdown.replace("](../README.md", "](index.md"), r"\.\./")


def readme() -> str:
    """README.md is the first page; its links into docs/ are links within the site."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = text.replace("](docs/", "](").replace("](CHANGELOG.md)", "](changes.md)")
    return unlinked(text, r"(?!https?:|#)(?![\w-]+\.md)")


def unlinked(markdown: str, start: str) -> str:
    """In place of links that begin so, which file of the repository is meant."""

    def named(link: re.Match[str]) -> str:
        label, path = link.groups()
        return label if label == path else f"{label} (`{path}`)"

    return re.sub(rf"(?<!!)\[([^\]]+)\]\({start}([^)#]+)[^)]*\)", named, markdown)


def settings() -> str:
    """Every setting: what it means, and its value in each preset."""
    presets = {
        name: {leaf.name: leaf for leaf in leaves(preset_settings(name))} for name in PRESETS
    }
    first = next(iter(presets.values()))
    lines = [
        "# Settings",
        "",
        "Each is changed by its dotted name: `--train.lr 0.01` on the command",
    ]
    lines += [
        "line, `settings={'train.lr': 0.01}` in Python, or in a TOML file given by `--config`.",
        "",
    ]
    for name, about in PRESETS.items():
        lines += [f"**{name}**: {about.cost}; expected: {about.expected}.", ""]
    group = None
    for name, leaf in first.items():
        if (head := name.rpartition(".")[0]) != group:
            group = head
            lines += ["", f"## {group or 'run'}", ""]
            lines += ["| setting | meaning | " + " | ".join(presets) + " |"]
            lines += ["|---" * (len(presets) + 2) + "|"]
        values = " | ".join(f"`{json.dumps(p[name].default)}`" for p in presets.values())
        lines.append(f"| `{name}` | {leaf.help.replace('|', chr(92) + '|')} | {values} |")
    return "\n".join(lines) + "\n"


def commands() -> str:
    """What `--help` of every command prints."""
    lines = ["# Commands", "", "```text", help_of(cli.cli, "seehear"), "```", ""]
    for group, command in walk(cli.cli, "seehear"):
        lines += [f"## {group}", "", "```text", help_of(command, group), "```", ""]
    return "\n".join(lines)


def walk(group: click.Command, path: str) -> list[tuple[str, click.Command]]:
    """All commands below one, with what is typed."""
    found: list[tuple[str, click.Command]] = []
    for name, command in getattr(group, "commands", {}).items():
        found += [(f"{path} {name}", command), *walk(command, f"{path} {name}")]
    return found


def help_of(command: click.Command, path: str) -> str:
    return command.get_help(click.Context(command, info_name=path, terminal_width=78))


def names() -> str:
    """A line for each public name."""
    lines = ["# Python", "", "| name | what it is |", "|---|---|"]
    for name in NAMES:
        what = (getattr(seehear, name).__doc__ or "").split("\n\n")[0].replace("\n", " ")
        lines.append(
            f"| [`seehear.{name}`](api/seehear.{name}.md) | {re.sub(' +', ' ', what).strip()} |"
        )
    lines += ["", "The method, step by step, for loops of your own:", "", "::: seehear.method", ""]
    return "\n".join([*lines, "::: seehear.method.method", ""])


def page_of(name: str) -> str:
    """The page of a public name, from its docstring."""
    thing = getattr(seehear, name)
    home = MODULES.get(name) or f"{thing.__module__}.{thing.__qualname__}"
    return f"# {name}\n\n::: {home}\n    options:\n      heading: seehear.{name}\n"
