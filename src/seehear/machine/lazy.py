"""How does a package offer names without importing their modules before they are used?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """What a package takes for its `__getattr__`; a name that was imported is kept there.

    `homes` says name -> the module below the package that has it, as an attribute or a module of
    its own; with a dot before it, one beside the package.
    """

    def attribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = import_module(f".{homes[name]}", package)
        value = (
            getattr(home, name) if hasattr(home, name) else import_module(f"{home.__name__}.{name}")
        )
        setattr(sys.modules[package], name, value)
        return value

    return attribute
