"""Where a chain stands, from what is committed: the designed order, never another (design §6.1, §6.2).

1. The caller has fenced: no earlier owner can commit any more.
2. Wait until everything written to the chain's outputs and states before is decided: the caller where it does not hold up
   other chains, for partitions that are shared; here, for those that are read.
3. Read the last data record of `audit.archive`: the head is the truth. Read the runs' states.
4. Cross-check the committed position, the log's bounds and the chain's name. What does not fit is
   never repaired silently: the partition stops, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

from kafkaio.reader import PartitionReader, Record
from kafkaio.transaction import Ends
from processors.chain import ChainHead
from processors.pipeline import ChainState
from processors.sequence import Runs, RunState, decode_state
from schemas.catalogue import topic_name
from schemas.settings import Settings
from sealtrail.errors import ConfigError, EvidenceError
from sealtrail.layout import chain_name
from sealtrail.seal import Kind, decode_seal, decode_sealed_event, leaf_hash


class HeadError(EvidenceError):
    """What is committed contradicts itself; sealing on would hide it."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The full names of the topics of one deployment."""

    raw: str
    archive: str
    hot: str
    siem: str
    quarantine: str
    sources: str
    subject_keys: str
    activity: str

    @classmethod
    def of(cls, settings: Settings) -> Topics:
        """With the settings' prefix in front."""
        names = ("raw", "archive", "hot", "siem", "quarantine", "sources", "subject-keys", "activity")
        return cls(*(topic_name(settings.topic_prefix, f"audit.{name}") for name in names))


@dataclass(frozen=True, slots=True)
class Places:
    """The partitions that one chain is written to."""

    topics: Topics
    partition: int  # of raw, archive, sources, subject-keys and activity
    hot: int
    siem: int
    quarantine: int

    def all(self) -> list[tuple[str, int]]:
        """Every output and state partition."""
        t = self.topics
        return [
            (t.archive, self.partition),
            (t.sources, self.partition),
            (t.subject_keys, self.partition),
            (t.activity, self.partition),
            (t.hot, self.hot),
            (t.siem, self.siem),
            (t.quarantine, self.quarantine),
        ]


def chain_of(settings: Settings, ends: Ends, topics: Topics, partition: int) -> str:
    """The name of a partition's chain; generation 0: a chain that goes on after its topic was lost is not built yet."""
    uuid = ends.topic_uuid(topics.raw)
    try:
        return chain_name(settings.authority, settings.deployment, topics.raw, uuid, 0, partition)
    except ValueError as error:
        raise ConfigError(f"settings authority, deployment, topic_prefix: {error}") from error


def read_state(chain: str, places: Places, ends: Ends, reader: PartitionReader, committed: int | None) -> ChainState | None:
    """The state of a fenced chain, or None for a chain that has no record yet and may have its GENESIS.

    Args:
        committed: the group's committed raw position, a cross-check only.

    Raises:
        HeadError: the partition must stop until a person has looked.
        TransientError, ConfigError: as the readers say.
    """
    topics = places.topics
    # That all is decided, also where others write, the caller has seen to. Here nobody writes since the fence.
    ends.await_stable([(topics.archive, places.partition), (topics.sources, places.partition)])
    last = reader.last_record(topics.archive, places.partition)
    if last is None:
        if ends.start(topics.archive, places.partition) != 0:
            raise HeadError(f"{chain}: its archive topic holds no record, but was not always empty")
        if committed is not None:
            raise HeadError(f"{chain}: raw position {committed} is committed, but nothing was sealed")
        return None
    head = _head(chain, last)
    if committed is not None and committed > head.next_offset:
        raise HeadError(f"{chain}: committed raw position {committed} is ahead of the head, {head.next_offset}")
    raw_end = ends.high([(topics.raw, places.partition)])[topics.raw, places.partition]
    if head.next_offset > raw_end:
        raise HeadError(f"{chain}: sealed up to raw offset {head.next_offset}, but the log ends at {raw_end}")
    return ChainState(head, Runs(_runs(chain, reader, topics.sources, places.partition)))


def _head(chain: str, record: Record) -> ChainHead:
    if record.value is None:
        raise HeadError(f"{chain}: a tombstone in the archive topic")
    data = decode_sealed_event(record.value).seal
    seal = decode_seal(data)
    if seal.chain != chain:
        raise HeadError(f"archive topic holds chain {seal.chain}, but the raw topic is that of {chain}")
    if seal.seq == 0 and seal.kind is not Kind.GENESIS:
        raise HeadError(f"{chain}: its first seal is not GENESIS")
    return ChainHead(chain, seal.seq + 1, leaf_hash(data), seal.next_offset, seal.sealed_at_us)


def _runs(chain: str, reader: PartitionReader, topic: str, partition: int) -> dict[bytes, RunState]:
    runs: dict[bytes, RunState] = {}
    prefix = f"{chain}\n".encode()
    for record in reader.read_all(topic, partition):
        if record.key is None or not record.key.startswith(prefix):
            continue  # another generation's chain on the same partition
        if record.value is None:
            runs.pop(record.key, None)
        else:
            runs[record.key] = decode_state(record.value)
    return runs
