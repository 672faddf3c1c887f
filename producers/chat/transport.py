"""How a message gets to the messenger: one HTTP request an attempt, and what its answer means.

    2xx                       ACKNOWLEDGED
    408, 425, 429, 5xx        REFUSED, worth another attempt
    any other answer          REFUSED for good
    no connection             UNREACHABLE, worth another attempt: nothing was handed over
    no answer in time, or the
    connection ended first    TIMED_OUT, worth another attempt: the receiver may have processed it

Every attempt carries the same `Idempotency-Key`, its own `traceparent`, and, with a shared secret, a signature over the
time and the payload. An answer is read up to a bound; of its text only a reference and a slug are taken.

Not here: retries, waits and events (`connector`).
"""

from __future__ import annotations

import hmac
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx2

from producers.kit.words import Outcome
from sealtrail.errors import ConfigError, TransientError

MAX_ANSWER_BYTES = 65_536  # an acknowledgement is some hundred bytes
CONNECTIONS = 64  # more than any pool of workers here
RETRIED = frozenset({408, 425, 429})
SIGNATURE_CONTEXT = b"sealtrail/message/v1\n"

_REFERENCE = re.compile(r"[!-?A-~]{1,256}")
_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one attempt. reason: a slug. after_s: what the receiver asked to wait. repeated: it knew the key."""

    outcome: Outcome
    status: int | None = None
    reference: str | None = None
    reason: str | None = None
    after_s: float | None = None
    repeated: bool = False

    @property
    def final(self) -> bool:
        """Whether another attempt can change nothing."""
        if self.outcome is Outcome.REFUSED:
            return not (self.status in RETRIED or (self.status is not None and self.status >= 500))
        return self.outcome is Outcome.ACKNOWLEDGED


@dataclass(frozen=True, slots=True)
class Receipts:
    """What the receiver tells of a delivered message: how many have seen it, and whether it was archived."""

    viewers: int
    archived: bool


class Transport(Protocol):
    """The way to one receiver.

    Durability and order: the receiver's. Retries: none here. Threads: any. Errors: `deliver` never raises for what the
    receiver or the network does; it says so in the reply.
    """

    @property
    def hop(self) -> str: ...
    @property
    def signed(self) -> bool: ...
    @property
    def encrypted(self) -> bool: ...

    def deliver(self, payload: bytes, key: str, traceparent: str, timeout_s: float) -> Reply:
        """Hand one message over."""
        ...

    def receipts(self, key: str, timeout_s: float) -> Receipts:
        """Ask what became of a delivered message. Raises TransientError when it cannot be learnt now."""
        ...


def signature(secret: bytes, now_s: int, payload: bytes) -> str:
    """The value of `Sealtrail-Signature`: t=<Unix seconds>,v1=<hex HMAC-SHA-256 over context, time and payload>."""
    mac = hmac.digest(secret, SIGNATURE_CONTEXT + b"%d\n" % now_s + payload, "sha256")
    return f"t={now_s},v1={mac.hex()}"


class HttpTransport:
    """A `Transport` over HTTP/1.1 with connections kept alive.

    Args:
        url: of the receiver, http or https, without a path.
        hop: the receiver's name in the events.
        secret: shared with the receiver; None sends unsigned, and the events say so.
        ca: PEM file of the authority that signed the receiver's certificate; None takes the system's.

    Raises:
        ConfigError: the address cannot be one, or the file cannot be read.
    """

    def __init__(
        self,
        url: str,
        *,
        hop: str = "messenger",
        secret: bytes | None = None,
        ca: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL:
            raise ConfigError("option --receiver: not an address") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ConfigError("option --receiver: expected http://HOST:PORT or https://HOST:PORT")
        self.hop = hop
        self.signed = secret is not None
        self.encrypted = parsed.scheme == "https"
        self._secret = secret
        self._clock = clock
        try:
            self._client = httpx2.Client(
                base_url=parsed,
                verify=str(ca) if ca else True,
                trust_env=False,  # a proxy of the environment would be a hop that the events do not name
                follow_redirects=False,  # a redirect is a refusal: a message goes where it was configured to go
                limits=httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            )
        except OSError as error:
            raise ConfigError(f"option --receiver-ca: {ca}: {error.strerror or 'not a PEM file'}") from None

    def deliver(self, payload: bytes, key: str, traceparent: str, timeout_s: float) -> Reply:
        """As the Protocol."""
        headers = {"content-type": "application/json", "idempotency-key": key, "traceparent": traceparent}
        if self._secret is not None:
            headers["sealtrail-signature"] = signature(self._secret, int(self._clock()), payload)
        try:
            status, answered, body = self._ask("POST", "/messages", timeout_s, headers, payload)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout):
            return Reply(Outcome.UNREACHABLE, reason="unreachable")
        except httpx2.HTTPError:  # sent, in part at least, and no answer: it may have taken effect
            return Reply(Outcome.TIMED_OUT, reason="no-answer")
        said = _object(body)
        if 200 <= status < 300:
            return Reply(
                Outcome.ACKNOWLEDGED,
                status,
                reference=_matching(said.get("reference"), _REFERENCE),
                repeated=said.get("repeated") is True,
            )
        return Reply(
            Outcome.REFUSED,
            status,
            reason=_matching(said.get("reason"), _SLUG) or "refused",
            after_s=_seconds(answered.get("retry-after")),
        )

    def receipts(self, key: str, timeout_s: float) -> Receipts:
        """As the Protocol."""
        try:
            status, _, body = self._ask("GET", f"/messages/{key}", timeout_s, {}, None)
        except httpx2.HTTPError as error:
            raise TransientError(f"receipts of {self.hop}: {type(error).__name__}") from None
        said = _object(body)
        viewers, archived = said.get("viewers"), said.get("archived")
        if status != 200 or type(viewers) is not int or not 0 <= viewers < 1 << 31 or not isinstance(archived, bool):
            raise TransientError(f"receipts of {self.hop}: status {status}, or not the agreed form")
        return Receipts(viewers, archived)

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def _ask(
        self, method: str, path: str, timeout_s: float, headers: Mapping[str, str], payload: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers, body. A body that is too long or comes too slowly counts as no answer."""
        deadline = time.monotonic() + timeout_s
        with self._client.stream(method, path, content=payload, headers=headers, timeout=timeout_s) as response:
            body = b""
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES or time.monotonic() > deadline:
                    raise httpx2.ReadTimeout("the answer has no end")
            return response.status_code, response.headers, body


def _object(body: bytes) -> Mapping[str, object]:
    """The JSON object in `body`; anything else says nothing."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _matching(value: object, pattern: re.Pattern[str]) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _seconds(value: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is ignored."""
    return float(value) if value is not None and re.fullmatch(r"[0-9]{1,6}", value) else None
