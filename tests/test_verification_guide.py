"""`docs/verification.md` is followed to the letter: its commands run, on good records and on forged ones."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from sealtrail.bundle import MANIFEST, SUMS
from sealtrail.certificate import Certificate, Role, issue
from sealtrail.checkpoint import parse_checkpoint, sign_checkpoint
from sealtrail.note import NoteKey
from sealtrail.proof import Proof
from sealtrail.seal import Signature, leaf_hash, seal_message
from tests.archives import CHAINS, NOT_AFTER_S, PART, ROOT, START_S, built, ending, mark_of, public_of, signing_key
from tests.bundles import edited, of_an_hour, packed, signed, unpacked
from tests.test_proof import FORGED, a_proof, laid_out
from tests.tools import program

GUIDE = Path(__file__).parent.parent / "docs" / "verification.md"


def steps(heading: str) -> list[str]:
    """The commands under a heading of the guide."""
    section = GUIDE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


RECORD, BUNDLE = steps("One record by hand"), steps("A bundle")


def follow(folder: Path, commands: list[str] = RECORD) -> subprocess.CompletedProcess[str]:
    """All steps as one script, as they stand: that it ends at the first command that fails is theirs to see to."""
    program("openssl", "openssl")
    (folder / "by-hand.sh").write_text("\n".join(commands))
    return subprocess.run(["sh", "by-hand.sh"], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_there_is_a_step_for_each_claim_and_each_ends_at_what_fails() -> None:
    assert len(RECORD) == 7 and len(BUNDLE) == 2
    assert all(block.startswith("set -eu\n") for block in RECORD + BUNDLE)


@pytest.mark.parametrize("signed", [True, False])
def test_by_hand_a_record_is_verified(signed: bool, tmp_path: Path) -> None:
    laid_out(tmp_path, a_proof(signed))
    done = follow(tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert sum("certified by the root" in line for line in said) == len(list((tmp_path / "keys").iterdir()))
    assert any("the archive swore to 11 seals" in line for line in said)
    assert any("is in the tree" in line for line in said)
    assert any("its content is" in line for line in said)
    assert any("sealer" in line and line.startswith("signed by") for line in said) == signed


@pytest.mark.parametrize("name", FORGED)
def test_by_hand_a_forged_record_is_found_out(name: str, tmp_path: Path) -> None:
    laid_out(tmp_path, FORGED[name](a_proof()))
    assert follow(tmp_path).returncode != 0


def with_end(folder: Path, name: str, role: Role, size: int, root: bytes = b"") -> None:
    """Beside the proof, the end of a key after so many seals of its chain."""
    entries = [entry for segment in built().chains[CHAINS[0]] for entry in segment]
    mark = mark_of(entries, size)
    archive = ending(built().archive, name, role, {CHAINS[0]: replace(mark, root=root or mark.root)})
    for key in archive.keys("keys/"):
        (folder / key).write_bytes(archive.data(key))


@pytest.mark.parametrize(("name", "role", "size"), [("sealer", Role.SEALER, 11), ("archive", Role.ARCHIVE, 11)])
def test_by_hand_a_record_is_verified_whose_keys_ended_later(name: str, role: Role, size: int, tmp_path: Path) -> None:
    laid_out(tmp_path, a_proof())
    with_end(tmp_path, name, role, size)
    done = follow(tmp_path)
    assert done.returncode == 0 and f"ended after {size} seals of this chain" in done.stdout, done.stderr


ENDS: dict[str, Callable[[Path], None]] = {
    "a seal beyond the end of its key": lambda folder: with_end(folder, "sealer", Role.SEALER, 6),
    "a checkpoint beyond the end of its key": lambda folder: with_end(folder, "archive", Role.ARCHIVE, 10),
    "another tree": lambda folder: with_end(folder, "sealer", Role.SEALER, 11, bytes(32)),
}


@pytest.mark.parametrize("name", ENDS)
def test_by_hand_a_record_beyond_the_end_of_a_key_is_found_out(name: str, tmp_path: Path) -> None:
    laid_out(tmp_path, a_proof())
    ENDS[name](tmp_path)
    assert follow(tmp_path).returncode != 0


DAMAGES: dict[str, Callable[[Path], object]] = {
    "another root": lambda folder: (folder / "root.vkey").write_text(replace(ROOT, public=public_of("somebody")).vkey),
    "a certificate under another name": lambda folder: next((folder / "keys").iterdir()).rename(folder / "keys" / "x.cert"),
    "an altered certificate": lambda folder: edit(next((folder / "keys").iterdir()), b"name audit", b"name anything"),
    "another schema": lambda folder: edit_all(folder / "schemas"),
}


def edit_all(folder: Path) -> None:
    for path in folder.iterdir():
        edit(path, b'"doc": "', b'"doc": "N')


def edit(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def keys_end(folder: Path) -> Path:
    """The end of the sealer's key, after all seals of this record's tree."""
    with_end(folder, "sealer", Role.SEALER, 11)
    return next((folder / "keys").glob("*.end"))


def appended(folder: Path, name: str, *lines: str) -> None:
    """Lines below the root's signature of a genuine certificate: no root signed them."""
    path = folder / "keys" / f"{hashlib.sha256(public_of(name)).hexdigest()}.cert"
    path.write_bytes(path.read_bytes() + "".join(f"{line}\n" for line in lines).encode())


