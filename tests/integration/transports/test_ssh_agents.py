"""Faulty SSH agents: they delay no run, are reported once, and key files are used instead."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from orchestrator.errors import ConnectError
from orchestrator.model.host import ConnectionOptions
from orchestrator.transports import TransportRegistry
from orchestrator.transports.deadline import CancelledError, Deadline
from orchestrator.transports.openssh.command_line import SshBinary
from orchestrator.transports.openssh.control_master import MasterProcess
from orchestrator.transports.ssh import agent_client
from tests.projects import OrchProject
from tests.sshd import SshdServer, generate_key, serve_sshd, wait_until
from tests.support.false_agents import (
    REQUEST_IDENTITIES,
    SIGN_REQUEST,
    AgentBehaviour,
    FalseAgent,
    answer_halfway,
    answer_honestly,
    answer_http,
    answer_nothing,
    answer_truncated,
    answer_unasked,
    close_connection,
    refuse_request,
    start_ssh_agent,
    stay_silent,
)
from tests.support.shell_talk import ask_shell

WRONG = [
    stay_silent,
    answer_halfway,
    close_connection,
    answer_http,
    answer_nothing,
    answer_truncated,
    answer_unasked,
]
ConnectorsAndWarnings = Callable[..., tuple[TransportRegistry, list[str]]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshdServer]:
    with serve_sshd(tmp_path_factory.mktemp("agents")) as server:
        yield server


@pytest.fixture
def own(server: SshdServer, tmp_path: Path) -> SshdServer:
    """Yield a server whose accepted keys the test may change; one is the default key file."""
    usual = tmp_path / "home" / ".ssh" / "id_ed25519"
    usual.parent.mkdir(parents=True)
    usual.write_bytes(server.key.read_bytes())
    usual.chmod(0o600)
    accept_keys(server, Path(f"{server.key}.pub").read_text())
    return server


@pytest.fixture
def warned(tmp_path: Path) -> Iterator[ConnectorsAndWarnings]:
    """Yield a function that makes registries with the lists of their warnings."""
    created: list[TransportRegistry] = []

    def make(environ: dict[str, str], config: str = "") -> tuple[TransportRegistry, list[str]]:
        warnings: list[str] = []
        file = tmp_path / "config"
        file.write_text(f"IdentitiesOnly no\nKexAlgorithms curve25519-sha256\n{config}")
        home = tmp_path / "home"
        environ = {"PATH": os.environ["PATH"], **environ}
        created.append(
            TransportRegistry(
                home=home, environ=environ, ssh_config=str(file), warn=warnings.append
            )
        )
        return created[-1], warnings

    yield make
    for one in created:
        one.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the timeouts for agents, but not those for hosts."""
    monkeypatch.setattr(agent_client, "LIST_TIMEOUT", 0.5)
    monkeypatch.setattr(agent_client, "RESERVED_SHARE", 0.95)


def accept_keys(sshd: SshdServer, *lines: str) -> None:
    (sshd.folder / "authorized_keys").write_text("".join(lines))


def check_connects(
    connector: TransportRegistry, sshd: SshdServer, number: int = 1, **how: object
) -> bool:
    return ask_shell(connector.connect(sshd.inventory_host(connect=host_options(sshd, number, **how))), "echo in").stdout == b"in\n"  # fmt: skip


def host_options(sshd: SshdServer, number: int = 1, **how: object) -> ConnectionOptions:
    """Return options for one of the server's addresses, with ssh's default keys only."""
    connect = sshd.connect_options(f"127.0.0.{number}", identity=(), identities_only=None)
    return replace(connect, **how)


def check_refused(connector: TransportRegistry, sshd: SshdServer) -> ConnectError:
    with pytest.raises(ConnectError) as caught:
        connector.connect(sshd.inventory_host(connect=host_options(sshd)))
    assert caught.value.phase == "auth"
    return caught.value


@pytest.mark.parametrize(
    ("lists", "transport"), [*((lists, "ssh") for lists in WRONG), (stay_silent, "openssh")]
)
def test_one_that_does_not_list_its_keys_is_asked_once_and_key_files_get_in(
    own: SshdServer,
    warned: ConnectorsAndWarnings,
    tmp_path: Path,
    hasty: None,
    lists: AgentBehaviour,
    transport: str,
) -> None:
    usual = tmp_path / "home" / ".ssh" / "id_ed25519"
    with FalseAgent(tmp_path / "a", lists) as false:
        connector, warnings = warned(false.environ, f"IdentityFile {usual}\n")
        for number in (1, 2, 3):
            assert check_connects(connector, own, number, transport=transport)
        connector.close()
    assert false.asked == [REQUEST_IDENTITIES]
    (warning,) = warnings
    assert warning.startswith(f"the agent at {false.path} ")
    assert "continuing with key files only (restart it, or run with `SSH_AUTH_SOCK=`)" in warning


