"""Accounts, keys, passwords, certificates and algorithms as they are out there: a compact run over
both transports works, or tells in one line why it does not get in.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import Exit
from tests.matrix.compact import Done, Project, conforms
from tests.matrix.hosts import TRANSPORTS, common, hosts, settings
from tests.matrix.place import CONFIG, Account, Place, place
from tests.sshd import keygen

PASSWORD, PASSPHRASE = "open sesame", "xyzzy"
# PASSWORD by crypt(3)
SECRET = (
    "$6$matrix$qU7800lHnwaEu2LZYbJS15e7UI6mq916oSL1mk6Hhq9aG"
    "PFlbrr32LePrz227CSSlzwGfKZmyh6H7J1NSwpr8."
)
_METHODS = "AuthenticationMethods"
_SLOW = [
    "AuthorizedKeysFile none",
    f"AuthorizedKeysCommand {CONFIG}/slow",
    "AuthorizedKeysCommandUser nobody",
]
ACCOUNTS = {
    each.name: each
    for each in (
        Account("expired", dates="20000:0:99999:7::1:"),
        Account("stale", secret=SECRET, dates="0:0:99999:7:::"),
        Account("locked", secret=f"!{SECRET}"),
        Account("barred", secret=f"!{SECRET}"),
        Account(
            "both",
            secret=SECRET,
            match=[f"{_METHODS} publickey,password", "PasswordAuthentication yes"],
        ),
        Account(
            "prompted",
            secret=SECRET,
            match=[f"{_METHODS} keyboard-interactive:pam", "KbdInteractiveAuthentication yes"],
        ),
        Account("once", match=["MaxAuthTries 1"]),
        Account("many", match=["MaxAuthTries 1"]),
        Account("encrypted", match=[f"AuthorizedKeysFile {CONFIG}/encrypted.pub"]),
        Account("another", match=[f"AuthorizedKeysFile {CONFIG}/encrypted.pub"]),
        Account(
            "certified", match=["AuthorizedKeysFile none", f"TrustedUserCAKeys {CONFIG}/ca.pub"]
        ),
        Account("slow", match=_SLOW),
        Account("slower", match=_SLOW),
        Account("revoked"),
        *(Account(name) for name in ("old", "cbc", "sha1", "sha1-key", "sntrup", "chacha")),
        *(Account(name) for name in ("by-ca", "by-rsa", "elsewhere", "lapsed", "ca-revoked")),
    )
}
# sshds for what is no account's own: their lines, by the name of the host that stands for them
SERVERS = {
    "barred": ["UsePAM no"],
    "old": [
        "KexAlgorithms diffie-hellman-group14-sha256",
        "Ciphers aes128-ctr",
        "MACs hmac-sha1",
        f"HostKey {CONFIG}/rsa",
        "HostKeyAlgorithms rsa-sha2-256",
    ],
    "cbc": ["Ciphers aes256-cbc"],
    "sha1": ["KexAlgorithms diffie-hellman-group14-sha1"],
    "sha1-key": [f"HostKey {CONFIG}/rsa", "HostKeyAlgorithms ssh-rsa"],
    "sntrup": ["KexAlgorithms sntrup761x25519-sha512@openssh.com"],
    **{name: [f"HostCertificate {CONFIG}/{name}-cert.pub"] for name in ("by-ca", "elsewhere")},
    "lapsed": [f"HostCertificate {CONFIG}/lapsed-cert.pub"],
    "ca-revoked": [f"HostCertificate {CONFIG}/by-ca-cert.pub"],
    "by-rsa": [f"HostKey {CONFIG}/rsa", f"HostCertificate {CONFIG}/rsa-cert.pub"],
    "chacha": ["Ciphers chacha20-poly1305@openssh.com"],
}
PORTS = {name: port for port, name in enumerate(SERVERS, 2031)}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("matrix") / "place") as made:
        made.add([*ACCOUNTS.values()])
        _keys(made)
        made.serve("main", ["Port 22", *settings([*ACCOUNTS.values()])])
        for name, lines in SERVERS.items():
            made.serve(name, [f"Port {PORTS[name]}", *lines])
        yield made


def _keys(made: Place) -> None:
    folder = made.folder
    for name in ("ca", "certified", "wrong"):
        keygen(folder / name)
    keygen(folder / "encrypted", passphrase=PASSPHRASE)
    keygen(folder / "rsa", "rsa", bits=2048)
    for name in ("ca.pub", "encrypted.pub", "rsa"):
        made.write(f"{CONFIG}/{name}", (folder / name).read_text()).chmod(0o600)
    certify = ["ssh-keygen", "-q", "-s", folder / "ca", "-I", "me", "-n", "certified"]
    subprocess.run([*certify, folder / "certified.pub"], check=True)
    made.write(f"{CONFIG}/slow", f"#!/bin/sh\nsleep 0.3\ncat {CONFIG}/keys\n").chmod(0o755)
    for name in ("ca.pub", "encrypted.pub"):
        made.at(f"{CONFIG}/{name}").chmod(0o644)
    with made.known_hosts.open("a") as known:
        known.write(f"* {_public(folder / 'rsa.pub')}\n")
    key = _public(Path(f"{made.host_key}.pub"))
    (folder / "revoked").write_text(f"@revoked * {key}\n* {key}\n")
    _certificates(made)
    (folder / "password").write_text(f"{PASSWORD}\n")
    (folder / "password").chmod(0o600)
    (folder / "no_config").touch()


def _certificates(made: Place) -> None:
    """Certificates of the host, and what known_hosts says of who made them."""
    folder = made.folder
    host_key = Path(f"{made.host_key}.pub").read_text()
    keygen(folder / "rsa-ca", "rsa", bits=2048)
    for name, authority, key, more in (
        ("by-ca", "ca", host_key, ["-n", "127.0.0.1,other"]),
        ("rsa", "rsa-ca", (folder / "rsa.pub").read_text(), ["-n", "127.0.0.1"]),
        ("elsewhere", "ca", host_key, ["-n", "other"]),
        ("lapsed", "ca", host_key, ["-V", "20200101Z:20200102Z"]),
    ):
        (folder / f"{name}.pub").write_text(key)
        words = ["ssh-keygen", "-q", "-h", "-I", name, "-s", folder / authority, *more]
        subprocess.run([*words, folder / f"{name}.pub"], check=True)
        made.write(f"{CONFIG}/{name}-cert.pub", (folder / f"{name}-cert.pub").read_text())
    keys = {name: _public(folder / f"{name}.pub") for name in ("ca", "rsa-ca")}
    (folder / "known-ca").write_text(f"@cert-authority * {keys['ca']}\n")
    (folder / "known-rsa").write_text(f"@cert-authority 127.0.0.1 {keys['rsa-ca']}\n")
    (folder / "known-revoked").write_text(
        f"@cert-authority * {keys['ca']}\n@revoked * {keys['ca']}\n"
    )


def _public(path: Path) -> str:
    """Type and base64."""
    return " ".join(path.read_text().split()[:2])


@pytest.fixture(scope="module")
def project(here: Place) -> Project:
    folder = here.folder
    connect: dict[str, dict[str, Any]] = {
        "many": {"identity": [str(folder / "wrong"), str(here.key)]},
        "encrypted": {"identity": str(folder / "encrypted")},
        "another": {"identity": str(folder / "encrypted")},
        "certified": {"identity": str(folder / "certified")},
        "slower": {"timeout": "200ms"},
        "revoked": {"known_hosts": str(folder / "revoked")},
    }
    for name, port in PORTS.items():
        # ssh's own choice of algorithms is part of the case
        connect[name] = {"port": port, "ssh_config": str(folder / "no_config")}
    for name in ("by-ca", "elsewhere", "lapsed"):
        connect[name]["known_hosts"] = str(folder / "known-ca")
    connect["by-rsa"]["known_hosts"] = str(folder / "known-rsa")
    connect["ca-revoked"]["known_hosts"] = str(folder / "known-revoked")
    project = Project(folder / "project")
    project.write(hosts([*ACCOUNTS.values()], connect), common(here))
    return project


class Person:
    """Somebody at a terminal, who knows one passphrase."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, text: str, seen: bool, stop: threading.Event) -> str:
        self.asked.append(text)
        return PASSPHRASE


