"""What a verifier says of policies: their texts must be in the archive, and be those that the hashes name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sealtrail.documents import Documents
from sealtrail.layout import policy_key, policy_pair_key, policy_pair_text
from sealtrail.local import LocalCopy

BASE, TENANT = b"version = 1\n", b"# a tenant's own\n"


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def archive(folder: Path, files: dict[str, bytes]) -> Documents:
    for key, data in files.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Documents(LocalCopy(folder))


def pair(base: bytes, tenant: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The combined hash of two digests, and the file that says so."""
    combined = digest(base + tenant)
    return combined, {policy_pair_key(combined): policy_pair_text(base, tenant).encode()}


@pytest.mark.parametrize("tenant", [None, TENANT])
def test_a_policy_whose_texts_are_there_has_no_problem(tmp_path: Path, tenant: bytes | None) -> None:
    combined, files = pair(digest(BASE), bytes(32) if tenant is None else digest(tenant))
    files |= {policy_key(digest(text)): text for text in (BASE, tenant) if text is not None}
    assert archive(tmp_path, files).policy_problem(combined) == ""


def test_a_policy_that_is_missing_or_altered_is_named(tmp_path: Path) -> None:
    combined, files = pair(digest(BASE), digest(TENANT))
    base, tenant = {policy_key(digest(BASE)): BASE}, {policy_key(digest(TENANT)): TENANT}
    foreign, _ = pair(digest(TENANT), digest(BASE))
    cases = {
        "nothing": {},
        "pair-without-texts": files,
        "no-tenant-file": files | base,
        "no-base-file": files | tenant,
        "altered-text": files | base | {policy_key(digest(TENANT)): TENANT + b" "},
        "pair-of-others": base | tenant | {policy_pair_key(combined): policy_pair_text(digest(TENANT), digest(BASE)).encode()},
        "pair-with-more": base | tenant | {key: data + b"more\n" for key, data in files.items()},
    }
    for name, held in cases.items():
        assert "policies/" in archive(tmp_path / name, held).policy_problem(combined), name
    assert foreign != combined
