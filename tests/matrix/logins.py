"""The private machine of accounts, keys, passwords, certificates and algorithms as they are out
there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.matrix.compact import Project
from tests.matrix.ground import Ground
from tests.matrix.hosts import TRANSPORTS, common, hosts, settings
from tests.matrix.place import CONFIG, Account, Place, place
from tests.matrix.refusals import LINES
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
WORKS = tuple(
    (name, transport)
    for name in ACCOUNTS
    for transport in TRANSPORTS
    if name != "another" and (name, transport) not in LINES
)


@contextmanager
def logins(folder: Path) -> Iterator[Ground]:
    with place(folder) as made:
        made.add([*ACCOUNTS.values()])
        _keys(made)
        made.serve("main", ["Port 22", *settings([*ACCOUNTS.values()])])
        for name, lines in SERVERS.items():
            made.serve(name, [f"Port {PORTS[name]}", *lines])
        environ = {"ORCH_SSH_PASSWORD_FILE": str(made.folder / "password")}
        yield Ground(made, _project(made), WORKS, environ, PASSPHRASE)


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


def _project(here: Place) -> Project:
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
