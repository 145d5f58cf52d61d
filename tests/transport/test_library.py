"""What orch takes from paramiko is there, and is not taken where it is not needed."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

from paramiko.auth_handler import AuthHandler
from paramiko.packet import Packetizer
from paramiko.transport import Transport

ROOT = Path(__file__).parents[2]


def modules_after(statement: str) -> set[str]:
    script = f"{statement}\nimport sys\nprint(*sorted(k for k, v in sys.modules.items() if v))"
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return set(said.stdout.split())


def test_a_run_without_ssh_hosts_does_not_import_paramiko() -> None:
    found = modules_after("from orchestrator.transport import Connector; Connector().close()")
    assert not {"paramiko", "cryptography", "orchestrator.transport.ssh"} & found


def test_paramiko_is_imported_in_parts_and_all_of_it_stays_importable() -> None:
    found = modules_after("import orchestrator.transport.ssh")
    assert "paramiko.transport" in found
    assert not {"paramiko", "paramiko.client", "invoke"} & found
    modules_after("import orchestrator.transport.ssh, invoke; invoke.run")
    modules_after("import orchestrator.transport.ssh, paramiko; paramiko.SSHClient.connect")


def test_the_private_side_that_is_relied_on_is_there() -> None:
    source = inspect.getsource(Transport)
    for name in (
        "_send_message",
        "_next_channel",
        "_auth_trigger",
        "_check_banner",
        "_parse_newkeys",
        "_parse_kex_init",
        "_really_parse_kex_init",
        "_parse_disconnect",
        "_verify_key",
        "_log",
    ):
        assert callable(getattr(Transport, name)), name
        assert f"self.{name}" in source or name in source
    for name in (
        "self._handler_table[ptype](m)",
        "self._channel_handler_table[ptype](chan, m)",
        "self.auth_handler._handler_table[ptype]",
        "self._channels.put(",
        "self.preferred_keys",
        "chan._unlink()",
    ):
        assert name in source, name
    assert "self.transport.server_object.check_auth_publickey" in inspect.getsource(AuthHandler)
    for name in ("start_handshake", "complete_handshake", "handshake_timed_out"):
        assert callable(getattr(Packetizer, name)), name
