"""Clusters and neighbours of new segments, against recomputation and brute force; names; other
programs' formats.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from media_files import write_media, write_wav
from seehear.data.index import Index
from seehear.errors import CheckpointError, MediaError, RunError, SettingsError, UsageError
from seehear.library import FORMATS, assign, embed, embed_to_file, export_labels, open_run, search
from seehear.library.searching import comparison_of
from seehear.library.trained import Trained, clusterings_of
from seehear.method.clusters import Space
from seehear.models.matching import Matching

NAMES = {
    "format": 1,
    "names": {"video": {"0": '<b>"rain" & [red]'}, "joint": {"1": "雨", "2": " "}},
}


@pytest.fixture(scope="module")
def run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run with names."""
    folder = tmp_path_factory.mktemp("named") / "run"
    shutil.copytree(finished_run, folder)
    (folder / "names.json").write_text(json.dumps(NAMES), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(run: Path) -> Trained:
    return open_run(run, device="cpu")


@pytest.fixture(scope="module")
def table(trained: Trained, index_folder: Path) -> pa.Table:
    """Planted features of 300 segments: random ones, some missing, some equal."""
    real = embed(trained.model, index_folder, workers=1)
    generator = np.random.default_rng(0)
    columns = {
        "path": [f"/v/{i}.mp4" for i in range(300)],
        "start_s": np.zeros(300),
        "seconds": np.ones(300),
    }
    for modality, missing in (("video", 7), ("audio", 11)):
        array = generator.random((300, 32)).astype(np.float16)
        array[20] = array[10]
        absent = np.arange(300) % missing == 3
        columns[modality] = pa.FixedSizeListArray.from_arrays(
            pa.array(array.reshape(-1)), 32, mask=pa.array(absent)
        )
    columns["reason"] = pa.nulls(300, pa.string())
    return pa.table({name: columns[name] for name in real.schema.names}, real.schema)


def rows_of(table: pa.Table, modality: str) -> np.ndarray:
    """Features as float64, NaN where there are none."""
    return np.array(
        [[np.nan] * 32 if v is None else v for v in table[modality].to_pylist()], dtype=np.float64
    )


def prepare(run: Path, name: str, parts: list[np.ndarray]) -> np.ndarray:
    """What is clustered, computed apart: centre, unit length, both joined, unit length."""
    tensors = load_file(run / "clusters" / "centroids.safetensors")
    scaled = []
    for i, part in enumerate(parts):
        x = part - tensors[f"{name}.space.{i}.mean"].numpy()
        scaled.append(x / np.linalg.norm(x, axis=1, keepdims=True))
    joined = np.concatenate(scaled, axis=1)
    return joined / np.linalg.norm(joined, axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["video", "audio", "joint"])
def test_assign_agrees_with_recomputation(run, table, name):
    labels = assign(run, table, device="cpu")
    parts = [rows_of(table, m) for m in (("video", "audio") if name == "joint" else (name,))]
    centroids = (
        load_file(run / "clusters" / "centroids.safetensors")[f"{name}.centroids"].double().numpy()
    )
    distances = np.linalg.norm(prepare(run, name, parts)[:, None] - centroids, axis=2)
    missing = np.isnan(distances).any(axis=1)
    assert 20 < missing.sum() < 100
    assert [v is None for v in labels[f"{name}_cluster"].to_pylist()] == missing.tolist()
    two = np.sort(distances[~missing], axis=1)[:, :2]
    found = labels.filter(pa.array(~missing))
    assert found[f"{name}_cluster"].to_pylist() == distances[~missing].argmin(axis=1).tolist()
    np.testing.assert_allclose(found[f"{name}_distance"], two[:, 0], atol=1e-4)
    np.testing.assert_allclose(found[f"{name}_margin"], two[:, 1] - two[:, 0], atol=1e-4)


def test_clusterings_come_by_space_and_from_few_clusters_to_many():
    names = ["joint_128", "joint_16", "video_8", "audio_64", "video_128", "joint_8"]
    space = Space.fit([torch.randn(9, 4)], "l2").state_dict()
    tensors = {f"{name}.space.{key}": value for name in names for key, value in space.items()}
    tensors |= {f"{name}.centroids": torch.zeros(8, 4) for name in names}
    wanted = ["video_8", "video_128", "audio_64", "joint_8", "joint_16", "joint_128"]
    assert list(clusterings_of(tensors)) == wanted


def test_training_rows_keep_their_clusters_and_one_in_a_hundred_is_far(run, trained, index_folder):
    labels = assign(trained, index_folder, workers=1)
    for name in trained.clusterings:
        same = np.mean(labels[f"{name}_cluster"].to_numpy() == trained.labels[name])
        assert same > 0.9, name
        assert sum(labels[f"{name}_far"].to_pylist()) <= 3


def test_radii_are_percentiles_of_training_distances_and_are_kept(run, trained):
    features = {
        m: np.load(run / "features" / f"{m}.npy").astype(np.float64) for m in ("video", "audio")
    }
    centroids = (
        load_file(run / "clusters" / "centroids.safetensors")["video.centroids"].double().numpy()
    )
    x = prepare(run, "video", [features["video"]])
    distances = np.linalg.norm(x - centroids[trained.labels["video"]], axis=1)
    everywhere = np.percentile(distances, 99)
    for k, radius in enumerate(trained.radii["video"].tolist()):
        members = distances[trained.labels["video"] == k]
        assert radius == pytest.approx(
            np.percentile(members, 99) if len(members) >= 20 else everywhere, abs=1e-3
        )
    assert (run / "clusters" / "radii.safetensors").exists()
    assert open_run(run).radii["video"].tolist() == trained.radii["video"].tolist()


def test_what_is_unlike_all_training_is_far(trained, table):
    clustering = trained.clusterings["audio"]
    # at a right angle to all centroids
    across = torch.linalg.svd(clustering.centroids_KD.double()).Vh[-1]
    strange = (clustering.space.parts[0].mean_D + 5 * across).half().repeat(30)
    column = pa.FixedSizeListArray.from_arrays(pa.array(strange.numpy()), 32)
    index = table.column_names.index("audio")
    rows = table.slice(0, 30).set_column(index, table.schema.field("audio"), column)
    assert all(assign(trained, rows)["audio_far"].to_pylist())


@pytest.fixture(scope="module")
def query(videos: Path) -> Path:
    return next(videos.rglob("*.mp4"))


@pytest.fixture(scope="module")
def asked(trained: Trained, query: Path) -> pa.Table:
    """Features of the query."""
    return embed(trained.model, query, workers=1)


@pytest.mark.parametrize("by", ["auto", "video", "audio"])
def test_search_within_a_modality_is_brute_force(
    run, trained, table, query, asked, monkeypatch, by
):
    name = "joint" if by == "auto" else by
    modalities = ("video", "audio") if name == "joint" else (name,)
    vector = prepare(run, name, [rows_of(asked, m) for m in modalities])[0]
    scores = prepare(run, name, [rows_of(table, m) for m in modalities]) @ vector
    order = [i for i in np.argsort(-scores, kind="stable") if not np.isnan(scores[i])]
    for block_rows, top in ((4096, 50), (7, 1000)):
        monkeypatch.setattr("seehear.library.gallery.BLOCK_ROWS", block_rows)
        hits = search(trained, query, table, by=by, top=top)
        assert len(hits) == min(top, len(order))
        rows = hits["row"].to_pylist()
        assert len(set(rows)) == len(rows)
        # twins change places where a build of PyTorch rounds otherwise
        np.testing.assert_allclose(scores[rows], scores[order[: len(rows)]], atol=1e-5)
        assert hits["rank"].to_pylist() == list(range(1, len(hits) + 1))
        np.testing.assert_allclose(hits["score"], scores[order[: len(hits)]], atol=1e-4)
        assert hits["path"].to_pylist() == [f"/v/{i}.mp4" for i in rows]
        assert set(hits["compared"].to_pylist()) == {f"{name} with {name}"}
    twins = [hits["row"].to_pylist().index(i) for i in (10, 20) if i in order]
    # blocks of other lengths round differently
    assert len(twins) < 2 or abs(twins[1] - twins[0]) == 1


@pytest.mark.parametrize(("use", "by"), [("audio", "video"), ("video", "audio")])
def test_search_across_modalities_is_matching(run, trained, table, query, asked, use, by):
    matching = Matching.from_state_dict(load_file(run / "encoders" / "matching.safetensors"))
    vector = torch.tensor(rows_of(asked, use), dtype=torch.float32)
    there = ~np.isnan(rows_of(table, by)).any(axis=1)
    gallery = torch.tensor(rows_of(table, by)[there], dtype=torch.float32)
    described = {use: matching.describe(use, vector), by: matching.describe(by, gallery)}
    scores = matching.scores(described["video"], described["audio"]).reshape(-1).numpy()
    hits = search(trained, query, table, by=by, use=use, top=10)
    order = np.argsort(-scores, kind="stable")[:10]
    np.testing.assert_allclose(hits["score"], scores[order], atol=1e-5)
    assert hits["row"].to_pylist() == np.flatnonzero(there)[order].tolist()
    assert hits["compared"][0].as_py() == f"{use} with {by}"


def test_hits_come_with_the_clusters_that_assign_gives_their_rows(trained, table, query):
    """From wherever in the gallery they are; and a gallery without the stream has no hits."""
    labels = assign(trained, table)
    hits = search(trained, query, table, by="video", top=200)
    assert hits["row"].to_pylist() != sorted(hits["row"].to_pylist())
    for name in trained.clusterings:
        wanted = labels[f"{name}_cluster"].take(hits["row"]).to_pylist()
        assert hits[f"{name}_cluster"].to_pylist() == wanted
    assert None in hits["joint_cluster"].to_pylist()
    mute = table.set_column(4, table.schema.field("audio"), pa.nulls(300, table["audio"].type))
    assert table.column_names[4] == "audio"
    assert len(search(trained, query, mute, by="audio")) == 0


def test_every_gallery_finds_a_video_itself_first(trained, index_folder, tmp_path):
    index = Index.open(index_folder)
    embed_to_file(trained.model, index, tmp_path / "f.parquet", workers=1)
    for gallery in (None, index_folder, index, tmp_path / "f.parquet"):
        hit = search(trained, index.path(5), gallery, top=1).to_pylist()[0]
        assert hit["path"] == index.path(5)
        assert hit["score"] == pytest.approx(1, abs=0.01)
        assert hit["video_cluster"] == trained.labels["video"][5]
        assert hit["joint_name"] == trained.names["joint"].get(hit["joint_cluster"])


def test_features_of_another_index_are_computed_once_and_kept(trained, videos, tmp_path):
    import seehear

    seehear.index([videos / "test"], tmp_path / "i", progress=False)
    query = next((videos / "test").rglob("*.mp4"))
    library = trained.path / "library"
    had = set(library.glob("*.parquet"))
    first = search(trained, query, tmp_path / "i", top=3)
    (kept,) = set(library.glob("*.parquet")) - had
    before = kept.stat().st_mtime_ns
    assert search(trained, query, tmp_path / "i", top=3).equals(first)
    assert kept.stat().st_mtime_ns == before
    assert Path(first["path"][0].as_py()).name == query.name


def test_faiss_finds_what_scoring_every_row_finds(trained, table, query, monkeypatch):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its wrapper, while it is imported
        pytest.importorskip("faiss")
    exact = search(trained, query, table, by="video", exact=True)
    monkeypatch.setattr("seehear.library.searching.FAISS_ROWS", 10)
    for _ in range(2):  # built, then found
        near = search(trained, query, table, by="video")
        assert near["row"].to_pylist()[:5] == exact["row"].to_pylist()[:5]
        np.testing.assert_allclose(near["score"], exact["score"], atol=2e-3)


def test_queries_may_be_a_sound_a_mute_video_or_a_picture(trained, table, tmp_path):
    sound = search(trained, write_wav(tmp_path / "s.wav", 1.0), table, top=3)
    assert sound["compared"][0].as_py() == "audio with audio"
    mute = write_media(tmp_path / "m.mp4", seconds=2.0, audio_codec=None)
    assert search(trained, mute, table, top=3)["compared"][0].as_py() == "video with video"
    assert (
        search(trained, mute, table, top=3, by="audio")["compared"][0].as_py() == "video with audio"
    )


@pytest.mark.parametrize(
    ("name", "codec", "pixels"), [("p.jpg", "mjpeg", "yuvj444p"), ("%03d.png", "png", "rgb24")]
)
def test_a_picture_is_a_clip_in_which_nothing_moves(trained, table, tmp_path, name, codec, pixels):
    picture = np.random.default_rng(0).integers(0, 256, (36, 60, 3)).astype(np.uint8)
    picture = picture.repeat(4, 0).repeat(4, 1)
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = picture.shape[1], picture.shape[0], pixels
    encoder.time_base = 1
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
    (tmp_path / name).write_bytes(
        b"".join(bytes(p) for p in [*encoder.encode(frame), *encoder.encode(None)])
    )
    from seehear.library.querying import features_of_query

    found = features_of_query(trained.model, tmp_path / name)["video"]
    with av.open(tmp_path / name) as opened:  # JPEG loses something
        shown = next(opened.decode(video=0)).reformat(format="rgb24", interpolation="BICUBIC")
    small = shown.reformat(60, 36, "rgb24", interpolation="BICUBIC")
    square = torch.from_numpy(small.to_ndarray()[2:34, 14:46].copy()).permute(2, 0, 1)
    wanted = trained.model.video(square[None, :, None].repeat(1, 1, 4, 1, 1))
    if codec == "png":
        torch.testing.assert_close(found, wanted)
    assert torch.nn.functional.cosine_similarity(found, wanted) > 0.99
    assert len(search(trained, tmp_path / name, table, top=2)) == 2


def test_what_is_no_query_is_a_clear_error(trained, table, tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        search(trained, tmp_path / "none.mp4", table)
    (tmp_path / "e.mp4").write_bytes(b"")
    with pytest.raises(MediaError, match="empty file"):
        search(trained, tmp_path / "e.mp4", table)
    (tmp_path / "p.jpg").write_bytes(b"\xff\xd8\xff" + bytes(100))
    with pytest.raises(MediaError, match="unreadable"):
        search(trained, tmp_path / "p.jpg", table)
    sound = write_wav(tmp_path / "s.wav", 1.0)
    with pytest.raises(UsageError, match=r"The query has no video.*--use"):
        search(trained, sound, table, use="video")
    with pytest.raises(SettingsError, match="top is 0"):
        search(trained, sound, table, top=0)
    with pytest.raises(UsageError, match=r"does not exist.*seehear embed"):
        search(trained, sound, tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["start_s", "seconds"])
def test_a_hit_without_a_time_is_refused(trained, table, videos, name):
    at, query = table.column_names.index(name), sorted(videos.rglob("*.mp4"))[0]
    for none in (float("nan"), float("inf"), None):
        times = pa.array([none] * len(table), pa.float64())
        with pytest.raises(UsageError, match="without path, start_s or seconds"):
            search(trained, query, table.set_column(at, name, times))


def test_features_of_other_encoders_are_refused(trained, table, tmp_path):
    other = table.replace_schema_metadata({**table.schema.metadata, b"model": b"0123456789ab"})
    with pytest.raises(UsageError, match="other encoders"):
        assign(trained, other)
    with pytest.raises(UsageError, match="no features"):
        assign(trained, table.replace_schema_metadata(None))
    (tmp_path / "x.parquet").write_bytes(b"x")
    with pytest.raises(UsageError, match="cannot be read"):
        assign(trained, tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("query", "gallery", "by", "use", "is_"),
    [
        (("audio",), ("video", "audio"), "auto", "auto", "audio with audio"),
        (("audio",), ("video",), "auto", "auto", "audio with video"),
        (("video", "audio"), ("video", "audio"), "auto", "audio", "audio with audio"),
        (("video", "audio"), ("video",), "auto", "audio", "audio with video"),
        (("video", "audio"), ("video", "audio"), "auto", "auto", "joint with joint"),
        (("video", "audio"), ("audio",), "auto", "auto", "audio with audio"),
    ],
)
def test_what_is_compared_with_what(query, gallery, by, use, is_):
    assert str(comparison_of(query, gallery, by, use)) == is_


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "Expecting property name"),
        ("[]", "it is not"),
        ('{"format": 2, "names": {}}', "it is not"),
        ('{"format": 1}', "it is not"),
        ('{"format": 1, "names": {"smell": {}}}', "'smell' is no clustering"),
        ('{"format": 1, "names": {"video": []}}', "names of 'video' are no object"),
        ('{"format": 1, "names": {"video": {"four": "x"}}}', "'four' is no number of a cluster"),
        (
            '{"format": 1, "names": {"video": {"4": "x"}}}',
            "video has clusters 0 to 3, and 4 is named",
        ),
        ('{"format": 1, "names": {"video": {"1": 7}}}', "name of video 1 is not a text"),
    ],
)
def test_malformed_names_are_a_clear_error(run, tmp_path, content, says):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "names.json").write_text(content)
    with pytest.raises(RunError, match=r"names\.json cannot be read") as error:
        open_run(copy)
    assert says in str(error.value)
    (copy / "names.json").unlink()
    assert open_run(copy).names == {"video": {}, "audio": {}, "joint": {}}


