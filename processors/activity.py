"""Step 7: the activity of a transaction: counts of what was sealed, for detection.

Written to `audit.activity` in the same transaction as the seals: heartbeats and GENESIS too, because their time is the
chain's clock, and silence is measured by it. Counted is only what passed the check: an actor here is a hash under the
tenant's key. A record holds at most `MAX_ROWS` rows, so its worst case stays below the topic's limit whatever the batch;
further rows go to further parts. No row is left out.

Not here: what the counts mean; see `processors.detect`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from processors.native import Acted, Passed
from processors.sequence import RunState
from schemas.encoder import encoder
from schemas.locator import Located, symbols_at
from schemas.registry import AUDIT_EVENT
from sealtrail.avro import Codec
from sealtrail.session import Run

# Rows a record. The longest is an emitter's or a lineage's, below 512 bytes: 2 MiB, and the topic takes 3.
MAX_ROWS = 4096

ACTIVITY = Codec((resources.files("schemas") / "activity.avsc").read_text("utf-8"))
_encode_body = encoder(ACTIVITY.text)
_LISTS = ("emitters", "actors", "lineages", "leaks")


def _without_leaks() -> Codec:
    """The schema as it was before leaks were counted: its records may still be in the topic, or come from an older sealer."""
    schema = json.loads(ACTIVITY.text)
    return Codec(json.dumps({**schema, "fields": [f for f in schema["fields"] if f["name"] != "leaks"]}))


_EARLIER = _without_leaks()


def decode_activity(value: bytes) -> dict[str, Any]:
    """A record of `audit.activity`, of this schema or of the one before. Raises EvidenceError."""
    if value.startswith(_EARLIER.header):
        return {**_EARLIER.decode(value), "leaks": []}
    return ACTIVITY.decode(value)


RESULTS, STAGES = (symbols_at(json.loads(AUDIT_EVENT.text), path) for path in ("result", "message.stage"))
_Row = tuple[str, dict[str, Any]]  # which list of the record, and the row


class Activity:
    """Counts for one transaction of one chain."""

    def __init__(self) -> None:
        self._runs: dict[bytes, list[Any]] = {}  # state key -> [run, events, refused]
        self._actors: dict[tuple[str, str, str, str], list[int]] = {}  # -> [events]
        self._lineages: dict[tuple[str, str, str], list[int]] = {}  # -> [events, recipients]
        # The rows of those two by the bytes of what was located: result and stage as Avro has them.
        self._acted: dict[tuple[bytes, bytes, bytes, int], list[int]] = {}
        self._passed: dict[tuple[bytes, bytes, int], list[int]] = {}
        self._leaks: dict[tuple[str, str, str, str], list[int]] = {}  # -> [events, first seq, last seq]

    def heard(self, key: bytes, run: Run, *, refused: bool, count: int = 1) -> None:
        """Authentic, numbered records of a run: sealed as EVENT, or refused."""
        row = self._runs.get(key)
        if row is None:
            row = self._runs[key] = [run, 0, 0]
        row[2 if refused else 1] += count

    def event(self, event: Mapping[str, Any]) -> None:
        """One event that was sealed."""
        tenant = event["tenant"]
        actor = (tenant, event["actor"]["id"], event["event_name"], event["result"])
        self._actors.setdefault(actor, [0])[0] += 1
        message, lineage = event["message"], event["correlation_id"]
        if message is not None and lineage is not None:
            counts = self._lineages.setdefault((tenant, lineage, message["stage"]), [0, 0])
            counts[0] += 1
            counts[1] += message["recipient_count"]

    def located(self, found: Located) -> None:
        """As `event`, of one that was located: the same rows, found by the bytes."""
        tenant, name = found.tenant, found.event_name
        acted = (tenant, found.actor, name, found.result)
        row = self._acted.get(acted)
        if row is None:
            actor = (tenant.decode(), found.actor.decode(), name.decode(), RESULTS[found.result >> 1])
            row = self._acted[acted] = self._actors.setdefault(actor, [0])
        row[0] += 1
        if found.stage is not None and found.correlation_id is not None:
            passed = (tenant, found.correlation_id, found.stage)
            counts = self._passed.get(passed)
            if counts is None:
                lineage = (tenant.decode(), found.correlation_id.decode(), STAGES[found.stage >> 1])
                counts = self._passed[passed] = self._lineages.setdefault(lineage, [0, 0])
            counts[0] += 1
            counts[1] += found.recipients

    def taken(self, acted: Iterable[Acted], passed: Iterable[Passed]) -> None:
        """As `located`, of all that the kernel took: its rows, in the order in which they came first."""
        for tenant, actor_id, name, result, events in acted:
            actor = (tenant.decode(), actor_id.decode(), name.decode(), RESULTS[result >> 1])
            self._actors.setdefault(actor, [0])[0] += events
        for tenant, correlation, stage, events, recipients in passed:
            counts = self._lineages.setdefault((tenant.decode(), correlation.decode(), STAGES[stage >> 1]), [0, 0])
            counts[0] += events
            counts[1] += recipients

    def leak(self, run: Run, field: str, shape: str, seq: int) -> None:
        """What one event held that its application should have redacted.

        Args:
            shape: of a secret; or what is wrong with a marked field. seq: of the event's seal.
        """
        row = self._leaks.setdefault((run.source, run.instance, field, shape), [0, seq, seq])
        if not row[0] or row[2] != seq:
            row[0] += 1
        row[2] = seq

    def records(
        self, runs: Mapping[bytes, RunState], *, chain: str, first_seq: int, count: int, sealed_at_us: int
    ) -> list[bytes]:
        """The values to write, one at least.

        Args:
            runs: the state after the transaction of every run that was heard, by state key.
            first_seq, count: of the transaction's seals; sealed_at_us: of the last.
        """
        rows = self._rows(runs)
        parts = [rows[start : start + MAX_ROWS] for start in range(0, len(rows), MAX_ROWS)] or [[]]
        return [
            ACTIVITY.header
            + _encode_body(
                {
                    "chain": chain,
                    "first_seq": first_seq,
                    "count": count,
                    "part": part,
                    "sealed_at": sealed_at_us,
                    **{name: [row for kind, row in part_rows if kind == name] for name in _LISTS},
                }
            )
            for part, part_rows in enumerate(parts)
        ]

    def _rows(self, runs: Mapping[bytes, RunState]) -> list[_Row]:
        rows: list[_Row] = []
        for key, (run, events, refused) in self._runs.items():
            state = runs[key]
            told = {"events": events, "refused": refused, "last_number": state.high_water, "closed": state.closed}
            missing = sum(last - first + 1 for first, last in state.holes)
            who = {"source": run.source, "instance": run.instance, "epoch": run.epoch}
            rows.append(("emitters", {**who, **told, "missing": missing}))
        for (tenant, actor, name, result), (events,) in self._actors.items():
            told = {"actor": actor, "event_name": name, "result": result, "events": events}
            rows.append(("actors", {"tenant": tenant, **told}))
        for (tenant, lineage, stage), (events, recipients) in self._lineages.items():
            told = {"correlation_id": lineage, "stage": stage, "events": events, "recipients": recipients}
            rows.append(("lineages", {"tenant": tenant, **told}))
        for (source, instance, field, shape), (events, first, last) in self._leaks.items():
            told = {"field": field, "shape": shape, "events": events, "first_seq": first, "last_seq": last}
            rows.append(("leaks", {"source": source, "instance": instance, **told}))
        return rows
