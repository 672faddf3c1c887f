"""Events from a web application, a log and jobs: what becomes an event, what does not, and what the application notices."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest

from producers.kit import Act, Actor, Audit, Authorization, AuthorizationMethod, Effect, EventType, Result
from producers.kit.jobs import job
from producers.kit.logs import AuditHandler
from producers.kit.proxies import client_address, networks
from producers.kit.web import AuditMiddleware, Caller, Message, Receive, Route, Scope, Send
from producers.samples.emitter import SampleEmitter
from schemas.registry import AUDIT_EVENT
from sealtrail.errors import ConfigError, ContractError, TransientError
from tests.kitted import ADA, RULE, TRACE, Kit

MARKER = "Zebulon-Quixote"

# -- a web application

ROUTES = [
    Route("GET", "/orders/{id}"),
    Route("GET", "/files/{name:path}"),
    Route("*", "/exports", require=True),
]
EXPORTS = "*:/exports"
Answer = Callable[[Receive, Send], Awaitable[None]]


async def ok(receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"b"})


def status(number: int) -> Answer:
    async def answer(receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": number, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return answer


async def raises(receive: Receive, send: Send) -> None:
    raise ZeroDivisionError(MARKER)


async def breaks(receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ZeroDivisionError(MARKER)


async def breaks_after(receive: Receive, send: Send) -> None:
    await ok(receive, send)
    raise ZeroDivisionError(MARKER)


async def silent(receive: Receive, send: Send) -> None:
    return


async def cancelled(receive: Receive, send: Send) -> None:
    raise asyncio.CancelledError


async def streams(receive: Receive, send: Send) -> None:
    """Begins, notices that the client is gone, and ends."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    assert (await receive())["type"] == "http.disconnect"


async def waits(receive: Receive, send: Send) -> None:
    """Notices that the client is gone before it answers."""
    assert (await receive())["type"] == "http.disconnect"


class Site:
    """An application behind the middleware, and a server that drives it."""

    def __init__(self, kit: Kit, answer: Answer = ok, **options: Any) -> None:
        self.kit = kit
        self.answer = answer
        self.stated_at: list[int] = []  # how many events there were at each message of the answer
        options.setdefault("identify", lambda scope: Caller("acme", ADA))
        self.middleware = AuditMiddleware(self.app, audit=kit.audit, routes=ROUTES, **options)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["seen"] = True
            return
        await self.answer(receive, send)

    def ask(self, path: str = "/orders/7", method: str = "GET", *, gone: bool = False, **scope: Any) -> list[Message]:
        """What the client gets. gone: the server's `send` says that the client is not there."""
        got: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            self.stated_at.append(len(self.kit.emitter.events))
            if gone:
                raise BrokenPipeError
            got.append(message)

        full: Scope = {"type": "http", "method": method, "path": path, "query_string": MARKER.encode(), "headers": [], **scope}
        asyncio.run(self.middleware(full, receive, send))
        return got


def said(kit: Kit) -> list[tuple[str, str, str]]:
    return [(e["event_name"], e["object"]["id"], e["result"]) for e in kit.emitter.events]


