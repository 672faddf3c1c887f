"""Keys in a folder: `<name>.key`, 32 raw bytes, readable by their owner alone.

A key file that group or others may read, or that belongs to another user, is refused: whoever else read it holds it.
For the development and the small deployment; where keys must not be copied, a backend of hardware or a key service.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from keystore.store import KeyKind, Keystore, T, expect, kind_of
from sealtrail.errors import ConfigError
from sealtrail.session import hpke_open

KEY_SIZE = 32
ENDING = ".key"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class FileKeystore(Keystore):
    """The keys in one folder. Files are read when a key is asked for, never before.

    Raises:
        ConfigError: not a folder, or not readable.
    """

    __slots__ = ("_folder",)

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise ConfigError(f"setting keys: no folder at {self._folder}")

    def __repr__(self) -> str:
        return f"FileKeystore({str(self._folder)!r})"

    def names(self) -> tuple[str, ...]:
        try:
            return tuple(sorted(path.name.removesuffix(ENDING) for path in self._folder.glob(f"*{ENDING}")))
        except OSError as error:
            raise ConfigError(f"keystore {self._folder}: {error.strerror}") from None

    def signer(self, name: str) -> FileSigner:
        expect(name, KeyKind.SIGNS)
        return FileSigner(self._read(name))

    def opener(self, name: str) -> FileOpener:
        expect(name, KeyKind.OPENS)
        return FileOpener(self._read(name))

    def secret(self, name: str) -> bytes:
        expect(name, KeyKind.SECRET)
        return self._read(name)

    def _read(self, name: str) -> bytes:
        path = self._folder / f"{name}{ENDING}"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise ConfigError(f"key {name}: cannot open {path}: {error.strerror}") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"key {name}: {path} is not a file")
            if status.st_mode & _OTHERS:
                raise ConfigError(f"key {name}: {path} is open to group or others; expected mode 0600")
            if status.st_uid not in (os.geteuid(), 0):
                raise ConfigError(f"key {name}: {path} belongs to another user")
            if status.st_size != KEY_SIZE:
                raise ConfigError(f"key {name}: {path} has {status.st_size} bytes; expected {KEY_SIZE}")
            return os.read(descriptor, KEY_SIZE)
        finally:
            os.close(descriptor)


class FileSigner:
    """An Ed25519 key in memory; 47 µs a signature."""

    __slots__ = ("_private", "key_id", "public")

    def __init__(self, private: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()
        self.key_id = hashlib.sha256(self.public).digest()

    def __repr__(self) -> str:
        return f"FileSigner({self.key_id.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not to be copied out of its process")

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._private.sign(message)

    def lend(self, use: Callable[[bytes], T]) -> T:
        """As `Signer.lend`."""
        return use(self._private.private_bytes_raw())


class FileOpener:
    """An X25519 key in memory."""

    __slots__ = ("_private", "key_id", "public")

    def __init__(self, private: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()
        self.key_id = hashlib.sha256(self.public).digest()

    def __repr__(self) -> str:
        return f"FileOpener({self.key_id.hex()})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not to be copied out of its process")

    def open(self, wrapped: bytes, info: bytes) -> bytes:
        """The plaintext. Raises EvidenceError."""
        return hpke_open(self._private, wrapped, info)


def generate(name: str, random: Callable[[int], bytes] = os.urandom) -> tuple[bytes, bytes | None]:
    """A new key for that name: 32 private bytes, and the 32 public ones unless it is a symmetric key. Writes nothing.

    Raises:
        ConfigError: no key has such a name.
    """
    kind = kind_of(name)
    private = random(KEY_SIZE)
    if kind is KeyKind.SIGNS:
        return private, FileSigner(private).public
    return private, FileOpener(private).public if kind is KeyKind.OPENS else None


def write_private(directory: Path, name: str, private: bytes) -> Path:
    """Write `<name>.key` with mode 0600, whole and durably, and return its path. A key that exists is never overwritten.

    Written by the superuser, it belongs to whom the folder belongs to: who is to use it.

    Raises:
        ConfigError: it exists, it is not 32 bytes, no key has such a name, or the folder cannot be written.
    """
    kind_of(name)
    if len(private) != KEY_SIZE:
        raise ConfigError(f"key {name}: {len(private)} bytes; expected {KEY_SIZE}")
    path = directory / f"{name}{ENDING}"
    partial = directory / f".{name}.{secrets.token_hex(8)}"
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, private)
            if os.geteuid() == 0:
                owner = directory.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(partial, path)  # refused if there is one
    except OSError as error:
        raise ConfigError(f"key {name}: cannot write {path}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def copy_private(origin: Path, directory: Path, name: str) -> None:
    """Give a key to another holder. One that holds it already keeps it. Raises ConfigError, also when it holds another."""
    private = FileKeystore(str(origin))._read(name)
    if (directory / f"{name}{ENDING}").exists():
        if FileKeystore(str(directory))._read(name) != private:
            raise ConfigError(f"key {name}: {directory} holds another of that name")
        return
    write_private(directory, name, private)


Keystore._backends["file"] = FileKeystore
