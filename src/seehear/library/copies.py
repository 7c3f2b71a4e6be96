"""Which segments are copies of one another: the same picture, the same sound, or both?

A copy may be encoded anew, made smaller, brighter or quieter, cropped a little, or cut elsewhere;
`signature` says what stays of it. Features would not do: alike is not the same (docs/lab.md has
both measured). No segment is compared with every other one by its signature: of each the
`NEIGHBOURS` with the nearest outlines are, found block by block, so that memory grows with the
number of segments and not with its square.

    group       segments that are copies of the one among them to keep
    row         in the index, or in the table of features
    path, start_s, seconds
    keep        whether it is the one to keep: the longest, then of the largest file, or the first
    same        what it has in common with that one: bytes, both, picture or sound; null for itself
    picture     the correlation of their pictures; null where nothing moves
    sound       the same of their sounds
    later_s     by how much it comes later in this segment than in the one to keep
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from seehear.data.index import Index
from seehear.data.index.copies import same_bytes
from seehear.data.media.signature import Signature, correlation, outline
from seehear.data.parts import Part, do
from seehear.errors import SettingsError
from seehear.library.assigning import columns_in, save_labels
from seehear.library.gallery import PLACE
from seehear.library.signatures import Known, Listed, segments_of, work_of
from seehear.machine.console import Console
from seehear.machine.distributed import cores
from seehear.machine.locks import one_writer
from seehear.machine.outputs import check_file

SAME = ("both", "picture", "sound", "either")
LEAST_PICTURE, LEAST_SOUND = 0.65, 0.75  # correlations of copies: docs/lab.md
LEAST_STILL = 0.5  # correlation of what does not move in two pictures
NEIGHBOURS = 24  # of each segment, by picture and by sound, are looked at
LEAST_COSINE = 0.2  # of their outlines
BLOCK_ROWS = 2048

SCHEMA = pa.schema(
    [("group", pa.int64()), ("row", pa.int64()), *PLACE, ("keep", pa.bool_())]
    + [("same", pa.string())]
    + [(name, pa.float32()) for name in ("picture", "sound", "later_s")]
)


def duplicates(
    source: str | Path | Index,
    out: str | Path,
    *,
    same: str = "both",
    index: str | Path | None = None,
    workers: int | None = None,
    timeout_s: float = 30.0,
    overwrite: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Find copies among segments, and write them by groups to a Parquet file, or to CSV.

    Two segments of one file are copies where at least one segment's length lies between them. The
    same call after a kill goes on with the signatures that were read.

    Args:
        source: the folder of a run or of an index, or a Parquet file of features, whose rows are
            segments.
        out: the file to write, which ends in .parquet or .csv.
        same: what copies have in common: "both", "picture", "sound", or "either".
        index: that a run was trained on; by default where the run found it.
        workers: processes that read segments; by default one a core.
        timeout_s: a segment that takes longer to read is left out.
        overwrite: replace the file.
        console: where progress is shown.
    Returns:
        "path", "segments" (looked at), "groups", "copies" (of those that are kept), "files" (of
        the same bytes as another), "unreadable" (reason -> segments).
    Raises:
        UsageError: nothing there to look at, or `out` exists.
    """
    if same not in SAME:
        raise SettingsError(f"same is {same!r}. It must be {', '.join(SAME[:-1])} or {SAME[-1]}.")
    out, endings = Path(out), (".parquet", ".csv")
    inputs = [] if isinstance(source, Index) else [Path(source)]
    check_file(out, is_copies, "copies", overwrite=overwrite, inputs=inputs, endings=endings)
    listed = segments_of(source, index)
    work = work_of(listed, out, workers or cores(), timeout_s)
    with one_writer(out), console or Console() as shown:
        do(work, Part(), shown, "looking and listening", "segments")
        known = Known.of(work.tables())
        files = same_bytes(dict(zip(listed.paths, listed.file_bytes.tolist(), strict=True)))
        found = Comparison(listed, known, files, same)
        groups = found.groups(shown)
        table = table_of(groups, listed, found)
        save_labels(table, out, as_csv=out.suffix == ".csv")
        work.remove()
    return {
        "path": str(out),
        "segments": len(listed.paths),
        "groups": len(groups),
        "copies": len(table) - len(groups),
        "files": sum(len(group) - 1 for group in files),
        "unreadable": dict(Counter(known.unreadable.values()).most_common()),
    }


