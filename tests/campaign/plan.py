"""Which faults, in which order: all of it follows from the seed and the counts.

A fault is known by its number in the plan; shard k of n has every n-th. Points and acts of each kind come in turn, so that a
campaign of some size meets all of them; moments, durations and victims are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle
from random import Random

from tests.campaign.relay import Side
from tests.campaign.wire import Api

BEYOND_S = (6.0, 11.0)  # longer than the sealer's socket.timeout.ms (5 s); below what a chain may take to come back
REPEAT_S = (0.05, 8.0)
CUT_S = (2.0, 8.0)
DELAY_S = (0.1, 0.6)
MOMENT_S = (0.0, 3.0)
SKIP = 40  # requests of the kind that pass first, at most: a few transactions of each chain


class Kind(StrEnum):
    """What is counted."""

    KILL = "kills"
    ZOMBIE = "zombies"
    REBALANCE = "rebalances"
    NETWORK = "network"
    BROKER = "broker kills"


class Deed(StrEnum):
    """What is done."""

    KILLED = "killed"  # at a point, or at random without one
    STOPPED = "stopped"
    JOINS = "one joins"
    LEAVES = "one leaves"
    SWAPS = "one joins while another leaves"
    DROPPED = "dropped"
    HELD = "held"
    REPEATED = "repeated late"
    OVERTAKEN = "overtaken"  # the connection is cut, and the broker gets the request after the one that the client sent again
    CUT_OFF = "broker cut off"
    DELAYED = "all requests delayed"
    BROKER_KILLED = "broker killed"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. api and side: where it strikes; skip: how many such pass first; lost: the request goes with its sender.

    seconds: how long, or when; which: sealer or broker, by number.
    """

    number: int
    kind: Kind
    deed: Deed
    api: Api | None = None
    side: Side = Side.REQUEST
    skip: int = 0
    lost: bool = False
    seconds: float = 0.0
    which: int = 0

    def __str__(self) -> str:
        words = [self.deed.value]
        if self.api is not None:
            words.append(f"{self.api.name} {self.side.value}{' (lost)' if self.lost else ''}")
        elif self.deed is Deed.KILLED:
            words.append("at random")
        if self.deed in (Deed.HELD, Deed.REPEATED, Deed.OVERTAKEN, Deed.CUT_OFF, Deed.BROKER_KILLED, Deed.DELAYED):
            words.append(f"{self.seconds:.1f} s" if self.seconds else "until the chains go on")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of each kind."""

    kills: int = 40
    zombies: int = 20
    rebalances: int = 20
    network: int = 40
    brokers: int = 5


Draw = Callable[[Random], Fault]
Point = tuple[Api, Side]

KILL_POINTS: tuple[tuple[Api, Side, bool], ...] = (
    (Api.END_TXN, Side.REQUEST, False),
    (Api.PRODUCE, Side.RESPONSE, False),
    (Api.END_TXN, Side.RESPONSE, False),
    (Api.TXN_OFFSET_COMMIT, Side.RESPONSE, False),
    (Api.END_TXN, Side.REQUEST, True),
    (Api.ADD_PARTITIONS, Side.RESPONSE, False),
    (Api.INIT_PRODUCER_ID, Side.RESPONSE, False),
    (Api.ADD_OFFSETS, Side.RESPONSE, False),
    (Api.PRODUCE, Side.REQUEST, True),
)
ZOMBIE_POINTS: tuple[Point, ...] = (
    (Api.TXN_OFFSET_COMMIT, Side.RESPONSE),
    (Api.PRODUCE, Side.REQUEST),
    (Api.TXN_OFFSET_COMMIT, Side.REQUEST),
    (Api.ADD_OFFSETS, Side.RESPONSE),
    (Api.PRODUCE, Side.RESPONSE),
    (Api.ADD_PARTITIONS, Side.RESPONSE),
)
END_DEEDS: tuple[tuple[Deed, Side], ...] = (
    (Deed.DROPPED, Side.REQUEST),
    (Deed.DROPPED, Side.RESPONSE),
    (Deed.HELD, Side.REQUEST),
    (Deed.HELD, Side.RESPONSE),
)
OTHER_DEEDS: tuple[tuple[Deed, Api | None, Side], ...] = (
    (Deed.CUT_OFF, None, Side.REQUEST),
    (Deed.DROPPED, Api.PRODUCE, Side.RESPONSE),
    (Deed.REPEATED, Api.TXN_OFFSET_COMMIT, Side.REQUEST),
    (Deed.HELD, Api.ADD_OFFSETS, Side.REQUEST),
    (Deed.DROPPED, Api.INIT_PRODUCER_ID, Side.RESPONSE),
    (Deed.DELAYED, None, Side.REQUEST),
    (Deed.HELD, Api.HEARTBEAT, Side.REQUEST),
    (Deed.REPEATED, Api.PRODUCE, Side.REQUEST),
    (Deed.DROPPED, Api.TXN_OFFSET_COMMIT, Side.RESPONSE),
    (Deed.HELD, Api.PRODUCE, Side.REQUEST),
    (Deed.DROPPED, Api.ADD_PARTITIONS, Side.REQUEST),
    (Deed.HELD, Api.INIT_PRODUCER_ID, Side.RESPONSE),
    (Deed.REPEATED, Api.ADD_PARTITIONS, Side.REQUEST),
    (Deed.DROPPED, Api.FETCH, Side.RESPONSE),
    (Deed.HELD, Api.TXN_OFFSET_COMMIT, Side.RESPONSE),
    (Deed.DROPPED, Api.PRODUCE, Side.REQUEST),
    (Deed.REPEATED, Api.ADD_OFFSETS, Side.REQUEST),
    (Deed.DROPPED, Api.INIT_PRODUCER_ID, Side.REQUEST),
    (Deed.HELD, Api.FETCH, Side.RESPONSE),
    (Deed.DROPPED, Api.HEARTBEAT, Side.RESPONSE),
)


def plan(seed: int, counts: Counts) -> list[Fault]:
    """All faults, in their order. Of the network faults every other one is on EndTxn."""
    choice = Random(seed)
    drawn = [
        *_kills(choice, counts.kills),
        *_zombies(choice, counts.zombies),
        *_rebalances(choice, counts.rebalances),
        *_network(choice, counts.network),
        *_brokers(choice, counts.brokers),
    ]
    choice.shuffle(drawn)
    return [Fault(number, *rest) for number, rest in enumerate(drawn)]


def shard_of(faults: Sequence[Fault], shard: int, shards: int) -> list[Fault]:
    """Those of shard 1, 2 … of so many."""
    return [fault for fault in faults if fault.number % shards == shard - 1]


_Rest = tuple[Kind, Deed, Api | None, Side, int, bool, float, int]


def _kills(choice: Random, count: int) -> list[_Rest]:
    """Two of five at random, the others at a point."""
    points = cycle(KILL_POINTS)
    found: list[_Rest] = []
    for number in range(count):
        if number % 5 in (1, 3):
            moment, which = choice.uniform(*MOMENT_S), choice.randrange(100)
            found.append((Kind.KILL, Deed.KILLED, None, Side.REQUEST, 0, False, moment, which))
        else:
            api, side, lost = next(points)
            found.append((Kind.KILL, Deed.KILLED, api, side, _skip(choice, api), lost, 0.0, 0))
    return found


def _zombies(choice: Random, count: int) -> list[_Rest]:
    """Every other one with its commit on the way."""
    points = cycle(ZOMBIE_POINTS)
    found: list[_Rest] = []
    for number in range(count):
        api, side = (Api.END_TXN, Side.REQUEST) if number % 2 == 0 else next(points)
        found.append((Kind.ZOMBIE, Deed.STOPPED, api, side, _skip(choice, api), False, 0.0, 0))
    return found


def _rebalances(choice: Random, count: int) -> list[_Rest]:
    deeds = cycle((Deed.JOINS, Deed.LEAVES, Deed.SWAPS))
    return [(Kind.REBALANCE, next(deeds), None, Side.REQUEST, 0, False, 0.0, choice.randrange(100)) for _ in range(count)]


def _network(choice: Random, count: int) -> list[_Rest]:
    ends, others = cycle(END_DEEDS), cycle(OTHER_DEEDS)
    found: list[_Rest] = []
    for number in range(count):
        api: Api | None
        if number % 2 == 0:
            deed, side = next(ends)
            api = Api.END_TXN
        else:
            deed, api, side = next(others)
        spans = {
            Deed.HELD: BEYOND_S,
            Deed.REPEATED: REPEAT_S,
            Deed.OVERTAKEN: REPEAT_S,
            Deed.CUT_OFF: CUT_S,
            Deed.DELAYED: DELAY_S,
        }
        seconds = choice.uniform(*spans[deed]) if deed in spans else 0.0
        skip = _skip(choice, api) if api is not None else 0
        found.append((Kind.NETWORK, deed, api, side, skip, deed is Deed.DROPPED, seconds, choice.randrange(100)))
    return found


def _brokers(choice: Random, count: int) -> list[_Rest]:
    """Every other one comes back at once, the others when the chains go on without it."""
    found: list[_Rest] = []
    for number in range(count):
        seconds = choice.uniform(1.0, 3.0) if number % 2 else 0.0
        found.append((Kind.BROKER, Deed.BROKER_KILLED, None, Side.REQUEST, 0, False, seconds, choice.randrange(100)))
    return found


def _skip(choice: Random, api: Api) -> int:
    """A fence, or a heartbeat, is too rare to let any pass."""
    return 0 if api in (Api.INIT_PRODUCER_ID, Api.HEARTBEAT) else choice.randrange(SKIP)
