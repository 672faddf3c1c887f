"""The intake's parts without a socket: strict JSON, drafts from JSON, and one wait for many requests."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.intake.reading import DraftReader
from producers.intake.settling import Settling
from producers.intake.strict import DEPTH, parse, parse_lines
from schemas.evolution.released import full_name
from schemas.registry import packaged_registry
from sealtrail.errors import ContractError
from tests.strategies import GITHUB, events

REGISTRY = packaged_registry()
READ = DraftReader(REGISTRY)
EMITTERS_OWN = ("event_id", "emitter", "region", "redaction")

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=10,
)


def refusal(call: Callable[[], object]) -> ContractError | None:
    """Why it is refused; None if it is not. Any other exception is the test's failure."""
    try:
        call()
    except ContractError as error:
        return error
    return None


# -- strict JSON


@given(DOCUMENTS)
def test_what_json_says_is_read_as_it_is(document: object) -> None:
    assert parse(json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")) == document


@given(st.binary() | st.text(alphabet='[]{}",:0123456789eE+-.\\untrlfa ').map(str.encode))
def test_whatever_is_sent_is_a_document_or_refused_without_a_cause_that_shows_it(data: bytes) -> None:
    error = refusal(lambda: parse(data))
    assert error is None or (error.field == "" and error.__cause__ is None)
    assert error is None or error.__context__ is None or error.__suppress_context__


def test_as_deep_as_may_be_is_read() -> None:
    document: Any = parse(b"[" * DEPTH + b"]" * DEPTH)
    for _ in range(DEPTH - 1):
        (document,) = document
    assert document == []


def test_a_line_that_is_no_document_is_an_error_in_its_place() -> None:
    one, error, three = parse_lines(b'{"a": 1}\n{"b": \n\n{"c": 3}\r\n')
    assert (one, three) == ({"a": 1}, {"c": 3})
    assert isinstance(error, ContractError) and error.problem == "not JSON"


# -- drafts


def as_json(value: object) -> object:
    """As a service in another language writes it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: as_json(below) for name, below in value.items()}
    return [as_json(below) for below in value] if isinstance(value, list) else value


@given(events())
def test_every_event_that_the_contract_knows_can_be_said_in_json(event: dict[str, Any]) -> None:
    draft: dict[str, Any] = {name: value for name, value in event.items() if name not in EMITTERS_OWN}
    said = as_json(draft)
    assert isinstance(said, dict)
    if draft["extension"] is not None:
        value = REGISTRY.extension_value(draft["extension"]["schema"], draft["extension"]["payload"])
        said["extension"] = {"schema": full_name(GITHUB.text), "value": as_json(value)}
        draft["extension"] = {"schema": GITHUB.sha256, "value": value}
    assert READ(json.loads(json.dumps(said))) == draft


@given(DOCUMENTS)
def test_whatever_json_says_is_a_draft_or_refused(document: object) -> None:
    for item in (document, {"object": document, "causation_id": document, "occurred_at": document, "extension": document}):
        error = refusal(partial(READ, item))
        assert error is None or error.field in ("", "causation_id", "occurred_at", "extension", "extension.schema")


TIMES = {
    "1970-01-01T00:00:00Z": 0,
    "1969-12-31T23:59:59.5Z": -500_000,
    "2026-11-28t09:00:00z": 1_795_856_400_000_000,
    "2026-11-28 09:00:00Z": 1_795_856_400_000_000,
    "2026-11-28T14:30:00+05:30": 1_795_856_400_000_000,
    "2026-11-28T09:00:00-00:00": 1_795_856_400_000_000,
    "2026-11-28T09:00:00.123456789Z": 1_795_856_400_123_456,
    "9999-12-31T23:59:59Z": 253_402_300_799_000_000,
}


@pytest.mark.parametrize("text", TIMES)
def test_a_time_with_a_zone_is_read_to_the_microsecond(text: str) -> None:
    assert READ({"occurred_at": text}) == {"occurred_at": TIMES[text]}


NO_TIMES = (
    "", "now", "2026-11-28", "2026-11-28T09:00Z", "2026-11-28T09:00:00", "2026-11-28T09:00:00.Z", "2026-11-28T09:00:60Z",
    "2026-11-28T09:00:00.1234567890Z", "2026-11-28T24:00:00Z", "2026-13-01T09:00:00Z", "2026-02-29T09:00:00Z",
    "2026-11-28T09:00:00+0100", "2026-11-28T09:00:00+24:00", "2026-11-28T09:00:00Z\n", " 2026-11-28T09:00:00Z",
    "٢٠٢٦-11-28T09:00:00Z", "0000-01-01T00:00:00Z",
)  # fmt: skip


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time_with_a_zone_is_refused(text: str) -> None:
    with pytest.raises(ContractError) as refused:
        READ({"occurred_at": text})
    assert refused.value.field == "occurred_at"


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_time_that_python_writes_is_read(moment: datetime) -> None:
    read = READ({"occurred_at": moment.isoformat()})["occurred_at"]
    assert read == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // (moment.resolution)


# -- one wait for many


def test_however_many_ask_during_a_wait_one_more_wait_answers_them_all() -> None:
    gate, begun, waits = threading.Semaphore(0), threading.Event(), list[float]()

    def wait(timeout_s: float) -> bool:
        waits.append(timeout_s)
        begun.set()
        return gate.acquire(timeout=60)

    async def ask() -> list[bool]:
        with ThreadPoolExecutor(1) as thread:
            settling = Settling(wait, thread, 7.0)
            first = asyncio.create_task(settling.settled())
            await asyncio.to_thread(begun.wait, 60)
            others = [asyncio.create_task(settling.settled()) for _ in range(200)]
            await asyncio.sleep(0)
            gate.release()
            assert await first
            assert not any(task.done() for task in others)  # what they handed over came after the first wait began
            others[0].cancel()  # whoever goes away takes nothing from the others
            gate.release()
            return await asyncio.gather(*others[1:])

    assert asyncio.run(ask()) == [True] * 199
    assert waits == [7.0, 7.0]


def test_a_wait_that_fails_is_told_to_those_who_asked_and_the_next_is_begun() -> None:
    results: list[bool | Exception] = [ContractError("", "broken"), False, True]

    def wait(_: float) -> bool:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    async def ask() -> tuple[bool, bool]:
        with ThreadPoolExecutor(1) as thread:
            settling = Settling(wait, thread, 1.0)
            with pytest.raises(ContractError, match="broken"):
                await settling.settled()
            return await settling.settled(), await settling.settled()

    assert asyncio.run(ask()) == (False, True)
