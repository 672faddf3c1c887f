"""Tokens: personal values that stay readable until their subject's key is destroyed (CON-2).

    in the application   enc_<base64url(number ‖ AES-256-GCM)>    under the run's session key; on the raw topic, in the spool
    in the sealer        tok_<id of the key>_<base64url(AES-SIV)>   under the subject's key; in all that is sealed

Encrypting once more changes whose key it is: the session key ends with what is in transit, the subject's ends when the
subject asks. AES-SIV (RFC 5297) gives the same token for the same value under the same key, so tokens join within a key and
tell that two values are equal, and how long they are; nothing else. A subject's key stands wrapped to its tenant's
tenant-subject key in `audit.subject-keys`, under an index that only tenant-index can compute.

Nonces of the first form are the record's number in its run and the field's number in the record: a run has one key, and no
number twice.

Pure: random bytes, keys and times are arguments. No error shows a value.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sealtrail.avro import Codec, packaged
from sealtrail.errors import EvidenceError
from sealtrail.session import HPKE

SUBJECT_KEY_SIZE = 64
KEY_ID_SIZE = 8
RESIDUAL = ""  # the subject of what no field names a subject of: its tenant's residual subject
SUBJECT_KEY = Codec(packaged("subject_key"))

_TAG = 16
_NUMBER = 4
_ENCRYPTED = re.compile(r"enc_[A-Za-z0-9_-]{28,}")
_TOKEN = re.compile(r"tok_([0-9a-f]{16})_([A-Za-z0-9_-]{23,})")
_KEY_ID_CONTEXT = b"sealtrail/key-id/v1\n"


def secret_key_id(key: bytes) -> bytes:
    """The id of a symmetric key, 32 bytes: SHA-256("sealtrail/key-id/v1\\n" || key)."""
    return hashlib.sha256(_KEY_ID_CONTEXT + key).digest()


# -- from the application to the sealer


def is_encrypted(text: str) -> bool:
    """Whether a text has the form that `FieldCipher.encrypt` gives; the form only."""
    return _ENCRYPTED.fullmatch(text) is not None


def encrypted_size(size: int) -> int:
    """Bytes of the encrypted form of a text of `size` bytes."""
    return 4 + ((_NUMBER + size + _TAG) * 4 + 2) // 3


class FieldCipher:
    """Encrypts fields for the sealer, under HKDF(session key, "token"). Any thread may call.

    Args:
        session_key: the run's, 32 bytes.
    """

    __slots__ = ("_aead",)

    def __init__(self, session_key: bytes) -> None:
        self._aead = AESGCM(HKDF(SHA256(), 32, salt=None, info=b"token").derive(session_key))

    def encrypt(self, seq: int, number: int, event_id: bytes, path: str, text: bytes) -> bytes:
        """The encrypted form, ASCII, `encrypted_size(len(text))` bytes.

        Args:
            seq: the record's number in its run; with `number` it must never come twice under one key.
            number: of the field among those that the record encrypts, from 0.
            path: as in `redaction.fields`: actor.login, changes[].before.
            text: UTF-8.
        """
        counted = number.to_bytes(_NUMBER, "big")
        sealed = self._aead.encrypt(seq.to_bytes(8, "big") + counted, text, event_id + path.encode())
        return b"enc_" + base64.urlsafe_b64encode(counted + sealed).rstrip(b"=")

    def decrypt(self, seq: int, event_id: bytes, path: str, encrypted: str) -> str:
        """The text.

        Raises:
            EvidenceError: not of the form, altered, or of another record, field or run.
        """
        if not is_encrypted(encrypted):
            raise EvidenceError("not the form of an encrypted field")
        data = _decoded(encrypted[4:])
        nonce = seq.to_bytes(8, "big") + data[:_NUMBER]
        try:
            plain = self._aead.decrypt(nonce, data[_NUMBER:], event_id + path.encode())
        except InvalidTag:
            raise EvidenceError("an encrypted field does not open") from None
        return _text(plain)


# -- from the sealer to whoever may read it


def is_token(text: str) -> bool:
    """Whether a text has the form of a token; the form only."""
    return _TOKEN.fullmatch(text) is not None


def subject_index(index_key: bytes, subject: str) -> bytes:
    """What finds a subject's keys, 32 bytes.

    Args:
        index_key: the tenant's tenant-index key.
        subject: the value of the field that identifies the subject; RESIDUAL where there is none.
    """
    return hmac.digest(index_key, b"sealtrail/subject/v1\n" + subject.encode(), "sha256")


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """One key of one data subject of a tenant; `key` is 64 bytes: of AES-SIV, 256 bits for each half."""

    tenant: str
    key: bytes = field(repr=False)
    key_id: bytes = field(init=False)
    _siv: AESSIV = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.key) != SUBJECT_KEY_SIZE:
            raise ValueError(f"a subject's key has {SUBJECT_KEY_SIZE} bytes")
        object.__setattr__(self, "key_id", secret_key_id(self.key)[:KEY_ID_SIZE])
        object.__setattr__(self, "_siv", AESSIV(self.key))

    def token(self, text: str) -> str:
        """The token of a text that is not empty."""
        sealed = self._siv.encrypt(text.encode(), [_of_tenant(self.tenant)])
        return f"tok_{self.key_id.hex()}_{base64.urlsafe_b64encode(sealed).rstrip(b'=').decode()}"

    def open(self, token: str) -> str:
        """The text of a token.

        Raises:
            EvidenceError: not a token, altered, or made under another key or for another tenant.
        """
        sealed = _decoded(_parts(token)[1])
        try:
            plain = self._siv.decrypt(sealed, [_of_tenant(self.tenant)])
        except InvalidTag:
            raise EvidenceError("a token does not open with this key") from None
        return _text(plain)


def token_key_id(token: str) -> bytes:
    """The id of the key that a token was made under, 8 bytes. Raises EvidenceError: not a token."""
    return bytes.fromhex(_parts(token)[0])


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A record of `audit.subject-keys`: see `subject_key.avsc`. Times are microseconds since 1970, UTC."""

    chain: str
    tenant: str
    subject: bytes
    key_id: bytes
    created_us: int
    wrapped_to: bytes
    wrapped: bytes

    @property
    def record_key(self) -> bytes:
        """The key of its record."""
        return subject_prefix(self.chain, self.subject) + self.key_id

    def encode(self) -> bytes:
        """The value of its record."""
        return SUBJECT_KEY.encode(
            {
                "tenant": self.tenant,
                "subject": self.subject,
                "key_id": self.key_id,
                "created_at": self.created_us,
                "wrapped_to": self.wrapped_to,
                "wrapped": self.wrapped,
            }
        )

    def open(self, open_: Callable[[bytes, bytes], bytes]) -> SubjectKey:
        """The key.

        Args:
            open_: HPKE open of the tenant-subject key, (wrapped, info) -> plaintext, e.g. `hpke_open`.

        Raises:
            EvidenceError: wrapped to another key, or for another chain, tenant or subject; or not what its id says.
        """
        data = open_(self.wrapped, _info(self.chain, self.tenant, self.subject, self.key_id))
        if len(data) != SUBJECT_KEY_SIZE or secret_key_id(data)[:KEY_ID_SIZE] != self.key_id:
            raise EvidenceError("a wrapped key is not the key that its id says")
        return SubjectKey(self.tenant, data)


