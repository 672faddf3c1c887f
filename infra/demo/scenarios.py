"""The six scenarios of CTL-4: each act is performed, and its record is found, never emitted, by the scenario.

    data export       a person searches the trail and writes the rows to a file
    retention edit    a person edits the policy and loads it
    connector off     a connector's process is switched off
    failed delivery   a receiver refuses a message
    legal hold        a person places a legal hold
    silence           a connector's process is killed, until the detector speaks

Who performs an act is a command or a process of the product, under an identity of its own; what it says of itself goes the
way of every event. A scenario knows its record by what the act alone can have caused: a ticket, an instance, a matter.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any

import httpx2

from auditor.console import EXIT_PARTIAL
from infra.demo.path import Receivers
from infra.demo.session import SILENCE_S, Session
from infra.demo.trail import Sealed, Trail
from infra.receivers.chat import Rules
from processors.detect.finding import FINDING
from sealtrail.errors import TransientError

SEALED_S = 60.0  # until an act's record must be sealed; a second or two on an idle machine
EXPORTED_TENANT, HELD_TENANT = "acme", "initech"
OFF_INSTANCE, REFUSED_INSTANCE, SILENT_INSTANCE = "switched-off", "refused", "killed"
MATTER, EXPORT_TICKET, POLICY_TICKET = "2026-demo", "GRC-3", "GRC-7"
OLD_DAYS, NEW_DAYS = "archive_days = 366, hot_days = 90", "archive_days = 400, hot_days = 90"
SECRET = "Zebulon-Quixote-Marker-77"  # planted wherever people write why; content, so it must reach no store that people search

Event = dict[str, Any]
Act = Callable[[Session, Receivers], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One act.

    Attributes:
        event_name: what its record is called. siem: whether the policy routes such a record to the SIEM.
        act: performs it. is_it: tells its record from all others.
    """

    name: str
    event_name: str
    siem: bool
    act: Act
    is_it: Callable[[Event], bool]

    def perform(self, session: Session, receivers: Receivers, trail: Trail) -> Sealed:
        """Act, and find the record of it. Raises TransientError when there is none."""
        trail.refresh()  # what is there already is not the act's
        started = time.monotonic()
        self.act(session, receivers)
        found = trail.find(
            self.name, lambda event: event["event_name"] == self.event_name and self.is_it(event), SEALED_S + SILENCE_S
        )
        session.report.line(f"{self.name}: {self.event_name} sealed, {time.monotonic() - started:.1f} s with the act itself")
        return found


def scenarios() -> tuple[Scenario, ...]:
    """All six."""
    return (
        Scenario("data export", "trail.export_completed", True, _export, lambda e: bool(e["tenant"] == EXPORTED_TENANT)),
        Scenario(
            "retention edit", "policy.retention.changed", True, _edit_retention, lambda e: bool(e["ticket"] == POLICY_TICKET)
        ),
        Scenario("connector off", "chat.connector.stopped", True, _switch_off, _of(OFF_INSTANCE)),
        Scenario("failed delivery", "chat.message.failed", False, _refuse, _of(REFUSED_INSTANCE)),
        Scenario("legal hold", "hold.placed", True, _hold, lambda e: MATTER in str(e["object"])),
        Scenario("silence of a source", "detection.silent_source", True, _silence, _is_about(SILENT_INSTANCE)),
    )


def _export(session: Session, _: Receivers) -> None:
    session.command(
        "search", "class:admin,operational", "--purpose", "audit", "--tenant", EXPORTED_TENANT, "--limit", "500",
        "--output", str(session.folder / "export.jsonl"), "--ticket", EXPORT_TICKET, "--approver", "A. Boss", role="reader",
        good=(0, EXIT_PARTIAL),  # debug events are not an auditor's to export
    )  # fmt: skip


def _edit_retention(session: Session, _: Receivers) -> None:
    edited = session.folder / "edited-policy"
    with as_file(files("schemas") / "policy") as packaged:
        shutil.copytree(packaged, edited)
    base = edited / "base.toml"
    text = base.read_text("utf-8")
    if text.count(OLD_DAYS) != 1:
        raise TransientError("the packaged policy keeps operational records otherwise than the demo expects")
    base.write_text(text.replace(OLD_DAYS, NEW_DAYS), "utf-8")
    session.command(
        "policy", "load", str(edited), "--reason", f"asked: {SECRET} in full", "--ticket", POLICY_TICKET, role="publisher"
    )


def _switch_off(session: Session, receivers: Receivers) -> None:
    session.start("chat-off", *_idle(OFF_INSTANCE, receivers), role="chat")
    session.wait_for_line("chat-off", "started")
    status = session.end("chat-off")
    if status != 0:
        raise TransientError(f"the connector that was switched off ended with status {status}; see {session.log('chat-off')}")


def _refuse(session: Session, receivers: Receivers) -> None:
    _rule(receivers, refuse=1.0)
    try:
        session.command(
            "emit", "chat", "--receiver", receivers.chat, "--messages", "1", "--tenants", EXPORTED_TENANT,
            "--instance", REFUSED_INSTANCE, "--prefix", "refused", role="chat",
        )  # fmt: skip
    finally:
        _rule(receivers, refuse=0.0)


def _hold(session: Session, _: Receivers) -> None:
    session.command(
        "hold", "place", MATTER, "--tenant", HELD_TENANT, "--class", "admin", "--reason", f"about {SECRET} and more",
        role="holds",
    )  # fmt: skip


def _silence(session: Session, receivers: Receivers) -> None:
    session.start("chat-silent", *_idle(SILENT_INSTANCE, receivers), role="chat")
    session.wait_for_line("chat-silent", "started")
    time.sleep(2.0)  # its first pulses
    session.end("chat-silent", kill=True)


def _idle(instance: str, receivers: Receivers) -> tuple[str, ...]:
    return (
        "emit", "chat", "--receiver", receivers.chat, "--messages", "0", "--idle", "--tenants", EXPORTED_TENANT,
        "--instance", instance,
    )  # fmt: skip


def _rule(receivers: Receivers, refuse: float) -> None:
    answer = httpx2.post(f"{receivers.chat}/rules", json={"refuse": refuse}, timeout=10)
    if answer.status_code != 200 or Rules(**answer.json()).refuse != refuse:
        raise TransientError("the receiver did not take the rule")


def _of(instance: str) -> Callable[[Event], bool]:
    return lambda event: bool(event["emitter"]["instance"] == instance)


def _is_about(instance: str) -> Callable[[Event], bool]:
    def is_it(event: Event) -> bool:
        group = FINDING.decode_body(event["extension"]["payload"])["group"]
        return any(value["value"] == instance for value in group)

    return is_it
