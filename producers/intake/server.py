"""The intake's HTTP: who asks, how much, how long; and what is answered when.

    POST /v1/events            Authorization: Bearer …, Idempotency-Key, application/json or application/x-ndjson
    POST /v1/github/<tenant>   X-Hub-Signature-256, X-GitHub-Event, X-GitHub-Delivery, application/json
    GET  /healthz, /readyz     the process lives; it would take an event now

202 is said when every event of the request is durable, and never before. 503 comes with Retry-After: the same request under the
same key then waits for what was handed over, and makes nothing twice. Nothing of a body, a token or a header is logged or
answered. Reading and handing over take place in one thread, waiting in one a source; the event loop does neither.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog
from aiohttp import web

from producers.audit import AuditProducer
from producers.intake.desk import Desk, Refused, Taken
from producers.intake.metrics import ANSWERS, DURABLE, EVENTS, REFUSED, REPEATED, UNAUTHENTICATED
from producers.intake.settling import Settling
from producers.intake.sources import Source, Sources, is_signature
from sealtrail.errors import TransientError

RETRY_AFTER_S = 5
READY_S = 1.0  # an event of a moment ago must be durable by now: a spool takes some 10 ms, Kafka some 100
HELD_BYTES = 64 << 20  # of all bodies at once, for each way: strangers may fill that of webhooks, and no other
WEBHOOK_BYTES = 25 << 20  # GitHub sends no more, and does not send again what was refused
COMPLAIN_S = 30.0  # between two log lines of one kind of trouble

_KEY = re.compile(r"[!-~]{1,256}")
_EVENTS, _GITHUB, _OTHER = "events", "github", "other"
_JSON, _LINES = "application/json", "application/x-ndjson"
_LOG = structlog.get_logger("producers.intake")


@dataclass(frozen=True, slots=True)
class Speaker:
    """What one source speaks through."""

    source: Source
    emitter: AuditProducer
    desk: Desk
    settling: Settling
    spooled: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a request: bytes of a body, seconds until it is whole, seconds from then until it is durable."""

    body_bytes: int
    body_s: float
    durable_s: float


class _AnswerError(Exception):
    """An answer that ends the request."""

    def __init__(self, status: int, problem: str, *, drained: bool = True, **headers: str) -> None:
        super().__init__(problem)
        self.status, self.problem, self.headers = status, problem, headers
        self.drained = drained  # else the connection ends, and nobody reads what is left of the body


