"""The spool: microseconds a record for append and commit, by batch, with real fsync, beside plain bytes written and fsynced.

    python -m bench.spooling [directory]

Records as an emitter makes them: 500 bytes of value, session, MAC, content type and traceparent as headers. CPU is the
process's own; elapsed time is mostly the disk's, so the ratio is of elapsed times, taken in turns. The directory must be on
the disk that is meant: without one, the current directory's.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from producers.spool import RawRecord, Spool

BATCHES = (1, 16, 256, 1000)
RECORDS = 8000
AT_MOST = 400  # batches of one size: each waits for the disk
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds a record."""

    cpu: float
    elapsed: float


def records(count: int) -> list[RawRecord]:
    """Like those of one run."""
    session = os.urandom(350)
    return [
        RawRecord(
            os.urandom(500),
            (
                ("st-session", session),
                ("st-mac", os.urandom(32)),
                ("content-type", b"application/avro"),
                ("traceparent", b"00-%032x-%016x-01" % (number + 1, number + 1)),
            ),
        )
        for number in range(count)
    ]


def spooled(directory: Path, batches: Sequence[Sequence[RawRecord]]) -> Cost:
    """Append and commit each batch."""
    spool = Spool.open(directory, bytes(32), "bench/one")

    def one(batch: Sequence[RawRecord]) -> None:
        spool.append(batch)
        spool.commit()

    one(batches[0])  # the first file is begun here
    cost = _cost(batches, one)
    spool.close()
    return cost


def plain(path: Path, batches: Sequence[Sequence[RawRecord]]) -> Cost:
    """Write and fsync the same bytes, joined beforehand."""
    joined = {id(batch): b"".join(r.value + b"".join(v for _, v in r.headers) for r in batch) for batch in batches}
    with path.open("wb", buffering=0) as file:

        def one(batch: Sequence[RawRecord]) -> None:
            file.write(joined[id(batch)])
            os.fsync(file.fileno())

        return _cost(batches, one)


def read(directory: Path) -> Cost:
    """Read all of a spool in turns of 1,000 records."""
    spool = Spool.open(directory, bytes(32), "bench/one")
    count, position = spool.waiting, 0
    cpu, elapsed = time.process_time(), time.perf_counter()
    while found := spool.read(position):
        position = found[-1][0] + 1
    cost = Cost((time.process_time() - cpu) / count * 1e6, (time.perf_counter() - elapsed) / count * 1e6)
    spool.close()
    return cost


def _cost(batches: Sequence[Sequence[RawRecord]], one: Callable[[Sequence[RawRecord]], None]) -> Cost:
    count = sum(len(batch) for batch in batches)
    cpu, elapsed = time.process_time(), time.perf_counter()
    for batch in batches:
        one(batch)
    return Cost((time.process_time() - cpu) / count * 1e6, (time.perf_counter() - elapsed) / count * 1e6)


def main() -> None:
    """Print a line for each size of batch."""
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd()
    made = records(RECORDS)
    print("batch   spool CPU µs   spool µs   plain CPU µs   plain µs   plain/spool   read CPU µs")
    for size in BATCHES:
        batches = [made[at : at + size] for at in range(0, len(made), size)][:AT_MOST]
        rounds = []
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory(dir=where) as name:
                folder = Path(name)
                rounds.append((spooled(folder / "spool", batches), plain(folder / "plain", batches), read(folder / "spool")))
        ours, theirs, reading = ([one[n] for one in rounds] for n in range(3))
        cpu, elapsed = (statistics.median(getattr(cost, what) for cost in ours) for what in ("cpu", "elapsed"))
        plain_cpu, plain_elapsed = (statistics.median(getattr(cost, what) for cost in theirs) for what in ("cpu", "elapsed"))
        print(
            f"{size:5}   {cpu:12.2f}   {elapsed:8.1f}   {plain_cpu:12.2f}   {plain_elapsed:8.1f}   "
            f"{plain_elapsed / elapsed:11.2f}   {statistics.median(cost.cpu for cost in reading):11.2f}"
        )


if __name__ == "__main__":
    main()
