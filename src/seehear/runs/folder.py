"""What is in a run's folder, and how does it get there whole or not at all?

run.json     settings, command, versions, commit, device and numerics, digest of the index, format
log.jsonl    one line a round
midway/      the last two checkpoints within a round, while the run goes on
rounds/000/  checkpoint.pt, labels.parquet, centroids.safetensors, round.json
clusters/    labels.parquet, centroids.safetensors: the clusters of the finished encoders
encoders/    video.safetensors, audio.safetensors, encoders.json
features/    video.npy, audio.npy: what the finished encoders say of every row
results/     one JSON a task and set
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seehear.config import Settings, from_dict
from seehear.errors import RunError
from seehear.machine import outputs
from seehear.machine.files import (
    TEMPORARY,
    atomic_file,
    commit,
    now,
    strict,
    versions,
    write_anew,
    write_json,
)
from seehear.machine.outputs import check_folder
from seehear.machine.reading import readable

FORMAT = 1  # of the run folder; raised when an older program could not read it any more
KINDS = {"settings": dict, "index": dict, "numerics": dict, "created": str, "resumed": list}
RESTORE = "Restore it, or use another run."
_OF_A_ROUND = ("round.json", "labels.parquet", "checkpoint.pt")  # one of these at least is in it


@dataclass(frozen=True)
class Run:
    """A run's folder and what `run.json` records."""

    path: Path
    record: dict[str, Any]

    @classmethod
    def create(cls, path: Path, record: Mapping[str, Any], *, overwrite: bool = False) -> Run:
        """Make the folder with its `run.json`.

        Raises:
            RunError: there is something at `path`, and it is no run, or `overwrite` is not set.
        """
        check_folder(path, outputs.RUN, overwrite=overwrite, in_place=True)
        full = {"format": FORMAT, "created": now(), "command": sys.argv, **versions(), **record}
        write_anew(path, "run.json", full)
        return cls(path, full)

    @classmethod
    def open(cls, path: Path) -> Run:
        """An existing run.

        Raises:
            RunError: no run at `path`, or one of a newer format.
        """
        try:
            record = json.loads((path / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            what = "is no run: it has no run.json" if path.exists() else "does not exist"
            raise RunError(f"{path} {what}. Make one with `seehear pretrain`.") from None
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{path}/run.json cannot be read ({error}). {RESTORE}") from None
        if not isinstance(record, dict):
            raise RunError(f"{path}/run.json is no record of a run. {RESTORE}")
        for name, kind in KINDS.items():
            if not isinstance(record.get(name, kind()), kind):
                raise RunError(f"{path}/run.json has no {name} of a run. {RESTORE}")
        index = record.get("index", {})
        if any(not isinstance(index.get(x, ""), str) for x in ("path", "absolute", "digest")):
            raise RunError(f"{path}/run.json names no index. {RESTORE}")
        if record.get("format") != FORMAT:
            raise RunError(
                f"{path}/run.json has run format {record.get('format')}; this seehear reads "
                f"{FORMAT}. Install the version that made it ({record.get('seehear')})."
            )
        return cls(path, record)

    def field(self, *names: str) -> Any:
        """What `run.json` holds at a place, a name after another.

        Raises:
            RunError: nothing.
        """
        found: Any = self.record
        for name in names:
            if not isinstance(found, dict) or name not in found:
                raise RunError(f"{self.path}/run.json has no {' '.join(names)}. {RESTORE}")
            found = found[name]
        return found

    def settings(self) -> Settings:
        """The settings that the run was made with.

        Raises:
            RunError: `run.json` holds none, or ones that cannot be.
        """
        with readable(self.path / "run.json", "Restore it, or start anew with --overwrite."):
            return from_dict(self.field("settings"))

    def went_on(self, settings: Mapping[str, Any]) -> None:
        """Record that the run was resumed: when, by which command and program, which settings."""
        resumed = [
            *self.record.get("resumed", []),
            {"time": now(), "command": sys.argv, "commit": commit()},
        ]
        self.record.update(settings=settings, resumed=resumed)
        write_json(self.path / "run.json", self.record)

    def log(self, entry: Mapping[str, Any]) -> None:
        """Add a line to `log.jsonl`."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(strict(entry)) + "\n")

    def read_log(self) -> list[dict[str, Any]]:
        """The lines of `log.jsonl`; a last line that a crash cut short is left out.

        Raises:
            RunError: another line is no record of a round.
        """
        path, entries = self.path / "log.jsonl", self._lines()
        if entries and entries[-1] is None:
            entries.pop()
        for number, entry in enumerate(entries, 1):
            if not isinstance(entry, dict) or not isinstance(entry.get("round"), int):
                raise RunError(
                    f"{path} is damaged: line {number} is no record of a round. It is written anew "
                    "from the rounds by: seehear pretrain ... --resume"
                )
        return entries

    def _lines(self) -> list[Any]:
        """What stands in the lines of `log.jsonl`; None for what is no JSON."""
        path, entries = self.path / "log.jsonl", []
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(
                f"{path} cannot be read ({error.strerror}). Move it away; --resume writes it anew."
            ) from None
        for line in filter(str.strip, text.split("\n")):
            try:
                entries.append(json.loads(line))
            except (ValueError, RecursionError):
                entries.append(None)
        return entries

    def forget_after(self, number: int) -> None:
        """Cut `rounds/` and `log.jsonl` back to rounds up to `number`, before going on from there.

        The log is written anew from the rounds, since a crash may have come between a round and its
        line. Of what was being written when a process was killed, nothing is left.
        """
        for folder in (self.path, self.path / "midway", self.path / "rounds"):
            for left in folder.glob(f"{TEMPORARY}*"):
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        logged = {
            entry["round"]: entry
            for entry in self._lines()
            if isinstance(entry, dict) and "round" in entry
        }
        for later in [n for n in self.rounds() if n > number]:
            outputs.remove(self.round_path(later), outputs.ROUND)
        noted = {n: outputs.read_marker(self.round_path(n) / "round.json") for n in self.rounds()}
        entries = [
            entry if entry.get("round") == n else logged.get(n) for n, entry in noted.items()
        ]
        with atomic_file(self.path / "log.jsonl") as temporary:
            lines = [json.dumps(strict(entry)) + "\n" for entry in entries if entry]
            temporary.write_text("".join(lines), encoding="utf-8")

    def rounds(self) -> list[int]:
        """Numbers of the whole rounds, ascending; what others have put beside is left out."""
        found = [
            path
            for path in (self.path / "rounds").glob("[0-9]*")
            if re.fullmatch(r"[0-9]{3,9}", path.name)
        ]
        return sorted(
            int(path.name) for path in found if any((path / name).exists() for name in _OF_A_ROUND)
        )

    def round_path(self, number: int) -> Path:
        """The folder of one round."""
        return self.path / "rounds" / f"{number:03d}"
