"""`sealtrail export`: what leaves the archive for somebody who trusts neither of us, to be checked offline.

    --bundle FILE   one tenant's records in clear, with all that proves them and that none is missing (`sealtrail.bundle`): an
                    export, under the class policy, an event sealed before the first record is read
    --tiles DIR     every chain as a C2SP tlog-tiles log that any tool for the format can check (`auditor.tiling`). Seals alone:
                    no content, so no reading that a policy would have to allow

A bundle is verified before it has its name, and an archive that is damaged where it looks gives none.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from auditor.access import Access, Act
from auditor.archive import ArchiveReader
from auditor.bundling import Auditor, Made, Spool, make_bundle
from auditor.console import EXIT_PARTIAL, EXIT_USAGE, AsJson, ConfigFile, explained, say, settings_of
from auditor.export import TAR, check_output
from auditor.export import export as write_export
from auditor.looking import archived_keyring
from auditor.query.build import micros
from auditor.tiling import export_tiles
from auditor.trust import auditor_of, openers_of, root_of
from keystore import Keystore
from schemas.search_names import CLASSES
from schemas.settings import Settings
from sealtrail.bundle import open_bundle
from sealtrail.bundleverify import verify_bundle
from sealtrail.disclosed import Filter, encode_filter
from sealtrail.errors import ContractError, EvidenceError
from sealtrail.verify import Trust

AUDITOR, DISCLOSURE = "auditor", "disclosure"


def export(
    tiles: Annotated[Path | None, typer.Option("--tiles", help="Each chain as tlog-tiles, into a new folder.")] = None,
    bundle: Annotated[Path | None, typer.Option("--bundle", help="One tenant's records and their proof, as this file.")] = None,
    tenant: Annotated[str, typer.Option(help="Of a bundle: whose records.")] = "",
    purpose: Annotated[str, typer.Option(help="Of a bundle: why; a purpose that the class policy gives your role.")] = "",
    since: Annotated[str, typer.Option("--from", help="Of a bundle: sealed at this time or later.")] = "",
    until: Annotated[str, typer.Option("--to", help="Of a bundle: sealed before this time.")] = "",
    log_class: Annotated[
        list[str] | None, typer.Option("--class", help="Of a bundle: only this class; may be given more than once.")
    ] = None,
    correlation: Annotated[str | None, typer.Option(help="Of a bundle: only of this correlation.")] = None,
    actor: Annotated[str | None, typer.Option(help="Of a bundle: only of this actor, by name or hashed.")] = None,
    ticket: Annotated[str | None, typer.Option(help="Of a bundle: the request that it answers.")] = None,
    approver: Annotated[str | None, typer.Option(help="Of a bundle: who approved it.")] = None,
    chain: Annotated[str, typer.Option(help="Of tiles: only chains whose names begin so.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Export one tenant's records as a bundle that anybody can check offline, or each chain's tree as C2SP tlog-tiles."""
    if (tiles is None) == (bundle is None) or (bundle is not None and not (tenant and purpose)):
        say("give --bundle FILE with --tenant and --purpose, or --tiles DIR")
        raise typer.Exit(EXIT_USAGE)
    done: dict[str, Any] = {}
    with explained():
        settings = settings_of(config, "reader")
        if tiles is not None:
            source = ArchiveReader(settings)
            done = dict(export_tiles(source, archived_keyring(source, root_of(settings)), tiles, chain))
            for name, size in done.items():
                say(f"{name}: {size:,} entries in {tiles / name}")
        if bundle is not None:
            wanted = asked(tenant, log_class or [], since, until, correlation, actor)
            done = run_bundle(settings, wanted, purpose, bundle, ticket, approver)
            evidence = f"{done['segments']} segments of {done['chains']} chains"
            say(f"{done['records']:,} records of {tenant}, with {evidence}: {bundle}; recorded as {done['access']}")
    if as_json:
        print(json.dumps(done, indent=1))
    if bundle is not None and done["left_out"]:
        say(f"not exported to role {settings.reader_role} for {purpose}: {', '.join(done['left_out'])}")
        raise typer.Exit(EXIT_PARTIAL)


