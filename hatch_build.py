"""README.md as others show it: outside of the repository, relative links need its address.

hatchling asks when it builds a wheel; the address is `Repository` of `[project.urls]`, and without
one the text stays as it is.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!https?:|#)([^)]+)\)")


class Readme(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        if address := metadata.get("urls", {}).get("Repository"):
            text = with_address(text, address.rstrip("/"), f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def with_address(text: str, address: str, tag: str) -> str:
    """Pictures are the file itself, links its page, both at the tag, as GitHub lays them out."""

    def absolute(link: re.Match[str]) -> str:
        mark, label, path = link.groups()
        return f"{mark}{label}({address}/{'raw' if mark else 'blob'}/{tag}/{path})"

    return LINK.sub(absolute, text)
