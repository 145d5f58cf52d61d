"""A git server over HTTP with password authentication, in the test's process."""

from __future__ import annotations

import base64
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote


@dataclass
class GitWebServer:
    """Serves the repositories below ``root``.

    ``refused_requests`` are the paths of requests with a wrong user or password; requests without
    credentials are not included.
    """

    root: Path
    users: dict[str, str]
    port: int = 0
    refused_requests: list[str] = field(default_factory=list)

    def url(self, repo: str, user: str = "", password: str = "") -> str:
        who = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
        return f"http://{who}127.0.0.1:{self.port}/{repo}"

    def is_allowed(self, path: str, header: str | None) -> bool:
        if header is None:
            return False
        name, _, password = base64.b64decode(header.split()[1]).decode().partition(":")
        if self.users.get(name) == password:
            return True
        self.refused_requests.append(path)
        return False


@contextmanager
def serve_git(root: Path, **users: str) -> Iterator[GitWebServer]:
    """Serve on a free port of loopback during the block."""
    web = GitWebServer(root, users)

    class GitRequestHandler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            if not web.is_allowed(self.path, self.headers["Authorization"]):
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="it"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, _, query = self.path.partition("?")
            environment = {
                "PATH": "/usr/bin:/bin",
                "GIT_PROJECT_ROOT": str(web.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type") or "",
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
                "REMOTE_USER": "it",
            }
            done = subprocess.run(
                ["git", "http-backend"],
                input=body,
                env=environment,
                capture_output=True,
                check=True,
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = [line.partition(": ") for line in head.decode().split("\r\n")]
            status = next((value for name, _, value in fields if name == "Status"), "200 OK")
            self.send_response(int(status.split()[0]))
            for name, _, value in fields:
                if name != "Status":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), GitRequestHandler)
    web.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
