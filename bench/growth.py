"""What could grow with a chain's length, and whether it does. Part of `bench.scaling`.

- **Sealing** (`Pipeline.seal_batch`, no servers): µs of processor time a record from seq 10⁴ to 10⁷ on. Numbers in a seal are
  varints: a byte more for each factor of 128. A chain never forgets a run and its numbers, so the same with 1 to 10⁵ runs.
- **Transactions** (real broker): the sealer's records a second and processor time, its chains having heads at those seqs.
- **Restart** (real broker): seconds of `read_state`, which finds the head and reads the runs' states, by the length of the
  archive topic's log, and by that of `audit.sources`, to which each transaction adds a record for each run in it, until the
  broker compacts them.

Heads and logs are made up: a seal with that number, and as many copies of a record.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from confluent_kafka import Producer

from bench.ground import Deployment, Ground
from bench.peers.supply import drafts
from bench.peers.watch import Figures
from bench.sealing import record_of, stated
from infra import keys
from infra.places import Places as Folders
from kafkaio.client import client_config
from kafkaio.reader import LOOK_WAIT_MS, PartitionReader
from kafkaio.transaction import Ends
from processors.assembly import pipeline_of
from processors.pipeline import ChainState, Pipeline
from processors.records import Batch, RawRecord
from processors.recovery import Places, chain_of, read_state
from processors.sequence import Runs, RunState, encode_state, state_key
from sealtrail.errors import TransientError
from sealtrail.seal import (
    SEAL_NOTE,
    ZERO_EVENT_ID,
    Content,
    Kind,
    LogClass,
    Reason,
    Route,
    Seal,
    SealedEvent,
    encode_note,
    encode_seal,
    encode_sealed_event,
)
from sealtrail.session import Run
from tests.test_pipeline import NOW_S, NOW_US, Speaker, World, fresh

LENGTHS = (10**4, 10**5, 10**6, 10**7)
RUNS = (1, 10**3, 10**4, 10**5)
LOGS = (10**3, 10**4, 10**5, 10**6)
BATCH = 500  # records of a transaction
EVENTS = 2000  # different ones
FLUSH_S = 120.0
RESTARTS = 3


class Sealing:
    """A chain's sealing without servers, from any length on and with any number of runs known."""

    def __init__(self, pipeline: Pipeline, speaker: Speaker) -> None:
        self._pipeline = pipeline
        self._speaker = speaker
        self._events = stated(drafts(0.0, EVENTS))
        begun, _ = pipeline.seal_batch(fresh(), Batch(self._records(0, 10)), NOW_US)
        self._head = begun.head
        ((self._key, self._run),) = begun.runs.items()

    @classmethod
    @contextmanager
    def begun(cls) -> Iterator[Sealing]:
        """With the local stack's keys, made for this."""
        with tempfile.TemporaryDirectory() as folder:
            places = Folders(Path(folder))
            keys.ensure(places, datetime.fromtimestamp(NOW_S, UTC))
            world = World(places, None, b"")  # type: ignore[arg-type]  # its pipeline is the next line's
            yield cls(pipeline_of(world.settings("sealer"), clock=lambda: float(NOW_S)), world.speaker())

    def state(self, seq: int, runs: int = 1) -> ChainState:
        """A chain whose next seal is `seq`, that knows so many runs."""
        head = replace(self._head, seq=seq, next_offset=seq)
        others = {self._key + number.to_bytes(8, "big"): RunState(bytes(16), number) for number in range(runs - 1)}
        return ChainState(head, Runs({**others, self._key: replace(self._run, high_water=seq - 1)}))

    def batch(self, state: ChainState) -> tuple[ChainState, float, float]:
        """Seal the next BATCH records; the state then, µs of processor time a record, bytes of a sealed event on the mean."""
        made = self._records(state.head.next_offset, BATCH)
        started = time.thread_time()  # other programs' time is not in it
        state, outputs = self._pipeline.seal_batch(state, Batch(made), NOW_US)
        took = time.thread_time() - started
        if len(outputs.archive) != BATCH:
            raise AssertionError("a record was refused")
        return state, took / BATCH * 1e6, sum(map(len, outputs.archive)) / BATCH

    def _records(self, first: int, count: int) -> tuple[RawRecord, ...]:
        return tuple(
            record_of(self._speaker, number, self._events)._replace(offset=number) for number in range(first, first + count)
        )


