"""How does a report become one file that can be sent? Its scripts, data and previews are put into
the page, which then needs nothing beside it.

The page still forbids every script but these, by their SHA-256, and every request.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from seehear.machine.files import atomic_file
from seehear.machine.outputs import begins_with
from seehear.reporting.scripts import script

BEGINS = b"<!doctype html>\n<!-- a report of seehear in one file -->\n"
POLICY = (
    "default-src 'none'; script-src {scripts}; style-src {styles}; img-src data: blob:; "
    "media-src data:; base-uri 'none'; form-action 'none'"
)


def write_single(folder: Path, out: Path) -> float:
    """Write a report's folder as one file, whole or not at all; returns its megabytes."""
    page = (folder / "index.html").read_text(encoding="utf-8")
    media = {
        file.name: base64.b64encode(file.read_bytes()).decode("ascii")
        for file in sorted((folder / "previews").iterdir())
    }
    loaded = re.findall(r'<script src="([\w./-]+)"></script>', page)
    later = [
        file.read_text(encoding="ascii")
        for file in sorted((folder / "data").rglob("*.js"))
        if str(file.relative_to(folder)) not in loaded
    ]
    later.append(script("media", media).decode("ascii"))
    scripts = [(folder / name).read_text(encoding="utf-8") for name in loaded]
    scripts[0] += "".join(later)  # the first makes the place where data go
    style = (folder / "page.css").read_text(encoding="utf-8")
    policy = POLICY.format(scripts=" ".join(map(allowed, scripts)), styles=allowed(style))
    page = re.sub(r'(Policy" content=")[^"]*', lambda found: found[1] + policy, page)
    page = page.replace('<link rel="stylesheet" href="page.css">', f"<style>{style}</style>")
    for name, text in zip(loaded, scripts, strict=True):
        assert "</script" not in text, name
        page = page.replace(f'<script src="{name}"></script>', f"<script>{text}</script>")
    body = BEGINS + page.removeprefix("<!doctype html>\n").encode()
    with atomic_file(out) as temporary:
        temporary.write_bytes(body)
    return round(len(body) / 1e6, 1)


def allowed(text: str) -> str:
    """What a content security policy says of an inline script or style that may be used."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def is_single(path: Path) -> bool:
    """Whether a file is such a page."""
    return begins_with(path, BEGINS)