class Shared(NamedTuple):
    """What two segments have in common: "bytes", "both", "picture", "sound", or nothing; both
    correlations; and by how many seconds the first has it later than the second.
    """

    what: str
    picture: float
    sound: float
    later_s: float


class Comparison:
    """Which pairs of segments have something in common."""

    def __init__(self, listed: Listed, known: Known, files: list[list[str]], same: str) -> None:
        self.listed, self.known, self.same = listed, known, same
        self.file = {path: number for number, group in enumerate(files) for path in group}
        self.shared: dict[tuple[int, int], Shared] = {}

    def groups(self, console: Console) -> list[list[int]]:
        """Groups of numbers of segments, the one to keep first, all others copies of it."""
        near = [neighbours(signatures, console) for signatures in self.known.signatures]
        pairs_P2 = np.unique(np.concatenate([self._pairs_of_bytes(), *near]), axis=0)
        count = console.watch("comparing", len(pairs_P2))
        edges = []
        for begin in range(0, len(pairs_P2), BLOCK_ROWS):
            some = pairs_P2[begin : begin + BLOCK_ROWS].tolist()
            edges += [pair for pair in some if self._is_same(*pair)]
            count(begin + len(some))
        if not edges:
            return []
        ends = np.array(edges).T
        graph = coo_array((np.ones(len(edges)), ends), shape=(len(self.listed.paths),) * 2)
        _, label_N = connected_components(graph, directed=False)
        members: dict[int, list[int]] = {}
        for number in np.unique(ends).tolist():
            members.setdefault(int(label_N[number]), []).append(number)
        found = [group for some in members.values() for group in self._around_the_best(some)]
        return sorted(found, key=min)

    def _around_the_best(self, numbers: list[int]) -> Iterator[list[int]]:
        """Parts of a connected set: one to keep, and its copies, until nothing is left."""
        rest = sorted(numbers, key=self._worth)
        while rest:
            keep = rest[0]
            copies = [i for i in rest[1:] if self._is_same(*sorted((keep, i)))]
            if copies:
                yield [keep, *copies]
            grouped = {keep, *copies}
            rest = [i for i in rest if i not in grouped]

    def _worth(self, number: int) -> tuple[int, int, int]:
        half_seconds = round(2 * float(self.listed.seconds[number]))
        return -half_seconds, -int(self.listed.file_bytes[number]), number

    def _is_same(self, a: int, b: int) -> bool:
        if self.listed.paths[a] == self.listed.paths[b] and self._are_neighbours(a, b):
            return False
        what = self.compared(a, b).what
        return bool(what) and (self.same == "either" or what in ("bytes", "both", self.same))

    def _are_neighbours(self, a: int, b: int) -> bool:
        """Whether less lies between two segments of a file than the shorter one is long."""
        starts, seconds = self.listed.start_s[[a, b]], self.listed.seconds[[a, b]]
        first = int(starts.argmin())
        return bool(starts[1 - first] < starts[first] + seconds[first] + seconds.min() - 1e-6)

    def compared(self, a: int, b: int) -> Shared:
        """What two segments have in common."""
        if (a, b) in self.shared:
            return self.shared[a, b]
        pictures, sounds = ((of[a], of[b]) for of in self.known.signatures)
        found = Shared("", 0.0, 0.0, 0.0)
        sound, later_s = correlation(*sounds)
        heard = sound >= LEAST_SOUND
        nothing_heard = not len(sounds[0]) and not len(sounds[1])
        if heard or nothing_heard or self.same in ("picture", "either"):
            picture, seen_later_s = correlation(*pictures)
            seen = picture >= LEAST_PICTURE and self._look_alike(a, b)
            nothing_seen = not len(pictures[0]) and not len(pictures[1])
            what = "sound" if heard else "picture" if seen else ""
            if (heard or nothing_heard) and (seen or nothing_seen) and (heard or seen):
                what = "both"
            found = Shared(what, picture, sound, later_s if heard else seen_later_s)
        if self._has_same_bytes(a, b):
            found = Shared("bytes", *found[1:])
        if found.what:  # of nearly all pairs there is nothing to keep
            self.shared[a, b] = found
        return found

    def _look_alike(self, a: int, b: int) -> bool:
        """Whether what does not move is alike, too; a plain picture says nothing."""
        stills = self.known.stills[a], self.known.stills[b]
        return (
            not all(still.any() for still in stills) or float(stills[0] @ stills[1]) >= LEAST_STILL
        )

    def _has_same_bytes(self, a: int, b: int) -> bool:
        one, other = (self.file.get(self.listed.paths[i], -1 - i) for i in (a, b))
        return one == other and self.listed.start_s[a] == self.listed.start_s[b]

    def _pairs_of_bytes(self) -> NDArray[np.int64]:
        """Each segment of a file that has the same bytes as others, with the first like it."""
        first: dict[tuple[int, float], int] = {}
        pairs = []
        for number, path in enumerate(self.listed.paths):
            if path in self.file:
                key = self.file[path], float(self.listed.start_s[number])
                if first.setdefault(key, number) != number:
                    pairs.append((first[key], number))
        return np.array(pairs, np.int64).reshape(-1, 2)


