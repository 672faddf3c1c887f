"""What Faust is started with: addresses, topics, agents, and how it stops.

The worker runs in its process's main thread and ends with SIGTERM or SIGINT; what was handled by then is committed. Nothing
is made on the brokers: every topic and right stands in the catalogue.
"""

from __future__ import annotations

import signal
import ssl
import sys
import tempfile
from collections.abc import AsyncIterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
import structlog

from processors.detect.detector import ACTIVITY_BACK, Detector, Handle, Load, Read, Stating
from processors.detect.driver import CommittedApp
from processors.detect.rules import Rules
from schemas.catalogue import topic_name
from schemas.registry import packaged_registry
from schemas.settings import Settings
from sealtrail.errors import ConfigError, TransientError

GROUP = "detect"
SESSION_S = 10.0  # after a kill the successor waits so long for its partitions
FETCH_BYTES = 4_194_304  # above the largest record of a topic here
COMMIT_S = 1.0

_LOG = structlog.get_logger("processors.detect")


@dataclass(slots=True)
class _Made:
    """What the agents need once the app runs."""

    detector: Detector | None = None


def run_detector(settings: Settings, emitter: Stating) -> None:
    """Detect until told to stop.

    Raises:
        ConfigError: a setting, certificate or rule is wrong.
        TransientError: it could not go on; start again.
    """
    rules = Rules.load(settings.detect_rules)
    with tempfile.TemporaryDirectory(prefix="sealtrail-detect-") as folder:
        app = new_app(settings, Path(folder))
        made = _Made()
        _agents(app, settings, made)

        async def send(key: bytes, value: bytes) -> None:
            await (await matches.send(key=key, value=value))

        matches = raw_topic(app, settings, "audit.detect-matches")
        made.detector = Detector(settings, rules, packaged_registry(), emitter, send)
        for asked in (signal.SIGTERM, signal.SIGINT):
            signal.signal(asked, lambda *_: sys.exit(0))  # until the worker has handlers of its own
        _LOG.info("detector starts", rules=sorted(rules.by_name))
        worker = faust.Worker(
            app, loglevel="WARN", logging_config=_LOGGING, redirect_stdouts=False, stdout=sys.stderr, workdir=Path.cwd()
        )
        try:
            worker.execute_from_commandline()
        except SystemExit as ended:
            if ended.code:
                raise TransientError("the detector could not go on; see the log") from None
        finally:
            made.detector.close()


def new_app(settings: Settings, folder: Path, kind: type[faust.App] = CommittedApp) -> faust.App:
    """An app in the detector's group. folder: Faust wants one, and keeps nothing in it. Raises ConfigError."""
    settings.require("kafka_bootstrap", "kafka_ca", "kafka_certificate", "kafka_key")
    try:
        context = ssl.create_default_context(cafile=str(settings.kafka_ca))
        context.load_cert_chain(str(settings.kafka_certificate), str(settings.kafka_key))
    except (OSError, ssl.SSLError):
        raise ConfigError("setting kafka_ca, kafka_certificate or kafka_key: cannot be read") from None
    return kind(
        topic_name(settings.topic_prefix, GROUP),
        broker=[f"kafka://{address}" for address in settings.kafka_bootstrap.split(",")],
        broker_credentials=faust.SSLCredentials(context),
        broker_commit_interval=COMMIT_S,
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=SESSION_S / 3,
        consumer_max_fetch_size=FETCH_BYTES,
        datadir=str(folder),
        producer_acks=-1,
        store="memory://",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )


def raw_topic(app: faust.App, settings: Settings, name: str) -> Any:
    """A topic of the catalogue, its records as bytes."""
    full = topic_name(settings.topic_prefix, name)
    return app.topic(full, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def _agents(app: faust.App, settings: Settings, made: _Made) -> None:
    async def follow(stream: Any, handle: str, load: str | None = None, back: int | None = None) -> None:
        events: AsyncIterable[Any] = stream.noack().events()
        async for event in events:
            message, detector = event.message, made.detector
            if detector is None or event.value is None:
                continue
            record = Read(message.topic, message.partition, message.offset, event.value)
            handler: Handle = getattr(detector, handle)
            loader: Load | None = getattr(detector, load) if load else None
            await detector.follow(record, app.consumer_generation_id, handler, loader, back)
            event.ack()

    @app.agent(raw_topic(app, settings, "audit.siem"), name="events")
    async def events(stream: Any) -> None:
        await follow(stream, "event")

    @app.agent(raw_topic(app, settings, "audit.activity"), name="activity")
    async def activity(stream: Any) -> None:
        await follow(stream, "activity", "load_activity", ACTIVITY_BACK)

    @app.agent(raw_topic(app, settings, "audit.detect-matches"), name="matches")
    async def matches(stream: Any) -> None:
        await follow(stream, "match", "load_match")


_LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": structlog.stdlib.ProcessorFormatter,
            "foreign_pre_chain": [structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)],
            "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
}
