"""What the tokens of one event stand for, from the event, its schemas, and the keys as their topic has them (CON-2).

    event ──► tokens_in ──► key_ids ──► wrapped_keys(records of the topic) ──► opened(a tenant's private halves) ──► revealed

1. Which values are tokens is said by the schemas that the event and its extension were *written with*.
2. A key counts if it stands on the event's own chain, was not destroyed, and is of the event's own tenant.
3. What cannot be revealed says why. Nothing here guesses: a token opens with the key that its id names, or not at all.

Pure; no text and no key is in an error or a repr. Not here: whether somebody may see it (`auditor.access`), and whether the
event is what was sealed (`auditor.finding`): both come first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.registry import Registry
from schemas.tokenized import Tokenized, TokenizedValue
from sealtrail.avro import Codec
from sealtrail.contents import Openers
from sealtrail.errors import ConfigError, ContractError, EvidenceError, UndecidedError
from sealtrail.session import RUN_SESSION
from sealtrail.token import KEY_ID_SIZE, SubjectKey, is_token, parse_wrapped_key, subject_prefix, token_key_id

NO_VALUE = "nothing is tokenised there in this event"
NOT_A_TOKEN = "what stands there is no token"
NO_KEY = "no key of that id: destroyed, or not of this deployment's topic"
DESTROYED = "its key was destroyed"
DAMAGED = "the record of its key is damaged"
UNOPENED = "its key does not open"
ALTERED = "the token was altered: it does not open with its key"

_INDEX_SIZE = 32  # bytes of a subject's index

Records = Iterable[tuple[bytes | None, bytes | None]]
"""Key and value of each record of a partition, in its order."""


@dataclass(frozen=True, slots=True)
class Revealed:
    """One tokenised value: its text; or, if `problem` is not empty, why it cannot be had. `path` as in `redaction.fields`."""

    path: str
    text: str = field(default="", repr=False)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """The keys that may be meant by one id, more than one hardly ever; and why there are no others, or none at all."""

    keys: tuple[SubjectKey, ...]
    problem: str


def tokenized_of(event: Mapping[str, Any], written_with: Codec, codec: Callable[[bytes], Codec]) -> Tokenized:
    """What finds the tokens of an event.

    Args:
        written_with: the event's schema.
        codec: a schema by the SHA-256 of its text; asked for the extension's.

    Raises:
        UndecidedError: this version cannot read the classes of a schema; what `codec` raises.
    """
    extension = event.get("extension")
    named = None if extension is None else extension["schema"]
    extensions = [] if named is None or named == RUN_SESSION.sha256 else [codec(named)]
    try:
        return Tokenized(Registry([], extensions), written_with)
    except (ConfigError, ContractError) as error:
        raise UndecidedError(f"the classes of a schema cannot be read by this version: {error}") from error


def tokens_in(event: dict[str, Any], tokenized: Tokenized, fields: Collection[str] = ()) -> tuple[TokenizedValue, ...]:
    """Every tokenised value of an event that is not empty, in the schema's order; at these paths alone, if there are some."""
    return tuple(value for value in tokenized.values(event) if not fields or value.path in fields)


def key_ids(tokens: Iterable[TokenizedValue]) -> frozenset[bytes]:
    """The ids of the keys that they were made under."""
    return frozenset(token_key_id(token.text) for token in tokens if is_token(token.text))


def wrapped_keys(records: Records, chain: str, wanted: Collection[bytes]) -> dict[bytes, dict[bytes, list[bytes]]]:
    """Of each id that is wanted and found: record key to the values under it; none, once there was a tombstone.

    A tombstone is final: nobody writes a key twice, so what comes after one is a copy of what was destroyed.
    """
    prefix = subject_prefix(chain, b"")
    size = len(prefix) + _INDEX_SIZE + KEY_ID_SIZE
    found: dict[bytes, dict[bytes, list[bytes]]] = {}
    destroyed: set[bytes] = set()
    for key, value in records:
        if key is None or len(key) != size or not key.startswith(prefix) or key[-KEY_ID_SIZE:] not in wanted:
            continue
        values = found.setdefault(key[-KEY_ID_SIZE:], {}).setdefault(key, [])
        if value is None:
            destroyed.add(key)
            values.clear()
        elif key not in destroyed:
            values.append(value)
    return found


def opened(records: Mapping[bytes, Sequence[bytes]], tenant: str, openers: Openers) -> Held:
    """The keys that the records of one id hold for a tenant.

    Args:
        records: record key to values, as `wrapped_keys` gives them; each is tried.
        openers: the tenant's tenant-subject keys, by key id.
    """
    keys, problems = [], []
    for record_key, values in records.items():
        if not values:
            problems.append(DESTROYED)
        for value in values:
            try:
                wrapped = parse_wrapped_key(record_key, value)
            except EvidenceError:
                problems.append(DAMAGED)
                continue
            if wrapped.tenant != tenant:
                problems.append(NO_KEY)
                continue
            opener = openers.get(wrapped.wrapped_to)
            if opener is None:
                problems.append(f"its key is wrapped to tenant-subject key {wrapped.wrapped_to.hex()[:16]}…, which is not here")
                continue
            try:
                keys.append(wrapped.open(opener))
            except EvidenceError:
                problems.append(UNOPENED)
    return Held(tuple(keys), problems[0] if problems else "" if keys else NO_KEY)


def revealed(
    tokens: Iterable[TokenizedValue], held: Callable[[bytes], Held], fields: Iterable[str] = ()
) -> tuple[Revealed, ...]:
    """What each token stands for, or why that cannot be had; then the paths asked for at which there is none."""
    found = tuple(_revealed(token, held) for token in tokens)
    there = {one.path for one in found}
    return (*found, *(Revealed(path, problem=NO_VALUE) for path in dict.fromkeys(fields) if path not in there))


def _revealed(token: TokenizedValue, held: Callable[[bytes], Held]) -> Revealed:
    if not is_token(token.text):
        return Revealed(token.path, problem=NOT_A_TOKEN)
    found = held(token_key_id(token.text))
    for key in found.keys:
        try:
            return Revealed(token.path, key.open(token.text))
        except EvidenceError:
            continue  # another key of that id may be meant
    return Revealed(token.path, problem=found.problem or ALTERED)
