"""How does data reach a page that is opened from disk? As scripts that hand it over: such a page
may fetch nothing.

A file `data/NAME.js` is one call, `SEEHEAR.put("NAME", DATA);`. All of it is ASCII, and `<`, `>`
and `&` are escaped, so that no name of a file can end a script or begin a tag, wherever the text is
put.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def write_data(folder: Path, name: str, data: Any) -> int:
    """Write `NAME.js` below a folder; returns its bytes."""
    path = folder / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.write_bytes(script(name, data))


def script(name: str, data: Any) -> bytes:
    """What stands in a data file."""
    return f"SEEHEAR.put({as_script(name)}, {as_script(data)});\n".encode("ascii")


def as_script(data: Any) -> str:
    """JSON that is also a safe piece of a script."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)  # JSON has these only within strings
    return text


def packed(array: np.ndarray) -> str:
    """Numbers as base64, little-endian, for a typed array on the page."""
    return base64.b64encode(
        np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
    ).decode("ascii")
