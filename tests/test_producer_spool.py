"""An emitter with a spool: what `await_spool` has said arrives, in order, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from producers.audit import AuditProducer
from producers.memory import MemoryBroker
from producers.spool import Spool
from schemas.registry import AUDIT_EVENT
from schemas.settings import Settings
from sealtrail.errors import ConfigError, EvidenceError, TransientError
from tests.conftest import wait_until
from tests.test_chat import source_settings
from tests.test_producer import draft


def settings_in(folder: Path, **given: Any) -> Settings:
    """A connector's, with a spool; the keys are made once."""
    return source_settings(folder, "github", **{"spool": folder / "spool", **given})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path)


def emitter_of(settings: Settings, broker: MemoryBroker) -> AuditProducer:
    return AuditProducer(settings, "github", "one", producer_factory=broker.connect)


def runs(broker: MemoryBroker) -> list[list[tuple[int, str]]]:
    """(number, ticket or name) of what arrived, in order, a list for each run; a repeat stands there once."""
    found: dict[bytes, dict[int, str]] = {}
    for record in broker.records:
        event: dict[str, Any] = AUDIT_EVENT.decode(record.value)
        run = found.setdefault(event["emitter"]["epoch"], {})
        run.setdefault(event["emitter"]["seq"], event["ticket"] or event["event_name"])
    return [list(run.items()) for run in found.values()]


def test_what_is_in_the_spool_arrives_though_the_process_ended_with_the_broker_away(settings: Settings) -> None:
    away = MemoryBroker(away=True)
    with emitter_of(settings, away) as emitter:
        for number in range(1200):
            emitter.emit(draft(ticket=f"t-{number}"))
        assert emitter.await_spool(30)
        assert emitter.counts.spooled == 1201
        assert not emitter.await_broker(0.05)
        emitter.close(0.3)  # nothing is lost, so nothing is raised
    assert away.records == []
    broker = MemoryBroker()
    with emitter_of(settings, broker) as emitter:
        emitter.emit(draft(ticket="new"))
        assert emitter.await_broker(30)
    old, new = runs(broker)
    wanted = ["emitter.open", *(f"t-{n}" for n in range(1200)), "emitter.close"]
    assert old == list(enumerate(wanted))
    assert new == [(0, "emitter.open"), (1, "new"), (2, "emitter.close")]
    assert emitter.counts.accepted == emitter.counts.acknowledged == 3  # the old ones were the other process's to count
    again = MemoryBroker()
    emitter_of(settings, again).close(10)
    assert [len(run) for run in runs(again)] == [2]  # all that Kafka had was let go of


def test_records_go_to_kafka_through_the_spool_and_leave_it(settings: Settings) -> None:
    broker = MemoryBroker()
    with emitter_of(settings, broker) as emitter:
        for number in range(3000):
            emitter.emit(draft(ticket=f"t-{number}"))
        assert emitter.await_broker(30)
    assert [number for number, _ in runs(broker)[0]] == list(range(3002))
    assert len(broker.records) == 3002


def test_a_lost_producer_sends_again_from_the_spool(settings: Settings) -> None:
    broker = MemoryBroker(away=True)
    with emitter_of(settings, broker) as emitter:
        for number in range(100):
            emitter.emit(draft(ticket=f"t-{number}"))
        assert emitter.await_spool(30)
        wait_until(lambda: broker.producers[0].queued, what="records in the producer")
        broker.lose()
        broker.away = False
        emitter.emit(draft(ticket="t-100"))
        assert emitter.await_broker(30)
    (run,) = runs(broker)
    assert [number for number, _ in run] == list(range(103))


def test_a_full_spool_refuses_where_it_shall_and_takes_again_when_kafka_has_some(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, spool_mib=8, when_full="refuse")
    broker = MemoryBroker(away=True)
    emitter = emitter_of(settings, broker)
    taken = 0

    def refused() -> bool:
        nonlocal taken
        try:
            for _ in range(1000):
                emitter.emit(draft(ticket=f"t-{taken}"))
                taken += 1
        except TransientError as error:
            return "not handed over" in str(error)
        return False

    wait_until(refused, what="a full spool")
    broker.away = False
    wait_until(lambda: not refused(), what="room again")
    emitter.close(30)
    (run,) = runs(broker)
    assert [what for _, what in run] == ["emitter.open", *(f"t-{n}" for n in range(taken)), "emitter.close"]


