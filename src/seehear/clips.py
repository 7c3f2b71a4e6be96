"""Which frames and which sound does the encoder get for row r in epoch e? A function of (seed, epoch, row) alone.

A clip spans `Clip.seconds` of its segment. It starts at a drawn moment, on a grid of one frame spacing, with its frames
and its sound centred on the same instant. The same rows in the same epoch give the same clips whatever the number of
workers. A segment that cannot be read is left out of its batch and counted by reason, never replaced: a label belongs
to a row.

Shapes of a batch: frames (B, T, S, S, 3) uint8, waveform (B, L) float32 in [-1, 1], draws (B, DRAWS) float32.
"""

from __future__ import annotations

import math
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from seehear.augment import CENTRE, START, WINDOW, draw
from seehear.config import Clip, Data
from seehear.errors import MediaError, SeehearError, TrainingError
from seehear.media import read_clip

if TYPE_CHECKING:
    from seehear.indexing import Index

CENTRED = -1  # the "epoch" in which every clip is the unaugmented middle of its segment


@dataclass(frozen=True)
class Batch:
    """Clips of some rows; rows that could not be read are not in it."""

    rows_B: np.ndarray
    frames_BTHWC: Tensor
    waveform_BL: Tensor
    draws_BD: Tensor


@dataclass(frozen=True)
class Segment:
    """One segment, decoded on the grid of all moments where a clip may start."""

    frames_GHWC: np.ndarray
    waveform_L: np.ndarray


class SegmentsInMemory:
    """What stands in for an index where segments are decoded already: seconds, sizes and videos of the rows."""

    def __init__(self, segments: Sequence[Segment], clip: Clip) -> None:
        spans = [(len(s.frames_GHWC) - clip.frames) / clip.frame_rate_hz + clip.seconds for s in segments]
        self.seconds, self.start_s = np.array(spans), np.zeros(len(segments))
        self.height, self.width = (np.array([s.frames_GHWC.shape[axis] for s in segments]) for axis in (1, 2))
        self.video = np.arange(len(segments))

    def __len__(self) -> int:
        return len(self.video)

    def path(self, row: int) -> str:
        """A name for messages."""
        return f"segment {row} in memory"


