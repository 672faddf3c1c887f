"""The group coordinator of the simulated broker: members, generations, cooperative-sticky placement.

- A rebalance waits until every member has joined; one whose process stands still is removed when its session is up. Then a
  generation begins.
- Cooperative: what moves is first taken from its owner, and given to the next in another generation, once the owner has
  heard of it in a poll.
- Positions are checked against membership and generation, not against who owns the partition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

from confluent_kafka import KafkaError

from kafkaio.testing.errors import BrokerError

JOIN_S = 0.2  # from the call for a rebalance to a member's answer


@dataclass(slots=True)
class Member:
    """One consumer. `owned` is what it believes to own, `told` what it has not heard yet."""

    name: str
    runs: Callable[[], bool]  # whether its process runs: then it sends heartbeats by itself
    session_s: float
    heard: float
    owned: set[int] = field(default_factory=set)
    told: set[int] | None = None
    generation: int = -1
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """What a transaction shows of its consumer: the group's metadata as of a poll."""

    group: str
    member: str
    number: int


class Group:
    """One consumer group that follows one topic."""

    def __init__(self, name: str, partitions: int, now: Callable[[], float]) -> None:
        self.name = name
        self._partitions = partitions
        self._now = now
        self._members: dict[str, Member] = {}
        self._numbers = count(1)
        self._called: float | None = None  # since when a rebalance is wanted
        self.generation = 0
        self.refused = 0  # positions of who is no member, or of an earlier generation
        self.positions: dict[int, int] = {}

    def join(self, client: str, runs: Callable[[], bool], session_s: float) -> Member:
        """A new member."""
        member = Member(f"{client}-{next(self._numbers)}", runs, session_s, self._now())
        self._members[member.name] = member
        self.rebalance()
        return member

    def leave(self, member: Member) -> None:
        """It leaves by itself."""
        if self._members.pop(member.name, None) is not None:
            self.rebalance()

    def knows(self, member: Member) -> bool:
        """Whether it is a member still."""
        return member.name in self._members

    def rebalance(self) -> None:
        """Call everybody to join again."""
        if self._called is None:
            self._called = self._now()

    def check(self, shown: Generation) -> None:
        """Raises BrokerError when a transaction's consumer is no member, or of another generation."""
        if shown.member in self._members and shown.number == self.generation:
            return
        self.refused += 1
        known = shown.member in self._members
        raise BrokerError(KafkaError.ILLEGAL_GENERATION if known else KafkaError.UNKNOWN_MEMBER_ID)

    def take(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Positions that a transaction committed."""
        self.positions.update({partition: offset for (_, partition), offset in positions.items()})

    def tick(self) -> None:
        """Look at heartbeats and at who has joined."""
        now = self._now()
        for member in list(self._members.values()):
            if member.runs():
                member.heard = now
            elif now - member.heard > member.session_s:
                self.leave(member)
        if self._called is None or now - self._called < JOIN_S or not self._members:
            return
        for member in self._members.values():
            member.joined = member.joined or (member.runs() and member.told is None)
        if all(member.joined for member in self._members.values()):
            self._place()

    def heard(self, member: Member) -> None:
        """A member has taken up what it was told; what it gave up is free for others."""
        gave_up = member.told is not None and not member.owned <= member.told
        member.owned, member.told = member.told or set(), None
        if gave_up:
            self.rebalance()

    def _place(self) -> None:
        self.generation += 1
        self._called = None
        members = sorted(self._members.values(), key=lambda m: (-len(m.owned), m.name))
        least, more = divmod(self._partitions, len(members))
        quotas = {m.name: least + (number < more) for number, m in enumerate(members)}
        free = sorted(set(range(self._partitions)).difference(*(m.owned for m in members)))
        for member in members:
            kept = sorted(member.owned)[: quotas[member.name]]
            given = [free.pop(0) for _ in range(min(len(free), quotas[member.name] - len(kept)))]
            told = {*kept, *given}
            member.generation, member.joined = self.generation, False
            member.told = told if told != member.owned else None
