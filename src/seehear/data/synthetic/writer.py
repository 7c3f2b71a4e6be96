"""How does a set of videos get to disk? As MP4 files, written by parallel processes, whole or not
at all.

    OUT/classes.csv              path (relative to this file), class, split (train or test)
    OUT/synth.json               the settings, so that the same call finds its work done
    OUT/train/00/000123.mp4      H.264 and AAC; the names say nothing about the classes
    OUT/test/00/000124.mp4       apart, so that OUT/train can be indexed by itself

A video is a function of (seed, number, classes): neither the workers nor the size of the set
changes what it shows.
"""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seehear.data.synthetic.scenes import EVENTS, FRAMES_PER_SECOND, event_of, render
from seehear.data.synthetic.sounds import SAMPLE_RATE_HZ
from seehear.data.synthetic.timing import Array
from seehear.errors import SeehearError, SettingsError, UsageError
from seehear.machine.console import Console
from seehear.machine.distributed import cores
from seehear.machine.outputs import check_place, real

FORMAT = 2  # of the folder and of what the videos show; another number means another set of videos
TEST_SHARE = 0.2
VIDEOS_PER_FOLDER = 1000
VIDEOS_PER_TASK = (
    8  # what a worker takes at once: large enough to be cheap, small enough for a smooth bar
)


@dataclass(frozen=True)
class Settings:
    """What decides the content of the folder; `synth` documents each."""

    format: int
    videos: int
    classes: int
    seed: int
    seconds: float
    size_pixels: int


