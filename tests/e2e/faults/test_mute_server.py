"""Servers that accept a login and then stop answering.

Each connection ends within the host's timeout, with a line that names the phase and what was
expected.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest
from paramiko.common import AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from tests.projects import OrchProject
from tests.sshd import generate_key

DEAF = "shell: {at}: no shell answered within 1 s; the host sent nothing; commands already sent may have run"
LINES = {
    "open": "channel: {at}: the host did not open a session within 1 s",
    "exec": DEAF,
    "run": DEAF,
}


class MuteServer(paramiko.ServerInterface):
    """A server that accepts every login and stops answering at ``mode``.

    ``open``: when a session is requested; ``exec``: when a command is requested; ``run``: it accepts
    the command and does not run it.
    """

    def __init__(self, mode: str, over: threading.Event) -> None:
        self._mode, self._over = mode, over

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return int(AUTH_SUCCESSFUL)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        self._answer("open")
        return int(OPEN_SUCCEEDED)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._answer("exec")
        return True

    def _answer(self, mode: str) -> None:
        if mode == self._mode:
            self._over.wait()


@contextmanager
def serve_mute(mode: str, key: Path) -> Iterator[int]:
    """Such a server with this host key, for one connection; its port."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            transport = paramiko.Transport(listener.accept()[0])
            transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(str(key)))
            transport.start_server(event=threading.Event(), server=MuteServer(mode, over))
            over.wait()
            transport.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("mode", LINES)
@pytest.mark.parametrize("transport", ["ssh", "openssh"])
def test_a_server_that_lets_us_in_and_says_no_more_has_its_line(
    project: OrchProject, tmp_path: Path, mode: str, transport: str
) -> None:
    key = generate_key(tmp_path / "key")
    with serve_mute(mode, key) as port:
        known = tmp_path / "known_hosts"
        known.write_text(f"[*]:{port} {Path(f'{key}.pub').read_text()}")
        connect = {"user": "me", "port": port, "identity": str(key), "identities_only": True}
        connect |= {"known_hosts": str(known), "timeout": 1, "transport": transport}
        hosts = {"a1": {"address": "127.0.0.1", "connect": connect}}
        project.write(
            {
                "inventories/real/hosts.yml": json.dumps(hosts),
                "tasks/t.yml": "steps: [{run: echo}, {run: echo}]\n",
            }
        )
        done = project.orch("-s", "real", "run", "t", "--json")
    row = done.host_rows["a1"]
    assert row["reason"] == LINES[mode].format(at=f"me@127.0.0.1:{port}")
    assert row["status"] == ("unreachable" if mode == "open" else "lost")
