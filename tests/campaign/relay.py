"""Relays between sealers and brokers: they end TLS on both sides, so they see each request, and can take hold of it.

A sealer is shown the broker's certificate, a broker the sealer's. One thread serves all connections of all relays. An `Act`
decides what becomes of the one request, or response, that a trigger waits for; it runs in that thread. Requests of one
connection wait behind one that is held, as they would in a network.

What brokers answer to transactional requests is kept (`Answered`). A commit of an owner who was outlawed before, and whom
a broker did not refuse, is an `Accepted` one too many: the fence does not hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
import threading
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from infra.pki import TlsFiles
from infra.places import HOST
from tests.campaign.wire import (
    FLEXIBLE_FROM,
    Api,
    Producer,
    Request,
    correlation_of,
    error_of,
    producer_of,
    request_of,
    with_correlation,
)

LINGER_S = 2.0  # for answers to what a client that is gone has sent
REPEATED = 0x7F000000  # correlation ids from here on are ours
LIMIT = 1 << 20  # of a stream's buffer
START_S = 10.0

Frame = bytes


class Side(Enum):
    """Where a fault strikes: before the broker has the request, or before the sealer has the answer."""

    REQUEST = "request"
    RESPONSE = "response"


class Pass(Enum):
    """What becomes of a frame that was caught: it goes on, or is gone, and its connection with it."""

    ON = "on"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Answered:
    """What a broker answered to a transactional request; `pid` asked."""

    at: float  # monotonic
    pid: int | None
    request: Request
    error: int


@dataclass
class Caught:
    """A frame in a relay's hands, and who sent it."""

    request: Request
    pid: int | None
    repeat: Callable[[], None]  # sends the request once more; its answer reaches nobody
    hang_up: Callable[[], None]  # ends the sealer's side alone: what is held still goes on to the broker


Act = Callable[[Caught], Awaitable[Pass]]


@dataclass
class Trigger:
    """Waits for one kind of request; `skip` of them pass first."""

    api: Api
    side: Side
    skip: int
    act: Act
    caught: Caught | None = None
    at: float = 0.0  # monotonic, when it was caught
    met: threading.Event = field(default_factory=threading.Event)
    through: threading.Event = field(default_factory=threading.Event)  # its act has ended

    def matches(self, request: Request, side: Side) -> bool:
        """Whether it is this one; an EndTxn that aborts never is."""
        if self.caught or (request.api, side) != (self.api, self.side) or (self.api is Api.END_TXN and not request.commits):
            return False
        self.skip -= 1
        return self.skip < 0


