"""What is in the folder that is packed into, and what of it may go?

A folder is known by what packing noted in `.packing/plan.json`, or in `index.json` when it was
done. Shards have names that other programs give, too: of a packed folder only those are ours that
its index lists.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from seehear.data.index.info import PACKING, read_info
from seehear.errors import UsageError
from seehear.machine.files import TEMPORARY, write_json
from seehear.machine.outputs import (
    INDEX,
    check_place,
    foreign,
    is_empty_folder,
    is_like_index,
    read_marker,
)

SHARD = r"shard-\d{5,}\.tar"
NAMES = (
    *INDEX.names,
    r"\.packing/(plan\.json|\d{6,}\.parquet)",
    r"\.packing/parts/\d{9,}\.(json|mp4)",
)
KEYS = frozenset({"source", "recipe", "shard_segments"})  # of what is noted


def what_is_there(
    folder: Path, settings: dict[str, Any], *, overwrite: bool
) -> dict[str, Any] | None:
    """What is in index.json where all is packed already.

    Raises:
        UsageError: `folder` is something else, or was packed with settings that must stay.
    """
    refuse = "Choose another --out; nothing was touched."
    check_place(folder, refuse)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} exists and is no folder. {refuse}")
    if not folder.exists() or is_empty_folder(folder):
        return None
    index, noted = read_marker(folder / "index.json"), folder / PACKING / "plan.json"
    packed = read_marker(noted).get("of") if noted.exists() else index.get("packing")
    packed = packed if isinstance(packed, dict) and packed.keys() >= KEYS else {}
    if not packed and not noted.exists() and (index or not is_like_index(folder)):
        raise UsageError(f"{folder} exists and holds nothing packed. {refuse}")
    if overwrite:
        check_only_packed(folder, [] if noted.exists() or not index else index.get("shards"))
        return None
    if noted.exists() and not packed:
        raise UsageError(
            f"{noted} cannot be read, or has no settings of packing. Pack anew with --overwrite."
        )
    if not noted.exists():
        index = read_info(folder)
    for name, value in settings.items():
        if packed.get(name) != value:
            was, wanted = _different(packed.get(name), value)
            raise UsageError(
                f"{folder} was packed with {name} {was}, now it is {wanted}. Use the same, another "
                "--out, or --overwrite to pack anew."
            )
    return None if noted.exists() else index


def _different(was: Any, wanted: Any) -> tuple[str, str]:
    """Both in words; of two records only what differs."""
    if not isinstance(was, dict) or not isinstance(wanted, dict):
        return str(was), str(wanted)
    names = [name for name in wanted if was.get(name) != wanted[name]]
    return tuple(", ".join(f"{name} {of.get(name)}" for name in names) for of in (was, wanted))  # type: ignore[return-value]


def check_only_packed(folder: Path, listed: Any) -> None:
    """Raise UsageError for what packing did not write; of finished shards, what is not listed."""
    names = [str(shard.get("name")) for shard in listed or [] if isinstance(shard, dict)]
    kind = replace(INDEX, names=(*NAMES, "|".join(map(re.escape, names)) if names else SHARD))
    other = next(foreign(folder, kind), None)
    if other is not None:
        raise UsageError(
            f"{folder} holds {other}, which is not seehear's. Move it away, or choose another "
            "--out; nothing was touched."
        )


def remove_packed(folder: Path) -> None:
    """Remove what packing wrote, the index first, so that nothing is left that looks whole."""
    settings = folder / PACKING / "plan.json"
    if not settings.exists():  # by it the folder is known, should this be killed
        settings.parent.mkdir(exist_ok=True)
        write_json(settings, {"of": read_marker(folder / "index.json").get("packing", {})})
    for name in ("index.json", "index.arrow", "rejected.parquet"):
        (folder / name).unlink(missing_ok=True)
    for shard in shards_in(folder):
        shard.unlink()
    shutil.rmtree(folder / PACKING, ignore_errors=True)


def shards_in(folder: Path) -> list[Path]:
    """The shards in a folder, in order; what others call alike is none."""
    return sorted(path for path in folder.glob("shard-*.tar") if re.fullmatch(SHARD, path.name))


def is_begun(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether packing with these settings is on its way."""
    return bool(read_marker(folder / PACKING / "plan.json").get("of") == settings)


def remove_unfinished(folder: Path) -> None:
    """Clear what a process that died has left; not where others were at work on parts."""
    work = folder / PACKING
    if read_marker(work / "plan.json").get("parts", 1) == 1:
        for rest in [*(work / "parts").glob(f"{TEMPORARY}*"), *folder.glob(f"{TEMPORARY}*")]:
            rest.unlink(missing_ok=True)
