from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from seehear.config import Clip
from seehear.errors import CheckpointError, SeehearError, UsageError
from seehear.machine.console import Console
from seehear.models.fetching import fetch, weights_folder
from seehear.models.released import Released

CONTENT = bytes(range(256)) * 12_000  # 3 MB
QUIET = Console(quiet=True)


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; each request takes the next fault from the server's list, or none when it is
    empty.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        fault = server.faults.pop(0) if server.faults else ""
        wanted = self.headers.get("Range")
        server.requests.append((fault, wanted))
        if fault.isdigit():
            self.send_response(int(fault))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        first = (
            int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and fault != "no range" else 0
        )
        if first >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header(
                "Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}"
            )
        if fault != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "truncate" else body)
        self.close_connection = True

    def log_message(self, *words: object) -> None:
        """Silence."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.faults, made.requests, made.content = [], [], CONTENT
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def entry(server: ThreadingHTTPServer, content: bytes = CONTENT) -> Released:
    sha256 = hashlib.sha256(content).hexdigest()[:8]
    url = f"http://127.0.0.1:{server.server_address[1]}/toy-{sha256}.pth"
    return Released("toy", url, sha256, "MIT", url, "about", "conv", Clip())


def get(server: ThreadingHTTPServer, folder: Path, **options: object) -> Path:
    return fetch(entry(server), folder, console=QUIET, pause_s=0.001, timeout_s=5, **options)


def test_a_file_is_downloaded_once_and_nothing_else_stays(server, tmp_path):
    path = get(server, tmp_path / "deep" / "cache")
    assert path.read_bytes() == CONTENT
    assert get(server, tmp_path / "deep" / "cache") == path
    assert len(server.requests) == 1
    assert not list(path.parent.glob("*.part"))


@pytest.mark.parametrize(
    "faults", [["truncate"], ["truncate", "truncate", "truncate"], ["truncate", "503", "truncate"]]
)
def test_what_broke_off_is_gone_on_with(server, tmp_path, faults):
    server.faults = list(faults)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] is not None  # the last request asked for a part only


def test_a_later_call_goes_on_with_the_part(server, tmp_path):
    server.faults = ["truncate", "500"]
    with pytest.raises(
        SeehearError, match=r"http://127.0.0.1.* could not be downloaded \(the server says 500"
    ):
        get(server, tmp_path, tries=1)
    assert len(next(tmp_path.glob("*.part")).read_bytes()) == len(CONTENT) // 2
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] == f"bytes={len(CONTENT) // 2}-"


def test_a_server_without_ranges_begins_again(server, tmp_path):
    server.faults = ["truncate", "no range"]
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_server_that_does_not_say_how_long_the_file_is(server, tmp_path):
    server.faults = ["no length"]
    assert get(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("stale", [CONTENT, CONTENT + b"more", b"other" * 10])
def test_a_part_of_whatever_content_does_no_harm(server, tmp_path, stale):
    (tmp_path / f"{entry(server).file}.part").write_bytes(stale)
    if stale.startswith(b"other"):  # its first bytes are wrong, which only the hash can tell
        with pytest.raises(CheckpointError):
            get(server, tmp_path)
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_errors_of_the_server_that_pass_are_waited_for(server, tmp_path):
    server.faults = ["500", "502", "503"]
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_server_that_stays_broken_ends_it(server, tmp_path):
    server.faults = ["500"] * 9
    with pytest.raises(SeehearError, match="give its path instead of toy"):
        get(server, tmp_path, tries=3)
    assert len(server.requests) == 3


def test_a_file_that_is_not_there_is_not_asked_for_again(server, tmp_path):
    server.faults = ["404"]
    with pytest.raises(SeehearError, match="the server says 404"):
        get(server, tmp_path)
    assert len(server.requests) == 1


def test_another_file_than_was_published_is_removed(server, tmp_path):
    server.content = b"<html>sign in</html>"
    with pytest.raises(CheckpointError, match="SHA-256 begins with"):
        get(server, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_without_a_network_the_url_is_named_and_what_to_do(server, tmp_path):
    server.server_close()
    released = entry(server)
    with pytest.raises(
        SeehearError, match=rf"{released.url} could not be downloaded \(.*refused.*give its path"
    ):
        fetch(released, tmp_path, console=QUIET, tries=2, pause_s=0.001)


def test_several_at_once_download_it_once(server, tmp_path):
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(get(server, tmp_path))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert len(server.requests) == 1


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("SEEHEAR_HOME", str(tmp_path))
    assert weights_folder() == tmp_path / "weights"
    monkeypatch.delenv("SEEHEAR_HOME")
    assert weights_folder() == Path.home() / ".cache" / "seehear" / "weights"


def test_a_name_that_is_not_released_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="There are no released weights resnet"):
        fetch("resnet", tmp_path)
