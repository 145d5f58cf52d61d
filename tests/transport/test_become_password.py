"""Becoming another user with a password: real sudo and su, accounts and sudoers of a private copy
of this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.errors import ConnectError, Mark
from orchestrator.model.command import Command
from orchestrator.model.host import Connect, Host
from orchestrator.remote_shell import Session
from orchestrator.transports import Connector
from orchestrator.transports.become import Become, Others
from orchestrator.transports.local import LocalChannel
from orchestrator.transports.prompts import BECOME_FILE, PASSWORD_FILE, Answers, Question
from tests.library.private import Copy, copied
from tests.session.heard import PATIENCE, run
from tests.sshd import SSHD, keygen

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
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """A machine with accounts: alice has a password for sudo, free needs none."""
    shared = tmp_path_factory.mktemp("shared")
    with copied(shared.parent / f"{shared.name}-overlay", shared) as made:
        there(made, _ACCOUNTS)
        yield made


def there(copy: Copy, script: str) -> str:
    channel = LocalChannel([*copy.words, "sh", "-ec", f"cd /;{script}"], environment(), "/")
    with closing(channel):
        said, chunk = b"", channel.read(PATIENCE)
        while not chunk.eof:
            said, chunk = said + chunk.stdout, channel.read(PATIENCE)
        said += chunk.stdout
        assert channel.exit_status() == 0
    return said.decode()


def environment() -> dict[str, str]:
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"}


class Person:
    """Answers every question with the same, and keeps the questions and what was told secret."""

    def __init__(self, answer: str | None) -> None:
        self.answer, self.asked = answer, list[str]()
        self.secrets: list[tuple[str, str]] = []
        self.stop = threading.Event()
        self.answers = Answers(
            self.ask, {}, self.stop, lambda kind, text: self.secrets.append((kind, text))
        )

    def ask(self, prompt: str, _seen: bool, _stop: threading.Event) -> str | None:
        self.asked.append(prompt)
        return self.answer


def shell(
    copy: Copy,
    answers: Answers,
    user: str = "bob",
    *,
    login: str = "alice",
    method: str = "sudo",
    timeout: float = PATIENCE,
) -> Session:
    """A session of ``user`` on a host of its own, logged in as ``login``."""

    def start(become: Become) -> LocalChannel:
        words = ["runuser", "-u", login, "--", "env", "PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "sh"]
        words += ["-c", become.command]
        return LocalChannel([*copy.words, *words], environment(), "/")

    others = Others(login, method, "sh", timeout, answers)
    return Session(others.open(user, start), ready_timeout=timeout)


def refused(session: Session) -> ConnectError:
    with closing(session), pytest.raises(ConnectError) as caught:
        run(session, Command(1, "echo no"))
    assert caught.value.phase == "become"
    return caught.value


def test_password_is_asked_for_once_and_is_nowhere_on_the_host(copy: Copy) -> None:
    person = Person(RIGHT)
    for _ in range(3):
        with closing(shell(copy, person.answers)) as session:
            heard = run(session, Command(1, "id -un; env; ps -eo args"))
            out = heard.out(1)
            assert out.startswith(b"bob\n")
            assert RIGHT.encode() not in out + heard.out(0)
    assert person.asked == ["sudo password of alice: "]
    assert person.secrets == [("become password", RIGHT)]


def test_host_that_wants_no_password_asks_for_none(copy: Copy) -> None:
    person = Person(RIGHT)
    with closing(shell(copy, person.answers, login="free")) as session:
        assert run(session, Command(1, "id -un")).out(1) == b"bob\n"
    assert not person.asked


def test_wrong_password_is_tried_once_a_host_and_on_three_hosts(copy: Copy) -> None:
    before = there(copy, "cat /var/log/sudo.log 2>/dev/null||:").count("incorrect password")
    person = Person("a slip")
    errors = [refused(shell(copy, person.answers)) for _ in range(5)]
    assert len(person.asked) == 1
    assert [e.why for e in errors[:3]] == [
        "sudo gives no shell of bob: the sudo password of alice that was given is wrong"
    ] * 3
    assert all("3 hosts refused it" in error.why for error in errors[3:])
    log = there(copy, "cat /var/log/sudo.log")
    assert log.count("1 incorrect password attempt") - before == 3
    assert "2 incorrect" not in log


def test_password_of_whom_sudoers_wants_it_is_asked_for(copy: Copy) -> None:
    person = Person(BOBS)
    with closing(shell(copy, person.answers, login="tara")) as session:
        assert run(session, Command(1, "id -un")).out(1) == b"bob\n"
    assert person.asked == ["sudo password of bob: "]


def test_su_takes_the_password_of_whom_it_becomes(copy: Copy) -> None:
    with closing(shell(copy, Person(BOBS).answers, "bob", method="su")) as session:
        assert run(session, Command(1, "id -un; echo $USER")).out(1) == b"bob\nbob\n"


def test_su_that_refuses_a_password_is_told_in_a_line(copy: Copy) -> None:
    person = Person("a slip")
    error = refused(shell(copy, person.answers, "bob", method="su"))
    assert error.why == "su gives no shell of bob: the su password of bob that was given is wrong"


def test_host_that_wants_a_tty_is_told_with_what_to_do(copy: Copy) -> None:
    error = refused(shell(copy, Person(RIGHT).answers, login="remote"))
    assert "must have a tty" in error.why
    assert "!requiretty" in error.hint


def test_question_that_nobody_answers_says_what_gives_the_password(copy: Copy) -> None:
    error = refused(shell(copy, Person(None).answers))
    assert "it needs the sudo password of alice: nobody answered" in error.why
    assert "ORCH_BECOME_PASSWORD_FILE" in error.hint


def test_wait_for_who_types_ends_with_the_run_s_cancel(copy: Copy) -> None:
    there_is, person = threading.Event(), Person(RIGHT)

    def ask(_prompt: str, _seen: bool, stop: threading.Event) -> str | None:
        there_is.set()
        stop.wait(PATIENCE)
        return None

    session = shell(copy, Answers(ask, {}, person.stop))

    def interrupt() -> None:
        there_is.wait(PATIENCE)
        session.cancel()
        person.stop.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with closing(session):
        assert not run(session, Command(1, "echo no")).endings
    thread.join()


def test_time_that_it_takes_to_type_is_not_the_host_s(copy: Copy) -> None:
    def ask(_prompt: str, _seen: bool, stop: threading.Event) -> str | None:
        stop.wait(3.0)  # longer than the session's timeout
        return RIGHT

    with closing(shell(copy, Answers(ask, {}, threading.Event()), timeout=2.0)) as session:
        assert run(session, Command(1, "id -un")).out(1) == b"bob\n"


def test_many_hosts_at_a_time_ask_once(copy: Copy) -> None:
    person = Person(RIGHT)

    def one(_number: int) -> bytes:
        with closing(shell(copy, person.answers)) as session:
            return run(session, Command(1, "id -un")).out(1)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == [b"bob\n"] * 8
    assert len(person.asked) == 1


def test_root_s_path_has_the_sbin_folders_and_the_locale_is_the_login_s(copy: Copy) -> None:
    with closing(shell(copy, Person(RIGHT).answers, "root", login="plain")) as session:
        text = "echo $PATH; echo ${LC_ALL-none}; command -v useradd"
        said = run(session, Command(1, text)).out(1).decode().split()
    assert said == ["/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin", "C.UTF-8", "/usr/sbin/useradd"]


@pytest.mark.parametrize("transport", ["ssh", "openssh"])
def test_hosts_reached_over_ssh_ask_once_for_all(
    copy: Copy, tmp_path: Path, transport: str
) -> None:
    host_key, key = keygen(tmp_path / "host_key"), keygen(tmp_path / "key")
    there(
        copy,
        f"mkdir -p /run/sshd; echo '{key.with_suffix('.pub').read_text().strip()}' >/etc/keys;"
        f"umask 077; echo '{host_key.read_text()}' >/etc/host_key",
    )
    words = "-o HostKey=/etc/host_key -o AuthorizedKeysFile=/etc/keys -o UsePAM=no"
    config = tmp_path / "config"
    config.write_text(f"Host *\nProxyCommand {' '.join(copy.words)} {SSHD} -i {words}\n")
    known = tmp_path / "known_hosts"
    known.write_text(f"* {' '.join(host_key.with_suffix('.pub').read_text().split()[:2])}\n")
    person = Person(RIGHT)
    with closing(
        Connector(home=tmp_path, environ=environment(), ssh_config=str(config), ask=person.ask)
    ) as connector:
        for name in ("web1", "web2"):
            connect = Connect(
                name,
                user="alice",
                identity=(str(key),),
                known_hosts=(str(known),),
                transport=transport,
                timeout=PATIENCE,
            )
            connection = connector.connect(Host(name, connect, (), (), Mark("test")))
            with closing(Session(connection.open("bob"), ready_timeout=PATIENCE)) as session:
                assert run(session, Command(1, "id -un")).out(1) == b"bob\n"
    assert person.asked == ["sudo password of alice: "]


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
@pytest.mark.parametrize("variable", [BECOME_FILE, PASSWORD_FILE])
def test_a_byte_order_mark_is_no_part_of_the_password_in_a_file(
    tmp_path: Path, variable: str, data: bytes, answer: str | None, trouble: str
) -> None:
    file = tmp_path / "pw"
    file.write_bytes(data)
    file.chmod(0o600)
    answers = Answers(None, {variable: str(file)}, threading.Event())
    question = Question("Password", file=variable)
    assert answers.wait(question, "me") == answer
    assert trouble in answers.trouble(question)
