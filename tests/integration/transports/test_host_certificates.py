"""Host certificates made by ssh-keygen: which are accepted, and why others are not."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from orchestrator.errors import ConnectError
from orchestrator.model.host import ConnectionOptions
from orchestrator.transports.ssh.host_key_policy import (
    HostKeyVerifier,
    KnownHostsStore,
    is_certificate,
    read_host_certificate,
)
from orchestrator.transports.ssh_config.settings import SshSettings
from tests.sshd import generate_key

ALWAYS = ["-n", "web,10.0.0.1"]


def public_blob(key: Path) -> bytes:
    """Return the public key's blob."""
    return base64.b64decode(Path(f"{key}.pub").read_text().split()[1])


def make_certificate(authority: Path, key: Path, *words: str, user: bool = False) -> bytes:
    """Sign this key with ssh-keygen and return the certificate."""
    command = ["ssh-keygen", "-q", "-I", "it", "-s", str(authority), *words]
    subprocess.run([*command, *([] if user else ["-h"]), f"{key}.pub"], check=True)
    return base64.b64decode(Path(f"{key}-cert.pub").read_text().split()[1])


def make_verifier(
    tmp_path: Path, *lines: str, name: str = "web", alias: str = "", port: int = 22
) -> HostKeyVerifier:
    known = tmp_path / "known"
    known.write_text("".join(f"{line}\n" for line in lines))
    connect = ConnectionOptions(name, known_hosts=(str(known),))
    settings = SshSettings(name, name, host_key_alias=alias)
    return KnownHostsStore(tmp_path, record_host_keys=False).verifier_for(connect, port, settings)


def known_hosts_line(key: Path, names: str = "*", marker: str = "@cert-authority") -> str:
    return f"{marker} {names} {' '.join(Path(f'{key}.pub').read_text().split()[:2])}"


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    return generate_key(tmp_path / "ca")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return generate_key(tmp_path / "key")


KINDS = [("ed25519", None), ("ecdsa", 256), ("ecdsa", 521), ("rsa", 2048)]


@pytest.mark.parametrize(
    ("kind", "bits", "by", "by_bits"),
    [(*key, *by) for key, by in zip(KINDS, [*KINDS[1:], KINDS[0]], strict=True)],
)
def test_every_kind_of_key_and_of_authority(
    tmp_path: Path, kind: str, bits: int | None, by: str, by_bits: int | None
) -> None:
    authority = generate_key(tmp_path / "ca", by, bits=by_bits)
    key = generate_key(tmp_path / "key", kind, bits=bits)
    blob = make_certificate(authority, key, *ALWAYS)
    assert is_certificate(blob)
    assert not is_certificate(public_blob(key))
    read = read_host_certificate(blob)
    assert (read.key, read.authority) == (public_blob(key), public_blob(authority))
    assert (read.names, read.invalid_reason("web")) == (("web", "10.0.0.1"), "")
    make_verifier(tmp_path, known_hosts_line(authority)).verify(blob)


@pytest.mark.parametrize(
    ("words", "user", "why"),
    [
        (["-n", "other,web.example"], False, "it is for other, web.example"),
        (["-n", "w*"], False, "it is for w*"),
        (["-V", "20200101Z:20200102Z"], False, "it was valid until 2020-01-02 00:00 UTC"),
        (["-V", "29990101Z:29990102Z"], False, "it is valid from 2999-01-01 00:00 UTC"),
        (["-O", "critical:odd=1"], False, "it has unknown critical options"),
        (ALWAYS, True, "it is a user certificate"),
    ],
)
def test_a_certificate_that_does_not_count_says_why_and_its_key_may(
    tmp_path: Path, authority: Path, key: Path, words: list[str], user: bool, why: str
) -> None:
    blob = make_certificate(authority, key, *words, user=user)
    with pytest.raises(ConnectError) as caught:
        make_verifier(tmp_path, known_hosts_line(authority)).verify(blob)
    assert f"is a @cert-authority, but its certificate is not valid: {why}; " in caught.value.reason
    make_verifier(
        tmp_path, known_hosts_line(authority), known_hosts_line(key, marker="").strip()
    ).verify(blob)


def test_a_certificate_that_was_tampered_with_does_not_count(
    tmp_path: Path, authority: Path, key: Path
) -> None:
    blob = make_certificate(authority, key, "-n", "wab")
    for bad in (blob.replace(b"wab", b"web"), blob[:-1] + bytes([blob[-1] ^ 1]), blob[:-9]):
        with pytest.raises(ConnectError) as caught:
            make_verifier(tmp_path, known_hosts_line(authority)).verify(bad)
        assert "@cert-authority" in caught.value.reason


def test_another_s_certificate_does_not_count(tmp_path: Path, authority: Path, key: Path) -> None:
    blob = make_certificate(generate_key(tmp_path / "other"), key, *ALWAYS)
    with pytest.raises(ConnectError, match="but its certificate is signed by SHA256:"):
        make_verifier(tmp_path, known_hosts_line(authority)).verify(blob)


def test_an_authority_counts_for_the_hosts_of_its_line(
    tmp_path: Path, authority: Path, key: Path
) -> None:
    blob = make_certificate(authority, key)
    for names in ("web", "w?b", "[web]:22,web", "*,!mail"):
        make_verifier(tmp_path, known_hosts_line(authority, names)).verify(blob)
    for names in ("mail", "*,!web", "[web]:2022"):
        with pytest.raises(ConnectError):
            make_verifier(tmp_path, known_hosts_line(authority, names)).verify(blob)
    make_verifier(tmp_path, known_hosts_line(authority, "web"), port=2022).verify(
        blob
    )  # as ssh does
    make_verifier(tmp_path, known_hosts_line(authority, "[web]:2022"), port=2022).verify(blob)


def test_the_alias_is_the_name(tmp_path: Path, authority: Path, key: Path) -> None:
    blob = make_certificate(authority, key, "-n", "db")
    make_verifier(tmp_path, known_hosts_line(authority, "db"), alias="db").verify(blob)


@pytest.mark.parametrize("revoked", ["ca", "key"])
def test_what_is_revoked_counts_for_nothing(
    tmp_path: Path, authority: Path, key: Path, revoked: str
) -> None:
    blob = make_certificate(authority, key)
    bad = known_hosts_line(tmp_path / revoked, marker="@revoked")
    with pytest.raises(ConnectError, match=r"is revoked at .*known:2"):
        make_verifier(tmp_path, known_hosts_line(authority), bad).verify(blob)


def test_certificates_are_asked_for_where_an_authority_is_known(
    tmp_path: Path, authority: Path
) -> None:
    assert (
        make_verifier(tmp_path, known_hosts_line(authority)).algorithm_order()[0]
        == "ssh-ed25519-cert-v01@openssh.com"
    )
    asked = make_verifier(tmp_path, known_hosts_line(authority, "mail")).algorithm_order()
    assert not any("cert" in name for name in asked)
    expected = make_verifier(tmp_path, known_hosts_line(authority)).algorithm_order(("ssh-rsa",))
    assert expected[0] == "rsa-sha2-512"
