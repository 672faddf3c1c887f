"""What benchmarks of the sealer alone stand on: a broker of their own, deployments on it, `sealtrail run sealer`, its maximum.

The broker is the local stack's Kafka, started for the benchmark and removed after it. A deployment has topics of its own and
goes with them. Sealers run as in production, each command a process; their outputs are read and checked before a figure counts:
each chain numbered without a gap, linked, and every raw offset accounted for once by an EVENT.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import count
from pathlib import Path
from subprocess import PIPE, Popen

import psutil
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the library names no exports
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from bench.load import Lag, Load
from bench.peers.checking import WrongError
from bench.peers.contestants import ROOT
from bench.peers.figures import machine
from bench.peers.supply import SOURCE
from bench.peers.watch import Figures, StalledError, Window, cpu_s, figures_of, watch
from infra import kafka, process
from infra.places import Ports
from infra.report import Reporter
from infra.stack import Stack
from kafkaio.admin import admin_client, provision
from kafkaio.reader import PartitionReader
from kafkaio.transaction import Ends
from processors.recovery import Topics
from schemas import catalogue
from schemas.catalogue import topic_name
from schemas.settings import PREFIX, Settings
from sealtrail.errors import TransientError
from sealtrail.seal import ZERO_DIGEST, Kind, decode_seal, decode_sealed_event, leaf_hash

STOP_S = 30.0  # for a sealer to end by itself
BEGIN_S = 180.0  # for all chains of a deployment to begin, on a busy machine
SEGMENT_BYTES = 16 << 20  # of a log, in a long run
KEPT_BYTES = 64 << 20  # of a log; the broker looks every five minutes
SETTLE_S = 180.0  # for what is on the raw topic to be sealed


@dataclass(frozen=True, slots=True)
class Row:
    """A sealed event: where it lies in the archive topic, which raw offset it accounts for, and when it was sealed."""

    offset: int
    source_offset: int
    sealed_at_us: int


@dataclass(frozen=True, slots=True)
class Maximum(Figures):
    """What sealers did with a flood; broker_us: the broker's processor time a record, from their start to the end."""

    broker_us: float


