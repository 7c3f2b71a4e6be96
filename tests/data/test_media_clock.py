"""Files whose timestamps are not what they seem: every frame comes out once, in order, wherever
reading begins.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import media_files
from media_files import (
    all_frames,
    copy_with_pts_from_dts,
    grainy_picture,
    leave_unfinished,
    number_of,
    pack_b_frames,
)
from seehear.data import media
from seehear.data.index.examination import Rejection, examine
from seehear.data.packing.encoding import Recipe, encode

FRAMES = 60
MPEG4 = {"video_codec": "mpeg4", "audio_codec": "libmp3lame"}
B_FRAMES: dict[str, dict[str, Any]] = {
    "h264.avi": {"video_options": {"bf": "3", "g": "20"}, "audio_codec": "libmp3lame"},
    "open.avi": {
        "video_options": {"bf": "3", "g": "15", "x264-params": "open-gop=1"},
        "audio_codec": None,
    },
    "mpeg2.avi": {
        "video_codec": "mpeg2video",
        "video_options": {"bf": "2", "g": "12"},
        "audio_codec": "mp2",
    },
    "mpeg4.avi": MPEG4 | {"video_options": {"bf": "2", "g": "20"}},
    "h264.asf": {"video_options": {"bf": "3", "g": "20"}, "audio_codec": None},
    "mpeg4.wmv": MPEG4 | {"video_options": {"bf": "2", "g": "20"}, "container_format": "asf"},
}
COPIES = [(ending, "libx264") for ending in ("mkv", "mp4", "ts", "flv", "nut")]
COPIES += [(ending, codec) for ending in ("mkv", "mp4", "nut") for codec in ("mpeg4", "mpeg2video")]


write_media = partial(media_files.write_media, has_fine_clock=False)


def check_order(path: Path, count: int = FRAMES) -> None:
    """Frames 0, 1, 2, ... are seen 40 ms apart, from at most 0.16 s after the file's start, alone
    and together.
    """
    times_s = np.arange(count + 5) / 25 + 0.012
    numbers = [
        number_of(frame) for frame in media.read_frames(path, times_s, short_side_pixels=None)
    ]
    late = numbers.count(numbers[0]) - 1
    assert numbers[late : late + count] == list(range(numbers[0], numbers[0] + count)), numbers
    assert late <= 4
    some = [
        *np.random.default_rng(0).permutation(count + late)[:17],
        *range(count + late - 3, count + late),
    ]
    alone = [
        number_of(media.read_frames(path, [times_s[i]], short_side_pixels=None)[0]) for i in some
    ]
    with media.Reader(path) as reader:
        again = [number_of(reader.frames([times_s[i]])[0]) for i in some]
    assert alone == again == [numbers[i] for i in some]


@pytest.mark.parametrize("name", B_FRAMES)
def test_b_frames_where_the_container_knows_decoding_times_only(tmp_path: Path, name: str) -> None:
    check_order(write_media(tmp_path / name, seconds=FRAMES / 25, **B_FRAMES[name]))


@pytest.mark.parametrize("b_frames", [1, 2])
def test_packed_b_frames(tmp_path: Path, b_frames: int) -> None:
    options = {"bf": str(b_frames), "g": "20", "b_strategy": "0"}
    plain = write_media(
        tmp_path / "plain.avi", seconds=2.4, **MPEG4 | {"audio_codec": None}, video_options=options
    )
    packed = pack_b_frames(plain, tmp_path / "packed.avi")
    check_order(packed)
    for ending in ("mkv", "mp4"):  # where FFmpeg guesses times of presentation
        copy = tmp_path / f"copy.{ending}"
        with av.open(packed) as old, av.open(copy, "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    new.mux(packet)
        check_order(copy)


@pytest.mark.parametrize(("ending", "codec"), COPIES)
def test_copies_that_say_decoding_times_are_those_of_presentation(
    tmp_path: Path, ending: str, codec: str
) -> None:
    options = {"bf": "3" if codec == "libx264" else "2", "g": "20"}
    source = tmp_path / "source.mp4"
    write_media(source, seconds=2.4, video_codec=codec, video_options=options, audio_codec=None)
    check_order(copy_with_pts_from_dts(source, tmp_path / f"copy.{ending}"))


def test_frames_that_avi_leaves_out_leave_a_gap(tmp_path: Path) -> None:
    times_s = np.delete(np.arange(FRAMES) / 25, [7, 20, 21, 40])
    for codec, options in (("libx264", {"bf": "2", "g": "15"}), ("mpeg4", {"bf": "2", "g": "15"})):
        path = tmp_path / f"{codec}.avi"
        write_media(
            path, frame_times_s=times_s, video_codec=codec, video_options=options, audio_codec=None
        )
        seen_s = np.arange(0.012, 2.4, 0.04)
        numbers = [
            number_of(frame) for frame in media.read_frames(path, seen_s, short_side_pixels=None)
        ]
        assert numbers == sorted(numbers)
        assert set(numbers) >= set(range(len(times_s) - 4))
        for moment_s, number in list(zip(seen_s, numbers, strict=True))[::7]:
            assert (
                number_of(media.read_frames(path, [moment_s], short_side_pixels=None)[0]) == number
            )


def test_packing_keeps_the_order_of_b_frames(tmp_path: Path) -> None:
    path = write_media(tmp_path / "v.avi", seconds=2.4, **B_FRAMES["h264.avi"])
    recipe = Recipe(short_side_pixels=48, frame_rate_hz=25.0, sample_rate_hz=16000, quality=10)
    answer = encode(str(path), 0.5, 1.6, (64, 48), recipe, str(tmp_path), "0", "{}")
    assert not isinstance(answer, Rejection), answer
    moments_s = np.arange(40) / 25
    packed = media.read_frames(tmp_path / "0.mp4", moments_s, short_side_pixels=None)
    original = media.read_frames(path, 0.5 + moments_s, short_side_pixels=None)
    numbers = [number_of(frame) for frame in packed]
    assert numbers == [number_of(frame) for frame in original]
    assert numbers == list(range(numbers[0], numbers[0] + 40))


@pytest.mark.parametrize(
    ("name", "codec", "sound"),
    [("v.mpg", "mpeg2video", "mp2"), ("v.vob", "mpeg2video", None), ("v1.mpg", "mpeg1video", None)],
)
def test_small_frames_of_a_program_stream(
    tmp_path: Path, name: str, codec: str, sound: str | None
) -> None:
    path = write_media(
        tmp_path / name,
        seconds=8.0,
        video_codec=codec,
        video_options={"bf": "2"},
        audio_codec=sound,
    )
    frames = all_frames(path)
    assert len(frames) == 200
    info = media.probe(path)
    assert info.video_start_s + info.video_seconds == pytest.approx(frames[-1][0] + 0.04, abs=0.03)
    for time_s, frame in frames[3::13]:
        assert number_of(
            media.read_frames(path, [time_s + 0.005], short_side_pixels=None)[0]
        ) == number_of(frame)


RAW = {
    "v.h264": ("libx264", {"bf": "3", "g": "25"}),
    "v.hevc": ("libx265", {"x265-params": "log-level=none:keyint=25"}),
    "v.m4v": ("mpeg4", {"bf": "2", "g": "12"}),
    "v.m2v": ("mpeg2video", {"bf": "2", "g": "12"}),
    "v.m1v": ("mpeg1video", {"bf": "2", "g": "12"}),
    "v.mjpeg": ("mjpeg", {"q:v": "3"}),
    "v.obu": ("libsvtav1", {"preset": "12", "crf": "20", "svtav1-params": "keyint=25"}),
    "v.ivf": ("libvpx-vp9", {"crf": "10", "b:v": "0"}),
}
MUXERS = {"v.m4v": "m4v"}


RATES = [(name, 25) for name in RAW] + [
    (name, 30) for name in ("v.h264", "v.hevc", "v.m2v", "v.m1v", "v.ivf")
]


@pytest.mark.parametrize(("name", "fps"), RATES)
def test_bare_streams_are_read_at_their_frame_rate(tmp_path: Path, name: str, fps: int) -> None:
    codec, options = RAW[name]
    path = tmp_path / name
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    write_media(
        path,
        seconds=50 / fps,
        fps=fps,
        video_codec=codec,
        video_options=options,
        audio_codec=None,
        pixel_format=pixels,
        container_format=MUXERS.get(name),
    )
    info = media.probe(path)
    assert info.video_seconds == pytest.approx(50 / fps, abs=0.05)
    assert info.fps == pytest.approx(fps)
    times_s = np.arange(50) / fps + 0.01
    frames = media.read_frames(path, times_s, short_side_pixels=None)
    assert [number_of(frame) for frame in frames] == list(range(50))
    assert [
        number_of(media.read_frames(path, [t], short_side_pixels=None)[0]) for t in times_s[9::15]
    ] == [9, 24, 39]
    assert examine(str(path), True) == Rejection("no audio stream")
    assert isinstance(examine(str(path), True, ("video",)), media.MediaInfo)


def test_a_film_of_jpeg_files_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "camera.mjpeg"
    options: dict[str, Any] = {
        "video_codec": "mjpeg",
        "pixel_format": "yuvj420p",
        "audio_codec": None,
    }
    write_media(path, seconds=1.0, size=(160, 120), picture=grainy_picture, **options)
    jfif = b"\xff\xe0\x00\x10JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x00\x00"  # as cameras write it
    path.write_bytes(
        path.read_bytes().replace(b"\xff\xd8\xff\xfe", b"\xff\xd8" + jfif + b"\xff\xfe")
    )
    frames = media.read_frames(path, np.arange(25) / 25 + 0.01, short_side_pixels=None)
    assert [number_of(frame) for frame in frames] == list(range(25))


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_an_avi_that_was_never_finished(tmp_path: Path, codec: str) -> None:
    options = {"bf": "2", "g": "20"}
    path = write_media(
        tmp_path / "v.avi", seconds=4.0, video_codec=codec, video_options=options, audio_codec="mp2"
    )
    times_s = np.arange(0.012, 3.9, 0.04)
    frames = media.read_frames(path, times_s, short_side_pixels=None)
    info = media.probe(leave_unfinished(path))
    assert info.video_seconds == pytest.approx(4.0, abs=0.1)
    assert info.audio_seconds == pytest.approx(4.0, abs=0.2)
    np.testing.assert_array_equal(media.read_frames(path, times_s, short_side_pixels=None), frames)
    for i in (95, 50, 3):
        np.testing.assert_array_equal(
            media.read_frames(path, times_s[i : i + 1], short_side_pixels=None)[0], frames[i]
        )
    assert isinstance(examine(str(path), True), media.MediaInfo)
