"""UUIDv7 of RFC 9562 §5.7, strictly increasing within one generator.

    48 bits  milliseconds since 1970
     4 bits  version 7
    12 bits  counter, high part      RFC 9562 §6.2, method 1: a 42-bit counter, seeded at random for each
     2 bits  variant 10              millisecond with its top bit clear, so that it has room to grow
    30 bits  counter, low part
    32 bits  random

A clock that stands still or steps back does not break the order: the generator stays at its last
millisecond and counts on. Clock and randomness are arguments. Safe to share between threads; not
across a fork: make a new one in the child.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

NS_PER_MS = 1_000_000
_COUNTER_BITS = 42
_SEED_MASK = (1 << (_COUNTER_BITS - 1)) - 1
_LIMIT_MS = 1 << 48


class Uuid7:
    """Call it for the next UUIDv7, 16 bytes.

    Args:
        clock: nanoseconds since 1970, as `time.time_ns`.
        random: that many random bytes, as `os.urandom`.
    """

    __slots__ = ("_clock", "_counter", "_lock", "_ms", "_random")

    def __init__(self, clock: Callable[[], int], random: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random = random
        self._lock = threading.RLock()  # a signal's handler may ask for one meanwhile
        self._ms = -1
        self._counter = 0

    def __call__(self) -> bytes:
        noise = self._random(10)
        now = self._clock() // NS_PER_MS
        with self._lock:
            if now > self._ms:
                self._ms = now
                self._counter = int.from_bytes(noise[:6], "big") & _SEED_MASK
            else:
                self._counter += 1
                if self._counter >> _COUNTER_BITS:  # 2^41 identifiers in one millisecond: borrow the next one
                    self._ms += 1
                    self._counter = 0
            ms, counter = self._ms, self._counter
        value = (ms % _LIMIT_MS) << 80
        value |= 0x7 << 76 | counter >> 30 << 64
        value |= 0b10 << 62 | (counter & 0x3FFF_FFFF) << 32
        value |= int.from_bytes(noise[6:], "big")
        return value.to_bytes(16, "big")
