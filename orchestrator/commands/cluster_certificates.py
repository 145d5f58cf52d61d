"""The certificates of a stage's cluster: an authority of its own, and a certificate for each host.

They are in a folder of the project that is for its owner alone. Who has a certificate of the
authority can run code on the workers, and only who has one can talk to scheduler and workers.
"""

from __future__ import annotations

import ipaddress
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from orchestrator.errors import Diagnostic, SourcePosition, UsageError
from orchestrator.journal import STATE_FOLDER
from orchestrator.yamlio.local_files import display_path

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, CertificateBuilder, GeneralName, KeyUsage, Name

CLUSTER_FOLDER = "cluster"
RENEW_BEFORE = timedelta(days=30)
"""How long before its end a certificate is made anew."""

_AUTHORITY_VALID = timedelta(days=3650)
_CERTIFICATE_VALID = timedelta(days=365)
_CLOCK_DIFFERENCE = timedelta(hours=1)
_AUTHORITY, _OLD_AUTHORITY, _CLIENT = "ca", "old-ca", "client"
_STATE = "cluster.json"
_HOSTS = "hosts"


class KeyPair(Struct, frozen=True):
    """A certificate and its private key, as PEM. ``expires`` is when it ends to be valid."""

    certificate: str
    key: str
    expires: datetime

    @property
    def needs_renewal(self) -> bool:
        """Return True if the certificate is not valid for much longer."""
        return self.expires - datetime.now(UTC) < RENEW_BEFORE


class ClusterCertificates(Struct, frozen=True):
    """The authority's certificate, that of this machine, and those of the hosts by name.

    ``old_authority`` is the certificate of the authority before this one, '' if there was none. The
    authority's key is '' on a machine that only uses the cluster; ``client`` is None if it is
    missing.
    """

    authority: KeyPair
    client: KeyPair | None
    hosts: Mapping[str, KeyPair]
    old_authority: str = ""


class TlsFiles(Struct, frozen=True):
    """The files with which this machine connects to a cluster."""

    authority: str
    certificate: str
    key: str