def test_names_are_in_labels(trained, table):
    labels = assign(trained, table)
    for row in labels.to_pylist():
        assert row["video_name"] == ('<b>"rain" & [red]' if row["video_cluster"] == 0 else None)
        # a name of blanks is none
        assert row["joint_name"] == ("雨" if row["joint_cluster"] == 1 else None)


def test_a_run_that_is_none_or_damaged_is_a_clear_error(run, tmp_path):
    with pytest.raises(RunError, match="is no run"):
        open_run(tmp_path)
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "clusters" / "centroids.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="cannot be read"):
        open_run(copy)
    shutil.rmtree(copy / "clusters")
    with pytest.raises(RunError, match="has not finished"):
        open_run(copy)


@pytest.mark.parametrize("to", [to for to in FORMATS if to != "classes"])
def test_exports_hold_every_segment_with_its_clusters(trained, index_folder, tmp_path, to):
    index, out = Index.open(index_folder), tmp_path / f"x.{to}"
    assert export_labels(trained, to, out)["segments"] == len(index) == 40
    with pytest.raises(UsageError, match=r"exists.*--overwrite"):
        export_labels(trained, to, out)
    export_labels(trained, to, out, overwrite=True)
    clusters = {name: labels.tolist() for name, labels in trained.labels.items()}
    if to in ("csv", "parquet"):
        rows = (
            list(csv.DictReader(out.read_text().splitlines()))
            if to == "csv"
            else pq.read_table(out).to_pylist()
        )
        assert [row["path"] for row in rows] == [index.path(row) for row in range(40)]
        assert [int(row["audio_cluster"]) for row in rows] == clusters["audio"]
        assert {row["video_name"] or None for row in rows} == {None, '<b>"rain" & [red]'}
        return
    if to == "jsonl":
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        found = [os.path.normpath(tmp_path / line["file_name"]) for line in lines]
        assert found == [index.path(row) for row in range(40)]
        assert [line["audio_cluster"] for line in lines] == clusters["audio"]
        return
    if to == "features":
        table = pq.read_table(out)
        for modality, part_ND in trained.features.items():
            column = table[f"embedding_{modality}"]
            assert column.type == pa.list_(pa.float32(), part_ND.shape[1])
            np.testing.assert_array_equal(np.stack(column.to_numpy()), part_ND)
        assert table["joint_cluster"].to_pylist() == clusters["joint"]
        assert table["path"].to_pylist() == [index.path(row) for row in range(40)]
        seconds, name = index.seconds[7], os.path.relpath(index.path(7), index.info["root"])
        assert table["id"][7].as_py() == f"{name}#t=0.0,{round(float(seconds), 6)}"
        assert len(set(table["id"].to_pylist())) == 40
        return
    if to == "fiftyone":
        labels = json.loads((out / "joint" / "labels.json").read_text())["labels"]
        found = [
            (path, *entry["timestamps"], entry["attributes"]["cluster"])
            for path in labels
            for entry in labels[path]
        ]
        places = [
            (index.path(r), index.start_s[r], index.start_s[r] + index.seconds[r])
            for r in range(40)
        ]
        assert found == [(*place, k) for place, k in zip(places, clusters["joint"], strict=True)]
        assert {e["label"] for es in labels.values() for e in es} >= {"雨"}
        return
    tree = ElementTree.parse(out / "config.xml")
    assert '<b>"rain" & [red]' in {label.get("value") for label in tree.iter("Label")}
    controls = {tag.get("name") for tag in tree.iter("TimelineLabels")}
    tasks = json.loads((out / "tasks.json").read_text())
    regions = [region for task in tasks for region in task["predictions"][0]["result"]]
    assert len(tasks) == 40
    assert {region["from_name"] for region in regions} == controls
    assert len(regions) == 120
    assert regions[0]["value"]["ranges"] == [
        {"start": 1, "end": round(index.seconds[0] * index.fps[0])}
    ]
    assert tasks[0]["data"]["video"].startswith("/data/local-files/?d=")