@pytest.mark.parametrize("signs", WRONG)
def test_one_that_does_not_sign_is_not_asked_again_and_key_files_get_in(
    own: SshdServer,
    warned: ConnectorsAndWarnings,
    tmp_path: Path,
    hasty: None,
    signs: AgentBehaviour,
) -> None:
    with FalseAgent(tmp_path / "a", signs=signs) as false:
        accept_keys(own, (own.folder / "authorized_keys").read_text(), false.public_line)
        connector, warnings = warned(false.environ)
        for number in (1, 2, 3):
            assert check_connects(connector, own, number)
        connector.close()
    # one that hung up is called once more: it may have been the idle connection that ended
    assert false.asked == [
        REQUEST_IDENTITIES,
        SIGN_REQUEST,
        *([SIGN_REQUEST] if signs is close_connection else []),
    ]
    (warning,) = warnings
    assert warning.startswith(f"the agent at {false.path} ")


def test_one_that_refuses_to_sign_is_asked_for_the_next_host_all_the_same(
    own: SshdServer, warned: ConnectorsAndWarnings, tmp_path: Path
) -> None:
    with FalseAgent(tmp_path / "a", signs=refuse_request) as false:
        accept_keys(own, (own.folder / "authorized_keys").read_text(), false.public_line)
        connector, warnings = warned(false.environ)
        assert check_connects(connector, own, 1)
        connector.close()
        assert (false.asked, warnings) == ([REQUEST_IDENTITIES, SIGN_REQUEST], [])
        accept_keys(own, false.public_line)
        connector, warnings = warned(false.environ)
        error = check_refused(connector, own)
    assert f"the agent at {false.path} refused to sign with this key" in error.reason
    assert "the server accepts publickey" in error.reason  # it was asked: there may be a password
    assert "authorized_keys" in error.hint


def test_one_that_takes_its_time_is_waited_for(
    own: SshdServer, warned: ConnectorsAndWarnings, tmp_path: Path
) -> None:
    def slowly(client: object, answer: bytes) -> None:
        for byte in range(0, 4 + len(answer), 20):
            whole = len(answer).to_bytes(4, "big") + answer
            client.sendall(whole[byte : byte + 20])  # type: ignore[attr-defined]

    with FalseAgent(tmp_path / "a", slowly, slowly) as false:
        accept_keys(own, false.public_line)
        connector, warnings = warned(false.environ)
        assert check_connects(connector, own)
        connector.close()
    assert warnings == []


def test_where_no_other_key_gets_in_the_error_is_about_the_agent(
    own: SshdServer, warned: ConnectorsAndWarnings, tmp_path: Path, hasty: None
) -> None:
    for lists, signs, did in (
        (stay_silent, answer_honestly, "answer within 0.5"),
        (answer_honestly, stay_silent, "sign within"),
    ):
        path = tmp_path / did.split()[0]
        with FalseAgent(path, lists, signs) as false:
            accept_keys(own, false.public_line)
            connector, _ = warned(false.environ)
            for _ in range(2):
                error = check_refused(connector, own)
                assert f"the agent at {path} did not {did}" in error.reason
                assert error.hint == "restart it, or run with `SSH_AUTH_SOCK=`"
            connector.close()


def test_a_real_one_that_is_stopped_between_two_hosts(
    own: SshdServer, warned: ConnectorsAndWarnings, tmp_path: Path, hasty: None
) -> None:
    key = generate_key(tmp_path / "key")
    accept_keys(own, (own.folder / "authorized_keys").read_text(), Path(f"{key}.pub").read_text())
    with start_ssh_agent(tmp_path / "a", key) as process:
        connector, warnings = warned({"SSH_AUTH_SOCK": str(tmp_path / "a")})
        assert check_connects(connector, own, 1)
        process.send_signal(signal.SIGSTOP)
        assert check_connects(connector, own, 2)
        assert check_connects(connector, own, 3)
        connector.close()
    (warning,) = warnings
    assert f"the agent at {tmp_path}/a did not sign within" in warning


