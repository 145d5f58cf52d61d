"""Become as found in practice: sudo that asks, lectures, uses another language or needs a terminal.

A compact run over both transports works, or reports in one line why it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.errors import ExitCode
from tests.integration.matrix.account_hosts import TRANSPORTS
from tests.integration.matrix.become_cases import WORKS, make_become
from tests.integration.matrix.compact_run import LARGE, SMALL
from tests.integration.matrix.matrix_ground import MatrixGround
from tests.support.help_lines import without_section


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MatrixGround]:
    with make_become(tmp_path_factory.mktemp("matrix") / "place") as prepared:
        yield prepared


def become_steps(name: str, transport: str) -> list[dict[str, Any]]:
    """Return the steps to run as another user, with their expected results."""
    folder = f"/home/bob/{name}-{transport}"
    private = {"mode": "0600"}
    return [
        {"run": "id -un; pwd; echo ${LC_ALL-}", "become": "bob"},
        {"directory": {"path": folder, "mode": "0700"}, "become": "bob"},
        {"copy": {"path": f"{folder}/small", "content": SMALL, **private}, "become": "bob"},
        {"copy": {"path": f"{folder}/large", "src": "large", **private}, "become": "bob"},
        {"run": "id -un"},
        *([] if name.endswith("su") else [{"run": "id -un; echo $PATH", "become": True}]),
    ]


@pytest.mark.parametrize(("name", "transport"), WORKS)
def test_everything_works(ground: MatrixGround, name: str, transport: str) -> None:
    (done,) = ground.project.run_steps(
        transport, name, steps=become_steps(name, transport), environ=ground.environ
    )
    assert done.code is ExitCode.OK, done.row
    output = [out for _, _, out, _ in done.step_ends]
    locale = "de_DE.UTF-8" if name.startswith("german") else ""
    assert output[0].decode() == f"bob\n/home/bob\n{locale}\n"
    assert output[4].decode() == f"{name}\n"
    root = b"".join(output[5:])
    assert root.startswith(b"" if name.endswith("su") else b"root\n/")
    assert root.startswith(b"root\n/opt/first:/usr/bin:/bin") == (name == "path")
    folder = ground.machine.outside_path(f"/home/bob/{name}-{transport}")
    for file, data in (("small", SMALL.encode()), ("large", LARGE)):
        about = (folder / file).stat()
        assert (folder / file).read_bytes() == data
        assert (about.st_uid, about.st_mode & 0o777) == (folder.parent.stat().st_uid, 0o600)
    assert [err for *_, err in done.step_ends] == [b""] * len(output), "no lecture, no prompt"


NO_TTY = (
    "become: tty@127.0.0.1:22: sudo to bob failed: 'sudo: sorry, you must have a tty to run"
    " sudo'; sudoers on the host needs `Defaults !requiretty`: orch has no tty; or use another method:"
    " `connect: {become_method: doas | su}`, in step 1 'id -un'"
)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_host_that_wants_a_terminal_is_told_with_what_to_do(
    ground: MatrixGround, transport: str
) -> None:
    step = {"run": "id -un", "become": "bob"}
    (done,) = ground.project.run_steps(transport, "tty", steps=[step], environ=ground.environ)
    assert (done.code, without_section(done.row.reason)) == (ExitCode.FAILED, NO_TTY)
