"""How a process that passes thousands of records a second on, for months, treats its memory."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

M_MMAP_THRESHOLD = -3  # malloc.h of glibc
MAPPED_BYTES = 128 << 10  # where glibc itself begins


def collect_seldom() -> None:
    """Have Python look for cycles of objects seldom: a process that makes thousands of records a second makes hardly any.

    What is there now stays, and is not looked through any more. What the rest leaves goes when its last reference does.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def give_back_blocks() -> None:
    """Have glibc give blocks of 128 KiB and more back to the system as soon as they are freed, always.

    librdkafka takes such blocks for every answer of a broker. glibc maps them one by one at first; but once one was freed,
    it puts all that are no larger on its heaps, which keep them for as long as something small lies behind them. Does
    nothing where the C library has no such setting.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES)
