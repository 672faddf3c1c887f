"""Public keys: the root that a process trusts, and the certificates that the root signed.

Both come from files of the deployment; a bad one is a ConfigError that names the file. Certificates in an archive are
read by the archive's reader, with `sealtrail.certificate`.
"""

from __future__ import annotations

from pathlib import Path

from sealtrail.certificate import verify_certificate
from sealtrail.errors import ConfigError, EvidenceError
from sealtrail.keyring import Keyring
from sealtrail.note import ED25519, NoteKey, parse_vkey

MAX_SIZE = 65_536  # bytes of a file here; real ones are under 1 KiB


def load_root(path: Path) -> NoteKey:
    """The root's public key from a file that holds its vkey and at most a newline.

    Raises:
        ConfigError: setting root_vkey: missing, malformed, or not an Ed25519 note key.
    """
    try:
        key = parse_vkey(_read(path, "setting root_vkey").decode("utf-8").removesuffix("\n"))
    except (EvidenceError, UnicodeDecodeError):
        raise ConfigError(f"setting root_vkey: {path} holds no vkey") from None
    if key.kind != ED25519:
        raise ConfigError(f"setting root_vkey: {path} is a key for cosignatures; expected one for notes")
    return key


def load_keyring(directory: Path, root: NoteKey) -> Keyring:
    """The keyring of every `*.cert` in a folder, each verified against the root.

    Raises:
        ConfigError: setting certificates: no such folder, or a file in it is not a certificate of this root.
    """
    if not directory.is_dir():
        raise ConfigError(f"setting certificates: no folder at {directory}")
    certificates = []
    for path in sorted(directory.glob("*.cert")):
        try:
            certificates.append(verify_certificate(_read(path, "setting certificates"), root))
        except EvidenceError as error:
            raise ConfigError(f"setting certificates: {path}: {error}") from error
    return Keyring(certificates)


def _read(path: Path, setting: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_SIZE:
        raise ConfigError(f"{setting}: {path} is larger than {MAX_SIZE} bytes")
    return data
