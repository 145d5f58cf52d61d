"""A shell whose connection is cut as a pipeline begins: the process that ends it ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress

import pytest

from orchestrator.model.command import StepCommand
from orchestrator.remote_shell.bootstrap import bootstrap_script
from orchestrator.remote_shell.encoder import encode_pipeline
from tests.sshd import wait_until

NAMED = b"o_watcher=$!"


@pytest.mark.parametrize("shell", [["dash"], ["bash"], ["busybox", "sh"]], ids=" ".join)
def test_no_alarm_outlives_a_shell_that_is_told_to_end_before_it_knows_its_watcher(
    shell: list[str],
) -> None:
    nonce = "ab" * 16
    text = bootstrap_script(nonce, 600)
    assert text.count(NAMED) == 1
    text = text.replace(NAMED, b"sleep .3;" + NAMED) + encode_pipeline(
        [StepCommand(1, "echo")], {}, nonce
    )
    with subprocess.Popen(
        shell,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        process.communicate(text)
    try:
        wait_until(lambda: not session_processes(process.pid), "the lease's alarm to end")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def session_processes(number: int) -> list[str]:
    """Return the processes of this session that still run."""
    rows = subprocess.run(
        ["ps", "-o", "stat=,args=", "-s", str(number)], check=False, capture_output=True
    )
    return [row for row in rows.stdout.decode().splitlines() if not row.startswith("Z")]
