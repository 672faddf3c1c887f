"""Memory of long-running processes: what glibc does with large blocks once some were freed."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from auditor.memory import MAPPED_BYTES

# Takes and frees a block, then takes as large a one again: was it mapped by itself? `mallinfo2` counts such bytes.
PROBE = """
import ctypes, sys
from auditor.memory import give_back_blocks
class Info(ctypes.Structure):
    NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
if sys.argv[1] == "asked":
    give_back_blocks()
size = int(sys.argv[2])
libc.free(libc.malloc(size))
before = libc.mallinfo2().hblkhd
block = libc.malloc(size)
print(libc.mallinfo2().hblkhd - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not glibc: no such setting")
def test_a_large_block_is_mapped_by_itself_also_after_one_was_freed() -> None:
    size = 8 * MAPPED_BYTES

    def mapped(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", PROBE, how, str(size)], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert mapped("unasked") == 0, "glibc does by itself what is asked of it: leave it to glibc"
    assert mapped("asked") >= size