@pytest.mark.parametrize("embedding", ["video", "joint"])
def test_one_embedding_is_what_other_programs_take(trained, tmp_path, embedding):
    out = tmp_path / "one.parquet"
    export_labels(trained, "features", out, embedding=embedding)
    table = pq.read_table(out)
    assert [name for name in table.column_names if "embedding" in name] == ["embedding"]
    found = np.stack(table["embedding"].to_numpy())
    features = {m: torch.from_numpy(np.array(x, np.float32)) for m, x in trained.features.items()}
    wanted = features["video"] if embedding == "video" else trained.unit_vectors("joint", features)
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(UsageError, match="embedding is 'smell'"):
        export_labels(trained, "features", tmp_path / "x", embedding="smell")
    with pytest.raises(UsageError, match="It is for --to features"):
        export_labels(trained, "csv", tmp_path / "x", embedding="video")


def test_pandas_and_datasets_and_lance_open_what_is_written(trained, index_folder, tmp_path):
    export_labels(trained, "features", tmp_path / "features.parquet")
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(tmp_path / "features.parquet")
    assert np.stack(frame["embedding_audio"]).shape == trained.features["audio"].shape
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_parquet(str(tmp_path / "features.parquet"))
    assert rows[3]["audio_cluster"] == int(trained.labels["audio"][3])
    lancedb = pytest.importorskip("lancedb")
    table = lancedb.connect(tmp_path / "db").create_table(
        "clips", pq.read_table(tmp_path / "features.parquet")
    )
    query = np.array(trained.features["audio"][3], np.float32)
    best = table.search(query, vector_column_name="embedding_audio").limit(1).to_arrow()
    assert best["id"][0].as_py() == frame["id"][3]


