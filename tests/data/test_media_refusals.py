"""Files that cannot be read, or must not be: each has its reason, nothing leaks, nothing is
printed.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from media_files import number_of, write_media
from seehear.data import media
from seehear.errors import MediaError


def reason_of(path: str | Path, time_s: float = 0.1) -> str:
    with pytest.raises(MediaError) as caught:
        media.read_clip(path, [time_s], time_s, 0.5, short_side_pixels=None)
    assert caught.value.reason in media.REASONS
    assert str(path) in str(caught.value)
    return caught.value.reason


def test_each_broken_file_has_its_reason(tmp_path: Path) -> None:
    whole = write_media(tmp_path / "v.mp4").read_bytes()
    fast = write_media(
        tmp_path / "fast.mp4", container_options={"movflags": "faststart"}, seconds=8
    ).read_bytes()
    matroska = write_media(tmp_path / "v.mkv", seconds=8).read_bytes()
    contents = {
        "empty.mp4": (b"", "empty file"),
        "zeros.mp4": (bytes(5000), "not a media file"),
        "text.mp4": (b"Once upon a time there was a text.\n" * 99, "not a media file"),
        "picture.mp4": (b"\x89PNG\r\n\x1a\n" + bytes(99), "not a media file"),
        "noise.mp4": (np.random.default_rng(0).bytes(9999), "not a media file"),
        "no_index.mp4": (whole[: len(whole) // 2], "unreadable"),
        "head_only.mkv": (matroska[:200], "unreadable"),
    }
    for name, (content, reason) in contents.items():
        (tmp_path / name).write_bytes(content)
        assert reason_of(tmp_path / name) == reason, name
    (tmp_path / "half.mp4").write_bytes(fast[: len(fast) // 2])
    (tmp_path / "half.mkv").write_bytes(matroska[: len(matroska) // 2])
    for name in ("half.mp4", "half.mkv"):
        assert reason_of(tmp_path / name, 7.0) == "truncated"
        assert number_of(media.read_frames(tmp_path / name, [0.5], short_side_pixels=None)[0]) == 12
    assert reason_of(tmp_path / "v.mp4", 9.0) == "past the end"
    assert reason_of(tmp_path / "nowhere.mp4") == "not found"
    assert reason_of(tmp_path) == "not a regular file"
    os.mkfifo(tmp_path / "pipe.mp4")
    assert reason_of(tmp_path / "pipe.mp4") == "not a regular file"
    assert reason_of("/dev/zero") == "not a regular file"


def test_damage_in_the_middle_is_passed_over(tmp_path: Path) -> None:
    content = bytearray(
        write_media(tmp_path / "v.mkv", seconds=6, video_options={"g": "25"}).read_bytes()
    )
    rng = np.random.default_rng(0)
    for position in rng.integers(len(content) * 4 // 10, len(content) * 6 // 10, 40):
        content[position] ^= 0xFF
    path = tmp_path / "damaged.mkv"
    path.write_bytes(content)
    frames_THWC, sound_S = media.read_clip(path, [0.5, 5.5], 0.2, 1.0, short_side_pixels=None)
    assert [number_of(frame) for frame in frames_THWC] == [12, 137]
    assert sound_S.any()


def test_playlists_and_addresses_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_media(tmp_path / "v.ts", seconds=1.0)
    write_media(tmp_path / "v1.mp4", seconds=1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/v.ts"
        head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
        (tmp_path / "remote.m3u8").write_text(f"{head}{address}\n#EXT-X-ENDLIST\n")
        (tmp_path / "local.m3u8").write_text(f"{head}v.ts\n#EXT-X-ENDLIST\n")
        (tmp_path / "renamed.mp4").write_text(f"{head}v.ts\n#EXT-X-ENDLIST\n")
        (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile v.ts\n")
        (tmp_path / "dash.mpd").write_text(
            f'<?xml version="1.0"?><MPD><BaseURL>{address}</BaseURL></MPD>'
        )
        for name in ("remote.m3u8", "local.m3u8", "renamed.mp4", "list.ffconcat", "dash.mpd"):
            assert reason_of(tmp_path / name) == "playlist", name
        monkeypatch.chdir(tmp_path)
        for name in (
            address,
            "concat:v.ts|v.ts",
            f"file:{tmp_path}/v.ts",
            "v%d.mp4",
            "subfile,,start,0,end,9,,:v.ts",
        ):
            assert reason_of(name) == "not found", name
        with pytest.raises(TimeoutError):
            server.accept()


def test_names_of_any_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = write_media(tmp_path / "v.mp4", seconds=1.0).read_bytes()
    monkeypatch.chdir(tmp_path)
    for name in (
        "concat:a.mp4",
        "a%03d.mp4",
        "qu'o\"te.mp4",
        "übër 影片.mp4",
        "-dash.mp4",
        "a:b|c.mp4",
        "no ending",
    ):
        Path(name).write_bytes(content)
        assert number_of(media.read_frames(name, [0.5], short_side_pixels=None)[0]) == 12
    odd = os.fsdecode(b"not-utf-8-\xff.mp4")
    Path(odd).write_bytes(content)
    assert number_of(media.read_frames(odd, [0.5], short_side_pixels=None)[0]) == 12


def test_absurd_sizes_are_refused(tmp_path: Path) -> None:
    settings = {"video_codec": "rawvideo", "pixel_format": "bgr24", "audio_codec": "pcm_s16le"}
    content = bytearray(write_media(tmp_path / "v.avi", seconds=0.6, **settings).read_bytes())
    header = content.index(b"strf") + 8  # BITMAPINFOHEADER: its size, width, height, 32 bits each
    for side, reason in ((9000, "absurd size"), (30000, "absurd size")):
        content[header + 4 : header + 12] = side.to_bytes(4, "little") * 2
        path = tmp_path / f"{side}.avi"
        path.write_bytes(content)
        assert reason_of(path) == reason
    with pytest.raises(MediaError, match="absurd size"):
        media.read_frames(tmp_path / "v.avi", [0.0], short_side_pixels=20000)


ALONE = """
import sys, threading
from pathlib import Path
from seehear.data import media
from seehear.errors import MediaError

