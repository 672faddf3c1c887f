"""The emitter: numbers, authentication, refusals, back-pressure, loss, pulses, forks; in memory and on Kafka."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from infra import keys
from infra.places import Places
from kafkaio.client import client_config
from kafkaio.producer import IdempotentProducer, ProducerLostError
from keystore import Keystore, load_keyring, load_root
from producers.audit import AuditProducer
from producers.backlog import MemoryBacklog
from producers.handover import Handover
from producers.identity import Identity
from producers.memory import MemoryBroker, MemoryRecord
from producers.run import Prepared
from producers.sender import GATHER_S, RecordProducer
from producers.uuid7 import Uuid7
from schemas.registry import AUDIT_EVENT
from schemas.settings import Settings
from sealtrail.errors import ConfigError, ContractError, TransientError
from sealtrail.session import RUN_SESSION, mac_key, record_mac, unwrap_session_key, verify_session
from tests.conftest import Deployment, wait_until

NOW_NS = 1_795_000_000 * 10**9  # 2026-11-18
SECRET = "Sesame-7f3a"  # what must not come out: a planted value


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A connector's settings: keys of the local stack's making, no broker."""
    places = Places(tmp_path_factory.mktemp("keys"))
    keys.ensure(places, datetime.fromtimestamp(NOW_NS / 1e9, UTC))
    return Settings.load(
        role="github",
        keys=f"file:{places.keys / 'github'}",
        root_vkey=places.root / "root.vkey",
        certificates=places.keys / "certs",
    )


class Clock:
    """Nanoseconds since 1970 that pass only when told."""

    def __init__(self) -> None:
        self.now_ns = NOW_NS

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def emitter(settings: Settings, broker: MemoryBroker) -> Iterator[AuditProducer]:
    made = AuditProducer(settings, "github", "one", producer_factory=broker.connect, clock=Clock())
    yield made
    broker.away, broker.failing, broker.capacity = False, None, 100_000
    with suppress(TransientError):  # a test that made records fail has looked at that itself
        made.close(5)


def draft(**given: object) -> dict[str, object]:
    return {
        "event_name": "test.act",
        "tenant": "acme",
        "event_type": "API_CALL",
        "result": "SUCCESS",
        "effect": "EFFECTIVE",
        "actor": {"kind": "USER", "id": "4711", "display": "ada-lovelace"},
        **given,
    }


def event_of(record: MemoryRecord) -> dict[str, Any]:
    return AUDIT_EVENT.decode(record.value)


def settle(emitter: AuditProducer) -> None:
    """Until all it has, its own statements included, is acknowledged."""
    wait_until(lambda: not emitter.counts.waiting, what="all acknowledged")


def leave_one_waiting(emitter: AuditProducer, broker: MemoryBroker) -> None:
    """The broker is away from now on, and the producer has one record for it."""
    settle(emitter)
    broker.away = True
    emitter.emit(draft())
    wait_until(lambda: broker.producers[0].queued == 1, what="a record in the producer")


def seen(broker: MemoryBroker) -> list[tuple[int, str]]:
    return [(e["emitter"]["seq"], e["event_name"]) for e in map(event_of, broker.records)]


# -- several at once


def test_several_are_handed_over_together_or_not_at_all(settings: Settings, broker: MemoryBroker) -> None:
    broker.away = True
    make = partial(AuditProducer, settings, "github", "one", producer_factory=broker.connect)
    emitter = make(handover=lambda: Handover(wait=False, events=2), backlog=lambda: MemoryBacklog(records=1))
    admitted = [emitter.admit(draft(ticket=f"t-{n}")) for n in range(3)]
    handed = 0

    def refused() -> bool:
        nonlocal handed
        try:
            emitter.hand_over(admitted)
            handed += 1
        except TransientError:
            return True
        return False

    wait_until(refused, what="no room")
    broker.away = False
    emitter.close(60)
    found = [(e["event_id"], e["ticket"]) for e in map(event_of, broker.records) if e["ticket"]]
    assert found == [(one.event_id, f"t-{n}") for _ in range(handed) for n, one in enumerate(admitted)]


