"""Ray does the groups as one process does: the same bytes, on several nodes, of which one dies."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import seehear
from media_files import write_media
from seehear.data.on_ray import ENVIRONMENT
from seehear.data.parts import Engine, parts_of
from seehear.errors import UsageError
from seehear.library import embed_to_file


def content(out: Path) -> dict[str, bytes]:
    """All bytes of a file or folder but for index.json, which says when it was made."""
    files = [out] if out.is_file() else [p for p in out.rglob("*") if p.is_file()]
    return {p.name if out.is_dir() else "": p.read_bytes() for p in files if p.suffix != ".json"}


def test_engines_have_names_and_ray_may_be_missing(monkeypatch, tmp_path):
    assert Engine.parse("local") == Engine(None)
    assert Engine.parse("ray") == Engine("")
    assert Engine.parse("ray:head:6379") == Engine("head:6379")
    assert (Engine.parse("ray").workers(None), Engine.parse("ray").workers(3)) == (1, 3)
    for wrong in ("", "spark", "local:", "rays"):
        with pytest.raises(UsageError, match="local or ray"):
            Engine.parse(wrong)
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    write_media(tmp_path / "a.mp4", seconds=1.0)
    with pytest.raises(UsageError, match=r"pip install 'seehear\[ray\]'"):
        seehear.index(tmp_path, tmp_path / "index", engine="ray", progress=False)


def test_an_address_without_a_cluster_is_said_at_once(tmp_path):
    pytest.importorskip("ray")
    write_media(tmp_path / "a.mp4", seconds=1.0)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(UsageError, match=f"no Ray at 127.0.0.1:{port} .*ray start --head"):
        seehear.index(tmp_path, tmp_path / "index", engine=f"ray:127.0.0.1:{port}", progress=False)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight tiny videos, and a file that is none."""
    folder = tmp_path_factory.mktemp("few") / "videos"
    folder.mkdir()
    for number in range(8):
        write_media(folder / f"{number}.mp4", seconds=1.0 + 0.2 * number, size=(64, 48))
    (folder / "text.mp4").write_text("no video at all")
    return folder


def index(videos: Path, out: Path, engine: str) -> None:
    """An index; a group a file, and a decoding process a group."""
    seehear.index(videos, out, engine=engine, workers=1, progress=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_on_this_machine_makes_the_bytes_of_one_process(
    few, finished_run, tmp_path, monkeypatch
):
    pytest.importorskip("ray")
    monkeypatch.setattr("seehear.data.index.looking.FILES_A_GROUP", 3)
    monkeypatch.setattr("seehear.library.sources.FILES_A_GROUP", 3)
    monkeypatch.chdir(tmp_path)  # processes of Ray are elsewhere
    for engine in ("local", "ray"):
        made = Path(engine)
        index(few, made / "index", engine)
        seehear.pack(
            "local/index", made / "packed", engine=engine, preset="debug", shard_segments=4
        )
        features = made / "features.parquet"
        embed_to_file(finished_run, few, features, engine=engine, workers=1, device="cpu")
    for name in ("index", "packed", "features.parquet"):
        assert content(Path("ray", name)) == content(Path("local", name)), name
        assert not parts_of(Path("ray", name)).exists()


@pytest.fixture
def cluster(monkeypatch) -> Iterator[Any]:
    """Three nodes on this machine: a head without cores for groups, and two with one each."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    how: dict[str, Any] = {"object_store_memory": 100 * 1024**2, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **how})
    for _ in range(2):
        found.add_node(num_cpus=1, **how)
    yield found
    found.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.parametrize("what", ["index", "embed", "pack"])
def test_a_node_that_dies_costs_no_byte(what, cluster, few, request, tmp_path, monkeypatch):
    """A node is killed when some groups are done and others under way; that which is left goes on
    alone.
    """
    monkeypatch.setattr("seehear.data.index.looking.FILES_A_GROUP", 1)
    monkeypatch.setattr("seehear.library.sources.FILES_A_GROUP", 1)
    run = request.getfixturevalue("finished_run") if what == "embed" else None
    if what == "pack":
        index(few, tmp_path / "of-few", "local")

    def make(out: Path, engine: str) -> None:
        if what == "index":
            index(few, out, engine)
        elif what == "embed":
            embed_to_file(run, few, out, engine=engine, workers=1, device="cpu")
        else:
            how: dict[str, Any] = {"preset": "debug", "shard_segments": 1, "workers": 1}
            seehear.pack(tmp_path / "of-few", out, engine=engine, **how)

    ending = ".parquet" if what == "embed" else ""
    local, out = (tmp_path / f"{name}{ending}" for name in ("local", "on-ray"))
    groups = out / ".packing" if what == "pack" else parts_of(out)
    make(local, "local")
    work = threading.Thread(target=make, args=(out, f"ray:{cluster.address}"))
    work.start()
    until = time.monotonic() + 240
    while not list(groups.glob("0*.parquet")) and time.monotonic() < until:
        time.sleep(0.02)
    victim = next(node for node in cluster.list_all_nodes() if not node.head)
    cluster.remove_node(victim, allow_graceful=False)
    done = len(list(groups.glob("0*.parquet")))
    assert 0 < done < 8, "a node was not killed in the middle"
    work.join()
    assert content(out) == content(local)
