"""Leaks that a source's owner hears of (CON-3): what the sealer overwrote or refused, told at most once a window. Pure.

One chain's activity, in order. A leak opens a window for its emitter, field and shape, and is told at once; what follows
within the window is held and told, summed, when it has passed. So nobody is flooded, every leak is in some finding, and the
counts of the findings add up to those of the activity. Time is the chain's clock.

`due` changes nothing: it is asked first, and `add` is told only when what is due has been stated.

Not here: who the owner is (`schemas.policy`), and what the finding looks like (`finding`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

WINDOW_US = 3_600_000_000  # an hour: a person can act on it, and hears of a leak that goes on 24 times a day
LEAKED_SECRET, LEAKED_FIELD = "leaked_secret", "leaked_field"

_Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Leaked:
    """Leaks of one emitter, field and shape: how many events, from which seal to which, and when (chain's clock, µs)."""

    source: str
    instance: str
    field: str
    shape: str
    events: int
    first_seq: int
    last_seq: int
    from_us: int
    to_us: int

    @property
    def rule(self) -> str:
        """Whether a secret stood in a field, or a marked field came as it was."""
        return LEAKED_FIELD if self.shape.startswith("not-") else LEAKED_SECRET


@dataclass(frozen=True, slots=True)
class _Window:
    until_us: int
    held: Leaked | None = None


class LeakWatch:
    """The leaks of one chain. Its state is one window for each emitter, field and shape of the last hour."""

    def __init__(self) -> None:
        self._windows: dict[_Key, _Window] = {}
        self._seen = (-1, -1)  # first seq and part of the newest record: what comes again counts once

    def due(self, activity: Mapping[str, Any]) -> list[Leaked]:
        """What is to be told with one more activity record."""
        return self._after(activity)[0]

    def add(self, activity: Mapping[str, Any]) -> None:
        """Take the record in; what it made due counts as told."""
        self._windows = self._after(activity)[1]
        self._seen = max(self._seen, (activity["first_seq"], activity["part"]))

    def _after(self, activity: Mapping[str, Any]) -> tuple[list[Leaked], dict[_Key, _Window]]:
        if (activity["first_seq"], activity["part"]) <= self._seen:
            return [], self._windows
        now = activity["sealed_at"]
        told: list[Leaked] = []
        windows: dict[_Key, _Window] = {}
        for key, window in self._windows.items():
            if now < window.until_us:
                windows[key] = window
            elif window.held is not None:
                told.append(window.held)
                windows[key] = _Window(now + WINDOW_US)
        for row in activity["leaks"]:
            key = (row["source"], row["instance"], row["field"], row["shape"])
            leaked = Leaked(*key, row["events"], row["first_seq"], row["last_seq"], now, now)
            if key not in windows:
                told.append(leaked)
                windows[key] = _Window(now + WINDOW_US)
            else:
                windows[key] = replace(windows[key], held=_sum(windows[key].held, leaked))
        return told, windows


def _sum(before: Leaked | None, after: Leaked) -> Leaked:
    if before is None:
        return after
    return replace(before, events=before.events + after.events, last_seq=after.last_seq, to_us=after.to_us)
