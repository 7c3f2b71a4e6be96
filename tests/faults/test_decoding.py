"""What a decoder that dies or hangs costs those who want clips: its row, the second time; and
nothing the first.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import seehear
from media_files import grainy_picture, write_media
from seehear.config import Clip, Data
from seehear.data.clips import CENTRED, Clips
from seehear.data.decoding.decoders import Decoders
from seehear.data.decoding.pool import examine_all
from seehear.data.decoding.request import Request, decode
from seehear.data.index import Index
from seehear.errors import MediaError, SeehearError
from striking import children, holds, strikes

CLIP = Clip(frames=4, frame_rate_hz=8.0, short_side_pixels=36, crop_pixels=32, sound_seconds=0.5)


@pytest.fixture(scope="module")
def slow_index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Ten rows of small files around a row that takes half a second to decode: the end of a long
    group of pictures.
    """
    folder = tmp_path_factory.mktemp("slow")
    (folder / "videos").mkdir()
    for name in "abcde":
        write_media(folder / "videos" / f"{name}.mp4", seconds=2.0)
    for name in "vwxyz":
        write_media(folder / "videos" / f"{name}.mkv", seconds=2.0)
    grains = [grainy_picture(number, 240, 180) for number in range(20)]
    write_media(
        folder / "videos" / "slow.mov",
        seconds=24.0,
        size=(240, 180),
        picture=lambda number, width, height: grains[number % 20],
        video_options={"preset": "ultrafast", "x264-params": "keyint=infinite:scenecut=0"},
        audio_codec="pcm_s16le",
        sample_rate_hz=8000,
    )
    seehear.index(folder / "videos", folder / "index", segment_seconds=24.0, progress=False)
    return Index.open(folder / "index")


def slow_row(index: Index) -> int:
    return next(row for row in range(len(index)) if index.path(row).endswith("slow.mov"))


def clips_of(index: Index, **data: float) -> tuple[Clips, list[str]]:
    said: list[str] = []
    clips = Clips(
        index,
        CLIP,
        Data(**{"workers": 2, "max_failed_share": 0.5, "timeout_s": 60.0, **data}),
        seed=0,
    )
    clips.say = said.append
    return clips, said


def rows_of(clips: Clips, epoch: object = CENTRED) -> list[int]:
    batches = list(clips.batches(np.arange(len(clips)), epoch=epoch, batch_size=4))
    return np.concatenate([batch.rows_B for batch in batches]).tolist()


def test_a_process_that_is_killed_once_changes_nothing(slow_index: Index) -> None:
    row = slow_row(slow_index)
    clips, said = clips_of(slow_index)
    alone, _ = clips_of(slow_index, workers=0)
    with strikes(Path(slow_index.path(row)), signal.SIGKILL, times=1) as struck:
        found = list(clips.batches(np.arange(len(clips)), epoch=CENTRED, batch_size=4))
    assert len(struck) == 1
    for ours, theirs in zip(
        found, alone.batches(np.arange(len(clips)), epoch=CENTRED, batch_size=4), strict=True
    ):
        assert np.array_equal(ours.rows_B, theirs.rows_B)
        assert torch.equal(ours.frames_BTHWC, theirs.frames_BTHWC)
        assert torch.equal(ours.waveform_BL, theirs.waveform_BL)
    assert not clips.failures
    assert not clips.quarantine
    assert len(said) == 1
    assert slow_index.path(row) in said[0]
    assert "SIGKILL" in said[0]
    assert "tried once more" in said[0]


def test_the_second_time_the_row_is_given_up_and_all_others_are_there(slow_index: Index) -> None:
    row = slow_row(slow_index)
    clips, said = clips_of(slow_index)
    others = [r for r in range(len(slow_index)) if r != row]
    with strikes(Path(slow_index.path(row)), signal.SIGSEGV, times=2) as struck:
        assert rows_of(clips) == others
    assert len(struck) == len(said) == 2
    assert clips.failures == {"crashed the decoder": 1}
    assert f"Row {row} is left out" in said[1]
    assert [(number, rejection.reason) for number, rejection in clips.quarantine.items()] == [
        (row, "crashed the decoder")
    ]
    with strikes(
        Path(slow_index.path(row)), signal.SIGSEGV, times=1
    ) as struck:  # and is not even tried again
        assert rows_of(clips, epoch=3) == others
    assert not struck
    assert clips.failures == {"crashed the decoder": 2}
    assert len(said) == 2


