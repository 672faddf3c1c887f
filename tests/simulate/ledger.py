"""check_trail() of a simulated deployment: each transaction as the coordinator decides it, and at the end what readers see."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from kafkaio.reader import PartitionReader, Record
from kafkaio.testing import Calm, Cluster, Commit, SimulatedLibrary
from kafkaio.testing.log import Entry
from processors.recovery import Topics
from schemas.settings import Settings
from sealtrail.keyring import Keyring
from sealtrail.seal import Kind, Reason
from tests.chain_trail import SHARED, ChainTrail, Part, chain_in, sealed_of


class Ledger:
    """The chains of one simulated deployment."""

    def __init__(self, cluster: Cluster, settings: Settings, keyring: Keyring) -> None:
        self._cluster = cluster
        self._settings = settings
        self.topics = Topics.of(settings)
        self._shared = {name: getattr(self.topics, name) for name in SHARED}
        self.trails = [ChainTrail(keyring) for _ in cluster.topics[self.topics.raw]]
        self._looked_at = 0

    def check(self) -> None:
        """Take up what was committed since, one transaction after the other."""
        commits = self._cluster.coordinator.commits
        while self._looked_at < len(commits):
            commit = commits[self._looked_at]
            self._looked_at += 1
            self._take(commit)

    def unsealed(self) -> int:
        """How many raw records no seal accounts for."""
        logs = self._cluster.topics[self.topics.raw]
        return sum(sum(1 for _ in log.committed(trail.next_offset)) for log, trail in zip(logs, self.trails, strict=True))

    def kinds(self) -> Counter[tuple[Kind, Reason]]:
        """How many seals of each kind and reason."""
        return sum((trail.kinds for trail in self.trails), Counter[tuple[Kind, Reason]]())

    def check_readable(self) -> None:
        """What a read-committed reader finds in the topics is what was decided, whole, in order, and no more."""
        library = SimulatedLibrary(self._cluster, Calm(self._cluster))
        with PartitionReader(self._settings, library) as reader:

            def read(topic: str) -> list[list[Record]]:
                return [list(reader.read_all(topic, log.number)) for log in self._cluster.topics[topic]]

            t = self.topics
            archive, sources, activity, keys = (read(topic) for topic in (t.archive, t.sources, t.activity, t.subject_keys))
            shared = {name: [r for records in read(topic) for r in records] for name, topic in self._shared.items()}
        by_chain: dict[str, dict[str, list[bytes]]] = defaultdict(lambda: defaultdict(list))
        for name, records in shared.items():
            for record in records:
                assert record.value is not None
                by_chain[chain_in(name, record.value)][name].append(record.value)
        for number, decided in enumerate(self.trails):
            found = by_chain.pop(decided.chain, {})
            trail = ChainTrail(None)
            trail.take(Part(archive[number], found, sources[number], activity[number], keys[number]), self._raw(number))
            assert (trail.kinds, trail.next_offset) == (decided.kinds, decided.next_offset), "readers see another trail"
        assert not by_chain, "an output holds a chain that the archive topic does not"
        ids = [event_id for trail in self.trails for event_id in trail.event_ids]
        assert len(set(ids)) == len(ids), "an event was sealed twice"

    def _take(self, commit: Commit) -> None:
        t = self.topics
        shared: dict[str, dict[str, list[bytes]]] = defaultdict(lambda: defaultdict(list))
        for name, topic in self._shared.items():
            for place in sorted(place for place in commit.records if place[0] == topic):
                for entry in commit.records[place]:
                    assert entry.value is not None
                    shared[chain_in(name, entry.value)][name].append(entry.value)
        own = (t.archive, t.sources, t.activity, t.subject_keys)
        numbers = sorted({number for topic, number in commit.records if topic in own})
        for number in numbers:
            archive = _records(commit.records.get((t.archive, number), ()))
            chain = sealed_of(archive[0]).seal.chain if archive else ""
            part = Part(
                archive,
                shared.pop(chain, {}),
                _records(commit.records.get((t.sources, number), ())),
                _records(commit.records.get((t.activity, number), ())),
                _records(commit.records.get((t.subject_keys, number), ())),
            )
            self.trails[number].take(part, self._raw(number))
        assert not shared, "outputs of a chain without its seals"
        for positions in commit.offsets.values():
            for (_, number), offset in positions.items():
                assert offset <= self.trails[number].next_offset, f"committed {offset} is ahead of the head"

    def _raw(self, number: int) -> list[int]:
        log = self._cluster.partition(self.topics.raw, number)
        return [entry.offset for entry in log.committed(log.first)]


def _records(entries: Sequence[Entry]) -> list[Record]:
    return [Record(entry.offset, entry.time_ms, entry.key, entry.value) for entry in entries]