def sworn_by(name: str) -> Proof:
    """A proof whose checkpoint a key of any role signed."""
    proof = a_proof()
    checkpoint, _ = parse_checkpoint(proof.checkpoint.encode())
    return replace(proof, checkpoint=sign_checkpoint(checkpoint, public_of(name), signing_key(name).sign, START_S + 10))


def sealed_by(name: str) -> Proof:
    """A proof whose seal a key of any role signed."""
    proof = a_proof()
    signed = signing_key(name).sign(seal_message(leaf_hash(proof.sealed.seal)))
    signature = Signature(hashlib.sha256(public_of(name)).digest(), signed)
    return replace(proof, sealed=replace(proof.sealed, signature=signature))


ASSUMED: dict[str, tuple[Callable[[], Proof], str]] = {
    "archive": (lambda: sworn_by("sealer-2"), "sealer-2"),
    "sealer": (lambda: sealed_by("archive-2"), "archive-2"),
}


@pytest.mark.parametrize("role", ASSUMED)
@pytest.mark.parametrize("lines", [(), ("role {}",), ("", "role {}")])
def test_by_hand_no_line_beside_the_signed_text_gives_a_key_a_role(role: str, lines: tuple[str, ...], tmp_path: Path) -> None:
    forged, name = ASSUMED[role]
    laid_out(tmp_path, forged())
    appended(tmp_path, name, *(line.format(role) for line in lines))
    assert follow(tmp_path).returncode != 0


@pytest.mark.parametrize("key", ["sealer-elsewhere", "archive-elsewhere"])
def test_by_hand_a_key_of_another_deployment_counts_for_nothing(key: str, tmp_path: Path) -> None:
    laid_out(tmp_path, sealed_by(key) if key.startswith("sealer") else sworn_by(key))
    assert follow(tmp_path).returncode != 0


def test_by_hand_a_checkpoint_outside_its_keys_time_is_found_out(tmp_path: Path) -> None:
    proof = a_proof()
    checkpoint, _ = parse_checkpoint(proof.checkpoint.encode())
    late = sign_checkpoint(checkpoint, public_of("archive"), signing_key("archive").sign, NOT_AFTER_S + 1)
    laid_out(tmp_path, replace(proof, checkpoint=late))
    assert follow(tmp_path).returncode != 0


NOTES: dict[str, Callable[[bytes], bytes]] = {
    "a line after its signature": lambda data: data + b"role sealer\n",
    "part of a line after its signature": lambda data: data + b"role sealer",
    "its signature twice": lambda data: data + data.splitlines(keepends=True)[-1],
    "another signature before its own": lambda data: data.replace(b"\n\n", "\n\n— somebody AAAA\n".encode()),
    "no end of its last line": lambda data: data[:-1],
}


@pytest.mark.parametrize("name", NOTES)
def test_by_hand_a_note_has_its_one_signature_and_nothing_else(name: str, tmp_path: Path) -> None:
    for of in (keys_end, lambda folder: next((folder / "keys").glob("*.cert"))):
        folder = tmp_path / of.__name__.strip("<>")
        folder.mkdir()
        laid_out(folder, a_proof())
        path = of(folder)
        assert follow(folder).returncode == 0
        shutil.rmtree(folder / "certified")
        data = NOTES[name](path.read_bytes())
        path.unlink()
        if path.suffix == ".end":
            path = path.with_name(f"{path.name[:64]}-{hashlib.sha256(data).hexdigest()}.end")
        path.write_bytes(data)
        assert follow(folder).returncode != 0


@pytest.mark.parametrize("name", DAMAGES)
def test_by_hand_what_lies_beside_the_proof_is_checked_too(name: str, tmp_path: Path) -> None:
    laid_out(tmp_path, a_proof())
    DAMAGES[name](tmp_path)
    assert follow(tmp_path).returncode != 0


# -- a bundle


def unpacked_at(folder: Path, data: bytes, root: NoteKey = ROOT) -> subprocess.CompletedProcess[str]:
    """The bundle, and what the guide's commands say of it."""
    (folder / "acme.bundle").write_bytes(data)
    (folder / "root.vkey").write_text(root.vkey)
    return follow(folder, BUNDLE)


def test_by_hand_a_bundle_is_complete_and_signed_by_an_auditor(tmp_path: Path) -> None:
    done = unpacked_at(tmp_path, of_an_hour())
    assert done.returncode == 0, done.stderr
    assert f"signed by an auditor of {PART} at 2026-09-22T18:00:00Z, for " in done.stdout and '"tenant":"acme"' in done.stdout


CERTIFICATE = f"keys/{hashlib.sha256(public_of('source-github')).hexdigest()}.cert"
EVIL = NoteKey(ROOT.name, ROOT.kind, public_of("evil-root"))


