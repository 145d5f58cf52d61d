"""Authentication with keys from files and from a real agent, and refused logins."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.errors import ConnectError
from orchestrator.transports import TransportRegistry
from orchestrator.transports.ssh.auth import ClientAuth
from orchestrator.transports.ssh.key_files import read_private_key
from orchestrator.transports.ssh.keyring import KeyOffer, LoginKey
from orchestrator.transports.ssh.paramiko_compat import Message
from tests.sshd import SshdServer, generate_key, serve_sshd
from tests.support.false_agents import start_ssh_agent
from tests.support.security_key import SecurityKey, start_key_agent
from tests.support.shell_talk import ask_shell

ConnectorMaker = Callable[..., TransportRegistry]


@contextmanager
def start_agent(folder: Path, *keys: Path) -> Iterator[dict[str, str]]:
    """Start a real ssh-agent with these keys; return its environment."""
    path = folder / "agent"
    with start_ssh_agent(path, *keys):
        yield {"SSH_AUTH_SOCK": str(path)}


def accept_keys(sshd: SshdServer, *keys: Path) -> None:
    """Make the server accept these keys only."""
    text = "".join(Path(f"{key}.pub").read_text() for key in keys)
    (sshd.folder / "authorized_keys").write_text(text)


def check_connects(connector: TransportRegistry, sshd: SshdServer, **settings: object) -> bool:
    connect = sshd.connect_options(**settings)  # type: ignore[arg-type]
    return (
        ask_shell(connector.connect(sshd.inventory_host(connect=connect)), "echo in").stdout
        == b"in\n"
    )


def check_refused(
    connector: TransportRegistry, sshd: SshdServer, **settings: object
) -> ConnectError:
    with pytest.raises(ConnectError) as caught:
        connector.connect(sshd.inventory_host(connect=sshd.connect_options(**settings)))  # type: ignore[arg-type]
    assert caught.value.phase == "auth"
    return caught.value


@pytest.fixture
def own(tmp_path: Path) -> Iterator[SshdServer]:
    """Yield a server whose accepted keys the test may change."""
    with serve_sshd(tmp_path / "sshd") as server:
        yield server


@pytest.mark.parametrize(
    ("kind", "bits"), [("ed25519", None), ("rsa", 2048), ("ecdsa", 256), ("ecdsa", 521)]
)
@pytest.mark.parametrize("form", ["OpenSSH", "PEM", "PKCS8"])
def test_every_kind_and_form_of_key(
    own: SshdServer,
    connector: TransportRegistry,
    tmp_path: Path,
    kind: str,
    bits: int | None,
    form: str,
) -> None:
    key = generate_key(tmp_path / "key", kind, bits=bits)
    accept_keys(own, key)
    if form != "OpenSSH" and kind != "ed25519":  # which has no other form
        command = ["ssh-keygen", "-q", "-p", "-m", form, "-P", "", "-N", "", "-f", key]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        assert "OPENSSH" not in key.read_text()
    assert check_connects(connector, own, identity=(str(key),))


class RecordingGate:
    """A connection that records what is sent and has the server extensions of Dropbear."""

    session_id = b"session"

    def __init__(self) -> None:
        self.server_extensions: dict[str, bytes] = {}
        self.sent: list[bytes] = []

    def send_message(self, message: Message) -> None:
        self.sent.append(message.asbytes())

    def auth_succeeded(self) -> None:
        raise AssertionError

    def auth_failed(self, error: ConnectError) -> None:
        raise error


def test_rsa_is_signed_again_where_the_server_takes_another_hash(tmp_path: Path) -> None:
    """The first request is sent before the server can announce the hashes that it supports."""
    identity = read_private_key(generate_key(tmp_path / "key", "rsa", bits=2048), "key")
    assert identity.sign
    gate = RecordingGate()
    auth = ClientAuth(
        gate, "me", KeyOffer((LoginKey(identity.public_blob, "key", identity.sign),), ())
    )
    auth.begin()
    gate.server_extensions["server-sig-algs"] = b"ssh-ed25519,rsa-sha2-256"
    failure = Message().add_list(["publickey"]).add_boolean(False).asbytes()
    auth._handler_table[51](Message(failure))
    assert [b"rsa-sha2-512" in sent for sent in gate.sent] == [False, True, False]
    assert gate.sent[2].count(b"rsa-sha2-256") == 2
    with pytest.raises(ConnectError) as caught:
        auth._handler_table[51](Message(failure))
    assert caught.value.reason.count("(ssh-rsa") == 1


def test_rsa_is_never_signed_with_sha1(tmp_path: Path, connector: TransportRegistry) -> None:
    with serve_sshd(tmp_path / "sshd", ["PubkeyAcceptedAlgorithms ssh-rsa"]) as sshd:
        key = generate_key(tmp_path / "key", "rsa", bits=2048)
        accept_keys(sshd, key)
        check_refused(connector, sshd, identity=(str(key),))


def test_the_wrong_key_is_named_with_the_methods_that_the_server_takes(
    own: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    first, second = generate_key(tmp_path / "first"), generate_key(tmp_path / "second", "ecdsa")
    names = (str(first), str(second), str(tmp_path / "missing"))
    error = check_refused(connector, own, identity=names, user="deploy")
    assert re.search(
        rf"permission denied for deploy: tried {first} \(ssh-ed25519 SHA256:\S+\), "
        rf"then {second} \(ecdsa-sha2-nistp256 SHA256:\S+\); "
        rf"{tmp_path}/missing does not exist; the server accepts publickey",
        error.reason,
    )
    assert "authorized_keys" in error.hint


def test_no_key_at_all_says_so(own: SshdServer, connector: TransportRegistry) -> None:
    error = check_refused(connector, own, identity=())
    assert "no key to try; the server accepts publickey" in error.reason


def test_an_encrypted_key_says_how_to_unlock_it(
    own: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    key = generate_key(tmp_path / "key", passphrase="secret")
    accept_keys(own, key)
    error = check_refused(connector, own, identity=(str(key),))
    assert f"{key} is encrypted" in error.reason
    assert f"`ssh-add {key}`" in error.reason


@pytest.mark.parametrize("form", ["PEM", "PKCS8"])
def test_an_encrypted_key_of_the_old_form_does_so_too(
    own: SshdServer, connector: TransportRegistry, tmp_path: Path, form: str
) -> None:
    key = generate_key(tmp_path / "key", "rsa", "secret", 2048)
    command = ["ssh-keygen", "-q", "-p", "-m", form, "-P", "secret", "-N", "secret", "-f", key]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    accept_keys(own, key)
    assert f"{key} is encrypted" in check_refused(connector, own, identity=(str(key),)).reason


@pytest.mark.parametrize("text", ["", "not a key", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_what_is_no_key_is_named(
    own: SshdServer, connector: TransportRegistry, tmp_path: Path, text: str
) -> None:
    (tmp_path / "key").write_text(text)
    error = check_refused(connector, own, identity=(str(tmp_path / "key"),))
    assert f"{tmp_path}/key is not a usable private key" in error.reason


def test_the_usual_files_are_tried_where_none_is_named(
    own: SshdServer, connector: TransportRegistry, tmp_path: Path
) -> None:
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    accept_keys(own, generate_key(tmp_path / "home" / ".ssh" / "id_ecdsa", "ecdsa"))
    generate_key(tmp_path / "home" / ".ssh" / "id_ed25519")
    assert check_connects(connector, own, identity=())
    other = generate_key(tmp_path / "other")
    error = check_refused(connector, own, identity=("~/x", str(other)))
    assert "id_ecdsa" not in error.reason
    assert "~/x does not exist" in error.reason


def test_an_agents_key_gets_in(
    own: SshdServer, make_connector: ConnectorMaker, tmp_path: Path
) -> None:
    ed, rsa = generate_key(tmp_path / "ed"), generate_key(tmp_path / "rsa", "rsa", bits=2048)
    with start_agent(tmp_path, ed, rsa) as environ:
        for key in (ed, rsa):
            accept_keys(own, key)
            connector = make_connector(environ)
            assert check_connects(connector, own, identity=(), identities_only=None)
            connector.close()


def test_a_security_keys_touch_is_asked_for_once_a_login(
    own: SshdServer, make_connector: ConnectorMaker, tmp_path: Path
) -> None:
    key = SecurityKey()
    (own.folder / "authorized_keys").write_text(f"{key.public_line}\n")
    with start_key_agent(key, tmp_path / "agent") as environ:
        connector = make_connector(environ)
        assert check_connects(connector, own, identity=(), identities_only=None)
        connector.close()
    assert key.touches == 1


def test_an_agent_unlocks_an_encrypted_key_and_a_public_one(
    own: SshdServer, make_connector: ConnectorMaker, tmp_path: Path
) -> None:
    others = [generate_key(tmp_path / f"other{n}") for n in range(8)]
    key = generate_key(tmp_path / "key")
    accept_keys(own, key)
    with start_agent(tmp_path, *others, key) as environ:
        command = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", key]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        assert check_connects(make_connector(environ), own, identity=(str(key),))
        assert check_connects(make_connector(environ), own, identity=(f"{key}.pub",))
        Path(f"{key}.pub").unlink()
        assert check_connects(make_connector(environ), own, identity=(str(key),))


def test_the_named_key_comes_before_an_agents_many(
    own: SshdServer, make_connector: ConnectorMaker, tmp_path: Path
) -> None:
    others = [generate_key(tmp_path / f"other{n}") for n in range(8)]
    with start_agent(tmp_path, *others) as environ:
        assert check_connects(make_connector(environ), own, identities_only=None)


def test_too_many_keys_are_explained(
    own: SshdServer, make_connector: ConnectorMaker, tmp_path: Path
) -> None:
    others = [generate_key(tmp_path / f"other{n}") for n in range(8)]
    with start_agent(tmp_path, *others) as environ:
        error = check_refused(make_connector(environ), own, identity=(), identities_only=None)
        assert "the server allows no more attempts (MaxAuthTries)" in error.reason
        assert "agent other0 (ssh-ed25519 SHA256:" in error.reason
        assert "identities_only: true" in error.hint


def test_identities_only_leaves_the_agents_other_keys_alone(
    own: SshdServer, make_connector: ConnectorMaker, tmp_path: Path
) -> None:
    held, wrong = generate_key(tmp_path / "held"), generate_key(tmp_path / "wrong")
    accept_keys(own, held)
    with start_agent(tmp_path, held) as environ:
        connector = make_connector(environ)
        assert check_connects(connector, own, identity=(str(wrong),), identities_only=None)
        error = check_refused(connector, own, identity=(str(wrong),), identities_only=True)
        assert "held" not in error.reason


def test_the_agent_is_asked_for_its_keys_once_a_run(
    own: SshdServer, make_connector: ConnectorMaker, tmp_path: Path
) -> None:
    with start_agent(tmp_path, own.key) as environ:
        connector = make_connector(environ)
        assert check_connects(connector, own, identity=(), identities_only=None)
        subprocess.run(["ssh-add", "-q", "-D"], check=True, env={**os.environ, **environ})
        error = check_refused(connector, own, identity=(), identities_only=None)
        assert f"the agent at {tmp_path}/agent refused to sign with this key" in error.reason


def test_a_key_that_was_let_in_is_tried_first_from_then_on(
    own: SshdServer, make_connector: ConnectorMaker, tmp_path: Path
) -> None:
    keys = [generate_key(tmp_path / f"key{n}") for n in range(3)]
    accept_keys(own, keys[2])
    connector = make_connector()
    names = tuple(str(key) for key in keys)
    assert check_connects(connector, own, identity=names)
    assert own.log().count("Failed publickey") == 2
    assert check_connects(connector, own, identity=names)
    assert own.log().count("Failed publickey") == 2


def test_a_dead_agent_is_told(
    own: SshdServer, make_connector: ConnectorMaker, tmp_path: Path
) -> None:
    connector = make_connector({"SSH_AUTH_SOCK": str(tmp_path / "gone")})
    assert check_connects(connector, own, identities_only=None)
    error = check_refused(connector, own, identity=(), identities_only=None)
    assert f"the agent at {tmp_path}/gone does not answer" in error.reason


def test_a_certificate_gets_in(tmp_path: Path, connector: TransportRegistry) -> None:
    authority, key = generate_key(tmp_path / "ca"), generate_key(tmp_path / "key", "rsa", bits=2048)
    with serve_sshd(tmp_path / "sshd", [f"TrustedUserCAKeys {authority}.pub"]) as sshd:
        accept_keys(sshd)
        assert "permission denied" in check_refused(connector, sshd, identity=(str(key),)).reason
        command = ["ssh-keygen", "-q", "-s", authority, "-I", "me", "-n", sshd.user, f"{key}.pub"]
        subprocess.run(command, check=True)
        again = TransportRegistry(home=tmp_path, environ={})
        assert check_connects(again, sshd, identity=(str(key),))
        again.close()


def test_a_server_that_wants_more_than_a_key_says_what(
    tmp_path: Path, connector: TransportRegistry
) -> None:
    lines = ["AuthenticationMethods publickey,password", "PasswordAuthentication yes"]
    with serve_sshd(tmp_path / "sshd", lines) as sshd:
        error = check_refused(connector, sshd)
    assert "accepted, but another method is required as well" in error.reason
    assert "the server accepts password" in error.reason


def test_a_server_without_keys_says_what_it_takes(
    tmp_path: Path, connector: TransportRegistry
) -> None:
    lines = ["PubkeyAuthentication no", "PasswordAuthentication yes"]
    with serve_sshd(tmp_path / "sshd", lines) as sshd:
        error = check_refused(connector, sshd)
    assert "the server accepts password" in error.reason
    assert "authorized_keys" in error.hint
