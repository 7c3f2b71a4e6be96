"""Looking at files, a batch at a time: what each holds, or why it cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from seehear.data.decoding.pool import examine_all
from seehear.data.index.columns import FACTS, WORDS
from seehear.data.index.examination import Rejection
from seehear.data.index.files import Files
from seehear.data.parts import Work, parts_of
from seehear.machine.console import Tell, untold
from seehear.machine.files import digest_of

FILES_A_GROUP = 512

SEEN = pa.schema(
    [
        ("path", pa.string()),
        *((name, pa.string() if kind == WORDS else kind) for name, kind in FACTS.items()),
        ("usable_start_s", pa.float64()),  # from when on there is picture and sound
        ("usable_seconds", pa.float64()),
        ("reason", pa.string()),  # why it cannot be used: then nothing else is known
        ("detail", pa.string()),
    ]
)
"""What is known of a file that was looked at."""


@dataclass(frozen=True)
class Looking:
    """Files, and how they are looked at."""

    files: Files
    workers: int
    timeout_s: float
    keeps_stills: bool = False

    def __call__(self, numbers: range, tell: Tell = untold) -> pa.Table:
        """Some files in order, as `SEEN`; what is no video nor claims to be one is left out."""
        files = self.files[numbers.start : numbers.stop]
        jobs = [(file.path, file.is_promised, (), False, self.keeps_stills) for file in files]
        rows: list[dict[str, Any]] = []
        failed: Counter[str] = Counter()
        answers = examine_all(jobs, self.workers, self.timeout_s)
        for done, (file, answer) in enumerate(zip(files, answers, strict=True), 1):
            row = {"path": file.path, "file_bytes": file.file_bytes}
            row |= {"modified_ns": file.modified_ns}
            if isinstance(answer, Rejection):
                rows.append({**row, "reason": answer.reason, "detail": answer.detail})
                failed[answer.reason] += 1
            elif answer is not None:
                usable = {"usable_start_s": answer.start_s, "usable_seconds": answer.seconds}
                rows.append({name: getattr(answer, name, None) for name in FACTS} | row | usable)
            tell(done, failed)
        return pa.Table.from_pylist(rows, SEEN)


def work_of(
    folder: Path, files: Files, call: Mapping[str, Any], workers: int, timeout_s: float
) -> Work:
    """Looking at all files that an index is to be made of, and that nothing is known of yet."""
    names = ("segment_seconds", "min_seconds", "stills")
    of = {"files": files.digest(), "settings": {name: call[name] for name in names}}
    if call["segments"]:
        of["list of segments"] = digest_of(Path(call["segments"]))
    return Work(
        "index",
        folder,
        parts_of(folder),
        of,
        call,
        len(files),
        FILES_A_GROUP,
        Looking(files, workers, timeout_s, bool(call["stills"])),
        SEEN,
        overwrite=call["overwrite"],
        gives_way=True,
    )
