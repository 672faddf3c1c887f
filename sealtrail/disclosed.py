"""Steps B3 and B4 of `sealtrail.bundle`: the records in clear, and that none of the tenant's own is missing.

A filter says what was asked for: one tenant, and a time, classes, a correlation, an actor. Each record must be the content
of its seal and match the filter. In turn, with the tenant's disclosure key of the chain each seal tells whether it is the
tenant's: one of the filter's time and classes without a record was withheld, unless correlation or actor left it out, for
which nothing vouches but the auditor's word.

A disclosure key does not prove itself. One record whose seal's scope it makes does: no other key makes the same 16 bytes.
Where a chain has no record, a wrong key cannot be told from a tenant who did nothing there. Seals of `@deployment` do not help:
their scopes are made with another key, and no seal commits to a tenant's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NoReturn

from sealtrail.avro import Codec, packaged, read_container, write_container
from sealtrail.contents import Find, Say
from sealtrail.documents import Documents
from sealtrail.errors import EvidenceError, UndecidedError
from sealtrail.layout import is_chain, policy_pair_key, schema_key
from sealtrail.report import Finding, FindingKind, Verdict
from sealtrail.seal import Content, Kind, LogClass, Seal, content_of, row_of, scope
from sealtrail.segment import Segment
from sealtrail.source import MissingObjectError, Source, StoredObject

ROW = Codec(packaged("row"))

_TENANT = re.compile(r"@deployment|[a-z0-9][a-z0-9._-]{0,62}")
_TEXT = re.compile(r"[!-~]{1,256}")
_KEY = re.compile(r"(\S+) ([0-9a-f]{64})")
_CLASSES = frozenset(c.lower() for c in LogClass if c is not LogClass.NONE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a bundle was made for. Times are those of sealing, microseconds since 1970, from_us <= t < to_us; None: no bound.

    Attributes:
        classes: in lower case, sorted; None for all.
        actor: as the events hold it: hashed.
    """

    tenant: str
    classes: tuple[str, ...] | None = None
    from_us: int | None = None
    to_us: int | None = None
    correlation: str | None = None
    actor: str | None = None

    @property
    def narrow(self) -> bool:
        """Whether more is asked than seals tell."""
        return self.correlation is not None or self.actor is not None

    def as_json(self) -> dict[str, object]:
        """As `filter.json` has it."""
        return {
            "actor": self.actor,
            "classes": self.classes,
            "correlation": self.correlation,
            "from": None if self.from_us is None else time_text(self.from_us),
            "tenant": self.tenant,
            "to": None if self.to_us is None else time_text(self.to_us),
        }

    def covers(self, seal: Seal) -> bool:
        """Whether an event's seal is of the time and the classes asked for."""
        return self._in_time(seal) and (self.classes is None or seal.log_class.lower() in self.classes)

    def mismatch(self, seal: Seal, event: Mapping[str, Any]) -> str:
        """What a record has that was not asked for; "" if nothing."""
        actor = event.get("actor")
        found = {
            "tenant": event.get("tenant") == self.tenant,
            "class": self.classes is None or seal.log_class.lower() in self.classes,
            "time": self._in_time(seal),
            "correlation": self.correlation in (None, event.get("correlation_id")),
            "actor": self.actor in (None, actor.get("id") if isinstance(actor, dict) else None),
        }
        return next((name for name, matches in found.items() if not matches), "")

    def _in_time(self, seal: Seal) -> bool:
        at = seal.sealed_at_us
        return (self.from_us is None or at >= self.from_us) and (self.to_us is None or at < self.to_us)


def encode_filter(wanted: Filter) -> bytes:
    """The one JSON of a filter (RFC 8785).

    Raises:
        EvidenceError: a value that a filter cannot have.
    """
    if not _is_filter(wanted):
        _refuse()
    return _encode_filter(wanted).encode()


def decode_filter(data: bytes) -> Filter:
    """A filter from its bytes.

    Raises:
        EvidenceError: not a filter in its one form.
    """
    try:
        value = json.loads(data)
        classes, since, until = value["classes"], value["from"], value["to"]
        found = Filter(
            value["tenant"],
            None if classes is None else tuple(classes),
            None if since is None else _time_us(since),
            None if until is None else _time_us(until),
            value["correlation"],
            value["actor"],
        )
        if not _is_filter(found) or _encode_filter(found).encode() != data:
            _refuse()
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise EvidenceError("not a bundle's filter in its one form") from error
    return found