def asked(tenant: str, classes: list[str], since: str, until: str, correlation: str | None, actor: str | None) -> Filter:
    """The filter that somebody asks for; the actor as it was given.

    Raises:
        ContractError: no record could match it.
    """
    known = {c.lower() for c in CLASSES}
    if any(name.lower() not in known for name in classes):
        raise ContractError("class", f"there are {', '.join(sorted(known))}")
    names = tuple(sorted({name.lower() for name in classes})) or None
    wanted = Filter(tenant, names, micros(since, "--from"), micros(until, "--to"), correlation, actor)
    if wanted.from_us is not None and wanted.to_us is not None and wanted.from_us >= wanted.to_us:
        raise ContractError("to", "is not after --from")
    try:
        encode_filter(replace(wanted, actor=None))
    except EvidenceError:
        raise ContractError("tenant", "or correlation: not one that an event can have") from None
    return wanted


def run_bundle(
    settings: Settings, wanted: Filter, purpose: str, file: Path, ticket: str | None = None, approver: str | None = None
) -> dict[str, Any]:
    """State the export, then make the bundle, check it, and give it its name.

    Args:
        wanted: classes that the reader may not export are left out of it; the actor is hashed here.

    Raises:
        ContractError: the policy does not allow it.
        EvidenceError: the archive is damaged where the bundle looks, or the bundle does not verify; there is no file.
        ConfigError, TransientError, UndecidedError: see `Access`, `make_bundle`, `auditor.export`.
    """
    settings.require("keys", "root_vkey")
    check_output(file, "--bundle")
    root, keystore = root_of(settings), Keystore.open(settings.keys)
    part, disclosure = f"{settings.authority}/{settings.deployment}", keystore.secret(DISCLOSURE)
    with Access(settings, purpose, wanted.tenant) as access:
        fields = tuple(name for name, value in wanted.as_json().items() if value is not None)
        classes = None if wanted.classes is None else frozenset(c for c in CLASSES if c.lower() in wanted.classes)
        which = json.dumps(wanted.as_json(), sort_keys=True)
        act = Act("trail.exported", "bundle", which, "archive", fields, True, ticket, approver, classes)
        access.require_allowed(act)
        if wanted.actor is not None:
            (hashed,) = access.hashed(wanted.actor)
            wanted = replace(wanted, actor=hashed)
        stated = access.open(replace(act, which=encode_filter(wanted).decode()))
        allowed = access.classes_for(act)
        wanted = replace(wanted, classes=tuple(sorted(c.lower() for c in allowed)))
        source = ArchiveReader(settings)
        keyring = archived_keyring(source, root)
        signer, certificate = auditor_of(settings, keyring)
        auditor = Auditor(certificate.name, signer.public, signer.sign, openers_of(settings), disclosure)
        made: list[Made] = []

        def write(to: BinaryIO) -> int:
            with tempfile.TemporaryFile(dir=file.parent) as kept:
                spool = Spool(kept)
                made.append(make_bundle(source, part, wanted, auditor, str(stated), time.time, spool))
                spool.write_to(to)
            _check(to, Trust(root))
            return made[0].records

        write_export(access, file, write, TAR, option="--bundle")
    return {
        "access": str(stated),
        "file": str(file),
        "records": made[0].records,
        "segments": made[0].segments,
        "chains": made[0].chains,
        "classes": list(wanted.classes or ()),
        "left_out": sorted(c.lower() for c in (classes or CLASSES) if c not in allowed),
    }


def _check(file: BinaryIO, trust: Trust) -> None:
    """Verify a bundle as a stranger will. Raises EvidenceError."""

    def read_at(offset: int, size: int) -> bytes:
        file.seek(offset)
        return file.read(size)

    report = verify_bundle(open_bundle(read_at, file.tell()), trust)
    if report.findings:
        first = report.findings[0]
        said = f"first {first.kind} in step {first.step}, {first.where}: {first.detail}"
        raise EvidenceError(f"the bundle would not verify, {len(report.findings)} findings, {said}")
    if not report.good:
        raise EvidenceError(f"the bundle would not verify: {dict(report.verdicts)}")
