"""Does it work here, and does the shell know the commands? doctor, completion.

A check is "ok", "warning" (it works, but slower or with less) or "bad" (something essential is
broken).
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import click

from seehear.cli.base import PATH, answer, cli, command, option, shared
from seehear.errors import printable
from seehear.machine import distributed

GIB = 2**30
LEAST_DISK_GIB = 2.0
LEAST_MEMORY_GIB = 2.0
BUSY = 0.75  # more running processes a core than this, and threads wait for each other
ESSENTIAL = ("torch", "numpy", "av", "pyarrow", "scikit-learn", "safetensors", "click", "rich")
EXTRAS = {"faiss-cpu": "search", "tensorboard": "tensorboard"}
MARKS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "bad": ("BROKEN", "red")}
INSTALL = {
    "bash": 'add this line to ~/.bashrc: eval "$(seehear completion bash)"',
    "zsh": 'add this line to ~/.zshrc, after compinit: eval "$(seehear completion zsh)"',
    "fish": "seehear completion fish > ~/.config/fish/completions/seehear.fish",
}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what is there, and what to do where not all is well."""

    name: str
    status: str
    found: str
    advice: str = ""


@command(short_help="What works on this machine, and what is wrong.")
@option("--folder", "Where runs will be written.", type=PATH, default=".")
@shared("--json")
def doctor(folder: Path, as_json: bool) -> int:
    """Look at versions, devices, precision, decoder, memory, disk and threads; exit code 1 when
    something is broken.
    """
    checks = diagnose(folder)
    is_broken = any(check.status == "bad" for check in checks)
    if as_json:
        answer(True, {"broken": is_broken, "checks": [asdict(check) for check in checks]})
    else:
        show(checks)
    return int(is_broken)


def show(checks: list[Check]) -> None:
    """The checks for a person."""
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    for check in checks:
        word, colour = MARKS[check.status]
        found = f" {check.name:10} {printable(check.found)}"
        console.print(Text.assemble((f"{word:8}", colour), found))
        if check.advice:
            console.print(Text(f"{'':20}{printable(check.advice)}"))
    wrong = [check.name for check in checks if check.status != "ok"]
    console.print(Text("All is well." if not wrong else f"To look at: {', '.join(wrong)}."))


def diagnose(folder: str | Path = ".") -> list[Check]:
    """One check a matter, whatever is broken; `folder` is where runs will be written."""
    looks = {
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
    checks = []
    for name, look in looks.items():
        try:
            checks.append(Check(name, *look()))
        except Exception as error:  # a broken installation raises anything
            what = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            advice = "Install again: pip install --force-reinstall -c constraints.txt seehear"
            checks.append(Check(name, "bad", what, advice))
    return checks


# Each look below gives status, what was found and, where not all is well, what to do.
Found = tuple[str, str] | tuple[str, str, str]


def check_python() -> Found:
    """The interpreter."""
    return "ok", f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"


def version_of(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def check_packages() -> Found:
    """What cannot be done without."""
    versions = {name: version_of(name) for name in ("seehear", *ESSENTIAL)}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        return "bad", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}"
    return "ok", ", ".join(f"{name} {version}" for name, version in versions.items())


def check_extras() -> Found:
    """What some commands can use."""
    versions = {name: version_of(name) for name in EXTRAS}
    return "ok", ", ".join(
        f"{name} {version}" if version else f"no {name} (pip install 'seehear[{EXTRAS[name]}]')"
        for name, version in versions.items()
    )


def check_devices() -> Found:
    """Where encoders can run."""
    import torch

    found = f"cpu ({distributed.cores()} cores, {torch.backends.cpu.get_cpu_capability()})"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        torch.ones(8, device="cuda").sum().item()  # a device that is seen may still not work
        return "ok", f"{found}, {', '.join(names)}"
    found = f"{found}, no CUDA device"
    if torch.version.cuda is None:
        return "ok", found
    return "warning", found, "PyTorch is built for CUDA, but sees no device: check the driver."


def check_precision() -> Found:
    """What "auto" would choose, on a small clip."""
    from seehear.config import Compute
    from seehear.machine.devices import choose
    from seehear.method.encoders.building import build_pair
    from seehear.presets import preset_settings

    settings = preset_settings("debug")
    numerics = choose(Compute(), build_pair(settings), settings.clip)
    timed = ", ".join(f"{name} {ms:.1f} ms" for name, ms in numerics.probe_ms)
    chosen = f"{numerics.precision} {numerics.memory_format} on {numerics.device}"
    return "ok", f"{chosen} ({timed} a clip)"


def check_decoder() -> Found:
    """Whether a video can be written and read back with its sound."""
    import numpy as np

    from seehear.data.media import read_clip

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "check.mp4"
        write_sample(path)
        frames_THWC, sound_S = read_clip(path, [0.2, 0.8], 0.0, 1.0, short_side_pixels=32)
    moved = float(frames_THWC[1].mean()) - float(frames_THWC[0].mean())
    loudness = float(np.sqrt(np.mean(np.square(sound_S))))
    if frames_THWC.shape == (2, 32, 32, 3) and moved >= 20 and 0.1 < loudness < 0.6:
        return "ok", f"PyAV {metadata.version('av')} writes and reads H.264 and AAC"
    found = f"shape {frames_THWC.shape}, step {moved:.0f}, loudness {loudness:.2f}"
    advice = "Install PyAV again: pip install --force-reinstall av"
    return "bad", f"a test video reads wrongly: {found}", advice


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
            part_1S = samples_1S[:, start : start + 1024]
            frame = av.AudioFrame.from_ndarray(part_1S, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))