def encode_keys(keys: Mapping[str, bytes]) -> bytes:
    """`disclosure.txt`: a line a chain, sorted."""
    return "".join(f"{chain} {key.hex()}\n" for chain, key in sorted(keys.items())).encode()


def decode_keys(data: bytes) -> dict[str, bytes]:
    """The tenant's disclosure key of each chain.

    Raises:
        EvidenceError: not in its one form.
    """
    lines = data.decode("latin-1").split("\n")
    matches = [_KEY.fullmatch(line) for line in lines[:-1]]
    keys = {match[1]: bytes.fromhex(match[2]) for match in matches if match is not None and is_chain(match[1])}
    if encode_keys(keys) != data:
        raise EvidenceError("not a bundle's disclosure keys in their one form")
    return keys


def encode_records(records: Iterable[tuple[int, Content]]) -> bytes:
    """The records of one segment, by seq in order."""
    return write_container([row_of(seq, content) for seq, content in records], ROW)


def decode_records(data: bytes) -> list[tuple[int, Content]]:
    """The records of one segment.

    Raises:
        EvidenceError: not a container of rows in its one form, by ascending seq, at least one.
    """
    rows = [(row["seq"], content_of(row)) for row in read_container(data, ROW)]
    if not rows or any(after[0] <= before[0] for before, after in pairwise(rows)):
        raise EvidenceError("records without any, or not in order of their seq")
    return rows


