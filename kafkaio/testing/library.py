"""A `Library` whose clients speak to the simulated brokers, in simulated time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec  # not exported by name: the package has no __all__

from kafkaio.library import Worker
from kafkaio.testing.cluster import Cluster
from kafkaio.testing.consumer import SimulatedConsumer, metadata
from kafkaio.testing.errors import BrokerError
from kafkaio.testing.link import Link, World
from kafkaio.testing.producer import SimulatedProducer

T = TypeVar("T")
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]


class SimulatedLibrary:
    """The clients of one process. No threads: what hangs costs its whole time, a worker's step runs when its world lets it."""

    def __init__(self, cluster: Cluster, world: World) -> None:
        self.world = world
        self._link = Link(cluster, world)

    def producer(self, config: dict[str, Any]) -> Producer:
        """As `Library`."""
        return cast(Producer, SimulatedProducer(self._link, config))

    def consumer(self, config: dict[str, Any]) -> Consumer:
        """As `Library`."""
        return cast(Consumer, SimulatedConsumer(self._link, config))

    def admin(self, config: dict[str, Any]) -> AdminClient:
        """As `Library`."""
        return cast(AdminClient, SimulatedAdmin(self._link))

    def monotonic(self) -> float:
        """As `Library`."""
        return self._link.cluster.now

    def sleep(self, seconds: float) -> None:
        """As `Library`."""
        self._link.world.wait(seconds)

    def worker(self, name: str) -> Worker:
        """As `Library`."""
        return SimulatedWorker(self._link)


class SimulatedWorker:
    """Its steps are its world's to run."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._step: Callable[[], object] | None = None
        self._runs = False
        self._failed = False
        self._raised: Exception | None = None

    def start(self, step: Callable[[], object]) -> None:
        """As `Worker`."""
        self._step = step
        self._failed = False
        self._link.world.beside(self._run)

    def ended(self, wait_s: float = 0.0) -> bool:
        """As `Worker`. One that has begun and waits itself cannot be waited for: whoever runs inside it returns first."""
        if wait_s and self._step is not None:
            self._run()
        if self._step is not None:
            if wait_s:
                self._link.world.wait(wait_s)
            return False
        if self._failed:
            raised, self._raised = self._raised, None
            raise raised or AssertionError("a step that failed is asked for again")
        return True

    def close(self) -> None:
        """As `Worker`."""

    def _run(self) -> None:
        if self._step is None or self._runs:
            return
        self._runs = True
        try:
            self._step()
        except Exception as error:  # handed to the owner
            self._raised, self._failed = error, True
        finally:
            self._runs = False
        self._step = None


class SimulatedAdmin:
    """The part of `AdminClient` that asks."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def poll(self, timeout: float) -> int:
        """Nothing to serve."""
        return 0

    def list_offsets(
        self, request: Mapping[TopicPartition, OffsetSpec], isolation_level: IsolationLevel, request_timeout: float
    ) -> dict[TopicPartition, Future[Any]]:
        """Ends or starts of partitions."""

        def offset(where: TopicPartition, spec: OffsetSpec) -> Any:
            log = self._link.cluster.partition(where.topic, where.partition)
            if spec is _EARLIEST:
                return SimpleNamespace(offset=log.first)
            return SimpleNamespace(offset=log.stable if isolation_level is IsolationLevel.READ_COMMITTED else log.end)

        return self._each("offsets", {w: lambda w=w, s=spec: offset(w, s) for w, spec in request.items()}, request_timeout)  # type: ignore[misc]

    def describe_topics(self, topics: TopicCollection, request_timeout: float) -> dict[str, Future[Any]]:
        """Topics' UUIDs."""

        def describe(topic: str) -> Any:
            self._link.cluster.partition(topic, 0)
            uuid = self._link.cluster.topic_uuid(topic)
            return SimpleNamespace(topic_id=_Uuid(uuid))

        names: list[str] = topics.topic_names
        return self._each("describe", {name: lambda name=name: describe(name) for name in names}, request_timeout)  # type: ignore[misc]

    def list_topics(self, topic: str, timeout: float) -> Any:
        """Metadata of one topic."""
        return self._link.answer("metadata", lambda: metadata(self._link, topic), timeout)

    def _each(self, what: str, asked: Mapping[T, Callable[[], Any]], limit_s: float) -> dict[T, Future[Any]]:
        """One request for all; an answer, or an error, for each."""
        found: dict[T, Future[Any]] = {name: Future() for name in asked}

        def answers() -> dict[T, Any]:
            answered: dict[T, Any] = {}
            for name, ask in asked.items():
                try:
                    answered[name] = ask()
                except BrokerError as error:
                    answered[name] = KafkaException(KafkaError(error.code))
            return answered

        try:
            answered = self._link.answer(what, answers, limit_s)
        except KafkaException as error:
            answered = dict.fromkeys(asked, error)
        for name, answer in answered.items():
            if isinstance(answer, KafkaException):
                found[name].set_exception(answer)
            else:
                found[name].set_result(answer)
        return found


class _Uuid:
    """As `confluent_kafka.Uuid`, which takes no unsigned halves."""

    def __init__(self, uuid: bytes) -> None:
        self._uuid = uuid

    def get_most_significant_bits(self) -> int:
        return int.from_bytes(self._uuid[:8], "big", signed=True)

    def get_least_significant_bits(self) -> int:
        return int.from_bytes(self._uuid[8:], "big", signed=True)
