"""What the matches of a regular expression begin with: a few bytes of which none is optional, for a scan without an automaton.

    beginnings(rb"gh[pousr]_|(?i:sig)=+")  ->  (g, h, one of pousr, _), (S or s, I or i, G or g, =)

A match has one of these at its first places; what has none of them anywhere has no match. A beginning ends where the
expression first leaves open how often something comes, or after `MOST` bytes. The syntax is RE2's, as far as hints use it:
literals, escapes, classes, groups without capture, alternatives, quantifiers, and `(?i)` in front; anything else raises.

Not here: who scans (`processors.native`); the hints (`schemas.secret_shapes`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import re2

MOST = 24  # bytes
LEAST = 2  # bytes; what a scan can tell by one of them is nothing

Beginning = tuple[frozenset[int], ...]
"""The bytes that may stand at each place."""

_QUANTIFIER = re.compile(rb"\{([0-9]+)(,([0-9]*))?\}|[?*+]")
_ATOM = re.compile(rb"\[\^?(?:\\.|[^\\\]])+\]|\\[^A-Za-rt-z0-9]|[^\\\[\](){}|?*+.^$]", re.DOTALL)  # of letters, \s alone
_GROUP = re.compile(rb"\(\?(i?):")


@dataclass(frozen=True, slots=True)
class _Part:
    """How a part of an expression may begin; `whole`: that is all of it, and what follows it comes next."""

    classes: Beginning = ()
    whole: bool = True

    def then(self, other: _Part) -> _Part:
        if not self.whole:
            return self
        classes = (*self.classes, *other.classes)
        return _Part(classes[:MOST], other.whole and len(classes) < MOST)


def beginnings(pattern: bytes) -> frozenset[Beginning]:
    """All of a pattern's. Raises ValueError: another syntax, or a match of less than `LEAST` bytes."""
    parser = _Parser(pattern)
    made = frozenset(part.classes for part in parser.alternatives(folded=False))
    if parser.at != len(pattern):
        raise ValueError(f"hint {pattern!r}: cannot be read from {parser.at} on")
    if any(len(classes) < LEAST for classes in made):
        raise ValueError(f"hint {pattern!r}: a match may begin with less than {LEAST} certain bytes")
    return made


def fewest(made: Iterable[Beginning]) -> tuple[Beginning, ...]:
    """One for those that differ at one place alone, and none that another one covers: what begins so, begins with that."""
    kept: list[Beginning] = []
    for one in sorted(_merged(set(made)), key=lambda classes: (len(classes), [sorted(members) for members in classes])):
        if not any(all(mine <= its for mine, its in zip(one, other, strict=False)) for other in kept):
            kept.append(one)
    return tuple(kept)


def _merged(made: set[Beginning]) -> set[Beginning]:
    for at in reversed(range(MOST)):
        alike: dict[tuple[Beginning, Beginning], frozenset[int]] = {}
        others = {one for one in made if len(one) <= at}
        for one in made - others:
            rest = (one[:at], one[at + 1 :])
            alike[rest] = alike.get(rest, frozenset()) | one[at]
        made = others | {(*before, members, *after) for (before, after), members in alike.items()}
    return made


class _Parser:
    """Recursive descent; `at` is the place that it has come to."""

    def __init__(self, pattern: bytes) -> None:
        self._pattern = pattern
        self.at = 0

    def alternatives(self, *, folded: bool) -> list[_Part]:
        folded |= self._take(b"(?i)")
        made = self._sequence(folded=folded)
        while self._take(b"|"):
            made += self._sequence(folded=folded)
        return made

    def _sequence(self, *, folded: bool) -> list[_Part]:
        made = [_Part()]
        while self.at < len(self._pattern) and self._pattern[self.at] not in b"|)":
            item = self._atom(folded=folded)
            made = _joined(made, self._repeated(item))
        return made

    def _atom(self, *, folded: bool) -> list[_Part]:
        group = _GROUP.match(self._pattern, self.at)
        if group:
            self.at = group.end()
            made = self.alternatives(folded=folded or bool(group[1]))
            if not self._take(b")"):
                raise ValueError(f"hint {self._pattern!r}: a group without an end")
            return made
        atom = _ATOM.match(self._pattern, self.at)
        if atom is None:
            raise ValueError(f"hint {self._pattern!r}: cannot be read from {self.at} on")
        self.at = atom.end()
        return [_Part((_members(atom[0], folded=folded),))]

    def _repeated(self, item: list[_Part]) -> list[_Part]:
        found = _QUANTIFIER.match(self._pattern, self.at)
        if found is None:
            return item
        self.at = found.end()
        if found[1] is None:
            low, high = {b"?": (0, 1), b"*": (0, None), b"+": (1, None)}[found[0]]
        else:
            low, high = int(found[1]), int(found[1]) if found[2] is None else int(found[3]) if found[3] else None
        least = [_Part()]
        for _ in range(min(low, MOST)):
            least = _joined(least, item)
        if high == low:
            return least
        if high == low + 1:
            return least + _joined(least, item)
        return [_Part(part.classes, whole=False) for part in least]

    def _take(self, sign: bytes) -> bool:
        taken = self._pattern.startswith(sign, self.at)
        self.at += len(sign) * taken
        return taken


@cache
def _members(atom: bytes, *, folded: bool) -> frozenset[int]:
    """The bytes that an atom matches, by RE2, whose white space is not quite Python's."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.case_sensitive = not folded
    fits = re2.compile(atom, options).fullmatch
    return frozenset(byte for byte in range(256) if fits(bytes([byte])))


def _joined(one: Sequence[_Part], other: Sequence[_Part]) -> list[_Part]:
    return list(dict.fromkeys(first.then(second) for first, second in product(one, other)))