def time_text(time_us: int) -> str:
    """Microseconds since 1970 as RFC 3339, UTC; a fraction has six digits, and none is written if it is zero."""
    try:
        return (_EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return f"{time_us} microseconds since 1970"  # as a damaged seal may say


@dataclass(slots=True)
class Shown:
    """What came of one chain: how far it reaches, and what its disclosure key showed."""

    records: int = 0  # that are given
    in_scope: int = 0  # of these, those whose seal has the tenant's scope
    out_of_scope: list[tuple[int, str]] = field(default_factory=list)  # seq and member of the others
    unmatched: int = 0  # seals of the tenant, time and classes without a record
    others: int = 0  # seals whose content was not given
    first: Seal | None = None
    last: Seal | None = None
    documents: set[str] = field(default_factory=set)  # what the records name


class RecordsCheck:
    """Stands in for the contents of one chain: what was disclosed of them, against seals and filter.

    Args:
        key: the tenant's disclosure key of this chain, if it was given.
        where: name of the member with a segment's records.
    """

    def __init__(
        self, chain: str, source: Source, documents: Documents, wanted: Filter, key: bytes | None, find: Find, say: Say
    ) -> None:
        self.shown = Shown()
        self._chain = chain
        self._source = source
        self._documents = documents
        self._wanted = wanted
        self._key = key
        self._find = find
        self._say = say
        self._policies: set[bytes] = set()

    def check(self, segment: Segment, stored: StoredObject, by_seq: Mapping[int, Seal], span: range) -> dict[int, Verdict]:
        """B3 and B4 of a segment: a verdict for each record that was given and that no finding touches."""
        where = records_name(segment.chain, segment.first_seq)
        given: set[int] = set()
        verdicts: dict[int, Verdict] = {}
        for seq, content in self._given(where, segment.first_seq):
            if seq not in span:
                self._find(FindingKind.INSERTED, "B3", seq, 1, where, "a record without a seal in its segment")
            given.add(seq)
            if seq in by_seq:
                verdict = self._record(by_seq[seq], content, where)
                if verdict is not None:
                    verdicts[seq] = verdict
        self._complete(by_seq, given, stored.key)
        self.shown.records += len(given)
        self.shown.others += len(by_seq.keys() - given)
        if by_seq:
            self.shown.first = self.shown.first or by_seq[min(by_seq)]
            self.shown.last = by_seq[max(by_seq)]
        return verdicts

    def originals(self, segment: Segment) -> None:
        """Sources' numbers are not followed: most contents are not given."""

    def findings(self) -> list[Finding]:
        """What can be said only of the chain as a whole."""
        found = []
        for seq, where in self.shown.out_of_scope[: None if self.shown.in_scope else 1]:
            count, detail = 1, "a record whose seal has not the tenant's scope"
            if not self.shown.in_scope:
                count, detail = (
                    len(self.shown.out_of_scope),
                    "no record has the scope of the disclosure key given for its chain",
                )
            found.append(Finding(FindingKind.INSERTED, "B4", self._chain, seq, count, where, detail))
        first = self.shown.first
        if first is not None and first.seq:
            since = self._wanted.from_us
            if since is None or first.sealed_at_us >= since:
                detail = "the bundle begins after the filter's time does, so records before it may be missing"
                found.append(Finding(FindingKind.MISSING, "B4", self._chain, 0, first.seq, "chains", detail))
        return found

    def _given(self, where: str, first_seq: int) -> list[tuple[int, Content]]:
        try:
            return decode_records(self._source.read(where, ""))
        except MissingObjectError:
            return []  # none of this segment matches; `_complete` says if that cannot be
        except EvidenceError as error:
            self._find(FindingKind.ALTERED, "B3", first_seq, 1, where, str(error))
            return []

    def _record(self, seal: Seal, content: Content, where: str) -> Verdict | None:
        """B3 of one record. None: a finding speaks of it."""
        try:
            if seal.kind is not Kind.EVENT or content.digest() != seal.content_digest:
                raise EvidenceError("a record that is not what its seal states")
            event = self._documents.codec(content.content_schema).decode(content.content)
            if not isinstance(event, dict) or event.get("event_id") != content.event_id:
                raise EvidenceError("the event id outside the event is another")
        except UndecidedError as error:
            self._say(str(error))
            return Verdict.UNDECIDED
        except EvidenceError as error:
            self._find(FindingKind.ALTERED, "B3", seal.seq, 1, where, str(error))
            return None
        mismatch = self._wanted.mismatch(seal, event)
        if mismatch:
            self._find(FindingKind.INSERTED, "B3", seal.seq, 1, where, f"a record of another {mismatch} than the filter's")
            return None
        self._texts(seal, content, event)
        if self._key is not None and seal.scope != scope(self._key, seal.seq):
            self.shown.out_of_scope.append((seal.seq, where))
            return None
        self.shown.in_scope += self._key is not None
        return Verdict.VALID

    def _texts(self, seal: Seal, content: Content, event: Mapping[str, Any]) -> None:
        """The texts of policy and extension, asked for once."""
        documents = self.shown.documents
        documents.add(schema_key(content.content_schema))
        if content.policy not in self._policies:
            self._policies.add(content.policy)
            documents.update(self._documents.policy_names(content.policy))
            problem = self._documents.policy_problem(content.policy)
            if problem:
                self._find(FindingKind.MISSING, "B3", seal.seq, 1, policy_pair_key(content.policy), f"policy text: {problem}")
        extension = event.get("extension")
        if isinstance(extension, dict) and isinstance(extension.get("schema"), bytes):
            documents.add(schema_key(extension["schema"]))
            try:
                self._documents.codec(extension["schema"])
            except UndecidedError as error:
                self._say(f"an extension cannot be read, only compared: {error}")

    def _complete(self, by_seq: Mapping[int, Seal], given: set[int], where: str) -> None:
        """B4: the tenant's seals without a record, neighbours in one finding."""
        if self._key is None:
            return
        key = self._key
        absent = [
            seal.seq
            for seal in by_seq.values()
            if seal.kind is Kind.EVENT
            and seal.seq not in given
            and self._wanted.covers(seal)
            and seal.scope == scope(key, seal.seq)
        ]
        self.shown.unmatched += len(absent)
        if self._wanted.narrow:
            return
        for first, count in _runs(sorted(absent)):
            self._find(FindingKind.MISSING, "B4", first, count, where, "the tenant's by its scope, and no record was given")


def records_name(chain: str, first_seq: int) -> str:
    """The member with the records of a segment."""
    return f"records/{chain}/{first_seq:020d}.avro"


def _runs(seqs: list[int]) -> list[tuple[int, int]]:
    """First and count of each stretch of seqs without a hole."""
    runs: list[tuple[int, int]] = []
    for seq in seqs:
        if runs and sum(runs[-1]) == seq:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((seq, 1))
    return runs


def _is_filter(wanted: Filter) -> bool:
    classes = wanted.classes
    return (
        _TENANT.fullmatch(wanted.tenant) is not None
        and (classes is None or (bool(classes) and tuple(sorted(set(classes) & _CLASSES)) == classes))
        and all(text is None or _TEXT.fullmatch(text) is not None for text in (wanted.correlation, wanted.actor))
    )


def _encode_filter(wanted: Filter) -> str:
    return json.dumps(wanted.as_json(), separators=(",", ":"))


def _time_us(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)


def _refuse() -> NoReturn:
    raise EvidenceError("not a bundle's filter in its one form")
