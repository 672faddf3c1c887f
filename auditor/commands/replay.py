"""`sealtrail replay`: the archive topic read again from where one wants, verified, to stdout or a file; nowhere else."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from auditor.access import Access, Act
from auditor.commands.search import Purpose, Tenant
from auditor.console import EXIT_FAILED, EXIT_USAGE, AsJson, ConfigFile, explained, say, settings_of
from auditor.export import JSON_LINES, as_text, check_output, export
from auditor.printing import event_document, seal_document
from auditor.query.build import micros
from auditor.replay import Range, Replayed, TopicFinding, Walk, replay
from auditor.trust import keyring_of
from kafkaio.reader import PartitionReader
from kafkaio.transaction import Ends
from schemas.catalogue import topic_name
from schemas.registry import packaged_registry
from schemas.settings import Settings
from sealtrail.errors import ConfigError
from sealtrail.seal import Kind


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events of the range are given; "" for any."""

    tenant: str = ""
    source: str = ""
    correlation: str = ""

    @property
    def anything(self) -> bool:
        """Whether seals that are not events are given as well."""
        return not (self.tenant or self.source or self.correlation)

    def matches(self, event: dict[str, Any]) -> bool:
        """Whether an event is one of them."""
        return (
            self.tenant in ("", event["tenant"])
            and self.source in ("", event["emitter"]["source"])
            and self.correlation in ("", event["correlation_id"])
        )


@dataclass(slots=True)
class Outcome:
    """What was read, what of it was given, and what is wrong."""

    access: str = ""
    read: int = 0
    given: int = 0
    bytes: int = 0  # of what was given, as on the topic
    not_attested: int = 0  # of what was given
    classes: Counter[str] = field(default_factory=Counter)  # of what was given
    tenants: Counter[str] = field(default_factory=Counter)
    not_shown: Counter[str] = field(default_factory=Counter)  # matched, but the policy does not let this reader see it
    findings: list[TopicFinding] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        plain = {name: getattr(self, name) for name in ("access", "read", "given", "bytes", "not_attested")}
        counters = {name: dict(getattr(self, name)) for name in ("classes", "tenants", "not_shown")}
        findings = [{name: getattr(f, name) for name in TopicFinding.__slots__} for f in self.findings]
        return {**plain, **counters, "findings": findings}