def left_open():
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

def refused(path, start_s):
    try:
        media.read_clip(path, [start_s], start_s, 0.5, short_side_pixels=None)
    except MediaError as error:
        return error.reason in media.REASONS and path in str(error)

before = left_open()
for _ in range(20):
    media.read_clip(sys.argv[1], [0.5], 0.5, 1.0, short_side_pixels=32)
    assert refused(sys.argv[2], 0.1)
    assert refused(sys.argv[1], 99.0)
assert left_open() == before, (left_open(), before)
"""


def test_nothing_is_left_open_and_nothing_is_printed(tmp_path: Path) -> None:
    """In a process of its own: in this one, what other tests have left is closed at any time."""
    path = write_media(tmp_path / "v.mp4")
    content = path.read_bytes()
    (tmp_path / "broken.mp4").write_bytes(content[: len(content) // 2])
    command = [sys.executable, "-c", ALONE, str(path), str(tmp_path / "broken.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth_mib(paths: list[Path], clips: int, warm_up: int) -> float:
    """By how much memory grows while clips are read, after the first ones."""
    start_mib = 0.0
    for i in range(clips):
        if i == warm_up:
            start_mib = resident_mib()
        media.read_clip(
            paths[i % len(paths)], 0.5 + np.arange(8) / 16, 0.5, 1.0, short_side_pixels=40
        )
    return resident_mib() - start_mib


@pytest.mark.thorough
def test_memory_stays_flat(tmp_path: Path) -> None:
    paths = [write_media(tmp_path / name, size=(160, 120)) for name in ("v.mp4", "v.mkv", "v.ts")]
    assert growth_mib(paths, clips=300, warm_up=60) < 8


@pytest.mark.slow
def test_memory_stays_flat_over_ten_thousand_clips(tmp_path: Path) -> None:
    paths = [
        write_media(tmp_path / name, size=(160, 120))
        for name in ("v.mp4", "v.mkv", "v.ts", "v.flv")
    ]
    paths.append(
        write_media(
            tmp_path / "v.webm",
            video_codec="libvpx-vp9",
            audio_codec="libopus",
            sample_rate_hz=48000,
        )
    )
    assert growth_mib(paths, clips=10_000, warm_up=500) < 10
