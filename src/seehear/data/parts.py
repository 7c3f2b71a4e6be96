"""How does work on millions of files get done in groups, by one process or by many, so that what
was killed goes on where it stopped?

    index                          the result, once it is whole
    .index.parts/plan.json         what it is of: files, settings, format; and how it was asked for
    .index.parts/000012.parquet    a finished group

A group is so many neighbours of the sorted list of files, or of the rows of an index. What is in it
depends on nothing else: neither on who does it, nor on when. So part i of n is the i-th n-th of the
groups, a group that two processes did is there once, and the result, which is made of the groups in
their order, is the same bytes whoever did them. A group appears whole or not at all and says which
it is, and of which plan: another, or a damaged one, is made anew.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from seehear.errors import UsageError
from seehear.machine import outputs
from seehear.machine.console import Console, Tell, counted, listing, untold
from seehear.machine.distributed import cores, rows_of_rank
from seehear.machine.files import TEMPORARY, atomic_file, temporary_name, whole_folder, write_json
from seehear.machine.locks import one_writer, remove_leftovers

MERGE = "merge"
"""In place of a part: do nothing, and make the result of the groups that are there."""

_MEANING = {
    "files": "files (some were added, removed or changed)",
    "source": "files (some were added, removed or changed)",
    "model": "encoders",
    "run": "clusters or names",
}
"""What decides a result, by its name in a plan, in words; other names are words already."""


@dataclass(frozen=True)
class Part:
    """What one call does of a work: the groups of part `number` of `of`, or all of them."""

    number: int = 1
    of: int = 1
    makes_result: bool = True

    @classmethod
    def parse(cls, text: str | None) -> Part:
        """None is all, "2/7" a part, and `MERGE` none of the groups, but the result.

        Raises:
            UsageError: it is something else.
        """
        if text is None:
            return cls()
        if text == MERGE:
            return cls(0)
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        number, of = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= of:
            raise UsageError(f"part is {text}. It is i/n with i from 1 to n, such as 3/16.")
        return cls(number, of, False)

    def groups(self, count: int) -> range:
        """Which of so many groups it does: neighbours, as evenly dealt out as can be."""
        return rows_of_rank(count, self.number - 1, self.of) if self.number else range(0)


@dataclass(frozen=True)
class Work:
    """What is to be done, group by group.

    Args:
        kind: a name of what is made: "index", "pack", "features" or "labels".
        out: the result.
        folder: where finished groups wait.
        of: what decides the result, as plain data.
        call: by which arguments it can be asked for again, but for `out` and `part`.
        items: files or rows, in all.
        group_items: in a group.
        do: the items of a group -> its table. It never raises for what is in a file. It is called
            with a `Tell`, and may travel to another process.
        schema: of the tables, which have the column `reason`.
        is_kept: whether what a group wrote beside its table is still there.
        overwrite: groups of another plan may be replaced.
        gives_way: what a call that was killed has left may be, where it was not for a part.
    """

    kind: str
    out: Path
    folder: Path
    of: Mapping[str, Any]
    call: Mapping[str, Any]
    items: int
    group_items: int
    do: Callable[[range, Tell], pa.Table]
    schema: pa.Schema
    is_kept: Callable[[pa.Table], bool] = lambda table: True
    overwrite: bool = False
    gives_way: bool = False

    def __len__(self) -> int:
        return -(-self.items // self.group_items)

    @property
    def plan(self) -> dict[str, Any]:
        """What decides the result, as it is compared."""
        return {"work": self.kind, "groups": len(self), "of": dict(self.of)}

    @property
    def digest(self) -> str:
        """Of the plan; every group has it."""
        return hashlib.sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()

    def range(self, number: int) -> range:
        """The items of a group."""
        return range(self.items)[number * self.group_items : (number + 1) * self.group_items]

    def path(self, number: int) -> Path:
        """The file of a group."""
        return self.folder / f"{number:06d}.parquet"

    def do_group(self, number: int, tell: Tell = untold) -> Counter[str]:
        """Do one group, and write what came of it; returns how many failed for each reason."""
        table = self.do(self.range(number), tell).replace_schema_metadata(self._says(number))
        with atomic_file(self.path(number)) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        return Counter(table["reason"].drop_null().to_pylist())

    def table(self, number: int) -> pa.Table | None:
        """What came of a group; None where it was not done, or not for this plan, or is damaged."""
        with contextlib.suppress(OSError, ValueError, pa.ArrowException):
            found = pq.read_table(self.path(number))
            is_ours = pa.schema([], self._says(number)).metadata == found.schema.metadata
            if is_ours and found.schema.equals(self.schema) and self.is_kept(found):
                return found.replace_schema_metadata(self.schema.metadata)
        return None

    def tables(self) -> Iterator[pa.Table]:
        """What came of all groups, in their order.

        Raises:
            UsageError: some are missing; said before the first is given out, unless it is damaged.
        """
        missing = [number for number in range(len(self)) if not self.path(number).is_file()]
        if missing:
            self._lacks(missing)
        for number in range(len(self)):
            table = self.table(number)
            if table is None:
                self._lacks([number])
            yield table

    def _says(self, number: int) -> dict[str, str]:
        """What the file of a group says of itself."""
        return {"plan": self.digest, "group": str(number)}

    def remove(self) -> None:
        """Remove all groups; what others have put beside them stays."""
        remove_groups(self.folder)

    def note_result(self, digest: str) -> None:
        """Note of what the result is, before it is written: see `is_made`."""
        if noted := outputs.read_marker(self.folder / "plan.json"):
            write_json(self.folder / "plan.json", {**noted, "result": digest})

    def _lacks(self, missing: list[int]) -> NoReturn:
        parts = outputs.read_marker(self.folder / "plan.json").get("parts")
        number = parts if isinstance(parts, int) and parts > 0 else 1
        # group g is of the part i with len (i - 1) // number <= g < len i // number
        of = list(dict.fromkeys(-(-(g + 1) * number // len(self)) for g in missing))
        named = ", ".join(f"{i}/{number}" for i in of[:5]) + ", ..." * (len(of) > 5)
        raise UsageError(
            f"{self.out} cannot be merged: {len(missing)} of {len(self)} groups are missing, "
            f"damaged, or of another plan. Run these parts again, and they do what is missing: "
            f"--part {named}"
        )


@dataclass(frozen=True)
class PartSummary:
    """How far the parts of a work are, after one of them."""

    path: str  # of the result that is to be
    part: str  # such as "2/7"
    items: int  # files or rows that are of this part
    groups: int  # in all
    missing: int  # groups that no part has done yet

    @classmethod
    def of(cls, work: Work, part: Part) -> PartSummary:
        """After a part was done."""
        items = sum(len(work.range(number)) for number in part.groups(len(work)))
        missing = sum(not work.path(number).is_file() for number in range(len(work)))
        return cls(str(work.out), f"{part.number}/{part.of}", items, len(work), missing)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def describe(self) -> str:
        """Two lines for a person."""
        did = f"is done, {self.items} of its files or segments"
        if not self.items:
            all_of_it = f"all there is makes {counted(self.groups, 'group')}, fewer than parts"
            did = f"has nothing to do ({all_of_it if self.groups else 'nothing is new'})"
        what = "Nothing is missing any more" if not self.missing else "When all parts are done"
        return (
            f"{self.path}: part {self.part} {did}; "
            f"{self.groups - self.missing} of {self.groups} groups are there.\n"
            f"{what}: {shlex.join(['seehear', 'merge', self.path])}"
        )


def parts_of(out: Path) -> Path:
    """Where the groups of a file or folder wait."""
    return out.with_name(f".{out.name}.parts")


def remove_groups(folder: Path) -> None:
    """Remove a folder of groups, and first its name, so that no half of them is there."""
    gone = folder
    if folder.is_dir() and next(outputs.foreign(folder, outputs.PARTS), None) is None:
        gone = folder.rename(folder.with_name(temporary_name(folder.name)))
    outputs.remove(gone, outputs.PARTS)
    remove_leftovers(folder)  # of parts that were killed when they had just begun


def is_made(folder: Path, digest: str | None) -> bool:
    """Whether a result with this digest was made of some groups, by one killed before removing."""
    return bool(digest) and outputs.read_marker(folder / "plan.json").get("result") == digest


@contextlib.contextmanager
def writer(out: Path, part: Part, *, inside: bool = False) -> Iterator[None]:
    """Be the only one who writes a result in this block, or who does that part of it."""
    if part.makes_result:
        with one_writer(out, inside=inside):
            yield
    else:
        with one_writer(out.with_name(f"{out.name}.part-{part.number}-of-{part.of}")):
            yield


@dataclass(frozen=True)
class Engine:
    """What does the groups: this process, one after the other, or Ray.

    Args:
        address: of a Ray cluster, empty for Ray on this machine; None is this process.
    """

    address: str | None = None

    @classmethod
    def parse(cls, text: str) -> Engine:
        """ "local", "ray", or "ray:" and the address of a cluster.

        Raises:
            UsageError: it is something else.
        """
        name, _, address = text.partition(":")
        if name not in ("local", "ray") or (name == "local" and text != name):
            raise UsageError(f"engine is {text}. It is local or ray.")
        return cls(address if name == "ray" else None)

    def workers(self, asked: int | None) -> int:
        """Decoding processes: of this process by default one a core, of each of Ray's one."""
        return asked or (cores() if self.address is None else 1)

    def do(
        self, work: Work, missing: list[int], tell: Tell, workers: int
    ) -> Iterator[tuple[int, Counter[str]]]:
        """Do some groups; yields the number of each, and how many failed in it for each reason."""
        if self.address is not None:
            from seehear.data.on_ray import do_on_ray

            yield from do_on_ray(work, missing, self.address, workers)
            return
        for number in missing:
            yield number, work.do_group(number, tell)


