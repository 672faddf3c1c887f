"""What a seed has in store: which faults, how often, and how slow markers are. Each seed leaves some kinds out altogether."""

from __future__ import annotations

import random

from kafkaio.testing import Fate, Verdict, Where
from kafkaio.testing.link import DONE

READING = (Fate.LOST, Fate.SLOW)
WRITING = (Fate.LOST, Fate.UNANSWERED, Fate.LATE, Fate.TWICE, Fate.SLOW)
FATES = {
    "fence": WRITING,
    "add partition": WRITING,
    "produce": WRITING,
    "join offsets": WRITING,
    "send offsets": WRITING,
    "commit": WRITING,
    "abort": WRITING,
    "flush": (Fate.LOST,),
    "fetch": (Fate.LOST, Fate.UNANSWERED),
    "bounds": READING,
    "offsets": READING,
    "committed": READING,
    "describe": READING,
    "metadata": READING,
}
MISLEADING = ("describe", "offsets", "add partition", "send offsets")
RATES = (0.0, 0.0, 0.02, 0.08)  # of requests of a kind
ENDING_RATES = (0.0, 0.05, 0.15, 0.3)
LONGEST_S = 45.0
SKEW_S = 7.0
LAGS_S = (0.005, 0.005, 0.05, 1.0)  # of a marker, on average


class Weather:
    """The faults of one seed. `calm` ends them; markers stay as slow as they were, but all arrive."""

    def __init__(self, choice: random.Random) -> None:
        self._choice = choice
        self.calm = False
        self._rates = {what: choice.choice(RATES) for what in FATES}
        self._rates["commit"] = choice.choice(ENDING_RATES)
        self._rates["flush"] = 0.3  # of those that find the producer outlawed
        self._fates = {what: choice.sample(fates, choice.randint(1, len(fates))) for what, fates in FATES.items()}
        self._lags = [choice.choice(LAGS_S) for _ in range(3)]  # of three brokers
        self.loses_markers = choice.random() < 0.04
        self.kills = choice.choice((0.0, 0.004, 0.015))  # at each request
        self.pauses = choice.choice((0.0, 0.003, 0.012))
        self.switches = choice.choice((0.0, 0.05, 0.3))
        self.pause_s = choice.choice((2.0, 12.0, 30.0))
        self.early_fence = choice.random() < 0.3  # harsher than Kafka: the fence answers before the markers are written
        self.trims = choice.random() < 0.2
        self.outages = choice.random() < 0.3  # all brokers are away for some seconds
        self._away_until = self._misled_until = 0.0
        self.ends_land_again = False  # an EndTxn that was answered in time, and lands once more in the next transaction
        self.small_outputs = choice.random() < 0.2

    def outage(self, now: float) -> float:
        """The brokers go away; until when. For a moment after that they may know no topics."""
        self._away_until = now + self._choice.uniform(1.0, 15.0)
        self._misled_until = self._away_until + self._choice.choice((0.0, 1.0))
        return self._away_until

    def fate(self, what: str, now: float) -> Verdict:
        """What becomes of a request."""
        if not self.calm and now < self._misled_until:
            if now < self._away_until:
                return Verdict(Fate.LOST, patience=self._patience())
            if what in MISLEADING and self._choice.random() < 0.5:
                return Verdict(Fate.MISLED)
        kind = "produce" if what.startswith("produce") else what
        if self.calm or self._choice.random() >= self._rates[kind]:
            return DONE
        if what == "commit" and self.ends_land_again:
            return Verdict(Fate.TWICE, 5.0 * self._choice.random())
        fate = self._choice.choice(self._fates[kind])
        if fate is Fate.LATE:
            return Verdict(fate, self._choice.choice((0.3, 3.0, 11.0, 25.0)) * self._choice.random(), self._patience())
        if fate is Fate.SLOW:
            return Verdict(fate, self._choice.choice((0.5, 4.0, 8.0)))
        if fate is Fate.UNANSWERED and self._choice.random() < 0.5:  # and once more, later
            return Verdict(fate, 20.0 * self._choice.random(), self._patience())
        return Verdict(fate, patience=self._patience())

    def _patience(self) -> float:
        """Some errors come at once, some when the time is up."""
        return self._choice.choice((1.0, 0.2, 0.01))

    def marker_s(self, place: Where | str, commit: bool) -> float | None:
        """How long a marker takes. One of an abort may be lost: a broker was seen to do that (ADR 10)."""
        if self.loses_markers and not commit and not self.calm and not isinstance(place, str) and self._choice.random() < 0.2:
            return None
        broker = 0 if isinstance(place, str) else (len(place[0]) + place[1]) % 3
        return self._choice.expovariate(1 / self._lags[broker])

    def skew_s(self) -> float:
        """How far a process's clock is off."""
        return self._choice.choice((0.0, 0.0, SKEW_S, -SKEW_S))

    def suspension_s(self) -> float:
        """How long a process stands still; so that clocks, skew and all, stay believable."""
        return min(self._choice.expovariate(1 / self.pause_s), LONGEST_S)
