"""What every command shares: its settings, its exit codes, its log.

People read stderr; machines read stdout, with `--json`. Exit codes: 0 good, 1 a check failed, 2 usage,
3 configuration, 4 a dependency is unreachable, 5 partial.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated
from uuid import UUID

import structlog
import typer
from prometheus_client import start_http_server

from schemas.settings import Settings
from sealtrail.errors import ConfigError, ContractError, EvidenceError, TransientError, UndecidedError

EXIT_FAILED, EXIT_USAGE, EXIT_CONFIGURATION, EXIT_UNREACHABLE, EXIT_PARTIAL = 1, 2, 3, 4, 5

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", envvar="SEALTRAIL_CONFIG", help="Settings file; default: the local stack's, for the role."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def settings_of(config: Path | None, role: str, **flags: object) -> Settings:
    """The settings of a role: the file named, or the local stack's file for the role.

    Raises:
        ConfigError: naming the file or the setting.
    """
    path = config or Path(".sealtrail/roles") / f"{role}.toml"
    if not path.is_file():
        raise ConfigError(f"no settings file at {path}; name one with --config, or start the local stack: make up")
    return Settings.load(path, **flags)


@contextmanager
def explained() -> Iterator[None]:
    """Turn an error of ours into one line on stderr and its exit code."""
    codes = (
        (ConfigError, EXIT_CONFIGURATION),
        (TransientError, EXIT_UNREACHABLE),
        (UndecidedError, EXIT_UNREACHABLE),
        (ContractError, EXIT_FAILED),
        (EvidenceError, EXIT_FAILED),
    )
    try:
        yield
    except tuple(kind for kind, _ in codes) as error:
        say(str(error))
        raise typer.Exit(next(code for kind, code in codes if isinstance(error, kind))) from None


def event_uuid(text: str) -> UUID:
    """An event's id as people give it; what is none ends the command, as wrong usage."""
    try:
        return UUID(text)
    except ValueError:
        say("EVENT_ID must be a UUID")
        raise typer.Exit(EXIT_USAGE) from None


def say(message: str) -> None:
    """One line to a person."""
    print(f"sealtrail: {message}", file=sys.stderr)


def log_to_stderr(**always: object) -> None:
    """Logs as one JSON object a line on stderr, for every command: stdout is for results.

    A line is one write, so that those of several processes do not get into each other. `always`: what stands in every line.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            lambda _, __, line: {**always, **line},
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


def run_until_stopped(settings: Settings, run: Callable[[threading.Event], None]) -> None:
    """Run a process of the pipeline until SIGTERM or SIGINT: logs to stderr, metrics on loopback if asked for.

    Raises ConfigError when the metrics port cannot be had.
    """
    stop = threading.Event()

    def ask(_: int, __: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    if settings.metrics_port:
        try:
            start_http_server(settings.metrics_port, addr="127.0.0.1")
        except OSError as error:
            raise ConfigError(f"setting metrics_port: {settings.metrics_port} cannot be had: {error.strerror}") from error
    run(stop)
