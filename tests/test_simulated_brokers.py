"""What simulated brokers do that real ones do not do to order: requests late, doubled, lost; markers by themselves."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from confluent_kafka import KafkaError, KafkaException, Uuid
from confluent_kafka.admin import AdminClient

from kafkaio.group import SLICE, RawConsumer
from kafkaio.reader import PartitionReader
from kafkaio.testing import Calm, Cluster, Fate, SimulatedLibrary, TopicSpec, Verdict, Where
from kafkaio.transaction import ChainProducer, Ends, Placement, Progress
from schemas.settings import Settings
from sealtrail.errors import TransientError
from tests.fenced import fenced

ARCHIVE, HOT = ("archive", 0), ("hot", 0)


class Planned(Calm):
    """The next request of a kind has a fate."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.fates: dict[str, Verdict] = {}

    def fate(self, what: str) -> Verdict:
        return self.fates.pop(what, Verdict())


class Scene:
    """One chain's topics, and a member of the group that owns its raw partition."""

    def __init__(self, folder: Path) -> None:
        (folder / "pem").touch()
        files = {f"kafka_{name}": folder / "pem" for name in ("ca", "certificate", "key")}
        self.settings = Settings.load(role="sealer", kafka_bootstrap="simulated", **files)
        self.cluster = Cluster({name: TopicSpec(1) for name in ("raw", "archive", "hot")}, 0)
        self.world = Planned(self.cluster)
        self.library = SimulatedLibrary(self.cluster, self.world)
        self.ends = Ends(self.settings, self.library)
        self.consumer = RawConsumer(self.settings, "raw", "sealer", lambda _: None, lambda _: None, self.library)
        self.cluster.advance(2)
        self.consumer.poll(1, 0)

    def chain(self) -> ChainProducer:
        return fenced(self.settings, "local/raw/0", self.library)

    def commit(self, producer: ChainProducer, value: bytes, fates: Mapping[str, Verdict] | None = None) -> None:
        self.world.fates = dict(fates or {})
        placements = [Placement(*place, [value]) for place in (ARCHIVE, HOT)]
        producer.commit(placements, Progress("raw", 0, 0, self.consumer.poll(1, 0).group), self.cluster.now_ms())

    def values(self, place: Where = ARCHIVE) -> list[bytes | None]:
        """As a read-committed reader sees them now."""
        with PartitionReader(self.settings, self.library) as reader:
            return [record.value for record in reader.read_all(*place)]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize(
    ("fate", "found"),
    [
        pytest.param(Verdict(Fate.LOST), [], id="lost"),
        pytest.param(Verdict(Fate.UNANSWERED), [b"one"], id="unanswered-but-landed"),
        pytest.param(Verdict(Fate.UNANSWERED, 15.0), [b"one"], id="landed-and-once-more-after-the-fence"),
        pytest.param(Verdict(Fate.LATE, 5.0), [b"one"], id="late-but-before-the-fence"),
        pytest.param(Verdict(Fate.LATE, 11.0, 0.2), [], id="late-after-the-fence"),
        pytest.param(Verdict(Fate.SLOW, 6.0), [b"one"], id="slow"),
    ],
)
def test_an_end_of_transaction_without_an_answer_is_in_doubt_and_the_fence_settles_it(
    scene: Scene, fate: Verdict, found: list[bytes]
) -> None:
    with pytest.raises(TransientError):
        scene.commit(scene.chain(), b"one", {"commit": fate})
    second = scene.chain()
    scene.ends.await_stable([ARCHIVE, HOT])
    assert scene.values(ARCHIVE) == scene.values(HOT) == found
    scene.cluster.advance(20)
    scene.commit(second, b"two")
    scene.ends.await_stable([ARCHIVE, HOT])
    assert scene.values(ARCHIVE) == scene.values(HOT) == [*found, b"two"]


@pytest.mark.parametrize("delay_s", [0.0, 1.0])
def test_what_is_sent_twice_is_appended_once(scene: Scene, delay_s: float) -> None:
    twice = Verdict(Fate.TWICE, delay_s)
    producer = scene.chain()
    scene.commit(producer, b"one", {"produce archive": twice, "add partition": twice})
    scene.cluster.advance(2)
    scene.commit(producer, b"two", {"commit": Verdict(Fate.TWICE)})
    scene.ends.await_stable([ARCHIVE])
    assert scene.values() == [b"one", b"two"]


def test_a_record_that_comes_after_the_fence_is_refused(scene: Scene) -> None:
    with pytest.raises(TransientError):
        scene.commit(scene.chain(), b"late", {"produce archive": Verdict(Fate.LATE, 14.0)})
    second = scene.chain()
    scene.commit(second, b"one")
    scene.cluster.advance(20)
    scene.ends.await_stable([ARCHIVE])
    assert scene.values() == [b"one"]


def test_markers_reach_each_leader_at_their_own_time_and_the_fence_waits_for_all(scene: Scene) -> None:
    scene.cluster.marker_s = lambda place, commit: 3.0 if place == HOT else 0.0
    scene.commit(scene.chain(), b"one")
    scene.cluster.advance(0.1)
    assert (scene.values(ARCHIVE), scene.values(HOT)) == ([b"one"], [])
    scene.chain()
    assert scene.values(HOT) == [b"one"]