def test_what_is_only_admitted_is_neither_sent_nor_counted(emitter: AuditProducer, broker: MemoryBroker) -> None:
    emitter.admit(draft())
    with pytest.raises(ContractError, match="result"):
        emitter.admit(draft(result="GOOD"))
    emitter.close(60)
    assert [name for _, name in seen(broker)] == ["emitter.open", "emitter.close"]
    assert emitter.counts.refused == 0


# -- a run


def test_a_run_opens_with_number_0_counts_without_holes_and_closes_last(emitter: AuditProducer, broker: MemoryBroker) -> None:
    for _ in range(3):
        emitter.emit(draft())
    emitter.close(5)
    assert seen(broker) == [
        (0, "emitter.open"),
        (1, "test.act"),
        (2, "test.act"),
        (3, "test.act"),
        (4, "emitter.close"),
    ]
    assert emitter.counts.accepted == emitter.counts.acknowledged == 5
    assert {record.key for record in broker.records} == {"github/one"}


def test_every_record_carries_the_runs_signed_session_and_its_own_mac(
    emitter: AuditProducer, broker: MemoryBroker, settings: Settings
) -> None:
    emitter.emit(draft(traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"))
    emitter.close(5)
    assert settings.root_vkey is not None
    assert settings.certificates is not None
    keyring = load_keyring(settings.certificates, load_root(settings.root_vkey))
    pipeline = Keystore.open(f"file:{settings.certificates.parent / 'sealer'}").opener("pipeline")
    for record in broker.records:
        headers = dict(record.headers)
        event = event_of(record)
        session = verify_session(headers["st-session"], keyring, NOW_NS / 1e9)
        assert (session.run.source, session.run.instance, session.run.epoch) == (
            "github",
            "one",
            event["emitter"]["epoch"],
        )
        key = mac_key(unwrap_session_key(session, pipeline.open))
        assert headers["st-mac"] == record_mac(key, "audit.raw", event["emitter"]["seq"], record.value)
        assert headers["content-type"] == b"application/avro"
    assert [dict(r.headers).get("traceparent") for r in broker.records] == [
        None,
        b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01",
        None,
    ]
    opened = event_of(broker.records[0])["extension"]
    assert opened["schema"] == RUN_SESSION.sha256
    assert RUN_SESSION.header + opened["payload"] == dict(broker.records[0].headers)["st-session"]


def test_an_event_is_complete_and_redacted_when_it_leaves(emitter: AuditProducer, broker: MemoryBroker) -> None:
    event_id = emitter.emit(
        draft(detail=SECRET, object_name="acme/" + SECRET, actor={"kind": "USER", "id": SECRET, "display": SECRET})
    )
    emitter.close(5)
    record = broker.records[1]
    event = event_of(record)
    assert event["event_id"] == event_id
    assert event["region"] == "eu-central"
    assert event["occurred_at"] == NOW_NS // 1000
    assert event["redaction"]["status"] == "APPLIED"
    assert event["detail"] is None
    assert event["actor"]["id"].startswith("hmac_")
    assert SECRET.encode() not in record.value


def test_threads_share_one_sequence(emitter: AuditProducer, broker: MemoryBroker) -> None:
    made: list[bytes] = []
    threads = [threading.Thread(target=lambda: made.extend(emitter.emit(draft()) for _ in range(100))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    emitter.close(10)
    assert [number for number, _ in seen(broker)] == list(range(802))
    assert len(set(made)) == 800


# -- refusals

REFUSED = {
    "an unknown field": ("", draft(nickname=SECRET)),
    "a field that is not the caller's": ("region", draft(region=SECRET)),
    "a tenant that is not the emitter's": ("tenant", draft(tenant="umbrella")),
    "a tenant that is a list": ("tenant", draft(tenant=["acme"])),
    "no tenant": ("tenant", {k: v for k, v in draft().items() if k != "tenant"}),
    "the emitter's own event names": ("event_name", draft(event_name="emitter.close")),
    "an event name against its pattern": ("event_name", draft(event_name=SECRET + " ")),
    "an identifier against its pattern": ("object.id", draft(object={"type": "thing", "id": SECRET + "@x"})),
    "an unregistered extension": ("extension.schema", draft(extension={"schema": b"\0" * 32, "payload": b""})),
}


@pytest.mark.parametrize(("field", "refused"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refused_event_names_its_field_and_takes_no_number(
    emitter: AuditProducer, broker: MemoryBroker, field: str, refused: dict[str, object]
) -> None:
    with pytest.raises(ContractError) as caught:
        emitter.emit(refused)
    assert caught.value.field == field
    assert SECRET not in str(caught.value)
    emitter.emit(draft())
    emitter.close(5)
    assert seen(broker) == [(0, "emitter.open"), (1, "emitter.refused"), (2, "test.act"), (3, "emitter.close")]
    assert emitter.counts.refused == 1
    assert event_of(broker.records[1])["object"] == {"type": "field", "id": field or "event"}
    assert not any(SECRET.encode() in record.value for record in broker.records)


@pytest.mark.parametrize(
    "refused",
    [
        draft(changes=[{"op": "ADD", "path": "/x", "before": None, "after": "x" * 8000}] * 150),
        draft(object_name="lone \ud800 surrogate"),
        draft(result="SPLENDID"),
        draft(actor=None),
        draft(occurred_at="yesterday"),
        draft(authorization={"method": "NONE"}),
    ],
    ids=[
        "too large",
        "a lone surrogate",
        "an unknown symbol",
        "no actor",
        "a time of the wrong type",
        "an incomplete record",
    ],
)
def test_what_cannot_be_encoded_is_refused_and_takes_no_number(
    emitter: AuditProducer, broker: MemoryBroker, refused: dict[str, object]
) -> None:
    with pytest.raises(ContractError):
        emitter.emit(refused)
    emitter.close(5)
    assert seen(broker) == [(0, "emitter.open"), (1, "emitter.refused"), (2, "emitter.close")]


def test_refusals_and_failures_are_logged_without_a_value(
    emitter: AuditProducer, broker: MemoryBroker, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ContractError):
        emitter.emit(draft(event_name=SECRET + " "))
    broker.failing = "MSG_SIZE_TOO_LARGE"
    emitter.emit(draft(object_name=SECRET))
    wait_until(lambda: emitter.counts.problem, what="a failed delivery")
    printed = capfd.readouterr()
    assert "event_name" in printed.out + printed.err
    assert SECRET not in printed.out + printed.err


# -- back-pressure and loss


def small(settings: Settings, broker: MemoryBroker, *, wait: bool = True) -> AuditProducer:
    """An emitter with room for three events, apart from what its sender has in hand."""
    made = AuditProducer(
        settings,
        "github",
        "one",
        producer_factory=broker.connect,
        clock=Clock(),
        handover=lambda: Handover(wait=wait, events=3),
        backlog=lambda: MemoryBacklog(records=4),
    )
    settle(made)
    return made


def test_a_full_queue_makes_the_caller_wait_and_drops_nothing(settings: Settings, broker: MemoryBroker) -> None:
    emitter = small(settings, broker)
    broker.away = True
    caller = threading.Thread(target=lambda: [emitter.emit(draft()) for _ in range(100)])
    caller.start()
    wait_until(lambda: emitter.counts.waiting >= 6, what="a full queue")
    assert caller.is_alive()
    assert emitter.counts.accepted < 30
    broker.away = False
    caller.join(10)
    emitter.close(5)
    assert [number for number, _ in seen(broker)] == list(range(102))


def test_without_room_a_caller_is_refused_if_it_is_not_to_wait(settings: Settings, broker: MemoryBroker) -> None:
    emitter = small(settings, broker, wait=False)
    broker.away = True
    taken = 0

    def refused() -> str:
        nonlocal taken
        try:
            while taken < 100:
                emitter.emit(draft())
                taken += 1
        except TransientError as error:
            return str(error)
        return ""

    assert "no room for the event; it was not handed over" in refused()
    assert 3 <= taken < 100
    broker.away = False
    emitter.close(5)
    assert [name for _, name in seen(broker)].count("test.act") == taken


def test_close_reports_what_was_not_acknowledged_and_may_be_tried_again(emitter: AuditProducer, broker: MemoryBroker) -> None:
    settle(emitter)
    broker.away = True
    emitter.emit(draft())
    with pytest.raises(TransientError, match="2 of 3 events not acknowledged"):
        emitter.close(0.3)
    broker.away = False
    emitter.close(5)
    assert seen(broker)[-1] == (2, "emitter.close")
    with pytest.raises(TransientError, match="closed"):
        emitter.emit(draft())


def test_close_frees_a_caller_that_waits_for_a_full_queue(settings: Settings, broker: MemoryBroker) -> None:
    emitter = small(settings, broker)
    broker.away = True
    outcome: list[str] = []

    def call() -> None:
        try:
            for _ in range(100):
                emitter.emit(draft())
        except TransientError as error:
            outcome.append(str(error))

    caller = threading.Thread(target=call)
    caller.start()
    wait_until(lambda: emitter.counts.waiting >= 6, what="a full queue")
    with pytest.raises(TransientError, match="not acknowledged"):
        emitter.close(0.1)
    caller.join(5)
    assert outcome
    assert "not handed over" in outcome[0]
    broker.away = False
    emitter.close(5)


def test_what_kafka_refuses_is_sent_again_under_its_number_until_kafka_has_it(
    emitter: AuditProducer, broker: MemoryBroker
) -> None:
    settle(emitter)
    broker.failing = "TOPIC_AUTHORIZATION_FAILED"
    for _ in range(3):
        emitter.emit(draft())
    assert not emitter.await_broker(60)  # at once: nothing that waiting alone would mend
    assert emitter.counts.problem == "TOPIC_AUTHORIZATION_FAILED"
    with pytest.raises(TransientError, match="TOPIC_AUTHORIZATION_FAILED"):
        emitter.close(0.3)
    broker.failing = None
    emitter.close(10)
    assert emitter.counts.problem is None
    assert [number for number, _ in seen(broker)] == list(range(5))


def test_a_lost_producer_is_replaced_and_the_run_goes_on_without_a_hole(emitter: AuditProducer, broker: MemoryBroker) -> None:
    settle(emitter)
    broker.away = True
    for _ in range(3):
        emitter.emit(draft())
    wait_until(lambda: broker.producers[0].queued >= 1, what="records in the producer")
    broker.lose()
    broker.away = False
    emitter.emit(draft())
    emitter.close(10)
    assert [number for number, _ in seen(broker)] == list(range(6))
    assert len({event_of(record)["emitter"]["epoch"] for record in broker.records}) == 1
    assert len(broker.producers) == 2


def test_a_producer_that_is_lost_while_its_records_wait_is_replaced_though_nothing_else_comes(
    emitter: AuditProducer, broker: MemoryBroker
) -> None:
    leave_one_waiting(emitter, broker)
    broker.lose()
    wait_until(lambda: len(broker.producers) == 2, what="another producer")
    broker.away = False
    settle(emitter)
    assert [number for number, _ in seen(broker)] == [0, 1]


def test_what_comes_while_a_batch_is_on_its_way_is_produced_once_that_has_landed(
    emitter: AuditProducer, broker: MemoryBroker
) -> None:
    """One that is due beside it would have the client library ask for the answer without a pause."""
    leave_one_waiting(emitter, broker)
    time.sleep(2 * GATHER_S)
    for _ in range(50):
        emitter.emit(draft())
    time.sleep(0.3)
    assert (broker.producers[0].queued, emitter.counts.waiting) == (1, 51)
    broker.away = False
    settle(emitter)
    assert [number for number, _ in seen(broker)] == list(range(52))


def test_records_that_land_on_another_partition_end_the_run(emitter: AuditProducer, broker: MemoryBroker) -> None:
    settle(emitter)
    broker.partition = 1
    emitter.emit(draft())
    settle(emitter)
    emitter.emit(draft())
    emitter.close(5)
    assert seen(broker) == [
        (0, "emitter.open"),
        (1, "test.act"),
        (0, "emitter.open"),
        (1, "test.act"),
        (2, "emitter.close"),
    ]


def test_an_idle_emitter_pulses_and_a_busy_one_does_not(settings: Settings, broker: MemoryBroker) -> None:
    clock = Clock()
    with AuditProducer(settings, "github", "one", producer_factory=broker.connect, clock=clock, pulse_s=15) as emitter:
        emitter.emit(draft())
        emitter.await_broker(5)
        clock.now_ns += 14 * 10**9
        emitter.emit(draft())
        clock.now_ns += 14 * 10**9
        emitter.emit(draft())
        emitter.await_broker(5)
        assert "emitter.pulse" not in [name for _, name in seen(broker)]
        clock.now_ns += 16 * 10**9
        wait_until(lambda: (4, "emitter.pulse") in seen(broker), what="a pulse")


# -- forks


def _emit_and_close(emitter: AuditProducer) -> int:
    """In a child: how many records of its own run were acknowledged."""
    emitter.emit(draft())
    emitter.close(20)
    return emitter.counts.acknowledged


def _in_child(act: Callable[[], object]) -> dict[str, Any]:
    """What `act` returns, done in a forked child, which then ends at once."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = {"returned": act()}
        except BaseException as error:
            answer = {"raised": repr(error)}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = json.loads(pipe.read())
    os.waitpid(child, 0)
    return dict(answer)


def test_a_forked_child_begins_a_run_of_its_own(emitter: AuditProducer, broker: MemoryBroker) -> None:
    emitter.emit(draft())
    emitter.await_broker(5)
    before = len(broker.records)

    def act() -> object:
        emitter.emit(draft())
        emitter.emit(draft())
        emitter.close(5)
        return [(e["emitter"]["epoch"].hex(), e["emitter"]["seq"]) for e in map(event_of, broker.records[before:])]

    answer = _in_child(act)
    assert "raised" not in answer, answer
    (epoch,) = {epoch for epoch, _ in answer["returned"]}
    assert [number for _, number in answer["returned"]] == [0, 1, 2, 3]
    assert epoch != event_of(broker.records[0])["emitter"]["epoch"].hex()
    emitter.emit(draft())
    emitter.close(5)
    assert [number for number, _ in seen(broker)] == [0, 1, 2, 3]


def test_a_forked_child_has_random_bits_of_its_own(emitter: AuditProducer) -> None:
    emitter.emit(draft())
    answer = _in_child(lambda: [emitter.emit(draft()).hex()[-8:] for _ in range(50)])
    assert len(answer["returned"]) == 50
    assert not {emitter.emit(draft()).hex()[-8:] for _ in range(50)} & set(answer["returned"])


def test_a_child_forked_while_another_thread_emits_is_not_stuck(emitter: AuditProducer) -> None:
    stop = threading.Event()

    def emit_on() -> None:
        while not stop.is_set():
            emitter.emit(draft())

    busy = threading.Thread(target=emit_on)
    busy.start()
    try:
        for _ in range(5):
            answer = _in_child(lambda: _emit_and_close(emitter))
            assert answer == {"returned": 3}
    finally:
        stop.set()
        busy.join()


def test_a_forked_child_whose_events_are_all_refused_does_not_hang(settings: Settings, broker: MemoryBroker) -> None:
    emitter = AuditProducer(
        settings, "github", "one", producer_factory=broker.connect, handover=lambda: Handover(events=3), clock=Clock()
    )

    def refuse_many() -> int:
        for _ in range(20):
            with suppress(ContractError):
                emitter.emit(draft(event_name="No"))
        emitter.close(10)
        return emitter.counts.refused

    assert _in_child(refuse_many) == {"returned": 20}
    emitter.close(5)


def test_a_signals_handler_may_emit_and_count_while_its_thread_emits(emitter: AuditProducer, broker: MemoryBroker) -> None:
    handled: list[int] = []

    def handle(*_: object) -> None:
        emitter.emit(draft())
        handled.append(emitter.counts.accepted)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        emitted = 0
        while len(handled) < 200:
            emitter.emit(draft())
            emitted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    emitter.close(20)
    assert [number for number, _ in seen(broker)] == list(range(emitted + len(handled) + 2))


class LastMoment(Handover):
    """Takes an event over and closes between the sender's last look and its end."""

    event: Prepared | None = None

    def take(self, most: int, wait_s: float) -> list[Prepared]:
        taken = super().take(most, wait_s)
        if not taken and self.event is not None:
            late, self.event = self.event, None
            self.put(late)
            self.close()
        return taken


def test_what_is_handed_over_at_the_last_moment_comes_before_the_close(settings: Settings, broker: MemoryBroker) -> None:
    made = LastMoment()
    emitter = AuditProducer(settings, "github", "one", producer_factory=broker.connect, handover=lambda: made, clock=Clock())
    settle(emitter)
    _, made.event = emitter._prepare(draft())
    wait_until(lambda: made.event is None, what="the last moment")
    emitter.close(10)
    assert seen(broker) == [(0, "emitter.open"), (1, "test.act"), (2, "emitter.close")]


def test_a_close_that_could_not_be_stated_is_stated_when_it_can(
    emitter: AuditProducer, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(emitter)
    works, failures = emitter._own, iter([ContractError("occurred_at", "a clock of the last century")])

    def once(statement: Any) -> Prepared:
        for failure in failures:
            raise failure
        return works(statement)

    monkeypatch.setattr(emitter, "_own", once)
    emitter.close(20)
    assert seen(broker) == [(0, "emitter.open"), (1, "emitter.close")]


# -- identity


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"keys": ""}, "keys"),
        ({"root_vkey": None}, "root_vkey"),
        ({"certificates": None}, "certificates"),
    ],
)
def test_a_missing_setting_is_named(settings: Settings, changed: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Identity(settings.model_copy(update=changed), "github", "one")


def test_a_source_without_its_key_a_bad_instance_and_no_valid_pipeline_key_are_configuration_errors(
    settings: Settings, broker: MemoryBroker
) -> None:
    with pytest.raises(ConfigError, match="source-chat"):
        AuditProducer(settings, "chat", "one", producer_factory=broker.connect)
    with pytest.raises(ConfigError, match="instance"):
        AuditProducer(settings, "github", "One/Two", producer_factory=broker.connect)
    with pytest.raises(ConfigError, match="pipeline"):
        AuditProducer(settings, "github", "one", producer_factory=broker.connect, clock=lambda: NOW_NS + 10**18)


# -- UUIDv7


@given(st.lists(st.integers(-5, 5), max_size=200), st.binary(min_size=1, max_size=10))
def test_identifiers_rise_whatever_the_clock_does(steps: list[int], noise: bytes) -> None:
    times = iter([NOW_NS, *(NOW_NS + step * 10**6 for step in itertools.accumulate(steps))])
    make = Uuid7(lambda: next(times), lambda size: (noise * size)[:size])
    made = [make() for _ in range(len(steps) + 1)]
    assert made == sorted(set(made))
    for identifier in made:
        assert len(identifier) == 16
        assert identifier[6] >> 4 == 7
        assert identifier[8] >> 6 == 0b10


def test_no_random_bits_are_given_twice() -> None:
    words, times = itertools.count(1), itertools.count(NOW_NS, 10**6)

    def random(size: int) -> bytes:
        return b"".join(next(words).to_bytes(4, "big") for _ in range(size // 4))

    standing, going = Uuid7(lambda: NOW_NS, random), Uuid7(lambda: next(times), random)
    made = [make() for _ in range(1000) for make in (standing, going)]
    assert len({identifier[12:] for identifier in made}) == len(made)
    seeds = {identifier[6:12] for identifier in made[1::2]}
    assert len(seeds) == len(made) // 2


def test_an_identifier_begins_with_its_millisecond() -> None:
    # RFC 9562, appendix A.6: Tuesday, February 22, 2022 2:22:22.00 PM GMT-05:00 = 017f22e279b0
    make = Uuid7(lambda: 1_645_557_742_000 * 10**6, os.urandom)
    assert make().hex().startswith("017f22e279b07")


# -- the same contract for the record producer in memory and on Kafka


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.servers)])
def connect(request: pytest.FixtureRequest) -> Callable[[Callable[[int, str | None], None]], RecordProducer]:
    if request.param == "memory":
        broker = MemoryBroker(capacity=5)
        return lambda report: broker.connect(Settings.load(), "audit.raw", "github/one", report)
    mine = request.getfixturevalue("deployment").settings("github")
    topic = f"{mine.topic_prefix}audit.raw"
    return lambda report: IdempotentProducer(
        mine, topic, "github/one", report, **{"queue.buffering.max.messages": 5, "linger.ms": 2000}
    )


def test_a_record_producer_refuses_when_full_and_reports_in_order(
    connect: Callable[[Callable[[int, str | None], None]], RecordProducer],
) -> None:
    reports: list[tuple[int, str | None]] = []
    producer = connect(lambda partition, problem: reports.append((partition, problem)))
    taken = 0
    while producer.produce(b"value", [("st-mac", b"x")]):
        taken += 1
        assert taken <= 5
    assert taken == 5
    assert reports == []  # reports come from poll, flush and discard only
    while producer.flush(5):
        pass
    assert len(reports) == 5
    assert len({partition for partition, _ in reports}) == 1
    assert {problem for _, problem in reports} == {None}
    assert producer.produce(b"value", [])
    producer.discard()
    assert len(reports) == 6


# -- on a real broker


def _raw(deployment: Deployment) -> list[tuple[int | None, bytes | None, bytes, dict[str, str | bytes | None]]]:
    """Everything on the raw topic: partition, key, value, headers."""
    mine = deployment.settings("admin")
    topic = f"{mine.topic_prefix}audit.raw"
    consumer = Consumer(
        {**client_config(mine), "group.id": "unused", "enable.partition.eof": True, "enable.auto.commit": False}
    )
    partitions = list(consumer.list_topics(topic, 10).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    found = []
    ended: set[int | None] = set()
    while len(ended) < len(partitions):
        message = consumer.poll(10)
        assert message is not None, "the broker did not answer"
        if message.error():
            ended.add(message.partition())
            continue
        found.append((message.partition(), message.key(), message.value() or b"", dict(message.headers() or [])))
    consumer.close()
    return found


def test_a_run_lands_in_order_on_one_partition_of_kafka(deployment: Deployment) -> None:
    with AuditProducer(deployment.settings("github"), "github", "one") as emitter:
        for _ in range(2000):
            emitter.emit(draft())
        assert emitter.await_broker(30)
    found = _raw(deployment)
    assert len({partition for partition, *_ in found}) == 1
    assert {key for _, key, *_ in found} == {b"github/one"}
    assert [AUDIT_EVENT.decode(value)["emitter"]["seq"] for _, _, value, _ in found] == list(range(2002))
    assert all(set(headers) == {"st-session", "st-mac", "content-type"} for *_, headers in found)


def test_parent_and_forked_child_both_reach_kafka(deployment: Deployment) -> None:
    with AuditProducer(deployment.settings("github"), "github", "one") as emitter:
        emitter.emit(draft())
        answer = _in_child(lambda: _emit_and_close(emitter))
        assert answer == {"returned": 3}
        emitter.emit(draft())
    runs: dict[bytes, list[int]] = {}
    for _, _, value, _ in _raw(deployment):
        event = AUDIT_EVENT.decode(value)
        runs.setdefault(event["emitter"]["epoch"], []).append(event["emitter"]["seq"])
    assert sorted(runs.values()) == [[0, 1, 2], [0, 1, 2, 3]]


def test_without_the_right_to_write_close_says_how_many_events_failed(deployment: Deployment) -> None:
    mine = deployment.settings("github")
    theirs = deployment.settings("sink-archive")  # Kafka knows it; it may not write
    wrong = mine.model_copy(update={"kafka_certificate": theirs.kafka_certificate, "kafka_key": theirs.kafka_key})
    emitter = AuditProducer(wrong, "github", "one")

    def emit_and_close() -> None:
        emitter.emit(draft())  # refuses at once if the brokers have said so by then, else the close reports it
        emitter.close(3)

    with pytest.raises((ConfigError, TransientError), match=r"3 of 3 events not acknowledged|TOPIC_AUTHORIZATION_FAILED"):
        emit_and_close()


@pytest.mark.parametrize("lost", [KafkaException("fatal"), SystemError("returned NULL without setting an exception")])
def test_a_fatal_error_that_the_library_raises_while_it_reports_ends_no_emitter(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, lost: Exception
) -> None:
    class Fatal:
        """librdkafka's producer that raises as it does once it is lost."""

        def __init__(self, inner: object) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def __len__(self) -> int:
            return 7

        def poll(self, _: float) -> int:
            raise lost

        flush = poll

    made = IdempotentProducer.connect(deployment.settings("github"), "topic", "key", lambda *_: None)
    monkeypatch.setattr(made, "_producer", Fatal(made._producer))
    with pytest.raises(ProducerLostError):
        made.poll(0.1)
    assert made.flush(0.1) == 7
    made.discard()


def test_brokers_that_are_away_do_not_stop_the_application(deployment: Deployment) -> None:
    emitter = AuditProducer(deployment.settings("github", kafka_bootstrap="127.0.0.1:1"), "github", "one")
    emitter.emit(draft())
    assert emitter.counts.accepted == 2
    with pytest.raises(TransientError, match="3 of 3 events not acknowledged by Kafka"):
        emitter.close(0.5)