class Server:
    """Makes the application. One event loop.

    Args:
        speakers: by source's name.
        desk: the one thread in which requests are read and handed over.
    """

    def __init__(self, sources: Sources, speakers: Mapping[str, Speaker], limits: Limits, desk: Executor) -> None:
        self._sources = sources
        self._speakers = speakers
        self._limits = limits
        self._desk = desk
        self._held = {_EVENTS: 0, _GITHUB: 0}  # bytes of bodies; one that waits for the desk counts twice
        self._strangers = 0
        self._complained = float("-inf")

    def application(self) -> web.Application:
        """With its four routes."""
        made = web.Application(middlewares=[self._answered])
        made.router.add_post("/v1/events", self._events)
        made.router.add_post("/v1/github/{tenant}", self._github)
        made.router.add_get("/healthz", self._healthy)
        made.router.add_get("/readyz", self._ready)
        return made

    # -- the four ways

    async def _events(self, request: web.Request) -> web.StreamResponse:
        source = self._sources.of_token(request.headers.get("Authorization", ""))
        if source is None:
            raise self._stranger(_EVENTS)
        speaker = self._speakers[source.name]
        async with self._recorded(speaker):
            kind = _plain(request, _JSON, _LINES)
            key = request.headers.get("Idempotency-Key", "")
            if not _KEY.fullmatch(key):
                raise _AnswerError(400, "header Idempotency-Key: expected 1 to 256 visible characters", drained=False)
            async with self._body(request, _EVENTS, self._limits.body_bytes) as body:
                return await self._taken(
                    speaker, _EVENTS, len(body), lambda: speaker.desk.events(key, body, lines=kind == _LINES)
                )

    async def _github(self, request: web.Request) -> web.StreamResponse:
        tenant, signature = request.match_info["tenant"], request.headers.get("X-Hub-Signature-256", "")
        if not is_signature(signature):
            raise self._stranger(_GITHUB)  # before 25 MiB are read
        async with self._body(request, _GITHUB, WEBHOOK_BYTES) as body:
            source = self._sources.of_signature(tenant, body, signature)
            if source is None:
                raise self._stranger(_GITHUB)
            speaker = self._speakers[source.name]
            async with self._recorded(speaker):
                _plain(request, _JSON)
                hook, delivery = request.headers.get("X-GitHub-Event", ""), request.headers.get("X-GitHub-Delivery", "")
                if not _KEY.fullmatch(hook) or not _KEY.fullmatch(delivery):
                    raise _AnswerError(400, "headers X-GitHub-Event and X-GitHub-Delivery: expected visible characters")
                return await self._taken(
                    speaker, _GITHUB, len(body), lambda: speaker.desk.webhook(hook, delivery, tenant, body)
                )

    async def _healthy(self, _: web.Request) -> web.StreamResponse:
        return _answer({"alive": True})

    async def _ready(self, _: web.Request) -> web.StreamResponse:
        stuck = [name for name, ready in await self._readiness() if not ready]
        if stuck:
            raise _AnswerError(503, f"events of {len(stuck)} sources do not become durable")
        return _answer({"ready": True})

    # -- what they share

    async def _taken(self, speaker: Speaker, way: str, size: int, take: Callable[[], Taken | Refused]) -> web.StreamResponse:
        """Hand over in the desk's thread, wait until it is durable, answer."""
        name, began = speaker.source.name, time.monotonic()
        self._held[way] += size  # until the desk is done with it, however long the caller waits
        work = asyncio.get_running_loop().run_in_executor(self._desk, take)
        work.add_done_callback(lambda done: self._done(name, way, size, done))
        try:
            taken, durable = await asyncio.wait_for(_durably(work, speaker.settling), self._limits.durable_s)
        except TimeoutError:
            raise _busy("not durable in time; ask again with the same key") from None
        except TransientError:
            raise _busy("no room; nothing was handed over") from None
        if isinstance(taken, Refused):
            return _refused(taken)
        if not durable:
            raise _busy("not durable in time; ask again with the same key")
        DURABLE.labels(name).observe(time.monotonic() - began)
        return _answer({"events": [str(UUID(bytes=one)) for one in taken.ids]}, status=202)

    def _done(self, name: str, way: str, size: int, done: asyncio.Future[Taken | Refused]) -> None:
        """The desk is done with a request, whether or not its caller waited."""
        self._held[way] -= size
        if done.cancelled() or done.exception() is not None:
            return  # told to the caller; the key was not remembered
        result = done.result()
        if isinstance(result, Refused):
            REFUSED.labels(name).inc(len(result.refusals))
        elif result.repeated:
            REPEATED.labels(name).inc()
        else:
            EVENTS.labels(name).inc(len(result.ids))

    @asynccontextmanager
    async def _body(self, request: web.Request, way: str, most: int) -> AsyncIterator[bytes]:
        """The body as it came; while it is held, it counts."""
        if (request.content_length or 0) > most:
            raise _AnswerError(413, f"body: more than {most} bytes", drained=False)
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_s):
                async for chunk in request.content.iter_any():
                    body += chunk
                    self._held[way] += len(chunk)
                    if len(body) > most:
                        raise _AnswerError(413, f"body: more than {most} bytes", drained=False)
                    if self._held[way] > HELD_BYTES:
                        raise _busy("too many bodies at once", drained=False)
        except TimeoutError:
            self._held[way] -= len(body)
            raise _AnswerError(408, "body: not whole in time", drained=False) from None
        except BaseException:
            self._held[way] -= len(body)
            raise
        try:
            yield bytes(body)
        finally:
            self._held[way] -= len(body)

    @asynccontextmanager
    async def _recorded(self, speaker: Speaker) -> AsyncIterator[None]:
        """A request of a known source that ends before the desk read it is a refusal too; not one that may come again."""
        try:
            yield
        except _AnswerError as answer:
            if answer.status in (400, 413, 415):
                REFUSED.labels(speaker.source.name).inc()
                await asyncio.get_running_loop().run_in_executor(self._desk, speaker.desk.refuse, answer.problem)
            raise

    def _stranger(self, way: str) -> _AnswerError:
        """Counted, and told at most every `COMPLAIN_S`: who cannot say who he is fills neither trail nor log."""
        UNAUTHENTICATED.labels(way).inc()
        self._strangers += 1
        if time.monotonic() - self._complained >= COMPLAIN_S:
            _LOG.warning("requests of nobody we know", way=way, since_last=self._strangers)
            self._complained, self._strangers = time.monotonic(), 0
        return _AnswerError(401, "not authenticated", drained=False, **{"WWW-Authenticate": "Bearer"})

    async def _readiness(self) -> list[tuple[str, bool]]:
        """Of each source, whether what it had taken over when asked is durable within `READY_S`."""
        asked = {name: speaker.emitter.counts.accepted for name, speaker in self._speakers.items()}
        deadline = time.monotonic() + READY_S
        while True:
            found = [(name, self._durable(self._speakers[name]) >= target) for name, target in asked.items()]
            if all(ready for _, ready in found) or time.monotonic() >= deadline:
                return found
            await asyncio.sleep(0.02)

    def _durable(self, speaker: Speaker) -> int:
        counts = speaker.emitter.counts
        return counts.spooled if speaker.spooled else counts.acknowledged

    @web.middleware
    async def _answered(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Every answer is JSON, counted; an exception of ours is logged by its type alone."""
        try:
            response = await handler(request)
        except _AnswerError as answer:
            response = _answer({"problem": answer.problem}, status=answer.status, headers=answer.headers)
            if not answer.drained:
                response.force_close()
        except web.HTTPException as error:  # no such path, or method
            response = _answer({"problem": error.reason.lower()}, status=error.status)
            response.force_close()
        except (ConnectionError, web.RequestPayloadError):  # he went away, or his framing is none
            response = _answer({"problem": "body: not readable"}, status=400)
            response.force_close()
        except Exception as error:  # a process that takes events lives on; what was not answered is sent again
            _LOG.error("request failed", problem=type(error).__name__)
            response = _answer({"problem": "internal"}, status=500)
            response.force_close()
        way = {"/v1/events": _EVENTS}.get(request.path, _GITHUB if request.path.startswith("/v1/github/") else _OTHER)
        ANSWERS.labels(way, str(response.status)).inc()
        response.headers["Server"] = "sealtrail"  # nobody needs the library's version
        return response


async def _durably(work: asyncio.Future[Taken | Refused], settling: Settling) -> tuple[Taken | Refused, bool]:
    """What became of a request, and whether what was handed over is durable. Cancelled, the work goes on."""
    taken = await asyncio.shield(work)
    return taken, isinstance(taken, Taken) and await settling.settled()


def _plain(request: web.Request, *kinds: str) -> str:
    """The media type, one of these and not compressed: what unpacks to a thousand times its size is not unpacked."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _AnswerError(415, "header Content-Encoding: none is taken", drained=False)
    if request.content_type not in kinds or (request.charset or "utf-8").lower() != "utf-8":
        raise _AnswerError(415, f"header Content-Type: expected {' or '.join(kinds)}, in UTF-8", drained=False)
    return request.content_type


def _answer(document: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(text=f"{json.dumps(document)}\n", status=status, headers=headers, content_type=_JSON)


def _busy(problem: str, *, drained: bool = True) -> _AnswerError:
    return _AnswerError(503, problem, drained=drained, **{"Retry-After": str(RETRY_AFTER_S)})


def _refused(refused: Refused) -> web.Response:
    document = {
        "problem": "refused; nothing was handed over",
        "refused": [{"index": r.index, "field": r.field, "problem": r.problem} for r in refused.refusals],
    }
    return _answer(document, status=400 if refused.malformed else 422)