def test_a_fence_that_answers_early_leaves_readers_to_wait(scene: Scene) -> None:
    scene.cluster.coordinator.early = True
    scene.cluster.marker_s = lambda place, commit: 3.0
    scene.commit(scene.chain(), b"one")
    second = scene.chain()
    assert scene.values() == []
    scene.ends.await_stable([ARCHIVE])
    assert scene.values() == [b"one"]
    scene.commit(second, b"two")
    scene.ends.await_stable([ARCHIVE])
    assert scene.values() == [b"one", b"two"]


def test_a_transaction_that_nobody_ends_is_aborted_when_its_time_is_up_and_its_producer_outlawed(scene: Scene) -> None:
    producer = scene.chain()
    producer._producer.begin_transaction()
    producer._producer.produce(ARCHIVE[0], b"open", None, 0)
    producer._producer.flush(1)
    assert scene.ends.stable([ARCHIVE]) != scene.ends.high([ARCHIVE])
    scene.cluster.advance(14)
    assert scene.ends.stable([ARCHIVE]) == scene.ends.high([ARCHIVE])
    assert scene.values() == []
    with pytest.raises(KafkaException) as refused:
        producer._producer.commit_transaction(1)
    assert refused.value.args[0].fatal()


def test_an_abort_whose_marker_is_lost_hangs_until_a_later_marker_of_the_same_id(scene: Scene) -> None:
    scene.commit(scene.chain(), b"one")
    scene.cluster.marker_s = lambda place, commit: None if place == ARCHIVE else 0.0
    with pytest.raises(TransientError):
        scene.commit(scene.chain(), b"lost", {"commit": Verdict(Fate.LOST)})
    owner = scene.chain()
    scene.cluster.advance(30)
    assert scene.ends.stable([ARCHIVE]) != scene.ends.high([ARCHIVE])
    scene.cluster.marker_s = lambda place, commit: 0.0
    owner.abort_on([ARCHIVE])
    scene.ends.await_stable([ARCHIVE])
    assert scene.values() == [b"one"]


class DeadController(AdminClient):
    """An admin client whose controller was killed: it waits for that one until its metadata expires."""

    def __init__(self) -> None:
        """Connects to nothing."""

    def describe_topics(self, *_: object, **__: object) -> NoReturn:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def test_a_client_whose_controller_was_killed_is_asked_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen on three brokers: no chain came back while the killed one, their controller, stayed away."""
    clients = [DeadController(), scene.library.admin({})]
    monkeypatch.setattr(scene.library, "admin", lambda _: clients.pop(0))
    ends = Ends(scene.settings, scene.library)
    with pytest.raises(TransientError, match="describing raw"):
        ends.topic_uuid("raw")
    assert len(ends.topic_uuid("raw")) == 16


def test_what_gets_no_answer_is_asked_for_longer_each_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers that have just started may take longer than a dead controller deserves."""
    given: list[float] = []

    class Slow(DeadController):
        def describe_topics(self, *_: object, **asked: Any) -> NoReturn:
            given.append(asked["request_timeout"])
            super().describe_topics()

    clients: list[Any] = [Slow(), Slow(), Slow(), Slow(), scene.library.admin({})]
    monkeypatch.setattr(scene.library, "admin", lambda _: clients.pop(0))
    ends = Ends(scene.settings, scene.library)
    for _ in range(4):
        with pytest.raises(TransientError):
            ends.topic_uuid("raw")
    assert given == [3.0, 6.0, 10.0, 10.0]
    ends.topic_uuid("raw")
    assert ends._describe_s == 3.0


class Waiting(AdminClient):
    """An admin client that answers late: others ask meanwhile, and have it replaced."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        """Connects to nothing."""
        self._meanwhile = meanwhile

    def describe_topics(self, *_: object, **__: object) -> Any:
        asked, meanwhile = weakref.ref(self), self._meanwhile

        class Answer:
            def result(self, _: float) -> object:
                meanwhile()
                gc.collect()
                assert asked() is not None, "gone with its question: its answer never comes"
                return SimpleNamespace(topic_id=Uuid(0, 0))

        return {"raw": Answer()}


def test_a_client_is_kept_until_it_has_answered_though_another_thread_has_it_replaced(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen on three brokers: the recovery of one chain waited for ever for a client that another one's error had removed."""

    def fails_elsewhere() -> None:
        with pytest.raises(TransientError), ends._asking("asking", 1.0):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    clients = [Waiting(fails_elsewhere), scene.library.admin({})]
    monkeypatch.setattr(scene.library, "admin", lambda _: clients.pop(0))
    ends = Ends(scene.settings, scene.library)
    assert ends.topic_uuid("raw") == bytes(16)
    assert not clients


@pytest.mark.parametrize("gather", [True, False])
@pytest.mark.parametrize("most", [1, SLICE - 1, SLICE, SLICE + 1, 2000])
def test_polls_bring_all_in_order_and_no_more_than_was_asked_for(scene: Scene, most: int, gather: bool) -> None:
    placements, group = [Placement("raw", 0, [b"v"] * 600)], scene.consumer.poll(1, 0).group
    scene.chain().commit(placements, Progress("raw", 0, 0, group), scene.cluster.now_ms())
    scene.ends.await_stable([("raw", 0)])
    scene.consumer.start(0, 0)
    offsets: list[int] = []
    for _ in range(1000):
        found = [record.offset for record in scene.consumer.poll(most, 1.0, gather=gather).records.get(0, [])]
        assert len(found) <= most
        offsets += found
    assert offsets == list(range(600))
