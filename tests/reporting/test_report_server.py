"""Does the server of a report give nothing but the report, to nobody but its own page? And
names.json, in and out.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from report_run import served
from seehear.errors import RunError, UsageError
from seehear.reporting import serve
from seehear.reporting.server import Server
from seehear.runs.names import read_names, read_ticks, write_names

GOOD = {"format": 1, "names": {"video": {"3": "rain"}, "audio": {"0": "  a   dog "}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a folder that looks like a report, with secrets around it."""
    run = tmp_path_factory.mktemp("served") / "run"
    report = run / "report"
    (report / "data").mkdir(parents=True)
    (report / "index.html").write_text("<!doctype html>page")
    (report / "data" / "session.js").write_text("from disk")
    (report / "film.mp4").write_bytes(bytes(range(100)))
    (report / ".hidden").write_text("secret")
    (run / "secret.txt").write_text("secret")
    (run / "report-too").mkdir()
    (run / "report-too" / "secret.txt").write_text("secret")
    (report / "link.txt").symlink_to(run / "secret.txt")
    (report / "up").symlink_to(run)
    with served(report, run) as made:
        yield made


def ask(
    server: Server, target: str, method: str = "GET", body: bytes = b"", **headers: str
) -> tuple[int, str, dict]:
    """Status, body and headers of an answer; a target is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    sent = {"Host": f"127.0.0.1:{server.server_port}"} | {
        k.replace("_", "-"): v for k, v in headers.items()
    }
    connection.putrequest(method, target, skip_host=True)
    for name, value in (
        sent | ({"Content-Length": str(len(body))} if method == "POST" else {}) | sent
    ).items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode(errors="replace"), dict(answer.getheaders())
    connection.close()
    return found


def own(server: Server) -> dict[str, str]:
    """What the page itself sends to save names."""
    session = json.loads(re.search(r"\{.*\}", ask(server, "/data/session.js")[1])[0])
    return {
        "Origin": server.address.rstrip("/"),
        "X_Seehear_Token": session["token"],
        "Sec_Fetch_Site": "same-origin",
    }


def test_it_listens_on_this_machine_alone(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_files_of_the_report_come_with_headers_that_shut_others_out(server):
    status, body, headers = ask(server, "/")
    assert (status, body) == (200, "<!doctype html>page")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert ask(server, "/film.mp4")[2]["Content-Type"] == "video/mp4"
    assert ask(server, "/", method="HEAD")[:2] == (200, "")


def test_a_player_gets_the_part_that_it_asks_for(server):
    status, body, headers = ask(server, "/film.mp4", Range="bytes=10-19")
    assert (status, body, headers["Content-Range"]) == (
        206,
        bytes(range(10, 20)).decode(),
        "bytes 10-19/100",
    )
    assert ask(server, "/film.mp4", Range="bytes=90-")[2]["Content-Range"] == "bytes 90-99/100"


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-500", 5, 100),
        ("bytes=99-", 99, 100),
        ("BYTES=3-4", 3, 5),
        ("bytes= 7-8 ", 7, 9),
        ("bytes=-5", 95, 100),
        ("bytes=-500", 0, 100),
        ("bytes=0000000000000000000000007-8", 7, 9),
        (f"bytes=1-{'9' * 5000}", 1, 100),
    ],
)
def test_one_range_that_can_be_had_is_given(server, asked, first, end):
    status, body, headers = ask(server, "/film.mp4", Range=asked)
    assert (status, body) == (206, bytes(range(first, end)).decode())
    assert headers["Content-Range"] == f"bytes {first}-{end - 1}/100"


@pytest.mark.parametrize(
    "asked",
    [
        *(
            "bytes=5-2",
            "bytes=100-",
            "bytes=200-300",
            "bytes=-0",
            "bytes=a-b",
            "bytes=",
            "bytes=-",
            "bytes=1",
        ),
        *(
            "bytes=1-2-3",
            "bytes=0-1,9-5",
            "bytes=200-,300-",
            "bytes=--5",
            "bytes=+1-2",
            f"bytes={'9' * 5000}-",
        ),
    ],
)
def test_a_range_that_cannot_be_had_is_416(server, asked):
    status, body, headers = ask(server, "/film.mp4", Range=asked)
    assert (status, body, headers["Content-Range"]) == (416, "", "bytes */100")


@pytest.mark.parametrize("asked", ["lines=1-2", "bytes", "", "bytes=0-1,3-4", "bytes=0-1,200-"])
def test_what_may_be_answered_with_everything_is(server, asked):
    status, body, headers = ask(server, "/film.mp4", Range=asked)
    assert (status, len(body), "Content-Range" in headers) == (200, 100, False)
    assert ask(server, "/film.mp4", Range="bytes=1-2", If_Range='"x"')[0] == 200
    assert ask(server, "/film.mp4", "HEAD", Range="bytes=1-2")[0] == 200


def test_a_link_that_is_put_in_the_place_of_a_file_gives_nothing(server):
    """The swap goes on while requests come: what is checked must be what is read."""
    report, secret = server.report, server.run / "secret.txt"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for make in (lambda p: p.write_text("page"), lambda p: p.symlink_to(secret)):
                make(report / "new.txt")
                (report / "new.txt").replace(report / "swapped.txt")

    thread = threading.Thread(target=swap)
    thread.start()
    found = [ask(server, "/swapped.txt")[:2] for _ in range(150)]
    stop.set()
    thread.join()
    assert {"page" in body or status == 404 for status, body in found} == {True}
    assert not any("secret" in body for _, body in found)
    (report / "swapped.txt").unlink()


def test_a_client_that_leaves_is_no_news(server, capfd):
    (server.report / "large.mp4").write_bytes(bytes(20_000_000))
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.server_port)) as client:
            # leave by a reset
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(
                f"GET /large.mp4 HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode()
            )
            client.recv(100)
    assert ask(server, "/")[0] == 200
    time.sleep(0.3)
    assert capfd.readouterr().err == ""


def test_a_pipe_in_the_report_does_not_hold_the_server(server):
    os.mkfifo(server.report / "pipe.txt")
    assert ask(server, "/pipe.txt")[0] == 404


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/%2e%2e%2fsecret.txt",
        "/data/../../secret.txt",
        "/..\\secret.txt",
        "/..%5csecret.txt",
        "//secret.txt",
        "///etc/passwd",
        "/link.txt",
        "/up/secret.txt",
        "/.hidden",
        "/../report-too/secret.txt",
        "/index.html%00.txt",
        "/data",
        "/nothing",
        "http://127.0.0.1/../secret.txt",
        "/%ff%fe",
        "/" + "a" * 5000,
    ],
)
def test_no_path_leads_out_of_the_report(server, target):
    status, body, _ = ask(server, target)
    assert status == 404
    assert "secret" not in body


def test_requests_by_another_name_or_from_another_site_are_refused(server):
    assert ask(server, "/", Host="evil.example")[0] == 403
    assert ask(server, "/", Host=f"evil.example:{server.server_port}")[0] == 403
    assert ask(server, "/data/session.js", Sec_Fetch_Site="cross-site")[0] == 403
    assert ask(server, "/data/session.js", Sec_Fetch_Site="same-site")[0] == 403
    assert ask(server, "/", Host=f"localhost:{server.server_port}")[0] == 200


def test_names_are_saved_for_the_page_alone(server):
    body = json.dumps(GOOD).encode()
    path = server.run / "names.json"
    for changes in (
        {"X_Seehear_Token": "wrong"},
        {"X_Seehear_Token": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Host": "evil.example"},
    ):
        assert ask(server, "/names", "POST", body, **(own(server) | changes))[0] == 403, changes
    assert ask(server, "/other", "POST", body, **own(server))[0] == 404
    assert ask(server, "/names", "PUT", body, **own(server))[0] == 501
    assert not path.exists()
    status, answer, _ = ask(server, "/names", "POST", body, **own(server))
    assert (status, json.loads(answer)["saved"]) == (200, str(path))
    assert read_names(server.run) == {"video": {3: "rain"}, "audio": {0: "a dog"}}
    assert '"a dog"' in ask(server, "/data/session.js")[1]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        json.dumps({**GOOD, "format": 2}).encode(),
        json.dumps({"format": 1, "names": {"video": ["rain"]}}).encode(),
        json.dumps({"format": 1, "names": {"video": {"-1": "rain"}}}).encode(),
        json.dumps({"format": 1, "names": {"video": {"three": "rain"}}}).encode(),
        json.dumps({"format": 1, "names": {"video": {"3": 7}}}).encode(),
        json.dumps({"format": 1, "names": {"video": {"3": "x" * 81}}}).encode(),
        json.dumps({"format": 1, "names": {"__proto__": {"3": "rain"}}}).encode(),
        json.dumps({"format": 1, "names": {"../x": {"3": "rain"}}}).encode(),
    ],
)
def test_what_is_no_names_is_not_saved(server, body):
    write_names(server.run, {"video": {1: "kept"}})
    status, answer, _ = ask(server, "/names", "POST", body, **own(server))
    assert status == 400
    assert json.loads(answer)["error"].startswith("Not saved: ")
    assert read_names(server.run) == {"video": {1: "kept"}}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"like": 3}', b'{"like": [true]}', b'{"like": ["3"]}', b'{"like": []}']
)
def test_what_is_no_question_is_not_looked_for(shown, body):
    with served(shown / "run" / "report", shown / "run") as made:
        assert ask(made, "/search", "POST", body)[0] == 403
        status, answer, _ = ask(made, "/search", "POST", body, **own(made))
        assert status == 400
        assert json.loads(answer)["error"].startswith("Not found: ")
        good = json.dumps({"like": [2], "unlike": [3], "by": "video"}).encode()
        status, answer, _ = ask(made, "/search", "POST", good, **own(made))
        assert status == 200
        rows = json.loads(answer)["row"]
        assert 2 in rows
        assert 3 not in rows[: rows.index(2)]  # of what is liked may be more, and nearer
        assert all(json.loads(answer)["key"])


def test_ticks_are_saved_with_names(server):
    body = json.dumps(GOOD | {"ticks": {"rain": {"12": True, "3": False}}}).encode()
    assert ask(server, "/names", "POST", body, **own(server))[0] == 200
    assert read_ticks(server.run) == {"rain": {12: True, 3: False}}
    wrong = json.dumps(GOOD | {"ticks": {"rain": [12]}}).encode()
    assert ask(server, "/names", "POST", wrong, **own(server))[0] == 400
    assert read_ticks(server.run) == {"rain": {12: True, 3: False}}
    (server.run / "names.json").unlink()


def test_what_was_saved_elsewhere_is_not_lost(server):
    """Another browser, or another program: whoever read an older version is given the new one."""
    first = own(server) | {"X_Seehear_Version": ""}
    status, answer, _ = ask(server, "/names", "POST", json.dumps(GOOD).encode(), **first)
    assert status == 200
    session = json.loads(re.search(r"\{.*\}", ask(server, "/data/session.js")[1])[0])
    assert session["version"] == json.loads(answer)["version"] != ""
    other = json.dumps({"format": 1, "names": {"video": {"3": "snow"}}}).encode()
    status, answer, _ = ask(server, "/names", "POST", other, **first)
    assert (status, json.loads(answer)["error"][:33]) == (409, "Not saved: names were saved elsew")
    assert json.loads(answer)["names"] == session["names"]
    assert json.loads(answer)["version"] == session["version"]
    assert read_names(server.run)["video"] == {3: "rain"}
    second = first | {"X_Seehear_Version": session["version"]}
    assert ask(server, "/names", "POST", other, **second)[0] == 200
    assert read_names(server.run) == {"video": {3: "snow"}}
    assert ask(server, "/names", "POST", other, **second)[0] == 409
    (server.run / "names.json").unlink()


def test_names_of_clusters_that_the_run_does_not_have_are_not_saved(server):
    """They would make the run's names unreadable."""
    state = {"video.centroids": torch.zeros(4, 2)}
    (server.run / "clusters").mkdir()
    save_file(state, server.run / "clusters" / "centroids.safetensors")
    for names in ({"video": {"4": "rain"}}, {"audio": {"0": "dog"}}):
        body = json.dumps({"format": 1, "names": names}).encode()
        assert ask(server, "/names", "POST", body, **own(server))[0] == 400
    shutil.rmtree(server.run / "clusters")
    assert not (server.run / "names.json").exists()


def test_too_much_is_not_read(server):
    assert ask(server, "/names", "POST", b"", **own(server), Content_Length="999999999")[0] == 413
    assert ask(server, "/names", "POST", b"", **own(server), Content_Length="many")[0] == 413


def test_a_port_that_is_taken_is_one_line(server, tmp_path):
    with pytest.raises(UsageError, match=rf"Port {server.server_port} cannot be used"):
        serve(tmp_path, tmp_path, server.server_port)
    with pytest.raises(UsageError, match="Port 70000 cannot be used"):
        serve(tmp_path, tmp_path, 70000)


def test_names_survive_the_file_and_damage_is_told(tmp_path):
    assert read_names(tmp_path) == {}
    names = {"video": {10: "b", 2: "\u202eodd <name> \U0001f3b5"}, "joint_8": {0: "x"}}
    path = write_names(tmp_path, names | {"audio": {1: ""}})
    assert read_names(tmp_path) == names | {"audio": {}}
    assert list(json.loads(Path(path).read_text(encoding="utf-8"))["names"]["video"]) == ["2", "10"]
    path.write_text("{")
    with pytest.raises(RunError, match=r"names\.json cannot be read"):
        read_names(tmp_path)
