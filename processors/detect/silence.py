"""Sources that fall silent, and sources whose numbers have holes (DET-2). Pure: one chain's activity, in order.

Silence is measured in the chain's *running* time: its own clock, without the time in which no sealer ran. So a sealer that
was away for an hour accuses nobody. An emitter that is heard again, or whose successor is (a newer run of the same source
and instance), is not silent; one that closed its run is not missed.

`due` changes nothing: it is asked first, and `add` is told only when what is due has been stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

SILENT, GAP = "silent_source", "source_gap"


class Kind(StrEnum):
    """What is wrong with a source."""

    SILENT = SILENT
    GAP = GAP


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that is wrong with one run. since_us: when it was last heard, or the holes were first seen (chain's clock)."""

    kind: Kind
    source: str
    instance: str
    epoch: bytes
    since_us: int
    now_us: int
    missing: int
    seq: int  # of the chain, where it is said


@dataclass(frozen=True, slots=True)
class _Emitter:
    epoch: bytes
    heard: int  # running time
    heard_at: int  # the chain's clock
    closed: bool = False
    missing: int = 0
    holes_since: int | None = None  # running time
    holes_at: int = 0
    told_silent: bool = False
    told_gap: bool = False


class ChainWatch:
    """The emitters of one chain.

    Args:
        silence_us: running time after which an emitter that said nothing is silent, and holes are holes.
        tick_us: the longest time between two transactions of a sealer that runs; what is above it was an absence.
    """

    def __init__(self, silence_us: int, tick_us: int) -> None:
        self._silence = silence_us
        self._tick = tick_us
        self._running = 0
        self._clock: int | None = None
        self._emitters: dict[tuple[str, str], _Emitter] = {}

    def due(self, activity: Mapping[str, Any]) -> list[Alarm]:
        """What one more activity record makes true."""
        running, emitters = self._after(activity)
        return [alarm for alarm, _ in self._alarms(activity, running, emitters)]

    def add(self, activity: Mapping[str, Any]) -> None:
        """Take the record in; what it made due counts as stated."""
        running, emitters = self._after(activity)
        for alarm, key in self._alarms(activity, running, emitters):
            one = emitters[key]
            emitters[key] = replace(
                one,
                told_silent=one.told_silent or alarm.kind is Kind.SILENT,
                told_gap=one.told_gap or alarm.kind is Kind.GAP,
            )
        self._running, self._clock = running, activity["sealed_at"]
        self._emitters = {key: emitter for key, emitter in emitters.items() if not emitter.closed}

    def _after(self, activity: Mapping[str, Any]) -> tuple[int, dict[tuple[str, str], _Emitter]]:
        clock = activity["sealed_at"]
        passed = 0 if self._clock is None else max(0, clock - self._clock)
        running = self._running + min(passed, self._tick)
        emitters = dict(self._emitters)
        for row in activity["emitters"]:
            key = (row["source"], row["instance"])
            before = emitters.get(key)
            if before is not None and row["epoch"] < before.epoch:
                continue  # an older run's straggler
            same = before if before is not None and row["epoch"] == before.epoch else None
            holes_since, holes_at = (None, 0)
            if row["missing"]:
                known = same is not None and same.holes_since is not None
                holes_since, holes_at = (same.holes_since, same.holes_at) if same and known else (running, clock)
            emitters[key] = _Emitter(
                row["epoch"],
                running,
                clock,
                row["closed"],
                row["missing"],
                holes_since,
                holes_at,
                told_gap=bool(row["missing"]) and same is not None and same.told_gap,
            )
        return running, emitters

    def _alarms(
        self, activity: Mapping[str, Any], running: int, emitters: Mapping[tuple[str, str], _Emitter]
    ) -> list[tuple[Alarm, tuple[str, str]]]:
        now, seq = activity["sealed_at"], activity["first_seq"] + activity["count"] - 1
        found = []
        for key, one in emitters.items():
            if not one.closed and not one.told_silent and running - one.heard > self._silence:
                found.append((Alarm(Kind.SILENT, *key, one.epoch, one.heard_at, now, one.missing, seq), key))
            if one.holes_since is None or one.told_gap:
                continue
            if one.closed or running - one.holes_since > self._silence:
                found.append((Alarm(Kind.GAP, *key, one.epoch, one.holes_at, now, one.missing, seq), key))
        return found
