"""What crashes, hangs, damage and sudden death cost an index: one row, or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from media_files import grainy_picture, write_media
from seehear.data.decoding.pool import examine_all
from seehear.data.index import Index, index
from seehear.data.index.examination import Rejection
from seehear.data.media import REASONS
from seehear.errors import IndexFileError
from striking import holds, strikes


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A video of 2 s that can be used."""
    return write_media(tmp_path_factory.mktemp("good") / "v.mp4", seconds=2.0).read_bytes()


@pytest.fixture(scope="module")
def slow_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A usable video that takes about half a second to look at: one long group of pictures, of
    noise.
    """
    grains = [grainy_picture(number, 160, 120) for number in range(40)]
    return write_media(
        tmp_path_factory.mktemp("slow") / "slow.mov",
        seconds=100.0,
        size=(160, 120),
        picture=lambda number, width, height: grains[number % 40],
        video_options={"preset": "ultrafast", "x264-params": "keyint=infinite:scenecut=0"},
        audio_codec="pcm_s16le",
        sample_rate_hz=8000,
    )


@pytest.mark.parametrize(
    ("what", "workers", "reason", "detail"),
    [
        (signal.SIGSEGV, 1, "crashed the decoder", "SIGSEGV"),
        (signal.SIGKILL, 2, "crashed the decoder", "SIGKILL"),
        (signal.SIGSTOP, 1, "timed out", "after 4 s"),
    ],
)
def test_a_crash_or_a_hang_costs_one_row(
    tmp_path: Path,
    slow_video: Path,
    good_bytes: bytes,
    what: signal.Signals,
    workers: int,
    reason: str,
    detail: str,
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in "abcwxyz":
        (videos / f"{name}.mp4").write_bytes(good_bytes + name.encode())
    os.link(slow_video, videos / "slow.mov")
    with strikes(videos / "slow.mov", what, times=1) as struck:
        summary = index(videos, tmp_path / "index", workers=workers, timeout_s=4.0, progress=False)
    assert len(struck) == 1
    assert summary.videos == 7
    rejected = Index.open(tmp_path / "index").rejected.to_pylist()
    assert [(row["path"], row["reason"]) for row in rejected] == [("slow.mov", reason)]
    assert detail in rejected[0]["detail"]
    # it may have been the machine: tried again
    summary = index(videos, tmp_path / "index", workers=workers, progress=False)
    assert (summary.videos, summary.added, summary.rejected) == (8, 1, {})


def test_a_file_that_takes_too_long(tmp_path: Path, slow_video: Path) -> None:
    os.link(slow_video, tmp_path / "slow.mov")
    with pytest.raises(IndexFileError, match=r"1 timed out.*longer than the time limit"):
        index(tmp_path, tmp_path / "index", timeout_s=0.1, progress=False)


def test_damage_of_any_kind_gets_a_reason_or_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kinds = {"v.mp4": {}, "v.mkv": {}, "v.ts": {}, "v.flv": {}, "v.avi": {"video_codec": "mpeg4"}}
    wholes = {
        name: write_media(tmp_path / name, seconds=2.0, **kind).read_bytes()
        for name, kind in kinds.items()
    }
    jobs = []
    for number in range(150):
        name = list(kinds)[number % len(kinds)]
        content = bytearray(wholes[name])
        where = int(rng.integers(len(content)))
        if number % 4 == 0:
            del content[where:]
        elif number % 4 == 1:
            del content[where : where + int(rng.integers(1, 3000))]
        else:  # bits turned anywhere, or in the header
            reach = len(content) if number % 4 == 2 else 1500
            for position in rng.integers(reach, size=20):
                content[position] ^= 1 << int(rng.integers(8))
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(content)
        jobs.append((str(path), True))
    answers = list(examine_all(jobs, workers=2, timeout_s=30.0))
    assert len(answers) == 150
    rejections = [answer for answer in answers if isinstance(answer, Rejection)]
    assert 20 < len(rejections) < 130
    assert not [
        r
        for r in rejections
        if r.reason not in REASONS or "Error" in r.detail or "crashed" in r.reason
    ]


def test_no_worker_outlives_the_index(tmp_path: Path, slow_video: Path) -> None:
    os.link(slow_video, tmp_path / "slow.mov")
    code = (
        f"import seehear; seehear.index({str(tmp_path)!r}, {str(tmp_path / 'index')!r}, "
        f"timeout_s=2, progress=False)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    workers: list[Path] = []
    while not workers and time.monotonic() < deadline:
        workers = [p for p in Path("/proc").glob("[0-9]*") if holds(p, tmp_path / "slow.mov")]
    parent.kill()
    parent.wait()
    assert workers
    while any(holds(worker, tmp_path / "slow.mov") for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_script_without_a_guard_can_call_it(tmp_path: Path, good_bytes: bytes) -> None:
    (tmp_path / "v.mp4").write_bytes(good_bytes)
    script = tmp_path / "script.py"
    script.write_text(
        f"import seehear\nprint(seehear.index({str(tmp_path)!r}, "
        f"{str(tmp_path / 'index')!r}).rows)\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


CRASHING = '''
import os, shutil, sys
from pathlib import Path
import numpy as np
from seehear.data.index.examination import Rejection
from seehear.data.index.columns import FACTS, Video
from seehear.data.index.table import Index
from seehear.data.index.writing import write_index

folder = Path(sys.argv[1])
INFO = {"root": "/videos", "paths": ["/videos"], "rejected": {}}
EVENTS = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree"}

def video(name):
    facts = {fact: "h264" if "codec" in fact else 1 for fact in FACTS}
    return Video(f"/videos/{name}.mp4", facts, np.array([0.0, 10.0]), np.array([10.0, 3.0]))

def write(names, last_event=None):
    """In a process of its own, which ends without warning at the given event on the file system."""
    pid = os.fork()
    if pid == 0:
        left = [last_event]
        def count(event, arguments):
            if event in EVENTS and left[0] is not None and str(folder.parent) in str(arguments[0]):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
        sys.addaudithook(count)
        write_index(folder, [video(name) for name in names], [], INFO)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def videos():
    """How many the index holds, 0 without an index, seen by another process."""
    pid = os.fork()
    if pid == 0:
        os._exit(Index.open(folder).num_videos if folder.exists() else 0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

first = 0
while write("abc", first):  # a new index is there whole or not at all
    assert videos() in (0, 3), (first, videos())
    shutil.rmtree(folder, ignore_errors=True)
    first += 1
assert videos() == 3
shutil.copytree(folder, folder.with_name("old"))
second = 0
while write("abcde", second):  # an update leaves the old one or the new one
    assert videos() in (3, 5), (second, videos())
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("old"), folder)
    second += 1
assert videos() == 5
print(first, second)
'''


def test_a_crash_at_any_moment_leaves_the_old_index_or_the_new_one(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", CRASHING, str(tmp_path / "index")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    deaths_new, deaths_update = map(int, done.stdout.split())
    assert deaths_new > 5
    assert deaths_update > 10
