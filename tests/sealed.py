"""Sealed events for tests of what delivers them: made as the sealer makes them, written to a topic under its identity.

`SealedTopic` commits, or aborts, one transaction at a time; `full_event` fills every field of the model.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from confluent_kafka import ConsumerGroupTopicPartitions, Producer

from kafkaio.admin import admin_client
from kafkaio.client import client_config
from kafkaio.dead import DEAD_LETTER
from kafkaio.delivery import Delivered
from kafkaio.reader import PartitionReader
from producers.uuid7 import Uuid7
from schemas.catalogue import topic_name
from schemas.policy import Policy
from schemas.registry import AUDIT_EVENT, packaged_registry
from schemas.settings import Settings
from sealtrail.layout import chain_name
from sealtrail.seal import Content, Kind, LogClass, Reason, decode_seal, decode_sealed_event
from sealtrail.token import SubjectKey
from sinks.delivery import DeliverySink, Item
from tests.chains import SECOND_US, ChainMaker
from tests.conftest import Deployment

PARTITIONS = 4
uuid7 = Uuid7(time.time_ns, os.urandom)
TOKEN = SubjectKey("acme", bytes(64)).token("ada@acme.example")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def plain_event(tenant: str = "acme", name: str = "load.tick", event_type: str = "OTHER", **more: Any) -> dict[str, Any]:
    """A small event with nothing optional."""
    return {
        "event_id": uuid7(),
        "event_name": name,
        "tenant": tenant,
        "emitter": {"source": "loadgen", "instance": "one", "epoch": uuid7(), "seq": 1},
        "region": "eu-central",
        "event_type": event_type,
        "occurred_at": time.time_ns() // 1000,
        "result": "SUCCESS",
        "effect": "EFFECTIVE",
        "redaction": {"status": "NONE", "policy": "v1", "fields": []},
        "changes": [],
        "actor": {"kind": "SERVICE", "id": "loadgen", "display": None},
        **more,
    }


def full_event(
    tenant: str = "acme", name: str = "chat.message.delivered", event_type: str = "MESSAGE", **more: Any
) -> dict[str, Any]:
    """An event with every field of the model given."""
    extension = next(iter(packaged_registry().extensions))
    return plain_event(
        tenant,
        name,
        event_type,
        **{
            "source_system": "chat",
            "target_system": "messenger",
            "object": {"type": "message", "id": "m-1"},
            "ticket": "CHG-7",
            "traceparent": TRACE,
            "correlation_id": "lineage-1",
            "causation_id": uuid7(),
            "retry": {"original_event_id": uuid7(), "attempt": 2, "idempotency_key": "key-1"},
            "authorization": {
                "method": "SSO_SESSION", "scopes": ["send"], "policy": "p-1", "policy_version": "3", "decision": "ALLOW",
            },
            "delivery": {
                "validated": True, "signed": True, "encrypted": True, "payload_digest": bytes(range(32)),
                "retry_policy": "exponential-3", "acknowledgement": "ack-1", "failure": "refused", "failed_hop": "gateway",
                "attempts": [
                    {"number": 1, "at": time.time_ns() // 1000, "outcome": "TIMED_OUT", "status": None, "hop": "gateway"},
                    {"number": 2, "at": time.time_ns() // 1000, "outcome": "ACKNOWLEDGED", "status": 202, "hop": None},
                ],
            },
            "message": {"stage": "DELIVERED", "type": "direct", "recipient_group": "g-1", "recipient_count": 12},
            "deployment": {
                "environment": "production", "commit": "a" * 40, "artifact_digest": "sha256:" + "b" * 64,
                "checks": [{"name": "tests", "result": "SUCCESS"}],
            },
            "audience": {"reach": "GROUP", "group": "g-2", "count": 9},
            "automation": {"steps": [{"name": "summary", "intended": True, "executed": False}]},
            "content_ref": {"digest": bytes(32), "size": 512, "media_type": "text/plain", "location": "chat:m-1"},
            "redaction": {"status": "APPLIED", "policy": "v1", "fields": ["actor.display"]},
            "extension": {"schema": extension, "payload": b"payload-marker"},
            "changes": [{"op": "REPLACE", "path": "/role", "before": '"member"', "after": '"admin"'}],
            "actor": {"kind": "USER", "id": "hmac_actor", "display": "**** Ada", "login": TOKEN},
            "subject": {"id": "hmac_subject", "display": "**** Bob", "login": TOKEN},
            "sender": "hmac_sender",
            "approver": "hmac_approver",
            "credential": "hmac_credential",
            "source_ip": "hmac_address",
            "object_name": "*****ame",
            "reason": "******-marker",
            **more,
        },
    )  # fmt: skip


class SealedTopic:
    """The chain of one partition, written to one topic of a deployment by the sealer's identity."""

    def __init__(self, deployment: Deployment, topic: str, policy: Policy | None = None) -> None:
        self.deployment = deployment
        self.topic = topic_name(deployment.topic_prefix, topic)
        self.policy = policy or Policy.load()
        self.maker = ChainMaker(
            bytes(32),
            lambda _: bytes(64),
            chain=chain_name("audit.example", deployment.name, "audit.raw", os.urandom(16), 0, 0),
            now_us=time.time_ns() // SECOND_US * 1000,
            random=os.urandom,
        )
        settings = deployment.settings("sealer")
        self._producer = Producer(
            {**client_config(settings), "transactional.id": f"{deployment.name}/test-{topic}", "message.max.bytes": 3_000_000}
        )
        self._producer.init_transactions(60)

    def seal(self, event: dict[str, Any]) -> bytes:
        """The next record of the chain: `event` sealed under the policy's decision."""
        decision = self.policy.decide(_complete(event))
        data = AUDIT_EVENT.encode(event)
        content = Content(os.urandom(16), decision.policy, AUDIT_EVENT.sha256, event["event_id"], data)
        return self.maker.seal(
            Kind.EVENT, Reason.NONE, decision.log_class, content, 1, signed=decision.sign, tenant=event["tenant"]
        )

    def write(self, values: Sequence[bytes], partition: int = 0, *, abort: bool = False) -> None:
        """One transaction."""
        self._producer.begin_transaction()
        for value in values:
            self._producer.produce(self.topic, value, partition=partition)
            self._producer.poll(0)
        assert self._producer.flush(60) == 0
        if abort:
            self._producer.abort_transaction(60)
        else:
            self._producer.commit_transaction(60)

    def send(self, *events: dict[str, Any], partition: int = 0) -> list[str]:
        """Seal and write events; their ids as they are shown."""
        self.write([self.seal(event) for event in events], partition)
        return [str(UUID(bytes=event["event_id"])) for event in events]


