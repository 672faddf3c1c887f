"""Step 7 of `verify`, for one segment: every seal that says `signed` has a valid signature of a certified sealer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealtrail.certificate import Certificate, Role
from sealtrail.keyring import Keyring
from sealtrail.report import FindingKind
from sealtrail.seal import Seal, Signature, seal_message

Problem = tuple[FindingKind, int, str]
"""What is wrong, the seq, and words."""


def check_signatures(
    seals: Sequence[tuple[int, Seal]],
    leaves: Sequence[bytes],
    given: Sequence[tuple[int, Signature]],
    keyring: Keyring,
) -> tuple[frozenset[int], list[Problem]]:
    """Indices whose signature is valid, and what is wrong with the others.

    Args:
        seals: index and seal, of those that decode.
        leaves: leaf hashes by index.
        given: signatures by seq; in order, one a seal.
    """
    signatures = dict(given)
    valid: list[int] = []
    problems: list[Problem] = []
    for (earlier, _), (later, _) in pairwise(given):
        if later <= earlier:
            problems.append((FindingKind.BAD_SIGNATURE, later, "its signature stands twice, or out of order"))
    for index, seal in seals:
        signature = signatures.pop(seal.seq, None)
        if signature is None:
            if seal.signed:
                problems.append((FindingKind.BAD_SIGNATURE, seal.seq, "its signature is missing"))
            continue
        problem = _problem(seal, leaves[index], signature, keyring)
        if problem is not None:
            problems.append(problem)
        else:
            valid.append(index)
    problems += [(FindingKind.BAD_SIGNATURE, seq, "a signature for a seal that is not there") for seq in signatures]
    return frozenset(valid), problems


def has_valid_signature(seal: Seal, leaf: bytes, signature: Signature | None, keyring: Keyring) -> bool:
    """Whether a certified sealer signed this one seal, and might."""
    return signature is not None and _problem(seal, leaf, signature, keyring) is None


def _problem(seal: Seal, leaf: bytes, signature: Signature, keyring: Keyring) -> Problem | None:
    key_id = signature.key_id
    certificate = keyring.find(key_id, Role.SEALER)
    if certificate is None or not certificate.speaks_for(seal.chain):
        return FindingKind.UNKNOWN_KEY, seal.seq, f"signed by key {key_id.hex()}, which is no certified sealer's of this chain"
    if not _verifies(certificate, signature.value, seal_message(leaf)):
        return FindingKind.BAD_SIGNATURE, seal.seq, "the sealer's signature does not fit the seal"
    if not certificate.covers(seal.sealed_at_us / 1e6):
        return FindingKind.UNKNOWN_KEY, seal.seq, f"signed by key {key_id.hex()} outside its certificate's time"
    if not keyring.counts(key_id, seal.chain, seal.seq):
        return FindingKind.UNKNOWN_KEY, seal.seq, f"signed by key {key_id.hex()}, which ended before this seal"
    if not seal.signed:
        return FindingKind.BAD_SIGNATURE, seal.seq, "a signature on a seal that says it has none"
    return None


def _verifies(certificate: Certificate, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(certificate.public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
