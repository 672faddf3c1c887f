"""Step 3: the emitter's numbers. Each run counts what it hands over from 0, without holes.

A number is placed by itself alone: above the high-water mark it is new, in a hole it fills the hole,
anywhere else it was seen before. The state of every run is kept for ever (`audit.sources`), so a
resend is known however late it comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

from sealtrail.avro import Codec
from sealtrail.errors import EvidenceError
from sealtrail.session import Run

MAX_HOLES = 64  # ranges a run; beyond that its numbers are wild

_STATE = Codec(
    """{"type": "record", "name": "SourceState", "namespace": "io.sealtrail.v1",
 "doc": "Value of audit.sources: how far the numbers of one run were seen.",
 "fields": [
  {"name": "epoch", "type": {"type": "fixed", "name": "Epoch", "size": 16}},
  {"name": "high_water", "type": "long", "doc": "Highest number seen."},
  {"name": "holes", "type": {"type": "array", "items": {"type": "record", "name": "Hole", "fields": [
    {"name": "first", "type": "long"}, {"name": "last", "type": "long"}]}}, "doc": "Numbers below it not seen, ascending."},
  {"name": "closed", "type": "boolean", "doc": "The run said that it ended."}
 ]}"""
)


@dataclass(frozen=True, slots=True)
class RunState:
    """How far one run's numbers were seen; `holes` are inclusive ranges, ascending."""

    epoch: bytes
    high_water: int = -1
    holes: tuple[tuple[int, int], ...] = ()
    closed: bool = False


class Runs(Mapping[bytes, RunState]):
    """States of runs by key, in the order in which they came first. It never changes; what follows from it shares its bulk.

    A chain may know a hundred thousand runs, of which a transaction changes some. So what changed is kept beside the bulk,
    and put into it when there is so much of it that both are copied as seldom as can be.
    """

    __slots__ = ("_bulk", "_changed")

    def __init__(self, bulk: Mapping[bytes, RunState] | None = None, changed: Mapping[bytes, RunState] | None = None) -> None:
        self._bulk, self._changed = bulk or {}, changed or {}

    def with_changed(self, changed: Mapping[bytes, RunState]) -> Runs:
        """The same, but for these."""
        if not changed:
            return self
        together = {**self._changed, **changed}
        if len(together) <= 64 + 2 * isqrt(len(self._bulk)):
            return Runs(self._bulk, together)
        return Runs({**self._bulk, **together})

    def get(self, key: bytes, default: Any = None) -> Any:
        """As a dict's."""
        return self._changed.get(key) or self._bulk.get(key, default)

    def __getitem__(self, key: bytes) -> RunState:
        return self._changed[key] if key in self._changed else self._bulk[key]

    def __iter__(self) -> Iterator[bytes]:
        yield from self._bulk
        yield from (key for key in self._changed if key not in self._bulk)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class SeenError(Exception):
    """The number was seen before: a duplicate."""


class WildError(Exception):
    """The number would leave more holes than a run may have."""


def place(state: RunState, number: int) -> RunState:
    """The state with one more number seen.

    Raises:
        SeenError: at or below the high-water mark and not in a hole.
        WildError: more than `MAX_HOLES` ranges would be open.
    """
    holes = state.holes
    if number > state.high_water:
        if number > state.high_water + 1:
            holes = (*holes, (state.high_water + 1, number - 1))
        result = replace(state, high_water=number, holes=holes)
    else:
        found = next((i for i, (first, last) in enumerate(holes) if first <= number <= last), None)
        if found is None:
            raise SeenError
        first, last = holes[found]
        parts = tuple(r for r in ((first, number - 1), (number + 1, last)) if r[0] <= r[1])
        result = replace(state, holes=holes[:found] + parts + holes[found + 1 :])
    if len(result.holes) > MAX_HOLES:
        raise WildError
    return result


def state_key(chain: str, run: Run) -> bytes:
    """The key of a run in `audit.sources`."""
    return f"{chain}\n{run.source}/{run.instance}/{run.epoch.hex()}".encode()


def encode_state(state: RunState) -> bytes:
    """The value of a run in `audit.sources`."""
    return _STATE.encode(
        {
            "epoch": state.epoch,
            "high_water": state.high_water,
            "holes": [{"first": first, "last": last} for first, last in state.holes],
            "closed": state.closed,
        }
    )


def decode_state(data: bytes) -> RunState:
    """The state of an `audit.sources` value.

    Raises:
        EvidenceError: not a SourceState, or holes that are not ascending below the mark.
    """
    value = _STATE.decode(data)
    holes = tuple((h["first"], h["last"]) for h in value["holes"])
    edges = [edge for hole in holes for edge in hole]
    if edges != sorted(edges) or any(first > last for first, last in holes) or (edges and edges[-1] >= value["high_water"]):
        raise EvidenceError("source state with holes out of order")
    return RunState(value["epoch"], value["high_water"], holes, value["closed"])
