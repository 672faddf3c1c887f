"""ASGI middleware (FastAPI, Starlette, any ASGI 3 application): each request has a context, chosen routes an access event.

    app.add_middleware(AuditMiddleware, audit=audit, identify=who, routes=[Route("GET", "/orders/{id}", require=True)])

1. Context: traceparent and correlation id from the headers (or a new id), the address that the request came from
   (`producers.kit.proxies`), tenant and actor from `identify`, called before the application and, where that gave nobody, once
   more after it: an inner middleware may have logged somebody in by then.
2. One access event a request of a route, whose object is method and template, GET:/orders/{id}: no path, no query string.
   The result follows the status; PARTIAL where the answer was cut off, UNKNOWN where there was none to see.
3. `require=True`: stated before the answer begins; if it cannot be handed over, the answer is 503 and nothing of the
   application's leaves. What the application did by then is done: `require` withholds answers, it does not undo acts.
   Otherwise stated after; what cannot be is counted and logged.
4. The application's exception goes on, always, and a cancelled request stays cancelled.

Events are handed over in a worker thread, for an emitter with a full queue waits; under asyncio alone.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from producers.kit.audit import Audit
from producers.kit.context import Context, context
from producers.kit.families import result_of_status
from producers.kit.proxies import client_address, identifier, networks, traceparent
from producers.kit.statement import layered
from producers.kit.values import Actor, Authorization, BusinessObject
from producers.kit.words import Result
from sealtrail.errors import ConfigError, SealtrailError

# As ASGI frameworks type them: their users' type checkers compare.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CORRELATION = "x-correlation-id"
CORRELATION_BYTES = 16
_TEMPLATE = re.compile(r"/[A-Za-z0-9_.{}:/~-]{0,200}")
_LOG = structlog.get_logger("producers.kit")


@dataclass(frozen=True, slots=True)
class Route:
    """Which requests are stated: a method, or *; a template as the framework writes it: /orders/{id}, /files/{name:path}."""

    method: str
    template: str
    require: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, of which tenant, on what authority. credential: a reference, never the credential."""

    tenant: str
    actor: Actor
    authorization: Authorization | None = None
    credential: str | None = None


