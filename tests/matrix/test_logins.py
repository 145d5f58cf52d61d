"""Accounts, keys, passwords, certificates and algorithms as they are out there: a compact run over
both transports works, or tells in one line why it does not get in.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.errors import Exit
from tests.matrix.compact import Done, conforms
from tests.matrix.ground import Ground, Person
from tests.matrix.logins import ACCOUNTS, PORTS, WORKS, logins
from tests.matrix.place import Place
from tests.matrix.refusals import LINES, OTHER


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with logins(tmp_path_factory.mktemp("matrix") / "place") as made:
        yield made


@pytest.fixture
def here(ground: Ground) -> Place:
    return ground.place


def run(ground: Ground, name: str, transport: str) -> Done:
    person = Person(ground.answer)
    (done,) = ground.project.run(transport, name, environ=ground.environ, ask=person)
    return done


@pytest.mark.parametrize(("name", "transport"), WORKS)
def test_everything_works(ground: Ground, here: Place, name: str, transport: str) -> None:
    conforms(lambda: run(ground, name, transport), here.at(ACCOUNTS[name].folder))


@pytest.mark.parametrize(("name", "transport"), LINES)
def test_whom_a_host_does_not_let_in_is_told_why(
    ground: Ground, here: Place, name: str, transport: str
) -> None:
    done = run(ground, name, transport)
    assert (done.code, done.steps) == (Exit.UNREACHABLE, [])
    port = PORTS.get(name, 22)
    known = {
        "at": f"{name}@127.0.0.1:{port}",
        "port": port,
        "folder": here.folder,
        "key": here.key,
        "print": here.fingerprint(here.key),
        "ca": here.fingerprint(here.folder / "ca"),
        "wrong": here.fingerprint(here.folder / "wrong"),
        "host_key": here.fingerprint(here.host_key),
    }
    reason, hint = LINES[name, transport]
    assert done.row.reason == reason.format_map(known)
    assert done.row.hint == (hint if hint == OTHER else hint.format_map(known))


def test_a_passphrase_is_asked_for_once_in_a_run(ground: Ground, here: Place) -> None:
    person = Person(ground.answer)
    step = {"run": "echo $SSH_CONNECTION"}
    done = ground.project.run("ssh", "encrypted", "another", steps=[step], ask=person)
    assert [host.code for host in done] == [Exit.OK, Exit.OK]
    assert person.asked == [f"Passphrase of {here.folder}/encrypted: "]


@pytest.mark.parametrize(
    ("name", "method"), [("both", "password"), ("prompted", "keyboard-interactive")]
)
def test_a_password_that_is_wrong_is_called_rejected(
    ground: Ground, here: Place, name: str, method: str
) -> None:
    wrong = here.folder / f"wrong-{name}"
    wrong.write_text("wrong\n")
    wrong.chmod(0o600)
    environ = {"ORCH_SSH_PASSWORD_FILE": str(wrong)}
    (done,) = ground.project.run("ssh", name, environ=environ)
    assert done.code == Exit.UNREACHABLE
    assert f"{method}: the password was rejected" in done.row.reason
    assert done.row.hint == f"is it the password of {name} on this host?"