def sealing(rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """µs a record by seq, and by how many runs are known; all in turn, so that a busy moment meets each alike."""
    with Sealing.begun() as bench:
        by_seq = {f"{seq:.0e}": bench.state(seq) for seq in LENGTHS}
        by_runs = {f"{runs:.0e}": bench.state(LENGTHS[0], runs) for runs in RUNS}
        return {"by_seq": _in_turn(bench, by_seq, rounds), "by_runs": _in_turn(bench, by_runs, rounds)}


def _in_turn(bench: Sealing, states: dict[str, ChainState], rounds: int) -> dict[str, dict[str, float]]:
    took: dict[str, list[float]] = {name: [] for name in states}
    size = {}
    for number in range(rounds + 1):
        for name, state in states.items():
            states[name], each_us, size[name] = bench.batch(state)
            if number:  # the first one warms up
                took[name].append(each_us)
    return {
        name: {"median_us": statistics.median(found), "least_us": min(found), "bytes": size[name]}
        for name, found in took.items()
    }


def transactions(ground: Ground, asked: Namespace, partitions: int = 4) -> dict[str, list[Figures]]:
    """The sealer's flood with heads at each seq, in turn for as many rounds as asked."""
    found: dict[str, list[Figures]] = {f"{seq:.0e}": [] for seq in LENGTHS}
    for _ in range(asked.rounds):
        for seq, figures in zip(LENGTHS, found.values(), strict=True):

            def prepare(deployment: Deployment, seq: int = seq) -> None:
                chains = [_chain(deployment, partition) for partition in range(partitions)]
                topic = deployment.topics.archive
                _write(deployment, {(topic, number): [(None, head_at(chain, seq))] for number, chain in enumerate(chains)})

            figures.append(ground.maximum(asked, partitions, 1, prepare))
    return found


def restart(ground: Ground) -> dict[str, dict[str, float]]:
    """Seconds until a chain's state is read, by the records of its archive log, and of its log of runs' states."""
    with ground.deployment(2 * len(LOGS)) as deployment:
        logs: dict[tuple[str, int], list[tuple[bytes | None, bytes]]] = {}
        for partition in range(2 * len(LOGS)):
            count, chain = LOGS[partition % len(LOGS)], _chain(deployment, partition)
            archive, sources = (count, 1) if partition < len(LOGS) else (1, count)
            key = state_key(chain, Run("github", "one", bytes(16)))
            logs[deployment.topics.archive, partition] = [(None, head_at(chain, count))] * archive
            logs[deployment.topics.sources, partition] = [(key, encode_state(RunState(bytes(16), count)))] * sources
        _write(deployment, logs)
        settings = deployment.settings("sealer")
        ends = Ends(settings)
        took = []
        with PartitionReader(settings, wait_ms=LOOK_WAIT_MS) as reader:
            for partition in range(2 * len(LOGS)):
                chain = _chain(deployment, partition)
                places = Places(deployment.topics, partition, 0, 0, 0)
                took.append(statistics.median(_state_s(chain, places, ends, reader) for _ in range(RESTARTS)))
    names = [f"{count:.0e}" for count in LOGS]
    return {
        "by_archive_log": dict(zip(names, took[: len(LOGS)], strict=True)),
        "by_sources_log": dict(zip(names, took[len(LOGS) :], strict=True)),
    }


def _state_s(chain: str, places: Places, ends: Ends, reader: PartitionReader) -> float:
    started = time.perf_counter()
    if read_state(chain, places, ends, reader, None) is None:
        raise AssertionError("no head")
    return time.perf_counter() - started


def head_at(chain: str, seq: int) -> bytes:
    """A sealed event after which `seq` is the chain's next seal, and no raw offset is accounted for."""
    seal = Seal(
        prev=bytes(32),
        content_digest=bytes(32),
        scope=bytes(16),
        kind=Kind.HEARTBEAT,
        reason=Reason.NONE,
        log_class=LogClass.NONE,
        signed=False,
        routes=Route.ARCHIVE,
        seq=seq - 1,
        source_offset=0,
        source_count=0,
        sealed_at_us=time.time_ns() // 1000,
        retain_until_ms=time.time_ns() // 1_000_000,
        chain=chain,
    )
    content = Content(bytes(16), bytes(32), SEAL_NOTE.sha256, ZERO_EVENT_ID, encode_note())
    return encode_sealed_event(SealedEvent(encode_seal(seal), content, None))


def _chain(deployment: Deployment, partition: int) -> str:
    return chain_of(deployment.settings("sealer"), deployment.ends, deployment.topics, partition)


def _write(deployment: Deployment, logs: Mapping[tuple[str, int], Sequence[tuple[bytes | None, bytes]]]) -> None:
    """Records to partitions, in order, by an administrator."""
    producer = Producer({**client_config(deployment.settings("admin")), "compression.type": "lz4", "linger.ms": 20})
    for (topic, partition), records in logs.items():
        for key, value in records:
            while True:
                try:
                    producer.produce(topic, value, key, partition)
                    break
                except BufferError:
                    producer.poll(0.1)
    if producer.flush(FLUSH_S):
        raise TransientError("the broker did not take what was made up in time")
