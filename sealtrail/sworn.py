"""What the archive's key swears of one segment: its checkpoint and its statement, signatures checked.

A segment carries no other note and no other signature than these three, so whatever is added to them
is a finding. Whether what they say is true of the seals is not decided here: `chainverify` does.
"""

from __future__ import annotations

from dataclasses import dataclass

from sealtrail.certificate import Certificate, Role
from sealtrail.checkpoint import SignedCheckpoint, parse_checkpoint, verify_checkpoint
from sealtrail.errors import EvidenceError
from sealtrail.keyring import Keyring
from sealtrail.note import COSIGNATURE, ED25519, NoteKey, parse_note, verify_note
from sealtrail.report import FindingKind
from sealtrail.seal import ZERO_DIGEST
from sealtrail.segment import Segment, Statement, parse_statement, references_digest


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a note, found in a step of `verify`."""

    kind: FindingKind
    step: int
    detail: str


@dataclass(frozen=True, slots=True)
class Sworn:
    """Checkpoint and statement where they are genuine and of this segment; None where they are not."""

    checkpoint: SignedCheckpoint | None
    statement: Statement | None
    problems: tuple[Problem, ...]

    @property
    def end(self) -> int | None:
        """The seq after the segment's last one; None if no genuine statement gives it."""
        return None if self.statement is None else self.statement.first_seq + self.statement.count


def sworn(segment: Segment, keyring: Keyring) -> Sworn:
    """Check both notes of a segment against the certified keys of the archive."""
    problems: list[Problem] = []
    statement, stater = _statement(segment, _archives(segment.chain, keyring), problems)
    checkpoint, checker = _checkpoint(segment, keyring, problems)
    if stater is not None and checker is not None and stater != checker:
        # Both are made at once. The checkpoint has a time; a key that is past its own must not speak beside it.
        problems = [Problem(FindingKind.BAD_SIGNATURE, 5, "statement: signed by another key than the checkpoint")]
        statement = None
    return Sworn(checkpoint, statement, tuple(problems))


def _statement(
    segment: Segment, keys: tuple[Certificate, ...], problems: list[Problem]
) -> tuple[Statement | None, Certificate | None]:
    """Step 5, all but the digest of the segment before; and the key that signed."""
    try:
        note = parse_note(segment.statement.encode())
        statement = parse_statement(note.text)
        if (statement.chain, statement.first_seq) != (segment.chain, segment.first_seq):
            raise EvidenceError("it speaks of another segment")
        if len(note.signatures) != 1:
            raise EvidenceError(f"{len(note.signatures)} signatures; expected one")
    except EvidenceError as error:
        problems.append(Problem(FindingKind.ALTERED, 5, f"statement: {error}"))
        return None, None
    problem = "no key of the archive is certified"
    for certificate in keys:
        try:
            verify_note(note, NoteKey(segment.chain, ED25519, certificate.public))
        except EvidenceError as error:
            problem = str(error)
            continue
        if statement.first_seq == 0 and statement.previous != ZERO_DIGEST:
            problems.append(
                Problem(FindingKind.ALTERED, 5, "its statement names a segment before it, but the chain begins here")
            )
        elif statement.references != references_digest(segment.contents):
            problems.append(Problem(FindingKind.ALTERED, 5, "its references are not those that its statement binds"))
        return statement, certificate
    problems.append(Problem(FindingKind.BAD_SIGNATURE, 5, f"statement: {problem}"))
    return None, None


def genuine_checkpoint(data: bytes, keyring: Keyring) -> tuple[SignedCheckpoint, Certificate]:
    """A checkpoint by one certified key of its chain's archive, with its two signatures and no other; and that key.

    Raises:
        EvidenceError: malformed, or signed by no key that may, then.
    """
    origin = parse_checkpoint(data)[0].origin
    return _genuine(data, keyring, origin)


def _archives(chain: str, keyring: Keyring) -> tuple[Certificate, ...]:
    return tuple(c for c in keyring.of_role(Role.ARCHIVE) if c.speaks_for(chain))


def _checkpoint(
    segment: Segment, keyring: Keyring, problems: list[Problem]
) -> tuple[SignedCheckpoint | None, Certificate | None]:
    """Step 10, the signatures; and the key that made them."""
    try:
        return _genuine(segment.checkpoint.encode(), keyring, segment.chain)
    except EvidenceError as error:
        problems.append(Problem(FindingKind.BAD_SIGNATURE, 10, f"checkpoint: {error}"))
        return None, None


def _genuine(data: bytes, keyring: Keyring, chain: str) -> tuple[SignedCheckpoint, Certificate]:
    """The checkpoint of a chain and the key that made it. Raises EvidenceError."""
    problem = EvidenceError("no key of the archive is certified")
    for certificate in _archives(chain, keyring):
        try:
            signed = verify_checkpoint(data, certificate.public)
        except EvidenceError as error:
            problem = error
            continue
        signatures = [signature.key_id for signature in parse_note(data).signatures]
        if signed.checkpoint.origin != chain:
            raise EvidenceError("it is another chain's")
        if not certificate.covers(signed.time_s):
            raise EvidenceError("it was made outside its key's time")
        if not keyring.counts(certificate.key_id, chain, signed.checkpoint.size - 1):
            raise EvidenceError("its key ended before the seals that it covers")
        if signatures != [NoteKey(chain, kind, certificate.public).key_id for kind in (ED25519, COSIGNATURE)]:
            raise EvidenceError(
                f"{len(signatures)} signatures; expected signature and cosignature, in this order, and no other"
            )
        return signed, certificate
    raise problem
