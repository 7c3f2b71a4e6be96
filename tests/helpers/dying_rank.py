"""Runs seehear's command line as one rank of several, of which one dies or hangs in a certain call
of a function.

`python tests/helpers/dying_rank.py HOW MODULE FUNCTION CALL pretrain ...`: with RANK=1 in the
environment, this process ends itself by SIGKILL (HOW: dies) or stands still (HOW: hangs) when
FUNCTION of a module whose name begins with MODULE is called for the CALLth time. Every other
rank only runs the command.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType
from typing import Any

from seehear.cli import main


def watch(how: str, module: str, function: str, call: int) -> None:
    """Wait for the call, from here on."""
    seen = 0

    def look(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal seen
        if event != "call" or frame.f_code.co_name != function:
            return
        if not str(frame.f_globals.get("__name__")).startswith(module):
            return
        seen += 1
        if seen < call:
            return
        print("now", flush=True)
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(3600)

    sys.setprofile(look)


if __name__ == "__main__":
    how, module, function, call, *words = sys.argv[1:]
    if os.environ["RANK"] == "1":
        watch(how, module, function, int(call))
    sys.argv = ["seehear", *words]
    main()
