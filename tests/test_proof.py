"""Proofs of one record and tiles of a whole chain: the same tree, however it is shown, and nothing else passes."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.commands.export import export_tiles
from sealtrail.__main__ import main as command
from sealtrail.certificate import Certificate, Role, verify_certificate
from sealtrail.errors import ConfigError, EvidenceError
from sealtrail.keyring import Keyring
from sealtrail.layout import KEYS, SCHEMAS
from sealtrail.merkle import Frontier, inclusion_proof, node_hash, root_of
from sealtrail.note import parse_vkey
from sealtrail.proof import Proof, format_proof, parse_proof, prove, verify_proof
from sealtrail.seal import SealedEvent, Signature, decode_seal, encode_sealed_event, leaf_hash
from sealtrail.segment import Segment
from sealtrail.tiles import WIDTH, Tiler, tile_path
from tests.archives import CHAINS, ROOT, Archive, Built, built, built_small, flipped, public_of

TREES = st.integers(1, 700).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))


def keyring(archive: Archive) -> Keyring:
    """The certificates that lie in an archive."""
    return Keyring([verify_certificate(archive.data(key), ROOT) for key in archive.keys(KEYS)])


def records(b: Built, chain: str = CHAINS[0]) -> list[tuple[Segment, SealedEvent]]:
    """Every record of a chain, with the segment that holds it."""
    found = []
    for number, entries in enumerate(b.chains[chain]):
        segment = b.segment(number, chain)
        found += [(segment, SealedEvent(entry.data, entry.content, entry.signature)) for entry in entries]
    return found


# -- the proof


@settings(max_examples=60, deadline=None)
@given(tree=TREES, data=st.data())
def test_the_way_from_a_segments_frontier_is_the_way_in_the_whole_tree(tree: tuple[int, int], data: st.DataObject) -> None:
    size, index = tree
    first = data.draw(st.integers(0, index))
    leaves = [bytes([n >> 8, n & 255]) * 16 for n in range(size)]
    frontier = Frontier()
    for leaf in leaves[:first]:
        frontier.append(leaf)
    assert path_of(first, frontier.hashes, leaves[first:], index) == inclusion_proof(leaves, index)


def path_of(first: int, frontier: tuple[bytes, ...], leaves: list[bytes], index: int) -> list[bytes]:
    from sealtrail.proof import _Tree

    return _Tree(first, frontier, leaves).path(index)


def test_every_record_of_every_segment_is_proven_and_its_file_reads_back() -> None:
    b = built()
    keys = keyring(b.archive)
    for chain in CHAINS:
        for segment, sealed in records(b, chain):
            proof = prove(segment, sealed)
            assert parse_proof(format_proof(proof)) == proof
            proven = verify_proof(proof, keys)
            assert (proven.seal, proven.size) == (decode_seal(sealed.seal), segment.next_seq)
            assert proven.attested == (sealed.signature is not None)


def a_proof(signed: bool = True) -> Proof:
    segment, sealed = next((s, e) for s, e in records(built()) if (e.signature is not None) == signed and s.first_seq)
    return prove(segment, sealed)


def another(signed: bool = True) -> SealedEvent:
    """Another record of the same chain."""
    seal = a_proof(signed).sealed.seal
    return next(e for _, e in records(built()) if e.seal != seal and (e.signature is not None) == signed)


FORGED: dict[str, Callable[[Proof], Proof]] = {
    "another content": lambda p: replace(p, sealed=replace(p.sealed, content=replace(p.sealed.content, content=b"else"))),
    "another salt": lambda p: replace(p, sealed=replace(p.sealed, content=replace(p.sealed.content, salt=bytes(16)))),
    "another record": lambda p: replace(p, sealed=another()),
    "another index": lambda p: replace(p, index=p.index - 1),
    "a hash less": lambda p: replace(p, hashes=p.hashes[:-1]),
    "a hash more": lambda p: replace(p, hashes=(*p.hashes, bytes(32))),
    "another hash": lambda p: replace(p, hashes=(flipped(p.hashes[0], 9), *p.hashes[1:])),
    "no signature": lambda p: replace(p, sealed=replace(p.sealed, signature=None)),
    "a foreign signature": lambda p: replace(
        p, sealed=replace(p.sealed, signature=Signature(p.sealed.signature.key_id, bytes(64)) if p.sealed.signature else None)
    ),
    "another tree": lambda p: replace(p, checkpoint=p.checkpoint.replace("\n11\n", "\n12\n")),
    "another chain's checkpoint": lambda p: replace(p, checkpoint=built().segment(1, CHAINS[1]).checkpoint),
    "a checkpoint without its time": lambda p: replace(p, checkpoint=p.checkpoint.rsplit("—", 1)[0]),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_proof_that_was_tampered_with_is_refused(name: str) -> None:
    proof = a_proof()
    assert "\n11\n" in proof.checkpoint
    with pytest.raises(EvidenceError):
        verify_proof(FORGED[name](proof), keyring(built().archive))


def test_a_seal_that_says_it_has_no_signature_must_not_have_one() -> None:
    proof = a_proof(signed=False)
    signature = another().signature
    with pytest.raises(EvidenceError):
        verify_proof(replace(proof, sealed=replace(proof.sealed, signature=signature)), keyring(built().archive))


@pytest.mark.parametrize("missing", ["sealer", "archive"])
def test_a_proof_counts_for_nothing_without_the_certificate_of_who_made_it(missing: str) -> None:
    archive = built().archive
    keys = [verify_certificate(archive.data(key), ROOT) for key in archive.keys(KEYS)]
    held = Keyring([c for c in keys if c.public != public_of(missing)])
    with pytest.raises(EvidenceError):
        verify_proof(a_proof(), held)


def test_a_key_of_another_part_of_the_trail_proves_nothing() -> None:
    elsewhere = [
        Certificate(role, "audit.example/other", public_of(name), 0, 1 << 40)
        for role, name in ((Role.ARCHIVE, "archive"), (Role.SEALER, "sealer"))
    ]
    with pytest.raises(EvidenceError):
        verify_proof(a_proof(), Keyring(elsewhere))


def test_a_record_that_the_segment_does_not_hold_has_no_proof() -> None:
    segment, sealed = records(built())[0]
    with pytest.raises(EvidenceError):
        prove(built().segment(1), sealed)
    with pytest.raises(EvidenceError):
        prove(segment, replace(sealed, seal=records(built_small())[3][1].seal))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_bit_of_a_proof_can_be_changed_unseen(data: st.DataObject) -> None:
    whole = format_proof(a_proof())
    changed = flipped(whole, data.draw(st.integers(0, len(whole) * 8 - 1)))
    with pytest.raises(EvidenceError):
        verify_proof(parse_proof(changed), keyring(built().archive))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 3))
def test_any_bytes_are_a_proof_or_an_evidence_error(tail: bytes, where: int) -> None:
    lines = format_proof(a_proof()).split(b"\n")
    for data in (tail, b"\n".join([*lines[:where], tail, *lines[where + 1 :]])):
        try:
            parse_proof(data)
        except EvidenceError:
            continue


# -- the command that needs nothing but the base install


def laid_out(folder: Path, proof: Proof) -> Path:
    archive = built().archive
    for key in (*archive.keys(KEYS), *archive.keys(SCHEMAS)):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(archive.data(key))
    (folder / "root.vkey").write_text(ROOT.vkey)
    file = folder / "event.tlog-proof"
    file.write_bytes(format_proof(proof))
    return file


def test_a_stranger_checks_a_proof_offline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = laid_out(tmp_path, a_proof())
    assert command([str(file), "--root", str(tmp_path / "root.vkey"), "--json"]) == 0
    shown = capsys.readouterr()
    assert "PROVEN" in shown.err and '"event_name": "github.push"' in shown.out


@pytest.mark.parametrize("damage", ["content", "certificates", "root"])
def test_what_does_not_hold_is_said_and_the_status_is_1(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = laid_out(tmp_path, FORGED["another content"](a_proof()) if damage == "content" else a_proof())
    if damage == "certificates":
        for path in (tmp_path / "keys").iterdir():
            path.unlink()
    if damage == "root":
        (tmp_path / "root.vkey").write_text(replace(ROOT, public=public_of("somebody")).vkey)
    assert command([str(file), "--root", str(tmp_path / "root.vkey")]) == 1
    assert "NOT PROVEN" in capsys.readouterr().err


# -- tiles


@pytest.mark.parametrize(
    ("number", "width", "path"),
    [
        (0, 256, "tile/0/000"),
        (0, 7, "tile/0/000.p/7"),
        (999, 256, "tile/0/999"),
        (1000, 256, "tile/0/x001/000"),
        (1234067, 256, "tile/0/x001/x234/067"),
        (1234067, 1, "tile/0/x001/x234/067.p/1"),
    ],
)
def test_a_tiles_path_is_in_groups_of_three_digits(number: int, width: int, path: str) -> None:
    assert tile_path(0, number, width) == path


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 700, 65_536, 65_537, 66_000])
def test_the_root_follows_from_the_tiles_and_the_tiles_from_the_entries(size: int) -> None:
    seals = [b"%d" % n for n in range(size)]
    tiler, files = Tiler(), dict[str, bytes]()
    for seal in seals:
        files.update(tiler.add(seal))
    files.update(tiler.rest())
    level, hashes = 0, [leaf_hash(seal) for seal in seals]
    while hashes:
        assert read_level(files, level, len(hashes)) == hashes
        level, hashes = level + 1, [subtree(hashes[n : n + WIDTH]) for n in range(0, len(hashes) - WIDTH + 1, WIDTH)]
    assert read_entries(files, size) == seals
    assert len([name for name in files if name.startswith(f"tile/{level}/")]) == 0


def read_level(files: dict[str, bytes], level: int, count: int) -> list[bytes]:
    data = b"".join(files[tile_path(level, n, min(WIDTH, count - n * WIDTH))] for n in range((count + WIDTH - 1) // WIDTH))
    return [data[n : n + 32] for n in range(0, len(data), 32)]


def read_entries(files: dict[str, bytes], count: int) -> list[bytes]:
    found = []
    for n in range((count + WIDTH - 1) // WIDTH):
        data = files[tile_path("entries", n, min(WIDTH, count - n * WIDTH))]
        while data:
            length = int.from_bytes(data[:2], "big")
            found.append(data[2 : 2 + length])
            data = data[2 + length :]
    return found


def subtree(hashes: list[bytes]) -> bytes:
    assert len(hashes) == WIDTH
    while len(hashes) > 1:
        hashes = [node_hash(a, b) for a, b in zip(hashes[::2], hashes[1::2], strict=True)]
    return hashes[0]


def test_a_chain_is_exported_with_its_checkpoint_and_the_key_that_signed_it(tmp_path: Path) -> None:
    b = built()
    logs = export_tiles(b.archive, keyring(b.archive), tmp_path)
    assert logs == {chain: sum(map(len, b.chains[chain])) for chain in CHAINS}
    for chain in CHAINS:
        folder = tmp_path / chain
        assert (folder / "checkpoint").read_text() == b.segment(len(b.chains[chain]) - 1, chain).checkpoint
        key = parse_vkey((folder / "log.vkey").read_text().strip())
        assert (key.name, key.public) == (chain, public_of("archive"))
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        seals = read_entries(files, logs[chain])
        assert base64.b64encode(root_of([leaf_hash(s) for s in seals])).decode() in (folder / "checkpoint").read_text()


DAMAGES: dict[str, Callable[[Built], Archive]] = {
    "a segment is missing": lambda b: b.archive.without(b.key(2)),
    "a seal was changed": lambda b: b.edited(2, lambda s: replace(s, seals=(flipped(s.seals[0], 400), *s.seals[1:]))),
    "the last checkpoint is foreign": lambda b: b.edited(
        4, lambda s: replace(s, checkpoint=b.segment(4, CHAINS[1]).checkpoint)
    ),
    "a second version": lambda b: with_second_version(b),
}


def with_second_version(b: Built) -> Archive:
    archive = b.archive.copy()
    archive.put(b.key(1), archive.data(b.key(1)))
    return archive


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_chain_is_not_exported(name: str, tmp_path: Path) -> None:
    b = built()
    with pytest.raises(EvidenceError):
        export_tiles(DAMAGES[name](b), keyring(b.archive), tmp_path)


def test_nothing_is_written_over_and_no_chain_is_an_error(tmp_path: Path) -> None:
    b = built()
    with pytest.raises(ConfigError):
        export_tiles(b.archive, keyring(b.archive), tmp_path, "nobody/")
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(ConfigError):
        export_tiles(b.archive, keyring(b.archive), tmp_path)


def test_a_sealed_event_as_extra_data_is_the_bytes_of_the_topic() -> None:
    proof = a_proof()
    extra = format_proof(proof).split(b"\n")[1].removeprefix(b"extra ")
    assert base64.b64decode(extra) == encode_sealed_event(proof.sealed)
