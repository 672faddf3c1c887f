"""Verification of a chain's structure: seals a second on one core, which stage takes how much, and memory by length.

    python -m bench.verifying                 100,000 seals, 4 % signed; the stages, each alone
    python -m bench.verifying --memory        peak memory for 10^5, 10^6 and 10^7 seals, each in a process of its own

Structure, links, signatures, tree and checkpoint; contents are there and are not opened. Segments of 50,000 seals are made when
they are asked for, so that the archive itself takes no memory; making them is not timed.
"""

from __future__ import annotations

import hashlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from sealtrail.certificate import Role, verify_certificate
from sealtrail.checkpoint import Checkpoint, sign_checkpoint
from sealtrail.keyring import Keyring
from sealtrail.layout import KEYS, certificate_key, contents_key, segment_key
from sealtrail.merkle import Frontier
from sealtrail.seal import ZERO_DIGEST, Kind, LogClass, Reason, Route, Seal, Signature, decode_seal, encode_seal, leaf_hash
from sealtrail.seal import seal_message as message_of
from sealtrail.segment import Frame, Reference, Segment, decode_segment, encode_frames, encode_segment
from sealtrail.signatures import check_signatures
from sealtrail.source import Lock, StoredObject
from sealtrail.verify import Trust, verify_archive
from tests.archives import CHAINS, PART, ROOT, START_S, certificate, public_of, signing_key, statement_of

SEALS = 100_000
A_SEGMENT = 50_000
SIGNED_EVERY = 25
ROUNDS = 3
MEMORY = (10**5, 10**6, 10**7)
CHAIN = CHAINS[0]
UNTIL_MS = 1_900_000_000_000 // 86_400_000 * 86_400_000


