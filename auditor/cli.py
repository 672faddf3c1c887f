"""The command `sealtrail`. Packages above this one add theirs through the entry-point group `sealtrail.commands`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import typer

from auditor.console import log_to_stderr

HELP = """The audit trail of messaging integrations: capture, seal, archive, prove.

Exit codes: 0 good, 1 a check failed, 2 usage, 3 configuration, 4 a dependency is unreachable, 5 partial."""


_COMMANDS = {  # where each is: a function, or a group of them
    "emit": "emit.app",
    "run": "run.app",
    "archive": "archive.app",
    "hold": "hold.app",
    "policy": "policy.app",
    "keys": "keys.app",
    "schema": "schema.app",
    "verify": "verify.verify",
    "search": "search.search",
    "replay": "replay.replay_command",
    "show": "show.show",
    "reveal": "reveal.reveal",
    "prove": "prove.prove",
    "export": "export.export",
}


def build(only: str = "") -> typer.Typer:
    """The whole command, with what is installed beside it; or, if `only` is the name of one of its commands, that one alone.

    What is not asked for is not loaded: a sealer that runs for months holds no client of the archive and of search.
    """
    app = typer.Typer(name="sealtrail", help=HELP, no_args_is_help=True, pretty_exceptions_show_locals=False)
    app.callback()(lambda: None)  # else a single command would take the place of the whole
    load = {name: _loader(place) for name, place in _COMMANDS.items()}
    load |= {p.name: p.load for p in sorted(entry_points(group="sealtrail.commands"), key=lambda p: p.name)}
    for name in [only] if only in load else load:
        command = load[name]()
        if isinstance(command, typer.Typer):
            app.add_typer(command)
        else:
            app.command(name)(command)
    return app


def main() -> None:
    """Entry point of the console script."""
    log_to_stderr()
    build("".join(sys.argv[1:2]))()


def _loader(place: str) -> Callable[[], Any]:
    module, name = place.split(".")
    return lambda: getattr(import_module(f"auditor.commands.{module}"), name)
