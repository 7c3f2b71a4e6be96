from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from seehear.data import remote
from seehear.errors import CheckpointError, RunError, StorageError
from seehear.machine.files import TEMPORARY, atomic_file, whole_folder
from seehear.machine.outputs import ROUND, check_place
from seehear.models.fetching import weights_folder
from seehear.runs.checkpoint import KEPT, newest, parse, read_state, save_round
from seehear.runs.folder import Run


def a_state(number: int) -> dict:
    labels, centroids = torch.arange(6, dtype=torch.int32) % 3, torch.randn(3, 2)
    return {
        "number": number,
        "last": {"video": {"labels": labels, "centroids": centroids}},
        "pair": {},
    }


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(ValueError, match="stop"), whole_folder(tmp_path / "a") as folder:  # noqa: PT012
        (folder / "half").write_text("x")
        raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []
    with whole_folder(tmp_path / "a") as folder:
        (folder / "file").write_text("x")
        assert not (tmp_path / "a").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    with (
        pytest.raises(ValueError, match="stop"),
        whole_folder(tmp_path / "a", replaces=ROUND) as folder,
    ):
        raise ValueError("stop")
    assert (tmp_path / "a" / "file").read_text() == "x"
    with whole_folder(tmp_path / "a", replaces=ROUND) as folder:
        (folder / "round.json").write_text("{}")
    # what is not ours is kept
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"file", "round.json"}


def test_a_file_is_replaced_whole_or_stays(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(ValueError, match="stop"), atomic_file(path) as temporary:  # noqa: PT012
        temporary.write_text("ne")
        raise ValueError("stop")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_an_existing_run_names_resume_and_overwrite_and_stays(tmp_path):
    Run.create(tmp_path / "run", {"settings": {}})
    (tmp_path / "run" / "names.json").write_text("{}")
    with pytest.raises(RunError, match=r"--resume.*--overwrite"):
        Run.create(tmp_path / "run", {})
    assert (tmp_path / "run" / "names.json").exists()
    Run.create(tmp_path / "run", {"settings": {"seed": 1}}, overwrite=True)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["run.json"]
    assert Run.open(tmp_path / "run").record["settings"] == {"seed": 1}


def test_a_folder_that_is_no_run_is_never_overwritten(tmp_path):
    (tmp_path / "holiday.mp4").write_text("x")
    with pytest.raises(RunError, match="nothing was touched"):
        Run.create(tmp_path, {}, overwrite=True)
    assert (tmp_path / "holiday.mp4").exists()


def test_opening_what_is_no_run_or_a_newer_one_says_so(tmp_path):
    with pytest.raises(RunError, match=r"has no run\.json"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"format": 99, "seehear": "9.0"}))
    with pytest.raises(RunError, match=r"format 99.*9\.0"):
        Run.open(tmp_path)


def test_rounds_come_back_and_old_checkpoints_go(tmp_path):
    run = Run.create(tmp_path / "run", {})
    for number in range(4):
        save_round(run, number, a_state(number), {"round": number})
    assert run.rounds() == [0, 1, 2, 3]
    assert [(run.round_path(n) / "checkpoint.pt").exists() for n in range(4)] == [False] * (
        4 - KEPT
    ) + [True] * KEPT
    assert all((run.round_path(n) / "labels.parquet").exists() for n in range(4))
    number, _, data = newest(run)
    state = parse(data)
    assert number == state["number"] == 3
    assert torch.equal(state["last"]["video"]["labels"], a_state(3)["last"]["video"]["labels"])


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_checkpoint_is_found_and_the_one_before_is_taken(tmp_path, damage):
    run = Run.create(tmp_path / "run", {})
    for number in range(2):
        save_round(run, number, a_state(number), {"round": number})
    path = run.round_path(1) / "checkpoint.pt"
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        read_state(run.round_path(1))
    assert newest(run)[0] == 0
    (run.round_path(0) / "checkpoint.pt").unlink()
    with pytest.raises(CheckpointError, match="--overwrite"):
        newest(run)


def test_a_checkpoint_with_code_is_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return (print, ("code ran",))

    run = Run.create(tmp_path / "run", {})

    def save_and_read() -> None:
        save_round(run, 0, {**a_state(0), "attack": Attack()}, {"round": 0})
        read_state(run.round_path(0))

    with pytest.raises(CheckpointError, match=r"tensors and data .*Unsupported global"):
        save_and_read()


def test_the_log_is_cut_back_to_the_round_that_is_gone_on_from(tmp_path):
    run = Run.create(tmp_path / "run", {})
    for number in range(3):
        save_round(run, number, a_state(number), {"round": number})
        if number != 1:  # a crash between a round and its line
            run.log({"round": number})
    with (run.path / "log.jsonl").open("a") as file:
        file.write('{"round": 3, "lo')  # a crash while writing
    assert [entry["round"] for entry in run.read_log()] == [0, 2]
    (run.path / "rounds" / f"{TEMPORARY}003-77").mkdir()
    run.forget_after(1)
    assert run.read_log() == [{"round": 0}, {"round": 1}]
    assert sorted(p.name for p in (run.path / "rounds").iterdir()) == ["000", "001"]
    run.log({"round": 2})
    assert [entry["round"] for entry in run.read_log()] == [0, 1, 2]


def test_files_have_the_permissions_that_the_umask_gives(tmp_path):
    (tmp_path / "plain").touch()
    usual = (tmp_path / "plain").stat().st_mode
    with whole_folder(tmp_path / "folder") as folder:
        save_file({"x": torch.zeros(1)}, folder / "a.safetensors")
    with atomic_file(tmp_path / "b.safetensors") as temporary:
        save_file({"x": torch.zeros(1)}, temporary)
    assert (tmp_path / "folder" / "a.safetensors").stat().st_mode == usual
    assert (tmp_path / "b.safetensors").stat().st_mode == usual


@pytest.mark.parametrize("home", ["/dev/null/x", None])
def test_who_has_no_home_gets_a_folder_of_his_own(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No home at all, as of a container's user whom the system does not know, or one where nothing
    can be made.
    """

    def unknown(number: int) -> None:
        raise KeyError(number)

    for name in ("SEEHEAR_HOME", "SEEHEAR_CACHE", "HOME"):
        monkeypatch.delenv(name, raising=False)
    if home:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for folder in (weights_folder(), remote.cache_folder()):
        assert folder.parent == tmp_path / f"seehear-{os.getuid()}"
        assert folder.parent.stat().st_mode & 0o777 == 0o700
    check_place(tmp_path / "run", "Choose another.")
    folder.parent.rmdir()
    folder.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="SEEHEAR_HOME"):
        weights_folder()
    monkeypatch.setenv("SEEHEAR_HOME", str(tmp_path / "mine"))
    assert weights_folder() == tmp_path / "mine" / "weights"