def of_anothers_root() -> bytes:
    """An auditor's certificate by whoever is not the root."""
    certified = Certificate(Role.AUDITOR, PART, public_of("evil"), 0, NOT_AFTER_S)
    return issue(certified, EVIL, signing_key("evil-root").sign).encode()


RECORDS = next(name for name in unpacked(of_an_hour()) if name.startswith("records/"))
FORGED_BUNDLES: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "a member altered": lambda files: packed(edited(files, RECORDS, lambda data: data[:-1] + b"x")),
    "a member dropped": lambda files: packed({name: data for name, data in files.items() if name != RECORDS}),
    "a member added": lambda files: packed({**files, "keys/more": b"more"}),
    "other sums": lambda files: packed(edited(files, SUMS, lambda data: data.replace(b"a", b"b"))),
    "another time": lambda files: packed(edited(files, MANIFEST, lambda data: data.replace(b"\nmade 2026", b"\nmade 2027"))),
    "a key that is certified for nothing": lambda files: signed(files, key="nobody"),
    "a key of another role": lambda files: signed(files, key="archive"),
    "an expired key": lambda files: signed(files, key="auditor-expired"),
    "a time before its key's": lambda files: signed(files, lambda manifest: replace(manifest, made_s=START_S - 1_000_000)),
    "a key of another deployment": lambda files: signed(files, key="auditor-elsewhere", name="audit.example/other"),
    "another count": lambda files: signed(files, lambda manifest: replace(manifest, files=3)),
    "a source that calls itself an auditor": lambda files: signed(
        edited(files, CERTIFICATE, lambda data: data + f"role auditor\nname {PART}\n".encode()), key="source-github"
    ),
    "a source that calls itself one where no text is": lambda files: signed(
        edited(files, CERTIFICATE, lambda data: data + f"\nrole auditor\nname {PART}\n".encode()), key="source-github"
    ),
    "a manifest with more below its signature": lambda files: packed(edited(files, MANIFEST, lambda data: data + b"more\n")),
    "a certificate that the root did not sign": lambda files: signed(
        {**files, f"keys/{hashlib.sha256(public_of('evil')).hexdigest()}.cert": of_anothers_root()}
    ),
}


@pytest.mark.parametrize("name", FORGED_BUNDLES)
def test_by_hand_a_forged_bundle_is_found_out(name: str, tmp_path: Path) -> None:
    assert unpacked_at(tmp_path, FORGED_BUNDLES[name](unpacked(of_an_hour()))).returncode != 0


def test_by_hand_another_of_several_auditors_is_found(tmp_path: Path) -> None:
    done = unpacked_at(tmp_path, signed(unpacked(of_an_hour()), key="auditor-2"))
    assert done.returncode == 0, done.stderr


# -- what unpacking could do before anything is checked


def forged_anew() -> dict[str, bytes]:
    """The members of a bundle that holds in itself, by somebody who has a root of his own."""
    files = {name: data for name, data in unpacked(of_an_hour()).items() if not name.startswith("keys/")}
    files[f"keys/{hashlib.sha256(public_of('evil')).hexdigest()}.cert"] = of_anothers_root()
    return unpacked(signed(files, key="evil"))


def tarred(files: Mapping[str, bytes], *more: tuple[str, bytes | str]) -> bytes:
    """A tar of these members and of more, in this order: bytes are a file, a string is where a link leads."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in (*sorted(files.items()), *more):
            info = tarfile.TarInfo(name)
            if isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


MEMBERS: dict[str, tuple[tuple[str, bytes | str], ...]] = {
    "a root": (("root.vkey", EVIL.vkey.encode()),),
    "the bundle": (("acme.bundle", b"x"),),
    "the root from its folder": (("../root.vkey", EVIL.vkey.encode()),),
    "a file outside": (("../x", b"x"),),
    "a file outside, from a folder": (("keys/../../x", b"x"),),
    "an absolute name": (("/tmp/sealtrail-x", b"x"),),
    "the script": (("by-hand.sh", b"exit 0"),),
    "a name twice": (("glossary/x", b"x"), ("glossary/x", b"y")),
    "a link": (("schemas/x", "../../root.vkey"),),
    "a link and what lies behind it": (("schemas/x", "../.."), ("schemas/x/root.vkey", EVIL.vkey.encode())),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_by_hand_a_bundle_that_would_unpack_over_ones_own_files_is_not_unpacked(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    assert unpacked_at(folder, tarred(forged_anew(), *MEMBERS[name])).returncode != 0
    assert (folder / "root.vkey").read_text() == ROOT.vkey and not (folder / "seen").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"] and not Path("/tmp/sealtrail-x").exists()


def test_by_hand_a_bundle_under_somebody_elses_root_holds_with_that_root_alone(tmp_path: Path) -> None:
    for root, holds in ((ROOT, False), (EVIL, True)):
        folder = tmp_path / str(holds)
        folder.mkdir()
        assert (unpacked_at(folder, packed(forged_anew()), root).returncode == 0) == holds
