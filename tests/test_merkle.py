"""The Merkle tree: published roots, the recursive definition of RFC 6962, and proofs that fail for any other tree."""

from __future__ import annotations

import hashlib
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealtrail.errors import EvidenceError
from sealtrail.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from sealtrail.seal import leaf_hash

# Certificate Transparency's reference leaves and roots (RFC 6962 test data), for trees of 0 to 8 leaves.
CT_LEAVES = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
CT_ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
LARGEST = 100
LEAVES = [hashlib.sha256(b"leaf %d" % n).digest() for n in range(LARGEST)]


def defined(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1, word for word."""
    if len(leaves) <= 1:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + defined(leaves[:split]) + defined(leaves[split:])).digest()


ROOTS = [defined(LEAVES[:size]) for size in range(LARGEST + 1)]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_certificate_transparency_test_data(size: int) -> None:
    assert root_of([leaf_hash(bytes.fromhex(leaf)) for leaf in CT_LEAVES[:size]]).hex() == CT_ROOTS[size]


def test_a_node_is_the_published_one() -> None:
    assert node_hash(b"N123", b"N456").hex() == "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"


def test_the_frontier_gives_the_root_of_the_recursive_definition_at_every_size() -> None:
    frontier = Frontier()
    for size in range(LARGEST + 1):
        assert frontier.root() == ROOTS[size]
        assert len(frontier.hashes) == size.bit_count()
        if size < LARGEST:
            frontier = Frontier(size, frontier.hashes)  # as if taken up from a segment
            frontier.append(LEAVES[size])


def test_a_copy_of_a_frontier_grows_by_itself() -> None:
    frontier = Frontier()
    frontier.append(LEAVES[0])
    copy = frontier.copy()
    copy.append(LEAVES[1])
    assert (frontier.size, copy.size) == (1, 2)
    assert frontier.root() == ROOTS[1]


@pytest.mark.parametrize(
    ("size", "hashes"), [(1, []), (0, [bytes(32)]), (3, [bytes(32)]), (1, [bytes(31)]), (-1, []), (-1, [bytes(32)])]
)
def test_a_frontier_that_does_not_fit_its_size_is_refused(size: int, hashes: list[bytes]) -> None:
    with pytest.raises(EvidenceError):
        Frontier(size, hashes)


def test_every_inclusion_proof_of_every_size_verifies_and_at_no_other_place() -> None:
    for size in range(1, LARGEST + 1):
        for index in range(size):
            proof = inclusion_proof(LEAVES[:size], index)
            verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])
            for other in {(index + 1) % size, size - 1, 0} - {index}:
                with pytest.raises(EvidenceError):
                    verify_inclusion(LEAVES[index], other, size, proof, ROOTS[size])


def test_every_consistency_proof_of_every_two_sizes_verifies_and_for_no_other_root() -> None:
    for old in range(1, LARGEST + 1):
        for new in range(old, LARGEST + 1, 1 if old < 34 else 7):
            proof = consistency_proof(LEAVES[:new], old)
            verify_consistency(old, ROOTS[old], new, ROOTS[new], proof)
            for roots in ((ROOTS[old - 1], ROOTS[new]), (ROOTS[old], ROOTS[new - 1])):
                with pytest.raises(EvidenceError):
                    verify_consistency(old, roots[0], new, roots[1], proof) if old < new else _differ(*roots)


def _differ(old: bytes, new: bytes) -> None:
    if old != new:
        raise EvidenceError("trees of one size")


def flips(data: bytes) -> list[bytes]:
    return [data[:n] + bytes([data[n] ^ 1 << bit]) + data[n + 1 :] for n in range(len(data)) for bit in range(8)]


@pytest.mark.parametrize(("size", "index"), [(1, 0), (2, 1), (7, 6), (8, 3), (13, 12)])
def test_any_changed_bit_of_an_inclusion_proof_fails(size: int, index: int) -> None:
    proof, leaf, root = inclusion_proof(LEAVES[:size], index), LEAVES[index], ROOTS[size]
    for position, part in enumerate([leaf, root, *proof]):
        for changed in flips(part):
            parts = [leaf, root, *proof]
            parts[position] = changed
            with pytest.raises(EvidenceError):
                verify_inclusion(parts[0], index, size, parts[2:], parts[1])


@pytest.mark.parametrize(("old", "new"), [(1, 2), (3, 7), (4, 7), (6, 8), (8, 8), (7, 13)])
def test_any_changed_bit_of_a_consistency_proof_fails(old: int, new: int) -> None:
    parts = [ROOTS[old], ROOTS[new], *consistency_proof(LEAVES[:new], old)]
    for position, part in enumerate(parts):
        for changed in flips(part):
            altered = [*parts[:position], changed, *parts[position + 1 :]]
            with pytest.raises(EvidenceError):
                verify_consistency(old, altered[0], new, altered[1], altered[2:])


@given(st.integers(1, 40), st.integers(0, 39), st.lists(st.binary(min_size=32, max_size=32), max_size=8))
def test_no_invented_inclusion_proof_verifies(size: int, index: int, proof: list[bytes]) -> None:
    if index < size and proof == inclusion_proof(LEAVES[:size], index):
        return
    with pytest.raises(EvidenceError):
        verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])


@pytest.mark.parametrize(("size", "extra"), list(product((1, 2, 5, 8), (True, False))))
def test_a_proof_too_long_or_too_short_fails(size: int, extra: bool) -> None:
    proof = inclusion_proof(LEAVES[:size], size - 1)
    if not extra and not proof:
        return
    with pytest.raises(EvidenceError):
        verify_inclusion(LEAVES[size - 1], size - 1, size, [*proof, bytes(32)] if extra else proof[:-1], ROOTS[size])
    proof = consistency_proof(LEAVES[: size + 1], size)
    with pytest.raises(EvidenceError):
        verify_consistency(size, ROOTS[size], size + 1, ROOTS[size + 1], [*proof, bytes(32)] if extra else proof[:-1])


def test_the_empty_tree_is_a_prefix_of_every_tree_and_no_tree_is_of_a_smaller_one() -> None:
    verify_consistency(0, EMPTY_ROOT, 5, ROOTS[5], [])
    for old, old_root, new, proof in (
        (0, ROOTS[1], 5, []),
        (0, EMPTY_ROOT, 5, [bytes(32)]),
        (6, ROOTS[6], 5, []),
        (-1, EMPTY_ROOT, 5, []),
    ):
        with pytest.raises(EvidenceError):
            verify_consistency(old, old_root, new, ROOTS[5], proof)


def test_proofs_outside_the_tree_are_not_made() -> None:
    for index in (-1, 3):
        with pytest.raises(ValueError, match="no leaf"):
            inclusion_proof(LEAVES[:3], index)
    for old in (0, 4):
        with pytest.raises(ValueError, match="no tree"):
            consistency_proof(LEAVES[:3], old)
    with pytest.raises(EvidenceError):
        verify_inclusion(LEAVES[0], 3, 3, [], ROOTS[3])
