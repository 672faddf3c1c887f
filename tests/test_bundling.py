"""What is put into a bundle and what is not, and of which archives none is made. Verifying is `tests/test_bundle.py`'s."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from sealtrail.bundle import member_name
from sealtrail.certificate import Role
from sealtrail.disclosed import Filter
from sealtrail.errors import EvidenceError
from sealtrail.layout import KEYS, certificate_key
from tests.archives import CHAINS, PART, Archive, certificate, ending, mark_of, public_of
from tests.bundles import FIRST_HOUR, archived, bundle_of, unpacked, verified

OPENING = [role for role in Role if role.algorithm == "X25519"]


def test_of_certificates_those_of_keys_that_sign_leave_and_no_end_is_left_out() -> None:
    entries = [entry for segment in archived().chains[CHAINS[0]] for entry in segment]
    archive = ending(archived().archive, "sealer-2", Role.SEALER, {CHAINS[0]: mark_of(entries, 3)})
    leave = {member_name(key) for key in archive.keys(KEYS)}
    assert any(name.endswith(".end") for name in leave)
    for role in OPENING:
        archive.put(certificate_key(hashlib.sha256(public_of(role)).digest()), certificate(role, role, "globex"))
    data = bundle_of(Filter("acme", ("operational",)), archive)
    assert {name for name in unpacked(data) if name.startswith(KEYS)} == leave
    assert verified(data).good


def with_marker(key: str) -> Archive:
    archive = archived().archive.copy()
    archive.put(key, None)
    return archive


def with_second_version(key: str) -> Archive:
    archive = archived().archive.copy()
    archive.put(key, archive.data(key))
    return archive


HIDDEN: dict[str, Callable[[str], Archive]] = {"a delete marker": with_marker, "2 versions": with_second_version}


@pytest.mark.parametrize("segment", range(4))
@pytest.mark.parametrize("name", HIDDEN)
def test_of_an_archive_that_hides_a_segment_no_bundle_is_made(name: str, segment: int) -> None:
    archive = HIDDEN[name](archived().key(segment))
    with pytest.raises(EvidenceError, match=f"HIDDEN in step 2, .*{name}"):
        bundle_of(Filter("acme", ("operational",), *FIRST_HOUR), archive)


def test_what_lies_between_segments_and_is_none_is_damage_too() -> None:
    archive = archived().archive.copy()
    archive.put(f"chains/{PART}/more", b"more")
    with pytest.raises(EvidenceError, match="not a segment's name"):
        bundle_of(Filter("acme"), archive)