@pytest.mark.thorough
def test_a_decoder_that_hangs_is_ended(slow_index: Index) -> None:
    row = slow_row(slow_index)
    clips, said = clips_of(slow_index, timeout_s=3.0)
    begin = time.monotonic()
    with strikes(Path(slow_index.path(row)), signal.SIGSTOP, times=2) as struck:
        assert rows_of(clips) == [r for r in range(len(slow_index)) if r != row]
    assert time.monotonic() - begin < 30
    assert clips.failures == {"timed out": 1}
    assert "after 3 s" in said[0]
    assert not any((Path("/proc") / str(process)).exists() for process in struck)


def test_memory_is_filled_around_a_row_that_kills(slow_index: Index) -> None:
    row, before = slow_row(slow_index), set(children())
    clips, said = clips_of(slow_index)
    with strikes(Path(slow_index.path(row)), signal.SIGKILL, times=2):
        assert clips.fill()
    assert len(said) == 2
    assert rows_of(clips) == [r for r in range(len(slow_index)) if r != row]
    assert clips.failures == {"crashed the decoder": 1}
    assert not set(children()) - before  # no process stays once all is in memory


def test_a_pass_that_is_left_early_does_not_disturb_the_next(slow_index: Index) -> None:
    clips, _ = clips_of(slow_index)
    rows = np.array([row for row in range(len(clips)) if row != slow_row(slow_index)])
    for _ in range(2):
        stream = clips.batches(rows, epoch=0, batch_size=3)
        assert next(stream).rows_B.tolist() == rows[:3].tolist()
        stream.close()
        assert (
            np.concatenate([b.rows_B for b in clips.batches(rows, epoch=0, batch_size=3)]).tolist()
            == rows.tolist()
        )


def request(path: Path, row: int = 0) -> Request:
    return Request(row, str(path), np.array([0.1]), 24, None, 8000)


def test_answers_come_in_order_and_requests_are_drawn_as_needed(tmp_path: Path) -> None:
    good = write_media(tmp_path / "v.mp4", seconds=1.0)
    drawn: list[int] = []
    before = set(children())

    def requests():
        for row in range(60):
            drawn.append(row)
            yield request(good if row % 3 else tmp_path / f"{row}.mp4", row)

    decoders = Decoders(2, 30.0)
    for row, answer in enumerate(decoders.run(requests(), ahead=6)):
        assert len(drawn) <= row + 6 + 1
        if row % 3:
            assert answer[0].shape == (1, 24, 32, 3)
            assert answer[1] is None
        else:
            assert isinstance(answer, MediaError)
            assert (answer.path, answer.reason) == (str(tmp_path / f"{row}.mp4"), "not found")
    assert drawn == list(range(60))
    decoders.close()
    assert not set(children()) - before


@pytest.mark.thorough
def test_only_the_request_that_it_was_at_is_blamed_for_a_death_among_many(
    slow_index: Index,
) -> None:
    slow = slow_index.path(slow_row(slow_index))
    quick = next(
        slow_index.path(row) for row in range(len(slow_index)) if slow_index.path(row) != slow
    )
    requests = [
        Request(row, quick, np.array([row / 60]), 36, (row / 60, 0.5), 8000) for row in range(60)
    ]
    requests[40] = Request(40, slow, np.array([23.9]), 36, (23.0, 0.5), 8000)
    said: list[str] = []
    decoders = Decoders(1, 60.0)
    with strikes(Path(slow), signal.SIGKILL, times=1) as struck:
        answers = list(decoders.run(requests, ahead=60, say=said.append))
    decoders.close()
    assert len(struck) == len(said) == 1
    assert slow in said[0]
    assert not decoders.quarantine
    for wanted, answer in zip(requests, answers, strict=True):
        frames, sound = decode(wanted)
        assert np.array_equal(frames, answer[0])
        assert np.array_equal(sound, answer[1])


