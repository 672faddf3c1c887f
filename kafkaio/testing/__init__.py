"""Simulated brokers for kafkaio's clients: deterministic, in simulated time, without threads (ADR 19).

    Cluster ── Link, with a World that decides what becomes of each request ── SimulatedLibrary ── kafkaio's own clients

All of kafkaio runs above `SimulatedLibrary` as it does above librdkafka; `tests/test_broker_contract.py` holds both to the same
promises. What is simulated: logs with open and aborted transactions, markers that reach each leader at their own time, the
fence, transaction time-outs, groups with generations, time. What is not: replication, leader elections, authorisation,
compaction, quotas; see ADR 19.
"""

from kafkaio.testing.cluster import Cluster, TopicSpec
from kafkaio.testing.errors import BrokerError
from kafkaio.testing.library import SimulatedLibrary
from kafkaio.testing.link import Calm, Fate, Verdict, World
from kafkaio.testing.transactions import Commit, Where

__all__ = ["BrokerError", "Calm", "Cluster", "Commit", "Fate", "SimulatedLibrary", "TopicSpec", "Verdict", "Where", "World"]
