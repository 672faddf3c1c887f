"""Correlation windows: which findings a set of matches makes true. Pure.

A finding is a rule, a group and a *period*: time is cut into periods as long as the rule's span. Period p has a finding if
some match in it is the last of enough matches within one span. So a series across a boundary is found, a long one is found
once a period, and:

- More matches never take a finding away, and each match counts once, by (chain, seq, row): what is found at the end follows
  from the set of matches alone, not from their order nor from how often they came.
- A finding is *due* at the first match that makes it true. `due` changes nothing: it is asked first, and `add` is told only
  when what is due has been stated. A match that comes again is due nothing.

Time is the time of sealing. Matches that come more than `LATENESS_US` behind the newest one may find their neighbours
forgotten; a group keeps twice its threshold's worth, at most `MAX_THRESHOLD`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from processors.detect.rules import MAX_THRESHOLD, Rule

LATENESS_US = 3_600_000_000  # chains that are further apart than an hour are an incident of their own
KEPT = 2 * MAX_THRESHOLD  # matches of a group
EVIDENCE = 100


@dataclass(frozen=True, slots=True, order=True)
class Match:
    """One event, or row, that a rule matched. Ordered by time, then place."""

    at_us: int
    chain: str
    seq: int
    row: int
    value: str | None = field(default=None, compare=False)
    event_id: bytes | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Found:
    """A finding that became true. `last` is the match that is the last of the series; `evidence` in order of time."""

    rule: Rule
    group: tuple[str, ...]
    period: int
    count: int
    last: Match
    evidence: tuple[Match, ...]


class _Group:
    def __init__(self) -> None:
        self.matches: list[Match] = []
        self.periods: set[int] = set()  # that have their finding


class Windows:
    """The matches of one partition, by rule and group. One thread."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self._rules = rules
        self._groups: dict[tuple[str, tuple[str, ...]], _Group] = {}
        self._newest = 0
        self._pruned = 0

    def __len__(self) -> int:
        return sum(len(group.matches) for group in self._groups.values())

    def due(self, rule: str, group: tuple[str, ...], match: Match) -> list[Found]:
        """What becomes true with this match. A rule that is not there any more finds nothing."""
        known = self._rules.get(rule)
        if known is None:
            return []
        state = self._groups.get((rule, group))
        matches = list(state.matches) if state else []
        if not _insert(matches, match):
            return []
        had = state.periods if state else set()
        return [found for found in evaluate(known, group, matches) if found.period not in had]

    def add(self, rule: str, group: tuple[str, ...], match: Match) -> None:
        """Take the match in."""
        known = self._rules.get(rule)
        if known is None:
            return
        state = self._groups.setdefault((rule, group), _Group())
        if not _insert(state.matches, match):
            return
        state.periods.update(found.period for found in evaluate(known, group, state.matches))
        del state.matches[:-KEPT]
        self._newest = max(self._newest, match.at_us)
        if self._newest - self._pruned > LATENESS_US // 4:
            self._prune()

    def _prune(self) -> None:
        self._pruned = self._newest
        for key, state in list(self._groups.items()):
            span = self._rules[key[0]].span_us
            oldest = self._newest - span - LATENESS_US
            state.matches = [match for match in state.matches if match.at_us >= oldest]
            state.periods = {period for period in state.periods if (period + 1) * span >= oldest}
            if not state.matches:
                del self._groups[key]


def evaluate(rule: Rule, group: tuple[str, ...], matches: Sequence[Match]) -> list[Found]:
    """The finding of each period that has one, by the first match that completes a series. `matches` in order."""
    found: dict[int, Found] = {}
    counts: dict[str, int] = {}
    start = 0
    for end, match in enumerate(matches):
        if rule.value is not None:
            counts[match.value or ""] = counts.get(match.value or "", 0) + 1
        while matches[start].at_us <= match.at_us - rule.span_us:
            if rule.value is not None:
                gone = matches[start].value or ""
                counts[gone] -= 1
                if not counts[gone]:
                    del counts[gone]
            start += 1
        count = end - start + 1 if rule.value is None else len(counts)
        period = match.at_us // rule.span_us
        if count >= rule.threshold and period not in found:
            found[period] = Found(rule, group, period, count, match, tuple(matches[max(start, end - EVIDENCE + 1) : end + 1]))
    return list(found.values())


def all_found(
    rules: Mapping[str, Rule], matches: Iterable[tuple[str, tuple[str, ...], Match]]
) -> set[tuple[str, tuple[str, ...], int]]:
    """Every finding of a whole set of matches, at once: (rule, group, period). What a detector must come to."""
    groups: dict[tuple[str, tuple[str, ...]], list[Match]] = {}
    for rule, group, match in matches:
        _insert(groups.setdefault((rule, group), []), match)
    return {
        (rule, group, found.period)
        for (rule, group), members in groups.items()
        if rule in rules
        for found in evaluate(rules[rule], group, members)
    }


def _insert(matches: list[Match], match: Match) -> bool:
    """Put it in order; False if it was there."""
    at = bisect_left(matches, match)
    if at < len(matches) and matches[at] == match:
        return False
    matches.insert(at, match)
    return True
