"""What a file declares costs nothing until it is believed: sizes, channels, rates, and roads to
elsewhere.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from media_files import grainy_picture, write_media
from seehear.data import media
from seehear.errors import MediaError

HUGE = struct.pack(">HH", 30000, 30000)


def reason_of(path: str | Path) -> str:
    with pytest.raises(MediaError) as caught:
        media.read_clip(path, [0.1], 0.1, 0.3, short_side_pixels=None)
    assert caught.value.reason in media.REASONS
    return caught.value.reason


def peak_growth_mib(code: str) -> float:
    """By how much a process of its own grows at most while it runs some code."""
    script = (
        "import resource\nfrom seehear.data import media\nfrom seehear.errors import "
        "MediaError\nmedia.REASONS\n"
    )
    script += "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n" + code
    script += "\nprint((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def with_huge_frames(folder: Path) -> dict[str, Path]:
    """Files whose frames are declared to be 30000 x 30000: by the container, and by the pictures
    themselves.
    """
    paths = {}
    sources = {
        "container.mp4": {"video_codec": "mpeg4"},
        "pictures.avi": {
            "video_codec": "mjpeg",
            "pixel_format": "yuvj420p",
            "audio_codec": "pcm_s16le",
        },
        "pictures.webm": {
            "video_codec": "libvpx",
            "audio_codec": "libopus",
            "sample_rate_hz": 48000,
        },
    }
    small = struct.pack(">HH", 64, 48)  # width, height
    for name, settings in sources.items():
        content = write_media(folder / f"small-{name}", seconds=1.0, **settings).read_bytes()
        if name == "container.mp4":
            where = content.index(b"mp4v") + 28  # of the sample entry
            assert content[where : where + 4] == small
            content = content[:where] + HUGE + content[where + 4 :]
        elif name == "pictures.avi":
            head = b"\xff\xc0\x00\x11\x08"  # start of frame: length, bits; then height and width
            assert head + struct.pack(">HH", 48, 64) in content
            content = content.replace(head + struct.pack(">HH", 48, 64), head + HUGE)
        else:
            head = b"\x9d\x01\x2a"  # of a key frame of VP8; then width and height, 14 bits each
            assert head + struct.pack("<HH", 64, 48) in content
            content = content.replace(
                head + struct.pack("<HH", 64, 48), head + struct.pack("<HH", 16383, 16383)
            )
        paths[name] = folder / name
        paths[name].write_bytes(content)
    return paths


def test_huge_frames_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    paths = with_huge_frames(tmp_path)
    # Where the pictures say otherwise than the container, they are believed.
    assert (
        media.read_frames(paths.pop("container.mp4"), [0.1], short_side_pixels=None).size < 20_000
    )
    for name, path in paths.items():
        assert reason_of(path) in ("absurd size", "unreadable"), name
    code = "import sys\n" + "".join(
        f"try:\n    media.read_frames({str(path)!r}, [0.1], short_side_pixels=None)\n    "
        f"sys.exit('it was read')\n"
        "except MediaError:\n    pass\n"
        for path in paths.values()
    )
    assert peak_growth_mib(code) < 100  # a frame of that size takes 1.3 GiB


@pytest.mark.parametrize(
    ("channels", "rate_hz"), [(10_000, 44_100), (65_535, 44_100), (2, 2**31 - 1)]
)
def test_absurd_sound_is_refused(tmp_path: Path, channels: int, rate_hz: int) -> None:
    content = bytearray(
        write_media(
            tmp_path / "v.avi", seconds=1.0, video_codec="mpeg4", audio_codec="pcm_s16le"
        ).read_bytes()
    )
    # WAVEFORMATEX of the second stream
    format_at = content.index(b"strf", content.index(b"strf") + 4) + 8
    assert struct.unpack_from("<HHI", content, format_at) == (1, 2, 44_100)
    struct.pack_into("<HI", content, format_at + 2, channels, rate_hz)
    (tmp_path / "absurd.avi").write_bytes(content)
    assert reason_of(tmp_path / "absurd.avi") in ("absurd size", "unreadable", "unknown codec")


def test_a_long_group_of_pictures_takes_time_and_no_memory(tmp_path: Path) -> None:
    grains = [grainy_picture(number, 320, 240) for number in range(8)]
    path = write_media(
        tmp_path / "v.mkv",
        seconds=50.0,
        fps=10.0,
        size=(320, 240),
        picture=lambda number, width, height: grains[number % 8],
        video_codec="mpeg4",
        video_options={"g": "600", "sc_threshold": "1000000000"},
        sample_rate_hz=8000,
    )
    code = (
        f"assert media.read_frames({str(path)!r}, [49.0, 29.5], "
        f"short_side_pixels=None).shape[0] == 2"
    )
    assert peak_growth_mib(code) < 40  # all 500 frames would take 55 MiB


def test_a_file_that_declares_to_last_for_ever_is_not_waited_for(tmp_path: Path) -> None:
    content = bytearray(write_media(tmp_path / "v.mp4", seconds=1.0).read_bytes())
    for name, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        first = 0
        while (first := content.find(name, first) + 4) > 3:
            struct.pack_into(">I", content, first + offset - 4, 2**31 - 1)
    path = tmp_path / "forever.mp4"
    path.write_bytes(content)
    with media.Reader(path) as reader:
        assert reader.frames([0.5], short_side_pixels=24).shape == (1, 24, 32, 3)
        with pytest.raises(MediaError):
            reader.frames([1000.0], short_side_pixels=24)
        with pytest.raises(MediaError):
            reader.sound(1000.0, 0.5)


LISTS = {
    "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{0}\n#EXT-X-ENDLIST\n",
    "b.mp4": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{0}\n",
    "key.mkv": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{0}"\n#EXTINF:1,\nv.ts\n#EXT-X-ENDLIST\n',
    "concat.mkv": "ffconcat version 1.0\nfile '{0}'\n",
    "concat.avi": "ffconcat version 1.0\nfile 'concat:v.ts|{0}'\n",
    "c.sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video "
    "{1} RTP/AVP 96\r\n"
    "a=rtpmap:96 H264/90000\r\n",
    "d.mpd": '<?xml version="1.0"?><MPD '
    'mediaPresentationDuration="PT1S"><Period><BaseURL>{0}</BaseURL></Period></MPD>',
    "e.asx": '<asx version="3.0"><entry><ref href="{0}"/></entry></asx>',
    "f.avi": "[Reference]\r\nRef1={0}\r\n",
    "g.webm": "[playlist]\nFile1={0}\nNumberOfEntries=1\n",
}


def test_no_list_and_no_address_leads_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_media(tmp_path / "v.ts", seconds=1.0)
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        for name, text in LISTS.items():
            for address in (f"http://127.0.0.1:{port}/v.ts", f"tcp://127.0.0.1:{port}", "v.ts"):
                Path(name).write_text(text.format(address, port), newline="")
                assert reason_of(tmp_path / name) in (
                    "playlist",
                    "not a media file",
                    "unreadable",
                ), (name, address)
        protocols = (
            "http",
            "https",
            "tcp",
            "ftp",
            "rtmp",
            "rtsp",
            "udp",
            "hls+http",
            "icecast",
            "gopher",
            "tls",
        )
        for protocol in protocols:
            assert reason_of(f"{protocol}://127.0.0.1:{port}/v.ts") == "not found"
        for name in (
            "concat:v.ts",
            "concatf:v.ts",
            "crypto:v.ts",
            "cache:v.ts",
            "async:v.ts",
            "data:,x",
            "pipe:0",
            "fd:",
        ):
            assert reason_of(name) == "not found"
        with pytest.raises(TimeoutError):
            server.accept()
