"""The common work on Quix Streams, exactly-once.

    python -m bench.peers.quix TASK        in the environment of bench/peers/requirements.lock

A chain's head is in the engine's state, which it commits with records and offsets in one transaction. State is kept by
message key, and in the benchmark's input a partition has one key; so a chain is what the seal's format says, a partition. A
function does not see where its transaction ends; so the first record of a chain in each commit interval is signed instead of
the last. A record that fails a check stops the application: the benchmark's input has none.
"""

from __future__ import annotations

import sys
from typing import Any

from quixstreams import Application, State, message_context
from quixstreams.kafka.configuration import ConnectionConfig

from bench.peers.work import HOT, SIEM, Head, Task, Work


def run(task: Task) -> None:
    """Seal until the process is ended."""
    work = Work(task)
    app = Application(
        broker_address=ConnectionConfig(
            bootstrap_servers=task.bootstrap,
            security_protocol="ssl",
            ssl_ca_location=task.ca,
            ssl_certificate_location=task.certificate,
            ssl_key_location=task.key,
        ),
        consumer_group=task.name,
        auto_offset_reset="earliest",
        commit_interval=task.commit_ms / 1000,
        processing_guarantee="exactly-once",
        consumer_poll_timeout=task.commit_ms / 1000,
        producer_extra_config={"compression.type": "lz4", "linger.ms": 5},
        state_dir=task.state,
        loglevel="WARNING",
    )
    raw = app.topic(task.raw, key_deserializer="bytes", value_deserializer="bytes")
    archive, hot, siem = (
        app.topic(name, key_serializer="bytes", value_serializer="bytes") for name in (task.archive, task.hot, task.siem)
    )

    def seal(value: bytes, _key: Any, _timestamp: int, headers: Any, state: State) -> tuple[int, bytes]:
        """Routes and bytes of the sealed event."""
        context = message_context()
        checked = work.check(value, dict(headers)["st-mac"], context.offset)
        head = Head.of_json(state.get("head"))
        sealed = work.link(head, context.partition, checked, sign=checked.sign or work.due(head))
        state.set("head", head.as_json())
        return checked.routes, sealed

    sealed = app.dataframe(raw).apply(seal, stateful=True, metadata=True)
    sealed = sealed.set_headers(lambda *_: [])  # what the raw record's headers said is checked; they do not travel on
    sealed.filter(lambda made: made[0] & HOT > 0).apply(lambda made: made[1]).to_topic(hot)
    sealed.filter(lambda made: made[0] & SIEM > 0).apply(lambda made: made[1]).to_topic(siem)
    sealed.apply(lambda made: made[1]).to_topic(archive)
    app.run()


if __name__ == "__main__":
    run(Task.read(sys.argv[1]))
