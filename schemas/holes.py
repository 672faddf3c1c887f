"""Holes: where, in an event's encoded bytes, encrypted values go once the record has its number.

    … 02 | length of enc_… | 00 00 00 … | …         a hole of that length, its length prefixes already right
           `encrypted_size`   `Hole.offset`

An application's thread encodes an event and leaves holes; the sender's thread numbers the record and fills them, for the
number is part of every ciphertext. What goes in is as long as the hole, so nothing around it moves.

Not here: what is to be tokenised (`schemas.fields`), ciphertexts (`sealtrail.token`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.encoder import SplitEncoder
from schemas.redact import MAX_TOKENIZED_BYTES
from schemas.tokenized import Tokenized
from sealtrail.token import encrypted_size

FILLING = bytes(encrypted_size(MAX_TOKENIZED_BYTES))  # what stands in a hole until then, as much of it as is needed
_DIGITS = 8  # of a value's place in an event; the shortest hole has 32 bytes
_SOMETHING = re.compile(rb"[^\0]+")


@dataclass(frozen=True, slots=True)
class Hole:
    """A hole: where it begins, the path of its leaf as in `redaction.fields`, and the text that goes in, encrypted.

    `text` is UTF-8, not empty; the hole has `encrypted_size(len(text))` bytes. Its repr shows no text.
    """

    offset: int
    path: str
    text: bytes = field(repr=False)


# Of an encoder that appends parts: the part that a hole begins, or bytes within it; path; text.
InParts = tuple[int, int, str, bytes]


def placed(parts: Sequence[bytes], holes: Iterable[InParts]) -> tuple[Hole, ...]:
    """The holes by their offset in the joined parts; both in order."""
    made, offset, seen = [], 0, 0
    for index, within, path, text in holes:
        offset += sum(map(len, parts[seen:index]))
        seen = index
        made.append(Hole(offset + within, path, text))
    return tuple(made)


def inside(part: int, holes: Iterable[Hole]) -> Iterator[InParts]:
    """The holes of what becomes one part of something larger."""
    return ((part, hole.offset, hole.path, hole.text) for hole in holes)


def located(event: dict[str, Any], tokenized: Tokenized, encode: SplitEncoder) -> tuple[bytes, bytes, tuple[Hole, ...]]:
    """The two parts of an event with holes for its tokenised values in the second; for the way that need not be quick.

    It knows no format: it encodes the event twice, with two fillings that differ in every byte. Where the results differ,
    there are the holes, and what stands there in the second tells whose each is.
    """
    values = tokenized.values(event)
    if not values:
        return *encode(event), ()
    texts = [value.text.encode() for value in values]
    sizes = iter([encrypted_size(len(text)) for text in texts])
    before, empty = encode(tokenized(event, lambda *_: "\0" * next(sizes)))
    numbers = iter(range(len(texts)))

    def numbered(_: str, text: str, __: str) -> str:
        return f"{next(numbers):0{_DIGITS}d}".ljust(encrypted_size(len(text.encode())), "#")

    _, full = encode(tokenized(event, numbered))
    difference = int.from_bytes(empty, "big") ^ int.from_bytes(full, "big")
    found = [
        (match.start(), int(match.group()[:_DIGITS])) for match in _SOMETHING.finditer(difference.to_bytes(len(full), "big"))
    ]
    return before, empty, tuple(Hole(offset, values[number].path, texts[number]) for offset, number in found)


def filled(data: bytes, holes: Iterable[Hole], encrypt: Callable[[int, str, bytes], bytes]) -> bytes:
    """The bytes with every hole filled.

    Args:
        encrypt: number of the hole among them, path, text -> what goes in, as long as the hole.
    """
    pieces: list[bytes] = []
    at = 0
    for number, hole in enumerate(holes):
        inside = encrypt(number, hole.path, hole.text)
        pieces += (data[at : hole.offset], inside)
        at = hole.offset + len(inside)
    return b"".join((*pieces, data[at:]))