class AuditMiddleware:
    """See the module.

    Args:
        identify: who asks, from the ASGI scope; None: nobody known.
        routes: the first that matches counts; others have a context and no event.
        anonymous: who it is when nobody is known; None: such a request is counted and not stated, or, with
            `require`, answered 503.
        trusted_proxies: addresses and networks whose X-Forwarded-For is believed.
        correlation_header: its name.

    Attributes:
        counts: stated, unattributed, unstated, withheld.
    """

    def __init__(
        self,
        app: App,
        *,
        audit: Audit,
        identify: Callable[[Scope], Caller | None],
        routes: Sequence[Route],
        anonymous: Caller | None = None,
        trusted_proxies: Sequence[str] = (),
        correlation_header: str = CORRELATION,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._app = app
        self._audit = audit
        self._identify = identify
        self._anonymous = anonymous
        self._routes = [(route.method.upper(), _pattern(route.template), route) for route in routes]
        self._trusted = networks(trusted_proxies)
        self._counting = threading.Lock()  # worker threads count
        self._correlation = correlation_header.lower().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        caller = self._identify(scope)
        with context(**self._context(scope, caller)):
            route = self._route(scope)
            if route is None:
                await self._app(scope, receive, send)
                return
            exchange = _Exchange(self, route, scope, caller, receive, send)
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except BaseException as error:
                exchange.broke(error)
                raise
            await exchange.ended()

    def state(self, route: Route, result: Result, scope: Scope, caller: Caller | None, cause: bytes | None) -> bytes | None:
        """The event's id, or None where it could not be stated: counted and logged. Blocks while the emitter does."""
        try:
            caller = caller or self._identify(scope) or self._anonymous
            if caller is None:
                self.count("unattributed")
                return None
            said = layered(_said_by(caller), {} if cause is None else {"cause": cause})
            what = BusinessObject("route", f"{scope['method'].upper()}:{route.template}")
            event_id = self._audit.access.answered(what, result, **said)
        except Exception as error:  # whatever fails here must not take the place of the application's own outcome
            self.count("unstated")
            problem = str(error) if isinstance(error, SealtrailError) else type(error).__name__
            _LOG.error("access not stated", route=route.template, problem=problem)
            return None
        self.count("stated")
        return event_id

    def count(self, what: str) -> None:
        """One more of `counts`."""
        with self._counting:
            self.counts[what] += 1

    def _context(self, scope: Scope, caller: Caller | None) -> Context:
        headers = scope["headers"]
        client = scope.get("client")
        given: Context = {
            "traceparent": traceparent(headers),
            "correlation_id": identifier(headers, self._correlation) or self._audit.random(CORRELATION_BYTES).hex(),
            "source_ip": client_address(client[0] if client else None, headers, self._trusted),
        }
        return given if caller is None else {**given, **_said_by(caller)}

    def _route(self, scope: Scope) -> Route | None:
        if scope["type"] != "http":
            return None
        for method, pattern, route in self._routes:
            if method in ("*", scope["method"].upper()) and pattern.fullmatch(scope["path"]):
                return route
        return None


class _Exchange:
    """One request of a route, and how far its answer is."""

    def __init__(
        self, middleware: AuditMiddleware, route: Route, scope: Scope, caller: Caller | None, receive: Receive, send: Send
    ) -> None:
        self._middleware = middleware
        self._route = route
        self._scope = scope
        self._caller = caller
        self._receive = receive
        self._send = send
        self._status: int | None = None
        self._complete = False  # the answer's last byte was handed to the server
        self._gone = False  # the client was, before that
        self._withheld = False
        self._stated: tuple[Result, bytes] | None = None

    async def receive(self) -> Message:
        """As the server's."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._complete:
            self._gone = True
        return message

    async def send(self, message: Message) -> None:
        """As the server's; with `require`, the answer begins once it is stated."""
        if self._withheld:
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            if self._route.require and not await self._state(result_of_status(message["status"])):
                await self._withhold()
                return
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._complete = True

    async def ended(self) -> None:
        """The application returned."""
        if not self._withheld and self._result() is not self._said:
            await self._state(self._result())

    def broke(self, error: BaseException) -> None:
        """The application raised. Not in a thread: where a task is cancelled, nothing may be waited for."""
        if self._withheld:
            return
        result = self._result(error)
        if result is not self._said:
            self._note(result, self._middleware.state(self._route, result, self._scope, self._caller, self._cause))

    @property
    def _said(self) -> Result | None:
        return None if self._stated is None else self._stated[0]

    @property
    def _cause(self) -> bytes | None:
        return None if self._stated is None else self._stated[1]

    def _result(self, error: BaseException | None = None) -> Result:
        if self._status is None:
            unseen = self._gone or not (error is None or isinstance(error, Exception))
            return Result.UNKNOWN if unseen else Result.FAILURE
        result = result_of_status(self._status)
        cut_off = self._gone or not self._complete
        return Result.PARTIAL if cut_off and result is Result.SUCCESS else result

    async def _state(self, result: Result) -> bool:
        state = self._middleware.state
        event_id = await asyncio.to_thread(state, self._route, result, self._scope, self._caller, self._cause)
        self._note(result, event_id)
        return event_id is not None

    def _note(self, result: Result, event_id: bytes | None) -> None:
        if event_id is not None:
            self._stated = (result, event_id)

    async def _withhold(self) -> None:
        self._withheld = True
        self._middleware.count("withheld")
        body = b"this answer could not be audited\n"
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body)), (b"retry-after", b"1")]
        await self._send({"type": "http.response.start", "status": 503, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _said_by(caller: Caller) -> Context:
    return {
        "tenant": caller.tenant,
        "actor": caller.actor,
        "authorization": caller.authorization,
        "credential": caller.credential,
    }


def _pattern(template: str) -> re.Pattern[str]:
    """What paths a template stands for: {name} one segment, {name:path} the rest."""
    if not _TEMPLATE.fullmatch(template):
        raise ConfigError("routes: a template begins with / and holds letters, digits, _.-~: and {names}")
    parts = re.split(r"(\{\w+(?::\w+)?\})", template)
    return re.compile("".join(_part(part) for part in parts))


def _part(part: str) -> str:
    if not part.startswith("{"):
        return re.escape(part)
    return ".+" if part.endswith(":path}") else "[^/]+"
