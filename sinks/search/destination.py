"""OpenSearch as a destination: one bulk request, and what each item's answer means.

    created, or there already (409)                                       delivered: the id is chain and seq
    mapping conflict, a field that the mapping has not, any other 400     refused: a dead letter
    larger than the limit, or 413 for it alone                            refused
    429, 5xx, an index closed or blocked, no shards left, no rights       again, later
    the index is not there                                                made, while its period runs, and again

Indices are made by the sink alone (`action.auto_create_index: false` on the server), and only while some record in them
is within its hot period: a late repeat cannot bring back what has expired; it counts as delivered, and as `expired`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from opensearchpy import OpenSearch
from opensearchpy.exceptions import ConnectionError as UnreachableError
from opensearchpy.exceptions import OpenSearchException, SerializationError, TransportError
from prometheus_client import Counter

from schemas.policy import Policy
from schemas.search_names import alias, document_id, index_of
from sealtrail.errors import ConfigError, TransientError
from sinks.delivery import DELIVERED, Item, Outcome, refused, retry
from sinks.search.document import document_of
from sinks.search.mapping import template

BULK_BYTES = 5 << 20  # of one request
TIMEOUT_S = 60.0
EXPIRED = Counter("sealtrail_search_expired_total", "Records whose hot period was over when they came.")

_CREATED, _THERE, _MISSING, _TOO_LARGE = 201, 409, 404, 413
_NOT_NOW = {429, 502, 503, 504, 500, 401, 403, 408}
_NOT_NOW_TYPES = frozenset({"index_closed_exception", "cluster_block_exception", "validation_exception"})
_FIELD = re.compile(r"\[(@?[a-z_][a-z0-9_.]{0,80})\]")

_LOG = structlog.get_logger("sinks.search")


class SearchDestination:
    """Bulk requests to one OpenSearch. One thread.

    Args:
        client: makes no retries of its own.
        topic_prefix: of the deployment; it also begins the names of its indices.
        policy_of: the policy that a record was sealed under; says how long the record stays in hot search.
        document_bytes: the largest document.
        now_us: microseconds since 1970.
    """

    def __init__(
        self,
        client: OpenSearch,
        topic_prefix: str,
        policy_of: Callable[[bytes], Policy],
        *,
        document_bytes: int,
        bulk_bytes: int = BULK_BYTES,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._client = client
        self._prefix = topic_prefix
        self._policy_of = policy_of
        self._document_bytes = document_bytes
        self._bulk_bytes = bulk_bytes
        self._now_us = now_us
        self._indices: set[str] = set()
        self._prepared = False

    def deliver(self, items: Sequence[Item]) -> list[Outcome]:
        """Index `items`; see `sinks.delivery.Destination`. Raises TransientError when OpenSearch does not answer."""
        self._prepare()
        outcomes: dict[int, Outcome] = {}
        batch: list[tuple[int, str, bytes]] = []
        size = 0
        for number, item in enumerate(items):
            made = self._lines(item)
            if isinstance(made, Outcome):
                outcomes[number] = made
                continue
            if batch and size + len(made[1]) > self._bulk_bytes:
                outcomes.update(self._bulk(batch))
                batch, size = [], 0
            batch.append((number, *made))
            size += len(made[1])
        if batch:
            outcomes.update(self._bulk(batch))
        return [outcomes[number] for number in range(len(items))]

    def close(self) -> None:
        """End connections."""
        self._client.close()

    def _lines(self, item: Item) -> tuple[str, bytes] | Outcome:
        """The index of an item and its two lines of a bulk request; or what else becomes of it."""
        try:
            document = json.dumps(document_of(item), separators=(",", ":"), ensure_ascii=False).encode()
        except Exception as error:  # an event that this code cannot show must not stop the next one
            _LOG.exception("document cannot be made", offset=item.record.offset)
            return refused("unprocessable", type(error).__name__)
        if len(document) > self._document_bytes:
            return refused("too-large", f"{len(document)} bytes; at most {self._document_bytes}")
        hot_days = self._policy_of(item.sealed.content.policy).decide(item.event).hot_days
        index = index_of(self._prefix, item.seal.log_class, hot_days, item.seal.sealed_at_us)
        if index.name not in self._indices:
            if self._now_us() >= index.ends_us:
                EXPIRED.inc()
                return DELIVERED
            failure = self._create(index.name)
            if failure is not None:
                return failure
        act = {"create": {"_index": index.name, "_id": document_id(item.seal.chain, item.seal.seq)}}
        return index.name, json.dumps(act, separators=(",", ":")).encode() + b"\n" + document + b"\n"

    def _bulk(self, batch: Sequence[tuple[int, str, bytes]]) -> dict[int, Outcome]:
        """Send one bulk request; halved when it is too large as a whole."""
        try:
            answer = self._client.bulk(body=b"".join(lines for _, _, lines in batch))
        except TransportError as error:
            if error.status_code != _TOO_LARGE:
                raise _transient(error) from error
            if len(batch) == 1:
                return {batch[0][0]: refused("too-large", "the server takes no request of this size", _TOO_LARGE)}
            half = len(batch) // 2
            return {**self._bulk(batch[:half]), **self._bulk(batch[half:])}
        except OpenSearchException as error:
            raise _transient(error) from error
        answers = answer.get("items") if isinstance(answer, Mapping) else None
        if not isinstance(answers, list) or len(answers) != len(batch):
            raise TransientError("OpenSearch answered a bulk request with something else", 1.0)
        return {number: self._outcome(index, entry["create"]) for (number, index, _), entry in zip(batch, answers, strict=True)}

    def _outcome(self, index: str, entry: Mapping[str, Any]) -> Outcome:
        status = int(entry["status"])
        if status in (_CREATED, _THERE):
            return DELIVERED
        error = entry.get("error") or {}
        kind = str(error.get("type", "unknown"))
        if status == _MISSING:
            self._indices.discard(index)
            return retry("index-missing", kind, status, after_s=0.1)
        if status in _NOT_NOW or kind in _NOT_NOW_TYPES or status > 500:
            return retry("busy" if status == 429 else "index-unavailable", kind, status)
        if status == _TOO_LARGE:
            return refused("too-large", kind, status)
        return refused("mapping", _described(error), status)

    def _prepare(self) -> None:
        """Put the template, once; without it no index is made."""
        if self._prepared:
            return
        try:
            self._client.indices.put_index_template(name=alias(self._prefix), body=template(self._prefix))
        except TransportError as error:
            if error.status_code == 400:
                raise ConfigError(f"OpenSearch refuses the index template: {error.error}") from error
            raise _transient(error) from error
        except OpenSearchException as error:
            raise _transient(error) from error
        self._prepared = True

    def _create(self, index: str) -> Outcome | None:
        """Make an index; None when it is there."""
        try:
            self._client.indices.create(index=index)
        except UnreachableError as error:
            raise _transient(error) from error
        except TransportError as error:
            if error.error != "resource_already_exists_exception":
                if error.status_code in (400, 401, 403, 429):  # among them: no shard is left on the nodes
                    return retry("index-refused", str(error.error), int(error.status_code))
                raise _transient(error) from error
        except OpenSearchException as error:
            raise _transient(error) from error
        self._indices.add(index)
        return None


def _described(error: Mapping[str, Any]) -> str:
    """An error's type and the field it names; its text may quote the value, so it is not kept."""
    field = _FIELD.search(str(error.get("reason", "")))
    return f"{error.get('type', 'unknown')}{f' in {field.group(1)}' if field else ''}"


def _transient(error: OpenSearchException) -> TransientError:
    if isinstance(error, UnreachableError):
        return TransientError(f"OpenSearch does not answer: {type(error.info).__name__}", 1.0)
    if isinstance(error, SerializationError):
        return TransientError("OpenSearch answered with something that is not JSON", 1.0)
    if isinstance(error, TransportError):
        return TransientError(f"OpenSearch answered {error.status_code} {error.error}", 1.0)
    return TransientError(f"OpenSearch: {type(error).__name__}", 1.0)
