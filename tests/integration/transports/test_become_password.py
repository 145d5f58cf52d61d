"""Become with a password: real sudo and su with accounts and sudoers of a private machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.errors import ConnectError, SourcePosition
from orchestrator.model.command import StepCommand
from orchestrator.model.host import ConnectionOptions, Host, InventoryPassword
from orchestrator.remote_shell import ShellSession
from orchestrator.transports import TransportRegistry
from orchestrator.transports.become import BecomeCommand, BecomeShells
from orchestrator.transports.local import LocalChannel
from orchestrator.transports.prompts import (
    BECOME_FILE_VARIABLE,
    PASSWORD_FILE_VARIABLE,
    CredentialPrompt,
    CredentialStore,
)
from tests.sshd import SSHD, generate_key
from tests.support.broker import BrokerOfTests
from tests.support.private_copy import PrivateCopy, make_copy
from tests.support.session_recording import WAIT_TIMEOUT, run_pipeline

RIGHT, BOBS = "correct horse", "battery staple"
_ACCOUNTS = f"""
for user in alice free bob remote plain tara; do useradd -m $user; done
printf 'alice:{RIGHT}\\nbob:{BOBS}\\n' | chpasswd
cat >/etc/sudoers.d/orch <<'END'
Defaults lecture=always, logfile=/var/log/sudo.log
Defaults:remote requiretty
alice ALL=(ALL) ALL
free ALL=(ALL) NOPASSWD: ALL
remote ALL=(ALL) ALL
Defaults:tara targetpw
tara ALL=(ALL) ALL
Defaults:plain !secure_path
plain ALL=(ALL) NOPASSWD: ALL
END
printf 'auth required pam_unix.so nodelay\\naccount required pam_unix.so\\n' >/etc/pam.d/sudo
cp /etc/pam.d/sudo /etc/pam.d/su
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateCopy]:
    """Return a machine with accounts: alice has a password for sudo, free needs none."""
    shared = tmp_path_factory.mktemp("shared")
    with make_copy(shared.parent / f"{shared.name}-overlay", shared) as created:
        run_in_machine(created, _ACCOUNTS)
        yield created


def run_in_machine(copy: PrivateCopy, script: str) -> str:
    channel = LocalChannel([*copy.words, "sh", "-ec", f"cd /;{script}"], environment(), "/")
    with closing(channel):
        output, chunk = b"", channel.read(WAIT_TIMEOUT)
        while not chunk.eof:
            output, chunk = output + chunk.stdout, channel.read(WAIT_TIMEOUT)
        output += chunk.stdout
        assert channel.exit_status() == 0
    return output.decode()


def environment() -> dict[str, str]:
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"}


class AnsweringUser:
    """A user who gives the same answer to every prompt, and records prompts and secrets."""

    def __init__(self, answer: str | None) -> None:
        self.answer, self.asked = answer, list[str]()
        self.secrets: list[tuple[str, str]] = []
        self.stop = threading.Event()
        self.answers = CredentialStore(
            self.ask, {}, self.stop, lambda kind, text: self.secrets.append((kind, text))
        )

    def ask(self, prompt: str, _observed: bool, _stop: threading.Event) -> str | None:
        self.asked.append(prompt)
        return self.answer


