"""A web server for modules to talk to, in the test's process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answer:
    """What is answered; with ``claims`` the length that the header tells, truth or not."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    claims: int | None = None


@dataclass
class Web:
    """``pages`` are the answers by path (404 for others); a list is answered in turn, its last
    one for ever. ``asked`` are the requests that came: method, path, headers."""

    port: int = 0
    pages: dict[str, Answer | list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def answer(self, path: str) -> Answer:
        found = self.pages.get(path, Answer(b"no such page", 404))
        if isinstance(found, Answer):
            return found
        return found.pop(0) if len(found) > 1 else found[0]


@contextmanager
def serving() -> Iterator[Web]:
    """A server on a free port of loopback, gone afterwards."""
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            web.asked.append((self.command, self.path, dict(self.headers)))
            answer = web.answer(self.path)
            self.send_response(answer.status)
            length = len(answer.body) if answer.claims is None else answer.claims
            for name, value in {"Content-Length": str(length), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_GET = do_HEAD = do_OPTIONS = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