TRIED = "{key} (ssh-ed25519 {print})"
NO_ANSWERS = (
    "no question can be answered with transport openssh: is the key in the agent, or `identity`"
    " right?"
)
REFUSED = "Unable to negotiate with 127.0.0.1 port {port}: no matching"
KEX = (
    "curve25519-sha256, curve25519-sha256@libssh.org, ecdh-sha2-nistp256, mlkem768x25519-sha256,"
    " ecdh-sha2-nistp384, ecdh-sha2-nistp521, diffie-hellman-group14-sha256,"
    " diffie-hellman-group16-sha512, diffie-hellman-group-exchange-sha256"
)
CIPHERS = (
    "aes128-gcm@openssh.com, aes256-gcm@openssh.com, aes128-ctr, aes256-ctr, aes192-ctr,"
    " aes128-cbc, aes256-cbc"
)
ALLOW, OTHER = (
    "ssh_config can allow more of what the host offers",
    "the system's ssh may know one: `connect: {transport: openssh}`",
)
STALE = (
    "shell: {at}: the session broke off (exit status 1); the host said: WARNING: Your password has"
    " expired. / Password change required but no TTY available.",
    "a login shell's rc file that reads its input, a forced command or a closed account does this:"
    " see what `ssh HOST 'exec sh'` does",
)
SLOWER = (
    "auth: {at}: timed out after 0.2 s logging in",
    "is it up? `connect: {{timeout: …}}` allows more",
)
UNKNOWN = (
    "host key: {{at}}: [127.0.0.1]:{{port}} is not known in {{folder}}/known-ca;"
    " {{folder}}/known-ca:1 is a @cert-authority, but its certificate does not count: {why};"
    " it shows ssh-ed25519 {{host_key}}"
)
COMPARE = (
    "compare that with `ssh-keygen -lf` on the host, then: ssh-keyscan -p {port} 127.0.0.1 >>"
    " {folder}/known-ca; or set `host_keys: accept-new`"
)
UNKNOWN_THERE = (
    "host key: {at}: [127.0.0.1]:{port} is not known; it shows ssh-ed25519-cert-v01@openssh.com"
    " {host_key}",
    "check it and add it with ssh-keyscan, or set `host_keys: accept-new`",
)
LINES: dict[tuple[str, str], tuple[str, str]] = {
    ("expired", "ssh"): (
        "auth: {at}: the server hung up and said: Your account has expired; please contact your"
        f" system administrator. (tried {TRIED})",
        "",
    ),
    ("expired", "openssh"): (
        "auth: {at}: Your account has expired; please contact your system administrator. /"
        " Connection closed by 127.0.0.1 port 22; tried {key}",
        NO_ANSWERS,
    ),
    ("stale", "ssh"): STALE,
    ("stale", "openssh"): STALE,
    ("barred", "ssh"): (
        f"auth: {{at}}: none of our keys lets barred in: tried {TRIED}; the server takes publickey",
        "is the user right, and the key in its ~/.ssh/authorized_keys?",
    ),
    ("barred", "openssh"): (
        "auth: {at}: barred@127.0.0.1: Permission denied (publickey).; tried {key}",
        NO_ANSWERS,
    ),
    ("both", "openssh"): (
        "auth: {at}: both@127.0.0.1: Permission denied (password).; tried {key}",
        NO_ANSWERS,
    ),
    ("prompted", "openssh"): (
        "auth: {at}: prompted@127.0.0.1: Permission denied (keyboard-interactive).; tried no key",
        NO_ANSWERS,
    ),
    ("many", "ssh"): (
        "auth: {at}: the server takes no more attempts (MaxAuthTries): tried {folder}/wrong"
        " (ssh-ed25519 {wrong})",
        "name the key (`connect: {{identity: …}}`) and set `identities_only: true`",
    ),
    ("many", "openssh"): (
        "auth: {at}: Received disconnect from 127.0.0.1 port 22:2: Too many authentication"
        " failures / Disconnected from 127.0.0.1 port 22; tried {folder}/wrong",
        NO_ANSWERS,
    ),
    ("encrypted", "openssh"): (
        "auth: {at}: encrypted@127.0.0.1: Permission denied (publickey).; tried {folder}/encrypted",
        NO_ANSWERS,
    ),
    ("slower", "ssh"): SLOWER,
    ("slower", "openssh"): SLOWER,
    ("revoked", "ssh"): (
        "host key: {at}: the key of 127.0.0.1 is revoked at {folder}/revoked:1: ssh-ed25519"
        " {host_key}",
        "whoever has this key may not be the host; ask its administrators",
    ),
    ("revoked", "openssh"): (
        "host key: {at}: it is revoked: ssh-ed25519 {host_key} (Host key verification failed.)",
        "",
    ),
    ("elsewhere", "ssh"): (UNKNOWN.format(why="it is for other"), COMPARE),
    ("elsewhere", "openssh"): UNKNOWN_THERE,
    ("lapsed", "ssh"): (UNKNOWN.format(why="it was valid until 2020-01-02 00:00 UTC"), COMPARE),
    ("lapsed", "openssh"): UNKNOWN_THERE,
    ("ca-revoked", "ssh"): (
        "host key: {at}: the CA of [127.0.0.1]:{port} is revoked at {folder}/known-revoked:2:"
        " ssh-ed25519 {ca}",
        "whoever has this key may not be the host; ask its administrators",
    ),
    ("ca-revoked", "openssh"): (
        "host key: {at}: it is revoked: ssh-ed25519-cert-v01@openssh.com {host_key} (Host key"
        " verification failed.)",
        "",
    ),
    ("cbc", "openssh"): (
        "kex: {at}: " + REFUSED + " cipher found. Their offer: aes256-cbc",
        ALLOW,
    ),
    ("sha1", "ssh"): (
        "kex: {at}: no key exchange algorithm in common: they offer diffie-hellman-group14-sha1,"
        f" kex-strict-s-v00@openssh.com; we know {KEX}",
        OTHER,
    ),
    ("sha1", "openssh"): (
        "kex: {at}: " + REFUSED + " key exchange method found. Their offer:"
        " diffie-hellman-group14-sha1,kex-strict-s-v00@openssh.com",
        ALLOW,
    ),
    ("sha1-key", "ssh"): (
        "kex: {at}: no host key algorithm in common: they offer ssh-rsa; we know ssh-ed25519,"
        " rsa-sha2-512, rsa-sha2-256, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384,"
        " ecdsa-sha2-nistp521",
        OTHER,
    ),
    ("sha1-key", "openssh"): (
        "kex: {at}: " + REFUSED + " host key type found. Their offer: ssh-rsa",
        ALLOW,
    ),
    ("sntrup", "ssh"): (
        "kex: {at}: no key exchange algorithm in common: they offer"
        f" sntrup761x25519-sha512@openssh.com, kex-strict-s-v00@openssh.com; we know {KEX}",
        OTHER,
    ),
    ("chacha", "ssh"): (
        "kex: {at}: no cipher algorithm in common: they offer chacha20-poly1305@openssh.com;"
        f" we know {CIPHERS}",
        OTHER,
    ),
}
"""The reason and the hint in the row of a host that we don't get into."""
EVERY = [(name, transport) for name in ACCOUNTS if name != "another" for transport in TRANSPORTS]


def run(here: Place, project: Project, name: str, transport: str) -> Done:
    environ = {"ORCH_SSH_PASSWORD_FILE": str(here.folder / "password")}
    (done,) = project.run(transport, name, environ=environ, ask=Person())
    return done


@pytest.mark.parametrize(("name", "transport"), [each for each in EVERY if each not in LINES])
def test_everything_works(here: Place, project: Project, name: str, transport: str) -> None:
    conforms(lambda: run(here, project, name, transport), here.at(ACCOUNTS[name].folder))


@pytest.mark.parametrize(("name", "transport"), LINES)
def test_whom_a_host_does_not_let_in_is_told_why(
    here: Place, project: Project, name: str, transport: str
) -> None:
    done = run(here, project, name, transport)
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


def test_a_passphrase_is_asked_for_once_in_a_run(here: Place, project: Project) -> None:
    person = Person()
    step = {"run": "echo $SSH_CONNECTION"}
    done = project.run("ssh", "encrypted", "another", steps=[step], ask=person)
    assert [host.code for host in done] == [Exit.OK, Exit.OK]
    assert person.asked == [f"Passphrase of {here.folder}/encrypted: "]
