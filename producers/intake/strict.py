"""JSON as strangers send it, read strictly: what two readers could understand differently is refused.

Refused are invalid UTF-8, a key that stands twice, NaN and infinities, integers beyond 64 bits, more than `DEPTH` levels, and
whatever follows the document. Pure; no message repeats a byte of what was sent.
"""

from __future__ import annotations

import json
import math

from sealtrail.errors import ContractError

DEPTH = 64  # the contract's own events have 6 levels, GitHub's payloads about 10
_DIGITS = 20  # of an integer of 64 bits, with its sign


def parse(data: bytes) -> object:
    """The document. Raises ContractError, of no field."""
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_whole,
        )
    except UnicodeDecodeError:
        raise ContractError("", "not UTF-8") from None  # the causes show what was sent
    except RecursionError:
        raise ContractError("", "nested too deeply") from None
    except ValueError:
        raise ContractError("", "not JSON") from None
    _shallow(document)
    return document


def parse_lines(data: bytes) -> list[object]:
    """The documents of JSON lines; one that is none is a ContractError in its place. Empty lines do not count."""
    found: list[object] = []
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        try:
            found.append(parse(line))
        except ContractError as error:
            found.append(error)
    return found


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ContractError("", "a key stands twice in one object")
    return made


def _no_number(_: str) -> object:
    raise ContractError("", "NaN or an infinity, which JSON has not")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ContractError("", "a number beyond its type")
    return number


def _whole(text: str) -> int:
    if len(text) > _DIGITS or not -(1 << 63) <= (number := int(text)) < 1 << 63:
        raise ContractError("", "a number beyond its type")
    return number


def _shallow(document: object) -> None:
    level = [document]
    for _ in range(DEPTH):
        level = [
            below
            for item in level
            if isinstance(item, (dict, list))
            for below in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise ContractError("", "nested too deeply")