def test_what_fails_in_drawing_requests_is_raised(tmp_path: Path) -> None:
    def requests():
        yield request(tmp_path / "nowhere.mp4")
        raise ValueError("no more")

    decoders = Decoders(1, 30.0)
    with pytest.raises(ValueError, match="no more"):
        list(decoders.run(requests(), ahead=4))
    assert len(list(decoders.run([request(tmp_path / "nowhere.mp4")] * 3, ahead=1))) == 3
    decoders.close()


def test_a_process_that_cannot_start_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SeehearError, match=r"did not start.*exit code 1"):
        list(Decoders(1, 30.0).run([request(tmp_path / "v.mp4")], ahead=1))


def test_no_process_outlives_its_parent(slow_index: Index) -> None:
    path = Path(slow_index.path(slow_row(slow_index)))
    code = f"""
import numpy as np
from seehear.data.decoding.decoders import Decoders
from seehear.data.decoding.request import Request
request = Request(0, {str(path)!r}, np.array([23.0]), 24, None, 8000)
for _ in Decoders(2, 5.0).run(iter(lambda: request, None), ahead=4):
    pass
"""
    parent = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    workers: list[Path] = []
    while not workers and time.monotonic() < deadline:
        workers = [p for p in Path("/proc").glob("[0-9]*") if holds(p, path)]
    parent.kill()
    parent.wait()
    assert workers
    while any(holds(worker, path) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.thorough
def test_training_goes_on_after_a_decoder_was_killed(
    slow_index: Index, tmp_path: Path, capfd
) -> None:
    """A whole run, with sudden death in its first pass over the clips: as many rows as ever, and
    one row less.
    """
    row = slow_row(slow_index)
    settings = {
        "data.workers": 2,
        "data.cache_gigabytes": 0,
        "data.max_failed_share": 0.3,
        "cluster.num_clusters": 2,
    }
    settings |= {"compute.device": "cpu", "rounds": 1, "train.batch_size": 4}
    with strikes(Path(slow_index.path(row)), signal.SIGKILL, times=2) as struck:
        run = seehear.pretrain(
            slow_index.folder, tmp_path / "run", preset="debug", settings=settings
        )
    assert len(struck) == 2
    entries = run.read_log()
    assert entries[-1]["unreadable"]["crashed the decoder"] >= 1
    assert set(entries[-1]["unreadable"]) == {"crashed the decoder"}
    assert slow_index.path(row) in capfd.readouterr().err
    assert (run.path / "encoders" / "video.safetensors").exists()


ON_START = """
import os, pathlib, signal, sys
if "seehear.data.decoding.worker" in " ".join(sys.orig_argv):
    left = pathlib.Path({left!r})
    marks = sorted(left.glob("*"))
    if marks:
        marks[0].unlink()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("deaths", "survives"), [(2, True), (9, False)])
def test_processes_that_die_before_they_are_ready_are_replaced_unless_all_do(
    index_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int, survives: bool
) -> None:
    """As where the system ends what takes memory: by SIGKILL, while a process starts."""
    left = tmp_path / "left"
    left.mkdir()
    for number in range(deaths):
        (left / str(number)).touch()
    (tmp_path / "sitecustomize.py").write_text(ON_START.format(left=str(left)))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    )
    clips, said = clips_of(Index.open(index_folder), workers=1)
    job = (str(index_folder / "index.json"), False, 1.0)
    if survives:
        batches = list(clips.batches(np.arange(6), epoch=CENTRED, batch_size=6))
        assert (sum(len(batch.rows_B) for batch in batches), said) == (6, [])
        for number in range(deaths):
            (left / str(number)).touch()
        assert len(list(examine_all([job, job, job], 1, 30.0))) == 3
        assert not list(left.iterdir())
    else:
        with pytest.raises(SeehearError, match="did not start"):
            list(clips.batches(np.arange(6), epoch=CENTRED, batch_size=6))
        with pytest.raises(SeehearError, match="did not start"):
            list(examine_all([job, job, job], 2, 30.0))
