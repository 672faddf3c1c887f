"""Before and after of a change as a compact diff in the terms of RFC 6902: add, remove, replace (CAP-2). Pure.

    changed({"role": "member", "tags": ["a"]}, {"role": "admin", "tags": ["a", "b"]})
    REPLACE /role "member" -> "admin"    ADD /tags/1 -> "b"

1. Maps are compared key by key, lists by position after what they have in common at both ends; everything else as JSON.
   Applied in order to `before`, the changes give `after`.
2. A path is internal, not redacted: it holds names of settings. A key that the schema's path cannot hold (a person's
   address, a text, `/` and `~`), or that lies deeper than 16 names, is not named: the map around it is replaced whole, in
   `before` and `after`, which are redacted.
3. What stands under a name of a secret (password, token, …) changes without values.
4. Refused with the field's name: what JSON has not (NaN, cycles, other types), text that UTF-8 cannot carry, a key at the
   top that a path cannot hold, values over 8 KiB of JSON, more than 1,000 changes. Nothing is cut: half a value is none.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from schemas.contract import MAX_TEXT_BYTES
from sealtrail.errors import ContractError

MAX_CHANGES = 1000  # a diff is read by people; what changes more is another object
MAX_NAMES = 16  # as the schema's changes[].path
MAX_NESTING = 64  # deeper is no setting, and recursion must end
_NAMEABLE = re.compile(r"[A-Za-z0-9_.-]{0,62}")  # one name of the schema's changes[].path
_SECRET = re.compile(r"passw(or)?d|passphrase|secret|token|credential|api[_-]?key|private[_-]?key", re.IGNORECASE)

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. op: ADD, REMOVE or REPLACE; path: JSON Pointer; before, after: JSON text, None where absent or secret."""

    op: str
    path: str
    before: str | None = field(default=None, repr=False)
    after: str | None = field(default=None, repr=False)


def changed(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[Change, ...]:
    """The changes that make `after` of `before`; none when they are the same.

    Raises:
        ContractError: on what rule 4 names; the field is changes[].before, .after or .path, or changes.
    """
    old, new = _plain(before, "changes[].before"), _plain(after, "changes[].after")
    if not isinstance(old, dict) or not isinstance(new, dict):
        raise ContractError("changes", "before and after are not maps")
    if not all(map(_nameable, old.keys() | new.keys())):
        raise ContractError("changes[].path", "a key that a path cannot hold: letters, digits and _.- alone, at most 62")
    found = tuple(_maps("", old, new, 0, False))
    if len(found) > MAX_CHANGES:
        raise ContractError("changes", f"{len(found)} changes; at most {MAX_CHANGES}")
    return found


def _values(path: str, old: Json, new: Json, depth: int, secret: bool) -> Iterator[Change]:
    """What is at `path`, in both."""
    if _text(old) == _text(new):
        return
    if isinstance(old, dict) and isinstance(new, dict) and depth < MAX_NAMES and all(map(_nameable, old.keys() | new.keys())):
        yield from _maps(path, old, new, depth, secret)
    elif isinstance(old, list) and isinstance(new, list) and depth < MAX_NAMES:
        yield from _lists(path, old, new, depth, secret)
    else:
        hidden = secret or _holds_secret(old) or _holds_secret(new)
        yield Change("REPLACE", path, None if hidden else _kept(old, "before"), None if hidden else _kept(new, "after"))


def _maps(path: str, old: dict[str, Json], new: dict[str, Json], depth: int, secret: bool) -> Iterator[Change]:
    for key in sorted(old.keys() | new.keys()):
        below, hidden = f"{path}/{key}", secret or _SECRET.search(key) is not None
        if key not in new:
            yield _removed(below, old[key], hidden)
        elif key not in old:
            yield _added(below, new[key], hidden)
        else:
            yield from _values(below, old[key], new[key], depth + 1, hidden)


def _lists(path: str, old: list[Json], new: list[Json], depth: int, secret: bool) -> Iterator[Change]:
    """By position: what differs is replaced, what is over is removed from the end, what is missing is added."""
    shorter = min(len(old), len(new))
    first = next((n for n in range(shorter) if _text(old[n]) != _text(new[n])), shorter)
    tail = next((n for n in range(shorter - first) if _text(old[-1 - n]) != _text(new[-1 - n])), shorter - first)
    olds, news = old[first : len(old) - tail], new[first : len(new) - tail]
    for n, (was, now) in enumerate(zip(olds, news, strict=False)):
        yield from _values(f"{path}/{first + n}", was, now, depth + 1, secret)
    for n in reversed(range(len(news), len(olds))):
        yield _removed(f"{path}/{first + n}", olds[n], secret)
    for n in range(len(olds), len(news)):
        yield _added(f"{path}/{first + n}", news[n], secret)


def _removed(path: str, value: Json, secret: bool) -> Change:
    return Change("REMOVE", path, None if secret or _holds_secret(value) else _kept(value, "before"))


def _added(path: str, value: Json, secret: bool) -> Change:
    return Change("ADD", path, None, None if secret or _holds_secret(value) else _kept(value, "after"))


def _nameable(key: str) -> bool:
    return _NAMEABLE.fullmatch(key) is not None


def _holds_secret(value: Json) -> bool:
    if isinstance(value, dict):
        return any(_SECRET.search(key) is not None or _holds_secret(below) for key, below in value.items())
    return isinstance(value, list) and any(map(_holds_secret, value))


def _text(value: Json) -> str:
    """JSON text; so that 1, 1.0 and true are three values, and the order of keys is none."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _kept(value: Json, which: str) -> str:
    text = _text(value)
    size = len(text.encode())
    if size > MAX_TEXT_BYTES:
        raise ContractError(f"changes[].{which}", f"{size} bytes of JSON; at most {MAX_TEXT_BYTES}")
    return text


def _plain(value: object, where: str, around: tuple[int, ...] = ()) -> Json:
    """The value with nothing in it but what JSON has; `around`: the containers that it lies in."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _carried(value, where)
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise ContractError(where, "an integer of more than 64 bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ContractError(where, "not a finite number")
        return float(value)
    if not isinstance(value, (Mapping, list, tuple)):
        raise ContractError(where, "a value that JSON has not")
    if id(value) in around:
        raise ContractError(where, "contains itself")
    if len(around) >= MAX_NESTING:
        raise ContractError(where, f"nested more than {MAX_NESTING} deep")
    inside = (*around, id(value))
    if isinstance(value, Mapping):
        return {_key(key, where): _plain(below, where, inside) for key, below in value.items()}
    return [_plain(below, where, inside) for below in value]


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise ContractError(where, "a key that is not text")
    return _carried(key, where)


def _carried(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ContractError(where, "text that UTF-8 cannot carry") from None  # the cause would show the value
    return str(text)
