"""Bundles for tests: of a small archive with keys of fixed seeds, taken apart, changed, packed again by whoever a test says.

Two chains, a segment an hour. `acme` and `globex` do the same; what belongs to globex carries a word that must not leave.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

from auditor.bundling import Auditor, Spool, make_bundle
from sealtrail import layout
from sealtrail.bundle import MANIFEST, SUMS, Bundle, Manifest, format_sums, open_bundle, parse_manifest, sign_manifest
from sealtrail.bundleverify import verify_bundle as check
from sealtrail.certificate import Role
from sealtrail.disclosed import Filter
from sealtrail.report import Report
from sealtrail.seal import LogClass
from sealtrail.tar import TRAILER, header, members_of, padding
from sealtrail.verify import Trust
from sinks.archive.checking import Entry
from tests.archives import (
    CHAINS,
    PART,
    ROOT,
    START_S,
    TENANTS,
    Archive,
    Built,
    ChainScript,
    RunScript,
    archive_segments,
    certificate,
    epoch,
    openers,
    public_of,
    put_documents,
    signing_key,
)
from tests.chains import START_US

Files = dict[str, bytes]
HOUR_US = 3_600_000_000
BASE = b"version = 1\n"
POLICY = hashlib.sha256(hashlib.sha256(BASE).digest() + bytes(32)).digest()
DISCLOSURE = bytes(32)  # that of `tests.chains`
SECRET = "a-word-of-globex-alone"
EXPORT = "019aaaaa-aaaa-7000-8000-00000000000e"
ACTORS = ("hmac_0", "hmac_1")
MADE_S = START_S + 100_000
FIRST_HOUR = (START_US + HOUR_US, START_US + 2 * HOUR_US)  # the second segment's


@cache
def archived() -> Built:
    """Four segments a chain, at START_US and each hour after it. Shared: damage copies."""
    archive = Archive()
    put_documents(archive)
    chains = {chain: _chain(chain, number) for number, chain in enumerate(CHAINS)}
    for segments in chains.values():
        archive_segments(archive, segments, time_s=MADE_S)
    for name in ("auditor-2", "auditor-expired", "auditor-elsewhere"):
        label = "audit.example/other" if name.endswith("elsewhere") else PART
        data = certificate(name, Role.AUDITOR, label, **({"after_s": START_S} if name.endswith("expired") else {}))
        archive.put(layout.certificate_key(hashlib.sha256(public_of(name)).digest()), data)
    archive.put(layout.policy_key(hashlib.sha256(BASE).digest()), BASE)
    archive.put(layout.policy_pair_key(POLICY), layout.policy_pair_text(hashlib.sha256(BASE).digest(), bytes(32)).encode())
    archive.put(f"glossary/{hashlib.sha256(b'words').hexdigest()}.md", b"words")
    return Built(archive, chains)


def _chain(chain: str, number: int) -> list[list[Entry]]:
    script = ChainScript(chain, policy=POLICY)
    run = RunScript("github", epoch(number))
    cuts = []
    script.genesis()
    script.open(run)
    for hour in range(4):
        script.maker.now_us = max(script.maker.now_us, START_US + hour * HOUR_US)
        for turn in range(4):
            for tenant in ("acme", "globex"):
                script.event(
                    run,
                    tenant,
                    LogClass.ADMIN if turn == 3 else LogClass.OPERATIONAL,
                    correlation_id=f"c-{turn % 2}",
                    actor={"kind": "USER", "id": ACTORS[turn // 2], "display": None},
                    detail=SECRET if tenant == "globex" else "of acme",
                )
        script.rejected()
        script.heartbeat()
        cuts.append(len(script.entries))
    return [script.entries[a:b] for a, b in zip([0, *cuts], cuts, strict=False)]


def bundle_of(wanted: Filter, archive: Archive | None = None, made_s: int = MADE_S) -> bytes:
    """A bundle as the command makes it."""
    auditor = Auditor(PART, public_of("auditor"), signing_key("auditor").sign, openers(*TENANTS), DISCLOSURE)
    spool, out = Spool(io.BytesIO()), io.BytesIO()
    make_bundle(archive or archived().archive, PART, wanted, auditor, EXPORT, lambda: made_s, spool)
    spool.write_to(out)
    return out.getvalue()


@cache
def good() -> bytes:
    """All of acme's records."""
    return bundle_of(Filter("acme"))


@cache
def of_an_hour() -> bytes:
    """Acme's operational records of the second hour."""
    return bundle_of(Filter("acme", ("operational",), *FIRST_HOUR))


def opened(data: bytes) -> Bundle:
    """A bundle from its bytes."""
    return open_bundle(lambda offset, size: data[offset : offset + size], len(data))


def verified(data: bytes, checkpoints: Mapping[str, bytes] | None = None) -> Report:
    """What a stranger's verifier comes to."""
    return check(opened(data), Trust(ROOT, {}, checkpoints or {}))


def unpacked(data: bytes) -> dict[str, bytes]:
    """The members by name."""
    members = members_of(lambda offset, size: data[offset : offset + size], len(data))
    return {m.name: data[m.offset : m.offset + m.size] for m in members}


def packed(files: Mapping[str, bytes]) -> bytes:
    """The tar of these members, as they are: by whoever holds no key."""
    return b"".join(header(n, len(files[n])) + files[n] + padding(len(files[n])) for n in sorted(files)) + TRAILER


def edited(files: Mapping[str, bytes], name: str, edit: Callable[[bytes], bytes]) -> dict[str, bytes]:
    """The members with one changed."""
    return {**files, name: edit(files[name])}


def signed(
    files: Mapping[str, bytes],
    edit: Callable[[Manifest], Manifest] = lambda manifest: manifest,
    *,
    key: str = "auditor",
    name: str = PART,
) -> bytes:
    """The bundle of these members, sums and manifest made anew: by an auditor who lies."""
    listed = {n: hashlib.sha256(d).digest() for n, d in files.items() if n not in (MANIFEST, SUMS)}
    sums = format_sums(listed)
    manifest, _ = parse_manifest(files[MANIFEST])
    manifest = edit(replace(manifest, files=len(listed), sums=hashlib.sha256(sums).digest()))
    note = sign_manifest(manifest, name, public_of(key), signing_key(key).sign)
    return packed({**files, SUMS: sums, MANIFEST: note})