def item_of(event: dict[str, Any]) -> Item:
    maker = ChainMaker(bytes(32), lambda _: bytes(64))
    content = Content(bytes(16), bytes(32), AUDIT_EVENT.sha256, event["event_id"], AUDIT_EVENT.encode(event))
    value = maker.seal(Kind.EVENT, Reason.NONE, LogClass.OPERATIONAL, content, 1, signed=False)
    sealed = decode_sealed_event(value)
    return Item(Delivered(0, 0, 0, value), sealed, decode_seal(sealed.seal), AUDIT_EVENT.decode(content.content))


def place_of(value: bytes) -> tuple[str, int]:
    """Chain and seq of a sealed record."""
    seal = decode_seal(decode_sealed_event(value).seal)
    return seal.chain, seal.seq


def _complete(event: dict[str, Any]) -> dict[str, Any]:
    """With the nulls that the encoding fills in."""
    return AUDIT_EVENT.decode(AUDIT_EVENT.encode(event))


class SinkUnderTest:
    """A deployment, the topic that a sink reads in it, and what the sink leaves in Kafka."""

    def __init__(self, deployment: Deployment, role: str, topic: str) -> None:
        self.deployment = deployment
        self.role = role
        self.topic = SealedTopic(deployment, topic)
        self.admin = admin_client(deployment.settings("admin"))  # held: a future of one that is gone never ends

    def settings(self, **flags: Any) -> Settings:
        return self.deployment.settings(self.role, **flags)

    def letters(self) -> list[dict[str, Any]]:
        """The dead letters so far."""
        topic = topic_name(self.deployment.topic_prefix, "audit.dead-letters")
        with PartitionReader(self.deployment.settings("admin")) as reader:
            values = [r.value for p in range(PARTITIONS) for r in reader.read_all(topic, p) if r.value is not None]
        return [DEAD_LETTER.decode(value) for value in values]

    def committed(self) -> int:
        """The sum of the group's positions."""
        group = topic_name(self.deployment.topic_prefix, self.role)
        asked = self.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        places = asked[group].result().topic_partitions or []
        return sum(max(0, place.offset) for place in places)


@contextmanager
def running(*sinks: DeliverySink) -> Iterator[None]:
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(sink: DeliverySink) -> None:
        try:
            sink.run(stop)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(sink,)) for sink in sinks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive()
    assert not failures, failures
