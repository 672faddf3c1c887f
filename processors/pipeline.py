"""The main path, as one pure function: (state, batch of raw records) -> (state, outputs).

    head → authenticate → number → decode → check → net → tokens → classify → seal → route, and count

Every raw offset comes out as exactly one seal: an EVENT, a DUPLICATE, a REJECTED with its reason, or
part of a GAP. Nothing is dropped, and no record can stop the next one. I/O is not handled here:
`sealer` fetches, commits, and throws away the outcome of a transaction that was not committed. Time
and randomness are arguments; the caches inside the steps remember only what can be computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import structlog

from processors.activity import Activity
from processors.authenticate import Authenticate, Session
from processors.chain import ChainHead, ChainWriter, Plan, Sealer
from processors.decode import Decode, Decoded
from processors.quarantine import Quarantine, must_be_withheld
from processors.quick import Quick
from processors.records import Batch, Outputs, RawRecord, Rejection
from processors.sequence import Runs, RunState, SeenError, WildError, encode_state, place, state_key
from processors.stretch import Steps, Stretches
from processors.tokens import ENCRYPTED, SubjectKeys, TenantKeys, Tokens
from schemas.contract import Contract
from schemas.head import Head, read_head
from schemas.locator import Located
from schemas.net import Net, SecretError
from schemas.policy import Decision, Policy
from schemas.redact import RedactionCheck
from schemas.secrets import suspicious
from schemas.tokenized import Tokenized
from sealtrail.avro import HEADER_SIZE, Codec
from sealtrail.emitters import CLOSE_EVENT, OPEN_EVENT
from sealtrail.errors import ContractError, EvidenceError, TransientError
from sealtrail.seal import DEPLOYMENT_TENANT, SEAL_NOTE, ZERO_EVENT_ID, Kind, LogClass, Reason, Route, encode_note
from sealtrail.session import Run

_CLOSE = CLOSE_EVENT.encode()
_UNKNOWN: Any = object()
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ChainState:
    """What a chain's next transaction starts from: its head, how far each run's numbers were seen, its subjects' keys."""

    head: ChainHead
    runs: Runs = field(default_factory=Runs)  # key: as in audit.sources
    subjects: SubjectKeys = field(default_factory=SubjectKeys)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The steps, compiled once for a raw topic of a deployment in a region."""

    decode: Decode
    authenticate: Authenticate
    contract: Contract
    redaction: RedactionCheck
    net: Net
    tokenized: Tokenized
    tenant_keys: Callable[[str], TenantKeys]  # raises NoTenantKeysError
    policy: Policy
    quick: Quick
    quarantine: Quarantine
    sealer: Sealer
    region: str
    random: Callable[[int], bytes]  # cryptographic: n -> n bytes

    def genesis(self, state: ChainState, now_us: int, topic_uuid: bytes, partitions: int) -> tuple[ChainState, Outputs]:
        """The first seal of a chain; accounts for no offset, and says how many chains the raw topic has."""
        return self._alone(state, now_us, Kind.GENESIS, topic_uuid=topic_uuid, partitions=partitions)

    def heartbeat(self, state: ChainState, now_us: int) -> tuple[ChainState, Outputs]:
        """A seal that says: nothing came until now."""
        return self._alone(state, now_us, Kind.HEARTBEAT)

    def seal_batch(
        self, state: ChainState, batch: Batch, now_us: int, *, unprocessable: bool = False
    ) -> tuple[ChainState, Outputs]:
        """Seal a batch of one partition.

        Args:
            state: of the chain, as after its last committed transaction.
            batch: records from `state.head.next_offset` on; offsets missing in between become a GAP. Without
                records, what lies below the log start is accounted for.
            now_us: the sealer's clock, UTC microseconds.
            unprocessable: refuse every record of the batch: the caller found that it cannot be written.

        Returns:
            the state after these records, and everything that the transaction must write.
        """
        return _BatchRun(self, state, now_us, partitions=batch.partitions, unprocessable=unprocessable).seal(batch)

    def _alone(self, state: ChainState, now_us: int, kind: Kind, **fields: object) -> tuple[ChainState, Outputs]:
        run = _BatchRun(self, state, now_us, partitions=1, unprocessable=False)
        run.note(kind, state.head.next_offset, 0, Reason.NONE, **fields)
        return run.finish()


class _BatchRun:
    """One batch on its way through the steps: what would otherwise be ten local variables."""

    def __init__(self, pipeline: Pipeline, state: ChainState, now_us: int, *, partitions: int, unprocessable: bool) -> None:
        self._p = pipeline
        self._state = state
        self._partition = int(state.head.chain.rpartition("/")[2])
        self._partitions = partitions
        self._out = Outputs()
        outputs = {Route.ARCHIVE: self._out.archive, Route.HOT: self._out.hot, Route.SIEM: self._out.siem}
        self._writer = ChainWriter(state.head, pipeline.sealer, now_us, outputs, pipeline.random)
        self._quick = pipeline.quick.under(pipeline.policy)
        self._plans: dict[tuple[object, ...], Plan | None] = {}  # of the good case
        self._chained: dict[Session, bytes] = {}  # keys of their runs' states
        self._sealed = 0  # of the good case
        self._changed: dict[bytes, RunState] = {}
        self._unprocessable = unprocessable
        self._activity = Activity()
        self._tokens = Tokens(
            state.head.chain,
            state.subjects,
            pipeline.tokenized,
            pipeline.tenant_keys,
            pipeline.random,
            self._writer.sealed_at_us,
        )

    def seal(self, batch: Batch) -> tuple[ChainState, Outputs]:
        if not batch.records:
            self._gap(batch.log_start, batch.log_start)
        records, at = tuple(batch.records), 0
        stretches = self._stretches()
        while at < len(records):
            if stretches is not None:
                taken = stretches.take(records, at)
                self._sealed += taken
                at += taken
                if at == len(records):
                    break
            record = records[at]
            at += 1
            self._gap(batch.log_start, record.offset)
            try:
                self._record(record)
            except Rejection as rejection:
                self._reject(record, rejection, None, None)
        return self.finish()

    def _stretches(self) -> Stretches | None:
        """Stretches of good records, where there is a native kernel."""
        quick, pipeline, chain = self._quick, self._p, self._state.head.chain
        if quick.kernel is None or not quick.native or quick.hints is None or self._unprocessable:
            return None
        steps = Steps(
            kernel=quick.kernel,
            quick=quick,
            authenticate=pipeline.authenticate,
            writer=self._writer,
            tokens=self._tokens,
            activity=self._activity,
            random=pipeline.random,
            chain=chain,
            partition=self._partition,
            partitions=self._partitions,
            before=self._state.runs,
            changed=self._changed,
            plan=self._event_plan,
        )
        return Stretches(steps, quick.native, quick.hints)

    def finish(self) -> tuple[ChainState, Outputs]:
        """The state after this batch, and the outputs in the order of the chain."""
        head = self._writer.finish()
        if self._sealed:
            self._out.counts[Kind.EVENT, Reason.NONE] += self._sealed
        self._out.sources.extend((key, encode_state(run)) for key, run in self._changed.items())
        self._out.subject_keys.extend((made.record_key, made.encode()) for made in self._tokens.made)
        count = head.seq - self._state.head.seq
        if count:
            self._out.activity.extend(
                self._activity.records(
                    self._changed,
                    chain=head.chain,
                    first_seq=self._state.head.seq,
                    count=count,
                    sealed_at_us=head.sealed_at_us,
                )
            )
        return ChainState(head, self._state.runs.with_changed(self._changed), self._tokens.finish()), self._out

    def note(self, kind: Kind, offset: int, count: int, reason: Reason = Reason.NONE, **fields: object) -> None:
        """Append a seal that is not an EVENT; its content is a SealNote of these fields."""
        retain_ms, policy = self._p.policy.notes()
        refused = kind in (Kind.REJECTED, Kind.DUPLICATE)
        routes = Route.ARCHIVE | Route.QUARANTINE if refused else Route.ARCHIVE
        plan = self._writer.plan(kind, reason, LogClass.NONE, routes, retain_ms, DEPLOYMENT_TENANT, policy, SEAL_NOTE.sha256)
        self._writer.append(plan, ZERO_EVENT_ID, encode_note(**fields), offset, count)
        self._out.counts[kind, reason] += 1

    def _record(self, record: RawRecord) -> None:
        """One raw record through the steps; whatever a step raises unforeseen refuses this record alone."""
        if self._unprocessable:
            raise Rejection(Reason.UNPROCESSABLE, "its outputs could not be written")
        found = self._good(record)
        if found is not None:
            self._quickly(record, *found)
            return
        try:
            head, run = self._speaker(record)
        except (Rejection, TransientError):
            raise
        except Exception as error:
            raise _unforeseen(record, error) from error
        key = state_key(self._state.head.chain, run)
        known = self._changed.get(key) or self._state.runs.get(key) or RunState(run.epoch)
        try:
            placed = place(known, head.seq)
        except SeenError:
            self._duplicate(record, head, run)
            return
        except WildError:
            self._reject(record, Rejection(Reason.SEQUENCE_WILD, "too many holes in the run's numbers"), run, head)
            return
        # From here the number counts as seen: a refused event is accounted for by its REJECTED seal.
        self._changed[key] = replace(placed, closed=placed.closed or head.event_name == CLOSE_EVENT)
        try:
            self._event(record, run, self._p.decode(record.value))
        except Rejection as rejection:
            self._reject(record, rejection, run, head)
            self._activity.heard(key, run, refused=True)
        except TransientError:
            raise
        except Exception as error:
            self._reject(record, _unforeseen(record, error), run, head)
            self._activity.heard(key, run, refused=True)
        else:
            self._activity.heard(key, run, refused=False)

    def _good(self, record: RawRecord) -> tuple[Located, Session, bytes, RunState, Plan, bytes] | None:
        """What sealing takes of a record that is an event as it should be; None: the steps are to judge.

        Its session, its run's key and state, its plan, and its content: as received, but for tokens where it was encrypted.
        All that is asked here, the steps ask too. They are the oracle: what is sealed quickly, they would have sealed alike.
        """
        try:
            found = self._quick.locate(record.value)
            if found is None or not found.seq or found.event_name == _CLOSE:
                return None
            session = self._p.authenticate.quickly(record, found, self._partition, self._partitions)
            if session is None:
                return None
            chained = self._chained.get(session)
            if chained is None:
                chained = self._chained[session] = state_key(self._state.head.chain, session.run)
            known = self._changed.get(chained) or self._state.runs.get(chained)
            if known is None or found.seq != known.high_water + 1:
                return None
            plan = self._plans.get(found.key, _UNKNOWN)
            if plan is _UNKNOWN:
                plan = self._plans[found.key] = self._quick_plan(found, record.value)
            if plan is None:
                return None
            content = self._content(record.value, found, session)
        except TransientError:
            raise
        except Exception as error:  # unforeseen: the steps judge, and what they raise refuses this record alone
            _log.error("record not sealed quickly", offset=record.offset, error=type(error).__name__)
            return None
        return None if content is None else (found, session, chained, known, plan, content)

    def _quickly(
        self, record: RawRecord, found: Located, session: Session, chained: bytes, known: RunState, plan: Plan, content: bytes
    ) -> None:
        self._writer.append(plan, found.event_id, content, record.offset, 1)
        self._changed[chained] = RunState(known.epoch, found.seq, known.holes, known.closed)
        self._activity.located(found)
        self._activity.heard(chained, session.run, refused=False)
        self._sealed += 1

    def _content(self, value: bytes, found: Located, session: Session) -> bytes | None:
        if not found.holes:
            return value
        return self._tokens.spliced(value, found.tenant.decode(), found.event_id, found.seq, found.holes, session.cipher)

    def _quick_plan(self, found: Located, value: bytes) -> Plan | None:
        """For all events with this key; None: its source may not state them."""
        if not self._quick.entitled(found):
            return None
        return self._event_plan(self._quick.decision(found, value), found.tenant.decode(), self._quick.written_with(value))

    def _event_plan(self, decision: Decision, tenant: str, schema: Codec) -> Plan:
        return self._writer.plan(
            Kind.EVENT,
            Reason.NONE,
            decision.log_class,
            decision.routes | Route.ARCHIVE,
            decision.retain_ms,
            tenant,
            decision.policy,
            schema.sha256,
            sign=decision.sign,
        )

    def _speaker(self, record: RawRecord) -> tuple[Head, Run]:
        """Who hands this over, and its number, from the head alone: little is spent on what is not authentic."""
        self._p.decode.schema_of(record.value)
        try:
            head = read_head(record.value)
        except EvidenceError as error:
            raise Rejection(Reason.UNDECODABLE, str(error)) from error
        return head, self._p.authenticate(record, head, self._partition, self._partitions)

    def _event(self, record: RawRecord, run: Run, decoded: Decoded) -> None:
        """Check, classify and append an authentic, numbered event."""
        self._check(record, run, decoded.event)
        decoded = self._tokenized(record, run, self._without_secrets(run, decoded))
        event = decoded.event
        decision = self._p.policy.decide(event)
        plan = self._event_plan(decision, event["tenant"], decoded.codec)
        self._writer.append(plan, event["event_id"], decoded.content, record.offset, 1)
        self._out.counts[Kind.EVENT, Reason.NONE] += 1
        self._activity.event(event)

    def _check(self, record: RawRecord, run: Run, event: dict[str, Any]) -> None:
        """Entitlement, region, contract, and whether the application redacted what it had to."""
        emitter = event["emitter"]
        opens = event["event_name"] == OPEN_EVENT
        if opens != (emitter["seq"] == 0):
            raise Rejection(Reason.CONTRACT, f"emitter.seq: number 0 of a run is {OPEN_EVENT}, and nothing else is")
        if opens and _payload(event) != (record.header("st-session") or b"")[HEADER_SIZE:]:
            raise Rejection(Reason.NOT_AUTHENTIC, "the opening states another session than its header")
        if not self._p.policy.entitled(emitter["source"], event["tenant"], event["event_name"]):
            raise Rejection(Reason.NOT_ENTITLED, "tenant or event name that the source may not state")
        if event["region"] != self._p.region:
            raise Rejection(Reason.WRONG_REGION, f"this deployment serves {self._p.region}")
        try:
            self._p.contract.check(event)
        except ContractError as error:
            raise Rejection(Reason.CONTRACT, str(error)) from error
        slipped = self._p.redaction(event)
        if slipped:
            for violation in slipped:
                self._leak(run, violation.field, violation.problem.replace(" ", "-"))
            raise Rejection(Reason.CONTRACT, "; ".join(f"{v.field}: {v.problem}" for v in slipped[:8]))

    def _without_secrets(self, run: Run, decoded: Decoded) -> Decoded:
        """The event as it is sealed: received, or anew with marks where the application let secrets through."""
        if not suspicious(decoded.content):
            return decoded
        try:
            caught, leaks = self._p.net(decoded.event)
        except SecretError as error:
            self._leak(run, error.field, error.shape)
            raise Rejection(Reason.CONTRACT, str(error)) from error
        if not leaks:
            return decoded
        for leak in leaks:
            self._leak(run, leak.field, leak.shape)
        stated = caught["redaction"]
        fields = list(dict.fromkeys((*stated["fields"], *(leak.field for leak in leaks))))
        event = {**caught, "redaction": {**stated, "status": "APPLIED", "fields": fields}}
        return Decoded(event, decoded.codec.encode(event), decoded.codec)

    def _tokenized(self, record: RawRecord, run: Run, decoded: Decoded) -> Decoded:
        """The event as it is sealed: with tokens where the application encrypted for us."""
        if ENCRYPTED not in decoded.content:  # every value that should be, is in that form: the check has seen to it
            return decoded
        cipher = self._p.authenticate.cipher(record)
        sealed = self._tokens.of_event(decoded.event, cipher, lambda field, shape: self._leak(run, field, shape))
        return decoded if sealed is decoded.event else Decoded(sealed, decoded.codec.encode(sealed), decoded.codec)

    def _leak(self, run: Run, field: str, shape: str) -> None:
        self._activity.leak(run, field, shape, self._writer.next_seq)
        self._out.leaks[shape] += 1

    def _duplicate(self, record: RawRecord, head: Head, run: Run) -> None:
        digest = self._quarantine(record, Reason.NONE)
        self.note(
            Kind.DUPLICATE,
            record.offset,
            1,
            emitter=run.key,
            epoch=run.epoch,
            number=head.seq,
            event_id=head.event_id,
            received_digest=digest,
            received_size=len(record.value),
        )

    def _reject(self, record: RawRecord, rejection: Rejection, run: Run | None, head: Head | None) -> None:
        digest = self._quarantine(record, rejection.reason)
        self.note(
            Kind.REJECTED,
            record.offset,
            1,
            rejection.reason,
            detail=rejection.detail,
            emitter=None if run is None else run.key,
            epoch=None if run is None else run.epoch,
            number=None if head is None else head.seq,
            event_id=None if head is None else head.event_id,
            received_digest=digest,
            received_size=len(record.value),
        )

    def _quarantine(self, record: RawRecord, reason: Reason) -> bytes | None:
        """Keep it; the digest of its value, or None where that could confirm a guess of a secret (ADR 14)."""
        withheld = must_be_withheld(record)
        self._out.quarantine.append(self._p.quarantine(self._state.head.chain, record, reason, withheld))
        return None if withheld else sha256(record.value).digest()

    def _gap(self, log_start: int, offset: int) -> None:
        """Account for offsets before `offset` that no record came from."""
        for end, reason in ((min(log_start, offset), Reason.EXPIRED), (offset, Reason.NOT_DATA)):
            first = self._writer.next_offset
            if first < end:
                self.note(Kind.GAP, first, end - first, reason)


def _unforeseen(record: RawRecord, error: Exception) -> Rejection:
    """A step raised what it should not: the record is refused, and we hear of it."""
    _log.error("record unprocessable", offset=record.offset, error=type(error).__name__)
    return Rejection(Reason.UNPROCESSABLE, type(error).__name__)


def _payload(event: dict[str, Any]) -> bytes | None:
    extension = event.get("extension")
    return extension["payload"] if extension else None
