"""What can be typed? The command `seehear`: parse, call, print; the work is done elsewhere.

One function a command, one file a group. Open `base.py` for what commands share, `training.py` for
index and pretrain.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage,
75 stopped by a signal and saved, to be run again, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from contextlib import suppress

import click

from seehear.cli import doctor, evaluating, measuring, reporting, sharing, training, using
from seehear.cli.base import cli
from seehear.errors import Interrupted, SeehearError, printable
from seehear.machine import distributed

LEAVE_SECONDS = 5  # after a request to stop, once all is saved

__all__ = ["cli", "main"]

# In the order of --help.
for group in (training, evaluating, reporting, using, sharing, measuring, doctor):
    for command in group.COMMANDS:
        cli.add_command(command)


def main() -> None:
    """The entry point: run a command, and turn errors into one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that are no text
    try:
        code = cli.main(prog_name="seehear", standalone_mode=False)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            distributed.stop()  # a group that is still there when the interpreter ends may abort it
    except click.ClickException as error:
        where = (
            error.ctx.command_path
            if isinstance(error, click.UsageError) and error.ctx
            else "seehear"
        )
        code = fail(f"{' '.join(error.format_message().split())} See `{where} --help`.", 2)
    except Interrupted as error:
        code = leave(error)
    except SeehearError as error:
        code = fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        code = fail("Interrupted.", 130)
    except BrokenPipeError:
        code = 1
    except OSError as error:
        code = fail(f"{error.strerror or error}: {error.filename or ''}".rstrip(": ") + ".", 1)
    code = code if isinstance(code, int) else 0
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        end_rank(code)
    sys.exit(code)


def end_rank(code: int) -> None:
    """End this process at once: threads that gloo leaves behind have aborted an interpreter that
    was being taken down, and torchrun starts all ranks again for one that did not end with 0.
    """
    with suppress(OSError, ValueError):  # a reader that has left
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def fail(message: str, code: int) -> int:
    """Print one line on stderr and give back the exit code; under torchrun it says which rank."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    who = f"Error on rank {os.environ.get('RANK')} of {ranks}" if ranks > 1 else "Error"
    print(f"{who}: {printable(message)}", file=sys.stderr, flush=True)
    return code


def leave(error: Interrupted) -> int:
    """Print what was saved and then the command that goes on; see that the process ends soon."""
    if os.environ.get("RANK", "0") == "0":
        print(error, file=sys.stderr, flush=True)
    # should a decoding process not end
    last = threading.Timer(LEAVE_SECONDS, os._exit, [error.exit_code])
    last.daemon = True
    last.start()
    return error.exit_code
