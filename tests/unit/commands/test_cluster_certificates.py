"""The certificates of a cluster: who signs them, when they are renewed, and who can read them."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.commands import cluster_certificates
from orchestrator.commands.cluster_certificates import CertificateFolder, ClusterCertificates
from orchestrator.errors import UsageError

ADDRESS = "tls://10.0.0.1:8786"
NAMES = {"c1": ("10.0.0.1", "c1.example.net"), "c2": ("c2",)}


@pytest.fixture
def folder(tmp_path: Path) -> CertificateFolder:
    return CertificateFolder(tmp_path, "prod")


def save_new(folder: CertificateFolder) -> ClusterCertificates:
    made = folder.complete("prod", NAMES)
    folder.save(made, ADDRESS)
    return made


def shake_hands(server: tuple[Path, Path, Path], client: tuple[Path, Path, Path]) -> str:
    """Return the error of a TLS connection with strict checks of both sides, or ''."""
    ours, theirs = socket.socketpair()
    contexts = []
    for purpose, (authority, certificate, key) in (
        (ssl.Purpose.CLIENT_AUTH, server),
        (ssl.Purpose.SERVER_AUTH, client),
    ):
        context = ssl.create_default_context(purpose, cafile=str(authority))
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
        context.check_hostname, context.verify_mode = False, ssl.CERT_REQUIRED
        context.load_cert_chain(certificate, key)
        contexts.append(context)
    errors: list[str] = []

    def serve() -> None:
        try:
            with contexts[0].wrap_socket(theirs, server_side=True) as wrapped:
                wrapped.send(b"x")
        except OSError as error:
            errors.append(str(error))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with contexts[1].wrap_socket(ours) as wrapped:
            wrapped.recv(1)
    except OSError as error:
        errors.append(str(error))
    thread.join()
    return errors[0] if errors else ""


def paths(folder: CertificateFolder, name: str) -> tuple[Path, Path, Path]:
    return tuple(folder.path / each for each in ("ca.pem", f"{name}.pem", f"{name}.key"))  # type: ignore[return-value]


def test_hosts_and_client_trust_each_other_and_no_other_cluster(
    folder: CertificateFolder, tmp_path: Path
) -> None:
    save_new(folder)
    assert shake_hands(paths(folder, "hosts/c1"), paths(folder, "client")) == ""
    assert shake_hands(paths(folder, "hosts/c1"), paths(folder, "hosts/c2")) == ""
    other = CertificateFolder(tmp_path / "other", "prod")
    save_new(other)
    assert shake_hands(paths(folder, "hosts/c1"), paths(other, "client")) != ""


def test_files_are_for_their_owner_alone_and_ignored_by_git(folder: CertificateFolder) -> None:
    save_new(folder)
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    assert len(files) == 9
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    folders = (folder.path, folder.path / "hosts")
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    assert (folder.path.parent / ".gitignore").read_text() == "*\n"


def test_certificates_stay_as_they_are_until_their_last_month(
    folder: CertificateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = save_new(folder)
    assert folder.complete("prod", NAMES) == made
    more = folder.complete("prod", {**NAMES, "c3": ("c3",)})
    assert more.hosts["c1"] == made.hosts["c1"]
    assert "c3" in more.hosts
    end = made.hosts["c1"].expires
    assert timedelta(days=360) < end - datetime.now(UTC) < timedelta(days=366)
    monkeypatch.setattr(cluster_certificates, "RENEW_BEFORE", timedelta(days=400))
    renewed = folder.complete("prod", NAMES)
    assert renewed.authority == made.authority
    assert renewed.hosts["c1"] != made.hosts["c1"]
    assert renewed.client != made.client


def test_a_new_authority_replaces_all_and_remembers_the_old_one(folder: CertificateFolder) -> None:
    made = save_new(folder)
    folder.save(folder.complete("prod", NAMES, renew=True), ADDRESS)
    found = folder.load()
    assert found is not None
    assert found.authority != made.authority
    assert found.old_authority == made.authority.certificate
    assert shake_hands(paths(folder, "hosts/c1"), paths(folder, "client")) == ""


def test_a_certificate_of_another_authority_is_made_anew(
    folder: CertificateFolder, tmp_path: Path
) -> None:
    save_new(folder)
    other = CertificateFolder(tmp_path / "other", "prod")
    save_new(other)
    for name in ("c1.pem", "c1.key"):
        (folder.path / "hosts" / name).write_bytes((other.path / "hosts" / name).read_bytes())
    found = folder.load()
    assert found is not None
    assert found.hosts.keys() == {"c2"}


def test_a_broken_certificate_is_named(folder: CertificateFolder) -> None:
    save_new(folder)
    (folder.path / "hosts/c1.pem").write_text("broken")
    with pytest.raises(UsageError, match="cannot read the certificate") as raised:
        folder.load()
    (first,) = raised.value.diagnostics
    assert first.mark is not None
    assert first.mark.path.endswith("hosts/c1.pem")


def test_files_are_found_for_their_own_scheduler_only(folder: CertificateFolder) -> None:
    assert folder.tls_files(ADDRESS) is None
    save_new(folder)
    files = folder.tls_files(ADDRESS)
    assert files is not None
    assert files.key == str(folder.path / "client.key")
    assert folder.tls_files("tls://10.0.0.2:8786") is None
    folder.remove()
    assert not folder.path.exists()


def test_a_machine_without_the_key_of_the_authority_uses_the_cluster_and_changes_nothing(
    folder: CertificateFolder,
) -> None:
    save_new(folder)
    (folder.path / "ca.key").unlink()
    assert folder.load() is not None
    assert folder.tls_files(ADDRESS) is not None
    before = {path: path.read_bytes() for path in folder.path.rglob("*.*")}
    with pytest.raises(UsageError, match="this machine can only use it"):
        folder.complete("prod", NAMES)
    assert {path: path.read_bytes() for path in folder.path.rglob("*.*")} == before
    assert folder.complete("prod", NAMES, renew=True).authority.key


def test_a_client_certificate_that_is_gone_is_made_anew_by_the_same_authority(
    folder: CertificateFolder,
) -> None:
    made = save_new(folder)
    (folder.path / "client.key").unlink()
    again = folder.complete("prod", NAMES)
    assert again.authority == made.authority
    assert again.hosts == made.hosts
    assert again.client is not None


def test_a_name_that_no_certificate_can_have_is_left_out(folder: CertificateFolder) -> None:
    made = folder.complete("p" * 100, {"h" * 100: ("x" * 64, "a..b", "fe80::1%eth0", "web_1")})
    folder.save(made, ADDRESS)
    assert folder.load() == made