def replay_command(
    purpose: Purpose,
    since: Annotated[str, typer.Option("--from", help="Sealed at this time or later.")] = "",
    until: Annotated[str, typer.Option("--to", help="Sealed before this time.")] = "",
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition.")] = None,
    from_offset: Annotated[int | None, typer.Option(min=0, help="From this offset of the topic on.")] = None,
    to_offset: Annotated[int | None, typer.Option(min=0, help="Before this offset.")] = None,
    from_seq: Annotated[int | None, typer.Option(min=0, help="From this number of the chain on.")] = None,
    to_seq: Annotated[int | None, typer.Option(min=0, help="Before this number.")] = None,
    tenant: Tenant = "",
    source: Annotated[str, typer.Option(help="Only events of this source.")] = "",
    correlation: Annotated[str, typer.Option(help="Only events with this correlation id.")] = "",
    dry_run: Annotated[bool, typer.Option(help="Verify and count only; give no record.")] = False,
    output: Annotated[Path | None, typer.Option(help="Export to this file, as JSON lines, instead of stdout.")] = None,
    ticket: Annotated[str | None, typer.Option(help="Of an export: the request that it answers.")] = None,
    approver: Annotated[str | None, typer.Option(help="Of an export: who approved it.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Read sealed records again from the archive topic, verifying as it reads. Writes to no topic but its own access event.

    Records go to stdout as JSON lines; counts and findings to stderr, or with --json and --dry-run or --output to stdout.
    """
    if partition is None and (from_offset, to_offset, from_seq, to_seq) != (None, None, None, None):
        say("offsets and numbers count within a partition: name one with --partition")
        raise typer.Exit(EXIT_USAGE)
    with explained():
        settings = settings_of(config, "reader")
        wanted = Range(from_offset, to_offset, micros(since, "--from"), micros(until, "--to"), from_seq, to_seq)
        act = Act(
            "trail.replay_counted" if dry_run else "trail.replayed",
            "range",
            json.dumps([purpose, since, until, partition, from_offset, to_offset, from_seq, to_seq, source, correlation]),
            "archive-topic",
            tuple(name for name, value in (("source", source), ("correlation", correlation)) if value),
            output is not None and not dry_run,
            ticket,
            approver,
        )
        outcome = run_replay(
            settings,
            purpose,
            act,
            wanted,
            Wanted(tenant, source, correlation),
            partition,
            None if dry_run else output or sys.stdout,
        )
    if as_json and (dry_run or output is not None):
        print(json.dumps(outcome.as_json(), indent=1))
    _report(outcome, dry_run)
    if outcome.findings:
        raise typer.Exit(EXIT_FAILED)


def run_replay(
    settings: Settings,
    purpose: str,
    act: Act,
    wanted: Range,
    events: Wanted,
    partition: int | None = None,
    to: Path | TextIO | None = None,
) -> Outcome:
    """State the access, read and verify, give what may be given.

    Args:
        to: a file to make, an open stream, or None to count only.

    Raises:
        ContractError: the policy does not allow it.
        ConfigError, TransientError: a setting, or the brokers.
    """
    keyring = keyring_of(settings)
    topic, codecs = topic_name(settings.topic_prefix, "audit.archive"), packaged_registry().by_digest
    outcome = Outcome()
    if isinstance(to, Path):
        check_output(to)
    with Access(settings, purpose, events.tenant) as access, closing(PartitionReader(settings)) as reader:
        count = Ends(settings).partition_count(topic)
        if partition is not None and partition >= count:
            raise ConfigError(f"option --partition: the topic has {count}")
        outcome.access = str(access.open(act))

        def rows() -> Iterator[Replayed]:
            for number in range(count) if partition is None else [partition]:
                walk = Walk(number, keyring, codecs)
                for found in replay(reader, topic, number, wanted, walk):
                    if _counted(found, outcome, events, access, act):
                        yield found
                outcome.findings += walk.findings

        if isinstance(to, Path):
            export(access, to, as_text(lambda stream: _write(rows(), stream)), JSON_LINES)
        elif to is not None:
            _write(rows(), to)
        else:
            for _ in rows():
                pass
    return outcome


def _counted(found: Replayed, outcome: Outcome, events: Wanted, access: Access, act: Act) -> bool:
    """Count a record; whether it is given."""
    outcome.read += 1
    name = str(found.seal.log_class).lower()
    if found.event is None:
        # seals that are no events hold nobody's values; one whose content was altered is shown by its seal
        given = events.anything and (found.seal.kind is not Kind.EVENT or found.seal.log_class in access.classes_for(act))
    else:
        if not events.matches(found.event):
            return False
        given = access.shows(act, found.seal.log_class, found.event["tenant"])
        if not given:
            outcome.not_shown[name] += 1
    if given:
        outcome.given += 1
        outcome.bytes += found.size
        outcome.not_attested += not found.attested
        outcome.classes[name] += 1
        if found.event is not None:
            outcome.tenants[found.event["tenant"]] += 1
    return given


def _write(rows: Iterator[Replayed], to: TextIO) -> int:
    count = 0
    for found in rows:
        line = {
            "partition": found.partition,
            "offset": found.offset,
            "attested": found.attested,
            "seal": seal_document(found.seal, found.leaf),
            "event": None if found.event is None else event_document(found.event),
        }
        to.write(json.dumps(line, separators=(",", ":")) + "\n")
        count += 1
    return count


def _report(outcome: Outcome, dry_run: bool) -> None:
    say(
        f"{outcome.read} records read and verified, {outcome.given} {'would be ' if dry_run else ''}given "
        f"({outcome.bytes} bytes), {outcome.not_attested} of them not attested; access recorded as {outcome.access}"
    )
    for what, counts in (("class", outcome.classes), ("tenant", outcome.tenants), ("not shown, of class", outcome.not_shown)):
        for name, count in sorted(counts.items()):
            say(f"  {what} {name}: {count}")
    for finding in outcome.findings:
        say(
            f"{finding.kind} partition {finding.partition} offset {finding.offset} seq {finding.seq}: {finding.detail} "
            f"({finding.chain or 'chain unknown'})"
        )
