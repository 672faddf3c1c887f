"""Private keys are refused where others may read them, serve one role, and never show (design §5, Keys)."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from keystore import KeyKind, Keystore, generate, kind_of, load_keyring, load_root, write_private
from sealtrail.certificate import Certificate, Role, issue
from sealtrail.errors import ConfigError, EvidenceError
from sealtrail.note import COSIGNATURE, ED25519, NoteKey
from sealtrail.session import HPKE

SECRET = b"Zebulon-Quixote-private-bytes-32"
NAMES = [
    "source-github",
    "sealer",
    "pipeline",
    "tenant-data-acme",
    "tenant-data-@deployment",
    "tenant-hash-acme",
    "disclosure",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        write_private(tmp_path, name, SECRET)
    return tmp_path


@pytest.fixture
def keystore(folder: Path) -> Keystore:
    return Keystore.open(f"file:{folder}")


def test_a_key_is_written_for_its_owner_alone_and_never_overwritten(folder: Path) -> None:
    assert (folder / "sealer.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="key sealer: cannot write"):
        write_private(folder, "sealer", bytes(32))
    assert (folder / "sealer.key").read_bytes() == SECRET


def test_names_are_listed(keystore: Keystore) -> None:
    assert keystore.names() == tuple(sorted(NAMES))


def test_a_signer_signs(keystore: Keystore) -> None:
    signer = keystore.signer("sealer")
    Ed25519PublicKey.from_public_bytes(signer.public).verify(signer.sign(b"message"), b"message")


def test_an_opener_opens_what_was_encrypted_to_it_under_its_info_only(keystore: Keystore) -> None:
    opener = keystore.opener("pipeline")
    sealed = HPKE.encrypt(b"plaintext", X25519PublicKey.from_public_bytes(opener.public), b"info")
    assert opener.open(sealed, b"info") == b"plaintext"
    for data, info in ((sealed, b"other"), (sealed[:-1], b"info"), (b"", b"info")):
        with pytest.raises(EvidenceError):
            opener.open(data, info)


def test_a_secret_is_its_bytes(keystore: Keystore) -> None:
    assert keystore.secret("tenant-hash-acme") == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o660, 0o644, 0o610])
def test_a_key_that_group_or_others_may_touch_is_refused(folder: Path, keystore: Keystore, mode: int) -> None:
    (folder / "sealer.key").chmod(mode)
    with pytest.raises(ConfigError, match=r"key sealer: .*sealer\.key is open to group or others; expected mode 0600"):
        keystore.signer("sealer")


def missing(path: Path) -> None:
    path.unlink()


def short(path: Path) -> None:
    path.write_bytes(SECRET[:-1])


def long(path: Path) -> None:
    path.write_bytes(SECRET + b"\n")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize("spoil", [missing, short, long, directory, pipe])
def test_an_unusable_key_is_named_with_its_file_and_without_its_bytes(
    folder: Path, keystore: Keystore, spoil: Callable[[Path], None]
) -> None:
    spoil(folder / "disclosure.key")
    with pytest.raises(ConfigError, match=r"key disclosure: .*disclosure\.key") as caught:
        keystore.secret("disclosure")
    assert "Zebulon" not in str(caught.value)


def test_a_key_serves_one_kind_of_use(keystore: Keystore) -> None:
    uses: dict[KeyKind, Callable[[str], object]] = {
        KeyKind.SIGNS: keystore.signer,
        KeyKind.OPENS: keystore.opener,
        KeyKind.SECRET: keystore.secret,
    }
    for name in NAMES:
        for kind, use in uses.items():
            if kind is kind_of(name):
                use(name)
            else:
                with pytest.raises(ConfigError, match=f"key {name}"):
                    use(name)


@pytest.mark.parametrize(
    "name",
    ["", "../sealer", "sealer/../root", "SEALER", "unknown", "sealers", "source-", "sealer..", "sealer\n", "/etc/x"],
)
def test_a_name_that_no_key_has_is_refused(keystore: Keystore, name: str) -> None:
    with pytest.raises(ConfigError, match="by a name that no key has"):
        keystore.signer(name)


@pytest.mark.parametrize(
    "name",
    ["sealer@2", "auditor@10", "root", "source-x.y_z-1", "source-x@3", "tenant-hash-@deployment", "tenant-data-@deployment@2"],
)
def test_a_newer_key_of_a_role_has_a_suffix(name: str) -> None:
    kind_of(name)


def test_private_bytes_show_in_no_repr_and_leave_no_process(keystore: Keystore) -> None:
    signer, opener = keystore.signer("sealer"), keystore.opener("pipeline")
    for holder in (keystore, signer, opener):
        told = repr(holder) + str(holder) + format(holder)
        assert "Zebulon" not in told
        assert SECRET.hex() not in told
    for private in (signer, opener):
        with pytest.raises(TypeError, match="not to be copied"):
            pickle.dumps(private)


@pytest.mark.parametrize("uri", ["", "file:", "vault:secret", "/keys", "file"])
def test_a_uri_of_no_backend_names_the_setting(uri: str) -> None:
    with pytest.raises(ConfigError, match="setting keys: expected file: and a place"):
        Keystore.open(uri)


def test_a_folder_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="setting keys: no folder at"):
        Keystore.open(f"file:{tmp_path / 'none'}")


def test_generated_keys_are_those_that_the_keystore_reads(tmp_path: Path) -> None:
    made = {}
    for name in ("sealer", "pipeline", "disclosure"):
        private, made[name] = generate(name, lambda size: SECRET[:size])
        write_private(tmp_path, name, private)
    held = Keystore.open(f"file:{tmp_path}")
    assert made == {
        "sealer": held.signer("sealer").public,
        "pipeline": held.opener("pipeline").public,
        "disclosure": None,
    }
    assert generate("sealer") != generate("sealer")


# -- public keys

ROOT = Ed25519PrivateKey.from_private_bytes(SECRET)
ROOT_KEY = NoteKey("audit.example/root", ED25519, ROOT.public_key().public_bytes_raw())


def certificate(signer: Ed25519PrivateKey = ROOT, key: NoteKey = ROOT_KEY) -> str:
    return issue(Certificate(Role.SEALER, "sealer", bytes(range(32)), 0, 2_000_000_000), key, signer.sign)


def test_the_root_and_what_it_certified_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "root.vkey").write_text(ROOT_KEY.vkey + "\n")
    (tmp_path / "sealer.cert").write_text(certificate())
    (tmp_path / "readme.txt").write_text("not a certificate")
    root = load_root(tmp_path / "root.vkey")
    assert root == ROOT_KEY
    assert [c.name for c in load_keyring(tmp_path, root).of_role(Role.SEALER)] == ["sealer"]


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", ROOT_KEY.vkey + "\n\n", NoteKey("x", COSIGNATURE, ROOT_KEY.public).vkey, "é", "x" * 70_000],
    ids=["empty", "nonsense", "two newlines", "cosignature", "not ASCII", "huge"],
)
def test_a_bad_root_names_the_setting(tmp_path: Path, text: str) -> None:
    (tmp_path / "root.vkey").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match="setting root_vkey"):
        load_root(tmp_path / "root.vkey")


@pytest.mark.parametrize(
    "text",
    [
        "",
        certificate().replace("role sealer", "role archive"),
        certificate(Ed25519PrivateKey.from_private_bytes(bytes(32))),
        certificate() + "x",
    ],
    ids=["empty", "altered", "another root's", "longer"],
)
def test_one_bad_certificate_stops_the_process_and_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "good.cert").write_text(certificate())
    (tmp_path / "bad.cert").write_text(text)
    with pytest.raises(ConfigError, match=r"setting certificates: .*bad\.cert"):
        load_keyring(tmp_path, ROOT_KEY)


def test_a_folder_of_certificates_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="setting certificates: no folder"):
        load_keyring(tmp_path / "none", ROOT_KEY)
