"""The commands of the local stack: `sealtrail stack up | down | status | reset`, and the door to `sealtrail demo`.

Registered through the entry-point group `sealtrail.commands`. People read stderr; `status --json` writes stdout.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from infra.places import Ports
from infra.report import Reporter
from infra.stack import DEFAULT_STATE, Stack
from sealtrail.errors import ConfigError, TransientError

EXIT_CONFIGURATION = 3
EXIT_UNREACHABLE = 4

stack = typer.Typer(
    name="stack", help="The local stack: Kafka, an S3 server with Object Lock, OpenSearch.", no_args_is_help=True
)

State = Annotated[Path, typer.Option("--state", help="Folder of the stack's state.", envvar="SEALTRAIL_STATE")]
BasePort = Annotated[int | None, typer.Option("--base-port", help="First of twelve consecutive ports.")]
NoSearch = Annotated[bool, typer.Option("--no-search", help="Do not start OpenSearch.")]


@contextmanager
def _explained() -> Generator[None]:
    """Turn our errors into one line on stderr and the exit code that the manual states."""
    try:
        yield
    except ConfigError as error:
        print(f"sealtrail stack: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_CONFIGURATION) from None
    except TransientError as error:
        print(f"sealtrail stack: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_UNREACHABLE) from None


def _stack(state: Path, base_port: int | None = None) -> Stack:
    return Stack(state, ports=Ports.from_base(base_port) if base_port else None, report=Reporter())


@stack.command()
def up(state: State = DEFAULT_STATE, base_port: BasePort = None, no_search: NoSearch = False) -> None:
    """Bring the servers up and wait until they are healthy; harmless when they are."""
    with _explained():
        _stack(state, base_port).up(search=not no_search)


@stack.command()
def down(state: State = DEFAULT_STATE) -> None:
    """End the servers of this state folder; data stays."""
    with _explained():
        _stack(state).down()


@stack.command()
def status(
    state: State = DEFAULT_STATE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show each server; exit status 4 when one that was started does not answer."""
    with _explained():
        found = _stack(state).status()
    if as_json:
        print(json.dumps([asdict(server) for server in found], indent=1))
    for server in found if not as_json else ():
        word = "healthy" if server.healthy else "not answering" if server.running else "down"
        print(
            f"{server.name:<11} {word:<14} {server.address:<16} pid {server.pid or '-':<8} "
            f"{server.memory_mib:>5} MiB  {server.log}",
            file=sys.stderr,
        )
    if any(server.running and not server.healthy for server in found) or not any(server.running for server in found):
        raise typer.Exit(EXIT_UNREACHABLE)


@stack.command()
def reset(state: State = DEFAULT_STATE) -> None:
    """End the servers and remove the state folder: all data, keys and credentials."""
    with _explained():
        _stack(state).reset()


def demo() -> None:
    """Real events into archive, search and SIEM, six scenarios performed; then verify, and try to break the archive."""
    from infra.demo import main

    main()
