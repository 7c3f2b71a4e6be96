"""What the benchmarks share: arguments, processes, made-up videos, facts, tables, results."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import numpy as np

from seehear.machine.files import now, versions

RESULTS = Path(__file__).parent / "results"
VIDEO_FACTS = {  # of the columns of an index, for indexes without media
    "fps": 30.0,
    "width": 340,
    "height": 256,
    "rotation_degrees": 0,
    "sample_rate_hz": 48000,
    "channels": 2,
    "audio_track": 0,
    "audio_channel": -1,
    "parts": 1,
}
HELPERS = Path(__file__).parent.parent / "tests" / "helpers"


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the top of the file."""
    formatter = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=doc, formatter_class=formatter)


def note(record: Any) -> None:
    """Show what was just measured, on stderr."""
    print(json.dumps(record), file=sys.stderr, flush=True)


def in_a_process(file: str, *args: object, **environment: str) -> Any:
    """What a benchmark's file prints last, as JSON, in a process of its own: its peak of memory is
    its own.
    """
    command = [sys.executable, file, *map(str, args)]
    env = {**os.environ, **environment}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    frame_rate_hz: int,
    sound_CL: np.ndarray,
    sample_rate_hz: int,
    **options: str,
) -> None:
    """Frames (H, W, 3) uint8 by x264 with these options, and sound in [-1, 1] by AAC."""
    layout = "stereo" if len(sound_CL) == 2 else "mono"
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as file:
        video = file.add_stream("libx264", rate=frame_rate_hz, options=options)
        audio = file.add_stream("aac", rate=sample_rate_hz, layout=layout, bit_rate=128000)
        for number, frame_HWC in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
            if number == 0:
                video.width, video.height, video.pix_fmt = frame.width, frame.height, "yuv420p"
            frame.pts, frame.time_base = number, Fraction(1, frame_rate_hz)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(
            sound_CL.astype(np.float32), format="fltp", layout=layout
        )
        sound.sample_rate, sound.pts, sound.time_base = (
            sample_rate_hz,
            0,
            Fraction(1, sample_rate_hz),
        )
        file.mux(audio.encode(sound))
        file.mux(audio.encode(None))


def facts(*packages: str, **more: Any) -> dict[str, Any]:
    """Command, conditions, machine, load and versions, those of some more packages too."""
    command = ["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]
    about = {"command": shlex.join(command), **more, **versions()}
    for name in packages:
        try:
            about["packages"][name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return about | {"load": round(os.getloadavg()[0], 1), "created": now()}


def fact_lines(about: dict[str, Any]) -> list[str]:
    """The same for a page."""
    texts = {
        key: ", ".join(f"{name} {found}" for name, found in value.items())
        if isinstance(value, dict)
        else value
        for key, value in about.items()
    }
    return [f"- {key}: {text}" for key, text in texts.items()]


def table(head: str, rows: Iterable[Sequence[object]], *, left: int = 1) -> list[str]:
    """Markdown; `head` names the columns, "N | K | s", of which the first are left-aligned."""
    columns = head.count("|") + 1
    lines = [f"| {head} |", "|" + "---|" * left + "---:|" * (columns - left)]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def save(name: str, data: Any, page: Sequence[str], folder: Path = RESULTS) -> None:
    """Write NAME.json and NAME.md and print the page; without data the page alone."""
    text = "\n".join(page) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    if data is not None:
        (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    print(text, end="")
