"""One source's desk: a request's bytes become events, all of them or none, and a request that is repeated becomes nothing.

What holds:
1. A request is handed over whole, in its order, or not at all: whoever corrects one event sends the list again.
2. A request is known by its key for as long as this process lives and not more than `REMEMBERED` younger events came. The
   same key with the same bytes is the same request; with others it is refused.
3. Whatever is refused is counted and recorded by the emitter, with field and problem.

One thread calls. It does not know HTTP, who is asking, or when what it handed over is durable.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from producers.audit import Admitted, AuditProducer
from producers.github.mapping import draft_of
from producers.intake.reading import DraftReader
from producers.intake.sources import Source
from producers.intake.strict import parse, parse_lines
from sealtrail.errors import ContractError

EVENTS = 1000  # of one request: what one answer can name, and one refusal record
REMEMBERED = 100_000  # events; at most some 70 MB, where each comes alone and under the longest key
ID_BYTES = 16

_Read = Callable[[object], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Taken:
    """Handed over: the events' ids, in order; `repeated` if that was before."""

    ids: tuple[bytes, ...]
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is wrong with the event of that index, or with the whole request (None): dotted field or "", and problem."""

    index: int | None
    field: str
    problem: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was handed over. `malformed`: the bytes say no events at all."""

    refusals: tuple[Refusal, ...]
    malformed: bool = False


class Desk:
    """See the module.

    Args:
        source: who speaks here.
        emitter: the source's own.
    """

    def __init__(self, source: Source, emitter: AuditProducer, read: DraftReader) -> None:
        self._source = source
        self._emitter = emitter
        self._read = read
        self._known: OrderedDict[str, tuple[bytes, bytes]] = OrderedDict()  # key to digest of the body, and ids
        self._remembered = 0

    def events(self, key: str, body: bytes, *, lines: bool) -> Taken | Refused:
        """Events as JSON: one or a list, or one a line. Raises TransientError: no room; nothing was handed over."""
        return self._once(key, body, lambda: self._documents(body, lines=lines), self._read)

    def webhook(self, hook: str, delivery: str, tenant: str, body: bytes) -> Taken | Refused:
        """One GitHub webhook whose signature was checked. Raises TransientError: no room; nothing was handed over."""

        def draft(payload: object) -> Mapping[str, object]:
            return draft_of(hook, payload, tenant, delivery_id=delivery, verified=True).draft

        # with spaces, which no other key has
        return self._once(f"webhook {tenant} {hook} {delivery}", body, lambda: [parse(body)], draft)

    def refuse(self, problem: str) -> None:
        """Count and record a request of which nothing was read."""
        self._emitter.refuse(ContractError("", problem))

    # -- steps

    def _once(self, key: str, body: bytes, documents: Callable[[], Sequence[object]], read: _Read) -> Taken | Refused:
        digest = hashlib.sha256(body).digest()
        known = self._known.get(key)
        if known is not None:
            if known[0] != digest:
                return self._refused([(None, ContractError("", "the key of another request"))])
            return Taken(tuple(known[1][at : at + ID_BYTES] for at in range(0, len(known[1]), ID_BYTES)), repeated=True)
        try:
            found = documents()
        except ContractError as error:
            return self._refused([(None, error)], malformed=True)
        if not 0 < len(found) <= EVENTS:
            problem = f"{len(found)} events; expected 1 to {EVENTS}"
            return self._refused([(None, ContractError("", problem))], malformed=True)
        admitted, refused = self._admitted(found, read)
        if refused:
            return self._refused(refused)
        self._emitter.hand_over(admitted)
        ids = tuple(one.event_id for one in admitted)
        self._remember(key, digest, ids)
        return Taken(ids)

    def _documents(self, body: bytes, *, lines: bool) -> Sequence[object]:
        if lines:
            return parse_lines(body)
        document = parse(body)
        return document if isinstance(document, list) else [document]

    def _admitted(self, found: Sequence[object], read: _Read) -> tuple[list[Admitted], list[tuple[int | None, ContractError]]]:
        admitted: list[Admitted] = []
        refused: list[tuple[int | None, ContractError]] = []
        for index, item in enumerate(found):
            try:
                draft = read(item)
                tenant = draft.get("tenant")
                if isinstance(tenant, str) and tenant not in self._source.tenants:  # another type is the contract's to refuse
                    raise ContractError("tenant", "not one of this source's tenants")
                admitted.append(self._emitter.admit(draft))
            except ContractError as error:
                refused.append((index, error))
        return admitted, refused

    def _refused(self, found: Sequence[tuple[int | None, ContractError]], *, malformed: bool = False) -> Refused:
        for _, error in found:
            self._emitter.refuse(error)
        return Refused(tuple(Refusal(index, error.field, error.problem) for index, error in found), malformed)

    def _remember(self, key: str, digest: bytes, ids: Sequence[bytes]) -> None:
        self._known[key] = digest, b"".join(ids)
        self._remembered += len(ids)
        while self._remembered > REMEMBERED:
            _, (_, oldest) = self._known.popitem(last=False)
            self._remembered -= len(oldest) // ID_BYTES