def become_session(
    copy: PrivateCopy,
    answers: CredentialStore,
    user: str = "bob",
    *,
    login: str = "alice",
    method: str = "sudo",
    timeout: float = WAIT_TIMEOUT,
) -> ShellSession:
    """Open a session as ``user`` on its own host, logged in as ``login``."""

    def start(become: BecomeCommand) -> LocalChannel:
        words = ["runuser", "-u", login, "--", "env", "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "sh"]
        words += ["-c", become.command_line]
        return LocalChannel([*copy.words, *words], environment(), "/")

    others = BecomeShells(login, method, "sh", timeout, answers)
    return ShellSession(others.open(user, start), ready_timeout=timeout)


def refused_error(session: ShellSession) -> ConnectError:
    with closing(session), pytest.raises(ConnectError) as caught:
        run_pipeline(session, StepCommand(1, "echo no"))
    assert caught.value.phase == "become"
    return caught.value


def test_password_is_asked_for_once_and_is_nowhere_on_the_host(copy: PrivateCopy) -> None:
    answerer = AnsweringUser(RIGHT)
    for _ in range(3):
        with closing(become_session(copy, answerer.answers)) as session:
            recording = run_pipeline(session, StepCommand(1, "id -un; env; ps -eo args"))
            out = recording.stdout_of(1)
            assert out.startswith(b"bob\n")
            assert RIGHT.encode() not in out + recording.stdout_of(0)
    assert answerer.asked == ["sudo password of alice: "]
    assert answerer.secrets == [("become password", RIGHT)]


def test_host_that_wants_no_password_asks_for_none(copy: PrivateCopy) -> None:
    answerer = AnsweringUser(RIGHT)
    with closing(become_session(copy, answerer.answers, login="free")) as session:
        assert run_pipeline(session, StepCommand(1, "id -un")).stdout_of(1) == b"bob\n"
    assert not answerer.asked


def test_wrong_password_is_tried_once_a_host_and_on_three_hosts(copy: PrivateCopy) -> None:
    before = run_in_machine(copy, "cat /var/log/sudo.log 2>/dev/null||:").count(
        "incorrect password"
    )
    answerer = AnsweringUser("a slip")
    errors = [refused_error(become_session(copy, answerer.answers)) for _ in range(5)]
    assert len(answerer.asked) == 1
    assert [e.reason for e in errors[:3]] == [
        "sudo to bob failed: wrong sudo password of alice"
    ] * 3
    assert all("3 hosts refused it" in error.reason for error in errors[3:])
    log = run_in_machine(copy, "cat /var/log/sudo.log")
    assert log.count("1 incorrect password attempt") - before == 3
    assert "2 incorrect" not in log


def test_password_of_whom_sudoers_wants_it_is_asked_for(copy: PrivateCopy) -> None:
    answerer = AnsweringUser(BOBS)
    with closing(become_session(copy, answerer.answers, login="tara")) as session:
        assert run_pipeline(session, StepCommand(1, "id -un")).stdout_of(1) == b"bob\n"
    assert answerer.asked == ["sudo password of bob: "]


def test_su_takes_the_password_of_whom_it_becomes(copy: PrivateCopy) -> None:
    with closing(become_session(copy, AnsweringUser(BOBS).answers, "bob", method="su")) as session:
        assert (
            run_pipeline(session, StepCommand(1, "id -un; echo $USER")).stdout_of(1)
            == b"bob\nbob\n"
        )


def test_su_that_refuses_a_password_is_told_in_a_line(copy: PrivateCopy) -> None:
    answerer = AnsweringUser("a slip")
    error = refused_error(become_session(copy, answerer.answers, "bob", method="su"))
    assert error.reason == "su to bob failed: wrong su password of bob"


def test_host_that_wants_a_tty_is_told_with_what_to_do(copy: PrivateCopy) -> None:
    error = refused_error(become_session(copy, AnsweringUser(RIGHT).answers, login="remote"))
    assert "must have a tty" in error.reason
    assert "!requiretty" in error.hint


def test_question_that_nobody_answers_says_what_gives_the_password(copy: PrivateCopy) -> None:
    error = refused_error(become_session(copy, AnsweringUser(None).answers))
    assert "the sudo password of alice is required: no answer at a terminal" in error.reason
    assert "ORCH_BECOME_PASSWORD_FILE" in error.hint


def test_wait_for_who_types_ends_with_the_run_s_cancel(copy: PrivateCopy) -> None:
    there_is, answerer = threading.Event(), AnsweringUser(RIGHT)

    def ask(_prompt: str, _observed: bool, stop: threading.Event) -> str | None:
        there_is.set()
        stop.wait(WAIT_TIMEOUT)
        return None

    session = become_session(copy, CredentialStore(ask, {}, answerer.stop))

    def interrupt() -> None:
        there_is.wait(WAIT_TIMEOUT)
        session.cancel()
        answerer.stop.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with closing(session):
        assert not run_pipeline(session, StepCommand(1, "echo no")).endings
    thread.join()


def test_time_that_it_takes_to_type_is_not_the_host_s(copy: PrivateCopy) -> None:
    def ask(_prompt: str, _observed: bool, stop: threading.Event) -> str | None:
        stop.wait(3.0)  # longer than the session's timeout
        return RIGHT

    with closing(
        become_session(copy, CredentialStore(ask, {}, threading.Event()), timeout=2.0)
    ) as session:
        assert run_pipeline(session, StepCommand(1, "id -un")).stdout_of(1) == b"bob\n"


def test_many_hosts_at_a_time_ask_once(copy: PrivateCopy) -> None:
    answerer = AnsweringUser(RIGHT)

    def one(_number: int) -> bytes:
        with closing(become_session(copy, answerer.answers)) as session:
            return run_pipeline(session, StepCommand(1, "id -un")).stdout_of(1)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == [b"bob\n"] * 8
    assert len(answerer.asked) == 1


def test_root_s_path_has_the_sbin_folders_and_the_locale_is_the_login_s(copy: PrivateCopy) -> None:
    with closing(
        become_session(copy, AnsweringUser(RIGHT).answers, "root", login="plain")
    ) as session:
        text = "echo $PATH; echo ${LC_ALL-none}; command -v useradd"
        output = run_pipeline(session, StepCommand(1, text)).stdout_of(1).decode().split()
    assert output == [
        "/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
        "C.UTF-8",
        "/usr/sbin/useradd",
    ]


@pytest.mark.parametrize("transport", ["ssh", "openssh"])
def test_hosts_reached_over_ssh_ask_once_for_all(
    copy: PrivateCopy, tmp_path: Path, transport: str
) -> None:
    host_key, key = generate_key(tmp_path / "host_key"), generate_key(tmp_path / "key")
    run_in_machine(
        copy,
        f"mkdir -p /run/sshd; echo '{key.with_suffix('.pub').read_text().strip()}' >/etc/keys;"
        f"umask 077; echo '{host_key.read_text()}' >/etc/host_key",
    )
    words = "-o HostKey=/etc/host_key -o AuthorizedKeysFile=/etc/keys -o UsePAM=no"
    config = tmp_path / "config"
    config.write_text(f"Host *\nProxyCommand {' '.join(copy.words)} {SSHD} -i {words}\n")
    known = tmp_path / "known_hosts"
    known.write_text(f"* {' '.join(host_key.with_suffix('.pub').read_text().split()[:2])}\n")
    answerer = AnsweringUser(RIGHT)
    with closing(
        TransportRegistry(
            home=tmp_path, environ=environment(), ssh_config=str(config), prompt_user=answerer.ask
        )
    ) as connector:
        for name in ("web1", "web2"):
            connect = ConnectionOptions(
                name,
                user="alice",
                identity=(str(key),),
                known_hosts=(str(known),),
                transport=transport,
                timeout=WAIT_TIMEOUT,
            )
            connection = connector.connect(Host(name, connect, (), (), SourcePosition("test")))
            with closing(
                ShellSession(connection.open("bob"), ready_timeout=WAIT_TIMEOUT)
            ) as session:
                assert run_pipeline(session, StepCommand(1, "id -un")).stdout_of(1) == b"bob\n"
    assert answerer.asked == ["sudo password of alice: "]


@pytest.mark.parametrize("persist", [0.0, 600.0], ids=["", "kept"])
def test_passwords_of_the_inventory_log_in_and_become(
    copy: PrivateCopy, tmp_path: Path, broker: BrokerOfTests, persist: float
) -> None:
    """A kept connection needs none for the login any more, but one to become another user."""
    host_key = generate_key(tmp_path / "host_key")
    run_in_machine(
        copy, f"mkdir -p /run/sshd; umask 077; echo '{host_key.read_text()}' >/etc/host_key"
    )
    words = "-o HostKey=/etc/host_key -o PasswordAuthentication=yes -o UsePAM=no"
    known = tmp_path / "known_hosts"
    known.write_text(f"* {' '.join(host_key.with_suffix('.pub').read_text().split()[:2])}\n")
    found: list[str] = []

    def password(name: str, text: str | None) -> InventoryPassword:
        def find() -> str | None:
            found.append(name)
            return text

        return InventoryPassword(name, find)

    connect = ConnectionOptions(
        "web1",
        user="alice",
        known_hosts=(str(known),),
        timeout=WAIT_TIMEOUT,
        persist=persist,
        ssh_options=(f"ProxyCommand={' '.join(copy.words)} {SSHD} -i {words}",),
        password=password("login", RIGHT),
        become_password=password("become", RIGHT),
    )
    secrets: list[tuple[str, str]] = []

    def become_bob(expected: list[str]) -> None:
        found.clear()
        secrets.clear()
        with closing(
            broker.transports(
                tmp_path,
                environ=environment(),
                on_secret=lambda kind, text: secrets.append((kind, text)),
            )
        ) as connector:
            connection = connector.connect(Host("web1", connect, (), (), SourcePosition("test")))
            assert found == expected[:-1]
            with closing(
                ShellSession(connection.open("bob"), ready_timeout=WAIT_TIMEOUT)
            ) as session:
                assert run_pipeline(session, StepCommand(1, "id -un")).stdout_of(1) == b"bob\n"
        assert found == expected
        kinds = {"login": "ssh password", "become": "become password"}
        assert secrets == [(kinds[name], RIGHT) for name in expected]

    become_bob(["login", "become"])
    become_bob(["become"] if persist else ["login", "become"])


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerOfTests]:
    created = BrokerOfTests(tmp_path)
    yield created
    created.close()


