"""How can a page save names into the run, and nobody else? A server for this machine alone, of a folder and one file.

It listens on 127.0.0.1, answers only requests that name it by that address (so no other name can be pointed at it),
that come from its own page, and, to write, that carry a token which the page alone is given. It reads nothing but
regular files below the report and writes nothing but `names.json`.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from seehear.errors import RunError, UsageError
from seehear.naming import as_json, checked_names, read_names, write_names
from seehear.reporting.scripts import script

MOST_BYTES = 1_000_000  # of names that are sent
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mp4": "video/mp4",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self'; "
POLICY += "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Server(ThreadingHTTPServer):
    """Serves a report on 127.0.0.1.

    Args:
        report: the folder of the report.
        run: the folder that `names.json` is written to.
        port: 0 takes a free one.
    """

    daemon_threads = True

    def __init__(self, report: Path, run: Path, port: int = 0) -> None:
        self.report = report.resolve()
        self.run = run
        self.token = secrets.token_urlsafe(24)
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.server_port}/"


def serve(report: Path, run: Path, port: int = 0) -> Server:
    """A server that is bound and not yet serving: call `serve_forever`, and `server_close` at the end.

    Raises:
        UsageError: the port is taken or not allowed.
    """
    try:
        return Server(report, run, port)
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"Port {port} cannot be used ({error}). Choose another with --port; 0 takes a free one."
        ) from None


def safe_path(folder: Path, target: str) -> Path | None:
    """The regular file below `folder` that a request's target names; None for everything else.

    Refused: what leads out of the folder, also by a link, and names that begin with a dot.
    """
    parts = [part for part in unquote(urlsplit(target).path).split("/") if part]
    if any(part.startswith(".") or "\\" in part or "\0" in part for part in parts):
        return None
    path = folder.joinpath(*parts) if parts else folder / "index.html"
    try:
        inside = Path(os.path.realpath(path)).is_relative_to(folder)
        return path if inside and path.is_file() else None
    except (OSError, ValueError):
        return None


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
        path = safe_path(self.server.report, self.path)
        if path is None:
            return self._refuse(HTTPStatus.NOT_FOUND)
        return self._answer(path.read_bytes(), path.suffix)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Names to save."""
        self.close_connection = True  # what was not read of the body is no next request
        if not self._is_ours() or self.headers.get("Origin", "") not in self._origins():
            return self._refuse(HTTPStatus.FORBIDDEN)
        if not hmac.compare_digest(self.headers.get("X-Seehear-Token", "").encode(), self.server.token.encode()):
            return self._refuse(HTTPStatus.FORBIDDEN)
        if urlsplit(self.path).path != "/names":
            return self._refuse(HTTPStatus.NOT_FOUND)
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length) or int(length) > MOST_BYTES:
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            names = checked_names(json.loads(self.rfile.read(int(length))))
            path = write_names(self.server.run, names)
        except (ValueError, RecursionError) as error:
            return self._answer(json.dumps({"error": f"Not saved: {error}."}).encode(), ".json", HTTPStatus.BAD_REQUEST)
        except OSError as error:
            text = f"Not saved: {error.strerror or error}."
            return self._answer(json.dumps({"error": text}).encode(), ".json", HTTPStatus.INTERNAL_SERVER_ERROR)
        return self._answer(json.dumps({"saved": str(path)}).encode(), ".json")

    def _session(self) -> dict[str, Any]:
        """What the page gets here and not from disk: the token, where names go, and the names as they are now."""
        try:
            names, problem = read_names(self.server.run), ""
        except RunError as error:
            names, problem = {}, str(error)
        return {
            "token": self.server.token,
            "file": str(self.server.run / "names.json"),
            "names": as_json(names),
            "problem": problem,
        }

    def _origins(self) -> tuple[str, ...]:
        return tuple(f"http://{host}:{self.server.server_port}" for host in ("127.0.0.1", "localhost"))

    def _is_ours(self) -> bool:
        """Whether the request names this server by its address, and comes from its page or was typed."""
        host = f"http://{self.headers.get('Host', '')}"
        return host in self._origins() and self.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")

    def _refuse(self, status: HTTPStatus) -> None:
        self._answer(f"{status.value} {status.phrase}\n".encode(), ".txt", status)

    def _answer(self, body: bytes, suffix: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Send a body, or the part of it that a media player asks for."""
        asked = re.fullmatch(r"bytes=([0-9]{1,15})-([0-9]{0,15})", self.headers.get("Range", ""))
        total, first = len(body), 0
        if asked and status == HTTPStatus.OK and int(asked[1]) < total:
            first, last = int(asked[1]), min(int(asked[2] or total), total - 1)
            body, status = body[first : last + 1], HTTPStatus.PARTIAL_CONTENT
        self.send_response(status)
        if status == HTTPStatus.PARTIAL_CONTENT:
            self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{total}")
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
