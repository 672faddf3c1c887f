"""Context follows the flow of control: into calls, threads, tasks and generators, and out of none of them."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from contextvars import copy_context
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.kit import (
    Audit,
    own_context,
)
from producers.kit.context import context, current
from producers.kit.tracing import installed_api, recording
from sealtrail.errors import ContractError
from tests.kitted import ADA, RULE, TRACE, Kit

# -- context


def test_contexts_nest_and_what_is_told_explicitly_wins(kit: Kit) -> None:
    with kit.audit.context(tenant="acme", actor=ADA, ticket="CHG-1"):
        with kit.audit.context(ticket="CHG-2", correlation_id="c-1"):
            kit.audit.access.allowed(RULE)
            kit.audit.access.allowed(RULE, ticket="CHG-3", tenant="globex")
            kit.audit.access.allowed(RULE, ticket=None)
        kit.audit.access.allowed(RULE)
    found = [(e["tenant"], e["ticket"], e["correlation_id"]) for e in kit.emitter.events]
    assert found == [
        ("acme", "CHG-2", "c-1"), ("globex", "CHG-3", "c-1"), ("acme", None, "c-1"), ("acme", "CHG-1", None),
    ]  # fmt: skip
    with pytest.raises(ContractError, match="tenant"):
        kit.audit.access.allowed(RULE)


def test_a_context_ends_with_an_exception_too(kit: Kit) -> None:
    with pytest.raises(ZeroDivisionError), kit.audit.context(tenant="acme", actor=ADA):
        _ = 1 / 0
    with pytest.raises(ContractError, match="tenant"):
        kit.audit.access.allowed(RULE)


def test_a_thread_has_the_context_that_it_was_given(acme: Kit) -> None:
    refused: list[ContractError] = []

    def bare() -> None:
        try:
            acme.audit.access.allowed(RULE)
        except ContractError as error:
            refused.append(error)

    def within() -> None:
        with acme.audit.context(ticket="CHG-9"):
            acme.audit.access.allowed(RULE)

    context = copy_context()
    for target in (bare, lambda: context.run(within)):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    acme.audit.access.allowed(RULE)
    assert [error.field for error in refused] == ["tenant"]
    assert [event["ticket"] for event in acme.emitter.events] == ["CHG-9", None]


def test_tasks_that_take_turns_keep_their_own_context(kit: Kit) -> None:
    async def act(tenant: str, ready: asyncio.Barrier) -> None:
        with kit.audit.context(tenant=tenant, actor=ADA):
            for _ in range(3):
                await ready.wait()
                kit.audit.access.allowed(RULE, ticket=tenant)

    async def both() -> None:
        ready = asyncio.Barrier(2)
        await asyncio.gather(act("acme", ready), act("globex", ready))

    asyncio.run(both())
    assert len(kit.emitter.events) == 6
    assert all(event["tenant"] == event["ticket"] for event in kit.emitter.events)


def test_a_generator_with_a_context_of_its_own_does_not_lend_it_to_its_caller(acme: Kit) -> None:
    @own_context
    def rows(name: str) -> Iterator[str]:
        with acme.audit.context(ticket=name):
            for _ in range(2):
                acme.audit.access.allowed(RULE)
                yield name

    for _ in zip(rows("CHG-1"), rows("CHG-2"), strict=True):
        acme.audit.access.allowed(RULE)
    assert [event["ticket"] for event in acme.emitter.events] == ["CHG-1", "CHG-2", None] * 2


def test_an_asynchronous_generator_as_well(acme: Kit) -> None:
    from collections.abc import AsyncIterator

    @own_context
    async def rows() -> AsyncIterator[int]:
        with acme.audit.context(ticket="CHG-1"):
            for number in range(2):
                await asyncio.sleep(0)
                acme.audit.access.allowed(RULE)
                yield number

    async def consume() -> None:
        async for _ in rows():
            acme.audit.access.allowed(RULE)

    asyncio.run(consume())
    assert [event["ticket"] for event in acme.emitter.events] == ["CHG-1", None] * 2


def test_a_generator_keeps_its_protocol() -> None:
    closed = []

    @own_context
    def echo() -> Any:
        got = yield "first"
        try:
            while True:
                got = yield got
        except KeyError:
            yield "caught"
        finally:
            closed.append(True)
        return "done"

    generator = echo()
    assert [next(generator), generator.send(1), generator.send(2), generator.throw(KeyError())] == ["first", 1, 2, "caught"]
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "done"
    another = echo()
    next(another), another.send(1)
    another.close()
    assert closed == [True, True]
    with pytest.raises(TypeError):
        own_context(len)


def test_contexts_left_in_another_order_take_away_their_own_alone(kit: Kit) -> None:
    first, second = kit.audit.context(tenant="acme", actor=ADA), kit.audit.context(ticket="CHG-1")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    kit.audit.access.allowed(RULE, tenant="acme", actor=ADA)
    second.__exit__(None, None, None)
    assert kit.last["ticket"] == "CHG-1"
    with pytest.raises(ContractError, match="tenant"):
        kit.audit.access.allowed(RULE)


STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["enter", "leave", "look"]), st.sampled_from(["CHG-1", "CHG-2", "CHG-3"])),
    max_size=40,
)


@given(STEPS)
def test_generators_that_take_turns_see_their_own_context_alone(steps: list[tuple[int, str, str]]) -> None:
    """Against a model: a stack of tickets each; what a generator begins with is what its caller had at its first step."""

    @own_context
    def routine() -> Generator[str | None, tuple[str, str], None]:
        entered: list[AbstractContextManager[None]] = []
        seen = None
        while True:
            what, ticket = yield seen
            seen = act(entered, what, ticket)

    def act(entered: list[AbstractContextManager[None]], what: str, ticket: str) -> str | None:
        if what == "enter":
            entered.append(context(ticket=ticket))
            entered[-1].__enter__()
        elif what == "leave" and entered:
            entered.pop().__exit__(None, None, None)
        return current().get("ticket")

    mine: list[AbstractContextManager[None]] = []
    model: list[list[str | None]] = [[None], [], [], []]  # 0 is the caller; the first of a stack is what it began with
    routines = [routine() for _ in range(3)]
    for who, what, ticket in steps:
        if who and not model[who]:
            next(routines[who - 1])
            model[who] = [model[0][-1]]
        if what == "enter":
            model[who].append(ticket)
        elif what == "leave" and len(model[who]) > 1:
            model[who].pop()
        seen = act(mine, what, ticket) if who == 0 else routines[who - 1].send((what, ticket))
        assert seen == model[who][-1] and current().get("ticket") == model[0][-1]
    while mine:
        act(mine, "leave", "")


# -- traces


class Span:
    """As OpenTelemetry's."""

    trace_id, span_id, trace_flags = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, 1

    def __init__(self, on: bool) -> None:
        self.on = on

    def is_recording(self) -> bool:
        return self.on

    def get_span_context(self) -> Span:
        return self

    def get_current_span(self) -> Span:
        return self


def test_the_span_that_is_recorded_stands_in_the_event(kit: Kit) -> None:
    other = TRACE.replace("4b", "5b", 1)
    for span, told, expected in [
        (Span(True), {}, TRACE), (Span(False), {}, other), (Span(True), {"traceparent": other}, other), (None, {}, other),
    ]:  # fmt: skip
        audit = Audit(kit.emitter, "slack", traces=lambda span=span: span)  # type: ignore[misc]
        with audit.context(tenant="acme", actor=ADA, traceparent=other):
            audit.access.allowed(RULE, **told)  # type: ignore[arg-type]
        assert kit.last["traceparent"] == expected


def test_opentelemetry_is_used_where_it_is_installed_and_never_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)  # as where it is not installed
    assert installed_api() is None and recording(None) is None
    monkeypatch.setitem(sys.modules, "opentelemetry", Span(True))
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", Span(True))
    assert recording(installed_api()) == TRACE
