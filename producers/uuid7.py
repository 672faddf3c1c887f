"""UUIDv7 of RFC 9562 §5.7, strictly increasing within one generator.

    48 bits  milliseconds since 1970
     4 bits  version 7
    12 bits  counter, high part      RFC 9562 §6.2, method 1: a 42-bit counter, seeded at random for each
     2 bits  variant 10              millisecond with its top bit clear, so that it has room to grow
    30 bits  counter, low part
    32 bits  random

A clock that stands still or steps back does not break the order: the generator stays at its last
millisecond and counts on. Clock and randomness are arguments. Safe to share between threads; not
across a fork, where both would go on with the same random bits: make a new one in the child.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable

NS_PER_MS = 1_000_000
_COUNTER_BITS = 42
_SEED_MASK = (1 << (_COUNTER_BITS - 1)) - 1
_LIMIT_MS = 1 << 48
_NOISE = struct.Struct(">QI")  # random: a counter's seed, and the last 32 bits
_AT_ONCE = 128  # identifiers whose random bits are drawn together: a system call for each would cost as much as all the rest
_HALVES = struct.Struct(">QQ")


class Uuid7:
    """Call it for the next UUIDv7, 16 bytes.

    Args:
        clock: nanoseconds since 1970, as `time.time_ns`.
        random: that many random bytes, as `os.urandom`.
    """

    __slots__ = ("_clock", "_counter", "_lock", "_ms", "_noise", "_random")

    def __init__(self, clock: Callable[[], int], random: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random = random
        self._lock = threading.RLock()  # a signal's handler may ask for one meanwhile
        self._ms = -1
        self._counter = 0
        self._noise: list[tuple[int, int]] = []  # drawn, not used yet

    def __call__(self) -> bytes:
        seed, low = self._drawn()
        now = self._clock() // NS_PER_MS
        with self._lock:
            if now > self._ms:
                self._ms = now
                self._counter = seed & _SEED_MASK
            else:
                self._counter += 1
                if self._counter >> _COUNTER_BITS:  # 2^41 identifiers in one millisecond: borrow the next one
                    self._ms += 1
                    self._counter = 0
            ms, counter = self._ms, self._counter
        return _HALVES.pack((ms % _LIMIT_MS) << 16 | 0x7000 | counter >> 30, 0b10 << 62 | (counter & 0x3FFF_FFFF) << 32 | low)

    def _drawn(self) -> tuple[int, int]:
        """Random bits that no other identifier has."""
        while True:
            try:
                return self._noise.pop()
            except IndexError:
                self._noise += _NOISE.iter_unpack(self._random(_AT_ONCE * _NOISE.size))
