"""Files on other machines: the same rows and clips as from this disk, a bounded cache, faults with
reasons.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import seehear
from remote_servers import FileServer, impatient, serving
from seehear.config import Data
from seehear.data import media, remote
from seehear.data.clips import Clips
from seehear.data.index import Index
from seehear.data.remote import local, retrying
from seehear.data.remote.addresses import checked, joined, relative
from seehear.data.remote.cache import Cache, _locked
from seehear.errors import IndexFileError, MediaError, SettingsError, UsageError
from seehear.presets import preset_settings

pytest.importorskip("aiohttp", reason="needs the extra `remote`")

# sessions of aiohttp live as long as the process
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test, three tries, short pauses."""
    impatient(monkeypatch, tmp_path / "cache", tries=3)
    return tmp_path / "cache"


@pytest.fixture
def server(videos: Path, tmp_path: Path) -> Iterator[FileServer]:
    """Four videos, in two folders, on an HTTP server."""
    for number, path in enumerate(sorted(videos.rglob("*.mp4"))[:4]):
        folder = tmp_path / "there" / "videos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, folder / path.name)
        os.utime(folder / path.name, (1.7e9, 1.7e9))  # Last-Modified has whole seconds
    (tmp_path / "there" / "videos" / "notes.txt").write_text("no video")
    (tmp_path / "there" / "v.mp4").write_bytes(b"outside")
    with serving(tmp_path / "there") as made:
        yield made


def used_bytes(cache: Path) -> int:
    used = 0
    for path in cache.iterdir():
        if path.name not in ("lock", "total"):
            with contextlib.suppress(FileNotFoundError):  # renamed or removed since it was listed
                used += path.stat().st_size
    return used


def first_video(server: FileServer) -> tuple[Path, str]:
    path = sorted((server.folder / "videos" / "a").iterdir())[0]
    return path, f"{server.address}/videos/a/{path.name}"


def reason_of(address: str) -> MediaError:
    with pytest.raises(MediaError) as caught, local(address):
        pass
    assert caught.value.path == address
    assert caught.value.reason in media.REASONS
    return caught.value


def test_an_index_and_its_clips_are_those_of_the_same_files_here(server, tmp_path, cache):
    here = seehear.index(server.folder / "videos", tmp_path / "here", progress=False, workers=1)
    there = seehear.index(
        f"{server.address}/videos/", tmp_path / "there-index", progress=False, workers=1
    )
    assert (there.rows, there.rejected, there.digest) == (here.rows, here.rejected, here.digest)
    one, other = Index.open(tmp_path / "here"), Index.open(tmp_path / "there-index")
    assert one._table.equals(other._table)
    assert other.path(0).startswith(f"{server.address}/videos/a/")
    other.check()
    other.check([0, 1])
    cfg = preset_settings("debug")
    for workers in (0, 1):
        data = Data(workers=workers, cache_gigabytes=0.0)
        batches = []
        for index in (one, other):
            clips = Clips(index, cfg.clip, data, seed=0)
            batches.append(list(clips.batches(np.arange(len(index)), epoch=1, batch_size=8)))
            clips.close()
        for a, b in zip(*batches, strict=True):
            assert np.array_equal(a.rows_B, b.rows_B)
            assert a.frames_BTHWC.equal(b.frames_BTHWC)
            assert a.waveform_BL.equal(b.waveform_BL)
    # each came once
    assert sum(server.requests["GET", p.name] for p in server.folder.rglob("*.mp4")) == 4
    again = seehear.index(f"{server.address}/videos/", tmp_path / "there-index", progress=False)
    assert (again.added, again.changed, again.dropped) == (0, 0, 0)


