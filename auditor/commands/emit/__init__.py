"""`sealtrail emit …`: connectors, started by hand or by a service manager."""

from __future__ import annotations

import typer

from auditor.commands.emit.chat import chat
from auditor.commands.emit.deployment import deployment
from auditor.commands.emit.github import emit_github, github

app = typer.Typer(name="emit", help="Hand events over to the trail.", no_args_is_help=True)
app.command()(github)
app.command()(chat)
app.command()(deployment)

__all__ = ["app", "emit_github"]