class CertificateFolder:
    """The certificates of one stage, in ``.orch/cluster/STAGE`` of the project."""

    def __init__(self, root: Path, stage: str) -> None:
        """Read nothing yet."""
        self.path = root / STATE_FOLDER / CLUSTER_FOLDER / stage

    def load(self) -> ClusterCertificates | None:
        """Return the certificates, or None if there are none.

        A certificate that its authority has not signed is left out. Raises UsageError if files
        cannot be read, or are not certificates.
        """
        authority = self._read_pair(_AUTHORITY)
        if authority is None:
            return None
        hosts: dict[str, KeyPair] = {}
        folder = self.path / _HOSTS
        for path in sorted(folder.glob("*.pem")) if folder.is_dir() else ():
            name = path.name.removesuffix(".pem")
            if pair := self._read_pair(f"{_HOSTS}/{name}", authority):
                hosts[name] = pair
        old_text = ""
        with suppress(OSError, UnicodeDecodeError):  # it matters only while it is replaced
            old_text = (self.path / f"{_OLD_AUTHORITY}.pem").read_text("ascii")
        return ClusterCertificates(
            authority,
            self._read_pair(_CLIENT, authority),
            hosts,
            old_text,
        )

    def complete(
        self, stage: str, names: Mapping[str, Sequence[str]], *, renew: bool = False
    ) -> ClusterCertificates:
        """Return certificates for these hosts; those that are missing, or end soon, are new.

        ``names`` are the names and addresses of each host. ``renew``: all are new. Nothing is
        written. Raises UsageError.
        """
        known = self.load()
        if known is not None and not known.authority.key and not renew:
            message = "the key of the cluster's authority is not here: this machine can only use it"
            hint = "run this on the machine that has .orch/cluster completely"
            mark = SourcePosition(display_path(self.path / f"{_AUTHORITY}.key"))
            raise UsageError(Diagnostic(message, mark, hint))
        if renew or known is None or known.authority.needs_renewal:
            authority = _new_authority(stage)
            old = known.authority.certificate if known else ""
            known = ClusterCertificates(authority, _new_pair(authority, "client", ()), {}, old)
        client = known.client
        if client is None or client.needs_renewal:
            client = _new_pair(known.authority, "client", ())
        hosts = {}
        for host, addresses in names.items():
            pair = known.hosts.get(host)
            if pair is None or pair.needs_renewal:
                pair = _new_pair(known.authority, host, addresses)
            hosts[host] = pair
        return ClusterCertificates(
            known.authority, client, {**known.hosts, **hosts}, known.old_authority
        )

    def save(self, certificates: ClusterCertificates, address: str) -> None:
        """Write the certificates, and the scheduler's address. Raises UsageError."""
        pairs = {
            _AUTHORITY: certificates.authority,
            **({_CLIENT: certificates.client} if certificates.client else {}),
            **{f"{_HOSTS}/{host}": pair for host, pair in certificates.hosts.items()},
        }
        texts = {_STATE: json.dumps({"address": address}) + "\n"}
        if certificates.old_authority:
            texts[f"{_OLD_AUTHORITY}.pem"] = certificates.old_authority
        for name, pair in pairs.items():
            texts |= {f"{name}.key": pair.key, f"{name}.pem": pair.certificate}
        try:
            (self.path / _HOSTS).mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.path.parent, self.path, self.path / _HOSTS):
                folder.chmod(0o700)
            _write_private(self.path.parent / ".gitignore", "*\n")
            for name, text in texts.items():
                _write_private(self.path / name, text)
        except OSError as error:
            shown = display_path(self.path)
            message = f"cannot write the certificates: {(error.strerror or str(error)).lower()}"
            raise UsageError(Diagnostic(message, SourcePosition(shown))) from None

    def remove(self) -> None:
        """Remove the certificates, and the folder if it has nothing else."""
        for folder in (self.path / _HOSTS, self.path):
            for path in folder.glob("*") if folder.is_dir() else ():
                if path.suffix in (".pem", ".key", ".json"):
                    path.unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()

    def tls_files(self, address: str) -> TlsFiles | None:
        """Return the files for the scheduler at this address; None if it is another cluster."""
        try:
            state = json.loads((self.path / _STATE).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(state, dict) or state.get("address") != address:
            return None
        return TlsFiles(
            str(self.path / f"{_AUTHORITY}.pem"),
            str(self.path / f"{_CLIENT}.pem"),
            str(self.path / f"{_CLIENT}.key"),
        )

    def _read_pair(self, name: str, authority: KeyPair | None = None) -> KeyPair | None:
        """Return a pair, None if it is missing or the authority has not signed it.

        Without ``authority``, it is that of the authority itself, whose key may be missing.
        """
        from cryptography.exceptions import InvalidSignature

        path, key_path = self.path / f"{name}.pem", self.path / f"{name}.key"
        try:
            text = path.read_text("ascii")
            has_key = authority is not None or key_path.exists()
            key = key_path.read_text("ascii") if has_key else ""
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise self._read_error(path, error) from None
        try:
            certificate = _parse(text)
            if authority is not None:
                certificate.verify_directly_issued_by(_parse(authority.certificate))
        except InvalidSignature:
            return None
        except (ValueError, TypeError) as error:
            raise self._read_error(path, error) from None
        return KeyPair(text, key, certificate.not_valid_after_utc)

    def _read_error(self, path: Path, error: Exception) -> UsageError:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        hint = "`orch cluster up --new-certificates` makes all of them anew"
        mark = SourcePosition(display_path(path))
        return UsageError(Diagnostic(f"cannot read the certificate: {reason}", mark, hint))


def _write_private(path: Path, text: str) -> None:
    """Write a file for its owner alone, unless it has this text. Raises OSError."""
    with suppress(FileNotFoundError):
        if path.read_bytes() == text.encode() and not path.is_symlink():
            path.chmod(0o600)
            return
    handle, name = tempfile.mkstemp(prefix=".orch-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _parse(text: str) -> Certificate:
    from cryptography.x509 import load_pem_x509_certificate

    return load_pem_x509_certificate(text.encode())


def _new_authority(stage: str) -> KeyPair:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    usage = _key_usage(signs_certificates=True)
    name = f"orch cluster {stage}"
    builder = (
        _builder(name, key, _AUTHORITY_VALID)
        .issuer_name(_name(name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return _signed(builder, key, key)


def _new_pair(authority: KeyPair, name: str, addresses: Sequence[str]) -> KeyPair:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509.oid import ExtendedKeyUsageOID

    issuer = _parse(authority.certificate)
    authority_key = load_pem_private_key(authority.key.encode(), None)
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        raise UsageError(Diagnostic("the key of the cluster's authority is not one of orch's"))
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        _builder(name, key, _CERTIFICATE_VALID, issuer.not_valid_after_utc)
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
    )
    names = [found for address in dict.fromkeys(addresses) if (found := _general_name(address))]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _signed(builder, key, authority_key)


def _builder(
    name: str,
    key: EllipticCurvePrivateKey,
    valid: timedelta,
    latest: datetime | None = None,
) -> CertificateBuilder:
    from cryptography import x509

    now = datetime.now(UTC)
    end = min(now + valid, latest or now + valid)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_DIFFERENCE)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(text: str) -> Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    # X.509 allows 64 characters
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _signed(
    builder: CertificateBuilder,
    key: EllipticCurvePrivateKey,
    authority_key: EllipticCurvePrivateKey,
) -> KeyPair:
    from cryptography.hazmat.primitives import hashes, serialization

    certificate = builder.sign(authority_key, hashes.SHA256())
    text = certificate.public_bytes(serialization.Encoding.PEM).decode()
    key_text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    return KeyPair(text, key_text, certificate.not_valid_after_utc)


def _key_usage(*, signs_certificates: bool) -> KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(address: str) -> GeneralName | None:
    """Return a name for a certificate, or None if it cannot be in one. Dask does not compare it."""
    from cryptography import x509

    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(address))
    with suppress(ValueError):
        return x509.DNSName(address.encode("idna").decode())
    return None