class Deployment:
    """Topics of its own on the benchmark's broker. Made by `Ground.deployment`."""

    def __init__(self, stack: Stack, folder: Path, name: str, partitions: int) -> None:
        self._stack = stack
        self._folder = folder
        self.name = name
        self.partitions = partitions
        self._given = {"topic_prefix": f"{name}.", "deployment": name}
        self._numbers = count(1)
        self.topics = Topics.of(self.settings("sealer"))

    def settings(self, role: str) -> Settings:
        """A role's settings here."""
        return self._stack.settings(role, **self._given)

    @cached_property
    def ends(self) -> Ends:
        """Asks the broker for ends of partitions."""
        return Ends(self.settings("admin"))

    @cached_property
    def _admin(self) -> AdminClient:
        return admin_client(self.settings("admin"))

    def fill(self, events: int) -> None:
        """Put so many events on the raw topic, evenly."""
        with Load.begun(self.settings(SOURCE), self.partitions) as load:
            load.flood(events)

    @contextmanager
    def load(self, rate: float, seconds: float) -> Iterator[Popen[str]]:
        """A process that states events at a rate; it is ended if the caller fails. See `lag_of`."""
        config = str(self._stack.role_file(SOURCE))
        words = [config, json.dumps(self._given), str(self.partitions), str(rate), str(seconds)]
        with Popen([sys.executable, "-m", "bench.load", *words], stdout=PIPE, text=True, cwd=ROOT) as made:
            try:
                yield made
            finally:
                if made.poll() is None:
                    made.kill()

    @contextmanager
    def sealer(self, processes: int = 1, **settings: object) -> Iterator[psutil.Process]:
        """`sealtrail run sealer`, its process with its children."""
        more = ("--processes", str(processes)) if processes > 1 else ()
        with self.run("sealer", *more, **settings) as started:
            yield started

    @contextmanager
    def run(self, role: str, *arguments: str, **settings: object) -> Iterator[psutil.Process]:
        """`sealtrail run ROLE` with these settings, until the end of the context."""
        name = f"{self.name}-{role}-{next(self._numbers)}"
        pid_file, log = self._folder / f"{name}.pid", self._folder / f"{name}.log"
        config, given = str(self._stack.role_file(role)), {**self._given, **settings}
        started = process.start(
            [sys.executable, "-m", "auditor", "run", role, "--config", config, *arguments],
            pid_file=pid_file,
            log=log,
            cwd=ROOT,
            environment={f"{PREFIX}{name.upper()}": str(value) for name, value in given.items()},
        )
        try:
            yield started
        except (StalledError, WrongError, TransientError) as error:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
            raise SystemExit(f"{name}: {error}\n{tail}") from error
        finally:
            process.stop(pid_file, patience_s=STOP_S)

    def stable(self) -> tuple[int, ...]:
        """The last stable offsets of the archive topic."""
        return self._asked(self.ends.stable, self.topics.archive)

    def raw_ends(self) -> tuple[int, ...]:
        """How many records each raw partition has."""
        return self._asked(self.ends.high, self.topics.raw)

    def _asked(self, ask: Callable[[list[tuple[str, int]]], Mapping[tuple[str, int], int]], topic: str) -> tuple[int, ...]:
        where = [(topic, partition) for partition in range(self.partitions)]
        found = ask(where)
        return tuple(found[one] for one in where)

    def shared_by(self, processes: int) -> bool:
        """Whether all raw partitions are assigned, and evenly, to so many members of the sealers' group."""
        group = topic_name(f"{self.name}.", "sealer")
        found = self._admin.describe_consumer_groups([group])[group].result()
        shares = [len(member.assignment.topic_partitions) for member in found.members if member.assignment]
        return sum(shares) == self.partitions and min(shares) == self.partitions // processes

    def await_begun(self) -> None:
        """Return when each chain has sealed something."""
        _await(lambda: all(self.stable()), BEGIN_S, "not all chains began")

    def await_sealed(self) -> None:
        """Return when everything on the raw topic is accounted for."""
        raw, archive, unsealed = self.raw_ends(), self.topics.archive, set(range(self.partitions))
        with PartitionReader(self.settings("admin")) as reader:

            def sealed() -> bool:
                for partition in list(unsealed):
                    last = reader.last_record(archive, partition)
                    value = None if last is None else last.value
                    if value and decode_seal(decode_sealed_event(value).seal).next_offset >= raw[partition]:
                        unsealed.discard(partition)
                return not unsealed

            _await(sealed, SETTLE_S, "not everything was sealed")

    def keep_little(self) -> None:
        """Let the broker delete what a long run has written: from now on, all but the newest of each log."""
        resources = []
        for topic in (self.topics.raw, self.topics.archive, self.topics.hot, self.topics.siem, self.topics.activity):
            resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
            for key, value in (("segment.bytes", SEGMENT_BYTES), ("retention.bytes", KEPT_BYTES)):
                entry = ConfigEntry(key, str(value), incremental_operation=AlterConfigOpType.SET)
                resource.add_incremental_config(entry)
            resources.append(resource)
        for future in self._admin.incremental_alter_configs(resources).values():
            future.result()

    def check(self, *, whole: bool = True) -> dict[int, list[Row]]:
        """Read what the archive topic holds: its events by partition. Raises WrongError.

        Args:
            whole: each log must begin with its chain.
        """
        found = {}
        with PartitionReader(self.settings("admin")) as reader:
            for partition in range(self.partitions):
                found[partition] = list(_checked(reader, self.topics.archive, partition, whole))
        return found

    def resets(self) -> Counter[str]:
        """How often the sealers' chains went back to the fence, by cause: each costs its chain some seconds."""
        found: Counter[str] = Counter()
        for log in self._folder.glob(f"{self.name}-sealer-*.log"):
            for line in log.read_text(errors="replace").splitlines():
                if line.startswith("{") and (said := json.loads(line))["event"] == "chain goes back to the fence":
                    found[said["cause"]] += 1
        return found

    def bytes_a_record(self, sealed: int) -> dict[str, float]:
        """What each topic's logs take on the broker's disk, compressed and with markers.

        For each raw record in the raw topic, for each of so many sealed ones in the others.
        """
        data = self._stack.places.server(kafka.NAME) / "data"
        sizes = {
            name: sum(path.stat().st_size for path in data.glob(f"{topic}-*/*.log"))
            for name, topic in asdict(self.topics).items()
        }
        return {name: size / (sum(self.raw_ends()) if name == "raw" else sealed) for name, size in sizes.items()}


def _checked(reader: PartitionReader, topic: str, partition: int, whole: bool) -> Iterator[Row]:
    seq = next_offset = 0
    prev = ZERO_DIGEST
    for record in reader.read_all(topic, partition):
        data = decode_sealed_event(record.value or b"").seal
        seal = decode_seal(data)
        where = f"{topic}/{partition}@{record.offset}"
        if not whole:
            whole, seq, prev, next_offset = True, seal.seq, seal.prev, seal.source_offset
        if (seal.seq, seal.prev, seal.source_offset) != (seq, prev, next_offset):
            raise WrongError(f"{where}: seq {seal.seq}, raw offset {seal.source_offset}; {seq} and {next_offset} are next")
        if seal.kind is Kind.EVENT:
            yield Row(record.offset, seal.source_offset, seal.sealed_at_us)
        elif seal.kind not in (Kind.GENESIS, Kind.HEARTBEAT):
            raise WrongError(f"{where}: {seal.kind} {seal.reason}")
        seq, prev, next_offset = seq + 1, leaf_hash(data), seal.next_offset