def check_memory() -> Found:
    """What is free for decoded segments and features."""
    total, free = memory_gib()
    found = f"{free:.1f} of {total:.1f} GiB free" if total else "unknown on this system"
    if total and free < LEAST_MEMORY_GIB:
        advice = "Close other programs, or lower --data.cache_gigabytes and --data.workers."
        return "warning", found, advice
    return "ok", found


def memory_gib() -> tuple[float, float]:
    """All memory and what is available of it, in GiB; zeros where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 / GIB for line in lines}
        return sizes["MemTotal"], sizes["MemAvailable"]
    except (OSError, KeyError, ValueError):
        return 0.0, 0.0


def check_disk(folder: Path) -> Found:
    """Where runs are written."""
    place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free / GIB
    found = f"{free:.1f} GiB free at {place}"
    if not os.access(place, os.W_OK):
        return "bad", f"{place} cannot be written to", "Choose another folder for --out."
    if free < LEAST_DISK_GIB:
        advice = "A run of many videos may not fit. Make room, or choose another --out."
        return "warning", found, advice
    return "ok", found


def check_threads() -> Found:
    """Whether threads help here, or wait for each other."""
    import torch

    threads, cores = torch.get_num_threads(), distributed.cores()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    variable = os.environ.get("OMP_NUM_THREADS")
    setting = f"OMP_NUM_THREADS={variable}" if variable else "no OMP_NUM_THREADS"
    found = f"{threads} threads on {cores} cores, load {load:.1f}, {setting}"
    if threads > 1 and load > BUSY * cores:
        advice = (
            "The machine is busy: threads that wait for each other make training on the CPU "
            "several times slower. Use one: --compute.threads 1"
        )
        return "warning", found, advice
    if threads > cores:
        return "warning", found, f"More threads than cores: --compute.threads {cores}, or 1."
    return "ok", found


@command(short_help="Teach the shell to complete commands.")
@click.argument("shell", type=click.Choice(list(INSTALL)))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete commands and options; how to install it is on
    stderr.
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None, shell
    print(found(cli, {}, "seehear", "_SEEHEAR_COMPLETE").source())
    if sys.stdout.isatty():
        print(f"To install: {INSTALL[shell]}", file=sys.stderr)


COMMANDS = (doctor, completion)
