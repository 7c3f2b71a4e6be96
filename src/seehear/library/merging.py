"""Parts that several processes have done -> the result that one would have written."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seehear.data.index import index
from seehear.data.packing import pack
from seehear.data.parts import MERGE, read_plan
from seehear.errors import UsageError
from seehear.library.assigning import assign_to_file
from seehear.library.embedding import embed_to_file

_MAKERS: dict[str, Callable[..., Any]] = {
    "index": index,
    "pack": pack,
    "features": embed_to_file,
    "labels": assign_to_file,
}
_SOURCES = ("paths", "index", "model", "run", "videos")  # arguments that say what it is made of


def merge(out: str | os.PathLike[str]) -> Any:
    """Make the result of parts: an index, a packed index, features or labels.

    Args:
        out: where the result is to be; what all parts were called with.
    Returns:
        What the same function returns that was called without `part`.
    Raises:
        UsageError: parts are missing, or of other files or settings than each other or than what is
            there now.
    """
    out = Path(out)
    plan = read_plan(out)
    if plan["work"] not in _MAKERS:
        raise UsageError(f"{out} is not made in parts. Run the command again that began it.")
    maker, call = _MAKERS[plan["work"]], plan["call"]
    try:
        inspect.signature(maker).bind(out=out, part=MERGE, **call)
        has_place = all(isinstance(call[name], str | list) for name in _SOURCES if name in call)
    except TypeError:
        has_place = False
    if not has_place:
        raise UsageError(
            f"How {out} was asked for cannot be read from its parts, such as what was in memory. "
            f"Call the function that began it once more, with part={MERGE!r}."
        )
    return maker(out=out, part=MERGE, **call)