ANSWERS: dict[str, tuple[Answer, list[str], type[BaseException] | None]] = {
    "answered": (ok, ["SUCCESS"], None),
    "not allowed": (status(403), ["DENIED"], None),
    "not logged in": (status(401), ["DENIED"], None),
    "not there": (status(404), ["FAILURE"], None),
    "redirected": (status(307), ["SUCCESS"], None),
    "broken": (status(500), ["FAILURE"], None),
    "an exception": (raises, ["FAILURE"], ZeroDivisionError),
    "an exception on the way": (breaks, ["PARTIAL"], ZeroDivisionError),
    "an exception after the answer": (breaks_after, ["SUCCESS"], ZeroDivisionError),
    "no answer": (silent, ["FAILURE"], None),
    "cancelled": (cancelled, ["UNKNOWN"], asyncio.CancelledError),
    "gone on the way": (streams, ["PARTIAL"], None),
    "gone before": (waits, ["UNKNOWN"], None),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_request_of_a_route_is_one_access_event(kit: Kit, name: str) -> None:
    answer, results, error = ANSWERS[name]
    site = Site(kit, answer)
    if error is None:
        site.ask()
    else:
        with pytest.raises(error):
            site.ask()
    assert [event["result"] for event in kit.emitter.events] == results
    (event,) = kit.emitter.events
    assert (event["event_type"], event["object"]) == ("ACCESS", {"type": "route", "id": "GET:/orders/{id}"})
    assert MARKER.encode() not in AUDIT_EVENT.encode(event)
    assert site.middleware.counts == {"stated": 1}


@pytest.mark.parametrize("name", ANSWERS)
def test_where_it_is_required_nothing_of_an_answer_leaves_before_it_is_stated(kit: Kit, name: str) -> None:
    answer, results, error = ANSWERS[name]
    site = Site(kit, answer)
    if error is None:
        site.ask("/exports", "POST")
    else:
        with pytest.raises(error):
            site.ask("/exports", "POST")
    assert all(events >= 1 for events in site.stated_at)
    events = kit.emitter.events
    assert events[-1]["result"] == results[-1] and events[0]["object"]["id"] == "POST:/exports"
    if len(events) == 2:  # begun well, and cut off: the second is caused by the first
        assert results == ["PARTIAL"] and events[0]["result"] == "SUCCESS"
        assert events[1]["causation_id"] == events[0]["event_id"]


def test_an_answer_that_cannot_be_stated_is_503_where_it_is_required_and_goes_out_where_it_is_not(kit: Kit) -> None:
    site = Site(kit)
    kit.emitter.close()
    start, body = site.ask("/exports", "POST")
    assert start["status"] == 503 and b"not be audited" in body["body"]
    assert [message.get("status") for message in site.ask()] == [200, None, None]
    assert site.middleware.counts == {"unstated": 2, "withheld": 1}
    site.answer = breaks
    with pytest.raises(ZeroDivisionError):
        site.ask("/exports", "POST")


def test_what_fails_while_stating_does_not_take_the_place_of_the_applications_exception(kit: Kit) -> None:
    calls = iter([None])
    site = Site(kit, raises, identify=lambda scope: next(calls))  # the second call ends in StopIteration
    with pytest.raises(ZeroDivisionError):
        site.ask()
    assert site.middleware.counts == {"unstated": 1}


def test_a_client_that_the_server_knows_to_be_gone_got_a_part(kit: Kit) -> None:
    site = Site(kit)
    with pytest.raises(BrokenPipeError):
        site.ask(gone=True)
    assert [event["result"] for event in kit.emitter.events] == ["PARTIAL"]


def test_a_request_has_a_context_of_its_own(kit: Kit) -> None:
    authorization = Authorization(AuthorizationMethod.SSO_SESSION, ["orders:read"])

    async def acts(receive: Receive, send: Send) -> None:
        kit.audit.admin.changed(RULE, {"enabled": True}, {"enabled": False})
        await ok(receive, send)

    site = Site(kit, acts, identify=lambda scope: Caller("globex", ADA, authorization, "session-1"))
    correlation = b"0b6e8f2c-6a1e-4e0e-9d53-000000000001"
    headers = [(b"traceparent", TRACE.encode()), (b"x-correlation-id", correlation)]
    site.ask(headers=headers, client=("192.0.2.7", 4711))
    site.ask(path="/elsewhere", headers=[(b"x-correlation-id", b"ada")])
    changed, access, unrouted = kit.emitter.events
    for event in (changed, access):
        assert (event["tenant"], event["traceparent"], event["correlation_id"]) == ("globex", TRACE, correlation.decode())
        assert event["source_ip"].startswith("hmac_") and event["credential"].startswith("hmac_")
        assert event["authorization"]["scopes"] == ["orders:read"]
    assert unrouted["event_name"] == "slack.config.changed" and len(unrouted["correlation_id"]) == 32
    assert unrouted["source_ip"] is None is unrouted["traceparent"]


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("/orders/7", "GET", "GET:/orders/{id}"),
        ("/orders/7", "get", "GET:/orders/{id}"),
        ("/files/a/b.txt", "GET", "GET:/files/{name:path}"),
        ("/exports", "DELETE", "DELETE:/exports"),
        ("/orders/7/lines", "GET", None),
        ("/orders/", "GET", None),
        ("/orders/7", "POST", None),
    ],
)
def test_the_first_route_that_matches_names_the_object(kit: Kit, path: str, method: str, expected: str | None) -> None:
    Site(kit).ask(path, method)
    assert [event["object"]["id"] for event in kit.emitter.events] == ([expected] if expected else [])


def test_who_is_known_only_after_the_application_ran_is_asked_for_again(kit: Kit) -> None:
    logged_in: dict[str, Caller] = {}

    async def logs_in(receive: Receive, send: Send) -> None:
        logged_in["user"] = Caller("acme", ADA)
        await ok(receive, send)

    Site(kit, logs_in, identify=lambda scope: logged_in.get("user")).ask()
    assert said(kit) == [("slack.access.allowed", "GET:/orders/{id}", "SUCCESS")]


