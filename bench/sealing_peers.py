"""The sealer against other engines that do the same work, on one broker, from one input. `docs/performance.md` has a run.

    python -m bench.sealing_peers [--events N] [--rounds N] [--only NAME,NAME] [--json FILE]

The first contestant runs once without being counted: the broker is a JVM too, and compiles meanwhile. Then each round runs
every contestant alone, one after the other, the first one changing. A contestant starts with empty outputs and reads the raw
topic from its beginning; what becomes visible in a window after the warm-up is its rate. Then it is ended, and all that it made
visible is checked (`bench.peers.checking`); outputs that fail have no time, and end the benchmark. The table has medians over
the rounds, ratios pair by pair within a round.

The same work: `bench.peers.work`. The broker is the local stack's Kafka, started for this and removed after it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # the library names no exports
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.peers import supply
from bench.peers.checking import Asked, Found, WrongError, check
from bench.peers.contestants import ALL, ROOT, WITHOUT_TOKENS, Contestant, contestants, formats, write_task
from bench.peers.figures import Outcome, line_of, result_of, table_of
from bench.peers.supply import Supply
from bench.peers.watch import StalledError, Window, figures_of, watch
from bench.peers.work import Task
from infra import process
from infra.places import Ports
from infra.report import Reporter
from infra.stack import Stack
from kafkaio.admin import admin_client, provision
from kafkaio.reader import PartitionReader
from kafkaio.transaction import Ends
from processors.keys import SealerKeys
from processors.recovery import Topics, chain_of
from schemas import catalogue
from schemas.policy import Policy
from sealtrail.errors import ConfigError, TransientError

PARTITIONS = 4
STOP_S = 20.0  # for a contestant to end by itself
GONE_S = 60.0  # for topics and groups to be gone
OUTPUT = {"max.message.bytes": str(3 << 20), "retention.ms": "-1"}


@dataclass(frozen=True, slots=True)
class Asking:
    """What was asked for on the command line."""

    events: int
    rounds: int
    warm_s: float
    measure_s: float
    commit_ms: int
    names: tuple[str, ...]
    tokens: float
    json: Path | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and print the table."""
    asking = _asking(arguments)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that broker and contestant are ended too
    report = Reporter()
    entrants = contestants(asking.names, report)
    with Bench.begun(asking, report) as bench:
        outcomes: dict[str, list[Outcome]] = {entrant.name: [] for entrant in entrants}
        report.line(f"{line_of(-1, entrants[0], bench.run(entrants[0], -1))}; not counted")
        for number in range(asking.rounds):
            turn = number % len(entrants)
            for entrant in (*entrants[turn:], *entrants[:turn]):
                outcome = bench.run(entrant, number)
                outcomes[entrant.name].append(outcome)
                report.line(line_of(number, entrant, outcome))
        result = result_of({**asdict(asking), "json": None}, bench.input, entrants, outcomes)
    print(table_of(result))
    if asking.json is not None:
        asking.json.write_text(json.dumps(result, indent=1) + "\n")


def _asking(arguments: Sequence[str] | None) -> Asking:
    parser = argparse.ArgumentParser(prog="python -m bench.sealing_peers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=1_200_000, help="of the input; a contestant that seals all ends early")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm", type=float, default=6.0, help="seconds after the first output that do not count")
    parser.add_argument("--measure", type=float, default=8.0, help="seconds that count")
    parser.add_argument("--commit-ms", type=int, default=100, help="the commit interval of all")
    parser.add_argument("--only", default=",".join(ALL), help="contestants, by comma")
    parser.add_argument("--tokens", type=float, default=0.0, help="share of the events that have a tokenised value")
    parser.add_argument("--json", type=Path, help="file for all figures")
    given = parser.parse_args(arguments)
    names = tuple(given.only.split(","))
    if not set(names) <= set(ALL):
        parser.error(f"--only: some of {', '.join(ALL)}")
    if not 0 <= given.tokens <= 1:
        parser.error("--tokens: a share, from 0 to 1")
    if given.tokens and set(names) & set(WITHOUT_TOKENS):
        parser.error(f"--tokens: not by {', '.join(WITHOUT_TOKENS)}; name the others with --only")
    return Asking(given.events, given.rounds, given.warm, given.measure, given.commit_ms, names, given.tokens, given.json)


