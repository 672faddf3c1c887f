"""`sealtrail reveal EVENT_ID`: what is tokenised in one event, in clear, as far as its keys are there."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from functools import cache
from typing import Annotated, Any
from uuid import UUID

import typer

from auditor.access import Act
from auditor.commands.search import Purpose
from auditor.console import EXIT_FAILED, EXIT_USAGE, AsJson, ConfigFile, event_uuid, explained, say, settings_of
from auditor.finding import Found
from auditor.looking import Looked, look
from auditor.revealing import Held, Revealed, key_ids, opened, revealed, tokenized_of, tokens_in, wrapped_keys
from auditor.trust import subject_openers_of
from kafkaio.reader import PartitionReader
from kafkaio.transaction import Ends
from schemas.catalogue import topic_name
from schemas.settings import Settings
from sealtrail.documents import Documents
from sealtrail.errors import EvidenceError
from sealtrail.text import printable

TOPIC = "audit.subject-keys"
ALL = ("*",)  # what the event names when every tokenised field is asked for
_PATH = re.compile(r"[a-z_]+(\.[a-z_]+|\[\])*")  # as in redaction.fields; what else is typed is not repeated anywhere
_MAX_PATH = 200


def reveal(
    event_id: Annotated[str, typer.Argument(help="UUID of the event.")],
    purpose: Purpose,
    field: Annotated[
        list[str] | None, typer.Option(help="A tokenised field, such as actor.login; may be repeated. Default: all.")
    ] = None,
    chain: Annotated[str, typer.Option(help="Only chains whose names begin so.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show in clear what is tokenised in one event of the archive, where the class policy lets this role do so.

    It is an event itself, which names the fields, sealed before anything is shown.
    """
    wanted = event_uuid(event_id)
    fields = tuple(dict.fromkeys(field or ()))
    if not all(_PATH.fullmatch(path) and len(path) <= _MAX_PATH for path in fields):
        say("--field must be a field's path, such as actor.login")
        raise typer.Exit(EXIT_USAGE)
    with explained():
        document = run_reveal(settings_of(config, "reader"), wanted, purpose, fields, chain)
    if document is None:
        say(f"no readable record of event {wanted} in the archive")
        raise typer.Exit(EXIT_FAILED)
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        _print(document)
    event, seal = document["event"], document["seal"]  # another source's event may have the same id
    say(printable(f"{event['event_name']} of tenant {event['tenant']}, seal {seal['seq']} of {seal['chain']}"))
    say(f"access recorded as {document['access']['recorded_as']}")
    if any("problem" in one for one in document["revealed"]):
        raise typer.Exit(EXIT_FAILED)


def run_reveal(
    settings: Settings, wanted: UUID, purpose: str, fields: Sequence[str] = (), prefix: str = ""
) -> dict[str, Any] | None:
    """State the access, find the record, check it, and open its tokens; None if the archive has no readable record of it.

    Args:
        fields: paths as in `redaction.fields`; none for every tokenised one.

    Raises:
        EvidenceError: the record does not verify; nothing of it is revealed.
        ContractError, ConfigError, TransientError, UndecidedError: see `look`.
    """
    act = Act("trail.revealed", "event", str(wanted), "archive", fields=tuple(fields) or ALL, reveal=True)
    return look(settings, act, purpose, prefix, lambda looked: _document(looked, _reveal(settings, looked, fields)))


def _reveal(settings: Settings, looked: Looked, fields: Sequence[str]) -> tuple[Revealed, ...]:
    found = looked.found
    _require_sealed_so(found)
    codec = Documents(looked.source).codec
    tokenized = tokenized_of(found.event, codec(found.sealed.content.content_schema), codec)
    tokens = tokens_in(found.event, tokenized, fields)
    records = read_keys(settings, found.seal.chain, key_ids(tokens))
    openers = subject_openers_of(settings, found.tenant)

    @cache
    def held(key_id: bytes) -> Held:
        return opened(records.get(key_id, {}), found.tenant, openers)

    return revealed(tokens, held, fields)


def _require_sealed_so(found: Found) -> None:
    """Whoever can write to the archive could put a token of another record, which this reader may not see, in this one."""
    problems = [f"{check}: {problem}" for check, problem in found.checks.items() if problem]
    if found.event["tenant"] != found.tenant:
        problems.append("it lies among another tenant's")
    if problems:
        raise EvidenceError(f"the record does not verify, so nothing of it is revealed: {problems[0]}")


def read_keys(settings: Settings, chain: str, wanted: Collection[bytes]) -> dict[bytes, dict[bytes, list[bytes]]]:
    """The records of keys with these ids of a chain, as `wrapped_keys` gives them: one reading of the chain's partition.

    Raises:
        TransientError: the broker is away. ConfigError: this role may not read the topic.
    """
    topic, partition = topic_name(settings.topic_prefix, TOPIC), int(chain.rpartition("/")[2])
    if not wanted or partition >= Ends(settings).partition_count(topic):  # a chain of another topic's
        return {}
    with PartitionReader(settings) as reader:
        return wrapped_keys(((record.key, record.value) for record in reader.read_all(topic, partition)), chain, wanted)


def _document(looked: Looked, found: Sequence[Revealed]) -> dict[str, Any]:
    event, seal = looked.found.event, looked.found.seal
    return {
        "access": {"recorded_as": str(looked.stated)},
        "event": {
            "event_id": str(UUID(bytes=event["event_id"])),
            "event_name": event["event_name"],
            "tenant": event["tenant"],
        },
        "seal": {"chain": seal.chain, "seq": seal.seq},
        "verified": dict.fromkeys(looked.found.checks, "ok"),
        "revealed": [{"field": one.path, **({"problem": one.problem} if one.problem else {"text": one.text})} for one in found],
    }


def _print(document: dict[str, Any]) -> None:
    found = document["revealed"]
    width = max((len(one["field"]) for one in found), default=0)
    for one in found:
        told = printable(one["text"]) if "text" in one else f"not revealed: {one['problem']}"
        print(f"{one['field']:<{width}}  {told}")
    if not found:
        say("nothing in this event is tokenised")