def neighbours(signatures: list[Signature], console: Console) -> NDArray[np.int64]:
    """Pairs of numbers, the lower first: each signature with those of the nearest outlines."""
    numbers = np.array([i for i, one in enumerate(signatures) if len(one)], np.int64)
    if len(numbers) < 2:
        return np.zeros((0, 2), np.int64)
    outlines_ND = torch.from_numpy(np.stack([outline(signatures[i]) for i in numbers]))
    outlines_ND -= outlines_ND.mean(dim=0)  # what all have in common tells none from another
    outlines_ND = torch.nn.functional.normalize(outlines_ND, dim=1)
    count, most = console.watch("searching", len(numbers)), min(NEIGHBOURS + 1, len(numbers))
    pairs = []
    for begin in range(0, len(numbers), BLOCK_ROWS):
        mine_BD = outlines_ND[begin : begin + BLOCK_ROWS]
        best_BK, row_BK = torch.empty(len(mine_BD), 0), torch.empty(len(mine_BD), 0).long()
        for other in range(0, len(numbers), BLOCK_ROWS):
            cosine_BB = mine_BD @ outlines_ND[other : other + BLOCK_ROWS].T
            theirs_BB = torch.arange(other, other + cosine_BB.shape[1]).expand_as(cosine_BB)
            best_BK = torch.cat([best_BK, cosine_BB], dim=1)
            row_BK = torch.cat([row_BK, theirs_BB], dim=1)
            best_BK, kept_BK = best_BK.topk(min(most, best_BK.shape[1]), dim=1)
            row_BK = row_BK.gather(1, kept_BK)
        mine, place = torch.nonzero(best_BK >= LEAST_COSINE, as_tuple=True)
        ends = np.stack([numbers[begin + mine.numpy()], numbers[row_BK[mine, place].numpy()]])
        pairs.append(np.sort(ends, axis=0)[:, ends[0] != ends[1]].T)
        count(min(begin + BLOCK_ROWS, len(numbers)))
    return np.unique(np.concatenate(pairs), axis=0)


def table_of(groups: list[list[int]], listed: Listed, found: Comparison) -> pa.Table:
    """The groups as a table."""
    lines = []
    for number, group in enumerate(groups):
        for i in group:
            place = (listed.paths[i], float(listed.start_s[i]), float(listed.seconds[i]))
            line: dict[str, Any] = {"group": number, "row": int(listed.rows[i]), "keep": True}
            line |= dict(zip(PLACE.names, place, strict=True))
            if i != group[0]:
                a, b = sorted((i, group[0]))
                shared = found.compared(a, b)
                later_s = shared.later_s if i == a else -shared.later_s
                line |= {"keep": False, "same": shared.what, "later_s": later_s}
                for name, of in zip(("picture", "sound"), found.known.signatures, strict=True):
                    if len(of[a]) and len(of[b]):
                        line[name] = getattr(shared, name)
            lines.append(line)
    return pa.Table.from_pylist(lines, SCHEMA)


def is_copies(path: Path) -> bool:
    """Whether a file holds what `duplicates` wrote."""
    return bool(columns_in(path) == SCHEMA.names)
