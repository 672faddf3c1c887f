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


_GROUPS = ("emit", "run", "archive", "hold", "policy", "keys", "schema")  # each a module of its name with an `app`
_SINGLE = {  # a module of its name with this function
    "verify": "verify",
    "search": "search",
    "replay": "replay_command",
    "show": "show",
    "reveal": "reveal",
    "prove": "prove",
    "export": "export",
}


def build(only: str = "") -> typer.Typer:
    """The whole command, with what is installed beside it; or, if `only` is the name of one of its commands, that one alone.

    What is not asked for is not loaded: a sealer that runs for months holds no client of the archive and of search.
    """
    app = typer.Typer(name="sealtrail", help=HELP, no_args_is_help=True, pretty_exceptions_show_locals=False)
    app.callback()(lambda: None)  # else a single command would take the place of the whole
    load = {name: _loader(name, "app") for name in _GROUPS} | {name: _loader(name, what) for name, what in _SINGLE.items()}
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


def _loader(module: str, what: str) -> Callable[[], Any]:
    return lambda: getattr(import_module(f"auditor.commands.{module}"), what)
