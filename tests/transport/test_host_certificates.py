"""Certificates of hosts, made by ssh-keygen: which count, and why others do not."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from orchestrator.errors import ConnectError
from orchestrator.model.host import Connect
from orchestrator.transports.ssh.host_key_policy import (
    Trust,
    TrustStore,
    is_certificate,
    read_host_certificate,
)
from orchestrator.transports.ssh_config.settings import Settings
from tests.sshd import keygen

ALWAYS = ["-n", "web,10.0.0.1"]


def public(key: Path) -> bytes:
    """Its blob."""
    return base64.b64decode(Path(f"{key}.pub").read_text().split()[1])


def certificate(authority: Path, key: Path, *words: str, user: bool = False) -> bytes:
    """A certificate of this key."""
    command = ["ssh-keygen", "-q", "-I", "it", "-s", str(authority), *words]
    subprocess.run([*command, *([] if user else ["-h"]), f"{key}.pub"], check=True)
    return base64.b64decode(Path(f"{key}-cert.pub").read_text().split()[1])


def trust(tmp_path: Path, *lines: str, name: str = "web", alias: str = "", port: int = 22) -> Trust:
    known = tmp_path / "known"
    known.write_text("".join(f"{line}\n" for line in lines))
    connect = Connect(name, known_hosts=(str(known),))
    settings = Settings(name, name, host_key_alias=alias)
    return TrustStore(tmp_path, record=False).of(connect, port, settings)


def line(key: Path, names: str = "*", marker: str = "@cert-authority") -> str:
    return f"{marker} {names} {' '.join(Path(f'{key}.pub').read_text().split()[:2])}"


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    return keygen(tmp_path / "ca")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return keygen(tmp_path / "key")


KINDS = [("ed25519", None), ("ecdsa", 256), ("ecdsa", 521), ("rsa", 2048)]


@pytest.mark.parametrize(
    ("kind", "bits", "by", "by_bits"),
    [(*key, *by) for key, by in zip(KINDS, [*KINDS[1:], KINDS[0]], strict=True)],
)
def test_every_kind_of_key_and_of_authority(
    tmp_path: Path, kind: str, bits: int | None, by: str, by_bits: int | None
) -> None:
    authority = keygen(tmp_path / "ca", by, bits=by_bits)
    key = keygen(tmp_path / "key", kind, bits=bits)
    blob = certificate(authority, key, *ALWAYS)
    assert is_certificate(blob)
    assert not is_certificate(public(key))
    read = read_host_certificate(blob)
    assert (read.key, read.authority) == (public(key), public(authority))
    assert (read.names, read.trouble("web")) == (("web", "10.0.0.1"), "")
    trust(tmp_path, line(authority)).judge(blob)


@pytest.mark.parametrize(
    ("words", "user", "why"),
    [
        (["-n", "other,web.example"], False, "it is for other, web.example"),
        (["-n", "w*"], False, "it is for w*"),
        (["-V", "20200101Z:20200102Z"], False, "it was valid until 2020-01-02 00:00 UTC"),
        (["-V", "29990101Z:29990102Z"], False, "it is valid from 2999-01-01 00:00 UTC"),
        (["-O", "critical:odd=1"], False, "it has options that orch does not know"),
        (ALWAYS, True, "it is a user's"),
    ],
)
def test_a_certificate_that_does_not_count_says_why_and_its_key_may(
    tmp_path: Path, authority: Path, key: Path, words: list[str], user: bool, why: str
) -> None:
    blob = certificate(authority, key, *words, user=user)
    with pytest.raises(ConnectError) as caught:
        trust(tmp_path, line(authority)).judge(blob)
    assert f"is a @cert-authority, but its certificate does not count: {why}; " in caught.value.why
    trust(tmp_path, line(authority), line(key, marker="").strip()).judge(blob)


def test_a_certificate_that_was_tampered_with_does_not_count(
    tmp_path: Path, authority: Path, key: Path
) -> None:
    blob = certificate(authority, key, "-n", "wab")
    for bad in (blob.replace(b"wab", b"web"), blob[:-1] + bytes([blob[-1] ^ 1]), blob[:-9]):
        with pytest.raises(ConnectError) as caught:
            trust(tmp_path, line(authority)).judge(bad)
        assert "@cert-authority" in caught.value.why


def test_another_s_certificate_does_not_count(tmp_path: Path, authority: Path, key: Path) -> None:
    blob = certificate(keygen(tmp_path / "other"), key, *ALWAYS)
    with pytest.raises(ConnectError, match="but its certificate is by SHA256:"):
        trust(tmp_path, line(authority)).judge(blob)


def test_an_authority_counts_for_the_hosts_of_its_line(
    tmp_path: Path, authority: Path, key: Path
) -> None:
    blob = certificate(authority, key)
    for names in ("web", "w?b", "[web]:22,web", "*,!mail"):
        trust(tmp_path, line(authority, names)).judge(blob)
    for names in ("mail", "*,!web", "[web]:2022"):
        with pytest.raises(ConnectError):
            trust(tmp_path, line(authority, names)).judge(blob)
    trust(tmp_path, line(authority, "web"), port=2022).judge(blob)  # as ssh does
    trust(tmp_path, line(authority, "[web]:2022"), port=2022).judge(blob)


def test_the_alias_is_the_name(tmp_path: Path, authority: Path, key: Path) -> None:
    blob = certificate(authority, key, "-n", "db")
    trust(tmp_path, line(authority, "db"), alias="db").judge(blob)


@pytest.mark.parametrize("revoked", ["ca", "key"])
def test_what_is_revoked_counts_for_nothing(
    tmp_path: Path, authority: Path, key: Path, revoked: str
) -> None:
    blob = certificate(authority, key)
    bad = line(tmp_path / revoked, marker="@revoked")
    with pytest.raises(ConnectError, match=r"is revoked at .*known:2"):
        trust(tmp_path, line(authority), bad).judge(blob)


def test_certificates_are_asked_for_where_an_authority_is_known(
    tmp_path: Path, authority: Path
) -> None:
    assert trust(tmp_path, line(authority)).order()[0] == "ssh-ed25519-cert-v01@openssh.com"
    asked = trust(tmp_path, line(authority, "mail")).order()
    assert not any("cert" in name for name in asked)
    wanted = trust(tmp_path, line(authority)).order(("ssh-rsa",))
    assert wanted[0] == "rsa-sha2-512"
