"""`sealtrail emit github FILE…`: webhooks from files, handed over as the connector would.

People read stderr; `--json` writes one document on stdout. Exit: 0 all acknowledged; 2 usage; 3 configuration; 4 Kafka
did not acknowledge in time; 5 some events were refused.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from auditor.console import EXIT_CONFIGURATION, EXIT_PARTIAL, EXIT_UNREACHABLE, EXIT_USAGE
from producers.audit import AuditProducer
from producers.github import GithubConnector
from producers.github.files import webhooks
from schemas.settings import Settings
from sealtrail.errors import ConfigError, ContractError, TransientError

SOURCE = "github"
CLOSE_S = 60.0  # a stack that is still coming up takes less
SHOWN_REFUSALS = 5


@dataclass(slots=True)
class Emitted:
    """What became of the webhooks of one command."""

    emitted: int
    refused: int
    malformed: int
    acknowledged: int
    seconds: float
    by_name: dict[str, int]


def github(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="A payload, a list of payloads, or an index.json.")],
    event: Annotated[str | None, typer.Option(help="The webhook's name (X-GitHub-Event) of bare payloads.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose events they are; may be left out when there is only one.")] = None,
    instance: Annotated[str, typer.Option(help="Which running copy of the connector speaks.")] = "emit",
    config: Annotated[Path | None, typer.Option(envvar="SEALTRAIL_CONFIG", help="The connector's settings.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Map GitHub webhooks to audit events and hand them to Kafka; waits until Kafka has acknowledged them."""
    found = list(_read(files, event))
    try:
        settings = Settings.load(config or Path(f".sealtrail/roles/{SOURCE}.toml"))
        result = emit_github(settings, found, tenant, instance)
    except ConfigError as error:
        raise _exit(str(error), EXIT_CONFIGURATION) from None
    except TransientError as error:
        raise _exit(str(error), EXIT_UNREACHABLE) from None
    if as_json:
        print(json.dumps({name: getattr(result, name) for name in Emitted.__slots__}, indent=1))
    _say(
        f"{result.emitted} webhooks handed over in {result.seconds:.1f} s, {result.acknowledged} records acknowledged "
        f"(the emitter's own included); {result.malformed} malformed, {result.refused} refused"
    )
    if result.refused:
        raise typer.Exit(EXIT_PARTIAL)


def emit_github(
    settings: Settings,
    found: list[tuple[str, object]],
    tenant: str | None,
    instance: str,
    make: Callable[[Settings, str, str], AuditProducer] = AuditProducer,
) -> Emitted:
    """Hand all webhooks over, in order, and close. Raises ConfigError and TransientError; refusals are counted."""
    began = time.monotonic()
    emitter = make(settings, SOURCE, instance)
    try:
        whose = tenant or _only(emitter.tenants)
        connector = GithubConnector(emitter)
        refused = 0
        for hook, payload in found:
            try:
                connector.handle(hook, payload, whose)
            except ContractError as error:
                refused += 1
                if refused <= SHOWN_REFUSALS:
                    _say(f"refused a {hook}: {error}")
    finally:
        emitter.close(CLOSE_S)
    by_name = dict(sorted(connector.mapped.items()))
    emitted = len(found) - refused
    return Emitted(emitted, refused, connector.malformed, emitter.counts.acknowledged, time.monotonic() - began, by_name)


def _read(files: list[Path], event: str | None) -> Iterator[tuple[str, object]]:
    for path in files:
        try:
            yield from webhooks(path.read_bytes(), event)
        except OSError as error:
            raise _exit(f"{path}: {error.strerror}", EXIT_USAGE) from None
        except ValueError as error:
            raise _exit(f"{path}: {error}", EXIT_USAGE) from None


def _only(tenants: tuple[str, ...]) -> str:
    if len(tenants) != 1:
        raise ConfigError(f"option --tenant is needed: this connector speaks for {', '.join(tenants) or 'none'}")
    return tenants[0]


def _exit(message: str, code: int) -> typer.Exit:
    _say(message)
    return typer.Exit(code)


def _say(message: str) -> None:
    print(f"sealtrail emit: {message}", file=sys.stderr)
