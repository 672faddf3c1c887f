"""The common work on Faust (faust-streaming): an agent over the raw topic, a table for the heads, at least once.

    python -m bench.peers.on_faust TASK

At-least-once is what Faust is run with; its exactly-once passes no group generation to the broker (facts in ADR 1), and would
be slower. One agent a partition takes what is there, up to `BATCH` events within the commit interval, so the table's changelog
has a record for each batch of a chain and not for each event. Heads are kept by message key, of which the benchmark's input has
one a partition: so a head stands on its chain's partition. The last seal of each batch is signed.
"""

from __future__ import annotations

import ssl
import sys
from typing import Any

import faust

from bench.peers.work import Head, Task, Work

BATCH = 1000


def application(task: Task) -> Any:
    """The app, with its agent."""
    context = ssl.create_default_context(cafile=task.ca)
    context.load_cert_chain(task.certificate, task.key)
    app = faust.App(
        task.name,
        broker=f"kafka://{task.bootstrap}",
        broker_credentials=faust.SSLCredentials(context),
        datadir=task.state,
        store="memory://",
        key_serializer="raw",
        topic_partitions=task.partitions,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=task.commit_ms / 1000,
        producer_compression_type="lz4",
        producer_linger_ms=5,
        stream_wait_empty=False,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    work = Work(task)
    raw = app.topic(task.raw, value_serializer="raw")
    outputs = {name: app.topic(name, value_serializer="raw") for name in (task.archive, task.hot, task.siem)}
    heads = app.Table("heads", partitions=task.partitions, use_partitioner=True)

    @app.agent(raw, isolated_partitions=True)
    async def seal(stream: Any) -> None:
        async for events in stream.take_events(BATCH, within=task.commit_ms / 1000):
            key, partition = events[0].key, events[0].message.partition
            head = Head.of_json(heads.get(key))
            for event in events:
                message = event.message
                checked = work.check(event.value, dict(message.headers)["st-mac"], message.offset)
                value = work.link(head, partition, checked, sign=checked.sign or event is events[-1])
                for name in work.outputs(checked.routes):
                    await outputs[name].send(key=event.key, value=value, partition=partition)
            heads[key] = head.as_json()

    return app


if __name__ == "__main__":
    made = application(Task.read(sys.argv[1]))
    sys.argv = [sys.argv[0]]
    faust.Worker(made, loglevel="warning").execute_from_commandline()