class MadeUp:
    """A `Source` of one chain that is made while it is read, in order; it keeps one segment."""

    def __init__(self, seals: int) -> None:
        self._count = seals
        self._certificates = {}
        for name, role in (("sealer", Role.SEALER), ("archive", Role.ARCHIVE)):
            data = certificate(name, role, PART)
            self._certificates[certificate_key(hashlib.sha256(public_of(name)).digest())] = data
        self._prev, self._before, self._tree = ZERO_DIGEST, ZERO_DIGEST, Frontier()
        self._contents = b""
        self.spent_s = 0.0

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Certificates, and a segment every A_SEGMENT seals."""
        if prefix.startswith(KEYS):
            yield from (StoredObject(key, "v1", True, False, len(data)) for key, data in sorted(self._certificates.items()))
        elif prefix.startswith("chains/"):
            yield from (StoredObject(segment_key(CHAIN, n), "v1", True, False, 0) for n in range(0, self._count, A_SEGMENT))

    def read(self, key: str, version: str) -> bytes:
        """The next segment, its contents, or a certificate."""
        if key in self._certificates:
            return self._certificates[key]
        if key.startswith("contents/"):
            return self._contents
        started = time.perf_counter()
        data = self._next()
        self.spent_s += time.perf_counter() - started
        return data

    def lock(self, key: str, version: str) -> Lock | None:
        """Long enough."""
        return Lock("COMPLIANCE", UNTIL_MS * 2, legal_hold=False)

    def _next(self) -> bytes:
        first = self._tree.size
        frontier, seals, signatures = self._tree.hashes, [], []
        for seq in range(first, min(self._count, first + A_SEGMENT)):
            signed = seq % SIGNED_EVERY == 0 or seq == min(self._count, first + A_SEGMENT) - 1
            data = encode_seal(replace(_TEMPLATE, prev=self._prev, seq=seq, source_offset=max(0, seq - 1), signed=signed,
                                       kind=Kind.EVENT if seq else Kind.GENESIS, source_count=min(seq, 1)))  # fmt: skip
            self._prev = leaf_hash(data)
            self._tree.append(self._prev)
            seals.append(data)
            if signed:
                signatures.append((seq, Signature(_SEALER, signing_key("sealer").sign(message_of(self._prev)))))
        frame = Frame(CHAIN, first, "operational", "acme", bytes(32), b"", bytes(12), b"")
        self._contents = encode_frames([frame])
        name = contents_key("operational", UNTIL_MS, CHAIN, first, "a1")
        reference = Reference(name, "v1", hashlib.sha256(self._contents).digest(), len(self._contents), len(seals))
        stated = Checkpoint(CHAIN, self._tree.size, self._tree.root())
        note = sign_checkpoint(stated, public_of("archive"), signing_key("archive").sign, START_S + 10)
        made = Segment(CHAIN, first, frontier, tuple(seals), tuple(signatures), (reference,), note, "")
        data = encode_segment(replace(made, statement=statement_of(made, self._before)))
        self._before = hashlib.sha256(data).digest()
        return data


_SEALER = hashlib.sha256(public_of("sealer")).digest()
_TEMPLATE = Seal(
    ZERO_DIGEST, bytes(32), bytes(16), Kind.EVENT, Reason.NONE, LogClass.OPERATIONAL, False, Route.ARCHIVE | Route.HOT,
    0, 0, 1, START_S * 1_000_000, UNTIL_MS, CHAIN,
)  # fmt: skip


def whole(seals: int) -> float:
    """Seconds to verify a chain of so many seals; what is made up must be found good."""
    source = MadeUp(seals)
    started = time.perf_counter()
    report = verify_archive(source, Trust(ROOT))
    seconds = time.perf_counter() - started - source.spent_s
    if report.findings or sum(c.seals for c in report.chains) != seals:
        raise SystemExit(f"the chain that was made up is not good: {report.findings[:3]}")
    return seconds


def stages(seals: int) -> dict[str, float]:
    """Microseconds a seal of each stage, alone, over the first segment."""
    source = MadeUp(min(seals, A_SEGMENT))
    keyring = Keyring([verify_certificate(source.read(o.key, o.version), ROOT) for o in source.list(KEYS)])
    data = source.read(segment_key(CHAIN, 0), "v1")
    segment = decode_segment(data)
    decoded = [decode_seal(seal) for seal in segment.seals]
    leaves = [leaf_hash(seal) for seal in segment.seals]

    def tree() -> None:
        frontier = Frontier()
        for leaf in leaves:
            frontier.append(leaf)

    timed: dict[str, Callable[[], object]] = {
        "container": lambda: decode_segment(data),
        "seals, strictly": lambda: [decode_seal(seal) for seal in segment.seals],
        "leaf hashes": lambda: [leaf_hash(seal) for seal in segment.seals],
        "signatures": lambda: check_signatures(list(enumerate(decoded)), leaves, segment.signatures, keyring),
        "tree": tree,
    }
    return {name: min(_seconds(stage) for _ in range(ROUNDS)) / len(decoded) * 1e6 for name, stage in timed.items()}


def _seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def main(words: list[str]) -> None:
    """The command."""
    if words[:1] == ["--peak"]:
        whole(int(words[1]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    if words == ["--memory"]:
        for seals in MEMORY:
            done = subprocess.run(
                [sys.executable, "-m", "bench.verifying", "--peak", str(seals)], stdout=subprocess.PIPE, check=True
            )
            print(f"{seals:>10,} seals: {int(done.stdout) / 1024:.0f} MiB at the peak", flush=True)
        return
    seals = int(words[0]) if words else SEALS
    rates = [seals / whole(seals) for _ in range(ROUNDS)]
    print(f"{statistics.median(rates):,.0f} seals/s on one core (least {min(rates):,.0f}, most {max(rates):,.0f})")
    found = stages(seals)
    total = statistics.median([1e6 / rate for rate in rates])
    for name, cost in sorted(found.items(), key=lambda item: -item[1]):
        print(f"  {name:<16} {cost:5.1f} us a seal")
    print(f"  {'the rest':<16} {total - sum(found.values()):5.1f} us a seal: links, times, verdicts")
    print(f"binds: {max(found, key=lambda name: found[name])}")


if __name__ == "__main__":
    main(sys.argv[1:])
