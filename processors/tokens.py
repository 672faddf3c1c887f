"""What the application encrypted for the sealer becomes tokens, under the keys of the people it is about (CON-2).

A subject's key is made at the first need since this process took the chain over, anew each month (UTC, of sealing), and when
its tenant's key was followed by another; its wrapped record goes out in the same transaction as the first token under it.
Old keys are never read: who seals can read nothing that was sealed before it came. So a key counts only once its transaction
is committed: keys are part of the chain's state, and what a batch made is thrown away with it.

At most 2 × HALF subjects' keys are held a chain; who was not needed for longest gets another key when needed again.

Not here: the forms and their cryptography (`sealtrail.token`); which fields (`schemas.tokenized`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from processors.records import Rejection
from schemas.encoder import number as varint
from schemas.locator import Hole
from schemas.net import overwritten
from schemas.redact import MAX_TOKENIZED_BYTES
from schemas.secrets import suspicious
from schemas.tokenized import Tokenized
from sealtrail.errors import EvidenceError
from sealtrail.seal import Reason
from sealtrail.token import FieldCipher, SubjectKey, WrappedKey, subject_index, wrap_subject_key

ENCRYPTED = b"enc_"  # in the bytes of every event that holds an encrypted value
HALF = 4096  # subjects; some 500 bytes each

Event = dict[str, Any]

_Who = tuple[str, str]  # tenant, subject
_LOG = structlog.get_logger("processors.tokens")


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """What making a subject's key takes: the tenant's index key, and its tenant-subject key's public half; 32 bytes each."""

    index: bytes = field(repr=False)
    public: bytes


class NoTenantKeysError(Exception):
    """This sealer lacks a tenant's index key, or a certificate of its tenant-subject key."""


@dataclass(frozen=True, slots=True)
class _Held:
    key: SubjectKey
    month: int
    public: bytes  # what it was wrapped to


@dataclass(frozen=True, slots=True)
class SubjectKeys:
    """The keys that a chain's owner works with; a value. Which were needed lately stand in `young`."""

    young: Mapping[_Who, _Held] = field(default_factory=dict, repr=False)
    old: Mapping[_Who, _Held] = field(default_factory=dict, repr=False)

    def find(self, who: _Who) -> _Held | None:
        """The key that is held, of whatever month."""
        return self.young.get(who) or self.old.get(who)

    def with_needed(self, needed: Mapping[_Who, _Held]) -> SubjectKeys:
        """With these, needed just now; those not needed for long are gone."""
        if all(self.young.get(who) is held for who, held in needed.items()):
            return self
        young = {**self.young, **needed}
        return SubjectKeys(young, self.old) if len(young) <= HALF else SubjectKeys({}, young)


class Tokens:
    """The tokens of one transaction of a chain.

    Args:
        state: the keys as after the last committed transaction.
        walk: over the tokenised values of an event.
        tenant_keys: of a tenant. Raises NoTenantKeysError.
        random: cryptographic: n -> n bytes.
        sealed_at_us: what the transaction's seals state.
    """

    def __init__(
        self,
        chain: str,
        state: SubjectKeys,
        walk: Tokenized,
        tenant_keys: Callable[[str], TenantKeys],
        random: Callable[[int], bytes],
        sealed_at_us: int,
    ) -> None:
        self._chain = chain
        self._state = state
        self._walk = walk
        self._tenant_keys = tenant_keys
        self._random = random
        self._sealed_at_us = sealed_at_us
        self._month = time.gmtime(sealed_at_us // 1_000_000)[:2]
        self._needed: dict[_Who, _Held] = {}
        self._of_tenant: dict[str, TenantKeys] = {}
        self.made: list[WrappedKey] = []

    def of_event(self, event: Event, cipher: FieldCipher, leak: Callable[[str, str], None]) -> Event:
        """The event with tokens; itself, if there is nothing to tokenise. The given event is not changed.

        Args:
            event: whose tokenised values all have the encrypted form.
            cipher: of its run.
            leak: told path and shape of a secret that was encrypted with a value; the value becomes `*`, as masked ones do.

        Raises:
            Rejection: a value does not open, or is none; or its tenant's people have no keys here.
        """
        number, event_id, tenant = event["emitter"]["seq"], event["event_id"], event["tenant"]

        def opened(path: str, text: str, _: str) -> str:
            try:
                plain = cipher.decrypt(number, event_id, path, text)
            except EvidenceError as error:
                raise Rejection(Reason.CONTRACT, f"{path}: {error}") from None
            if not 0 < len(plain.encode()) <= MAX_TOKENIZED_BYTES:
                raise Rejection(Reason.CONTRACT, f"{path}: encrypted, and empty or more than {MAX_TOKENIZED_BYTES} bytes")
            plain, shapes = overwritten(plain)
            for shape in shapes:
                leak(path, shape)
            return plain

        # Twice: whom a value is about may stand in another that is encrypted, or in itself.
        plain = self._walk(event, opened)
        try:
            return self._walk(plain, lambda _, text, subject: self.token(tenant, subject, text))
        except NoTenantKeysError as error:
            _LOG.error("nothing can be tokenised for a tenant", tenant=tenant, problem=str(error))
            raise Rejection(Reason.UNPROCESSABLE, "this sealer has no keys to tokenise with for its tenant") from None

    def spliced(
        self, value: bytes, tenant: str, event_id: bytes, number: int, holes: Sequence[Hole], cipher: FieldCipher
    ) -> bytes | None:
        """The bytes of an event with tokens, as `of_event` and the codec would give them; None: they are to be asked.

        Args:
            value: the event's bytes; tenant, event_id, number, holes: what was located in them.
        """
        plain = []
        for hole in holes:
            try:
                text = cipher.decrypt(number, event_id, hole.path, hole.text.decode())
            except EvidenceError:
                return None
            data = text.encode()
            if not 0 < len(data) <= MAX_TOKENIZED_BYTES or suspicious(data):
                return None
            plain.append(text)
        at = 0
        parts: list[bytes] = []
        for hole, text in zip(holes, plain, strict=True):
            try:
                token = self.token(tenant, text if hole.subject is None else hole.subject.decode(), text).encode()
            except NoTenantKeysError:
                return None
            parts += (value[at : hole.start], varint(len(token), 63), token)
            at = hole.end
        parts.append(value[at:])
        return b"".join(parts)

    def token(self, tenant: str, subject: str, text: str) -> str:
        """The token of a text that is not empty. Raises NoTenantKeysError."""
        who = (tenant, subject)
        held = self._needed.get(who)
        if held is None:
            held = self._needed[who] = self._held(who)
        return held.key.token(text)

    def finish(self) -> SubjectKeys:
        """The keys after this transaction, once it is committed."""
        return self._state.with_needed(self._needed)

    def _held(self, who: _Who) -> _Held:
        year, month = self._month
        number = year * 12 + month
        tenant, subject = who
        keys = self._of_tenant.get(tenant)
        if keys is None:
            keys = self._of_tenant[tenant] = self._tenant_keys(tenant)
        held = self._state.find(who)
        if held is not None and held.month == number and held.public == keys.public:
            return held
        key = SubjectKey(tenant, self._random(64))
        index = subject_index(keys.index, subject)
        self.made.append(wrap_subject_key(self._chain, index, key, self._sealed_at_us, keys.public))
        return _Held(key, number, keys.public)