def subject_prefix(chain: str, subject: bytes) -> bytes:
    """What the keys of all records of one subject of a chain begin with."""
    return f"{chain}\n".encode() + subject


def wrap_subject_key(chain: str, subject: bytes, key: SubjectKey, created_us: int, public: bytes) -> WrappedKey:
    """A subject's key, wrapped to its tenant.

    Args:
        public: the tenant-subject key's public half, 32 bytes.
    """
    info = _info(chain, key.tenant, subject, key.key_id)
    wrapped = HPKE.encrypt(key.key, X25519PublicKey.from_public_bytes(public), info)
    return WrappedKey(chain, key.tenant, subject, key.key_id, created_us, hashlib.sha256(public).digest(), wrapped)


def parse_wrapped_key(record_key: bytes, value: bytes) -> WrappedKey:
    """A record of `audit.subject-keys`.

    Raises:
        EvidenceError: malformed, or its key is not the one of its value.
    """
    stated = SUBJECT_KEY.decode(value)
    chain, newline, rest = record_key.partition(b"\n")
    try:
        made = WrappedKey(
            chain.decode("ascii"),
            stated["tenant"],
            stated["subject"],
            stated["key_id"],
            stated["created_at"],
            stated["wrapped_to"],
            stated["wrapped"],
        )
    except UnicodeDecodeError:
        raise EvidenceError("a subject key of no chain") from None
    if not newline or rest != made.subject + made.key_id:
        raise EvidenceError("a subject key under another record's key")
    return made


def _info(chain: str, tenant: str, subject: bytes, key_id: bytes) -> bytes:
    return f"sealtrail/subject-key/v1\n{chain}\n{tenant}\n{subject.hex()}\n{key_id.hex()}".encode()


def _of_tenant(tenant: str) -> bytes:
    return b"sealtrail/token/v1\n" + tenant.encode()


def _parts(token: str) -> tuple[str, str]:
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise EvidenceError("not a token")
    return match[1], match[2]


def _text(plain: bytes) -> str:
    """UTF-8. The error's context must not hold what was decrypted."""
    text = plain.decode(errors="replace")
    if text.encode() != plain:
        raise EvidenceError("what was encrypted is not UTF-8")
    return text


def _decoded(text: str) -> bytes:
    """Base64url without padding, in its one form."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if len(text) % 4 != 1 else b""
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise EvidenceError("base64url in another form than its one")
    return data