def test_a_real_one_that_was_started_anew_between_two_hosts(
    own: SshdServer, warned: ConnectorsAndWarnings, tmp_path: Path
) -> None:
    key = generate_key(tmp_path / "key")
    accept_keys(own, Path(f"{key}.pub").read_text())
    connector, warnings = warned({"SSH_AUTH_SOCK": str(tmp_path / "a")})
    for number in (1, 2):
        with start_ssh_agent(tmp_path / "a", key):
            assert check_connects(connector, own, number)
    assert warnings == []


def test_the_one_that_ssh_config_names_is_told_with_its_own_remedy(
    own: SshdServer, warned: ConnectorsAndWarnings, tmp_path: Path, hasty: None
) -> None:
    with FalseAgent(tmp_path / "usual") as usual, FalseAgent(tmp_path / "a", stay_silent) as false:
        connector, warnings = warned(usual.environ, f"IdentityAgent {false.path}\n")
        assert check_connects(connector, own)
        connector.close()
    assert usual.asked == []
    (warning,) = warnings
    assert f"the agent at {false.path} did not answer" in warning
    assert "`IdentityAgent none` in ssh_config" in warning


@pytest.mark.parametrize("transport", ["ssh", "openssh"])
def test_a_jump_host_and_the_host_behind_it_have_it_asked_once(
    own: SshdServer, warned: ConnectorsAndWarnings, tmp_path: Path, hasty: None, transport: str
) -> None:
    usual = tmp_path / "home" / ".ssh" / "id_ed25519"
    with FalseAgent(tmp_path / "a", stay_silent) as false:
        connector, warnings = warned(false.environ, f"IdentityFile {usual}\n")
        jump = f"{own.user}@127.0.0.9:{own.port}"
        assert check_connects(connector, own, jump=jump, transport=transport)
        connector.close()
    assert (false.asked, len(warnings)) == ([REQUEST_IDENTITIES], 1)


def test_one_that_is_not_needed_is_not_asked(
    own: SshdServer, warned: ConnectorsAndWarnings, tmp_path: Path
) -> None:
    with FalseAgent(tmp_path / "a", stay_silent) as false:
        connector, warnings = warned(false.environ)
        named = (str(tmp_path / "home" / ".ssh" / "id_ed25519"),)
        assert check_connects(connector, own, identity=named, identities_only=True)
        connector.close()
    assert (false.calls, warnings) == (0, [])


def test_one_that_is_away_is_no_reason_to_warn(
    own: SshdServer, warned: ConnectorsAndWarnings, tmp_path: Path
) -> None:
    connector, warnings = warned({"SSH_AUTH_SOCK": str(tmp_path / "gone")})
    assert check_connects(connector, own)
    assert warnings == []


def test_a_host_with_less_time_than_the_agent_has_gets_in_by_key_files(
    own: SshdServer, warned: ConnectorsAndWarnings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_client, "RESERVED_SHARE", 0.98)
    monkeypatch.setattr(agent_client, "LIST_TIMEOUT", 60.0)
    with FalseAgent(tmp_path / "a", stay_silent) as false:
        connector, warnings = warned(false.environ)
        assert check_connects(connector, own)
        connector.close()
    assert (false.asked, warnings) == ([REQUEST_IDENTITIES], [])


def test_an_interrupt_does_not_wait_for_a_signature(
    own: SshdServer, warned: ConnectorsAndWarnings, tmp_path: Path
) -> None:
    with FalseAgent(tmp_path / "a", signs=stay_silent) as false:
        accept_keys(own, false.public_line)
        connector, warnings = warned(false.environ)
        raised: list[Exception] = []

        def connect() -> None:
            try:
                connector.connect(own.inventory_host(connect=host_options(own, timeout=1000.0)))
            except Exception as error:
                raised.append(error)

        thread = threading.Thread(target=connect)
        thread.start()
        wait_until(lambda: SIGN_REQUEST in false.asked, "the question")
        connector.cancel()
        thread.join()
        connector.close()
    assert [type(error) for error in raised] == [CancelledError]
    assert warnings == []


