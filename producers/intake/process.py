"""The intake as a process: sources, emitters and threads from the settings; start, orderly end.

Plaintext is spoken on loopback alone. Each source has an emitter of its own, under the instance that this process is: the trail
says who stated an event and not who carried it. An event without room is refused (503), whatever `when_full` says: one caller
that waited would keep all the others waiting.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import structlog
from aiohttp import web

from kafkaio.producer import IdempotentProducer
from producers.audit import AuditProducer, ProducerFactory
from producers.handover import Handover
from producers.intake.desk import Desk
from producers.intake.reading import DraftReader
from producers.intake.server import Limits, Server, Speaker
from producers.intake.settling import Settling
from producers.intake.sources import load_sources
from schemas.registry import packaged_registry
from schemas.settings import Settings
from sealtrail.errors import ConfigError, TransientError

IDLE_S = 75.0  # of a connection between requests, and of one that sends no whole header; above a balancer's usual 60
CLOSE_S = 30.0  # for all emitters together; a broker that restarts is back in 5 to 10 s
SPOOLED_CLOSE_S = 3.0  # what is in a spool arrives anyway; for brokers that are there
LOOK_S = 0.1  # between two looks at whether to end

_ADDRESS = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+)):(\d{1,5})")
_LOG = structlog.get_logger("producers.intake")


class Intake:
    """One process of the intake; `run` once.

    Args:
        settings: of the role; `intake_tokens` is needed, beside what an `AuditProducer` needs.
        instance: see `Identity`; stable over restarts, so that the spool of the one before is found.

    Raises:
        ConfigError: names the setting.
    """

    def __init__(
        self, settings: Settings, instance: str, *, producer_factory: ProducerFactory = IdempotentProducer.connect
    ) -> None:
        settings.require("intake_tokens")
        assert settings.intake_tokens is not None
        self._settings = settings
        self._instance = instance
        self._factory = producer_factory
        self._host, self._port = _listen(settings.intake_listen)
        self._tls = _tls(settings, self._host)
        self._sources = load_sources(settings.intake_tokens)
        self.address: tuple[str, int] | None = None  # while it listens

    def run(self, stop: threading.Event) -> None:
        """Take events until told to stop; then finish what was begun, and close the emitters.

        Raises:
            ConfigError: no key for a source, or the address cannot be listened on.
            EvidenceError: a spool cannot be read.
            TransientError: some events are not acknowledged, and no spool keeps them.
        """
        with self._emitters() as emitters, ExitStack() as threads:
            desk = threads.enter_context(ThreadPoolExecutor(1, "intake desk"))
            waits = {name: threads.enter_context(ThreadPoolExecutor(1, f"intake {name}")) for name in emitters}
            asyncio.run(self._serve(stop, self._server(emitters, desk, waits)))

    @contextmanager
    def _emitters(self) -> Iterator[dict[str, AuditProducer]]:
        """An emitter a source; all are closed, and the first that cannot be in order is told."""
        made: dict[str, AuditProducer] = {}
        try:
            for source in self._sources.all:
                made[source.name] = AuditProducer(
                    self._settings,
                    source.name,
                    self._instance,
                    source.tenants,
                    producer_factory=self._factory,
                    handover=lambda: Handover(wait=False),
                )
            yield made
        except BaseException:
            _closed(made.values(), 1.0)  # why it ends is the error under way, not what it leaves
            raise
        trouble = _closed(made.values(), CLOSE_S if self._settings.spool is None else SPOOLED_CLOSE_S)
        if trouble is not None:
            raise trouble

    def _server(self, emitters: Mapping[str, AuditProducer], desk: Executor, waits: Mapping[str, Executor]) -> Server:
        settings = self._settings
        read = DraftReader(packaged_registry())
        spooled = settings.spool is not None
        speakers = {
            source.name: Speaker(
                source,
                emitters[source.name],
                Desk(source, emitters[source.name], read),
                Settling(
                    emitters[source.name].await_spool if spooled else emitters[source.name].await_broker,
                    waits[source.name],
                    settings.intake_durable_s,
                ),
                spooled,
            )
            for source in self._sources.all
        }
        limits = Limits(settings.intake_body_bytes, settings.intake_body_s, settings.intake_durable_s)
        return Server(self._sources, speakers, limits, desk)

    async def _serve(self, stop: threading.Event, server: Server) -> None:
        limits = self._settings.intake_body_s + self._settings.intake_durable_s
        runner = web.AppRunner(
            server.application(),
            access_log=None,  # its lines would carry what callers put into a path
            logger=_quiet(),
            keepalive_timeout=IDLE_S,
            lingering_time=1.0,
            auto_decompress=False,
            shutdown_timeout=limits,
        )
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, self._host, self._port, ssl_context=self._tls).start()
            except OSError as error:
                raise ConfigError(f"setting intake_listen: cannot listen: {error.strerror}") from None
            self.address = runner.addresses[0][:2]
            _LOG.info("listening", host=self.address[0], port=self.address[1], sources=len(self._sources.all))
            while not stop.is_set():
                await asyncio.sleep(LOOK_S)
        finally:
            self.address = None
            await runner.cleanup()  # takes no more connections, answers what was asked


def _closed(emitters: Iterable[AuditProducer], timeout_s: float) -> TransientError | None:
    """Close all of them within the time; the first trouble, if there is one."""
    deadline, trouble = time.monotonic() + timeout_s, None
    for emitter in emitters:
        try:
            emitter.close(max(1.0, deadline - time.monotonic()))
        except TransientError as error:
            trouble = trouble or error
    return trouble


class _TypeAlone(logging.Handler):
    """The server library's complaints, without their words: they may quote a request."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        _LOG.warning("connection failed", problem=kind.__name__ if kind else record.levelname)


def _quiet() -> logging.Logger:
    logger = logging.getLogger("producers.intake.http")
    logger.propagate = False
    logger.handlers = [_TypeAlone(logging.WARNING)]
    return logger


def _listen(address: str) -> tuple[str, int]:
    matched = _ADDRESS.fullmatch(address)
    if matched is None or int(matched[3]) > 65535:
        raise ConfigError("setting intake_listen: expected host:port")
    return matched[1] or matched[2], int(matched[3])


def _tls(settings: Settings, host: str) -> ssl.SSLContext | None:
    if settings.intake_certificate is None and settings.intake_key is None:
        if not _loopback(host):
            raise ConfigError("setting intake_certificate is missing: without TLS the intake listens on loopback alone")
        return None
    settings.require("intake_certificate", "intake_key")
    assert settings.intake_certificate is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.intake_certificate, settings.intake_key)
    except (OSError, ssl.SSLError):  # the reason may be a passphrase that nobody can give here
        raise ConfigError("settings intake_certificate, intake_key: not a certificate and its unencrypted key") from None
    return context


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
