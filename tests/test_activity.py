"""What the sealer says of a transaction in `audit.activity`: counts that add up to what was sealed, within the limit."""

from __future__ import annotations

from typing import Any

import pytest

from processors import activity as activity_module
from processors.activity import ACTIVITY, MAX_ROWS, Activity
from processors.pipeline import ChainState
from processors.records import Batch, RawRecord
from processors.sequence import MAX_HOLES, RunState
from schemas import catalogue
from sealtrail.seal import Kind, Reason
from sealtrail.session import Run
from tests.test_pipeline import CHAIN, HASHED, NOW_US, Speaker, World, fresh, seal_all, source, world

__all__ = ["source", "world"]  # fixtures

MESSAGE = {"stage": "SENT", "type": "direct", "recipient_group": None, "recipient_count": 12}


def told(values: list[bytes]) -> list[dict[str, Any]]:
    return [ACTIVITY.decode(value) for value in values]


def test_a_transaction_says_who_was_heard_and_who_did_what(world: World, source: Speaker) -> None:
    records = [
        source.record(0),
        source.record(1),
        source.record(2, result="DENIED"),
        source.record(3, result="DENIED"),
        source.record(4, event_type="MESSAGE", message=MESSAGE, correlation_id="m-1"),
        source.record(5, event_type="MESSAGE", message=MESSAGE, correlation_id="m-1"),
    ]
    state, outputs = seal_all(world, records)
    (only,) = told(outputs.activity)
    run = source.run.run
    assert (only["chain"], only["first_seq"], only["count"], only["part"]) == (CHAIN, 0, 6, 0)
    assert only["sealed_at"] == state.head.sealed_at_us
    heard = {
        "source": run.source,
        "instance": run.instance,
        "epoch": run.epoch,
        "last_number": 5,
        "missing": 0,
        "closed": False,
    }
    assert only["emitters"] == [{**heard, "events": 6, "refused": 0}]
    assert sum(row["events"] for row in only["actors"]) == 6
    assert [row["events"] for row in only["actors"] if row["result"] == "DENIED"] == [2]
    assert {row["actor"] for row in only["actors"]} == {HASHED}
    lineage = {"correlation_id": "m-1", "stage": "SENT", "events": 2, "recipients": 24}
    assert [{k: row[k] for k in lineage} for row in only["lineages"]] == [lineage]


def test_a_heartbeat_and_the_genesis_move_the_clock_of_the_chain(world: World) -> None:
    state, outputs = world.pipeline.genesis(fresh(), NOW_US, bytes(16), 2)
    (genesis,) = told(outputs.activity)
    assert (genesis["first_seq"], genesis["count"], genesis["sealed_at"], genesis["emitters"]) == (0, 1, NOW_US, [])
    _, outputs = world.pipeline.heartbeat(state, NOW_US + 15_000_000)
    (beat,) = told(outputs.activity)
    assert (beat["first_seq"], beat["count"], beat["sealed_at"], beat["actors"]) == (1, 1, NOW_US + 15_000_000, [])


def test_a_refused_event_is_a_sign_of_life_and_no_act_and_an_old_record_again_is_neither(world: World, source: Speaker) -> None:
    state, _ = seal_all(world, [source.record(0), source.record(1)])
    refused = source.record(2, region="elsewhere")
    _, outputs = seal_all(world, [refused, source.record(1)], state)
    assert outputs.counts[Kind.DUPLICATE, Reason.NONE] == 1
    (only,) = told(outputs.activity)
    (heard,) = only["emitters"]
    assert (heard["events"], heard["refused"], heard["last_number"]) == (0, 1, 2)
    assert only["actors"] == []


def test_records_that_are_not_authentic_are_nobodys_sign_of_life(world: World, source: Speaker) -> None:
    forged = source.record(1, headers=())
    _, outputs = seal_all(world, [forged])
    (only,) = told(outputs.activity)
    assert (only["count"], only["emitters"], only["actors"]) == (1, [], [])


def test_numbers_that_were_not_seen_are_counted_until_they_come(world: World, source: Speaker) -> None:
    state, outputs = seal_all(world, [source.record(0), source.record(4)])
    assert [row["missing"] for row in told(outputs.activity)[0]["emitters"]] == [3]
    _, outputs = seal_all(world, [source.record(2), source.record(1), source.record(3)], state)
    assert [row["missing"] for row in told(outputs.activity)[0]["emitters"]] == [0]


def test_a_run_that_ends_says_so(world: World, source: Speaker) -> None:
    ending = source.record(1, event_name="emitter.close", event_type="EMITTER", tenant="@deployment")
    _, outputs = seal_all(world, [source.record(0), ending])
    assert [row["closed"] for row in told(outputs.activity)[0]["emitters"]] == [True]


def test_a_batch_that_seals_nothing_says_nothing(world: World) -> None:
    state = ChainState(fresh().head)
    after, outputs = world.pipeline.seal_batch(state, Batch(()), NOW_US)
    assert (after.head, outputs.activity) == (state.head, [])


def test_more_rows_than_a_record_takes_go_to_further_parts_and_none_is_lost(
    world: World, source: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity_module, "MAX_ROWS", 4)
    records: list[RawRecord] = [source.record(0)]
    records += [source.record(n, event_name=f"github.push.n{n}", correlation_id=f"c-{n}", message=MESSAGE) for n in range(1, 8)]
    _, outputs = seal_all(world, records)
    parts = told(outputs.activity)
    assert [part["part"] for part in parts] == [0, 1, 2, 3]
    assert all(len(p["emitters"]) + len(p["actors"]) + len(p["lineages"]) <= 4 for p in parts)
    assert {(p["first_seq"], p["count"]) for p in parts} == {(0, 8)}
    assert [sum(len(p[rows]) for p in parts) for rows in ("emitters", "actors", "lineages")] == [1, 8, 7]


def test_the_largest_record_is_below_the_limit_of_its_topic() -> None:
    limit = catalogue.load().topic("audit.activity").max_message_bytes
    huge, run = Activity(), Run("s" * 128, "i" * 128, bytes(16))
    state = RunState(bytes(16), 1 << 62, ((0, 1),) * MAX_HOLES, closed=True)
    keys = [number.to_bytes(4, "big") for number in range(MAX_ROWS)]
    for key in keys:
        huge.heard(key, run, refused=False)
    (emitters,) = huge.records(
        dict.fromkeys(keys, state), chain="c" * 300, first_seq=1 << 62, count=1 << 62, sealed_at_us=1 << 62
    )
    acts = Activity()
    for number in range(MAX_ROWS):
        name = f"{number:0128d}"
        acts.event(
            {"tenant": "t" * 63, "actor": {"id": HASHED}, "event_name": name, "result": "SUCCESS"}
            | {"message": None, "correlation_id": None}
        )
    (actors,) = acts.records({}, chain="c" * 300, first_seq=1 << 62, count=1 << 62, sealed_at_us=1 << 62)
    rows = Activity()
    for number in range(MAX_ROWS):
        message = {"stage": "DELIVERED", "recipient_count": 1 << 31}
        event = {"tenant": "t" * 63, "actor": {"id": HASHED}, "event_name": "n", "result": "SUCCESS"}
        rows.event({**event, "message": message, "correlation_id": f"{number:0256d}"})
    lineages = rows.records({}, chain="c" * 300, first_seq=1 << 62, count=1 << 62, sealed_at_us=1 << 62)
    assert len(lineages) == 2  # and one more: the acts' row
    for value in (emitters, actors, *lineages):
        assert len(value) < MAX_ROWS * 512 + 1024 < limit
