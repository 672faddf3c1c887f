"""Typed reading of a webhook's payload, which may be anything.

Two kinds of reader: `need_…` for what GitHub documents as always there, raising `MalformedError` with the path; without
`need_` for what may be missing or null, giving None, and raising only when it is of the wrong type. Text that UTF-8
cannot carry and numbers beyond 63 bits are malformed as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

NAME_CHARACTERS = 256  # GitHub's own names are at most 100; the contract's limit is 8 KiB
_MAX_LONG = (1 << 63) - 1
_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_EARLIEST_S, _LATEST_S = 946_684_800, 7_258_118_400  # 2000 and 2200: what the contract finds plausible
_MICROSECONDS = 1_000_000


class MalformedError(Exception):
    """The payload has not the shape that GitHub documents; says where, never what."""

    def __init__(self, path: tuple[str, ...], expected: str) -> None:
        super().__init__(f"{'.'.join(path)}: expected {expected}")


def value(payload: object, *path: str) -> object:
    """What is at `path`; None when something on the way is missing or null. A way through a non-object is malformed."""
    found = payload
    for depth, key in enumerate(path):
        if found is None:
            return None
        if not isinstance(found, Mapping):
            raise MalformedError(path[:depth], "an object")
        found = found.get(key)
    return found


def number(payload: object, *path: str) -> int | None:
    """A whole number from 0 to 2⁶³-1."""
    found = value(payload, *path)
    if found is None:
        return None
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= _MAX_LONG:
        raise MalformedError(path, "a number")
    return found


def need_number(payload: object, *path: str) -> int:
    """As `number`, but there."""
    found = number(payload, *path)
    if found is None:
        raise MalformedError(path, "a number")
    return found


def text(payload: object, *path: str) -> str | None:
    """A string, cut to `NAME_CHARACTERS`."""
    found = value(payload, *path)
    if found is None:
        return None
    if not isinstance(found, str):
        raise MalformedError(path, "text")
    found = found[:NAME_CHARACTERS]
    try:
        found.encode()
    except UnicodeEncodeError:
        raise MalformedError(path, "text without lone surrogates") from None
    return found


def need_text(payload: object, *path: str) -> str:
    """As `text`, but there and not empty."""
    found = text(payload, *path)
    if not found:
        raise MalformedError(path, "text")
    return found


def flag(payload: object, *path: str) -> bool | None:
    """True or false."""
    found = value(payload, *path)
    if found is not None and not isinstance(found, bool):
        raise MalformedError(path, "true or false")
    return found


def items(payload: object, *path: str) -> list[object]:
    """An array; empty when missing."""
    found = value(payload, *path)
    if found is None:
        return []
    if not isinstance(found, list):
        raise MalformedError(path, "an array")
    return found


def sha(payload: object, *path: str) -> str | None:
    """A commit's hash; None for 40 zeros, which stand for "no commit"."""
    found = text(payload, *path)
    if found is None or not found.strip("0"):
        return None
    if not _SHA.fullmatch(found):
        raise MalformedError(path, "a commit hash")
    return found


def time_us(payload: object, *path: str) -> int | None:
    """Microseconds since 1970 of a time as GitHub writes it: RFC 3339 (UTC if no zone is named) or Unix seconds."""
    found = value(payload, *path)
    if found is None:
        return None
    if isinstance(found, int) and not isinstance(found, bool):
        seconds: float = found
    else:
        try:
            moment = datetime.fromisoformat(need_text(payload, *path))
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            raise MalformedError(path, "a time") from None
    if not _EARLIEST_S <= seconds < _LATEST_S:
        raise MalformedError(path, "a plausible time")
    return round(seconds * _MICROSECONDS)


def word(found: str | None, known: frozenset[str]) -> str | None:
    """`found` when it is one of GitHub's own words, else `custom`: words that people choose may name a person."""
    return found if found is None or found in known else "custom"
