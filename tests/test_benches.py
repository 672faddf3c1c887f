"""The benchmarks of the sealer alone: load by a schedule, outputs checked, times and slopes worked out right."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bench.endurance import grown, slope
from bench.ground import Row, _checked
from bench.growth import BATCH, Sealing, head_at
from bench.latency import summary, times_of
from bench.load import Load
from bench.peers.checking import WrongError
from infra import keys
from infra.places import Places
from kafkaio.reader import PartitionReader, Record
from producers.audit import Admitted, AuditProducer
from producers.memory import MemoryBroker
from schemas.head import read_head
from schemas.settings import Settings
from sealtrail.seal import Kind, decode_seal, decode_sealed_event
from tests.chains import ChainMaker

CHAIN = "audit.example/local/audit.raw.0011aabb.0/0"


# -- load


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    places = Places(tmp_path_factory.mktemp("keys"))
    keys.ensure(places, datetime.now(UTC))
    return Settings.load(
        role="github",
        keys=f"file:{places.keys / 'github'}",
        root_vkey=places.root / "root.vkey",
        certificates=places.keys / "certs",
    )


class Brokers:
    """A memory broker for each of two emitters, and load over them."""

    def __init__(self, settings: Settings) -> None:
        self.brokers = [MemoryBroker(partition=number) for number in range(2)]
        self.emitters = [
            AuditProducer(settings, "github", f"w{number}", producer_factory=broker.connect, pulse_s=600)
            for number, broker in enumerate(self.brokers)
        ]
        self.load = Load(self.emitters)

    def numbers(self) -> list[list[int]]:
        """Of the records that arrived, by emitter, in order."""
        return [[read_head(record.value).seq for record in broker.records] for broker in self.brokers]


@pytest.fixture
def brokers(settings: Settings) -> Iterator[Brokers]:
    made = Brokers(settings)
    yield made
    for emitter in made.emitters:
        emitter.close()


def test_a_flood_is_spread_evenly_and_each_event_has_an_id_of_its_own(brokers: Brokers) -> None:
    brokers.load.flood(4_001)
    brokers.load.settle()
    numbers = brokers.numbers()
    assert sum(map(len, numbers)) == 4_001 + 2, "and an opening each"
    assert all(found == list(range(len(found))) for found in numbers)
    assert abs(len(numbers[0]) - len(numbers[1])) <= 1
    ids = [read_head(record.value).event_id for broker in brokers.brokers for record in broker.records]
    assert len(set(ids)) == len(ids)


def test_load_follows_its_schedule_however_late_it_was(brokers: Brokers, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = brokers.emitters[0].hand_over
    held: list[bool] = []

    def hand_over(admitted: Sequence[Admitted]) -> None:
        if not held:
            held.append(True)
            time.sleep(0.3)  # as a machine would that has other things to do
        slow(admitted)

    monkeypatch.setattr(brokers.emitters[0], "hand_over", hand_over)
    lag = brokers.load.at_rate(400, 1.0, threading.Event())
    brokers.load.settle()
    assert 380 <= lag.events <= 400, "what was late was made up for"
    assert lag.max_ms >= 290
    assert lag.seconds >= 1.0
    assert sum(map(len, brokers.numbers())) == lag.events + 2


def test_load_ends_when_it_is_told_to(brokers: Brokers) -> None:
    stop = threading.Event()
    stop.set()
    assert brokers.load.at_rate(400, 60.0, stop).events == 0


# -- what is checked of outputs


class Archive:
    """A reader of one partition."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self._records = [Record(offset, 0, None, value) for offset, value in enumerate(values)]

    def read_all(self, topic: str, partition: int) -> Iterator[Record]:
        yield from self._records


def checked(values: Iterable[bytes], *, whole: bool = True) -> list[Row]:
    reader: PartitionReader = Archive(values)  # type: ignore[assignment]  # all that is asked of it
    return list(_checked(reader, "archive", 0, whole))


def chain() -> list[bytes]:
    """A GENESIS and five events."""
    maker = ChainMaker(bytes(32), lambda _: bytes(64), chain=CHAIN)
    return [maker.genesis(), *(maker.event() for _ in range(5))]


def test_outputs_that_are_whole_pass_and_give_their_places() -> None:
    rows = checked(chain())
    assert [(row.offset, row.source_offset) for row in rows] == [(number + 1, number) for number in range(5)]


def test_outputs_with_a_hole_a_repeat_or_another_order_do_not_pass() -> None:
    values = chain()
    for wrong in (values[1:], [*values[:3], *values[4:]], [*values[:3], *values[2:]], [*values[:2], values[3], values[2]]):
        with pytest.raises(WrongError):
            checked(wrong)
    assert len(checked(values[2:], whole=False)) == 4, "a log that was cut begins later"


# -- figures


def test_a_records_time_is_from_its_append_to_the_moment_it_was_seen_in_two_parts() -> None:
    rows = [Row(10, 0, 1_050_000), Row(11, 1, 1_060_000), Row(13, 2, 1_070_000)]
    seen = ([9, 10, 11, 13], [1_000, 1_100_000, 1_110_000, 1_170_000])
    times = times_of(rows, [1_000, 1_040, 1_045], seen, 1_040)
    assert [(one.waited, one.committed, one.whole) for one in times] == [(20.0, 50.0, 70.0), (25.0, 100.0, 125.0)]


def test_a_summary_is_of_ordered_values() -> None:
    assert summary([float(n) for n in reversed(range(1000))]) == {"p50": 500.0, "p99": 990.0, "p99.9": 999.0, "max": 999.0}
    assert summary([7.0])["p99"] == 7.0


def test_a_slope_is_that_of_the_line() -> None:
    assert slope([(x, 3 * x + 1) for x in range(10)]) == pytest.approx(3)
    assert slope([(0, 5.0), (1, 7.0), (2, 5.0)]) == pytest.approx(0)
    assert slope([(1, 1.0)]) == 0


@pytest.mark.parametrize(
    ("values", "more"), [([5, 6, 5, 6], False), ([5, 5, 6, 5], True), ([6, 5, 5, 5], False), ([5], False), ([], False)]
)
def test_descriptors_have_grown_when_later_there_are_more(values: list[int], more: bool) -> None:
    assert grown(values) == more


# -- chains of a made-up length


def test_sealing_goes_on_from_any_seq_with_any_number_of_runs() -> None:
    with Sealing.begun() as bench:
        small, _, size = bench.batch(bench.state(10**4))
        large, _, larger = bench.batch(bench.state(10**7, 100))
    assert (small.head.seq, large.head.seq) == (10**4 + BATCH, 10**7 + BATCH)
    assert len(large.runs) == 100
    assert size < larger < size + 8, "numbers are varints"


def test_a_made_up_head_is_that_of_the_seq() -> None:
    seal = decode_seal(decode_sealed_event(head_at(CHAIN, 10**6)).seal)
    assert (seal.chain, seal.kind, seal.seq, seal.next_offset) == (CHAIN, Kind.HEARTBEAT, 10**6 - 1, 0)


def test_makefile_runs_each_and_says_so() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    for name in ("latency", "endurance", "scaling"):
        assert f"-m bench.{name} $(BENCH)" in makefile
