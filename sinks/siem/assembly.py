"""The SIEM sink from its settings: a collector, a syslog peer, or both.

    open_sink(settings).run(stop)

With both, a record counts as delivered when each has it; one that gets it again gets it under the same id.
"""

from __future__ import annotations

from collections.abc import Sequence

from kafkaio.dead import DeadLetters
from kafkaio.delivery import DeliveryConsumer
from schemas.catalogue import topic_name
from schemas.registry import packaged_registry
from schemas.settings import Settings
from sealtrail.errors import ConfigError
from sinks.delivery import DELIVERED, DeliverySink, Destination, Item, Outcome, State
from sinks.siem.hec import HecDestination, HecSettings
from sinks.siem.syslog import SyslogDestination, SyslogSettings

NAME = "siem"
TOPIC = "audit.siem"
GROUP = "sink-siem"
MOST_REMEMBERED = 100_000  # records that one of two destinations has; above it some are repeated


class Every:
    """Several destinations as one: each gets what it does not have yet."""

    def __init__(self, destinations: Sequence[Destination]) -> None:
        self._destinations = destinations
        self._had: list[set[tuple[str, int]]] = [set() for _ in destinations]

    def deliver(self, items: Sequence[Item]) -> list[Outcome]:
        """See `sinks.delivery.Destination`; the first that wants an item again decides, then the first that refuses it."""
        outcomes = [DELIVERED] * len(items)
        for destination, had in zip(self._destinations, self._had, strict=True):
            wanted = [n for n, item in enumerate(items) if _place(item) not in had]
            for number, outcome in zip(wanted, destination.deliver([items[n] for n in wanted]) if wanted else (), strict=True):
                if outcome.state is State.DELIVERED:
                    had.add(_place(items[number]))
                if outcomes[number].state is State.DELIVERED or outcome.state is State.RETRY:
                    outcomes[number] = outcome
        self._forget(items, outcomes)
        return outcomes

    def close(self) -> None:
        """Close all."""
        for destination in self._destinations:
            destination.close()

    def _forget(self, items: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
        done = {_place(item) for item, outcome in zip(items, outcomes, strict=True) if outcome.state is not State.RETRY}
        for had in self._had:
            had.difference_update(done)
            if len(had) > MOST_REMEMBERED:
                had.clear()


def _place(item: Item) -> tuple[str, int]:
    return item.seal.chain, item.seal.seq


def destination_of(settings: Settings) -> Destination:
    """What the settings name. Raises ConfigError when they name none, or one that cannot work."""
    found: list[Destination] = []
    if settings.siem_hec_url:
        settings.require("siem_hec_token")
        token = settings.siem_hec_token
        found.append(
            HecDestination(
                HecSettings(
                    settings.siem_hec_url,
                    token.get_secret_value() if token else "",
                    str(settings.siem_hec_ca) if settings.siem_hec_ca else None,
                    settings.siem_hec_ack,
                    settings.siem_ack_seconds,
                    settings.siem_ocsf_version,
                )
            )
        )
    if settings.siem_syslog_address:
        host, colon, port = settings.siem_syslog_address.rpartition(":")
        if not colon or not host or not port.isdigit():
            raise ConfigError("setting siem_syslog_address: expected host:port")
        paths = (settings.siem_syslog_ca, settings.siem_syslog_certificate, settings.siem_syslog_key)
        ca, certificate, key = (str(path) if path else None for path in paths)
        found.append(
            SyslogDestination(
                SyslogSettings(
                    host,
                    int(port),
                    ca,
                    certificate,
                    key,
                    settings.siem_enterprise_number,
                    settings.deployment,
                    settings.siem_syslog_bytes,
                    settings.siem_ocsf_version,
                )
            )
        )
    if not found:
        raise ConfigError("no SIEM is named: setting siem_hec_url or siem_syslog_address")
    return found[0] if len(found) == 1 else Every(found)


def open_sink(settings: Settings, *, destination: Destination | None = None) -> DeliverySink:
    """The sink, not yet connected. Raises ConfigError for settings that cannot work.

    Args:
        destination: stands for what the settings name; for tests.
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
