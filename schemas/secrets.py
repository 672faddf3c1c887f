"""The secret net: known shapes of secrets in text, found in linear time, and what stands in their place.

    redact("deploy with AKIA…")  ->  ("deploy with [secret:aws-access-key]", ("aws-access-key",))

A shape is a published form: a token's prefix, a PEM header, a number with a check digit. What only looks random is no shape:
commit hashes, UUIDs, digests and pictures in base64 pass. Three steps, the first over every event, the others hardly ever:

1. `suspicious`: one pass of `re2.Set` over bytes, whatever holds them (Avro, UTF-8), by *hints*: what a shape cannot be
   without. About a microsecond; it never misses what the next step finds.
2. Patterns of the shapes whose hint was found, over one text.
3. Check digits, JSON headers and the like, in Python, over what a pattern found.

What is found becomes `[secret:<shape>]`, again until nothing is found: so the result holds no hit, and redacting it changes
nothing. A person may type such a mark; it says only that nothing is there.

In scope beside plain text: characters without width, full-width forms, and typographic spaces and hyphens within a secret;
line breaks and their escapes within a private key. Not in scope: secrets in base64, compressed, spelt out, cut into several
texts, or without a published form.

Not here: which fields are looked at, and what becomes of one that a mark does not fit (`schemas.net`).
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import re2

from schemas.beginnings import Beginning, beginnings, fewest
from schemas.secret_shapes import SHAPES

MARK = "[secret:{}]"
_MARKS = re.compile(rb"\[secret:(?:" + b"|".join(shape.name.encode() for shape in SHAPES) + rb")\]")

# What hides a secret from a pattern and not from a reader: zero width goes, other spaces and hyphens become plain ones.
_NO_WIDTH = (
    0x00AD,
    0x034F,
    0x061C,
    0x115F,
    0x1160,
    0x180E,
    *range(0x200B, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2065),
    0xFEFF,
)
_HYPHENS = (*range(0x2010, 0x2016), 0x2212, 0xFE63)
_SPACES = (0x00A0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000)
_FOLDED: dict[str, str] = {
    **dict.fromkeys(map(chr, _NO_WIDTH), ""),
    **dict.fromkeys(map(chr, _HYPHENS), "-"),
    **dict.fromkeys(map(chr, _SPACES), " "),
    **{chr(c): unicodedata.normalize("NFKC", chr(c)) for c in range(0xFF01, 0xFF5F)},
}


@dataclass(frozen=True, slots=True)
class Hit:
    """A secret in a text: from code point `start` to before `end`."""

    start: int
    end: int
    shape: str


def _latin1() -> re2.Options:
    """Any byte is a character. Without it RE2 takes patterns as UTF-8, and no class and no dot matches what is none."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    return options


def _hints() -> re2.Set:
    """All hints in one automaton; the last is that of characters that `_FOLDED` folds.

    A set never gives up for slowness (RE2's DFA does only where an NFA can take over); its memory is enough for its states.
    """
    options = _latin1()
    options.never_capture = True
    options.max_mem = 64 << 20
    made = re2.Set.SearchSet(options)
    for shape in SHAPES:
        made.Add(shape.hint)
    made.Add(b"|".join(re.escape(character.encode()) for character in _FOLDED))
    made.Compile()
    return made


def _patterns() -> list[re2._Regexp]:
    return [re2.compile(shape.pattern, _latin1()) for shape in SHAPES]


_SET = _hints()
_TRICKS = len(SHAPES)
_PATTERNS = _patterns()
_ORPHANS: list[object] = []  # the parent's automata: destroying one in the child could wait for a thread that does not exist


def _after_fork() -> None:
    """Make the automata anew: each has a lock, and one that another of the parent's threads held is never let go of."""
    global _SET, _PATTERNS
    _ORPHANS.append((_SET, _PATTERNS))
    re2.purge()  # or it would give the old ones again
    _SET, _PATTERNS = _hints(), _patterns()


os.register_at_fork(after_in_child=_after_fork)


def suspicious(data: bytes) -> bool:
    """Whether some text within may hold a secret; False is certain. The texts stand in it as UTF-8, each in one piece."""
    return bool(_SET.Match(data))