class Ground:
    """A broker, and what runs on it. Made by `Ground.begun`."""

    def __init__(self, stack: Stack, folder: Path, report: Reporter) -> None:
        self.stack = stack
        self.report = report
        self._folder = folder
        self._numbers = count(1)

    @classmethod
    @contextmanager
    def begun(cls, report: Reporter | None = None, *, stores: bool = False) -> Iterator[Ground]:
        """A new broker, and S3 and OpenSearch with `stores`; ended and removed afterwards, also when this is asked to end."""
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        with tempfile.TemporaryDirectory(prefix="sealtrail-bench-") as name:
            stack = Stack(Path(name) / "stack", ports=Ports.free(), raw_partitions=1, report=Reporter(quiet=True))
            try:
                stack.up(search=stores, archive=stores)
                yield cls(stack, Path(name), report or Reporter())
            finally:
                stack.reset()

    @contextmanager
    def deployment(self, partitions: int) -> Iterator[Deployment]:
        """Topics with so many raw partitions; deleted afterwards."""
        made = Deployment(self.stack, self._folder, f"b{next(self._numbers)}", partitions)
        names = provision(made.settings("admin"), catalogue.load(), raw_partitions=partitions).topics
        yield made
        client = admin_client(made.settings("admin"))
        for future in client.delete_topics(list(names), operation_timeout=60).values():
            future.result()

    def maximum(
        self,
        asked: Namespace,
        partitions: int,
        processes: int,
        prepare: Callable[[Deployment], None] | None = None,
        measure: Callable[[Deployment, int], None] | None = None,
    ) -> Maximum:
        """What sealers do with an input that is there before they begin, once they have shared it out; a line tells of it.

        Args:
            prepare: is called with the deployment before anything is written to it: its logs need not begin with their chains.
            measure: is called with it and the number of sealed records when all is done.
        """
        with self.deployment(partitions) as deployment:
            if prepare is not None:
                prepare(deployment)
            deployment.fill(asked.events)
            load, spent = os.getloadavg()[0], self._broker_s()
            with deployment.sealer(processes) as sealer:
                window = Window(asked.warm, 0, asked.measure)
                seen = watch(sealer, deployment.stable, asked.events, window, lambda: deployment.shared_by(processes))
            spent = self._broker_s() - spent
            rows = deployment.check(whole=prepare is None)
            sealed = sum(map(len, rows.values()))
            if measure is not None:
                measure(deployment, sealed)
        try:
            figures = figures_of(seen, {partition: [row.offset for row in found] for partition, found in rows.items()})
        except StalledError as error:
            raise SystemExit(f"{partitions} partitions, {processes} processes: {error}") from error
        maximum = Maximum(**asdict(figures), broker_us=spent / sealed * 1e6)
        self.report.line(
            f"flood: {partitions} partitions, {processes} processes: {maximum.rate:,.0f} records/s, {maximum.cpu_us:.1f} us of "
            f"CPU each, the broker's {maximum.broker_us:.1f}; {maximum.records:,} in {maximum.seconds:.1f} s; load {load:.1f}"
        )
        return maximum

    def _broker_s(self) -> float:
        """Processor seconds of the broker until now."""
        broker = process.running(self.stack.places.pid_file(kafka.NAME))
        if broker is None:
            raise TransientError("the broker ended")
        return cpu_s(broker)

    def rate(self, asked: Namespace) -> tuple[Maximum | None, float]:
        """The load that is asked for: a rate; or the maximum, which is measured now, and the rate that is a share of it."""
        if asked.rate:
            return None, float(asked.rate)
        maximum = self.maximum(asked, asked.partitions, asked.processes)
        return maximum, maximum.rate * float(asked.share)


def parser_of(name: str, document: str | None) -> ArgumentParser:
    """With what all these benchmarks ask: the flood, the load, and where the figures go."""
    parser = ArgumentParser(prog=f"python -m {name}", description=(document or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=500_000, help="of a flood, with which a maximum is measured")
    parser.add_argument("--warm", type=float, default=4.0, help="seconds of a flood that do not count")
    parser.add_argument("--measure", type=float, default=10.0, help="seconds of a flood that count, if its events last so long")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser


def add_load(parser: ArgumentParser) -> None:
    """What benchmarks under load ask besides."""
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--processes", type=int, default=1, help="of the sealer")
    parser.add_argument(
        "--share", type=float, default=0.5, help="of the maximum, to be the load; the maximum is measured first"
    )
    parser.add_argument("--rate", type=float, help="events a second instead; no maximum is measured")


def lag_of(load: Popen[str]) -> Lag:
    """Wait for a process of `Deployment.load` to end by itself; how late it was."""
    output, _ = load.communicate()
    if load.returncode:
        raise SystemExit(f"the load ended with status {load.returncode}")
    return Lag(**json.loads(output))


def keep(name: str, asked: Namespace, figures: Mapping[str, object]) -> None:
    """Write everything as JSON where it was asked for: when, by what command, on what machine, and what was found."""
    if asked.json is None:
        return
    result = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python -m {name} " + " ".join(sys.argv[1:]),
        "machine": machine(),
        "load_at_the_end": os.getloadavg(),
        "asked": {key: value for key, value in vars(asked).items() if key != "json"},
        **figures,
    }
    asked.json.write_text(json.dumps(result, indent=1, default=asdict) + "\n")


def figures_as_json(figures: Figures) -> dict[str, object]:
    """With the rate, which is worked out."""
    return {**asdict(figures), "rate": figures.rate}


def _await(holds: Callable[[], bool], patience_s: float, problem: str) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            raise TransientError(f"{problem} within {patience_s:.0f} s")
        time.sleep(0.1)