def test_without_a_password_in_the_inventory_the_user_is_asked() -> None:
    answerer = AnsweringUser(RIGHT)
    nothing = InventoryPassword("nothing", lambda: None)
    prompt = CredentialPrompt("Password", known=nothing)
    assert answerer.answers.wait_for_answer(prompt, object()) == RIGHT
    assert answerer.asked == ["Password: "]


@pytest.mark.parametrize(
    ("data", "answer", "trouble"),
    [
        (b"\xef\xbb\xbfpw\n", "pw", ""),
        (b"\xef\xbb\xbfpw\r\nnote\n", "pw", ""),
        (b"pw\xef\xbb\xbf\n", "pw\ufeff", ""),
        (b"\xef\xbb\xbf\n", None, "is empty"),
        ("pw\n".encode("utf-16"), None, "is UTF-16 (save it as UTF-8)"),
        (b"p\xffw\n", "p\udcffw", ""),
    ],
)
@pytest.mark.parametrize("variable", [BECOME_FILE_VARIABLE, PASSWORD_FILE_VARIABLE])
def test_a_byte_order_mark_is_no_part_of_the_password_in_a_file(
    tmp_path: Path, variable: str, data: bytes, answer: str | None, trouble: str
) -> None:
    file = tmp_path / "pw"
    file.write_bytes(data)
    file.chmod(0o600)
    answers = CredentialStore(None, {variable: str(file)}, threading.Event())
    question = CredentialPrompt("Password", file_variable=variable)
    assert answers.wait_for_answer(question, "me") == answer
    assert trouble in answers.error_for(question)