class Clips:
    """The rows of an index as batches of clips.

    Args:
        index: the segments.
        clip: what a clip is.
        data: workers, the memory for decoded segments, how many rows may fail.
        seed: with epoch and row, decides every draw.

    When all segments fit in `data.cache_gigabytes` as decoded uint8 frames and float32 sound, `fill` reads each of them
    once and later batches are cut from memory. Whether they fit depends on the index and the settings only, never on
    the machine, so that a run is the same everywhere. (Sound cut from memory was resampled as a whole; it differs from
    sound read clip by clip by rounding at the clip's edges.)
    """

    def __init__(self, index: Index | SegmentsInMemory, clip: Clip, data: Data, seed: int) -> None:
        self.index, self.clip, self.data, self.seed = index, clip, data, seed
        self.failures: Counter[str] = Counter()
        self._cached: list[Segment | MediaError] | None = None
        self._loader: _Loader | None = None

    @classmethod
    def from_memory(cls, segments: Sequence[Segment], clip: Clip, data: Data, seed: int) -> Clips:
        """Clips of segments that are decoded already; each is taken for a video of its own.

        Args:
            segments: frames on a grid of `clip.frame_rate_hz`, with the short side `clip.short_side_pixels`, and sound
                of at least `clip.sound_seconds`.
        """
        clips = cls(SegmentsInMemory(segments, clip), clip, data, seed)
        clips._cached = list(segments)
        return clips

    def __len__(self) -> int:
        return len(self.index)

    @property
    def cached(self) -> bool:
        """Whether batches are cut from memory."""
        return self._cached is not None

    def cache_bytes(self) -> int:
        """What all decoded segments take in memory."""
        clip, index = self.clip, self.index
        scale = clip.short_side_pixels / np.minimum(index.width, index.height)
        pixels_N = np.ceil(index.width * scale) * np.ceil(index.height * scale)
        starts_N = _starts(index.seconds, clip)
        frame_bytes = (starts_N + clip.frames - 1) * pixels_N * 3
        sound_bytes = ((starts_N - 1) / clip.frame_rate_hz + clip.sound_seconds) * clip.sample_rate_hz * 4
        return int((frame_bytes + sound_bytes).sum())

    def fill(self, progress: Callable[[int], None] = lambda done: None) -> bool:
        """Read all segments into memory if they fit the budget; says whether they are there.

        `progress` is called with the number of rows read so far.
        """
        if self.cached or self.cache_bytes() > self.data.cache_gigabytes * 1e9:
            return self.cached
        store: list[Segment | MediaError] = []
        plan = [[(CENTRED, row) for row in rows] for rows in _chunks(np.arange(len(self)), 16)]
        loader = _Loader(_Rows(self, whole=True), self.data)
        for items in loader.run(plan):
            store.extend(x if isinstance(x, MediaError) else Segment(x[0].copy(), x[1].copy()) for x in items)
            progress(len(store))
        self._cached = store
        return True

    def split(self, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Rows to train on and rows kept out: about `share` of the videos, drawn from the seed and never split."""
        videos_N = self.index.video
        ids = np.unique(videos_N)
        kept = np.random.default_rng((self.seed, 0x0F)).permutation(ids)[: round(share * len(ids))]
        out_N = np.isin(videos_N, kept)
        return np.flatnonzero(~out_N), np.flatnonzero(out_N)

    def batches(self, rows: np.ndarray, *, epoch: int, batch_size: int, keep_last: bool = True) -> Iterator[Batch]:
        """The clips of `rows`, in that order, in batches.

        Args:
            rows: row numbers; one may come several times.
            epoch: the epoch that the draws are of, or `CENTRED` for unaugmented middle clips.
            keep_last: also yield a last batch that is shorter (but for failures, the only one that can be).
        Raises:
            TrainingError: more than `data.max_failed_share` of `rows` cannot be read.
        """
        chunks = _chunks(rows, batch_size)
        if not keep_last and len(chunks) > 1 and len(chunks[-1]) < batch_size:
            chunks.pop()
        failed: Counter[str] = Counter()
        for items, chunk in zip(self._items(chunks, epoch), chunks, strict=True):
            good = [(row, item) for row, item in zip(chunk, items, strict=True) if not isinstance(item, MediaError)]
            for item in items:
                if isinstance(item, MediaError):
                    failed[item.reason] += 1
                    self.failures[item.reason] += 1
                    self._check_failures(failed, len(rows), item)
            if good:
                yield _batch(good)

    def _items(self, chunks: list[np.ndarray], epoch: int) -> Iterator[list[Any]]:
        """For each chunk of rows, a list of (frames, waveform, draws) or MediaError."""
        if self._cached is not None:
            for chunk in chunks:
                yield [self._cut(int(row), epoch) for row in chunk]
            return
        if self._loader is None:
            self._loader = _Loader(_Rows(self, whole=False), self.data)
        yield from self._loader.run([[(epoch, int(row)) for row in chunk] for chunk in chunks])

    def _cut(self, row: int, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | MediaError:
        """One clip from the segment in memory."""
        assert self._cached is not None
        segment, clip = self._cached[row], self.clip
        if isinstance(segment, MediaError):
            return segment
        draws = draws_of(self.seed, epoch, row)
        first = start_of(draws, float(self.index.seconds[row]), clip)
        frames = window(segment.frames_GHWC[first : first + clip.frames], draws, clip)
        sound = round(first / clip.frame_rate_hz * clip.sample_rate_hz)
        length = round(clip.sound_seconds * clip.sample_rate_hz)
        return frames, segment.waveform_L[sound : sound + length], draws

    def _check_failures(self, failed: Counter[str], num_rows: int, last: MediaError) -> None:
        if failed.total() > max(1.0, self.data.max_failed_share * num_rows):
            reasons = ", ".join(f"{reason}: {count}" for reason, count in failed.most_common())
            raise TrainingError(
                f"{failed.total()} of {num_rows} rows could not be read ({reasons}; the last: {last}), more than "
                f"data.max_failed_share ({self.data.max_failed_share:g}) allows. Run `seehear index` again on these "
                f"videos, or raise data.max_failed_share."
            )


def draws_of(seed: int, epoch: int, row: int) -> np.ndarray:
    """The draw of a row in an epoch; the centre draw in the epoch `CENTRED`."""
    return CENTRE if epoch == CENTRED else draw(seed, epoch, row)


def start_of(draws: np.ndarray, segment_seconds: float, clip: Clip) -> int:
    """At which grid moment a clip starts: 0 to the number of frame spacings that the segment is longer than a clip."""
    return int(draws[START] * _starts(segment_seconds, clip))


def window(frames_THWC: np.ndarray, draws: np.ndarray, clip: Clip) -> np.ndarray:
    """A square of `short_side_pixels` out of frames that are longer on one side, placed by the draw."""
    side = clip.short_side_pixels
    height, width = frames_THWC.shape[1:3]
    top, left = int(draws[WINDOW] * (height - side + 1)), int(draws[WINDOW] * (width - side + 1))
    return frames_THWC[:, top : top + side, left : left + side]


def default_workers(data: Data) -> int:
    """How many decoding processes: the setting, or one for each core this process may use."""
    return data.workers if data.workers >= 0 else len(os.sched_getaffinity(0))


class _Rows(Dataset[Any]):
    """Decodes one row: a clip of it, or the whole segment. Lives in worker processes, so it holds little."""

    def __init__(self, clips: Clips, *, whole: bool) -> None:
        self.index, self.clip, self.seed, self.whole = clips.index, clips.clip, clips.seed, whole

    def __getitem__(self, key: tuple[int, int]) -> Any:
        epoch, row = key
        clip, seconds = self.clip, float(self.index.seconds[row])
        draws = draws_of(self.seed, epoch, row)
        count = int(_starts(seconds, clip)) if self.whole else 1
        first = 0 if self.whole else start_of(draws, seconds, clip)
        begin_s = float(self.index.start_s[row]) + first / clip.frame_rate_hz
        frames_s = begin_s + (clip.seconds - clip.frames / clip.frame_rate_hz) / 2
        try:
            frames, sound = read_clip(
                self.index.path(row),
                (frames_s + np.arange(count + clip.frames - 1) / clip.frame_rate_hz).tolist(),
                begin_s + (clip.seconds - clip.sound_seconds) / 2,
                clip.sound_seconds + (count - 1) / clip.frame_rate_hz,
                short_side_pixels=clip.short_side_pixels,
                sample_rate_hz=clip.sample_rate_hz,
            )
        except MediaError as error:
            return error
        if self.whole:
            return frames, sound
        return np.ascontiguousarray(window(frames, draws, clip)), sound, draws


class _Plan(Sampler[list[tuple[int, int]]]):
    """The batches of the pass at hand; replaced before each pass, while the worker processes live on."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Loader:
    """A DataLoader whose workers stay alive from pass to pass. They are never forked from a process with threads."""

    def __init__(self, rows: _Rows, data: Data) -> None:
        workers = default_workers(data)
        self.plan = _Plan()
        context = multiprocessing.get_context("forkserver") if workers else None
        if context is not None:
            context.set_forkserver_preload(["seehear.clips"])
        self.loader = DataLoader(
            rows,
            batch_sampler=self.plan,
            collate_fn=_as_list,
            num_workers=workers,
            multiprocessing_context=context,
            persistent_workers=workers > 0,
            worker_init_fn=_one_thread,
        )

    def run(self, batches: Sequence[list[tuple[int, int]]]) -> Iterator[list[Any]]:
        """One pass over the given batches of (epoch, row).

        Raises:
            SeehearError: a worker process died.
        """
        self.plan.batches = list(batches)
        try:
            yield from self.loader
        except RuntimeError as error:
            if "exited unexpectedly" not in str(error) and "is killed by signal" not in str(error):
                raise
            raise SeehearError(
                f"A decoding process died ({str(error).splitlines()[0]}). In a script, put the call under "
                f"`if __name__ == '__main__':`, since worker processes import the script again; short of memory, lower "
                f"data.workers; to decode in the main process, set it to 0."
            ) from error


def _as_list(items: list[Any]) -> list[Any]:
    return items


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def _starts(segment_seconds: Any, clip: Clip) -> Any:
    """How many grid moments a clip may start at: at least 1, since a short segment is padded (silence, last frame)."""
    slack_s = np.maximum(0.0, np.asarray(segment_seconds, dtype=np.float64) - clip.seconds)
    return np.floor(slack_s * clip.frame_rate_hz + 1e-6).astype(np.int64) + 1


def _chunks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[i * size : (i + 1) * size] for i in range(math.ceil(len(rows) / size))]


def _batch(good: list[tuple[int, Any]]) -> Batch:
    frames, sounds, draws = zip(*(item for _, item in good), strict=True)
    return Batch(
        rows_B=np.array([row for row, _ in good], dtype=np.int64),
        frames_BTHWC=torch.from_numpy(np.stack(frames)),
        waveform_BL=torch.from_numpy(np.stack(sounds)),
        draws_BD=torch.from_numpy(np.stack(draws)),
    )
