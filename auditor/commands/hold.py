"""`sealtrail hold place | list | lift`: what must not go, for as long as a matter lasts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

import typer

from auditor.archive import ArchiveReader
from auditor.console import EXIT_FAILED, AsJson, ConfigFile, explained, say, settings_of
from auditor.holds.holding import Holder, check, lift, place
from auditor.holds.registry import Registry
from auditor.query.build import micros
from auditor.trust import auditor_of, keyring_of
from producers.audit import AuditProducer
from schemas.search_names import CLASSES
from schemas.settings import Settings
from sealtrail.errors import ContractError
from sealtrail.hold import Scope
from sinks.archive.store import ArchiveStore

SOURCE, INSTANCE = "holds", "command"
AUDITOR = "auditor"

app = typer.Typer(name="hold", help="Legal holds: place, list, lift.", no_args_is_help=True)

Matter = Annotated[str, typer.Argument(help="The matter's name: lower case letters, digits and ._-")]
Reason = Annotated[str, typer.Option(help="Why; it is content, so it is masked in the event.")]
Ticket = Annotated[str | None, typer.Option(help="The reference of the request.")]


@app.command("place")
def place_command(
    matter: Matter,
    tenant: Annotated[str, typer.Option(help="Whose records.")],
    log_class: Annotated[
        list[str] | None, typer.Option("--class", help="Only this class; may be given more than once.")
    ] = None,
    since: Annotated[str, typer.Option("--from", help="Sealed at this time or later.")] = "",
    until: Annotated[str, typer.Option("--to", help="Sealed before this time.")] = "",
    reason: Reason = "",
    ticket: Ticket = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Copy what is archived in scope under S3 legal hold; answers once it is in force. Again: adds what came since."""
    with explained():
        scope = Scope(tenant, _classes(log_class or []), micros(since, "--from"), micros(until, "--to"))
        with opened(settings_of(config, SOURCE)) as holder:
            done = place(holder, matter, scope, reason, ticket)
    event = str(UUID(bytes=done.event))
    if as_json:
        print(json.dumps({**asdict(done), "matter": matter, "event": event}))
    say(
        f"{matter} is in force: {done.frames} frames held, {done.copied} copied now ({done.size} bytes), "
        f"{done.expired} contents had expired before; event {event}"
    )


@app.command("list")
def list_command(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Every matter, each copy of those in force checked in the archive. Exit 1 when one is damaged or was not completed."""
    with explained(), opened(settings_of(config, SOURCE), states=False) as holder:
        found = [check(holder, known) for _, known in sorted(holder.registry.all().items())]
    if as_json:
        print(json.dumps([asdict(state) for state in found], indent=1))
    else:
        for state in found:
            whose = f"{state.scope.tenant} {','.join(state.scope.classes) or 'all'}"
            print(f"{state.matter:<32} {state.state:<9} {state.frames:>6} frames  {whose}")
    for state in found:
        for problem in state.problems:
            say(f"{state.matter}: {problem}")
    if any(state.problems for state in found):
        raise typer.Exit(EXIT_FAILED)


@app.command("lift")
def lift_command(
    matter: Matter, reason: Reason = "", ticket: Ticket = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Take the legal holds off; the event is stated first. Nothing is deleted."""
    with explained(), opened(settings_of(config, SOURCE)) as holder:
        count = lift(holder, matter, reason, ticket)
    if as_json:
        print(json.dumps({"matter": matter, "frames": count}))
    say(f"{matter} is lifted: {count} frames")


@contextmanager
def opened(settings: Settings, *, states: bool = True) -> Iterator[Holder]:
    """The holder that the settings describe.

    Args:
        states: whether it will state events; listing does not.

    Raises:
        ConfigError, TransientError: see the parts.
    """
    settings.require("person", "keys")
    keyring = keyring_of(settings)
    signer, _ = auditor_of(settings, keyring)
    with Registry(settings) as registry:
        emitter = AuditProducer(settings, SOURCE, INSTANCE) if states else None
        try:
            yield Holder(
                ArchiveReader(settings),
                ArchiveStore(settings),
                registry,
                emitter or _Silent(),
                signer,
                keyring,
                settings.authority,
                f"{settings.authority}/{settings.deployment}/",
                settings.person,
                lambda: time.time_ns() // 1000,
            )
        finally:
            if emitter is not None:
                emitter.close(30.0)


class _Silent:
    """For what states nothing."""

    def emit(self, _: object) -> bytes:
        raise AssertionError("a listing states nothing")

    def await_broker(self, _: float) -> bool:
        raise AssertionError("a listing states nothing")


def _classes(names: list[str]) -> tuple[str, ...]:
    known = {c.lower() for c in CLASSES}
    for name in names:
        if name.lower() not in known:
            raise ContractError("class", f"there are {', '.join(sorted(known))}")
    return tuple(sorted({name.lower() for name in names}))