def test_large_events_never_make_a_batch_that_the_spool_cannot_hold(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, spool_mib=8)
    broker = MemoryBroker(away=True)
    emitter = emitter_of(settings, broker)
    large = [{"op": "ADD", "path": "/x", "before": None, "after": "x" * 8000}] * 60
    caller = threading.Thread(target=lambda: [emitter.emit(draft(ticket=f"t-{n}", changes=large)) for n in range(60)])
    caller.start()
    wait_until(lambda: emitter.counts.spooled > 10 and broker.producers[0].queued > 0, what="a full spool")
    broker.away = False
    caller.join(60)
    emitter.close(60)
    (run,) = runs(broker)
    assert [number for number, _ in run] == list(range(62))


def test_nothing_of_an_event_can_be_read_in_the_spools_files(settings: Settings, tmp_path: Path) -> None:
    with emitter_of(settings, MemoryBroker(away=True)) as emitter:
        emitter.emit(draft(ticket="Zebulon-Quixote"))
        assert emitter.await_spool(10)
        stored = b"".join(path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file())
        emitter.close(0.1)
    assert len(stored) > 500
    assert b"Zebulon" not in stored
    assert b"test.act" not in stored


# -- processes that die

CHILD = """
import sys
from pathlib import Path
from producers.memory import MemoryBroker
from tests.test_producer_spool import draft, emitter_of, settings_in
emitter = emitter_of(settings_in(Path(sys.argv[1])), MemoryBroker(away=True))
number = 0
while True:
    for _ in range(50):
        emitter.emit(draft(ticket=f"t-{number}"))
        number += 1
    assert emitter.await_spool(60)
    print(number, flush=True)
"""


def test_a_process_killed_at_any_moment_loses_nothing_that_it_was_told_is_safe(settings: Settings, tmp_path: Path) -> None:
    told = []
    for rounds in (1, 3, 8):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        said = [int(child.stdout.readline()) for _ in range(rounds)]
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        told.append(said[-1])
    broker = MemoryBroker()
    emitter_of(settings, broker).close(60)
    *old, last = runs(broker)
    assert len(old) == 3
    for run, acknowledged in zip(old, told, strict=True):
        assert [what for _, what in run] == ["emitter.open", *(f"t-{n}" for n in range(len(run) - 1))]
        assert len(run) - 1 >= acknowledged
    assert [what for _, what in last] == ["emitter.open", "emitter.close"]


def test_a_forked_child_has_a_place_of_its_own_and_what_it_left_is_taken_over(settings: Settings) -> None:
    emitter = emitter_of(settings, MemoryBroker(away=True))
    emitter.emit(draft(ticket="parent"))
    assert emitter.await_spool(10)
    child = os.fork()
    if child == 0:
        try:
            emitter.emit(draft(ticket="child"))
            emitter.await_spool(10)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    emitter.emit(draft(ticket="again"))
    assert emitter.await_spool(10)
    emitter.close(0.1)
    broker = MemoryBroker()
    emitter_of(settings, broker).close(30)
    told = [[what for _, what in run] for run in runs(broker)]
    assert told == [
        ["emitter.open", "parent", "again", "emitter.close"],
        ["emitter.open", "child"],
        ["emitter.open", "emitter.close"],
    ]


def test_what_has_no_room_in_ones_own_place_stays_where_it_is_and_in_order(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, spool_mib=8)
    large = [{"op": "ADD", "path": "/x", "before": None, "after": "x" * 4500}]
    first, second = (emitter_of(settings, MemoryBroker(away=True)) for _ in range(2))
    for emitter, what in ((first, "a"), (second, "b")):
        for number in range(1000):
            emitter.emit(draft(ticket=f"{what}-{number}", changes=large))
        assert emitter.await_spool(60)
    second.close(0.1)
    first.close(0.1)
    broker, other = MemoryBroker(), MemoryBroker()
    one = emitter_of(settings, broker)
    two = emitter_of(settings, other)
    one.close(60)
    two.close(60)
    assert [what for _, what in runs(broker)[0]] == ["emitter.open", *(f"a-{n}" for n in range(1000)), "emitter.close"]
    assert [what for _, what in runs(other)[0]] == ["emitter.open", *(f"b-{n}" for n in range(1000)), "emitter.close"]


