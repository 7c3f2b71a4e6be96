"""Which frames and which sound does the encoder get for row r in epoch e? A function of (seed,
epoch, row) alone.

A clip spans as much of its segment as the longest that is read of it, its frames or its sound. It
starts at a drawn moment, on a grid of one frame spacing, with its frames and its sound centred on
the same instant. The same rows in the same epoch give the same clips whatever the number of
workers. A segment that cannot be read is left out of its batch and counted by reason, never
replaced: a label belongs to a row.

A segment that is shorter than a clip is played in a loop: what is longer than the segment begins
with it and repeats, pictures and sound alike; what fits lies in the middle of its first turn. So an
instant's picture and sound stay together, and nothing is silent or frozen that is not so in the
file, which would tell how long a file is.

Shapes of a batch: frames (B, T, S, S, 3) uint8, waveform (B, L) float32 in [-1, 1], draws (B,
DRAWS) float32.
"""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seehear.config import Clip, Data
from seehear.data.decoding.decoders import Decoders
from seehear.data.decoding.request import Decoded, Request
from seehear.data.index import Index
from seehear.data.index.examination import Rejection
from seehear.data.order import Chunks, split
from seehear.data.placing import (
    CENTRED,
    MODALITIES,
    Position,
    crops_of,
    draws_of,
    evenly,
    num_crops,
    num_starts,
    request_of,
)
from seehear.data.segments import Segment, decoded_bytes
from seehear.errors import MediaError, TrainingError
from seehear.machine.console import Console
from seehear.machine.distributed import cores_of_rank

FILL_ROWS = 16  # segments decoded ahead while memory is filled
AHEAD_OF = 64  # chunks that say how large a chunk is
Crop = tuple[Any, Any, np.ndarray]  # frames, waveform, draws


@dataclass(frozen=True)
class Batch:
    """Clips of the rows that could be read. A modality that is not read is None."""

    rows_B: np.ndarray
    frames_BTHWC: Tensor | None
    waveform_BL: Tensor | None
    draws_BD: Tensor


