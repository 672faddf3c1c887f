"""Between a simulated client and the brokers: where requests are lost, late, doubled, or answered to nobody.

Faults come in pairs: what failed may have landed all the same. A request whose answer does not come costs its caller time,
as much as it is ready to wait; what is late lands at its own time, whatever became of its sender.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from confluent_kafka import KafkaError

from kafkaio.testing.cluster import Cluster
from kafkaio.testing.errors import BrokerError, raised

T = TypeVar("T")
ANSWER_S = 0.002


class Fate(Enum):
    """Of one request."""

    DONE = "done"
    LOST = "lost"  # it failed
    UNANSWERED = "unanswered"  # it failed for its sender, but landed
    LATE = "late"  # it failed for its sender, and lands later
    TWICE = "twice"  # it lands again
    SLOW = "slow"  # its answer takes long
    MISLED = "misled"  # a broker that has just come back knows no topics yet


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fate of a request.

    Attributes:
        delay_s: until what is late lands, or what is slow is answered; of what is unanswered or doubled: until it lands
            once more, 0 for never or at once.
        patience: which part of its time a sender waits for an answer that does not come.
    """

    fate: Fate = Fate.DONE
    delay_s: float = 0.0
    patience: float = 1.0


DONE = Verdict()


class World(Protocol):
    """Who decides what becomes of requests, and who else lives in the simulated time. One for each process."""

    name: str

    def at(self, what: str) -> None:
        """The process is about to send `what`, or just had its answer. May raise to end the process, or let others run."""

    def fate(self, what: str) -> Verdict:
        """What becomes of a request."""

    def wait(self, seconds: float) -> object:
        """The process waits; time passes, and others run."""

    def beside(self, step: Callable[[], None]) -> None:
        """The process has begun a step that runs beside it: now, or whenever its world finds time. Twice does no harm."""

    def runs(self) -> bool:
        """Whether the process runs: one that is suspended or dead sends no heartbeats."""


class Calm:
    """A world of one process in which nothing fails."""

    def __init__(self, cluster: Cluster, name: str = "calm") -> None:
        self._cluster = cluster
        self.name = name
        self.alive = True

    def at(self, what: str) -> None:
        """Nothing happens."""

    def fate(self, what: str) -> Verdict:
        """Always done."""
        return DONE

    def wait(self, seconds: float) -> None:
        """As `World`."""
        self._cluster.advance(seconds)

    def beside(self, step: Callable[[], None]) -> None:
        """At once."""
        step()

    def runs(self) -> bool:
        """Until a test says otherwise."""
        return self.alive


class Link:
    """One process's way to the brokers."""

    def __init__(self, cluster: Cluster, world: World) -> None:
        self.cluster = cluster
        self.world = world

    def ask(self, what: str, act: Callable[[], T], limit_s: float) -> T:
        """The answer to a request, which is asked again while the coordinator is busy with the last transaction.

        Raises BrokerError as the broker answers, KafkaException when no answer comes within `limit_s`.
        """
        self.world.at(what)
        verdict = self.world.fate(what)
        deadline = self.cluster.now + limit_s * verdict.patience
        if verdict.fate is Fate.MISLED:
            raise BrokerError(KafkaError.UNKNOWN_TOPIC_OR_PART)
        late = verdict.fate is Fate.LATE
        if late:
            self.cluster.later(verdict.delay_s, lambda: _quietly(act))
        if verdict.fate is Fate.SLOW:
            self.world.wait(min(verdict.delay_s, limit_s))
        if late or verdict.fate is Fate.LOST:
            raise self._unanswered(what, deadline)
        answer = self._until_free(what, act, deadline)
        self._again(verdict, act)
        if verdict.fate is Fate.UNANSWERED:
            raise self._unanswered(what, deadline)
        self.world.wait(ANSWER_S)
        self.world.at(f"{what} answered")
        return answer

    def answer(self, what: str, act: Callable[[], T], limit_s: float) -> T:
        """As `ask`, with the broker's refusal raised as confluent_kafka raises it."""
        try:
            return self.ask(what, act, limit_s)
        except BrokerError as error:
            raise raised(error.code) from error

    def send(self, what: str, act: Callable[[], T]) -> tuple[T | None, float | None]:
        """One request that its sender does not wait for: the answer, and in how many seconds it comes; None: never.

        Raises BrokerError as the broker answers.
        """
        self.world.at(what)
        verdict = self.world.fate(what)
        if verdict.fate is Fate.MISLED:
            raise BrokerError(KafkaError.UNKNOWN_TOPIC_OR_PART)
        if verdict.fate is Fate.LOST:
            return None, None
        if verdict.fate is Fate.LATE:
            self.cluster.later(verdict.delay_s, lambda: _quietly(act))
            return None, None
        answer = self._until_free(what, act, self.cluster.now + 5)
        self._again(verdict, act)
        unanswered = verdict.fate is Fate.UNANSWERED
        return answer, None if unanswered else verdict.delay_s if verdict.fate is Fate.SLOW else ANSWER_S

    def _until_free(self, what: str, act: Callable[[], T], deadline: float) -> T:
        while True:
            try:
                return act()
            except BrokerError as error:
                if error.code not in (KafkaError.CONCURRENT_TRANSACTIONS, KafkaError.UNSTABLE_OFFSET_COMMIT):
                    raise
                if self.cluster.now >= deadline:
                    raise raised(KafkaError._TIMED_OUT, f"{what}: {error}") from error
            self.world.wait(0.1)

    def _again(self, verdict: Verdict, act: Callable[[], object]) -> None:
        """What lands more than once."""
        if verdict.fate is Fate.TWICE and not verdict.delay_s:
            _quietly(act)
        elif verdict.fate in (Fate.TWICE, Fate.UNANSWERED) and verdict.delay_s:
            self.cluster.later(verdict.delay_s, lambda: _quietly(act))

    def _unanswered(self, what: str, deadline: float) -> Exception:
        self.world.wait(max(0.0, deadline - self.cluster.now))
        return raised(KafkaError._TIMED_OUT, f"{what}: no answer")


def _quietly(act: Callable[[], object]) -> None:
    with suppress(BrokerError):  # nobody waits for this answer
        act()