def text_beginnings() -> tuple[Beginning, ...]:
    """A text in which `find` finds a secret has one of these somewhere; for a scan that is not RE2's."""
    folded = {tuple(frozenset({byte}) for byte in character.encode()) for character in _FOLDED}
    return fewest(folded.union(*(beginnings(shape.hint) for shape in SHAPES)))


def may_hold_secret(data: bytes) -> bool:
    """Whether bytes that nobody could read as texts may hold a secret: yes whenever a hint is there, however it was hidden."""
    found = _hinted(data)
    if _TRICKS in found:
        found += _hinted(_fold(data.decode("utf-8", "replace"))[0].encode())
    return any(index < _TRICKS for index in found)


def find(text: str) -> tuple[Hit, ...]:
    """The secrets in a text, in order; none overlap."""
    hinted = _hinted(text.encode("utf-8", "surrogatepass"))
    found = _hits(text, hinted) if hinted else []
    if _TRICKS in hinted:
        # As written as well as as seen: what has no width may stand in a secret, or part it from a word.
        folded, places = _fold(text)
        seen = _hits(folded, _hinted(folded.encode("utf-8", "surrogatepass")))
        found += [Hit(places[hit.start], places[hit.end - 1] + 1, hit.shape) for hit in seen]
    return tuple(_merged(found))


def redact(text: str) -> tuple[str, tuple[str, ...]]:
    """The text with a mark in the place of each secret, and the shapes found, in order of first appearance."""
    shapes: dict[str, None] = {}
    while hits := find(text):
        made, at = [], 0
        for hit in hits:
            shapes[hit.shape] = None
            made += [text[at : hit.start], MARK.format(hit.shape)]
            at = hit.end
        text = "".join(made) + text[at:]
    return text, tuple(shapes)


def _hinted(data: bytes) -> list[int]:
    """The shapes whose hint is there, and perhaps `_TRICKS`, in no order."""
    return list(_SET.Match(data) or ())


def _fold(text: str) -> tuple[str, list[int]]:
    """The text as a reader sees it, and for each of its code points the position it came from."""
    folded, places = [], []
    for place, character in enumerate(text):
        seen = _FOLDED.get(character, character)
        if seen:
            folded.append(seen)
            places.append(place)
    return "".join(folded), places


def _one_byte_each(text: str) -> bytes:
    """The text with one byte a code point, so that positions agree; what is not ASCII is some byte that is not either."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return bytes(code if code < 0x100 else 0x80 | code & 0x7F for code in map(ord, text))


def _hits(text: str, hinted: list[int]) -> list[Hit]:
    """The hits of the shapes that are hinted at, in the pieces between marks, by shape."""
    data, found, at = _one_byte_each(text), list[Hit](), 0
    shapes = sorted(index for index in hinted if index < _TRICKS)
    for mark in [*_MARKS.finditer(data), None]:
        end = len(data) if mark is None else mark.start()
        for index in shapes:
            name = SHAPES[index].name
            found += [Hit(at + first, at + last, name) for first, last in _spans(index, data[at:end])]
        at = end if mark is None else mark.end()
    return found


def _merged(found: list[Hit]) -> list[Hit]:
    """The hits in order; overlapping ones are one, under the name of the first shape."""
    found.sort(key=lambda hit: hit.start)  # stable: of those at one place the first shape comes first
    merged: list[Hit] = []
    for hit in found:
        if merged and hit.start < merged[-1].end:
            merged[-1] = Hit(merged[-1].start, max(hit.end, merged[-1].end), merged[-1].shape)
        else:
            merged.append(hit)
    return merged


def _spans(index: int, piece: bytes) -> Iterator[tuple[int, int]]:
    """What one shape takes of a piece."""
    check, at = SHAPES[index].check, 0
    search = _PATTERNS[index].search
    while (match := search(piece, at)) is not None:
        start, end = match.span(1) if match.re.groups and match.start(1) >= 0 else match.span()
        if check is None or check(piece, start, end):
            yield start, end
            at = end
        else:
            # What a refused match began with may hide the true one, but never behind its own first character.
            at = match.start() + 1