def test_a_place_of_another_key_stops_nobody_from_using_ones_own(settings: Settings, tmp_path: Path) -> None:
    place = tmp_path / "spool" / "github" / "one" / "1"
    Spool.open(place, bytes(32), "somebody/else").close()
    broker = MemoryBroker()
    emitter_of(settings, broker).close(30)
    assert [what for _, what in runs(broker)[0]] == ["emitter.open", "emitter.close"]


def test_a_start_that_fails_leaves_its_place_free(settings: Settings) -> None:
    with emitter_of(settings, MemoryBroker(away=True)) as emitter:
        emitter.emit(draft(ticket="kept"))
        assert emitter.await_spool(10)
        emitter.close(0.1)

    def fail(*_: object) -> Any:
        raise RuntimeError("no threads left")

    with pytest.raises(RuntimeError):
        AuditProducer(settings, "github", "one", producer_factory=fail)
    broker = MemoryBroker()
    emitter_of(settings, broker).close(30)
    assert "kept" in [what for _, what in runs(broker)[0]]


def test_what_can_be_read_of_a_spool_damaged_under_a_running_emitter_is_sent(settings: Settings, tmp_path: Path) -> None:
    broker = MemoryBroker(capacity=1, away=True)
    emitter = emitter_of(settings, broker)
    for batch in ("a", "b", "c"):
        emitter.emit(draft(ticket=batch))
        assert emitter.await_spool(10)
    (file,) = (tmp_path / "spool").rglob("*.spool")
    with file.open("r+b") as opened:  # in place: it is being read
        opened.seek(-20, os.SEEK_END)
        last = opened.read(1)
        opened.seek(-20, os.SEEK_END)
        opened.write(bytes([last[0] ^ 1]))
    broker.lose()
    broker.away, broker.capacity = False, 1000
    wait_until(lambda: emitter.counts.problem and ".spool" in emitter.counts.problem, what="the damage told")
    assert not emitter.await_broker(60)
    wait_until(lambda: len(broker.records) == 3, what="what lies before it")
    assert [what for _, what in runs(broker)[0]] == ["emitter.open", "a", "b"]
    emitter.close(0.1)  # what is damaged stays, and whoever opens the spool next is told
    with pytest.raises(EvidenceError, match=r"\.spool"):
        emitter_of(settings, broker)


# -- what is not as it should be


def test_without_a_spool_nobody_is_told_that_an_event_is_safe_in_it(tmp_path: Path) -> None:
    with emitter_of(settings_in(tmp_path, spool=None), MemoryBroker()) as emitter, pytest.raises(ConfigError, match="spool"):
        emitter.await_spool(1)


def test_a_spool_without_its_key_is_a_configuration_error(settings: Settings) -> None:
    Path(settings.keys.removeprefix("file:"), "spool-github.key").unlink()
    with pytest.raises(ConfigError, match="spool-github"):
        emitter_of(settings, MemoryBroker())


def _damaged(settings: Settings, tmp_path: Path) -> None:
    """A spool of two batches whose first one cannot be read."""
    with emitter_of(settings, MemoryBroker(away=True)) as emitter:
        for batch in ("a", "b"):
            emitter.emit(draft(ticket=batch))
            assert emitter.await_spool(10)
        emitter.close(0.1)
    (file,) = (tmp_path / "spool").rglob("*.spool")
    data = bytearray(file.read_bytes())
    data[200] ^= 1
    file.write_bytes(data)


def test_a_damaged_spool_is_told_and_set_aside_only_when_the_operator_says_so(settings: Settings, tmp_path: Path) -> None:
    _damaged(settings, tmp_path)
    with pytest.raises(EvidenceError, match=r"\.spool"):
        emitter_of(settings, MemoryBroker())
    broker = MemoryBroker()
    emitter_of(settings.model_copy(update={"spool_set_damaged_aside": True}), broker).close(30)
    old, new = runs(broker)
    assert [what for _, what in old][-2:] == ["b", "emitter.close"]
    assert [what for _, what in new] == ["emitter.open", "emitter.close"]
    assert list((tmp_path / "spool").rglob("*.damaged"))
