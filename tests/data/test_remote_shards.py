"""Segments of a remote shard: the same clips as from a disk, one request each; a damaged one costs
itself alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import seehear
from remote_servers import FileServer, impatient, serving
from seehear.config import Data
from seehear.data.clips import CENTRED, Batch, Clips
from seehear.data.index import Index
from seehear.data.media.members import parse
from seehear.presets import preset_settings

pytest.importorskip("aiohttp", reason="needs the extra `remote`")
# sessions of aiohttp live as long as the process
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

SHARD = "shard-00000.tar"


@pytest.fixture(scope="module")
def packed(index_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty packed segments in one shard."""
    folder = tmp_path_factory.mktemp("packed") / "packed"
    seehear.pack(index_folder, folder, preset="debug", workers=1)
    return folder


@pytest.fixture
def server(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server of a copy of it, and an empty cache."""
    impatient(monkeypatch, tmp_path / "cache", tries=2)
    shutil.copytree(packed, tmp_path / "there" / "packed")
    with serving(tmp_path / "there") as running:
        yield running


@pytest.fixture
def there(server: FileServer, tmp_path: Path) -> Index:
    """The index here of what the server has."""
    seehear.index(f"{server.address}/packed", tmp_path / "copy", progress=False)
    return Index.open(tmp_path / "copy")


def clips_of(index: Index, workers: int = 1, **data: float) -> Clips:
    settings = Data(workers=workers, cache_gigabytes=0.0, max_failed_share=0.5, **data)  # type: ignore[arg-type]
    return Clips(index, preset_settings("debug").clip, settings, seed=0)


def read(clips: Clips, rows: np.ndarray) -> list[Batch]:
    found = list(clips.batches(rows, epoch=CENTRED, batch_size=20))
    clips.close()
    return found


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.rows_B.tolist() == b.rows_B.tolist()
        assert a.frames_BTHWC.equal(b.frames_BTHWC)
        assert a.waveform_BL.equal(b.waveform_BL)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_in_any_order_the_clips_are_those_of_a_disk_and_each_segment_is_fetched_alone(
    server, packed, there, tmp_path, workers
):
    for rows in (np.arange(40), np.arange(39, -1, -2)):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        server.requests.clear()
        found = read(clips_of(there, workers), rows)
        assert_same(found, read(clips_of(Index.open(packed), 0), rows))
        assert server.requests["GET", SHARD] == len(rows)
        kept = [path for path in (tmp_path / "cache").iterdir() if path.suffix == ".mp4"]
        assert len(kept) == len(rows)


def test_what_is_in_the_cache_is_not_fetched_again(server, there, tmp_path):
    read(clips_of(there), np.arange(40))
    server.requests.clear()
    read(clips_of(there), np.arange(40))
    assert server.requests["GET", SHARD] == 0


def test_a_damaged_member_costs_itself_alone(server, there):
    shard = server.folder / "packed" / SHARD
    content = bytearray(shard.read_bytes())
    member = parse(there.path(7))
    content[member.offset - 512 : member.offset - 500] = b"another name"
    shard.write_bytes(content)
    clips = clips_of(there)
    rows = [row for batch in read(clips, np.arange(40)) for row in batch.rows_B.tolist()]
    assert rows == [row for row in range(40) if row != 7]
    assert clips.failures == {"unreadable": 1}


def test_failures_that_pass_cost_nothing(server, packed, there):
    server.faults[SHARD] = ["503", "truncated"]
    found = read(clips_of(there), np.arange(20))
    assert_same(found, read(clips_of(Index.open(packed), 0), np.arange(20)))
    assert not server.faults[SHARD]


@pytest.mark.thorough
def test_a_small_cache_is_never_exceeded(server, packed, there, tmp_path):
    sizes = there.file_bytes[:20]
    small = clips_of(there, remote_cache_gigabytes=1.5 * float(sizes.max()) / 1e9)
    server.requests.clear()
    assert_same(read(small, np.arange(20)), read(clips_of(Index.open(packed), 0), np.arange(20)))
    assert server.requests["GET", SHARD] == 20
    assert (
        sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.mp4")) <= 1.5 * sizes.max()
    )
