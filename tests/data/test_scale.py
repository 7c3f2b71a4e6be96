"""Does nothing that grows with the rows become Python objects, and is what comes in pieces the same
as the whole?
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score

from seehear.data.clips import Clips
from seehear.data.index import Index
from seehear.data.index.columns import FACTS, SCHEMA, assemble
from seehear.data.index.writing import write_table
from seehear.data.order import Chunks, epoch_rows, shuffled
from seehear.machine.distributed import gathered_rows
from seehear.method.agreement import nmi
from seehear.method.features import Features, write_features
from seehear.method.step import Plan
from seehear.presets import preset_settings
from seehear.runs import finishing
from seehear.runs.checkpoint import GROUP_ROWS, write_clusters

ROWS = 300_000
INFO = {"root": "/videos", "paths": ["/videos"], "settings": None, "rejected": {}}


def table_of(rows: int, rows_a_video: int = 3) -> pa.RecordBatch:
    """An index of made-up rows."""
    number_N = np.arange(rows, dtype=np.int32) // rows_a_video
    generator = np.random.default_rng(0)
    columns = {
        name: np.full(rows, 25).astype(kind.to_pandas_dtype())
        for name, kind in FACTS.items()
        if "codec" not in name
    }
    columns |= {"start_s": generator.random(rows), "seconds": generator.random(rows) * 9 + 1}
    columns |= {
        "video_codec": pa.array(["h264", "vp9"] * (rows // 2)),
        "audio_codec": pa.array(["aac"] * rows),
    }
    columns["width"] = np.arange(rows, dtype=np.int32) % 300 + 60
    paths = pa.array([f"ü{number}.mp4" for number in range(number_N[-1] + 1)])
    return assemble(columns, paths, number_N, SCHEMA)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("big") / "index"
    write_table(folder, table_of(ROWS), [], INFO)
    return folder


def test_opening_takes_no_memory_for_rows_and_no_time(big: Path) -> None:
    Index.open(big)
    tracemalloc.start()
    begin = time.perf_counter()
    index = Index.open(big)
    seconds, (_, peak) = time.perf_counter() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(index), index.num_videos) == (ROWS, ROWS // 3)
    assert peak < 1_000_000, (
        "a part of the file for its digest, some rows for a check, and no byte for each row"
    )
    assert seconds < 1
    assert index.path(ROWS - 1) == f"/videos/ü{ROWS // 3 - 1}.mp4"
    for name in ("video", "start_s", "seconds", "width", "file_bytes"):
        assert not getattr(index, name).flags.owndata, f"{name} is a copy"


def test_other_programs_read_the_table(big: Path) -> None:
    """As Arrow's IPC file, which is also called Feather."""
    index, table = Index.open(big), pyarrow.feather.read_table(big / "index.arrow")
    assert table.schema == SCHEMA
    for name in SCHEMA.names:
        if hasattr(index, name) and name != "path":
            np.testing.assert_array_equal(getattr(index, name), table[name].to_numpy())
    paths = table["path"].combine_chunks()
    assert index.original_names(np.arange(ROWS)).equals(paths.cast(pa.string()))
    np.testing.assert_array_equal(paths.indices.to_numpy(), index.video)
    assert set(table["video_codec"].unique().to_pylist()) == {"h264", "vp9"}


def test_an_order_is_the_one_that_numpy_draws() -> None:
    rows = np.arange(50, dtype=np.int32)
    found = shuffled(rows, (1, 2))
    assert found.dtype == np.int32
    assert np.array_equal(found, np.random.default_rng((1, 2)).permutation(50))


def test_no_list_of_batches_is_made() -> None:
    rows = shuffled(np.arange(1000), (1,))
    plan = Plan(lambda rows_B: [rows_B[::2], rows_B[1::2]], rows, 30, range(4, 33))
    parts = list(plan)
    assert (len(plan), plan.parts, len(parts), plan.num_rows) == (58, 2, 58, 870)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.sort(rows[120:990]))
    with pytest.raises(IndexError):
        plan[58]
    chunks = list(Chunks(rows, 30))
    assert [len(chunk) for chunk in chunks] == [30] * 33 + [10]
    assert np.array_equal(np.concatenate(chunks), rows)
    assert list(Chunks(rows[:0], 30)) == []


def test_a_run_of_a_large_index_begins_without_lists_and_without_wide_copies(big: Path) -> None:
    index, cfg = Index.open(big), preset_settings("small")
    clips = Clips(index, cfg.clip, cfg.data, seed=0)
    tracemalloc.start()
    train, heldout = clips.split(0.1)
    order = epoch_rows(train, {}, (0, 0), uniform=False)
    requests = [clips.request(int(row), 0) for row in order[:64]]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert train.dtype == heldout.dtype == order.dtype == np.int32
    assert len(train) + len(heldout) == ROWS
    assert len(requests) == 64
    assert peak < ROWS * 4 + ROWS * 4 + ROWS * 3 + ROWS // 3 * 26 + 5_000_000, (
        "numbers, the order, masks, files"
    )
    scale = cfg.clip.short_side_pixels / np.minimum(index.width, index.height)
    assert clips.cache_bytes() > (np.ceil(index.width * scale) * cfg.clip.short_side_pixels).sum()


def test_labels_of_several_row_groups_are_written_as_they_are(tmp_path: Path) -> None:
    labels = torch.arange(GROUP_ROWS + 5, dtype=torch.int32) % 7
    write_clusters(tmp_path, {"video": {"labels": labels, "centroids": torch.zeros(7, 2)}})
    table = pq.read_table(tmp_path / "labels.parquet")
    assert table.schema.types == [pa.int64(), pa.int32()]
    assert np.array_equal(table["row"].to_numpy(), np.arange(GROUP_ROWS + 5))
    assert np.array_equal(table["video"].to_numpy(), labels.numpy())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_nmi_is_that_of_scikit_learn(rows: int, k: int, other_k: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    one_N, other_N = (
        generator.integers(-1, width, rows).astype(np.int32) for width in (k, other_k)
    )
    both_N = (one_N >= 0) & (other_N >= 0)
    wanted = normalized_mutual_info_score(one_N[both_N], other_N[both_N])
    assert nmi(one_N, other_N) == pytest.approx(wanted, abs=1e-9)
    assert nmi(one_N, one_N) == pytest.approx(1.0)


def test_features_reach_the_disk_in_pieces_and_no_more_than_a_sample_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finishing, "MATCHING_ROWS", 100)
    rows, features_ND = np.setdiff1d(np.arange(1000), [3, 500]), torch.randn(1000, 4)
    sizes: list[int] = []

    def pieces() -> Iterator[tuple[np.ndarray, dict[str, torch.Tensor]]]:
        for some, part in gathered_rows(rows, {"video": features_ND[rows]}, at_once=64):
            sizes.append(len(some))
            yield some, part

    sample: list[Features] = []
    (tmp_path / "pieces").mkdir()
    (tmp_path / "whole").mkdir()
    write_features(tmp_path / "pieces", finishing.sampled(pieces(), 1000, sample), 1000)
    write_features(tmp_path / "whole", [(rows, {"video": features_ND[rows]})], 1000)
    files = [tmp_path / name / "video.npy" for name in ("pieces", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert np.isnan(np.load(files[0])).all(axis=1).nonzero()[0].tolist() == [3, 500]
    assert max(sizes) == 64
    assert sum(sizes) == 998
    kept = finishing.joined(sample)
    assert kept.rows.tolist() == [row for row in range(0, 1000, 10) if row != 500]
    assert torch.equal(kept.video, features_ND[kept.rows])