def test_a_request_of_nobody_is_counted_or_stated_as_anonymous(kit: Kit) -> None:
    nobody: Mapping[str, Any] = {"identify": lambda scope: None}
    site = Site(kit, **nobody)
    site.ask()
    assert site.ask("/exports")[0]["status"] == 503
    assert not kit.emitter.events and site.middleware.counts == {"unattributed": 2, "withheld": 1}
    Site(kit, status(401), anonymous=Caller("acme", Actor.system("anonymous")), **nobody).ask()
    assert [(e["actor"]["kind"], e["result"]) for e in kit.emitter.events] == [("SYSTEM", "DENIED")]


def test_what_is_no_request_passes_untouched(kit: Kit) -> None:
    site = Site(kit)
    scope: Scope = {"type": "lifespan"}
    asyncio.run(site.middleware(scope, None, None))  # type: ignore[arg-type]
    assert scope["seen"]
    site.ask(type="websocket")
    assert not kit.emitter.events


TRUSTED = networks(["10.0.0.0/8", "2001:db8::/32"])
ADDRESSES: dict[str, tuple[str | None, list[str], str | None]] = {
    "no proxy": ("192.0.2.7", [], "192.0.2.7"),
    "a header of whoever likes": ("192.0.2.7", ["198.51.100.1"], "192.0.2.7"),
    "behind a proxy": ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
    "behind two": ("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
    "a forged beginning": ("10.0.0.1", ["203.0.113.9, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
    "two headers": ("10.0.0.1", ["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
    "only proxies": ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    "garbage": ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
    "a port": ("10.0.0.1", ["198.51.100.1:8080"], "198.51.100.1"),
    "version 6": ("2001:db8::1", ["2001:DC8::7"], "2001:dc8::7"),
    "version 6 with a port": ("2001:db8::1", ["[2001:dc8::7]:443"], "2001:dc8::7"),
    "version 4 within 6": ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
    "an empty header": ("10.0.0.1", [""], "10.0.0.1"),
    "a socket": (None, ["198.51.100.1"], None),
    "a name": ("testclient", [], None),
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_the_address_that_a_request_came_from(name: str) -> None:
    peer, forwarded, expected = ADDRESSES[name]
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    assert client_address(peer, headers, TRUSTED) == expected


def test_a_wrong_set_up_is_named(kit: Kit) -> None:
    with pytest.raises(ConfigError, match="trusted_proxies"):
        Site(kit, trusted_proxies=["10.0.0.1/8"])
    with pytest.raises(ConfigError, match="routes"):
        AuditMiddleware(Site(kit).app, audit=kit.audit, identify=lambda _: None, routes=[Route("GET", "/?q=1")])


# -- a log

CHANGED = Act("config.changed", EventType.ADMIN, Result.SUCCESS, Effect.EFFECTIVE, RULE)


@pytest.fixture
def log(kit: Kit) -> Iterator[tuple[logging.Logger, AuditHandler]]:
    handler = AuditHandler(kit.audit)
    logger = logging.Logger("crm")
    logger.addHandler(handler)
    yield logger, handler
    logger.removeHandler(handler)


def test_a_record_with_an_act_is_an_event_and_no_other_record_is(kit: Kit, log: tuple[logging.Logger, AuditHandler]) -> None:
    logger, handler = log
    with kit.audit.context(tenant="acme", actor=ADA):
        logger.info("%s switched it off", MARKER)
        logger.info("%s switched it off", MARKER, extra={"audit": CHANGED})
        logger.error("broken", exc_info=ValueError(MARKER))
    assert [event["event_name"] for event in kit.emitter.events] == ["slack.config.changed"]
    assert MARKER.encode() not in AUDIT_EVENT.encode(kit.last) and not handler.refused


def test_a_refusal_is_counted_and_never_raised(kit: Kit, log: tuple[logging.Logger, AuditHandler]) -> None:
    logger, handler = log
    logger.info("without a context", extra={"audit": CHANGED})
    logger.info("text", extra={"audit": MARKER})
    kit.emitter.close()
    with kit.audit.context(tenant="acme", actor=ADA):
        logger.info("closed", extra={"audit": CHANGED})
    assert handler.refused == {"tenant": 1, "not-an-act": 1, "TransientError": 1}


class Chatty(SampleEmitter):
    """An emitter that logs what it does, through the application's log."""

    def __init__(self, logger: logging.Logger, act: Act) -> None:
        super().__init__()
        self._logger = logger
        self._act = act

    def emit(self, draft: Mapping[str, object]) -> bytes:
        self._logger.info("queueing", extra={"audit": self._act})
        self._logger.info("queued")
        return super().emit(draft)


def test_what_an_emitter_logs_while_it_states_is_not_stated_again() -> None:
    logger = logging.Logger("crm")
    audit = Audit(Chatty(logger, CHANGED), "slack", traces=lambda: None)
    handler = AuditHandler(audit)
    logger.addHandler(handler)
    with audit.context(tenant="acme", actor=ADA):
        logger.info("now", extra={"audit": CHANGED})
    assert handler.refused == {"within-a-statement": 1}


class Full(SampleEmitter):
    """An emitter whose queue is full until its own thread, which logs, has made room."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.room = threading.Event()
        self.waiting = threading.Event()
        self._logger = logger

    def emit(self, draft: Mapping[str, object]) -> bytes:
        self.waiting.set()
        if not self.room.wait(30):
            raise TransientError("no room")
        return super().emit(draft)

    def make_room(self) -> None:
        self.waiting.wait(30)
        self._logger.warning("queue was full")
        self.room.set()


def test_an_emitters_thread_can_log_while_another_waits_for_it() -> None:
    logger = logging.Logger("crm")
    emitter = Full(logger)
    audit = Audit(emitter, "slack", traces=lambda: None)
    handler = AuditHandler(audit)
    logger.addHandler(handler)
    sender = threading.Thread(target=emitter.make_room)
    sender.start()
    with audit.context(tenant="acme", actor=ADA):
        logger.info("now", extra={"audit": CHANGED})
    sender.join(30)
    assert not sender.is_alive() and len(emitter.events) == 1 and not handler.refused


class Locked(SampleEmitter):
    """An emitter with a lock of its own, under which it logs an act."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.waits = threading.Event()
        self.held = threading.Event()
        self._mine = threading.Lock()
        self._logger = logger

    def emit(self, draft: Mapping[str, object]) -> bytes:
        if threading.current_thread().name == "through the log":
            self.waits.set()
            self.held.wait(30)
        if not self._mine.acquire(timeout=10):
            raise TransientError("whoever has the lock waits for this thread")
        try:
            if threading.current_thread().name == "directly":
                self.held.set()
                self._logger.info("under the lock", extra={"audit": "no act"})
            return super().emit(draft)
        finally:
            self._mine.release()


def test_an_emitter_can_log_under_its_own_lock_while_another_thread_states_through_the_log() -> None:
    logger = logging.Logger("crm")
    emitter = Locked(logger)
    audit = Audit(emitter, "slack", traces=lambda: None)
    handler = AuditHandler(audit)
    logger.addHandler(handler)

    def directly() -> None:
        emitter.waits.wait(30)
        audit.access.allowed(RULE, tenant="acme", actor=ADA)

    def through_the_log() -> None:
        with audit.context(tenant="acme", actor=ADA):
            logger.info("now", extra={"audit": CHANGED})

    threads = [
        threading.Thread(target=target, name=target.__name__.replace("_", " "), daemon=True)
        for target in (directly, through_the_log)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads) and len(emitter.events) == 2


# -- jobs


def outcomes(kit: Kit) -> list[tuple[str, str, str]]:
    return [(e["event_name"].removeprefix("slack."), e["result"], e["effect"]) for e in kit.emitter.events]


INTENDED = ("automation.intended", "UNKNOWN", "ATTEMPTED")
WHO: Any = {"tenant": "acme", "actor": Actor.system("scheduler")}


def test_a_job_is_intended_and_executed_and_what_it_states_is_caused_by_it(kit: Kit) -> None:
    @job(kit.audit, "digest", **WHO)
    def digest(text: str) -> int:
        """What it does."""
        kit.audit.access.allowed(RULE)
        return len(text)

    assert digest(MARKER) == len(MARKER) and digest.__doc__ == "What it does."
    intended, inside, executed = kit.emitter.events
    assert outcomes(kit)[0] == INTENDED and outcomes(kit)[2] == ("automation.executed", "SUCCESS", "EFFECTIVE")
    assert inside["causation_id"] == executed["causation_id"] == intended["event_id"]
    assert len({event["correlation_id"] for event in kit.emitter.events}) == 1
    assert all(MARKER.encode() not in AUDIT_EVENT.encode(event) for event in kit.emitter.events)
    digest("again")
    assert kit.last["correlation_id"] != intended["correlation_id"]
    with kit.audit.context(correlation_id="request-1"):
        digest("within")
    assert {event["correlation_id"] for event in kit.emitter.events[-3:]} == {"request-1"}


@pytest.mark.parametrize(
    ("error", "result"),
    [(ValueError, "FAILURE"), (PermissionError, "DENIED"), (KeyboardInterrupt, "UNKNOWN"), (asyncio.CancelledError, "UNKNOWN")],
)
def test_a_jobs_exception_is_stated_and_goes_on(kit: Kit, error: type[BaseException], result: str) -> None:
    @job(kit.audit, "digest", **WHO)
    def plain() -> None:
        raise error(MARKER)

    @job(kit.audit, "digest", **WHO)
    async def awaited() -> None:
        await asyncio.sleep(0)
        raise error(MARKER)

    @job(kit.audit, "digest", **WHO)
    def stepwise() -> Iterator[int]:
        yield 1
        raise error(MARKER)

    def drive_awaited() -> None:
        coroutine = awaited()
        while True:
            coroutine.send(None)

    for call in (plain, drive_awaited, lambda: list(stepwise())):
        with pytest.raises(error, match=MARKER):
            call()
        assert outcomes(kit)[-2:] == [INTENDED, ("automation.failed", result, "ATTEMPTED")]
        assert MARKER.encode() not in AUDIT_EVENT.encode(kit.last)


def test_a_coroutine_and_generators_of_both_kinds_are_jobs(kit: Kit) -> None:
    @job(kit.audit, "digest", **WHO)
    async def awaited() -> str:
        await asyncio.sleep(0)
        kit.audit.access.allowed(RULE)
        return "done"

    @job(kit.audit, "digest", **WHO)
    def stepwise() -> Iterator[int]:
        for number in range(2):
            kit.audit.access.allowed(RULE)
            yield number

    @job(kit.audit, "digest", **WHO)
    async def both() -> AsyncIterator[int]:
        for number in range(2):
            await asyncio.sleep(0)
            kit.audit.access.allowed(RULE)
            yield number

    async def consume() -> list[int]:
        return [number async for number in both()]

    calls: list[tuple[Callable[[], object], object, int]] = [
        (lambda: asyncio.run(awaited()), "done", 1),
        (lambda: list(stepwise()), [0, 1], 2),
        (lambda: asyncio.run(consume()), [0, 1], 2),
    ]
    for call, value, inside in calls:
        kit.emitter.events.clear()
        assert call() == value
        access = ("access.allowed", "SUCCESS", "EFFECTIVE")
        assert outcomes(kit) == [INTENDED, *[access] * inside, ("automation.executed", "SUCCESS", "EFFECTIVE")]
        assert {event["causation_id"] for event in kit.emitter.events[1:]} == {kit.emitter.events[0]["event_id"]}


def test_between_the_steps_of_a_generator_its_caller_has_its_own_context(kit: Kit) -> None:
    @job(kit.audit, "digest", **WHO)
    def stepwise() -> Iterator[int]:
        yield from range(2)

    for _ in stepwise():
        with pytest.raises(ContractError, match="tenant"):
            kit.audit.access.allowed(RULE)


def test_a_generator_that_is_not_used_up_was_executed_in_part(kit: Kit) -> None:
    @job(kit.audit, "digest", **WHO)
    def stepwise() -> Iterator[int]:
        yield from range(9)

    generator: Any = stepwise()
    assert not kit.emitter.events and next(generator) == 0
    generator.close()
    assert outcomes(kit) == [INTENDED, ("automation.executed", "PARTIAL", "EFFECTIVE")]


def test_the_result_follows_from_what_the_job_returned(kit: Kit) -> None:
    @job(kit.audit, "digest", result=lambda failed: Result.PARTIAL if failed else Result.SUCCESS, **WHO)
    def digest(failed: int) -> int:
        return failed

    digest(0), digest(3)
    assert [result for _, result, _ in outcomes(kit)] == ["UNKNOWN", "SUCCESS", "UNKNOWN", "PARTIAL"]


def test_a_job_that_cannot_be_stated_does_not_run_and_one_that_ran_keeps_its_outcome(kit: Kit) -> None:
    ran: list[str] = []

    @job(kit.audit, "digest", **WHO)
    def closes() -> str:
        kit.emitter.close()
        ran.append("once")
        return "done"

    assert closes() == "done"
    with pytest.raises(TransientError):
        closes()
    assert ran == ["once"] and outcomes(kit) == [INTENDED]
