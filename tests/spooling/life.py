"""One emitter over many lives: what it appends, what a broker gets, and whether the two agree after every crash."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random

from producers.spool import RawRecord, Spool, SpoolFullError
from sealtrail.errors import ConfigError, TransientError
from tests.spooling.disk import Died, Disk, Faults

DIRECTORY = Path("spool")
KEY = bytes(range(32))
EMITTER = "github/one"
SESSION = ("st-session", bytes(350))
HOUR_S = 3600.0


@dataclass(slots=True)
class Tally:
    """Counts of all lives."""

    crashes: int = 0
    power_losses: int = 0
    enospc: int = 0
    sync_failures: int = 0
    refused: int = 0
    hours_away: int = 0
    torn_tails: int = 0
    acknowledged: int = 0
    delivered: int = 0
    repeated: int = 0
    lost: int = 0
    out_of_order: int = 0
    invented: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether everything held."""
        return not (self.lost or self.out_of_order or self.invented or self.wrong)


def record(number: int, size: int) -> RawRecord:
    """A record that says its number over and over, in at least 8 bytes, with headers as an emitter's."""
    value = (number.to_bytes(8, "big") * (size // 8 + 1))[: max(size, 8)]
    return RawRecord(value, (SESSION, ("st-mac", number.to_bytes(32, "big"))))


def number_of(record: RawRecord) -> int:
    """The number that `record` put in."""
    return int.from_bytes(record.value[:8], "big")


class Broker:
    """Takes records in order, acknowledges them later, goes away for an hour now and then, says the same twice."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.log: list[int] = []
        self.now_s = 0.0
        self._away_until_s = 0.0
        self.hours = 0
        self.under_way: deque[tuple[int, float]] = deque()  # position after the record, when its acknowledgement comes

    @property
    def away(self) -> bool:
        return self.now_s < self._away_until_s

    def leave(self) -> None:
        self._away_until_s = self.now_s + HOUR_S
        self.hours += 1

    def take(self, position: int, record: RawRecord) -> None:
        self.log.append(number_of(record))
        self.under_way.append((position + 1, self.now_s + self._random.random() * 5))

    def acknowledged(self) -> int:
        """Up to which position, of those that were under way; 0 for none."""
        position = 0
        while self.under_way and self.under_way[0][1] <= self.now_s and not self.away:
            position, _ = self.under_way.popleft()
        return position


class Emitter:
    """Appends, commits, sends and releases until it dies; then lives again.

    Args:
        spool: what is tested, a class with `Spool`'s interface; max_bytes: its bound.
    """

    def __init__(self, random: Random, tally: Tally, spool: type[Spool] = Spool, max_bytes: int = 120_000) -> None:
        self._random = random
        self._tally = tally
        self._class = spool
        self._max_bytes = max_bytes
        self._disk = Disk(random)
        self._broker = Broker(random)
        self._taken: list[int] = []  # the number of the record at each position, as far as it may be there
        self._durable = 0  # what `commit` said last
        self._released = 0
        self._number = 0  # of the next record, never given again

    def live(self, acts: int) -> None:
        """One life, which ends by a crash after about `acts` acts of the disk."""
        disk, random = self._disk, self._random
        rate = random.choice((0.0, 0.0, 0.01, 0.1))
        disk.faults = Faults(rate, rate, rate, rate, None, random.randint(0, acts))
        try:
            spool = self._open()
            while True:
                self._step(spool)
        except Died:
            pass
        self._tally.crashes += 1
        if random.random() < 0.6:
            disk.lose_power()
            self._tally.power_losses += 1

    def end(self) -> None:
        """A last life without faults: everything is sent and released, and the whole story is checked."""
        self._disk.faults = Faults()
        spool = self._open()
        self._broker.now_s += 2 * HOUR_S
        self._commit(spool)
        position = spool.released
        while found := spool.read(position, 50):
            self._broker.log += [number_of(one) for _, one in found]
            position = found[-1][0] + 1
            self._release(spool, position)
        spool.close()
        self._check_story()

    # -- a life

    def _open(self) -> Spool:
        while True:
            try:
                spool = self._class.open(
                    DIRECTORY, KEY, EMITTER, self._max_bytes, files=self._disk.files(), random=self._random.randbytes
                )
            except (TransientError, ConfigError):
                if self._disk.faults == Faults():
                    raise
                self._disk.kill()  # a process that cannot start is started again, when the disk is well
                self._disk.faults = Faults(die_after=self._disk.faults.die_after)
            else:
                break
        self._tally.torn_tails += bool(spool.found.torn_bytes)
        self._check_found(spool)
        self._next = spool.released
        self._broker.under_way.clear()
        return spool

    def _check_found(self, spool: Spool) -> None:
        end = spool.released + spool.waiting
        # On a disk that refuses, what cannot be proven durable waits in memory, and on the disk where it was.
        self._is(end >= self._durable, f"{end} records after {self._durable} were acknowledged", lost=True)
        self._is(spool.released <= self._released, f"released {spool.released}, told {self._released}", lost=True)
        self._is(end <= len(self._taken), f"{end} records, {len(self._taken)} were taken", invented=True)
        position = spool.released
        while found := spool.read(position, 97):
            for at, one in found:
                what = f"position {position}: {number_of(one)} at {at}, {self._taken[position : position + 1]} was taken"
                whole = at == position and one == record(number_of(one), len(one.value))
                self._is(whole and self._taken[at : at + 1] == [number_of(one)], what, lost=True)
                position = at + 1
        self._is(position == max(spool.durable, spool.released), f"read up to {position} of {spool.durable}", lost=True)
        del self._taken[end:]
        self._durable = max(self._durable, spool.durable)
        self._released = spool.released

    def _step(self, spool: Spool) -> None:
        choice = self._random.random()
        self._broker.now_s += self._random.random()
        if choice < 0.35:
            self._append(spool)
        elif choice < 0.6:
            self._commit(spool)
        elif choice < 0.98:
            self._send(spool)
        elif choice < 0.985 and not self._broker.away:
            self._broker.leave()
        elif choice < 0.99:
            self._broker.now_s += HOUR_S / 4
        elif choice < 0.995:
            self._disk.faults.capacity = self._disk.used + self._random.randint(0, 20_000)
        else:
            self._disk.faults.capacity = None

    def _append(self, spool: Spool) -> None:
        sizes = [self._random.choice((3, 200, 500, 1500)) for _ in range(self._random.choice((1, 1, 3, 16)))]
        numbers = range(self._number, self._number + len(sizes))
        self._number += len(sizes)
        before = spool.waiting
        self._taken += numbers  # from here on they may be found: a crash inside leaves that open
        try:
            spool.append([record(number, size) for number, size in zip(numbers, sizes, strict=True)])
        except TransientError as error:
            del self._taken[-len(sizes) :]
            self._tally.refused += isinstance(error, SpoolFullError)
            self._is(spool.waiting == before, "a refused append took something", invented=True)

    def _commit(self, spool: Spool) -> None:
        try:
            durable = spool.commit()
        except TransientError:
            return
        self._is(
            durable >= self._durable and durable == len(self._taken), f"committed {durable} of {len(self._taken)}", lost=True
        )
        self._tally.acknowledged += max(0, durable - self._durable)
        self._durable = durable

    def _send(self, spool: Spool) -> None:
        broker = self._broker
        if not broker.away:
            for at, one in spool.read(self._next, self._random.choice((1, 7, 100))):
                self._is(at == self._next, f"sending {at} where {self._next} is next", lost=True)
                broker.take(at, one)
                self._next = at + 1
        self._release(spool, broker.acknowledged())
        if self._random.random() < 0.1:
            spool.release(self._random.randint(0, self._released))  # the same said twice

    def _release(self, spool: Spool, position: int) -> None:
        if position > self._released:
            self._released = position  # before: a crash inside leaves open whether it was noted
            self._durable = max(self._durable, position)
            spool.release(position)

    # -- judgement

    def _is(self, holds: bool, what: str, *, lost: bool = False, invented: bool = False) -> None:
        if not holds:
            self._tally.lost += lost
            self._tally.invented += invented
            self._tally.wrong.append(what)
            raise Wrong(what)

    def _check_story(self) -> None:
        """The broker's log, repeats left out, is exactly what was taken, in order."""
        seen, first = set(), []
        for number in self._broker.log:
            if number in seen:
                self._tally.repeated += 1
            else:
                seen.add(number)
                first.append(number)
        self._tally.delivered += len(first)
        self._tally.lost += len(set(self._taken) - seen)
        self._tally.invented += len(seen - set(self._taken))
        self._tally.out_of_order += sum(1 for a, b in pairwise(first) if a > b)
        self._tally.hours_away += self._broker.hours
        self._tally.enospc += self._disk.enospc
        self._tally.sync_failures += self._disk.sync_failures


class Wrong(AssertionError):
    """The spool did what it must not."""


def many_lives(seed: int, crashes: int, spool: type[Spool] = Spool, lives: int = 25, acts: int = 120) -> Tally:
    """`crashes` crashes, `lives` for each emitter; the story of each is checked. Ends at the first wrong."""
    tally = Tally()
    random = Random(seed)
    while tally.crashes < crashes:
        emitter = Emitter(random, tally, spool)
        try:
            for _ in range(min(lives, crashes - tally.crashes)):
                emitter.live(acts)
            emitter.end()
        except Wrong:
            break
        except Exception as error:
            tally.wrong.append(f"{type(error).__name__}: {error}")
            break
    return tally


def sequence(numbers: Sequence[int], size: int = 300) -> list[RawRecord]:
    """Records with these numbers."""
    return [record(number, size) for number in numbers]
