"""How can a page save names into the run, and nobody else? A server for this machine alone, of a
folder and one file.

It listens on 127.0.0.1, answers only requests that name it by that address (so no other name can be
pointed at it), that come from its own page, and, to write, that carry a token which the page alone
is given. It reads nothing but regular files below the report, and the run where it is searched
(`whole`), and writes nothing but `names.json`, and previews of what was found.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
import stat
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from seehear.errors import RunError, SeehearError, UsageError
from seehear.machine.files import strict
from seehear.reporting.cards import CENTROIDS, read_centroids
from seehear.reporting.scripts import script
from seehear.reporting.whole import Whole
from seehear.runs.names import (
    FILE,
    as_json,
    check_clusters,
    checked_names,
    checked_ticks,
    read_names,
    read_ticks,
    version_of,
    write_names,
)

MOST_BYTES = 1_000_000  # of names that are sent
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mp4": "video/mp4",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self'; "
)
POLICY += "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Server(ThreadingHTTPServer):
    """Serves a report on 127.0.0.1.

    Args:
        report: the folder of the report.
        run: the folder that `names.json` is written to.
        port: 0 takes a free one.
        index: that the run was trained on, where it does not find it.
    """

    daemon_threads = True

    def __init__(
        self, report: Path, run: Path, port: int = 0, index: str | Path | None = None
    ) -> None:
        self.report = report.resolve()
        self.run = run
        self.index = index
        self.whole: Whole | None = None
        self.searching, self.saving = threading.Lock(), threading.Lock()
        self.token = secrets.token_urlsafe(24)
        super().__init__(("127.0.0.1", port), Handler)

    def found(self, data: Any) -> dict[str, Any]:
        """What is asked for in the whole run, as segments of the page; or ValueError."""
        with self.searching:
            self.whole = self.whole or Whole(self.run, self.report, self.index)
            return self.whole.found(data)

    def save(self, data: Any, version: str | None) -> str | None:
        """Write names and ticks; the version that is there now, or None where there is another one
        than the page knows, which would be lost.

        Raises:
            ValueError: they are none, or of clusters that the run does not have.
        """
        names, ticks = checked_names(data), checked_ticks(data)
        if (self.run / CENTROIDS).exists():
            ends = ".centroids"
            found = read_centroids(self.run).items()
            check_clusters(
                names, {k.removesuffix(ends): len(c) for k, c in found if k.endswith(ends)}
            )
        with self.saving:
            if version not in (None, version_of(self.run)):
                return None
            write_names(self.run, names, ticks)
            return version_of(self.run)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing for a client that leaves, as players do all the time; otherwise as ever."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_port}/"


def serve(report: Path, run: Path, port: int = 0, index: str | Path | None = None) -> Server:
    """A server that is bound and not yet serving: call `serve_forever`, and `server_close` at the
    end.

    Raises:
        UsageError: the port is taken or not allowed.
    """
    try:
        return Server(report, run, port, index)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"Port {port} cannot be used ({error}). Choose another with --port; 0 takes a free one."
        ) from None


def read_below(folder: Path, target: str) -> tuple[bytes, str] | None:
    """The content and the ending of the regular file below `folder` that a request's target names;
    otherwise None.

    Each part of the path is opened from the one before it, and no link is followed: what is looked
    at is what is read, whatever is put in its place meanwhile. Names that begin with a dot are
    refused.
    """
    try:
        parts = [part for part in unquote(urlsplit(target).path).split("/") if part] or [
            "index.html"
        ]
        if any(part.startswith(".") or "\\" in part or "\0" in part for part in parts):
            return None
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        for number, part in enumerate(parts):
            # a pipe would wait for a writer
            kind = os.O_DIRECTORY if number < len(parts) - 1 else os.O_NONBLOCK
            try:
                inner = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | kind, dir_fd=place)
            finally:
                os.close(place)
            place = inner
        with os.fdopen(place, "rb") as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            return (file.read(), Path(parts[-1]).suffix) if is_regular else None
    except (OSError, ValueError):
        return None


def part_of(asked: str, total: int) -> tuple[int, int] | None:
    """The first byte and the one after the last that a `Range` asks for (RFC 9110, 14.1.2).

    None is all: of other units than bytes, and of several ranges of which one could be had.

    Raises:
        ValueError: no byte can be given, or what is asked for makes no sense.
    """
    unit, is_given, ranges = asked.partition("=")
    if not is_given or unit.strip().lower() != "bytes":
        return None
    found = []
    for one in ranges.split(","):
        match = re.fullmatch(r"[ \t]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t]*", one)
        if not match:
            raise ValueError(f"{one!r} is no range")
        # 18: beyond any file
        first, last, suffix = (int(x.lstrip("0")[:18] or 0) if x else None for x in match.groups())
        if first is not None and last is not None and last < first:
            raise ValueError(f"{one!r} ends before it begins")
        if first is not None and first < total:
            found.append((first, total if last is None else min(last + 1, total)))
        elif suffix and total:
            found.append((max(0, total - suffix), total))
    if not found:
        raise ValueError(f"there are {total} bytes")
    return found[0] if len(ranges.split(",")) == 1 else None


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60
    server_version = "seehear"
    sys_version = ""

    def do_GET(self) -> None:
        """A file of the report, or the session."""
        if not self._is_ours():
            return self._refuse(HTTPStatus.FORBIDDEN)
        if urlsplit(self.path).path == "/data/session.js":
            return self._answer(script("session", self._session()), ".js")
        found = read_below(self.server.report, self.path)
        if found is None:
            return self._refuse(HTTPStatus.NOT_FOUND)
        return self._answer(*found)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Names to save."""
        self.close_connection = True  # what was not read of the body is no next request
        if not self._is_ours() or self.headers.get("Origin", "") not in self._origins():
            return self._refuse(HTTPStatus.FORBIDDEN)
        if not hmac.compare_digest(
            self.headers.get("X-Seehear-Token", "").encode(), self.server.token.encode()
        ):
            return self._refuse(HTTPStatus.FORBIDDEN)
        target = urlsplit(self.path).path
        if target not in ("/names", "/search"):
            return self._refuse(HTTPStatus.NOT_FOUND)
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length) or int(length) > MOST_BYTES:
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            data = json.loads(self.rfile.read(int(length)))
            if target == "/search":
                return self._say(self.server.found(data))
            if (newer := self.server.save(data, self.headers.get("X-Seehear-Version"))) is None:
                text = "Not saved: names were saved elsewhere since this page read them."
                return self._say(self._session() | {"error": text}, HTTPStatus.CONFLICT)
        except (ValueError, RecursionError, SeehearError) as error:
            what = "Not found" if target == "/search" else "Not saved"
            return self._say(
                {"error": f"{what}: {str(error).rstrip('.')}."}, HTTPStatus.BAD_REQUEST
            )
        except OSError as error:
            text = f"Not saved: {error.strerror or error}."
            return self._say({"error": text}, HTTPStatus.INTERNAL_SERVER_ERROR)
        return self._say({"saved": str(self.server.run / FILE), "version": newer})

    def _session(self) -> dict[str, Any]:
        """What the page gets here, not from disk: the token, where names go, the names now."""
        version = version_of(self.server.run)  # before the names: if it is too old, they are asked
        try:
            names, ticks = read_names(self.server.run), read_ticks(self.server.run)
            problem = ""
        except RunError as error:
            names, ticks, problem = {}, {}, str(error)
        return {
            "token": self.server.token,
            "file": str(self.server.run / FILE),
            "version": version,
            "names": as_json(names, ticks),
            "problem": problem,
        }

    def _origins(self) -> tuple[str, ...]:
        return tuple(
            f"http://{host}:{self.server.server_port}" for host in ("127.0.0.1", "localhost")
        )

    def _is_ours(self) -> bool:
        """Whether the request names this server by its address, and is of its page or was typed."""
        host = f"http://{self.headers.get('Host', '')}"
        return host in self._origins() and self.headers.get("Sec-Fetch-Site", "none") in (
            "none",
            "same-origin",
        )

    def _refuse(self, status: HTTPStatus) -> None:
        self._answer(f"{status.value} {status.phrase}\n".encode(), ".txt", status)

    def _say(self, data: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._answer(json.dumps(strict(data)).encode(), ".json", status)

    def _answer(self, body: bytes, suffix: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Send a body, or the part of it that a media player asks for."""
        where = ""
        if self.command == "GET" and status == HTTPStatus.OK and "If-Range" not in self.headers:
            try:
                part = part_of(self.headers.get("Range", ""), len(body))
            except ValueError:
                where = f"bytes */{len(body)}"
                body, status = b"", HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            else:
                if part:
                    where = f"bytes {part[0]}-{part[1] - 1}/{len(body)}"
                    body, status = body[slice(*part)], HTTPStatus.PARTIAL_CONTENT
        self.send_response(status)
        if where:
            self.send_header("Content-Range", where)
        self.send_header("Content-Type", KINDS.get(suffix, "text/plain; charset=utf-8"))
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: requests are no news."""
