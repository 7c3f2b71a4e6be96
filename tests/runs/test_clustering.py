"""A run without training: whatever reads a run reads the clusters of encoders as they are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import seehear
from command_here import command
from seehear.data.index import Index
from seehear.data.parts import parts_of
from seehear.errors import RunError, UsageError
from seehear.library import open_run
from seehear.machine.console import Console
from seehear.runs import extraction

pytest.importorskip("transformers", reason="pip install 'seehear[hf]'")

HOW = {"workers": 0, "device": "cpu", "console": Console(quiet=True)}


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Path:
    from tiny_networks import tiny_networks

    os.environ["HF_HUB_OFFLINE"] = "1"
    return tiny_networks(tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def both(networks, index_folder, tmp_path_factory) -> Path:
    """Clusters by a VideoMAE and an AST, which are gone by now."""
    folder = tmp_path_factory.mktemp("both")
    for name in ("videomae", "ast"):
        shutil.copytree(networks / name, folder / name)
    names = [f"hf:{folder}/videomae", f"hf:{folder}/ast"]
    seehear.cluster(index_folder, folder / "run", names, num_clusters=[4], **HOW)
    for name in ("videomae", "ast"):
        shutil.rmtree(folder / name)
    return folder / "run"


@pytest.fixture(scope="module")
def heard(networks, index_folder, tmp_path_factory) -> Path:
    """Clusters by a CLAP, which has no eyes."""
    folder = tmp_path_factory.mktemp("heard") / "run"
    seehear.cluster(index_folder, folder, f"hf:{networks}/clap", **HOW)
    return folder


def test_rows_and_new_files_go_to_the_same_clusters(both, index_folder):
    trained = open_run(both, device="cpu")
    assert list(trained.clusterings) == ["video", "audio", "joint"]
    labels = seehear.assign(trained, Index.open(index_folder), workers=1)
    for name, labels_N in trained.labels.items():
        assert set(labels_N) == set(range(4))
        assert np.mean(np.array(labels[f"{name}_cluster"]) == labels_N) >= 0.95  # float16
    features = seehear.embed(trained.model, Index.open(index_folder), workers=1)
    for modality, part_ND in trained.features.items():
        again = np.stack(features[modality].to_pylist())
        np.testing.assert_allclose(again, part_ND, rtol=2e-3, atol=2e-3)


def test_features_that_were_extracted_are_kept_over_a_kill(
    networks, index_folder, tmp_path, monkeypatch
):
    encoder, out = f"hf:{networks}/clap", tmp_path / "run"
    monkeypatch.setattr(extraction, "ROWS_A_GROUP", 8)
    whole = seehear.cluster(index_folder, tmp_path / "whole", encoder, num_clusters=[4], **HOW)
    asked, usual = [], extraction.extract

    def dying(*of, rows: np.ndarray, **how):
        asked.append(int(rows[0]))
        if asked == [0, 8]:
            raise KeyboardInterrupt
        return usual(*of, rows=rows, **how)

    monkeypatch.setattr(extraction, "extract", dying)
    for ended in (True, False):
        with pytest.raises(KeyboardInterrupt) if ended else nullcontext():
            seehear.cluster(index_folder, out, encoder, num_clusters=[4], **HOW)
        assert out.exists() is not ended
        assert parts_of(out).exists() is ended
    assert asked[2:] == list(range(8, len(Index.open(index_folder)), 8))
    for name in ("features/audio.npy", "clusters/labels.parquet"):
        assert (out / name).read_bytes() == (whole.path / name).read_bytes()


def test_sights_and_sounds_are_compared_by_their_clusters(both, videos):
    query = sorted(videos.rglob("*.mp4"))[0]
    hits = seehear.search(both, query, use="audio", by="video", top=40, device="cpu")
    assert hits["compared"][0].as_py() == "audio with video"
    trained = open_run(both, device="cpu")
    ours = trained.labels["audio"][0]
    counts = trained.model.matching.counts["video", "audio"]
    likeliest = int((counts / counts.sum(1, keepdim=True))[:, ours].argmax())
    assert hits["video_cluster"][0].as_py() == likeliest


def test_an_encoder_of_one_sense_gives_its_clusters_alone(heard, videos, tmp_path):
    assert list(open_run(heard, device="cpu").clusterings) == ["audio"]
    assert not (heard / "encoders" / "matching.safetensors").exists()
    names = pq.read_table(heard / "clusters" / "labels.parquet").column_names
    assert names == ["row", "audio"]
    seehear.export_labels(heard, "csv", tmp_path / "labels.csv")
    assert "video" not in (tmp_path / "labels.csv").read_text().split("\n")[0]
    query = sorted(videos.rglob("*.mp4"))[3]
    hits = seehear.search(heard, query, top=3, device="cpu")
    assert hits["path"][0].as_py() == str(query)
    with pytest.raises(UsageError, match="The gallery has no video, only audio"):
        seehear.search(heard, query, by="video", device="cpu")


@pytest.mark.parametrize("name", ["both", "heard"])
def test_the_report_says_that_nothing_was_trained(name, request, tmp_path):
    folder = request.getfixturevalue(name)
    console = Console(quiet=True)
    built = seehear.report(folder, out=tmp_path / "page", previews=0, console=console)
    assert built.verdict == "not trained"
    text = (tmp_path / "page" / "data" / "report.js").read_text()
    assert json.loads((folder / "run.json").read_text())["encoder"] in text


def test_classes_are_compared_with_the_clusters_of_a_run(both, index_folder, videos, tmp_path):
    given = {"data": index_folder, "classes": videos / "classes.csv", "device": "cpu"}
    given |= {"results": tmp_path, "console": Console(quiet=True)}
    result = seehear.evaluate(both, task="clusters", **given)
    assert list(result["values"]) == ["video", "audio", "joint"]
    assert result["values"]["video"]["num_clusters"] == 4


def test_a_run_is_clustered_anew_by_its_own_encoders(finished_run, index_folder, tmp_path):
    seehear.cluster(index_folder, tmp_path / "run", finished_run, num_clusters=[3, 5], **HOW)
    ours, theirs = (open_run(x, device="cpu") for x in (tmp_path / "run", finished_run))
    assert ours.model.digest == theirs.model.digest
    assert list(ours.clusterings)[:2] == ["video_3", "video_5"]
    for modality, part_ND in ours.features.items():
        np.testing.assert_array_equal(part_ND, theirs.features[modality])


def test_what_does_not_fit_is_refused(networks, both, finished_run, index_folder, tmp_path):
    eyes = f"hf:{networks}/videomae"
    with pytest.raises(UsageError, match="vjepa2 gives nothing"):
        seehear.cluster(index_folder, tmp_path / "x", [eyes, f"hf:{networks}/vjepa2"], **HOW)
    with pytest.raises(RunError, match="or replace it with --overwrite"):
        seehear.cluster(index_folder, both, eyes, **HOW)
    own = {"overwrite": True} | HOW
    with pytest.raises(RunError, match="which is to be read"):
        seehear.cluster(index_folder, both, both / "encoders", **own)
    with pytest.raises(UsageError, match="more than the 40 rows"):
        seehear.cluster(index_folder, tmp_path / "x", eyes, num_clusters=[41], **HOW)
    with pytest.raises(RunError, match="there is no training to go on with"):
        seehear.pretrain(index_folder, both, resume=True, console=Console(quiet=True))
    assert not (tmp_path / "x").exists()


def test_damage_is_answered_with_how_to_make_it_anew(heard, tmp_path):
    shutil.copytree(heard, tmp_path / "run")
    (tmp_path / "run" / "clusters" / "centroids.safetensors").write_bytes(b"nothing")
    with pytest.raises(Exception, match="Make it anew: seehear cluster with --overwrite"):
        open_run(tmp_path / "run", device="cpu")


def test_the_command_says_what_comes_next(networks, index_folder, tmp_path, monkeypatch, capsys):
    words = ("--encoder", f"hf:{networks}/ast", "--out", tmp_path / "r", "--workers", 1, "--quiet")
    assert command(monkeypatch, "cluster", index_folder, *words) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{tmp_path}/r: 40 segments in 2 clusters by hf:{networks}/ast, ")
    assert f"seehear report {tmp_path}/r --open" in printed.out
    assert printed.err == ""


@pytest.mark.thorough
def test_two_ranks_find_what_one_finds(networks, both, index_folder, tmp_path):
    names = [f"--encoder=hf:{networks}/{name}" for name in ("videomae", "ast")]
    words = ["cluster", index_folder, "--out", tmp_path / "run", "--num-clusters", 4, *names]
    ranks = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "seehear"]
    subprocess.run([sys.executable, *ranks, *map(str, words)], check=True, timeout=300)
    for modality in ("video", "audio"):
        one, two = (np.load(x / "features" / f"{modality}.npy") for x in (both, tmp_path / "run"))
        np.testing.assert_array_equal(one, two)
    assert list(open_run(tmp_path / "run", device="cpu").clusterings) == ["video", "audio", "joint"]