def test_sshs_wait_for_a_signature_is_told_as_the_agents(
    own: SshdServer, warned: ConnectorsAndWarnings, tmp_path: Path
) -> None:
    """The deadline passes as soon as ssh has asked, so that the test need not wait."""
    with FalseAgent(tmp_path / "a", signs=stay_silent) as false:
        accept_keys(own, false.public_line)
        connector, warnings = warned(false.environ)
        environ = {"PATH": os.environ["PATH"], **false.environ}
        tool = SshBinary.find(tmp_path, environ, str(tmp_path / "config"))
        output = tool.effective_settings(host_options(own))
        words = tool.master_command(
            output, tmp_path / "c", tmp_path / "l", learned_keys_file=None, proxy=""
        )
        login = MasterProcess(words, environ, tmp_path / "l")
        deadline = Deadline(1000.0, threading.Event())

        def late() -> None:
            wait_until(lambda: SIGN_REQUEST in false.asked, "the question")
            deadline.end = time.monotonic()

        thread = threading.Thread(target=late)
        thread.start()
        asked = connector.agents.agent_at(str(false.path))
        with pytest.raises(ConnectError) as caught:
            login.wait_logged_in(deadline, asked)
        thread.join()
        assert caught.value.reason == f"the agent at {false.path} did not sign within 1000 s"
        assert len(warnings) == 1
        words = tool.master_command(
            output,
            tmp_path / "c",
            tmp_path / "l",
            learned_keys_file=None,
            proxy="",
            agents=connector.agents,
        )
        assert "IdentityAgent=none" in words


# ------------------------------------------------------------------------------------ forwarded


def test_a_forwarded_one_that_does_not_answer_is_refused_from_then_on(
    own: SshdServer, warned: ConnectorsAndWarnings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.transports.ssh.channels.LIST_TIMEOUT", 0.5)
    named = (str(tmp_path / "home" / ".ssh" / "id_ed25519"),)
    how = {"identity": named, "identities_only": True, "forward_agent": True}
    with FalseAgent(tmp_path / "a", stay_silent) as false:
        connector, warnings = warned(false.environ)
        connection = connector.connect(own.inventory_host(connect=host_options(own, **how)))
        for _ in range(2):
            output = ask_shell(connection, "ssh-add -l >&2 || echo no").stdout
            assert output == b"no\n"
        output = ask_shell(
            connector.connect(own.inventory_host(connect=host_options(own, 2, **how))),
            "echo [$SSH_AUTH_SOCK]",
        )
        assert output.stdout == b"[]\n"
        connector.close()
    assert false.asked.count(REQUEST_IDENTITIES) == 1
    assert len(warnings) == 1


def test_a_forwarded_one_that_hangs_over_a_signature_is_told(
    own: SshdServer, warned: ConnectorsAndWarnings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.transports.ssh.channels.SIGN_TIMEOUT", 0.5)
    usual = tmp_path / "home" / ".ssh" / "id_ed25519"
    how = {"identity": (str(usual),), "identities_only": True, "forward_agent": True}
    with FalseAgent(tmp_path / "a", signs=stay_silent) as false:
        public = tmp_path / "false.pub"
        public.write_text(false.public_line)
        connector, warnings = warned(false.environ)
        connection = connector.connect(own.inventory_host(connect=host_options(own, **how)))
        output = ask_shell(connection, f"ssh-keygen -Y sign -n x -f {public} </dev/null; echo $?")
        assert not output.stdout.endswith(b"\n0\n")
        connector.close()
    (warning,) = warnings
    assert f"the agent at {false.path} did not sign within 0.5 s" in warning


# ------------------------------------------------------------------------------------ as users see it


def test_a_run_warns_once_and_reaches_every_host_and_doctor_names_the_agent(
    project: OrchProject, sshd: SshdServer, tmp_path: Path
) -> None:
    project.add_sshd_stage(sshd, {f"h{n}": f"127.0.0.{n}" for n in range(1, 5)})
    stage = json.loads((project.root / "inventories/real/stage.yml").read_text())
    stage["connect"]["identities_only"] = False
    project.write(
        {
            "inventories/real/stage.yml": json.dumps(stage),
            "tasks/t.yml": "steps:\n- {run: echo in, readonly: true}\n",
        }
    )
    with FalseAgent(tmp_path / "a", stay_silent) as false:
        done = project.orch("-s", "real", "run", "t", "--json", **false.environ)
        assert done.code == 0
        assert {row["status"] for row in done.host_rows.values()} == {"ok"}
        (warning,) = [event for event in done.events if event["event"] == "warned"]
        assert f"the agent at {false.path} did not answer within 3 s" in warning["text"]
        assert false.asked == [REQUEST_IDENTITIES]
    with FalseAgent(tmp_path / "b", close_connection) as false:
        done = project.orch("-s", "real", "doctor", **false.environ)
    assert done.code == 0
    assert done.out.count(f"warning: h[1-4]: the agent at {false.path} does not answer") == 1
    assert "help: restart it, or run with `SSH_AUTH_SOCK=`" in done.out
