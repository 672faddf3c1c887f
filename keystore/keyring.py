"""Public keys: the root that a process trusts, the certificates that the root signed, and the ends of keys.

All come from files of the deployment; a bad one is a ConfigError that names the file. Those in an archive are read by the
archive's reader, with `sealtrail.certified`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import structlog

from keystore.store import Keystore, Signer
from sealtrail.certificate import Certificate, Role, verify_certificate
from sealtrail.ending import MAX_SIZE as MAX_END
from sealtrail.ending import counting, verify_end
from sealtrail.errors import ConfigError, EvidenceError
from sealtrail.keyring import Keyring
from sealtrail.layout import END
from sealtrail.note import ED25519, NoteKey, parse_vkey

MAX_SIZE = 65_536  # bytes of a vkey or certificate; real ones are under 1 KiB
CHECK_S = 1.0  # between two looks at the folder

_LOG = structlog.get_logger("keystore")


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
    """The keyring of every `*.cert` and `*.end` in a folder, each verified.

    Raises:
        ConfigError: setting certificates: no such folder, or a file in it is not a certificate of this root, or not the end
            of a key by a successor that is certified there.
    """
    if not directory.is_dir():
        raise ConfigError(f"setting certificates: no folder at {directory}")
    certificates: dict[bytes, Certificate] = {}
    ends = []
    try:
        paths = sorted(directory.iterdir(), key=lambda path: (path.suffix, path.name))  # certificates before ends
    except OSError as error:
        raise ConfigError(f"setting certificates: cannot read {directory}: {error.strerror}") from None
    for path in paths:
        try:
            if path.suffix == ".cert":
                certificate = verify_certificate(_read(path, "setting certificates"), root)
                certificates[certificate.key_id] = certificate
            elif path.suffix == END:
                ends.append(verify_end(_read(path, "setting certificates", MAX_END), certificates))
        except EvidenceError as error:
            raise ConfigError(f"setting certificates: {path}: {error}") from error
    return Keyring(certificates.values(), counting(ends, certificates))


class Certificates:
    """The keyring of a folder that may gain files while a process runs. One thread.

    Raises:
        ConfigError: what is there now cannot be used; see `load_keyring`.
    """

    def __init__(self, directory: Path, root: NoteKey, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._root = root
        self._monotonic = monotonic
        self._seen = _listing(directory)
        self._refused: object = None  # the listing of a folder that could not be used
        self._current = load_keyring(directory, root)
        self._look_at = monotonic() + CHECK_S

    def current(self) -> Keyring:
        """As it is now, looked at once a second. A file that cannot be used is refused, loudly; what was known stays."""
        return self._current if self._monotonic() < self._look_at else self.refreshed()

    def refreshed(self) -> Keyring:
        """As `current`, looked at now: for who met a key that is not known, and may have been certified a moment ago.

        The same object while nothing changed; then it costs some 10 µs.
        """
        now, seen = self._monotonic(), _listing(self._directory)
        if seen == self._refused and now < self._look_at:
            return self._current
        self._look_at = now + CHECK_S
        if seen == self._seen:
            return self._current
        try:
            self._current = load_keyring(self._directory, self._root)
        except ConfigError as error:  # it may be half written: looked at again
            _LOG.error("certificates refused; those before stay in force", reason=str(error))
            self._refused = seen
            return self._current
        self._seen, self._refused = seen, None
        certified = self._current.by_id
        _LOG.info("certificates taken up", certified=len(certified), ended=sum(map(self._current.ended, certified)))
        return self._current


def signer_of(
    keystore: Keystore, base: str, role: Role, keyring: Keyring, time_s: float, fits: Callable[[Certificate], bool]
) -> tuple[Signer, Certificate]:
    """The key to sign with: of its generations the newest that is certified in its role, fits and did not end.

    One whose certificate covers the time goes before one whose certificate does not; whether it does is for the caller to say.

    Raises:
        ConfigError: there is none.
    """
    found = []
    for name in keystore.generations(base):
        try:
            signer = keystore.signer(name)
        except ConfigError as error:
            _LOG.warning("a key is left out", reason=str(error))  # an older one may do
            continue
        certificate = keyring.find(signer.key_id, role)
        if certificate is not None and fits(certificate) and not keyring.ended(signer.key_id):
            found.append((signer, certificate))
    if not found:
        raise ConfigError(f"no key {base} in the keystore with a certificate of role {role} that fits: setting certificates")
    return next(((s, c) for s, c in found if c.covers(time_s)), found[0])


def _listing(directory: Path) -> tuple[int, frozenset[str]] | None:
    """What changes when a file comes; the time alone may stand still for some milliseconds."""
    try:
        return directory.stat().st_mtime_ns, frozenset(path.name for path in directory.iterdir())
    except OSError:
        return None


def _read(path: Path, setting: str, limit: int = MAX_SIZE) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {path}: {error.strerror}") from None
    if len(data) > limit:
        raise ConfigError(f"{setting}: {path} is larger than {limit} bytes")
    return data
