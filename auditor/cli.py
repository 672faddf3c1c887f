"""The command `sealtrail`. Packages above this one add theirs through the entry-point group `sealtrail.commands`."""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from auditor.commands import archive, emit, hold, keys, policy, run, schema
from auditor.commands.export import export
from auditor.commands.prove import prove
from auditor.commands.replay import replay_command
from auditor.commands.reveal import reveal
from auditor.commands.search import search
from auditor.commands.show import show
from auditor.commands.verify import verify
from auditor.console import log_to_stderr

HELP = """The audit trail of messaging integrations: capture, seal, archive, prove.

Exit codes: 0 good, 1 a check failed, 2 usage, 3 configuration, 4 a dependency is unreachable, 5 partial."""


def build() -> typer.Typer:
    """The whole command, with what is installed beside it."""
    app = typer.Typer(name="sealtrail", help=HELP, no_args_is_help=True, pretty_exceptions_show_locals=False)
    app.add_typer(emit.app)
    app.add_typer(run.app)
    app.add_typer(archive.app)
    app.add_typer(hold.app)
    app.add_typer(policy.app)
    app.add_typer(keys.app)
    app.add_typer(schema.app)
    app.command("verify")(verify)
    app.command("search")(search)
    app.command("replay")(replay_command)
    app.command("show")(show)
    app.command("reveal")(reveal)
    app.command("prove")(prove)
    app.command("export")(export)
    for point in sorted(entry_points(group="sealtrail.commands"), key=lambda p: p.name):
        command = point.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command)
        else:
            app.command(point.name)(command)
    return app


def main() -> None:
    """Entry point of the console script."""
    log_to_stderr()
    build()()
