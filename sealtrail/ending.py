"""The end of a key, stated as a position: per chain, how many seals it counts for, signed by its successor.

    sealtrail/end/v1
    role sealer
    key-id 96db7fa8fa7d7311840d1f37989a8ee30b9a06e3d288e7881f5ed5b4fa9a7c8c
    successor 1d0fbd7b…
    reason superseded
    made 2026-11-25T14:40:00Z
    chain audit.example/local/audit.raw.1f0c2a9b.0/0 51234 hP6cYGbtf4FMT9LzSVRK1Vn9YMlCzjhYCnt1d5sCVYg=

    — audit.example xo6NFC6U…

The times in a certificate bind nobody who holds the key, since it is the key that asserts when it signed. A position does:
in each chain the key counts for the first `size` seals, whose tree has the root that stands beside, and for no seal, run or
checkpoint beyond; in a chain that is not named it counts for nothing. So a past made anew with old keys does not fit the
roots, and whoever gave it is found.

A statement only takes away. Of several about one key all hold. What its words mean for each role:

- sealer: signatures of seals 0 to size - 1 count.
- archive: checkpoints, and statements of segments, that end at `size` or before count.
- source: runs that were opened at a seal below `size` count.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sealtrail.certificate import Certificate, Role, format_time, parse_time
from sealtrail.checkpoint import Sign
from sealtrail.errors import EvidenceError
from sealtrail.layout import is_chain
from sealtrail.note import ED25519, NoteKey, _base64, format_note, note_signature, parse_note, verify_note

CONTEXT = "sealtrail/end/v1"
MAX_SIZE = 1 << 20  # bytes: some 8,000 chains
ENDING_ROLES = frozenset({Role.SOURCE, Role.SEALER, Role.ARCHIVE})  # what they sign has a position

_HEAD = re.compile(
    rf"{CONTEXT}\nrole ([a-z-]+)\nkey-id ([0-9a-f]{{64}})\nsuccessor ([0-9a-f]{{64}})\nreason ([a-z]+)\nmade ([^\n]+)\n"
)
_CHAIN = re.compile(r"chain ([^ \n]+) (0|[1-9][0-9]{0,18}) ([^ \n]+)")


class EndReason(StrEnum):
    """Why a key ended."""

    SUPERSEDED = "superseded"
    COMPROMISED = "compromised"


@dataclass(frozen=True, slots=True)
class Mark:
    """The tree of a chain's first `size` seals has this root (32 bytes)."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class End:
    """Where a key ended: by chain. Key ids are 32 bytes; `made_s` is whole seconds since 1970 UTC."""

    role: Role
    key_id: bytes
    successor: bytes
    reason: EndReason
    made_s: int
    marks: Mapping[str, Mark]

    @property
    def text(self) -> str:
        """The text that the successor signs."""
        chains = (f"chain {chain} {m.size} {base64.b64encode(m.root).decode()}\n" for chain, m in sorted(self.marks.items()))
        return (
            f"{CONTEXT}\n"
            f"role {self.role}\n"
            f"key-id {self.key_id.hex()}\n"
            f"successor {self.successor.hex()}\n"
            f"reason {self.reason}\n"
            f"made {format_time(self.made_s)}\n" + "".join(chains)
        )


def sign_end(end: End, successor: Certificate, sign: Sign) -> str:
    """The statement as a note of the successor.

    Raises:
        ValueError: it could not be read back: too many chains, or names that are none.
    """
    text = end.text
    note = format_note(text, (note_signature(NoteKey(successor.name, ED25519, successor.public), sign(text.encode())),))
    try:
        parse_end(note.encode())
    except EvidenceError as error:
        raise ValueError(f"an end that cannot be stated: {error}") from error
    return note


