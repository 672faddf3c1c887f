"""Making and certifying keys: the acts of whoever holds the root, on a machine that is otherwise offline.

    root = Root.create(Path("/media/root"), "audit.example")
    root = Root.open(Path("/media/root"))
    note = root.certify(Role.SEALER, "audit.example", public, now_s, days=730)

The root's folder holds `root.key` (32 bytes, 0600) and `root.vkey`, the trust anchor of every verifier. Nothing here
reaches a network; where certificates go from here is for the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keystore.file import FileKeystore, FileSigner, generate, write_private
from keystore.keyring import load_root
from keystore.store import KeyKind, Keystore, base_of, kind_of
from sealtrail.certificate import Certificate, Role, issue
from sealtrail.errors import ConfigError
from sealtrail.note import ED25519, NoteKey

DAY_S = 86_400
VKEY = "root.vkey"
DAYS = 730  # that a certificate holds, unless said otherwise
_ROLES = {  # by the beginning of a key's name, the longest first
    "tenant-data-": Role.TENANT_DATA,
    "tenant-subject-": Role.TENANT_SUBJECT,
    "source-": Role.SOURCE,
    "sealer": Role.SEALER,
    "archive": Role.ARCHIVE,
    "auditor": Role.AUDITOR,
    "pipeline": Role.PIPELINE,
    "quarantine": Role.QUARANTINE,
}


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a key of some name is for: its role, and the name in its certificate where the key's own name tells it."""

    role: Role
    owner: str | None


def purpose_of(name: str) -> Purpose:
    """From a key's name: `source-github` is source github's, `sealer@2` the authority's second sealer's key.

    Raises:
        ConfigError: no key that is certified has such a name.
    """
    base, _ = base_of(name)
    if kind_of(name) is not KeyKind.SECRET:
        for start, role in _ROLES.items():
            if base.startswith(start):
                return Purpose(role, base.removeprefix(start) if start.endswith("-") else None)
    raise ConfigError(f"key {name}: keys of that name are not certified")


class Root:
    """The root key. Its repr names the key's owner, never its bytes."""

    __slots__ = ("_signer", "key")

    def __init__(self, signer: FileSigner, key: NoteKey) -> None:
        self._signer = signer
        self.key = key

    def __repr__(self) -> str:
        return f"Root({self.key.name!r})"

    @classmethod
    def create(cls, folder: Path, authority: str) -> Root:
        """A new root in a folder, made if need be. Raises ConfigError: there is one, or the folder cannot be written."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"root: cannot make {folder}: {error.strerror}") from None
        private, public = generate("root")
        if public is None:
            raise AssertionError("a root signs")
        write_private(folder, "root", private)
        (folder / VKEY).write_text(NoteKey(f"{authority}/root", ED25519, public).vkey + "\n", encoding="utf-8")
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Root:
        """The root of a folder. Raises ConfigError: missing, unusable, or key and vkey are not of each other."""
        signer, key = FileKeystore(str(folder)).signer("root"), load_root(folder / VKEY)
        if signer.public != key.public:
            raise ConfigError(f"root: {folder} holds a private key and the vkey of another")
        return cls(signer, key)

    def certify(self, role: Role, name: str, public: bytes, now_s: int, days: int = DAYS) -> tuple[Certificate, str]:
        """A certificate that begins now, and its text as a note.

        Raises:
            ConfigError: a name that a certificate cannot carry, or a public key that is not 32 bytes.
        """
        certificate = Certificate(role, name, public, now_s, now_s + days * DAY_S)
        try:
            return certificate, issue(certificate, self.key, self._signer.sign)
        except ValueError as error:
            raise ConfigError(f"{role} {name}: {error}") from None


def next_name(keystore: Keystore, name: str) -> str:
    """The name of the successor of the newest key for a purpose. Raises ConfigError when there is none to succeed."""
    held = keystore.generations(base_of(name)[0])
    if not held:
        raise ConfigError(f"key {name}: the keystore holds none that could have a successor")
    base, newest = base_of(held[0])
    return f"{base}@{newest + 1}"
