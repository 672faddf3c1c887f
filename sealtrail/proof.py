"""C2SP tlog-proofs of one sealed record: seal, content and salt, and the way from its leaf to a checkpoint's root.

    c2sp.org/tlog-proof@v1
    extra wwFv6kIYwNcV9c…              base64 of a SealedEvent, single-object encoded
    index 1
    b1mCt6SghAtwTsTnXXXYGtga…          hashes from the leaf's sibling up

    audit.example/local/audit.raw.1f0c2a9b.0/0
    2
    …                                  the checkpoint of the segment that holds the record

A proof is made from one segment: its frontier stands for all that came before. Checking it needs the root's key and the
certificates of archive and sealer, nothing of the archive. Source: C2SP `tlog-proof`, RFC 9162 §2.1.3.2.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from sealtrail.errors import EvidenceError
from sealtrail.keyring import Keyring
from sealtrail.merkle import Frontier, node_hash, root_of, split_of, verify_inclusion
from sealtrail.note import _base64
from sealtrail.seal import Seal, SealedEvent, decode_seal, decode_sealed_event, encode_sealed_event, leaf_hash
from sealtrail.segment import Segment
from sealtrail.signatures import check_signatures
from sealtrail.sworn import genuine_checkpoint

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF_SIZE = 5 << 20  # bytes; a sealed event is under 3 MiB, a third more in base64
MAX_HASHES = 63  # the depth of the largest tree that a seq can number
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Proof:
    """A parsed proof; nothing of it is checked yet. `checkpoint` is the note's text."""

    sealed: SealedEvent
    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Proven:
    """What a checked proof shows: this seal is entry `seal.seq` of its chain's tree, as the archive swore at `time_s`.

    `attested`: a certified sealer signed this very seal. If it did not, the archive's word is what vouches for it: which of
    the following seals was signed is for the whole archive to show.
    """

    seal: Seal
    sealed: SealedEvent
    size: int
    time_s: int
    attested: bool


def prove(segment: Segment, sealed: SealedEvent) -> Proof:
    """The proof of a record of this segment.

    Raises:
        EvidenceError: the segment does not hold this very seal at its seq, or its frontier does not fit.
    """
    seal = decode_seal(sealed.seal)
    index = seal.seq - segment.first_seq
    if not 0 <= index < len(segment.seals) or segment.seals[index] != sealed.seal:
        raise EvidenceError("the segment does not hold this seal at its seq")
    tree = _Tree(segment.first_seq, segment.frontier, [leaf_hash(data) for data in segment.seals])
    return Proof(sealed, seal.seq, tuple(tree.path(seal.seq)), segment.checkpoint)


def format_proof(proof: Proof) -> bytes:
    """The file's bytes."""
    extra = base64.b64encode(encode_sealed_event(proof.sealed)).decode()
    hashes = "".join(f"{base64.b64encode(h).decode()}\n" for h in proof.hashes)
    return f"{HEADER}\nextra {extra}\nindex {proof.index}\n{hashes}\n{proof.checkpoint}".encode()


def parse_proof(data: bytes) -> Proof:
    """A proof from a file's bytes.

    Raises:
        EvidenceError: not a tlog-proof in its one form, or without a sealed event as its extra data.
    """
    if len(data) > MAX_PROOF_SIZE:
        raise EvidenceError(f"proof of {len(data)} bytes; at most {MAX_PROOF_SIZE}")
    try:
        head, empty, checkpoint = data.decode("utf-8").partition("\n\n")
    except UnicodeDecodeError as error:
        raise EvidenceError("proof is not UTF-8") from error
    lines = head.split("\n")
    if len(lines) < 3 or not empty or lines[0] != HEADER or not lines[1].startswith("extra "):
        raise EvidenceError("not a tlog-proof with extra data")
    index = _INDEX.fullmatch(lines[2])
    if index is None or len(lines) - 3 > MAX_HASHES:
        raise EvidenceError("proof without an index, or with too many hashes")
    hashes = tuple(_base64(line, "hash of a proof") for line in lines[3:])
    if any(len(h) != 32 for h in hashes):
        raise EvidenceError("proof with a hash that is not 32 bytes")
    sealed = decode_sealed_event(_base64(lines[1].removeprefix("extra "), "extra data of a proof"))
    return Proof(sealed, int(index[1]), hashes, checkpoint)


def verify_proof(proof: Proof, keyring: Keyring) -> Proven:
    """Check a proof against certified keys.

    1. The checkpoint is genuine: both signatures of one certified key of the chain's archive, within its time.
    2. The seal is one, of the checkpoint's chain, and its seq is the index.
    3. The hashes lead from its leaf to the checkpoint's root.
    4. The content is the one that the seal commits to.
    5. A signature is there exactly if the seal says so, and a certified sealer made it.

    Raises:
        EvidenceError: one of them does not hold.
    """
    signed, _ = genuine_checkpoint(proof.checkpoint.encode(), keyring)
    stated, seal = signed.checkpoint, decode_seal(proof.sealed.seal)
    if (seal.chain, seal.seq) != (stated.origin, proof.index):
        raise EvidenceError(f"seal {seal.seq} of {seal.chain} in a proof of entry {proof.index} of {stated.origin}")
    leaf = leaf_hash(proof.sealed.seal)
    verify_inclusion(leaf, proof.index, stated.size, proof.hashes, stated.root)
    if proof.sealed.content.digest() != seal.content_digest:
        raise EvidenceError("the content is not the one that the seal commits to")
    given = [] if proof.sealed.signature is None else [(seal.seq, proof.sealed.signature)]
    valid, problems = check_signatures([(0, seal)], [leaf], given, keyring)
    if problems:
        raise EvidenceError(problems[0][2])
    return Proven(seal, proof.sealed, stated.size, signed.time_s, attested=bool(valid))


class _Tree:
    """Nodes of a tree of which the leaves from `first` on are known, and of those before only the frontier."""

    def __init__(self, first: int, frontier: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        Frontier(first, frontier)  # its number of hashes fits
        self._first, self._leaves = first, leaves
        self._size = first + len(leaves)
        self._before: dict[tuple[int, int], bytes] = {}
        start = 0
        for hash_ in frontier:
            width = 1 << ((first - start).bit_length() - 1)
            self._before[start, start + width] = hash_
            start += width

    def path(self, index: int) -> list[bytes]:
        """Hashes from the sibling of leaf `index` (not before `first`) up to the root's children."""
        start, end, siblings = 0, self._size, []
        while end - start > 1:
            split = start + split_of(end - start)
            if index < split:
                siblings.append(self._node(split, end))
                end = split
            else:
                siblings.append(self._node(start, split))
                start = split
        return siblings[::-1]

    def _node(self, start: int, end: int) -> bytes:
        """Root over leaves [start, end). One beside a leaf that is known is known, or of nodes that are."""
        known = self._before.get((start, end))
        if known is not None:
            return known
        if start >= self._first:
            return root_of(self._leaves[start - self._first : end - self._first])
        split = start + split_of(end - start)
        return node_hash(self._node(start, split), self._node(split, end))