def test_what_changed_or_vanished_is_noticed_as_for_files_here(server, tmp_path):
    path, _ = first_video(server)
    address = f"{server.address}/videos/"
    seehear.index(address, tmp_path / "index", progress=False, workers=1)
    index = Index.open(tmp_path / "index")
    os.utime(path, (1.6e9, 1.6e9))
    with pytest.raises(IndexFileError, match=rf"{path.name} has changed.*seehear index http://"):
        index.check()
    path.unlink()
    for rows in (None, [0]):
        with pytest.raises(IndexFileError, match=rf"{path.name} has vanished"):
            index.check(rows)
    summary = seehear.index(address, tmp_path / "index", progress=False)
    assert (summary.dropped, summary.added) == (1, 0)


def test_a_new_version_is_fetched_anew(server, monkeypatch):
    path, address = first_video(server)
    with local(address) as copy:
        assert Path(copy).read_bytes() == path.read_bytes()
        assert Path(copy).stat().st_mtime_ns == path.stat().st_mtime_ns == remote.stamp(address)[1]
        assert Path(copy).suffix == ".mp4"
    path.write_bytes(b"another")
    monkeypatch.setattr(remote, "KNOWN_SECONDS", 0.0)
    with local(address) as copy:
        assert Path(copy).read_bytes() == b"another"


@pytest.mark.parametrize("fault", ["500", "503", "429", "truncated", "reset"])
def test_faults_that_pass_are_tried_again(server, fault, cache):
    path, address = first_video(server)
    with local(address):
        pass  # so that the questions about it are over
    for copy in cache.glob("*.mp4"):
        copy.unlink()
    server.requests.clear()
    server.faults[path.name] = [fault, fault]
    with local(address) as copy:
        assert Path(copy).read_bytes() == path.read_bytes()
    assert server.requests["GET", path.name] == 3
    # lock, total, and the whole copy
    assert sorted(p.suffix for p in cache.iterdir()) == ["", "", ".mp4"]


def test_faults_that_stay_give_a_reason_after_so_many_tries(server, cache):
    path, address = first_video(server)
    server.faults[path.name] = ["500"] * 99
    error = reason_of(address)
    assert (error.reason, error.detail) == ("unreachable", "HTTP 500; tried 3 times")
    server.faults[path.name] = ["truncated"] * 3
    assert "tried 3 times" in reason_of(address).detail
    assert used_bytes(cache) == 0
    server.requests.clear()
    final = {"404": "not found", "410": "not found", "403": "no permission", "401": "no permission"}
    for status, reason in final.items():
        server.faults[path.name] = [status] * 99
        assert reason_of(address).reason == reason
        # one question by HEAD and, as it fails, by GET: no second try
        assert server.requests.total() == 2
        server.requests.clear()
    assert reason_of(f"{server.address}/nothing.mp4").reason == "not found"
    server.faults.clear()
    (server.folder / "empty.mp4").touch()
    assert reason_of(f"{server.address}/empty.mp4").reason == "empty file"
    assert reason_of("http://127.0.0.1:9/v.mp4").reason == "unreachable"


def test_a_silent_server_is_given_up(server, monkeypatch):
    import fsspec

    monkeypatch.setattr("seehear.data.remote.storage.SILENT_SECONDS", 0.2)
    monkeypatch.setenv("SEEHEAR_REMOTE_TRIES", "2")
    fsspec.filesystem("http").clear_instance_cache()
    path, address = first_video(server)
    server.faults[path.name] = ["slow"] * 9
    begin = time.monotonic()
    assert reason_of(address).reason == "unreachable"
    assert time.monotonic() - begin < 2.4


def test_pauses_grow_and_are_spread():
    means = [retrying.pause_seconds(number, 0.5) for number in range(1, 5)]
    assert means == [retrying.FIRST_PAUSE_S * 2**i for i in range(4)]
    assert retrying.pause_seconds(2, 0.0) == means[1] / 2
    assert retrying.pause_seconds(99, 0.5) == retrying.LONGEST_PAUSE_S
    pauses: list[float] = []
    with pytest.raises(MediaError, match="unreachable"):
        retrying.persist("s3://b/v.mp4", lambda: 1 / 0, pause=pauses.append)
    assert len(pauses) == 2


