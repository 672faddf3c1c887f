"""`sealtrail policy load | show`: the class policy that is in force, and a change of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from auditor.console import AsJson, ConfigFile, explained, say, settings_of
from auditor.policy import Authority, Loaded, difference, load
from producers.audit import AuditProducer
from schemas.policy import Policy, Roles, in_words
from schemas.policy_files import PolicyFiles

SOURCE, INSTANCE = "publisher", "command"
CLOSE_S = 30.0

app = typer.Typer(name="policy", help="The class policy: what is kept how long, and where it goes.", no_args_is_help=True)


@app.command("load")
def load_command(
    folder: Annotated[Path, typer.Argument(help="Where the edited base.toml and tenants/*.toml are.")],
    reason: Annotated[str, typer.Option(help="Why; it is content, so it is masked in the event.")] = "",
    ticket: Annotated[str | None, typer.Option(help="The reference of the change request.")] = None,
    approver: Annotated[str | None, typer.Option(help="Who agreed; hashed in the event.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Bring an edited policy into force: published, stated, installed; running processes take it up within seconds."""
    with explained():
        settings = settings_of(config, SOURCE)
        settings.require("person")
        if dry_run:
            there = settings.policy if settings.policy is not None and settings.policy.exists() else None
            done = Loaded("", difference(PolicyFiles(there).current(), Policy.load(folder)), ())
        else:
            emitter = AuditProducer(settings, SOURCE, INSTANCE)
            try:
                done = load(settings, folder, Authority(settings.person, reason, ticket, approver), emitter)
            finally:
                emitter.close(CLOSE_S)
    changes = done.changes
    for change in changes:
        say(f"{change.scope}{change.path}: {change.before} -> {change.after}")
    if as_json:
        told = [{"scope": c.scope, "path": c.path, "before": c.before, "after": c.after} for c in changes]
        print(json.dumps({"changes": told, "events": [event.hex() for event in done.events]}))
    say(f"{len(changes)} changes{', nothing done' if dry_run else ', in force' if changes else ''}")


@app.command("show")
def show_command(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """The hash of the policy that is in force here; of each class, retention, readers, and who of them may reveal."""
    with explained():
        policy = PolicyFiles(settings_of(config, SOURCE).policy).current()
    if as_json:
        classes = {
            str(name): {
                "archive_days": c.archive_days,
                "hot_days": c.hot_days,
                "readers": _purposes(c.readers),
                "revealers": _purposes(c.revealers),
            }
            for name, c in policy.classes.items()
        }
        print(json.dumps({"policy": policy.notes()[1].hex(), "classes": classes}))
        return
    print(f"policy {policy.notes()[1].hex()}")
    for name, c in policy.classes.items():
        print(f"{name.lower():<12} archive {c.archive_days:>5} days   hot {c.hot_days:>4} days")
        print(f"{'':<12} read by {in_words(c.readers)}")
        print(f"{'':<12} revealed by {in_words(c.revealers)}")


def _purposes(roles: Roles) -> dict[str, list[str]]:
    """By role; a role may be named twice."""
    made: dict[str, list[str]] = {}
    for role, purposes in roles:
        made.setdefault(role, []).extend(purposes)
    return made
