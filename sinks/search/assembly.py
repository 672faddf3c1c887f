"""The search sink from its settings.

    open_sink(settings).run(stop)

It needs the role's Kafka certificate and `search_endpoint`; it has no keys and no rights in the archive.
"""

from __future__ import annotations

import logging
from typing import Any

from opensearchpy import OpenSearch

from kafkaio.dead import DeadLetters
from kafkaio.delivery import DeliveryConsumer
from schemas.catalogue import topic_name
from schemas.policy_files import PolicyFiles
from schemas.registry import packaged_registry
from schemas.settings import Settings
from sealtrail.errors import ConfigError
from sinks.delivery import DeliverySink, Destination
from sinks.search.destination import TIMEOUT_S, SearchDestination

NAME = "search"
TOPIC = "audit.hot"
GROUP = "sink-search"


def search_client(settings: Settings, timeout_s: float = TIMEOUT_S) -> OpenSearch:
    """A client that makes no retries of its own. Raises ConfigError."""
    settings.require("search_endpoint")
    if not settings.search_endpoint.startswith(("http://", "https://")):
        raise ConfigError("setting search_endpoint: neither http:// nor https://")
    logging.getLogger("opensearch").setLevel(logging.CRITICAL)  # it logs bodies of requests that failed
    options: dict[str, Any] = {"max_retries": 0, "retry_on_timeout": False, "timeout": timeout_s}
    if settings.search_ca:
        options["ca_certs"] = str(settings.search_ca)
    if settings.search_username:
        password = settings.search_password
        options["http_auth"] = (settings.search_username, password.get_secret_value() if password else "")
    return OpenSearch(hosts=[settings.search_endpoint], **options)


def destination_of(settings: Settings) -> SearchDestination:
    """OpenSearch with the deployment's policy. Raises ConfigError."""
    policies = PolicyFiles(settings.policy)
    return SearchDestination(
        search_client(settings), settings.topic_prefix, policies.of, document_bytes=settings.search_document_bytes
    )


def open_sink(settings: Settings, *, destination: Destination | None = None) -> DeliverySink:
    """The sink, not yet connected. Raises ConfigError for settings that cannot work.

    Args:
        destination: stands for OpenSearch; for tests of what happens between delivery and commit.
    """
    topic = topic_name(settings.topic_prefix, TOPIC)
    group = topic_name(settings.topic_prefix, GROUP)
    return DeliverySink(
        name=NAME,
        topic=topic,
        registry=packaged_registry(),
        connect=lambda revoked, expired: DeliveryConsumer(settings, topic, group, revoked=revoked, expired=expired),
        destination=destination or destination_of(settings),
        letters=DeadLetters(settings),
    )
