"""Stretches of good records, taken by the native kernel: what it asks of the steps, and what it hands back to them.

A stretch ends at the first record that is not good, or at the batch's end; that record goes through the steps, then the next
stretch begins. So the transaction's state, writer, tokens and activity are as if each record had gone through them.

What `flush`, `attest` and `random` raise, the kernel passes on, and the transaction is lost; as from the steps. Where a record
is only looked at, it is left to the steps instead: there the same is raised again, and heard of.

Not here: the good case itself (`processors.native`); all others (`processors.pipeline`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

import structlog

from processors.activity import Activity
from processors.authenticate import Authenticate, Session
from processors.chain import ChainWriter, Held, Plan
from processors.native import HoleFound, Kernel, NativeHints, NativeLocator, Run
from processors.quick import Quick
from processors.records import RawRecord
from processors.sequence import RunState, state_key
from processors.tokens import Tokens
from schemas.locator import Hole
from schemas.policy import Decision
from schemas.secrets import find
from sealtrail.avro import Codec
from sealtrail.emitters import CLOSE_EVENT
from sealtrail.errors import TransientError
from sealtrail.seal import SEAL, SEALED_EVENT

_CLOSE = CLOSE_EVENT.encode()
_log = structlog.get_logger()


class _Spoken(NamedTuple):
    """What a run is known by."""

    session: Session
    key: bytes  # of its state
    state: RunState


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one transaction, as far as good records need them.

    Attributes:
        quick: under the transaction's policy.
        chain: its name; partition, partitions: of the raw topic.
        before: runs' states before the transaction; changed: those that it changed, to which more are added.
        plan: of a decision on an event of a tenant, written with a schema.
    """

    kernel: Kernel
    quick: Quick
    authenticate: Authenticate
    writer: ChainWriter
    tokens: Tokens
    activity: Activity
    random: Callable[[int], bytes]
    chain: str
    partition: int
    partitions: int
    before: Mapping[bytes, RunState]
    changed: dict[bytes, RunState]
    plan: Callable[[Decision, str, Codec], Plan]

    def run_of(self, header: bytes) -> Run | None:
        """As the kernel asks for it."""
        try:
            session = self.authenticate.verified(header)
            if session is None or session.partition(self.partitions) != self.partition:
                return None
            key = state_key(self.chain, session.run)
            state = self.changed.get(key) or self.before.get(key)
            if state is None:
                return None
            return session.native(self.kernel, self.authenticate.topic), state.high_water, _Spoken(session, key, state)
        except Exception:
            return None  # the steps raise it again

    def plan_of(self, key: bytes, value: bytes) -> object | None:
        """As the kernel asks for it."""
        try:
            decided = self.quick.decided(key, value)
            if decided is None:
                return None
            tenant, decision = decided
            plan = self.plan(decision, tenant, self.quick.written_with(value))
            until = self.writer.writer.until(plan.retain_until_ms)
            (words, signed), scope, policy, schema = plan.words, plan.scope_key, plan.policy, plan.content_schema
            return self.kernel.Plan(words, signed, plan.sign, until, scope, policy, schema, plan.outputs, plan)
        except TransientError:
            raise
        except Exception:
            return None  # the steps raise it again

    def content_of(
        self, value: bytes, spoken: object, tenant: bytes, event_id: bytes, number: int, holes: list[HoleFound]
    ) -> bytes | None:
        """As the kernel asks for it."""
        try:
            cipher = cast("_Spoken", spoken).session.cipher
            return self.tokens.spliced(value, tenant.decode(), event_id, number, [Hole._make(h) for h in holes], cipher)
        except TransientError:
            raise
        except Exception:
            return None  # the steps raise it again


class Stretches:
    """Those of one transaction."""

    def __init__(self, steps: Steps, native: tuple[NativeLocator, ...], hints: NativeHints) -> None:
        self._steps = steps
        writer = steps.writer
        # It holds the steps, which must not hold it: the collector does not see through it.
        self._sealing = steps.kernel.Sealing(
            native,
            hints,
            _CLOSE,
            SEAL.header,
            SEALED_EVENT.header,
            writer.writer.sealed_at,
            writer.writer.chain,
            _holds_secret,
            steps.run_of,
            steps.plan_of,
            steps.content_of,
            writer.attesting(steps.kernel),
            writer.flush,
            steps.random,
        )

    def take(self, records: tuple[RawRecord, ...], first: int) -> int:
        """Seal records from `first` on as long as they are good; how many."""
        steps = self._steps
        writer, activity = steps.writer, steps.activity
        try:
            taken = self._sealing.take(records, first, writer.next_offset, writer.salts, writer.salted)
        except NotImplementedError as error:  # its libcrypto signed when it was asked first, and does not any more
            _log.error("signatures of the native kernel not used", problem=str(error))
            writer.attest_here(steps.kernel)
            raise
        if taken is None:
            return 0
        count, seq, prev, (plan, event_id, salt, content, offset), salts, salted, runs, acted, passed = taken
        writer.go_on(seq, prev, Held(plan, event_id, salt, content, offset, 1), salts, salted)
        activity.taken(acted, passed)
        for about, high_water, events in runs:
            session, key, state = cast("_Spoken", about)
            steps.changed[key] = RunState(state.epoch, high_water, state.holes, state.closed)
            activity.heard(key, session.run, refused=False, count=events)
        return count


def _holds_secret(text: bytes) -> bool:
    return bool(find(text.decode()))
