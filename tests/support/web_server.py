"""A web server for tests of modules, in the test's process."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class WebAnswer:
    """A reply; ``claimed_length`` is the length in its header, correct or not."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    claimed_length: int | None = None


@dataclass
class WebServer:
    """A web server with recorded requests.

    ``pages`` are the replies by path (404 for others); a list of replies is used in turn, and its
    last one repeats. ``requests`` are the received requests: method, path, headers; ``bodies`` are
    their bodies. ``login``: ``USER:PASSWORD`` that is required, if not empty.
    """

    port: int = 0
    pages: dict[str, WebAnswer | list[WebAnswer]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    login: str = ""

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def next_answer(self, path: str, authorization: str = "") -> WebAnswer:
        expected = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        if self.login and authorization != expected:
            return WebAnswer(b"who?", 401, {"WWW-Authenticate": 'Basic realm="it"'})
        found = self.pages.get(path, WebAnswer(b"no such page", 404))
        if isinstance(found, WebAnswer):
            return found
        return found.pop(0) if len(found) > 1 else found[0]


@contextmanager
def serve_web() -> Iterator[WebServer]:
    """Serve on a free port of loopback during the block."""
    web = WebServer()

    class WebRequestHandler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            web.requests.append((self.command, self.path, dict(self.headers)))
            web.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            answer = web.next_answer(self.path, self.headers.get("Authorization", ""))
            self.send_response(answer.status)
            length = len(answer.body) if answer.claimed_length is None else answer.claimed_length
            for name, value in {"Content-Length": str(length), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_GET = do_HEAD = do_OPTIONS = answer  # noqa: N815
        do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), WebRequestHandler)
    web.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