class Bench:
    """A broker with its input, and what runs on it."""

    def __init__(self, asking: Asking, stack: Stack, folder: Path, found: Supply) -> None:
        self._asking = asking
        self._stack = stack
        self._folder = folder
        self.input = found
        self._admin = stack.settings("admin")
        self._sealer = stack.settings("sealer")
        self._client: AdminClient = admin_client(self._admin)
        self._ends = Ends(self._admin)
        self._topics = Topics.of(self._sealer)
        self._chain = chain_of(self._sealer, self._ends, self._topics, 0).removesuffix("0")
        self._signing = Ed25519PrivateKey.generate()
        self._public = self._signing.public_key().public_bytes_raw()
        (folder / "tasks").mkdir()

    @classmethod
    @contextmanager
    def begun(cls, asking: Asking, report: Reporter) -> Iterator[Bench]:
        """A new broker with the input on it; ended and removed afterwards."""
        with tempfile.TemporaryDirectory(prefix="sealtrail-bench-") as name:
            folder = Path(name)
            stack = Stack(folder / "stack", ports=Ports.free(), raw_partitions=PARTITIONS, report=Reporter(quiet=True))
            try:
                stack.up(search=False, archive=False)
                began = time.monotonic()
                supply.fill(stack.settings(supply.SOURCE), asking.events, PARTITIONS, asking.tokens)
                took = time.monotonic() - began
                found = supply.read(stack.settings("admin"), stack.settings("sealer"), PARTITIONS)
                report.line(
                    f"{found.records:,} raw records of {found.mean_bytes:.0f} B on the mean in {PARTITIONS} partitions, "
                    f"{found.signed:.1%} to be signed, {found.tokenised:.1%} with a login; stated in {took:.0f} s"
                )
                yield cls(asking, stack, folder, found)
            finally:
                stack.reset()

    def run(self, entrant: Contestant, number: int) -> Outcome:
        """One contestant from empty outputs to checked figures."""
        load = os.getloadavg()[0]
        task = self._task(f"bench-{entrant.name}-{number}", entrant)
        self._prepare(entrant, task)
        asking, pid_file = self._asking, self._folder / f"{task.name}.pid"
        log = self._folder / f"{task.name}.log"
        path = write_task(task, self._folder / "tasks" / f"{task.name}.json")
        started = process.start(
            entrant.command(path), pid_file=pid_file, log=log, cwd=ROOT, environment=self._environment(entrant)
        )
        try:
            window = Window(asking.warm_s, min(entrant.warm_records, self.input.records // 2), asking.measure_s)
            seen = watch(started, lambda: self._stable(task.archive), self.input.records, window)
            process.stop(pid_file, patience_s=STOP_S)
            found = self._check(entrant, task)
            figures = figures_of(seen, found.places)
        except (StalledError, WrongError) as error:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
            raise SystemExit(f"{entrant.name}: {error}\n{tail}") from error
        finally:
            process.stop(pid_file, patience_s=STOP_S)
        self._remove(entrant, task)
        return Outcome(figures, found.records, found.signed, load)

    def _task(self, name: str, entrant: Contestant) -> Task:
        admin = self._admin
        keystore = self._folder / "admin.pem"
        certificate, key = _path(admin.kafka_certificate), _path(admin.kafka_key)
        keystore.write_bytes(key.read_bytes() + certificate.read_bytes())
        keystore.chmod(0o600)
        state = self._folder / "state" / name
        state.mkdir(parents=True)
        topics = self._topics
        outputs = [f"{name}.archive", f"{name}.hot", f"{name}.siem"]
        if entrant.ours:
            outputs = [topics.archive, topics.hot, topics.siem]
        return Task(
            name=name,
            bootstrap=admin.kafka_bootstrap,
            ca=str(_path(admin.kafka_ca)),
            certificate=str(certificate),
            key=str(key),
            keystore=str(keystore),
            raw=topics.raw,
            archive=outputs[0],
            hot=outputs[1],
            siem=outputs[2],
            partitions=PARTITIONS,
            commit_ms=self._asking.commit_ms,
            chain=self._chain,
            **formats(Policy.load(self._sealer.policy)),
            signing_key=self._signing.private_bytes_raw().hex(),
            key_id=hashlib.sha256(self._public).hexdigest(),
            disclosure_key=secrets.token_hex(32),
            mac_keys=self.input.mac_keys,
            token_keys=self.input.token_keys,
            state=str(state),
        )

    def _environment(self, entrant: Contestant) -> dict[str, str]:
        if not entrant.ours:
            return {}
        return {
            "SEALTRAIL_CONFIG": str(self._stack.role_file("sealer")),
            "SEALTRAIL_BATCH_MS": str(self._asking.commit_ms),
        }

    def _prepare(self, entrant: Contestant, task: Task) -> None:
        """Empty outputs."""
        if entrant.ours:
            provision(self._admin, catalogue.load(), raw_partitions=PARTITIONS)
        else:
            self._create(entrant, task)
        self._await(lambda: self._led((task.archive, task.hot, task.siem)))

    def _create(self, entrant: Contestant, task: Task) -> None:
        topics = [NewTopic(name, PARTITIONS, 1, config=OUTPUT) for name in (task.archive, task.hot, task.siem)]
        compacted = {**OUTPUT, "cleanup.policy": "compact"}
        topics += [NewTopic(f"{task.name}-{log}", PARTITIONS, 1, config=compacted) for log in entrant.changelogs]
        for future in self._client.create_topics(topics, operation_timeout=GONE_S).values():
            future.result()

    def _led(self, topics: tuple[str, ...]) -> bool:
        """Whether the broker leads every partition of these topics."""
        try:
            for topic in topics:
                self._stable(topic, self._ends.partition_count(topic))
        except (TransientError, ConfigError):
            return False
        return True

    def _remove(self, entrant: Contestant, task: Task) -> None:
        """Its topics; and of the sealer its group, whose position must not outlive its outputs."""
        if entrant.ours:
            ours = {topic for name, topic in asdict(self._topics).items() if name != "raw"}
            self._remove_group("sealer")
        else:
            ours = {name for name in self._names() if task.name in name}
        for future in self._client.delete_topics(list(ours), operation_timeout=GONE_S).values():
            future.result()
        self._await(lambda: not ours & self._names())

    def _remove_group(self, name: str) -> None:
        def removed() -> bool:
            try:
                self._client.delete_consumer_groups([name])[name].result()
            except KafkaException:
                return False  # it still has a member
            return True

        self._await(removed)

    def _await(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + GONE_S
        while not holds():
            if time.monotonic() > deadline:
                raise SystemExit("the broker did not do what it was asked in time")
            time.sleep(0.1)

    def _names(self) -> set[str]:
        return set(self._client.list_topics(timeout=GONE_S).topics)

    def _stable(self, topic: str, partitions: int = PARTITIONS) -> tuple[int, ...]:
        where = [(topic, partition) for partition in range(partitions)]
        found = self._ends.stable(where)
        return tuple(found[one] for one in where)

    def _check(self, entrant: Contestant, task: Task) -> Found:
        ours = entrant.ours
        key = SealerKeys(self._sealer).sealer.certificate.public if ours else self._public
        asked = Asked(task.archive, task.hot, task.siem, key, entrant.exactly_once, entrant.signs_last)
        counts = {name: self._ends.partition_count(name) for name in (task.archive, task.hot, task.siem)}
        with PartitionReader(self._admin) as reader:
            return check(asked, counts, self.input.expected, reader)


def _path(path: Path | None) -> Path:
    if path is None:
        raise ConfigError("the admin's settings name no certificate")
    return path


if __name__ == "__main__":
    main()
