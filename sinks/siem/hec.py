"""A collector that speaks Splunk's HTTP Event Collector protocol, with acknowledgement.

    POST …/services/collector/event   {"code": 0, "ackId": 7}     taken, not yet safe
    POST …/services/collector/ack     {"acks": {"7": true}}       safe: delivered

What an answer means is its code, whatever the HTTP status says: a 200 with another code than 0 is not accepted.

    0                         taken
    5, 6, 12, 13, 15          a record is wrong: the one that the answer numbers; without a number, halves until it is alone
    413                       halves; alone: too large
    1 to 4, 7, 10, 11, 14     token, index or channel are wrong: nothing is lost, everything waits until a person mends it
    8, 9, 429, 5xx, no reply  later, for ever

What is not acknowledged in time is sent again whole, under the same ids.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2

from sealtrail.errors import ConfigError, TransientError
from sinks.delivery import DELIVERED, Item, Outcome, refused
from sinks.siem.ocsf import ocsf_of, record_uid

REQUEST_S = 30.0
POLL_S = 0.05  # of the acknowledgement, doubled up to POLL_MOST_S
POLL_MOST_S = 2.0
BATCH_BYTES = 1 << 20
_RECORD_CODES = frozenset({5, 6, 12, 13, 15})
_PERSON_CODES = frozenset({1, 2, 3, 4, 7, 10, 11, 14})
PERSON_S = 10.0  # between two tries while the token is wrong


@dataclass(frozen=True, slots=True)
class HecSettings:
    """Where the collector is and how it is asked.

    Attributes:
        acknowledged: whether to wait for its acknowledgement; without, a 200 says only that it was received.
        ack_s: how long one may take; below four minutes.
    """

    url: str
    token: str
    ca: str | None = None
    acknowledged: bool = True
    ack_s: float = 60.0
    ocsf_version: str = "1.9.0"


class HecDestination:
    """See `sinks.delivery.Destination`. One thread. Raises ConfigError for a setting that cannot work."""

    def __init__(self, settings: HecSettings) -> None:
        if not settings.url.startswith(("https://", "http://")):
            raise ConfigError("setting siem_hec_url: neither http:// nor https://")
        try:
            verify = ssl.create_default_context(cafile=settings.ca)
        except (OSError, ssl.SSLError):
            raise ConfigError("setting siem_hec_ca: no certificates in that file") from None
        self._settings = settings
        self._url = settings.url.rstrip("/")
        self._headers = {"Authorization": f"Splunk {settings.token}", "X-Splunk-Request-Channel": str(uuid4())}
        self._client = httpx2.Client(verify=verify, timeout=REQUEST_S)

    def deliver(self, items: Sequence[Item]) -> list[Outcome]:
        """Send, wait for the acknowledgement; see the module. Raises TransientError."""
        outcomes: dict[int, Outcome] = {}
        batch: list[tuple[int, bytes]] = []
        size = 0
        for number, item in enumerate(items):
            line = self._line(item)
            if batch and size + len(line) > BATCH_BYTES:
                outcomes.update(self._send(batch))
                batch, size = [], 0
            batch.append((number, line))
            size += len(line)
        outcomes.update(self._send(batch))
        return [outcomes[number] for number in range(len(items))]

    def close(self) -> None:
        """End connections."""
        self._client.close()

    def _line(self, item: Item) -> bytes:
        uid = record_uid(item)
        wrapped = {
            "time": item.event["occurred_at"] / 1e6,
            "host": item.event["emitter"]["instance"],
            "source": f"sealtrail:{item.event['emitter']['source']}",
            "sourcetype": "ocsf:json",
            "event": ocsf_of(item, self._settings.ocsf_version),
            "fields": {"id": uid, "tenant": item.event["tenant"]},
        }
        return json.dumps(wrapped, separators=(",", ":")).encode()

    def _send(self, batch: Sequence[tuple[int, bytes]]) -> dict[int, Outcome]:
        """Send until each record is acknowledged or refused."""
        outcomes: dict[int, Outcome] = {}
        while batch:
            status, answer = self._post("/services/collector/event", b"\n".join(line for _, line in batch))
            code = answer.get("code")
            if status == 413:
                return {**outcomes, **self._halved(batch, "too-large", status)}
            if code in _RECORD_CODES:
                at = answer.get("invalid-event-number")
                if not isinstance(at, int) or not 0 <= at < len(batch):
                    return {**outcomes, **self._halved(batch, "refused", status)}
                outcomes[batch[at][0]] = refused("refused", f"collector's code {code}", status)
                batch = [*batch[:at], *batch[at + 1 :]]  # the others go again, without it
                continue
            self._check(status, code)
            if status >= 400 or code != 0:
                return {**outcomes, **self._halved(batch, "refused", status)}
            if self._settings.acknowledged:
                self._await(answer.get("ackId"))
            return {**outcomes, **dict.fromkeys((number for number, _ in batch), DELIVERED)}
        return outcomes

    def _check(self, status: int, code: object) -> None:
        """Raise TransientError for what says nothing against the records."""
        if code in _PERSON_CODES or status in (401, 403):
            problem = f"collector refuses us: {status}, code {code}; a person must mend token, index or channel"
            raise TransientError(problem, PERSON_S)
        if status >= 500 or status in (408, 429) or code in (8, 9):
            raise TransientError(f"collector answers {status}, code {code}", 1.0)
        if not isinstance(code, int) and status < 400:
            raise TransientError(f"collector answers {status} with something that is no answer of it", 1.0)

    def _halved(self, batch: Sequence[tuple[int, bytes]], reason: str, status: int) -> dict[int, Outcome]:
        if len(batch) == 1:
            return {batch[0][0]: refused(reason, "by the collector", status)}
        half = len(batch) // 2
        return {**self._send(batch[:half]), **self._send(batch[half:])}

    def _await(self, ack_id: object) -> None:
        if not isinstance(ack_id, int):
            raise TransientError("collector acknowledges nothing: it gave no ackId", PERSON_S)
        deadline, pause = time.monotonic() + self._settings.ack_s, POLL_S
        while True:
            _, answer = self._post("/services/collector/ack", json.dumps({"acks": [ack_id]}).encode())
            acks = answer.get("acks")
            if isinstance(acks, dict) and acks.get(str(ack_id)) is True:
                return
            if time.monotonic() + pause > deadline:
                raise TransientError(f"collector did not acknowledge within {self._settings.ack_s:.0f} s", 1.0)
            time.sleep(pause)  # the protocol has nothing but asking again
            pause = min(POLL_MOST_S, pause * 2)

    def _post(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        try:
            reply = self._client.post(f"{self._url}{path}", content=body, headers=self._headers)
        except httpx2.HTTPError as error:
            raise TransientError(f"collector does not answer: {type(error).__name__}", 1.0) from error
        try:
            answer = reply.json()
        except ValueError:
            answer = {}
        return reply.status_code, answer if isinstance(answer, dict) else {}