def test_a_row_that_cannot_be_had_has_its_reason_and_costs_no_other(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SEEHEAR_REMOTE_TRIES", "2")
    path, address = first_video(server)
    seehear.index(f"{server.address}/videos/", tmp_path / "index", progress=False, workers=1)
    shutil.rmtree(tmp_path / "cache")
    index, cfg = Index.open(tmp_path / "index"), preset_settings("debug")
    server.faults[path.name] = ["500"] * 999
    for workers in (0, 1):
        clips = Clips(
            index,
            cfg.clip,
            Data(workers=workers, cache_gigabytes=0.0, max_failed_share=0.5),
            seed=0,
        )
        rows = [
            batch.rows_B for batch in clips.batches(np.arange(len(index)), epoch=0, batch_size=4)
        ]
        clips.close()
        assert 0 < len(np.concatenate(rows)) == len(index) - clips.failures["unreachable"]
        assert set(clips.reasons.values()) == {"unreachable"}
    summary = seehear.index(
        [f"{server.address}/videos/", address], tmp_path / "anew", progress=False, workers=1
    )
    assert summary.rejected == {"unreachable": 1}
    detail = Index.open(tmp_path / "anew").rejected.to_pylist()[0]["detail"]
    assert detail == "HTTP 500; tried 2 times"
    server.faults.clear()
    summary = seehear.index(
        [f"{server.address}/videos/", address], tmp_path / "anew", progress=False, workers=1
    )
    assert (summary.rejected, summary.added) == ({}, 1)


def test_fetching_does_not_count_for_the_time_limit_of_decoding(server, tmp_path):
    path, address = first_video(server)
    server.faults[path.name] = ["slow"]
    summary = seehear.index(address, tmp_path / "index", progress=False, workers=1, timeout_s=2.0)
    assert summary.videos == 1


def test_a_list_of_addresses_is_an_index(server, tmp_path):
    names = [
        str(path.relative_to(server.folder))
        for path in sorted(server.folder.rglob("videos/*/*.mp4"))[:3]
    ]
    (server.folder / "list.txt").write_text("# three\n\n" + "\n".join(names))
    there = seehear.index(f"{server.address}/list.txt", tmp_path / "a", progress=False, workers=1)
    (tmp_path / "here.txt").write_text("\n".join(f"{server.address}/{name}" for name in names))
    here = seehear.index(tmp_path / "here.txt", tmp_path / "b", progress=False, workers=1)
    assert there.videos == here.videos == 3
    Index.open(tmp_path / "a").check()
    Index.open(tmp_path / "b").check()
    for line in (
        "../v.mp4",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://host/v.mp4",
        "http://u:p@host/v.mp4",
    ):
        (server.folder / "list.txt").write_text(f"{names[0]}\n{line}\n")
        with pytest.raises(UsageError):
            seehear.index(f"{server.address}/list.txt", tmp_path / "c", progress=False)
    assert not (tmp_path / "c").exists()


def test_addresses():
    for address in (
        "s3://",
        "https:///v.mp4",
        "https://h/../v.mp4",
        "https://u:p@h/v.mp4",
        "s3://b/a\nb",
        "http://[/v",
    ):
        with pytest.raises(UsageError):
            checked(address)
    for root, name in (("s3://b/v", "a/1.mp4"), ("/", "https://h/1.mp4"), ("/data", "a.mp4")):
        assert relative(joined(root, name), root) == name
    for path in (
        "/data/s3:/b",
        "s3:/b/v",
        "file:///etc/passwd",
        "ftp://h/v",
        "concat:http://h/v",
        "/https://h/v",
    ):
        assert not remote.is_remote(path)
    with pytest.raises(UsageError, match="Addresses may begin with s3://"):
        seehear.index("ftp://host/v.mp4", "nowhere", progress=False)
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:9/videos/: unreachable"):
        seehear.index("http://127.0.0.1:9/videos/", "nowhere", progress=False)


def test_what_a_fetched_file_points_to_is_not_followed(server):
    path, address = first_video(server)
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{server.address}/v.mp4\n#EXT-X-ENDLIST\n"
    path.write_text(text)
    server.requests.clear()
    with pytest.raises(MediaError) as caught, local(address) as copy, media.Reader(copy):
        pass
    assert (caught.value.reason, caught.value.path) == ("playlist", address)
    assert server.requests["GET", "v.mp4"] == 0
    with pytest.raises(MediaError, match="not found"):
        media.probe(address)  # only what asks for a remote file gets one


def test_the_cache_keeps_its_bound_and_drops_what_was_used_least_recently(tmp_path):
    folder, sizes = tmp_path / "cache", np.random.default_rng(0).integers(1, 40, 60)
    cache = Cache(folder, limit_bytes=100)
    fetched: list[int] = []

    def get(number: int) -> None:
        size = int(sizes[number])
        with cache.copy(
            f"k{number}", size, 0, lambda to: (fetched.append(number), to.write_bytes(bytes(size)))
        ) as path:
            assert path.stat().st_size == size
            assert used_bytes(folder) <= 100

    for number in range(60):
        get(number)
        if number >= 1:
            get(0)  # always in use, never dropped
    assert fetched == list(range(60))
    assert used_bytes(folder) > 30
    with cache.copy("large", 101, 0, lambda to: to.write_bytes(bytes(101))) as path:
        assert path.stat().st_size == 101
    with cache.copy("unknown", None, 0, lambda to: to.write_bytes(bytes(9))) as path:
        assert path.stat().st_size == 9
    assert not list(folder.glob("*.once"))
    with cache.copy("k99", 60, 0, lambda to: to.write_bytes(bytes(60))) as held:
        for number in range(60):
            with cache.copy(f"n{number}", 30, 0, lambda to: to.write_bytes(bytes(30))):
                assert held.exists()
                assert used_bytes(folder) <= 100


def test_a_copy_that_is_not_whole_is_fetched_anew(tmp_path):
    cache = Cache(tmp_path, limit_bytes=100)
    with cache.copy("k", 9, 0, lambda to: to.write_bytes(bytes(9))) as path:
        pass
    path.write_bytes(b"half")
    with cache.copy("k", 9, 0, lambda to: to.write_bytes(bytes(9))) as path:
        assert path.stat().st_size == 9
    with (
        pytest.raises(ZeroDivisionError),
        cache.copy("other", 9, 0, lambda to: 1 / 0 if to.write_bytes(b"half") else None),
    ):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["k", "lock", "total"]
    assert int((tmp_path / "total").read_text()) >= 9


GET = """
import sys
from seehear.data.remote import local
with local(sys.argv[1]) as path:
    print(len(open(path, "rb").read()), flush=True)
"""


def getting(address: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", GET, address], stdout=subprocess.PIPE, text=True)


def test_two_processes_fetch_a_file_once(server):
    path, address = first_video(server)
    server.faults[path.name] = ["slow"]
    processes = [getting(address) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in processes] == [
        str(path.stat().st_size)
    ] * 2
    assert server.requests["GET", path.name] == 1


def test_a_kill_in_the_middle_leaves_nothing_that_is_used(server, cache):
    path, address = first_video(server)
    server.faults[path.name] = ["slow"]
    process = getting(address)
    while not list(cache.glob("*.part")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(cache.glob("*.part"))
    assert not list(cache.glob("*.mp4"))
    other = sorted((server.folder / "videos" / "b").iterdir())[0]
    # as when the cache is full: room is made, and what was left is removed
    (cache / "total").unlink(missing_ok=True)
    with local(f"{server.address}/videos/b/{other.name}"):
        assert not list(cache.glob("*.part"))
    with local(address) as copy:
        assert Path(copy).read_bytes() == path.read_bytes()


def test_threads_share_the_cache(server, cache):
    addresses = [
        f"{server.address}/{p.relative_to(server.folder)}"
        for p in server.folder.rglob("videos/*/*.mp4")
    ]
    largest = max(p.stat().st_size for p in server.folder.rglob("videos/*/*.mp4"))
    limit, most, wrong = 3.5 * largest / 1e9, 0, []

    def work(seed: int) -> None:
        nonlocal most
        for number in np.random.default_rng(seed).permutation(
            np.repeat(np.arange(len(addresses)), 4)
        ):
            with local(addresses[number], limit) as copy:
                with _locked(
                    cache / "lock"
                ):  # while they are listed, no file is renamed or removed
                    most = max(most, used_bytes(cache))
                if Path(copy).stat().st_size != remote.stamp(addresses[number])[0]:
                    wrong.append(addresses[number])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert 0 < most <= 3.5 * largest


def test_a_cache_that_cannot_be_written(server, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEEHEAR_CACHE", str(tmp_path / "file"))
    error = reason_of(first_video(server)[1])
    assert error.reason == "unreachable"
    assert "the cache" in error.detail
    remote._known.clear()
    for name, value in (("SEEHEAR_CACHE_GIGABYTES", "-1"), ("SEEHEAR_REMOTE_TRIES", "0")):
        monkeypatch.setenv(name, value)
        with pytest.raises(SettingsError, match=name), local(first_video(server)[1]):
            pass
        monkeypatch.delenv(name)


def test_without_the_extra_it_says_what_to_install(server, tmp_path):
    programme = (
        "import sys; sys.modules['aiohttp'] = None\n"
        "from seehear.cli import main; sys.argv = ['seehear', 'index', sys.argv[1], '--out', "
        "sys.argv[2]]; main()"
    )
    made = subprocess.run(
        [sys.executable, "-c", programme, f"{server.address}/videos/", str(tmp_path / "index")],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 2
    assert "Traceback" not in made.stderr
    assert "pip install 'seehear[remote]'" in made.stderr


def test_a_packed_index_whose_shards_lie_elsewhere(server, tmp_path, cache):
    seehear.index(server.folder / "videos", tmp_path / "index", progress=False, workers=1)
    packed = server.folder / "packed"
    seehear.pack(tmp_path / "index", packed, preset="debug", workers=1, shard_segments=2)
    address = f"{server.address}/packed"
    summary = seehear.index(address, tmp_path / "copy", progress=False)
    one, other = Index.open(packed), Index.open(tmp_path / "copy")
    assert (summary.digest, summary.rows) == (one.digest, len(one)) == (other.digest, len(other))
    assert len(other.info["shards"]) > 1
    assert other.path(0).startswith(f"{address}/shard-00000.tar!")
    other.check()
    cfg, batches = preset_settings("debug"), []
    for index in (one, other):
        clips = Clips(index, cfg.clip, Data(workers=0, cache_gigabytes=0.0), seed=0)
        batches.append(next(clips.batches(np.arange(len(index)), epoch=1, batch_size=99)))
    assert batches[0].frames_BTHWC.equal(batches[1].frames_BTHWC)
    assert batches[0].waveform_BL.equal(batches[1].waveform_BL)
    # members and the tables, not the shards
    assert used_bytes(cache) < other.file_bytes.sum() + 100_000
    again = seehear.index(address, tmp_path / "copy", progress=False)
    assert again.digest == summary.digest
    shutil.rmtree(cache)
    shard = packed / "shard-00000.tar"
    shard.write_bytes(b"x" * shard.stat().st_size)
    assert reason_of(other.path(0)).detail == "the shard has something else there: it was replaced"
    shard.write_bytes(b"x")
    remote._known.clear()
    assert reason_of(other.path(0)).reason == "truncated"
    with pytest.raises(IndexFileError, match="has 1 bytes"):
        other.check()
    with pytest.raises(UsageError, match="holds another index"):
        seehear.index(address, tmp_path / "index", progress=False)
