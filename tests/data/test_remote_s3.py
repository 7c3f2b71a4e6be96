"""Storage that speaks S3 (moto's server): the same rows, clips and labels as from this disk."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import seehear
from remote_servers import impatient
from seehear.data.index import Index
from seehear.data.remote import local
from seehear.errors import MediaError

for needed in ("s3fs", "moto"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"needs {needed}, of the extra dev", allow_module_level=True)

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sessions live as long as the process
]


@pytest.fixture(scope="module")
def bucket(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """s3://bucket/videos, and the folder here that holds the same eight files."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "moto.server",
        "-H",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    folder = tmp_path_factory.mktemp("same") / "videos"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        for _ in range(600):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        import s3fs

        storage = s3fs.S3FileSystem()
        storage.mkdir("bucket")
        for number, path in enumerate(sorted(videos.rglob("*.mp4"))[:8]):
            name = f"{'ab'[number % 2]}/{path.name}"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(path.read_bytes())
            storage.pipe_file(f"bucket/videos/{name}", path.read_bytes())
        storage.pipe_file("bucket/videos/notes.txt", b"no video")
        storage.pipe_file("bucket/videos-of-others/v.mp4", b"not below the folder")
        yield folder
    process.kill()
    process.wait()


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, tmp_path / "cache", tries=2)


def test_an_index_of_a_bucket_gives_the_same_labels(bucket: Path, tmp_path: Path) -> None:
    here = seehear.index(bucket, tmp_path / "here", progress=False, workers=1)
    there = seehear.index("s3://bucket/videos", tmp_path / "there", progress=False, workers=1)
    assert (there.rows, there.rejected, there.digest) == (here.rows, here.rejected, here.digest)
    one, other = Index.open(tmp_path / "here"), Index.open(tmp_path / "there")
    assert other.path(0).startswith("s3://bucket/videos/a/")
    names = [name for name in one._table.column_names if name != "modified_ns"]
    assert one._table.select(names).equals(other._table.select(names))
    assert abs(other.modified_ns[0] / 1e9 - time.time()) < 3600
    settings = {
        "data.workers": 0,
        "data.cache_gigabytes": 0,
        "rounds": 1,
        "train.epochs": 1,
        "compute.precision": "fp32",
    }
    settings |= {"compute.memory_format": "contiguous", "cluster.num_clusters": "4"}
    for name in ("here", "there"):
        seehear.pretrain(
            tmp_path / name, tmp_path / f"run-{name}", preset="debug", settings=settings
        )
    labels = [
        pq.read_table(tmp_path / f"run-{name}" / "rounds/000/labels.parquet")
        for name in ("here", "there")
    ]
    assert labels[0].equals(labels[1])
    assert len(labels[0]) == here.rows
    again = seehear.index("s3://bucket/videos", tmp_path / "there", progress=False)
    assert (again.added, again.changed, again.dropped) == (0, 0, 0)


def test_what_is_missing_or_forbidden_has_its_reason(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sorted((bucket / "a").iterdir())[0]
    with local(f"s3://bucket/videos/a/{path.name}") as copy:
        assert Path(copy).read_bytes() == path.read_bytes()
    for address, reason in (
        ("s3://bucket/videos/none.mp4", "not found"),
        ("s3://no-such-bucket/v.mp4", "not found"),
        ("s3://bucket/videos/a", "not a regular file"),
    ):
        with pytest.raises(MediaError) as caught, local(address):
            pass
        assert caught.value.reason == reason, address
    monkeypatch.setattr("seehear.data.remote.storage.CONNECT_SECONDS", 1)  # another client
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with (
        pytest.raises(MediaError, match=r"unreachable .*tried 2 times"),
        local("s3://bucket/other.mp4"),
    ):
        pass
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", os.fspath(bucket))
    monkeypatch.setattr("seehear.data.remote.storage.CONNECT_SECONDS", 2)
    with pytest.raises(MediaError, match="no permission"), local("s3://bucket/another.mp4"):
        pass


def test_numbers_of_a_bucket_are_checked(bucket: Path, tmp_path: Path) -> None:
    seehear.index("s3://bucket/videos/b", tmp_path / "index", progress=False, workers=1)
    index = Index.open(tmp_path / "index")
    assert np.array_equal(np.unique(index.video), np.arange(4))
    index.check()
    index.check([0])
