"""Servers of files on this machine: HTTP with faults on demand, and storage that speaks S3."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from seehear.data import remote
from seehear.data.remote import retrying


class FileServer(ThreadingHTTPServer):
    """Serves a folder, with listings; `faults` has, by file name, what goes wrong with its next GET
    requests.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.faults: dict[str, list[str]] = {}
        self.requests: Counter[tuple[str, str]] = Counter()  # (method, file name) -> how often
        self.address = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that end early are what is tested."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        path = self.server.folder / unquote(urlsplit(self.path).path).lstrip("/")
        self.server.requests[self.command, path.name] += 1
        waiting = self.server.faults.get(path.name, [])
        fault = waiting.pop(0) if waiting and (with_body or waiting[0].isdigit()) else ""
        if fault.isdigit() or not path.exists():
            self.send(int(fault or 404), b"", {})
        elif path.is_dir():
            links = [
                f'<a href="{p.name}{"/" if p.is_dir() else ""}">x</a>'
                for p in sorted(path.iterdir())
            ]
            outside = (
                '<a href="../">up</a> <a href="http://127.0.0.1:9/other.mp4">elsewhere</a> '
                '<a href="../v.mp4">v</a>'
            )
            self.send(200, "\n".join([outside, *links]).encode(), {"Content-Type": "text/html"})
        else:
            self.send_file(path, fault, with_body)

    def send_file(self, path: Path, fault: str, with_body: bool) -> None:
        content, status = path.read_bytes(), path.stat()
        headers = {
            "Last-Modified": formatdate(status.st_mtime, usegmt=True),
            "Content-Type": "video/mp4",
        }
        code, wanted = 200, self.headers.get("Range")
        if wanted:
            first, last = wanted.removeprefix("bytes=").split("-")
            content, code = content[int(first) : int(last) + 1], 206
        if fault == "reset":
            # SO_LINGER: a reset instead of an end
            self.connection.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")
            os.close(self.connection.detach())
            return
        if fault == "slow":
            time.sleep(2.5)
        self.send(code, content, headers, cut=fault == "truncated", with_body=with_body)

    def send(
        self,
        code: int,
        content: bytes,
        headers: dict[str, str],
        cut: bool = False,
        with_body: bool = True,
    ) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.close_connection = True

    def log_message(self, *words: object) -> None:
        """Silence."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[FileServer]:
    """A running server of a folder."""
    made = FileServer(folder)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


def impatient(monkeypatch: pytest.MonkeyPatch, cache: Path, tries: int) -> None:
    """A cache of its own, nothing known of other files, and a few tries with short pauses."""
    monkeypatch.setenv("SEEHEAR_CACHE", str(cache))
    monkeypatch.setenv("SEEHEAR_REMOTE_TRIES", str(tries))
    monkeypatch.setattr(retrying, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(remote, "_known", {})