def do(
    work: Work,
    part: Part,
    console: Console,
    what: str,
    unit: str,
    engine: Engine = Engine(),
    workers: int = 1,
) -> None:
    """Do the groups of a part that are not there yet; say how far it is, and what failed why.

    Raises:
        UsageError: what is there is of other files or settings, or nothing can be written there.
    """
    if len(work) or not part.makes_result:
        begin(work, part)
    mine = part.groups(len(work))
    missing = [number for number in mine if work.table(number) is None]
    total, left = (sum(len(work.range(n)) for n in numbers) for numbers in (mine, missing))
    failed: Counter[str] = Counter()
    underway: Counter[str] = Counter()  # of the group that this process is at
    count, done = (
        console.watch(what, total, lambda: listing(failed + underway), unit=unit),
        total - left,
    )
    count(done)
    if not missing:
        return

    def within(items: int, why: Mapping[str, int] = {}, /) -> None:
        underway.clear()
        underway.update(why)
        count(done + items)

    for number, why in engine.do(work, missing, within, workers):
        underway.clear()
        failed += why
        done += len(work.range(number))
        count(done)


def begin(work: Work, part: Part) -> None:
    """Make the folder of groups, or see that the one there is of the same."""
    out, folder = work.out, work.folder
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
        raise UsageError(f"{folder} is in the way: parts of {out} are to wait there. Move it away.")
    other = next(outputs.foreign(folder, outputs.PARTS), None) if folder.is_dir() else None
    if other is not None:
        raise UsageError(f"{folder / other} is in the way of the parts of {out}. Move it away.")
    noted = outputs.read_marker(folder / "plan.json")
    begun = {key: noted.get(key) for key in work.plan}
    if not noted and work.path(0).exists() and not work.overwrite:
        raise UsageError(
            f"{out} cannot go on: {folder}/plan.json is damaged. Start anew with --overwrite."
        )
    gives_way = work.gives_way and part.makes_result and part.number and noted.get("parts") == 1
    if noted and begun != work.plan and not work.overwrite and not gives_way:
        raise UsageError(
            f"{out} was begun with other {_difference(begun, work)}. Call it as it was begun to go "
            "on, or start anew with --overwrite."
        )
    if part.number == 0 and not noted:
        raise UsageError(f"There are no parts of {out}. Make them with --part 1/2 and so on.")
    of = part.of if not part.makes_result else noted.get("parts", 1)
    text = json.dumps({**work.plan, "parts": of, "call": dict(work.call)}, indent=1)
    if not folder.exists():
        try:
            with whole_folder(folder) as target:  # nobody sees it without its plan
                (target / "plan.json").write_text(text, encoding="utf-8")
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            begin(work, part)  # another part was quicker
        return
    mine = {work.path(number).name for number in part.groups(len(work))}
    for rest in folder.glob(f"{TEMPORARY}*"):  # of a process that died; others may be at work
        if re.sub(r"-\d+-\d+$", "", rest.name.removeprefix(TEMPORARY)) in mine:
            rest.unlink(missing_ok=True)
    if part.number and json.loads(text) != noted:
        with atomic_file(folder / "plan.json") as temporary:
            temporary.write_text(text, encoding="utf-8")


def _difference(begun: Mapping[str, Any], work: Work) -> str:
    """What of a plan differs, in words."""
    of = begun["of"] if isinstance(begun["of"], dict) else {}
    differ = [_MEANING.get(name, name) for name in work.of if of.get(name) != work.of[name]]
    return " and ".join(dict.fromkeys(differ)) or "settings"


def read_plan(out: Path) -> dict[str, Any]:
    """What was noted of a work whose parts wait, with "work" and "call".

    Raises:
        UsageError: there are none.
    """
    for folder in (parts_of(out), out / ".packing"):
        plan = outputs.read_marker(folder / "plan.json")
        if isinstance(plan.get("call"), dict) and isinstance(plan.get("work"), str):
            return plan
    raise UsageError(
        f"There are no parts of {out}. Make them with --part, such as: seehear index VIDEOS --out "
        f"{out} --part 1/2"
    )