def synth(
    out: str | os.PathLike[str],
    *,
    videos: int = 1500,
    classes: int = len(EVENTS),
    seed: int = 0,
    seconds: float = 2.0,
    size_pixels: int = 64,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Write a folder of synthetic videos with their true classes beside them.

    Args:
        out: the folder to make. One that the same settings made is left as it is.
        videos: how many; every class gets the same number, give or take one.
        classes: how many of `EVENTS`, from the first on.
        seed: another seed, other videos.
        seconds: length of each video, from 1 to 60.
        size_pixels: width and height, even, from 32 to 1024.
        workers: processes; by default one for each core. 1 works in this process.
        progress: show a bar on stderr where that is a terminal.

    Returns:
        The path of classes.csv.

    Raises:
        SettingsError: a setting out of its range.
        UsageError: `out` exists and is something else.
        SeehearError: the videos could not be written.
    """
    settings = Settings(
        FORMAT, int(videos), int(classes), int(seed), float(seconds), int(size_pixels)
    )
    check(settings, workers)
    folder = real(out)
    check_place(folder, "Choose another folder.")
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty:
        check_same(folder, settings)
        return folder / "classes.csv"
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        write_videos(partial, settings, workers or cores(), progress)
        write_classes(partial / "classes.csv", settings)
        (partial / "synth.json").write_text(
            json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8"
        )
        if empty:
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        raise SeehearError(
            f"{folder}: the videos could not be written ({error}). Nothing was kept. "
            "Check the space left and the permissions there."
        ) from error
    except BrokenProcessPool as error:
        raise SeehearError(
            f"{folder}: a worker died, and nothing was kept. A script that calls synth needs the "
            f"line "
            "`if __name__ == '__main__':` before the call; workers=1 does without other processes."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / "classes.csv"


def check(settings: Settings, workers: int | None) -> None:
    """Refuse settings that cannot work, with their limits."""
    limits = {
        "classes": (2, len(EVENTS), "the number of events there are"),
        "videos": (settings.classes, 999_999, "at least one for each class"),
        "seed": (0, 2**63 - 1, "any whole number from 0 on"),
        "seconds": (1, 60, "2 is usual"),
        "size_pixels": (32, 1024, "an even number; 64 is usual"),
    }
    for name, (least, most, hint) in limits.items():
        value = getattr(settings, name)
        if not least <= value <= most:  # also refuses nan
            raise SettingsError(
                f"{name} is {value}. It must lie between {least} and {most}: {hint}."
            )
    if settings.size_pixels % 2:
        raise SettingsError(f"size_pixels is {settings.size_pixels}. It must be even; 64 is usual.")
    if workers is not None and workers < 1:
        raise SettingsError(
            f"workers is {workers}. It must be at least 1; leave it out for one a core."
        )


def check_same(folder: Path, settings: Settings) -> None:
    """Refuse a folder that these settings did not make, or that has lost videos since."""
    choose = "Choose another folder, or remove this one first."
    try:
        there = json.loads((folder / "synth.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        there = None
    if not isinstance(there, dict):
        raise UsageError(f"{folder} exists and holds no synthetic videos of ours. {choose}")
    wanted = asdict(settings)
    if there != wanted:
        differences = ", ".join(
            f"{name} {there.get(name)} there, {value} wanted"
            for name, value in wanted.items()
            if there.get(name) != value
        )
        raise UsageError(
            f"{folder} exists and was made with other settings ({differences}). {choose}"
        )
    lost = [path for path in video_paths(settings) if not (folder / path).is_file()]
    if lost or not (folder / "classes.csv").is_file():
        what = f"{len(lost)} of its {settings.videos} videos" if lost else "its classes.csv"
        raise UsageError(f"{folder} has lost {what}. {choose}")


def video_paths(settings: Settings) -> list[str]:
    """Where each video lies: by its split, under a number that says nothing about its class."""
    splits = draw_splits(settings.seed, class_names(settings))
    return [f"{split}/{i // VIDEOS_PER_FOLDER:02d}/{i:06d}.mp4" for i, split in enumerate(splits)]


def class_names(settings: Settings) -> list[str]:
    """The class of each video."""
    return [event_of(settings.seed, number, settings.classes) for number in range(settings.videos)]


def write_videos(folder: Path, settings: Settings, workers: int, progress: bool) -> None:
    """Write all videos, on as many processes as are worth starting."""
    paths = video_paths(settings)
    starts = range(0, settings.videos, VIDEOS_PER_TASK)
    tasks = [(folder, settings, start, paths[start : start + VIDEOS_PER_TASK]) for start in starts]
    workers = min(workers, len(tasks))
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    with Console(quiet=not progress) as console, contextlib.ExitStack() as stack:
        count = console.watch("writing videos", settings.videos)
        if workers == 1:
            done: Iterator[int] = (write_some(*task) for task in tasks)
        else:
            # Never fork: a process that has started threads (torch, a notebook) may hang in its
            # children.
            methods = multiprocessing.get_all_start_methods()
            context = multiprocessing.get_context(
                "forkserver" if "forkserver" in methods else "spawn"
            )
            pool = stack.enter_context(ProcessPoolExecutor(workers, mp_context=context))
            # an error or Ctrl-C does not wait for the rest
            stack.callback(pool.shutdown, cancel_futures=True)
            done = pool.map(write_some, *zip(*tasks, strict=True))
        for written in accumulate(done):
            count(written)


def write_some(folder: Path, settings: Settings, start: int, paths: list[str]) -> int:
    """Write the videos of one task, from number `start` on; returns how many. Runs in a worker."""
    for number, path in enumerate(paths, start):
        frames_THWC, waveform_S, _ = render(
            settings.seed,
            number,
            classes=settings.classes,
            seconds=settings.seconds,
            size_pixels=settings.size_pixels,
        )
        write_video(folder / path, frames_THWC, waveform_S)
    return len(paths)


def write_video(path: Path, frames_THWC: NDArray[np.uint8], waveform_S: Array) -> None:
    """Write an MP4 file: frames_THWC uint8 RGB, H.264 at 16 a second; waveform_S, AAC."""
    import av

    with av.open(path, "w", format="mp4") as container:
        # One thread: the processes are parallel already, and the bytes do not depend on the
        # machine's cores.
        options = {"preset": "ultrafast", "crf": "20", "g": "16", "threads": "1"}
        video = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        video.height, video.width = frames_THWC.shape[1:3]
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono", bit_rate=64000)
        for frame_HWC in frames_THWC:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(waveform_S[None], format="fltp", layout="mono")
        # Without a time of its own the sound is written 64 ms late: the encoder's lead-in counts as
        # sound.
        sound.sample_rate, sound.pts, sound.time_base = (
            SAMPLE_RATE_HZ,
            0,
            Fraction(1, SAMPLE_RATE_HZ),
        )
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


def write_classes(path: Path, settings: Settings) -> None:
    """Write path, class and split of every video."""
    names, paths = class_names(settings), video_paths(settings)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "class", "split"])
        writer.writerows(
            (path, name, path.split("/")[0]) for path, name in zip(paths, names, strict=True)
        )


def draw_splits(seed: int, names: list[str]) -> list[str]:
    """Draw a fifth of each class for testing: at least one of a class of two, never all of one."""
    rng = np.random.default_rng([seed, 0, 2])
    splits = ["train"] * len(names)
    for name in sorted(set(names)):
        members = [number for number, other in enumerate(names) if other == name]
        tests = min(max(round(len(members) * TEST_SHARE), 1), len(members) - 1)
        for number in rng.permutation(members)[:tests]:
            splits[number] = "test"
    return splits
