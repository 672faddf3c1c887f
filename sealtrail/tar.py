"""Tar archives in one form: whoever packs the same members gets the same bytes, and no other bytes are read.

    header      512 bytes: name, "0000644", uid and gid 0, size, mtime 0, checksum, type "0", "ustar" "00"; all else zeros
    body        the member's bytes, and zeros up to a multiple of 512
    …           the next member; names ascend by their bytes
    end         1024 zeros, and nothing after them

POSIX ustar, so that `tar xf` unpacks it, and a subset of it: regular files alone, with nothing in a header that one could
choose. A name of more than 100 bytes is split at the first slash that leaves at most 100 after it.

A reader checks each header by making it anew. It holds the index in memory, never a body. I/O is not handled here: bytes
are asked for by their offset.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sealtrail.errors import EvidenceError

BLOCK = 512
TRAILER = bytes(2 * BLOCK)
MAX_SIZE = 1 << 30  # bytes of a member; an object of an archive is far below
MAX_MEMBERS = 200_000  # 10^10 seals in segments; their index takes some 50 MB

_NAME_SIZE, _PREFIX_SIZE = 100, 155
_PART = r"[A-Za-z0-9@_][A-Za-z0-9@_.-]*"  # so no part is empty, `.` or `..`, or looks like an option
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")
_SIZE = re.compile(rb"[0-7]{11}\0")

ReadAt = Callable[[int, int], bytes]
"""(offset, size) -> so many bytes, fewer only where the file ends. Raises UndecidedError when it cannot be read."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file within: where its bytes begin, and how many there are."""

    name: str
    offset: int
    size: int


def header(name: str, size: int) -> bytes:
    """The one header of a member.

    Raises:
        EvidenceError: a name or a size that the form cannot carry.
    """
    if not _NAME.fullmatch(name) or not 0 <= size <= MAX_SIZE:
        raise EvidenceError("a member's name or size is not one that a bundle can carry")
    prefix, rest = _split(name)
    fields = (
        rest.ljust(_NAME_SIZE, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,  # mode, uid, gid
        b"%011o\0" % size,
        b"00000000000\0",  # mtime
        b" " * 8,  # the checksum, as it counts itself
        b"0".ljust(101, b"\0"),  # type, and no link
        b"ustar\x0000".ljust(88, b"\0"),  # magic and version; no owner's, no device's names or numbers
        prefix.ljust(_PREFIX_SIZE, b"\0"),
        bytes(12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padding(size: int) -> bytes:
    """The zeros that follow a body of that size."""
    return bytes(-size % BLOCK)


def members_of(read_at: ReadAt, total: int) -> tuple[Member, ...]:
    """The index of a tar of `total` bytes.

    Raises:
        EvidenceError: a byte outside the members' bodies is not the one that the form gives.
        UndecidedError: it could not be read.
    """
    found: list[Member] = []
    names: set[str] = set()
    position = 0
    while (block := read_at(position, BLOCK)) != bytes(BLOCK):
        member = _member(block, position)
        if len(found) == MAX_MEMBERS:
            raise EvidenceError(f"a bundle of more than {MAX_MEMBERS} members")
        if found and member.name <= found[-1].name:
            raise EvidenceError(f"member {member.name}: not after the one before it")
        if any(name in names for name in _folders(member.name)):
            raise EvidenceError(f"member {member.name}: lies in what is a file")
        fill = padding(member.size)
        position = member.offset + member.size
        if read_at(position, len(fill)) != fill or position > total:
            raise EvidenceError(f"member {member.name}: ends too early, or is not followed by zeros")
        position += len(fill)
        found.append(member)
        names.add(member.name)
    if read_at(position, len(TRAILER) + 1) != TRAILER or position + len(TRAILER) != total:
        raise EvidenceError("a bundle ends with 1024 zeros and nothing after them; this one does not")
    return tuple(found)


def _member(block: bytes, position: int) -> Member:
    size = block[124:136]
    if len(block) != BLOCK or not _SIZE.fullmatch(size):
        raise EvidenceError(f"no member's header at byte {position}")
    fields = (block[345 : 345 + _PREFIX_SIZE], block[:_NAME_SIZE])
    name = b"/".join(field.rstrip(b"\0") for field in fields if field[:1] != b"\0").decode("latin-1")
    member = Member(name, position + BLOCK, int(size[:11], 8))
    if header(member.name, member.size) != block:
        raise EvidenceError(f"the header at byte {position} is not in its one form")
    return member


def _split(name: str) -> tuple[bytes, bytes]:
    """Prefix and rest, the prefix as short as can be."""
    data = name.encode("ascii")
    if len(data) <= _NAME_SIZE:
        return b"", data
    cut = data.find(b"/", len(data) - _NAME_SIZE - 1)
    if not 0 < cut <= _PREFIX_SIZE:
        raise EvidenceError("a member's name is too long for a bundle")
    return data[:cut], data[cut + 1 :]


def _folders(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]
