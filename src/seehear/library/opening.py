"""How is a file shown to a person? By the program that the system has for it; no shell ever sees
the name.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path

from seehear.errors import SeehearError


def open_file(path: str | Path) -> None:
    """Open a file with the system's player, without waiting for it.

    Raises:
        SeehearError: the file has vanished, or there is no program for it.
    """
    path = Path(path).absolute()  # so that no name looks like an option
    if not path.is_file():
        raise SeehearError(f"{path} cannot be opened: it is not there any more.")
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    if program := shutil.which(opener):
        quiet = subprocess.DEVNULL
        subprocess.Popen(
            [program, str(path)], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
        )
    elif not webbrowser.open(path.as_uri()):
        raise SeehearError(
            f"There is no {opener} and no browser here to show it. Open it yourself: {path}"
        )