def parse_end(data: bytes) -> End:
    """The statement of a note's bytes; its signature is not looked at, see `verify_end`.

    Raises:
        EvidenceError: not a note, or its text is not a statement in its one form.
    """
    text = parse_note(data, MAX_SIZE).text
    head = _HEAD.match(text)
    if head is None:
        raise EvidenceError("not the statement of a key's end")
    role, key_id, successor, reason, made = head.groups()
    marks = _marks(text[head.end() :])
    try:
        end = End(Role(role), bytes.fromhex(key_id), bytes.fromhex(successor), EndReason(reason), parse_time(made), marks)
    except ValueError as error:
        raise EvidenceError("the end of a key in a role, or for a reason, that this version does not know") from error
    if end.role not in ENDING_ROLES:
        raise EvidenceError(f"what a key of role {end.role} signs has no position to end at")
    if end.text != text:
        raise EvidenceError("a key's end in another form than its one")
    return end


def verify_end(data: bytes, certificates: Mapping[bytes, Certificate]) -> End:
    """The statement, if its successor may make it.

    Successor and ended key have the same role and name, and the successor's certificate begins later: so no key ends its
    own successor. The successor's certificate covers the time at which it was made.

    Args:
        certificates: verified ones, by key id.

    Raises:
        EvidenceError: malformed, or not the word of a certified successor.
    """
    end = parse_end(data)
    ended, successor = certificates.get(end.key_id), certificates.get(end.successor)
    if ended is None or successor is None:
        raise EvidenceError(f"the end of key {end.key_id.hex()[:16]}… or its successor's key is of no certified key")
    if (ended.role, successor.role) != (end.role, end.role) or ended.name != successor.name:
        raise EvidenceError("a key ends only one of its own role and name")
    if successor.not_before_s <= ended.not_before_s:
        raise EvidenceError("a key ends only one that was certified from an earlier time on")
    note = parse_note(data, MAX_SIZE)
    if len(note.signatures) != 1:
        raise EvidenceError(f"{len(note.signatures)} signatures; expected the successor's")
    verify_note(note, NoteKey(successor.name, ED25519, successor.public))
    if not successor.covers(end.made_s):
        raise EvidenceError("made outside the successor's time")
    return end


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a chain's tree from elsewhere: its first `size` seals have this root, as `where` states."""

    size: int
    root: bytes
    where: str


class Ends:
    """What all statements together say.

    Args:
        ends: verified ones, as `verify_end` gives them.
    """

    __slots__ = ("_by_key", "_kept")

    def __init__(self, ends: Iterable[End] = ()) -> None:
        self._by_key: dict[bytes, list[Mapping[str, Mark]]] = {}
        self._kept: dict[str, dict[Mark, str]] = {}
        for end in ends:
            self._by_key.setdefault(end.key_id, []).append(end.marks)
            for chain, mark in end.marks.items():
                self._kept.setdefault(chain, {}).setdefault(mark, f"the end of key {end.key_id.hex()}")

    def ended(self, key_id: bytes) -> bool:
        """Whether a key's end is stated."""
        return key_id in self._by_key

    def limit(self, key_id: bytes, chain: str) -> int | None:
        """How many seals of a chain the key counts for; None without a limit."""
        stated = self._by_key.get(key_id)
        if stated is None:
            return None
        return min(marks[chain].size if chain in marks else 0 for marks in stated)

    @property
    def chains(self) -> frozenset[str]:
        """The chains that are named."""
        return frozenset(self._kept)

    def kept(self, chain: str) -> tuple[Kept, ...]:
        """What they state of a chain's tree, each size and root once."""
        return tuple(Kept(mark.size, mark.root, where) for mark, where in self._kept.get(chain, {}).items())


def _marks(text: str) -> dict[str, Mark]:
    marks: dict[str, Mark] = {}
    for line in text.split("\n")[:-1]:
        match = _CHAIN.fullmatch(line)
        root = _base64(match[3], "root in a key's end") if match else b""
        if match is None or len(root) != 32 or not is_chain(match[1]):
            raise EvidenceError("a chain's line in a key's end is not chain, size and root")
        if match[1] in marks:
            raise EvidenceError("a chain stands twice in a key's end")
        marks[match[1]] = Mark(int(match[2]), root)
    return marks
