"""Planted values in any bytes, in clear and in the encodings that people and programs use.

A value is found whole in hex, in base64 (any alignment, either alphabet), escaped for addresses or JSON, and in UTF-16; in
clear also by any twelve bytes of it in a row at a multiple of twelve, so that a part of a value is found as well. What a mask
shows is shorter. One automaton for all of it, a chunk at a time.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote

import re2

PIECE = 12  # bytes: by chance, twelve of base64's letters come up once in 10**21 bytes
WHOLE = 40  # bytes of a longer value that stand for it in an encoding
CHUNK = 8 << 20
_ARMOUR = re.compile(rb"-----[A-Z ]{5,60}-----")  # no secret, and in many files
_COMMON = re.compile(rb"\\n|eyJhbGci|[\x00-\x20]{2}")  # what many values share
_DIGITS = re.compile(rb"[0-9 +-]*")


def needles(value: str) -> set[bytes]:
    """What tells that a value stands somewhere."""
    clear = value.encode()
    found = set(_pieces(clear))
    found |= {piece.lower() for piece in found}  # as an index has them
    start = len(clear) // 2 if len(clear) > 2 * WHOLE else 0  # of a long one its middle: beginnings are alike
    core = clear[start : start + WHOLE]
    text = core.decode("utf-8", "ignore")
    found |= {core.hex().encode(), core.hex().upper().encode(), quote(text, safe="").encode(), quote(text).encode()}
    found |= {json.dumps(text)[1:-1].encode(), text.encode("utf-16-le"), text.encode("utf-16-be")}
    for shift in range(3):
        # Of what is encoded behind `shift` other bytes: the characters that depend on this value's bytes alone.
        encoded = base64.b64encode(bytes(shift) + core)
        inner = encoded[(0, 2, 3)[shift] : len(encoded) - (0, 3, 2)[(shift + len(core)) % 3] or None]
        found |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
    return {needle for needle in found if len(needle) >= min(PIECE, len(clear)) and len(needle) >= 8}


def _pieces(clear: bytes) -> Iterable[bytes]:
    if len(clear) <= 2 * PIECE or _DIGITS.fullmatch(clear):
        yield clear
        return
    for part in _ARMOUR.split(clear):
        for start in (*range(0, len(part) - PIECE + 1, PIECE), len(part) - PIECE):
            piece = part[max(start, 0) : start + PIECE]
            if len(piece) == PIECE and _COMMON.search(piece) is None:
                yield piece


@dataclass(slots=True)
class Found:
    """What a scan saw of one store."""

    size: int = 0
    hits: Counter[str] = field(default_factory=Counter)  # by value; `where` has a place for each
    where: dict[str, str] = field(default_factory=dict)


class Scanner:
    """Scans stores for values; results by store's name."""

    def __init__(self, values: Iterable[str]) -> None:
        self._of: dict[bytes, str] = {}
        for value in values:
            for needle in needles(value):
                self._of.setdefault(needle, value)
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.never_capture = True
        options.max_mem = 1 << 30
        ordered = sorted(self._of)
        self._automaton = re2.compile(b"|".join(map(re.escape, ordered)), options)
        self._overlap = max(map(len, ordered)) - 1
        self.stores: dict[str, Found] = {}

    def scan(self, store: str, data: bytes, where: str = "") -> None:
        """Look through bytes of a store."""
        found = self.stores.setdefault(store, Found())
        found.size += len(data)
        for start in range(0, len(data), CHUNK):
            piece = data[max(0, start - self._overlap) : start + CHUNK]
            for match in self._automaton.finditer(piece):
                value = self._of[match.group()]
                found.hits[value] += 1
                found.where.setdefault(value, f"{where} byte {max(0, start - self._overlap) + match.start()}")

    @property
    def size(self) -> int:
        """Bytes scanned."""
        return sum(found.size for found in self.stores.values())

    def hits(self, values: Iterable[str], but: Iterable[str] = ()) -> dict[str, list[str]]:
        """By store, other than those of `but`: where any of the values is."""
        wanted = set(values)
        return {
            store: [f"{found.where[value]}" for value in found.hits if value in wanted]
            for store, found in self.stores.items()
            if store not in set(but) and wanted & found.hits.keys()
        }