def test_an_export_overwrites_nothing_but_exports(trained, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is no export"):
        export_labels(trained, "fiftyone", tmp_path / "x", overwrite=True)
    assert (tmp_path / "x" / "thesis.txt").read_text() == "years of work"
    with pytest.raises(SettingsError, match="no format 'excel'"):
        export_labels(trained, "excel", tmp_path / "y")
    with pytest.raises(UsageError, match="not below"):
        export_labels(trained, "label-studio", tmp_path / "y", root=tmp_path)
    assert not (tmp_path / "y").exists()


def test_an_index_that_has_vanished_is_a_clear_error(run, videos, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    record = json.loads((copy / "run.json").read_text())
    record["index"] |= {"path": "gone", "absolute": str(tmp_path / "gone")}
    (copy / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"is not there.*--in"):
        search(copy, next(videos.rglob("*.mp4")))


def test_spaces_without_unit_length_are_compared_by_cosine_too(trained, table):
    plain = Space.fit([torch.zeros(2, 32)], "none")
    clustering = trained.clusterings["video"]
    bare = type(clustering)("video", plain, clustering.centroids_KD)
    other = Trained(trained.run, trained.model, {"video": bare}, trained.names)
    lengths = other.unit_vectors("video", {"video": torch.rand(5, 32)}).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(5))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_give_no_clusters_and_no_neighbours(
    finished_run: Path, index_folder: Path, tmp_path: Path, value: float
) -> None:
    """Of a file of features, of a run, and of encoders."""
    shutil.copytree(finished_run, tmp_path / "run")
    trained = open_run(tmp_path / "run")
    embed_to_file(trained.model, index_folder, tmp_path / "f.parquet", workers=1)
    table = pq.read_table(tmp_path / "f.parquet")
    features = table["audio"].combine_chunks()
    numbers = features.values.to_numpy().copy()
    numbers[5 * features.type.list_size + 3] = value
    wrong = pa.FixedSizeListArray.from_arrays(
        pa.array(numbers, features.type.value_type), features.type.list_size
    )
    wrong = wrong.cast(features.type)
    place = table.schema.get_field_index("audio")
    pq.write_table(
        table.set_column(place, table.schema.field(place), wrong), tmp_path / "f.parquet"
    )
    query = trained.index().path(0)
    shutil.copy(tmp_path / "f.parquet", tmp_path / "f")
    with pytest.raises(UsageError, match="f: the audio features of row 5"):  # features by any name
        assign(trained, tmp_path / "f")
    for what in (
        lambda: assign(trained, tmp_path / "f.parquet"),
        lambda: search(trained, query, tmp_path / "f.parquet", by="audio"),
    ):
        with pytest.raises(
            UsageError, match=r"f\.parquet: the audio features of row 5.*NaN or infinite"
        ):
            what()
    array = np.load(tmp_path / "run" / "features" / "video.npy", mmap_mode="r+")
    array[3, 2] = value
    array.flush()
    with pytest.raises(UsageError, match=r"video\.npy: the video features of row 3"):
        search(open_run(tmp_path / "run"), query, by="video")
