"""Marked values in the place of a payload's strings, so that whatever comes out of a connector can be told. Pure.

Each string gets a mark of its own, in the string's own shape: a mail address stays one, an address of the web too, digits
stay digits, hexadecimal stays hexadecimal. A mark for a word is made of small letters alone: it passes wherever a person's
word would, so a field that lets words through is found out. Kept as they are: points in time, fewer than seven digits, true,
false and the empty string.

Some strings are words that the mapping knows (an action, a state); with a mark in their place it would do something else,
or refuse. `settled` finds them by trying, halving the payload: they are marked in part if that does, and kept if not.
Keys of maps are structure and are never marked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

PREFIX = "zqplanted"
_LETTERS = 5  # 26^5 marks
_DIGITS = re.compile(r"[0-9]{7,}")
_PHONE = re.compile(r"\+?[0-9][0-9 ()./-]{5,}[0-9]")
_MAIL = re.compile(r"[^@\s]+@[^@\s]+")
_WEB = re.compile(r"([a-z][a-z0-9+.-]*://)(.+)", re.DOTALL)
_HEX = re.compile(r"((?:[a-z0-9]+:)?)([0-9a-f]{16,})|((?:[A-Z0-9]+:)?)([0-9A-F]{16,})")  # a token, a digest, a commit
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_KEPT = re.compile(
    r"|true|false|[0-9.,-]{1,6}"
    r"|\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?([.,]\d+)?( ?(Z|UTC|[+-]\d\d:?\d\d))?)?",
    re.IGNORECASE,
)

Pointer = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Planted:
    """A marked string. needles: what to look for; each alone gives it away."""

    pointer: Pointer
    value: str
    needles: tuple[str, ...]

    @property
    def place(self) -> str:
        """The pointer as text; a key that may itself be somebody's is a star."""
        return "".join(f"/{part}" if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", str(part)) else "/*" for part in self.pointer)


def mark(number: int) -> str:
    """The mark of a number: 15 small letters. The last is the same in all, for base64 may drop its last bits."""
    letters = ""
    for _ in range(_LETTERS):
        number, rest = divmod(number, 26)
        letters = chr(ord("a") + rest) + letters
    return f"{PREFIX}{letters}z"


def strings(payload: object, pointer: Pointer = ()) -> Iterator[tuple[Pointer, str]]:
    """Every string of a payload that can be marked, and where it is."""
    if isinstance(payload, Mapping):
        for key, below in payload.items():
            yield from strings(below, (*pointer, str(key)))
    elif isinstance(payload, list):
        for number, below in enumerate(payload):
            yield from strings(below, (*pointer, number))
    elif isinstance(payload, str) and not _KEPT.fullmatch(payload):
        yield pointer, payload


def shapes(value: str, number: int) -> list[tuple[str, tuple[str, ...]]]:
    """What can stand in a string's place, the most marked first: (text, needles)."""
    word = mark(number)
    if _UUID.fullmatch(value):
        made = str(UUID(int=0x7A71 << 112 | 7 << 76 | 0b10 << 62 | number))
        return [(made, (made, made.replace("-", "")))]
    hexadecimal = _HEX.fullmatch(value)
    if hexadecimal and not _DIGITS.fullmatch(value):
        digits = hexadecimal[2] or hexadecimal[4]
        made = f"97a{number:0{len(digits) - 3}x}"
        return [((hexadecimal[1] or hexadecimal[3] or "") + (made if hexadecimal[2] else made.upper()), (made,))]
    if _DIGITS.fullmatch(value):
        made = f"97{number:0{len(value) - 2}d}"
        return [(made, (made,))]
    if _PHONE.fullmatch(value):
        made = f"97{number:010d}"
        return [(f"+{made}", (made,))]
    if _MAIL.fullmatch(value):
        return [(f"{word}@{word}.example", (word,))]
    web = _WEB.fullmatch(value)
    if web:
        host, slash, path = web[2].partition("/")
        kept = "/".join([*path.split("/")[:-1], word]) if slash else ""
        return [(f"{web[1]}{word}.example/{word}?{word}={word}", (word,)), (f"{web[1]}{host}/{kept or word}", (word,))]
    found: list[tuple[str, tuple[str, ...]]] = [(word, (word,)), (word.upper(), (word,))]
    cut = max(value.rfind("/"), value.rfind(":"), value.rfind(" "))
    if cut > 0:
        found.append((value[: cut + 1] + word, (word,)))
    return found


def with_marks(payload: object, planted: Sequence[Planted]) -> object:
    """A copy of the payload with these strings in their places."""
    return _replaced(payload, {one.pointer: one.value for one in planted}, ())


def _replaced(node: object, values: Mapping[Pointer, str], pointer: Pointer) -> object:
    if isinstance(node, Mapping):
        return {key: _replaced(below, values, (*pointer, str(key))) for key, below in node.items()}
    if isinstance(node, list):
        return [_replaced(below, values, (*pointer, number)) for number, below in enumerate(node)]
    return values.get(pointer, node)


def settled(payload: object, places: Sequence[tuple[Pointer, str]], behaves: Callable[[object], bool]) -> tuple[Planted, ...]:
    """As many marks as the mapping takes without doing something else.

    Args:
        places: the strings to be marked, as `strings` gives them.
        behaves: whether the mapping does with a payload what it does with the original.
    """
    options = [
        [Planted(pointer, made, needles) for made, needles in shapes(value, number)]
        for number, (pointer, value) in enumerate(places)
    ]

    def fits(chosen: Sequence[Planted]) -> bool:
        return behaves(with_marks(payload, chosen))

    def choose(group: Sequence[list[Planted]]) -> list[Planted]:
        first = [shaped[0] for shaped in group]
        if not group or fits(first):
            return first
        if len(group) == 1:
            return next(([one] for one in group[0][1:] if fits([one])), [])
        half = len(group) // 2
        return choose(group[:half]) + choose(group[half:])

    chosen = choose(options)
    if fits(chosen):
        return tuple(chosen)
    together: list[Planted] = []  # each does alone, and not all at once: one by one
    for one in chosen:
        if fits([*together, one]):
            together.append(one)
    return tuple(together)