class Relays:
    """One relay a broker. A context: listens while it lasts.

    Args:
        ports: where each listens, and the port of its broker.
        near, far: the certificate that sealers see, and the one that brokers see.
        sender: the process whose certificate has this serial number.
    """

    def __init__(
        self, ports: Sequence[tuple[int, int]], near: TlsFiles, far: TlsFiles, sender: Callable[[int], int | None]
    ) -> None:
        self._ports = ports
        self._near = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(near.ca))
        self._near.load_cert_chain(near.certificate, near.key)
        self._near.verify_mode = ssl.CERT_REQUIRED
        self._far = ssl.create_default_context(cafile=str(far.ca))
        self._far.load_cert_chain(far.certificate, far.key)
        self._sender = sender
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relays", daemon=True)
        self._triggers: list[Trigger] = []
        self._connections: set[_Connection] = set()
        self._away: dict[int, float] = {}
        self._owners: dict[str, Producer] = {}
        self.owners_pids: dict[str, int | None] = {}  # by transactional id, who fenced it last
        self.delay_s = 0.0  # of every request
        self.answered: list[Answered] = []
        self.accepted: list[Answered] = []  # commits that were not refused and should have been

    def __enter__(self) -> Relays:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(START_S)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(START_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_S)
        self._loop.close()

    # -- for the campaign's thread

    def arm(self, api: Api, side: Side, skip: int, act: Act) -> Trigger:
        """Catch the next such request after `skip` of them."""
        trigger = Trigger(api, side, skip, act)
        self._loop.call_soon_threadsafe(self._triggers.append, trigger)
        return trigger

    def cut(self, index: int, seconds: float) -> None:
        """End all connections to one broker, and refuse new ones for so long."""
        self._away[self._ports[index][0]] = time.monotonic() + seconds

        def end() -> None:
            for connection in [c for c in self._connections if c.port == self._ports[index][0]]:
                connection.abort()

        self._loop.call_soon_threadsafe(end)

    def since(self, at: float) -> list[Answered]:
        """What was answered from then on, in order; asked often, of a list that grows all the time."""
        answered = self.answered
        return answered[bisect_left(answered, at, hi=len(answered), key=lambda answer: answer.at) :]

    # -- in the relays' thread

    async def _listen(self) -> None:
        self._servers = [
            await asyncio.start_server(self._serving(near, far), HOST, near, ssl=self._near, limit=LIMIT)
            for near, far in self._ports
        ]

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.abort()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _serving(self, port: int, target: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if time.monotonic() < self._away.get(port, 0.0):
                writer.transport.abort()
                return
            try:
                far = await asyncio.open_connection(HOST, target, ssl=self._far, server_hostname=HOST, limit=LIMIT)
            except (OSError, ssl.SSLError):
                writer.transport.abort()  # the broker is away
                return
            shown = writer.get_extra_info("peercert") or {}
            connection = _Connection(self, port, self._sender(int(shown.get("serialNumber", "0"), 16)), (reader, writer), far)
            self._connections.add(connection)
            try:
                await connection.run()
            except asyncio.CancelledError:
                connection.abort()  # the relays end; streams report a handler that was cancelled as an error
            finally:
                self._connections.discard(connection)

        return serve

    async def passes(self, connection: _Connection, request: Request, body: Frame, side: Side) -> Pass:
        """What becomes of a frame."""
        if side is Side.REQUEST and self.delay_s:
            await asyncio.sleep(self.delay_s)
        trigger = next((t for t in self._triggers if t.matches(request, side)), None)
        if trigger is None:
            return Pass.ON
        self._triggers.remove(trigger)
        trigger.caught = Caught(request, connection.pid, lambda: connection.repeat(request, body), connection.hang_up)
        trigger.at = time.monotonic()
        trigger.met.set()
        try:
            return await trigger.act(trigger.caught)
        finally:
            self._loop.call_soon(trigger.through.set)  # after the frame has gone on

    def note(self, pid: int | None, request: Request, body: Frame) -> None:
        """A broker's answer to a transactional request."""
        answer = Answered(time.monotonic(), pid, request, error_of(request, body))
        self.answered.append(answer)
        name = request.transactional_id
        if answer.error or name is None:
            return
        if request.api == Api.INIT_PRODUCER_ID:
            self._owners[name] = producer_of(request, body)
            self.owners_pids[name] = pid
        elif request.producer and request.commits and name in self._owners and request.producer != self._owners[name]:
            self.accepted.append(answer)


class _Connection:
    """One connection of a sealer's, and its counterpart at the broker."""

    def __init__(
        self,
        relays: Relays,
        port: int,
        pid: int | None,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._relays = relays
        self.port = port
        self.pid = pid
        self._near_reader, self._near = near
        self._far_reader, self._far = far
        self._waiting: dict[int, Request] = {}
        self._repeats = 0

    async def run(self) -> None:
        """Until either side ends it. What was held when the sealer went still reaches the broker."""
        up, down = asyncio.create_task(self._up()), asyncio.create_task(self._down())
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            if not down.done():
                await asyncio.wait((down,), timeout=LINGER_S if self._waiting else 0)
        finally:
            self.abort()
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    def abort(self) -> None:
        """End both sides at once."""
        self._near.transport.abort()
        self._far.transport.abort()

    def hang_up(self) -> None:
        """End the sealer's side."""
        self._near.transport.abort()

    def repeat(self, request: Request, body: Frame) -> None:
        """Send a request once more."""
        self._repeats += 1
        self._write(self._far, with_correlation(body, REPEATED + self._repeats))

    async def _up(self) -> None:
        with contextlib.suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            while True:
                body = await self._frame(self._near_reader)
                request = request_of(body)
                if await self._relays.passes(self, request, body, Side.REQUEST) is Pass.CUT:
                    return self.abort()
                self._waiting[request.correlation] = request
                self._write(self._far, body)
                await self._far.drain()

    async def _down(self) -> None:
        with contextlib.suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            while True:
                body = await self._frame(self._far_reader)
                request = self._waiting.pop(correlation_of(body), None)
                if request is None:
                    continue  # to a repeated request
                if request.api in FLEXIBLE_FROM:
                    self._relays.note(self.pid, request, body)
                if await self._relays.passes(self, request, body, Side.RESPONSE) is Pass.CUT:
                    return self.abort()
                with contextlib.suppress(OSError, ssl.SSLError):  # who asked may be gone; the answers still count
                    self._write(self._near, body)
                    await self._near.drain()

    async def _frame(self, reader: asyncio.StreamReader) -> Frame:
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(size)

    def _write(self, writer: asyncio.StreamWriter, body: Frame) -> None:
        if not writer.is_closing():
            writer.write(struct.pack(">i", len(body)) + body)
