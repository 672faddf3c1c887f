"""A connector's run: who speaks, shown once by signature and per record by MAC (EVI-8).

Kafka tells a consumer nothing about who produced a record. A run makes a session key, wraps it to
the pipeline's public key, and signs {source, instance, epoch, audience, pipeline key, digest of the
wrapped key} once with its source's certified key. The audience is one raw topic of one deployment:
what was said to another counts for nothing here. Every record then carries that statement and an
HMAC under the session key; no asymmetric cryptography per event in the caller (EVI-7). The run's
first event repeats the statement, so that the archive can show the source's own signature.

This module neither caches nor fetches: keys and certificates are arguments.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sealtrail.avro import Codec, packaged
from sealtrail.certificate import Role
from sealtrail.errors import EvidenceError
from sealtrail.keyring import Keyring

SESSION_KEY_SIZE = 32
HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)

RUN_SESSION = Codec(packaged("run_session"))
RUN_STATEMENT = Codec(packaged("run_statement"))

_RUN_CONTEXT = b"sealtrail/run/v1\n"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one instance of a source; `epoch` is a UUIDv7, 16 bytes."""

    source: str
    instance: str
    epoch: bytes

    @property
    def key(self) -> str:
        """The Kafka key of its records."""
        return f"{self.source}/{self.instance}"


@dataclass(frozen=True, slots=True)
class RunSession:
    """A parsed session header, its signature checked by `verify_session`."""

    run: Run
    audience: str
    wrapped_key: bytes
    pipeline_key: bytes
    key_id: bytes


def audience_of(authority: str, deployment: str, raw_topic: str) -> str:
    """Whom a run speaks to: one raw topic of one deployment."""
    return f"{authority}/{deployment}/{raw_topic}"


def open_run(
    run: Run,
    audience: str,
    session_key: bytes,
    pipeline_public: bytes,
    source_public: bytes,
    sign: Callable[[bytes], bytes],
) -> bytes:
    """The session header's bytes for a new run.

    Args:
        audience: whom it speaks to, see `audience_of`.
        session_key: 32 random bytes, known to this run alone.
        pipeline_public: the pipeline's X25519 public key, 32 bytes.
        source_public: the source's Ed25519 public key; `sign` is its private half.
    """
    wrapped = HPKE.encrypt(session_key, X25519PublicKey.from_public_bytes(pipeline_public), _info(run, audience))
    statement = RUN_STATEMENT.encode_body(
        {
            "source": run.source,
            "instance": run.instance,
            "epoch": run.epoch,
            "audience": audience,
            "pipeline_key": hashlib.sha256(pipeline_public).digest(),
            "wrapped_key_digest": hashlib.sha256(wrapped).digest(),
        }
    )
    return RUN_SESSION.encode(
        {
            "statement": statement,
            "wrapped_key": wrapped,
            "key_id": hashlib.sha256(source_public).digest(),
            "signature": sign(_RUN_CONTEXT + statement),
        }
    )


def verify_session(header: bytes, keyring: Keyring, time_s: float) -> RunSession:
    """Check a session header: a source that the root certified, valid at `time_s`, signed it for itself.

    Raises:
        EvidenceError: malformed, not certified, of another source, or wrongly signed.
    """
    value = RUN_SESSION.decode(header)
    statement = RUN_STATEMENT.decode_body(value["statement"])
    run = Run(statement["source"], statement["instance"], statement["epoch"])
    certificate = keyring.find(value["key_id"], Role.SOURCE)
    if certificate is None or not certificate.covers(time_s):
        raise EvidenceError("session signed by a key that is not certified for a source now")
    if certificate.name != run.source:
        raise EvidenceError(f"key of source {certificate.name} spoke for another source")
    if hashlib.sha256(value["wrapped_key"]).digest() != statement["wrapped_key_digest"]:
        raise EvidenceError("wrapped key is not the one that was signed")
    try:
        Ed25519PublicKey.from_public_bytes(certificate.public).verify(value["signature"], _RUN_CONTEXT + value["statement"])
    except (InvalidSignature, ValueError) as error:
        raise EvidenceError("wrong signature on a session") from error
    return RunSession(run, statement["audience"], value["wrapped_key"], statement["pipeline_key"], value["key_id"])


def unwrap_session_key(session: RunSession, open_: Callable[[bytes, bytes], bytes]) -> bytes:
    """The session key, 32 bytes.

    Args:
        open_: HPKE open of the pipeline key, (wrapped, info) -> plaintext, e.g. `hpke_open`.

    Raises:
        EvidenceError: it was wrapped to another key, or for another run.
    """
    key = open_(session.wrapped_key, _info(session.run, session.audience))
    if len(key) != SESSION_KEY_SIZE:
        raise EvidenceError(f"session key of {len(key)} bytes; expected {SESSION_KEY_SIZE}")
    return key


def hpke_open(private: X25519PrivateKey, sealed: bytes, info: bytes) -> bytes:
    """Open what was encrypted to a key under `info`.

    Raises:
        EvidenceError: altered, to another key, or under other info.
    """
    try:
        return HPKE.decrypt(sealed, private, info)
    except (InvalidTag, ValueError) as error:
        raise EvidenceError("encrypted value does not open with this key") from error


def mac_key(session_key: bytes) -> bytes:
    """The key of a run's record MACs."""
    return HKDF(SHA256(), 32, salt=None, info=b"auth").derive(session_key)


def record_mac(key: bytes, topic: str, seq: int, value: bytes) -> bytes:
    """The `st-mac` header: HMAC-SHA-256 over topic, number (8 bytes, big-endian) and SHA-256(value)."""
    return hmac.digest(key, topic.encode() + seq.to_bytes(8, "big") + hashlib.sha256(value).digest(), "sha256")


def epoch_time_s(epoch: bytes) -> float:
    """Seconds since 1970 that a run's epoch, a UUIDv7, states: when its source says that it began."""
    return int.from_bytes(epoch[:6], "big") / 1000


def _info(run: Run, audience: str) -> bytes:
    return f"sealtrail/session/v1\n{audience}\n{run.source}\n{run.instance}\n{run.epoch.hex()}".encode()
