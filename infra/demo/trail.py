"""What was sealed, as the archive topic says it: the demo's own index of every event, for finding and for counting.

Read again from where it stopped at each `refresh`, committed records only. It decides nothing: the stores are asked one
by one afterwards.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kafkaio.reader import PartitionReader
from kafkaio.transaction import Ends
from schemas.catalogue import topic_name
from schemas.registry import AUDIT_EVENT
from schemas.settings import Settings
from sealtrail.errors import TransientError
from sealtrail.seal import Kind, LogClass, Route, Seal, decode_seal, decode_sealed_event

LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Sealed:
    """One sealed event: its seal, what it says, and who emitted it."""

    seal: Seal
    event_id: bytes
    event_name: str
    tenant: str
    source: str
    instance: str


class Trail:
    """Every sealed event of one run of the demo."""

    def __init__(self, settings: Settings) -> None:
        """`settings` of a role that may read the archive topic."""
        self._settings = settings
        self._topic = topic_name(settings.topic_prefix, "audit.archive")
        self._next: dict[int, int] = dict.fromkeys(range(Ends(settings).partition_count(self._topic)), 0)
        self.kinds: Counter[Kind] = Counter()
        self.routed: Counter[Route] = Counter()  # EVENT seals by each of their routes
        self.places: dict[Route, set[tuple[str, int]]] = {route: set() for route in Route}  # chain and seq of each
        self.classes: Counter[LogClass] = Counter()
        self.by_source: Counter[str] = Counter()
        self.later: Counter[str] = Counter()  # of them, after `mark`
        self.repeats = 0  # event ids that were sealed more than once
        self.accounted = 0  # raw offsets that a seal accounts for
        self.seals = 0
        self.event_ids: set[bytes] = set()
        self._marked = False

    def mark(self) -> None:
        """What is sealed from now on counts as later."""
        self._marked = True

    def refresh(self, wanted: Callable[[dict[str, Any]], bool] = lambda _: False) -> list[Sealed]:
        """Read what is new; the events among it that are wanted, in chain order."""
        found = []
        with PartitionReader(self._settings) as reader:
            for partition in self._next:
                end = reader.bounds(self._topic, partition).stable
                if self._next[partition] >= end:
                    continue
                for record in reader.between(self._topic, partition, self._next[partition], end):
                    if record.value is not None:
                        found += self._count(record.value, wanted)
                self._next[partition] = end
        return found

    def find(self, what: str, wanted: Callable[[dict[str, Any]], bool], deadline_s: float) -> Sealed:
        """The first event sealed from now on that is wanted. Raises TransientError when none comes."""
        deadline = time.monotonic() + deadline_s
        while True:
            found = self.refresh(wanted)
            if found:
                return found[0]
            if time.monotonic() > deadline:
                raise TransientError(f"no record of {what} was sealed within {deadline_s:.0f} s")
            time.sleep(LOOK_S)

    def _count(self, value: bytes, wanted: Callable[[dict[str, Any]], bool]) -> list[Sealed]:
        record = decode_sealed_event(value)
        seal = decode_seal(record.seal)
        self.seals += 1
        self.kinds[seal.kind] += 1
        self.accounted += seal.source_count
        if seal.kind is not Kind.EVENT:
            return []
        for route in Route:
            if route in seal.routes:
                self.routed[route] += 1
                self.places[route].add((seal.chain, seal.seq))
        event = AUDIT_EVENT.decode(record.content.content)
        self.repeats += event["event_id"] in self.event_ids
        self.event_ids.add(event["event_id"])
        emitter = event["emitter"]
        self.classes[seal.log_class] += 1
        self.by_source[emitter["source"]] += 1
        self.later[emitter["source"]] += self._marked
        if not wanted(event):
            return []
        return [Sealed(seal, event["event_id"], event["event_name"], event["tenant"], emitter["source"], emitter["instance"])]
