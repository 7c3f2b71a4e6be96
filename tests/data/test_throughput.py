"""What a clip costs by stage, what all workers give, and whether the advice is the right one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import seehear
from seehear.cli import cli
from seehear.config import Compute, Data, override
from seehear.data.advice import advice, divide_cores, facts_of, measure
from seehear.data.clips import Clips
from seehear.data.media import read_clip
from seehear.data.media.stages import STAGES, time_stages
from seehear.errors import IndexFileError
from seehear.presets import preset_settings

FACTS = {
    "packed": False,
    "cached": False,
    "decoded_gigabytes": 500.0,
    "cache_gigabytes": 1.0,
    "memory_gigabytes": 16.0,
    "workers": 4,
    "cores": 4,
    "frames": 8,
}


def test_stages_are_all_of_the_time_that_a_clip_takes(index_folder):
    import time

    path = seehear.Index.open(index_folder).path(0)
    times_s = np.arange(4) / 4
    options = {"short_side_pixels": 32, "sample_rate_hz": 16000}
    read_clip(path, times_s, 0.0, 1.0, **options)
    begin = time.perf_counter()
    stages = time_stages(path, times_s, 0.0, 1.0, **options)
    whole = time.perf_counter() - begin
    assert set(stages) == set(STAGES)
    assert all(value >= 0 for value in stages.values())
    assert sum(stages.values()) <= whole


def test_measuring_reads_real_clips(index_folder):
    cfg = override(preset_settings("debug"), {"data.workers": 0, "compute.device": "cpu"})
    found = measure(seehear.Index.open(index_folder), cfg, num_clips=9)
    assert found.clips_per_second > 0
    assert set(found.milliseconds) == {*STAGES, "collate"}
    assert found.unreadable == 0
    assert found.table()[-1][2] == "100%"
    assert "--data.cache_gigabytes" in found.advice  # 40 videos of 2 s fit in any memory


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_transfer_counts(index_folder):
    cfg = override(preset_settings("debug"), {"data.workers": 0, "compute.device": "cuda"})
    found = measure(seehear.Index.open(index_folder), cfg, num_clips=33)
    assert found.milliseconds["transfer"] > 0


def test_advice_names_what_helps_most():
    assert "--data.cache_gigabytes 2.2" in advice({**FACTS, "decoded_gigabytes": 2.0})
    assert "within --data.cache_gigabytes" in advice({**FACTS, "decoded_gigabytes": 0.5})
    assert "--data.workers" in advice({**FACTS, "workers": 1})
    decoding = {
        "open": 1.0,
        "seek": 1.0,
        "decode": 30.0,
        "resize": 3.0,
        "sound": 6.0,
        "collate": 0.1,
    }
    assert "seehear pack" in advice(FACTS, decoding)
    assert "seehear pack" in advice(FACTS)
    assert "seehear pack" not in advice({**FACTS, "packed": True}, decoding)
    assert "more cores" in advice({**FACTS, "packed": True})
    assert "cut from memory" in advice({**FACTS, "cached": True})


def test_facts_are_those_of_the_clips(index_folder):
    cfg = preset_settings("debug")
    facts = facts_of(Clips(seehear.Index.open(index_folder), cfg.clip, cfg.data, 0))
    assert set(facts) == set(FACTS)
    assert not facts["packed"]
    assert facts["decoded_gigabytes"] > 0


def test_unreadable_videos_are_said(tmp_path, videos):
    import os
    import shutil

    shutil.copytree(videos, tmp_path / "videos")
    seehear.index([tmp_path / "videos"], tmp_path / "index", progress=False, workers=1)
    for path in (tmp_path / "videos").rglob("*.mp4"):
        stamp = path.stat()
        path.write_bytes(bytes(stamp.st_size))
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    cfg = override(preset_settings("debug"), {"data.workers": 0})
    with pytest.raises(IndexFileError, match="can be read"):
        measure(seehear.Index.open(tmp_path / "index"), cfg, num_clips=6)


def test_the_command_prints_stages_and_advice(index_folder):
    command = [
        "bench",
        "data",
        str(index_folder),
        "--preset",
        "debug",
        "--clips",
        "6",
        "--data.workers",
        "0",
    ]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert "clips/s in all" in done.output
    assert "decode" in done.output
    as_json = json.loads(CliRunner().invoke(cli, [*command, "--json"]).stdout)
    assert as_json["workers"] == 0


def test_cores_are_divided_only_where_a_cpu_trains_and_decodes_and_nobody_said_how(
    index_folder, monkeypatch
):
    cfg, asked = preset_settings("debug"), []
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    index = seehear.Index.open(index_folder)
    for data, compute, device, workers, threads in (
        (Data(), Compute(), "cpu", 2, [6]),
        (Data(workers=3), Compute(), "cpu", 3, []),
        (Data(), Compute(threads=4), "cpu", -1, []),
        (Data(), Compute(), "cuda", -1, []),
    ):
        clips = Clips(index, cfg.clip, data, 0)
        divide_cores(clips, compute, device)
        assert (clips.data.workers, asked) == (workers, threads)
        asked.clear()
