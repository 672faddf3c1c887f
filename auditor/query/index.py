"""Asking OpenSearch: pages of documents in a stable order, newest first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException, TransportError

from auditor.query.build import SORT, Query
from schemas.search_names import alias
from schemas.settings import Settings
from sealtrail.errors import ConfigError, TransientError
from sinks.search.assembly import search_client

PAGE = 500
TIMEOUT_S = 10.0
STARTING_S = 5.0  # how long a query waits for shards that start: an index that is just made has none
PAUSE_S = 0.1

Document = dict[str, Any]


@dataclass(slots=True)
class Answer:
    """What a query found: how many in all, how long the first page took at the server (ms), and the documents, page by page."""

    total: int
    took_ms: int
    documents: Iterator[Document]


class HotIndex:
    """The index of one deployment. One thread.

    An answer is of every shard or it is none: what a missing shard holds is not left out silently.

    Raises from every method: TransientError when OpenSearch does not answer, or not for all shards, ConfigError when it refuses
    the query.
    """

    def __init__(self, settings: Settings) -> None:
        self._client: OpenSearch = search_client(settings, TIMEOUT_S)
        self._alias = alias(settings.topic_prefix)

    def ask(self, query: Query, limit: int) -> Answer:
        """The newest `limit` documents that match, and how many match in all."""
        first = self._page(query, min(limit, PAGE), None)
        hits = first["hits"]
        return Answer(int(hits["total"]["value"]), int(first["took"]), self._documents(query, hits["hits"], limit))

    def place_of(self, event_id: str) -> tuple[str, str, int] | None:
        """Index, chain and seq of an event, or None."""
        found = self._page({"term": {"event.id": event_id}}, 1, None)["hits"]["hits"]
        if not found:
            return None
        said = found[0]["_source"]["sealtrail"]
        return str(found[0]["_index"]), str(said["chain"]), int(said["seq"])

    def close(self) -> None:
        """End connections."""
        self._client.close()

    def _documents(self, query: Query, hits: list[dict[str, Any]], limit: int) -> Iterator[Document]:
        given = 0
        while hits:
            for hit in hits:
                yield hit["_source"]
            given += len(hits)
            if given >= limit:
                return
            hits = self._page(query, min(limit - given, PAGE), hits[-1]["sort"])["hits"]["hits"]

    def _page(self, query: Query, size: int, after: list[Any] | None) -> dict[str, Any]:
        body: dict[str, Any] = {"query": query, "size": size, "sort": SORT, "track_total_hits": True}
        if after is not None:
            body["search_after"] = after
        whole = {"ignore_unavailable": "true", "allow_partial_search_results": "false"}
        give_up = time.monotonic() + STARTING_S
        while True:
            try:
                found: dict[str, Any] = self._client.search(index=self._alias, body=body, params=whole)
                return found
            except TransportError as error:
                if error.status_code == 400:
                    raise ConfigError(f"OpenSearch refuses the query: {error.error}") from error
                if error.status_code != 503 or time.monotonic() >= give_up:
                    raise TransientError(f"OpenSearch does not answer a query: {error.error}") from error
            except OpenSearchException as error:
                raise TransientError(f"OpenSearch does not answer a query: {type(error).__name__}") from error
            time.sleep(PAUSE_S)
