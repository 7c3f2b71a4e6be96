"""Will seehear work on this machine, and what would make it work better? A list of checks, each
with what to do.

A check is "ok", "warning" (it works, but slower or with less) or "bad" (something essential is
broken).
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from seehear.machine import distributed

GIB = 2**30
LEAST_DISK_GIB = 2.0
LEAST_MEMORY_GIB = 2.0
BUSY = 0.75  # more running processes a core than this, and threads wait for each other
ESSENTIAL = ("torch", "numpy", "av", "pyarrow", "scikit-learn", "safetensors", "click", "rich")
EXTRAS = {"faiss-cpu": "search", "tensorboard": "tensorboard"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name: of what.
        status: "ok", "warning" or "bad".
        found: what is there, for a person.
        advice: what to do; empty where all is well.
    """

    name: str
    status: str
    found: str
    advice: str = ""


def diagnose(folder: str | Path = ".") -> list[Check]:
    """Look at this machine.

    Args:
        folder: where runs will be written, whose disk is looked at.
    Returns:
        One check a matter; never raises for what is broken.
    """
    looks: dict[str, Callable[[], Check]] = {
        "python": check_python,
        "packages": check_packages,
        "extras": check_extras,
        "devices": check_devices,
        "precision": check_precision,
        "decoder": check_decoder,
        "memory": check_memory,
        "disk": lambda: check_disk(Path(folder)),
        "threads": check_threads,
    }
    return [carefully(name, look) for name, look in looks.items()]


def is_broken(checks: list[Check]) -> bool:
    """Whether something essential does not work."""
    return any(check.status == "bad" for check in checks)


def as_data(checks: list[Check]) -> dict[str, Any]:
    """The checks as plain data."""
    return {"broken": is_broken(checks), "checks": [asdict(check) for check in checks]}


def carefully(name: str, look: Callable[[], Check]) -> Check:
    """A check, whatever happens in it."""
    try:
        return look()
    except Exception as error:  # a broken installation raises anything
        what = str(error).splitlines()[0] if str(error) else ""
        advice = "Install again: pip install --force-reinstall -c constraints.txt seehear"
        return Check(name, "bad", f"{type(error).__name__}: {what}", advice)


def check_python() -> Check:
    """The interpreter."""
    found = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return Check("python", "ok", found)


def check_packages() -> Check:
    """What cannot be done without."""
    there, missing = [], []
    for name in ("seehear", *ESSENTIAL):
        try:
            there.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check(
            "packages", "bad", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}"
        )
    return Check("packages", "ok", ", ".join(there))


def check_extras() -> Check:
    """What some commands can use."""
    found = []
    for name, extra in EXTRAS.items():
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {name} (pip install 'seehear[{extra}]')")
    return Check("extras", "ok", ", ".join(found))


def check_devices() -> Check:
    """Where encoders can run."""
    import torch

    cores = distributed.cores()
    found = f"cpu ({cores} cores, {torch.backends.cpu.get_cpu_capability()})"
    if not torch.cuda.is_available():
        advice = (
            ""
            if torch.version.cuda is None
            else "PyTorch is built for CUDA, but sees no device: check the driver."
        )
        return Check("devices", "warning" if advice else "ok", f"{found}, no CUDA device", advice)
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    torch.ones(8, device="cuda").sum().item()  # a device that is seen may still not work
    return Check("devices", "ok", f"{found}, CUDA: {', '.join(names)}")


def check_precision() -> Check:
    """What "auto" would choose, on a small clip."""
    from seehear.config import Compute
    from seehear.machine.devices import choose
    from seehear.method.encoders.building import build_pair
    from seehear.presets import preset_settings

    settings = preset_settings("debug")
    numerics = choose(Compute(), build_pair(settings), settings.clip)
    timed = ", ".join(f"{name} {ms:.1f} ms" for name, ms in numerics.probe_ms)
    return Check(
        "precision",
        "ok",
        f"{numerics.precision} {numerics.memory_format} on {numerics.device} ({timed} a clip)",
    )


def check_decoder() -> Check:
    """Whether a video can be written and read back with its sound."""
    import numpy as np

    from seehear.data.media import read_clip

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "check.mp4"
        write_sample(path)
        frames_THWC, sound_S = read_clip(path, [0.2, 0.8], 0.0, 1.0, short_side_pixels=32)
    moved = float(frames_THWC[1].mean()) - float(frames_THWC[0].mean())
    loudness = float(np.sqrt(np.mean(np.square(sound_S))))
    if frames_THWC.shape != (2, 32, 32, 3) or moved < 20 or not 0.1 < loudness < 0.6:
        found = (
            f"a test video reads wrongly: shape {frames_THWC.shape}, step {moved:.0f}, "
            f"loudness {loudness:.2f}"
        )
        return Check(
            "decoder", "bad", found, "Install PyAV again: pip install --force-reinstall av"
        )
    return Check("decoder", "ok", f"PyAV {metadata.version('av')} writes and reads H.264 and AAC")


def write_sample(path: Path) -> None:
    """A second of a picture that gets brighter, and of a tone."""
    import av
    import numpy as np

    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=16000, layout="mono")
        for number in range(10):
            picture_HWC = np.full((64, 64, 3), 40 + 15 * number, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture_HWC, format="rgb24")))
        container.mux(video.encode(None))
        samples_1S = (0.5 * np.sin(np.arange(16384) * 0.2))[None].astype(np.float32)
        for start in range(0, samples_1S.shape[1], 1024):
            frame = av.AudioFrame.from_ndarray(
                samples_1S[:, start : start + 1024], format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 16000, start
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))


def check_memory() -> Check:
    """What is free for decoded segments and features."""
    total, free = memory_gib()
    found = f"{free:.1f} of {total:.1f} GiB free" if total else "unknown on this system"
    if total and free < LEAST_MEMORY_GIB:
        return Check(
            "memory",
            "warning",
            found,
            "Close other programs, or lower --data.cache_gigabytes and --data.workers.",
        )
    return Check("memory", "ok", found)


def memory_gib() -> tuple[float, float]:
    """All memory and what is available of it, in GiB; zeros where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 / GIB for line in lines}
        return sizes["MemTotal"], sizes["MemAvailable"]
    except (OSError, KeyError, ValueError):
        return 0.0, 0.0


def check_disk(folder: Path) -> Check:
    """Where runs are written."""
    place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free / GIB
    found = f"{free:.1f} GiB free at {place}"
    if not os.access(place, os.W_OK):
        return Check(
            "disk", "bad", f"{place} cannot be written to", "Choose another folder for --out."
        )
    if free < LEAST_DISK_GIB:
        return Check(
            "disk",
            "warning",
            found,
            "A run of many videos may not fit. Make room, or choose another --out.",
        )
    return Check("disk", "ok", found)


def check_threads() -> Check:
    """Whether threads help here, or wait for each other."""
    import torch

    threads = torch.get_num_threads()
    cores = distributed.cores()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    setting = (
        f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}"
        if "OMP_NUM_THREADS" in os.environ
        else "no OMP_NUM_THREADS"
    )
    found = f"{threads} threads on {cores} cores, load {load:.1f}, {setting}"
    if threads > 1 and load > BUSY * cores:
        advice = (
            "The machine is busy: threads that wait for each other make training on the CPU "
            "several times slower. "
            "Use one: --compute.threads 1"
        )
        return Check("threads", "warning", found, advice)
    if threads > cores:
        return Check(
            "threads",
            "warning",
            found,
            f"More threads than cores: --compute.threads {cores}, or 1.",
        )
    return Check("threads", "ok", found)
