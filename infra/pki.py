"""TLS for the local stack: two certificate authorities and the certificates that they sign. EC P-256, PEM.

The first authority signs Kafka's broker, the S3 server and one client certificate per role (CN = the role, which Kafka
takes as the principal). The second is for the S3 server's own parts among themselves, so that no role's certificate
opens its gRPC ports. Files with private keys are 0600; what exists and is valid is kept.

Not here: the keys that seal and sign evidence (`infra.keys`).
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=825)
RENEW_BEFORE = timedelta(days=30)
BACKDATE = timedelta(hours=1)  # a container's clock may be behind the host's


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of one name: its certificate, its private key (PKCS#8), and the authority that signed it."""

    certificate: Path
    key: Path
    ca: Path


def write_private(path: Path, data: bytes) -> None:
    """Write `data` so that only this user can read it; the file appears whole."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    partial.replace(path)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Authority:
    """A certificate authority whose certificate and key are files; made on first use."""

    def __init__(self, certificate: Path, key: Path, name: str, now: datetime) -> None:
        self._now = now
        self.path = certificate
        certificate.parent.mkdir(parents=True, exist_ok=True)
        key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (certificate.exists() and key.exists()):
            self._make(certificate, key, name)
        loaded = serialization.load_pem_private_key(key.read_bytes(), password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{key} is not an EC key")
        self._key = loaded
        self._certificate = x509.load_pem_x509_certificate(certificate.read_bytes())

    def _make(self, certificate: Path, key: Path, name: str) -> None:
        private = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = (
            self._builder(subject, subject, private)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(private, hashes.SHA256())
        )
        write_private(key, _pem(private))
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - BACKDATE)
            .not_valid_after(self._now + LIFETIME)
        )

    def issue(self, folder: Path, name: str, *, server: bool = False, host: str = "localhost") -> TlsFiles:
        """The files of `name` in `folder`, made or renewed if need be; a server's also name its host and 127.0.0.1."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = TlsFiles(certificate=folder / f"{name}.pem", key=folder / f"{name}.key", ca=self.path)
        if files.key.exists() and self._good(files.certificate):
            return files
        private = ec.generate_private_key(ec.SECP256R1())
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if server else [])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            self._builder(subject, self._certificate.subject, private)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        )
        if server:
            names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        write_private(files.key, _pem(private))
        files.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return files

    def _good(self, certificate: Path) -> bool:
        if not certificate.exists():
            return False
        known = x509.load_pem_x509_certificate(certificate.read_bytes())
        return known.issuer == self._certificate.subject and known.not_valid_after_utc - RENEW_BEFORE > self._now


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
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


def utc_now() -> datetime:
    """The clock, for `main()` and the stack; everything else takes it as an argument."""
    return datetime.now(UTC)