class Clips:
    """The rows of an index as batches of clips.

    Args:
        index: the segments.
        clip: what a clip is.
        data: workers, the memory for decoded segments, how many rows may fail.
        seed: with epoch and row, decides every draw.
        modalities: which of "video" and "audio" are read; files need have no other stream.

    When all segments fit in `data.cache_gigabytes` as decoded uint8 frames and float32 sound,
    `fill` reads each of them once and later batches are cut from memory. Whether they fit depends
    on the index and the settings only, never on the machine, so that a run is the same everywhere.
    (Sound cut from memory was resampled as a whole; it differs from sound read clip by clip by
    rounding at the clip's edges.)
    """

    def __init__(
        self,
        index: Index,
        clip: Clip,
        data: Data,
        seed: int,
        modalities: Sequence[str] = MODALITIES,
    ) -> None:
        self.index, self.clip, self.data, self.seed = index, clip, data, seed
        self.modalities = tuple(modalities)
        self.failures: Counter[str] = Counter()
        self.reasons: dict[int, str] = {}  # row -> why it could not be read the last time
        # told of each decoding process that was lost, and of its file
        self.say: Callable[[str], None] = _say
        self._cached: list[Segment | MediaError] | None = None
        self._decoders: Decoders | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def cached(self) -> bool:
        """Whether batches are cut from memory."""
        return self._cached is not None

    @property
    def quarantine(self) -> Mapping[int, Rejection]:
        """Rows that took a decoding process with them twice, and how; they are not tried again."""
        return self._decoders.quarantine if self._decoders else {}

    def apart(self) -> Clips:
        """The same rows and decoding processes, to look at some: failures count apart."""
        if not self.cached:
            self._processes()
        other = copy.copy(self)
        other.failures, other.reasons = Counter(), {}
        other.data = replace(self.data, max_failed_share=1.0)
        return other

    def close(self) -> None:
        """End the decoding processes; later batches start new ones."""
        if self._decoders is not None:
            self._decoders.close()
        self._decoders = None

    def cache_bytes(self) -> int:
        """What all decoded segments take in memory."""
        return decoded_bytes(self.index, self.clip, self.modalities)

    def fill(self, progress: Callable[[int], None] = lambda done: None) -> bool:
        """Read all segments into memory if they fit the budget; says whether they are there.

        `progress` is called with the number of rows read so far.
        """
        if self.cached or self.cache_bytes() > self.data.cache_gigabytes * 1e9:
            return self.cached
        store: list[Segment | MediaError] = []
        for item in self._decoded(
            np.arange(len(self)), CENTRED, self.modalities, ahead=FILL_ROWS, whole=True
        ):
            store.append(item if isinstance(item, MediaError) else Segment(*item))
            progress(len(store))
        self._cached = store
        self.close()
        return True

    def split(self, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Rows to train on and rows kept out: about `share` of the recordings, none of them split.

        Both are ascending, int32 where row numbers fit.
        """
        return split(self.index.recording, share, (self.seed, 0x0F))

    def num_starts(self, rows: np.ndarray) -> np.ndarray:
        """How many different clips each row has, (n,) int64: one if it is no longer than a clip."""
        found: np.ndarray = num_starts(self.index.seconds[rows], self.clip, self.modalities)
        return found

    def batches(
        self,
        rows: np.ndarray,
        *,
        epoch: int | Position,
        batch_size: int,
        keep_last: bool = True,
        num_rows: int | None = None,
        modalities: Sequence[str] = (),
    ) -> Iterator[Batch]:
        """The clips of `rows`, in that order, in batches.

        Args:
            rows: row numbers; one may come several times.
            epoch: the epoch that the draws are of, or a position for unaugmented clips, such as
                `CENTRED`.
            keep_last: also yield a last batch that is shorter (but for failures, the only one that
                can be).
            num_rows: of the whole that `rows` are part of, for the share that may fail; by default
                `rows` are it.
            modalities: read only these, of those that are read; by default all.
        Raises:
            TrainingError: more than `data.max_failed_share` of `rows` cannot be read.
        """
        if not keep_last and len(rows) > batch_size:
            rows = rows[: len(rows) // batch_size * batch_size]
        chunks = Chunks(rows, batch_size)
        pieces = self.pieces(
            chunks, epoch=epoch, num_rows=num_rows or len(rows), modalities=modalities
        )
        yield from (batch for batch in pieces if batch is not None)

    def sampled(
        self,
        rows: np.ndarray,
        num_clips: int | np.ndarray,
        *,
        num_crops: int = 1,
        batch_size: int = 64,
        modalities: Sequence[str] = (),
    ) -> Iterator[Batch]:
        """Unaugmented clips, evenly spread over each row.

        Args:
            rows: row numbers.
            num_clips: of each row; an array has a number for each.
            num_crops: of the frames of each clip, from end to end of their longer side; 1 is the
                centre.
            batch_size: clips in a batch, crops and all.
            modalities: as in `batches`.
        Raises: as `batches`.
        """
        size = max(1, batch_size // num_crops)
        clips_n = np.broadcast_to(num_clips, rows.shape)
        for count in np.unique(clips_n):
            for position in evenly(int(count), num_crops):
                yield from self.batches(
                    rows[clips_n == count],
                    epoch=position,
                    batch_size=size,
                    num_rows=len(rows),
                    modalities=modalities,
                )

    def pieces(
        self,
        chunks: Sequence[np.ndarray],
        *,
        epoch: int | Position,
        num_rows: int | None = None,
        modalities: Sequence[str] = (),
    ) -> Iterator[Batch | None]:
        """The clips of each chunk of rows as a batch; None if no row of it can be read.

        `chunks` may make its items when asked for; no list of all is made. Else as `batches`.
        """
        failed: Counter[str] = Counter()
        num_rows = sum(map(len, chunks)) if num_rows is None else num_rows
        for items, chunk in zip(
            self._items(chunks, epoch, modalities or self.modalities), chunks, strict=True
        ):
            good = []
            for row, item in zip(chunk, items, strict=True):
                if isinstance(item, MediaError):
                    self._count(failed, num_rows, row, item)
                else:
                    good += [(row, crop) for crop in item]
            yield _batch(good) if good else None

    def _items(
        self, chunks: Sequence[np.ndarray], epoch: int | Position, modalities: Sequence[str]
    ) -> Iterator[list[Any]]:
        """For each chunk of rows, a list of the crops of its clip, or MediaError."""
        if self._cached is not None:
            yield from (
                [self._cut(int(row), epoch, modalities) for row in chunk] for chunk in chunks
            )
            return
        rows = (row for chunk in chunks for row in chunk)
        ahead = 2 * max(map(len, islice(chunks, AHEAD_OF)), default=0)
        with contextlib.closing(self._decoded(rows, epoch, modalities, ahead=ahead)) as decoded:
            for chunk in chunks:
                items = zip(chunk, islice(decoded, len(chunk)), strict=True)
                yield [
                    item
                    if isinstance(item, MediaError)
                    else self._with_draws(int(row), epoch, *item)
                    for row, item in items
                ]

    def _decoded(
        self,
        rows: Iterable[int],
        epoch: int | Position,
        modalities: Sequence[str],
        *,
        ahead: int,
        whole: bool = False,
    ) -> Generator[Decoded | MediaError]:
        """Frames and sound of each row, or why it cannot be read."""
        requests = (_only(self.request(int(row), epoch, whole=whole), modalities) for row in rows)
        num_samples = round(self.clip.sound_seconds * self.clip.sample_rate_hz)
        decoded = self._processes().run(requests, ahead=ahead, say=lambda line: self.say(line))
        with contextlib.closing(decoded):
            for item in decoded:
                if (
                    not isinstance(item, MediaError)
                    and item[1] is not None
                    and len(item[1]) < num_samples
                ):
                    item = (item[0], np.resize(item[1], num_samples))  # repeats it
                yield item

    def _processes(self) -> Decoders:
        if self._decoders is None:
            self._decoders = Decoders(
                default_workers(self.data), self.data.timeout_s, self.data.remote_cache_gigabytes
            )
        return self._decoders

    def request(self, row: int, epoch: int | Position, *, whole: bool = False) -> Request:
        """What to decode of a row: a clip, or all moments at which a clip of it may start."""
        draws = draws_of(self.seed, epoch, row)
        request = request_of(self.index, row, draws, self.clip, self.modalities, whole=whole)
        return replace(request, place=None) if whole or num_crops(epoch) > 1 else request

    def _cut(
        self, row: int, epoch: int | Position, modalities: Sequence[str]
    ) -> list[Crop] | MediaError:
        """One clip from the segment in memory."""
        assert self._cached is not None
        segment = self._cached[row]
        if isinstance(segment, MediaError):
            return segment
        draws = draws_of(self.seed, epoch, row)
        return self._with_draws(row, epoch, *segment.cut(draws, self.clip, modalities))

    def _with_draws(
        self, row: int, epoch: int | Position, frames: Any, waveform: Any
    ) -> list[Crop]:
        cuts = crops_of(frames, draws_of(self.seed, epoch, row), epoch, self.clip)
        return [(cut, waveform, draws) for cut, draws in cuts]

    def _count(self, failed: Counter[str], num_rows: int, row: int, last: MediaError) -> None:
        failed[last.reason] += 1
        self.failures[last.reason] += 1
        self.reasons[int(row)] = last.reason
        self.check_failed(failed, num_rows, f"; the last: {last}")

    def check_failed(self, failed: Counter[str], num_rows: int, example: str = "") -> None:
        """Raise TrainingError where more rows failed than the settings allow."""
        if failed.total() > max(1.0, self.data.max_failed_share * num_rows):
            reasons = ", ".join(f"{reason}: {count}" for reason, count in failed.most_common())
            raise TrainingError(
                f"{failed.total()} of {num_rows} rows could not be read ({reasons}{example}), more "
                f"than data.max_failed_share ({self.data.max_failed_share:g}) "
                "allows. Run `seehear index` again on these videos, or raise data.max_failed_share."
            )


def default_workers(data: Data) -> int:
    """How many decoding processes: the setting, or this rank's share of the cores."""
    return data.workers if data.workers >= 0 else cores_of_rank()


def _only(request: Request, modalities: Sequence[str]) -> Request:
    """The part of a request that is of some modalities."""
    return replace(
        request,
        times_s=request.times_s if "video" in modalities else None,
        sound_s=request.sound_s if "audio" in modalities else None,
    )


def _say(line: str) -> None:
    Console().say(line)


def _batch(good: list[tuple[int, Any]]) -> Batch:
    frames, sounds, draws = zip(*(item for _, item in good), strict=True)
    return Batch(
        rows_B=np.array([row for row, _ in good], dtype=np.int64),
        frames_BTHWC=None if frames[0] is None else torch.from_numpy(np.stack(frames)),
        waveform_BL=None if sounds[0] is None else torch.from_numpy(np.stack(sounds)),
        draws_BD=torch.from_numpy(np.stack(draws)),
    )
