"""Does one regular expression admit everything that another admits? For the expressions that fields' patterns are made of.

    includes("^[a-z]{1,9}$", "^[ab]+c?$")      False: the second has no upper bound

Brzozowski's derivatives ("Derivatives of Regular Expressions", 1964): what may follow a text is an expression again, and there
are finitely many of them; so two expressions are walked together over the characters that they tell apart, and a text that
the narrow one accepts and the wide one does not is found if there is one. The whole text is matched, as the contract does.

Where the answer would take more than `MAX_PAIRS` steps, or an expression uses what is not read here (look-around, references,
flags, lazy repeats, anchors within), the answer is None: nobody knows, and the caller must assume the worse.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

MAX_PAIRS = 20_000  # some two seconds; the packaged patterns need a few hundred
_LAST = 0x10FFFF

# An expression is a tuple, so that equal ones are one: ("none",) nothing, ("empty",) the empty text, ("set", ranges),
# ("cat", first, rest), ("or", members), ("repeat", inner, least, most or None)
_Expression = tuple[Any, ...]
_NONE: Final[_Expression] = ("none",)
_EMPTY: Final[_Expression] = ("empty",)


def includes(wide: str, narrow: str) -> bool | None:
    """Whether every text that `narrow` matches is matched by `wide`; None if that cannot be told."""
    try:
        return counterexample(wide, narrow) is None
    except (ValueError, re.error, RecursionError):
        return None


def counterexample(wide: str, narrow: str) -> str | None:
    """A text that `narrow` matches and `wide` does not; None: there is none.

    Raises:
        ValueError, re.error, RecursionError: an expression is not read here, or it would take too long.
    """
    pair = (_parsed(wide), _parsed(narrow))
    letters = _letters(*pair)
    seen = {pair}
    waiting = [(pair, "")]
    while waiting:
        (outer, inner), text = waiting.pop()
        if _nullable(inner) and not _nullable(outer):
            return text
        for letter in letters:
            after = (_after(outer, letter), _after(inner, letter))
            if after[1] != _NONE and after not in seen:
                if len(seen) >= MAX_PAIRS:
                    raise ValueError("too many pairs")
                seen.add(after)
                waiting.append((after, text + chr(letter)))
    return None


def _parsed(pattern: str) -> _Expression:
    parsed = re._parser.parse(pattern)  # the standard library's own reading of a pattern
    if parsed.state.flags & ~re.UNICODE:
        raise ValueError("flags")
    items = list(parsed)
    if items and str(items[0][0]) == "AT" and str(items[0][1]) == "AT_BEGINNING":
        del items[0]
    if items and str(items[-1][0]) == "AT" and str(items[-1][1]) == "AT_END":
        del items[-1]
    return _sequence(items)


def _sequence(items: Any) -> _Expression:
    made = _EMPTY
    for item in reversed(list(items)):
        made = _cat(_item(*item), made)
    return made


def _item(operation: Any, argument: Any) -> _Expression:
    match str(operation):
        case "LITERAL":
            return ("set", ((argument, argument),))
        case "NOT_LITERAL":
            return ("set", _complement(((argument, argument),)))
        case "ANY":
            return ("set", _complement(((10, 10),)))
        case "IN":
            return ("set", _ranges(argument))
        case "BRANCH":
            return _either(_sequence(branch) for branch in argument[1])
        case "SUBPATTERN":
            _, added, removed, inner = argument
            if added or removed:
                raise ValueError("flags")
            return _sequence(inner)
        case "MAX_REPEAT":
            least, most, inner = argument
            return _repeat(_sequence(inner), int(least), None if str(most) == "MAXREPEAT" else int(most))
    raise ValueError("an operation that is not read here")


def _ranges(members: Any) -> tuple[tuple[int, int], ...]:
    negated, found = False, []
    for operation, argument in members:
        match str(operation):
            case "NEGATE":
                negated = True
            case "LITERAL":
                found.append((argument, argument))
            case "RANGE":
                found.append((argument[0], argument[1]))
            case _:
                raise ValueError("a class of characters that is not read here")
    merged: list[tuple[int, int]] = []
    for low, high in sorted(found):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return _complement(tuple(merged)) if negated else tuple(merged)


def _complement(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    made, at = [], 0
    for low, high in ranges:
        if low > at:
            made.append((at, low - 1))
        at = high + 1
    return (*made, (at, _LAST)) if at <= _LAST else tuple(made)


def _cat(first: _Expression, rest: _Expression) -> _Expression:
    if _NONE in (first, rest):
        return _NONE
    if first == _EMPTY:
        return rest
    if first[0] == "cat":
        return _cat(first[1], _cat(first[2], rest))
    return first if rest == _EMPTY else ("cat", first, rest)


def _either(members: Any) -> _Expression:
    found: set[_Expression] = set()
    for member in members:
        found |= member[1] if member[0] == "or" else {member}
    found.discard(_NONE)
    if len(found) < 2:
        return found.pop() if found else _NONE
    return ("or", frozenset(found))


def _repeat(inner: _Expression, least: int, most: int | None) -> _Expression:
    if most == 0 or inner in (_EMPTY, _NONE):
        return _EMPTY if most == 0 or least == 0 or inner == _EMPTY else _NONE
    least = 0 if _nullable(inner) else least
    return inner if (least, most) == (1, 1) else ("repeat", inner, least, most)


@lru_cache(maxsize=1 << 16)
def _nullable(expression: _Expression) -> bool:
    """Whether it matches the empty text."""
    match expression[0]:
        case "empty":
            return True
        case "cat":
            return _nullable(expression[1]) and _nullable(expression[2])
        case "or":
            return any(_nullable(member) for member in expression[1])
        case "repeat":
            return bool(expression[2] == 0)
    return False


def _after(expression: _Expression, letter: int) -> _Expression:
    """What may follow that letter."""
    match expression[0]:
        case "set":
            return _EMPTY if any(low <= letter <= high for low, high in expression[1]) else _NONE
        case "cat":
            _, first, rest = expression
            taken = _cat(_after(first, letter), rest)
            return _either((taken, _after(rest, letter))) if _nullable(first) else taken
        case "or":
            return _either(_after(member, letter) for member in expression[1])
        case "repeat":
            _, inner, least, most = expression
            return _cat(_after(inner, letter), _repeat(inner, max(0, least - 1), None if most is None else most - 1))
    return _NONE


def _letters(*expressions: _Expression) -> list[int]:
    """One letter of each kind that the expressions tell apart."""
    starts, waiting = {0}, list(expressions)
    while waiting:
        expression = waiting.pop()
        if expression[0] == "set":
            starts |= {edge for low, high in expression[1] for edge in (low, high + 1)}
        else:
            for part in expression[1:]:
                waiting += part if isinstance(part, frozenset) else [part] if isinstance(part, tuple) else []
    return sorted(starts - {_LAST + 1})
