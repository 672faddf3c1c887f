"""`sealtrail keys …`: making, certifying, following and ending the keys of a deployment.

What needs the root (`init`, `certify`, `rotate`) takes its folder with --root: mount it for the act, and take it away again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from auditor.archive import ArchiveReader
from auditor.console import AsJson, ConfigFile, explained, say, settings_of
from auditor.keys import Office, end_of, positions, require_settled, write_certificate
from auditor.policy import Authority
from auditor.query.build import micros
from auditor.trust import keyring_of, root_of
from kafkaio.transaction import Ends
from keystore import Keystore, generate, write_private
from keystore.ceremony import DAYS, VKEY, Root, next_name, purpose_of
from keystore.file import FileKeystore, copy_private
from keystore.store import KeyKind, base_of, kind_of
from processors.recovery import Topics, chain_of
from producers.audit import AuditProducer
from schemas.settings import Settings
from sealtrail.certificate import Certificate, Role
from sealtrail.ending import EndReason
from sealtrail.errors import ConfigError
from sealtrail.keyring import Keyring
from sinks.archive.assembly import publish_keys

SOURCE, INSTANCE = "publisher", "keys"
CLOSE_S = 30.0
TAKEN_UP_S = 3.0  # after so long every running process has looked at its keystore
SEVERAL = (Role.AUDITOR, Role.OPERATOR)  # of these, several are in use at once
SETTLED_S = 3600.0  # so long is an idle chain not archived
SOON_DAYS = 30  # a certificate that ends within these is named

app = typer.Typer(name="keys", help="The keys of a deployment: certified, followed by newer ones, ended.", no_args_is_help=True)

RootFolder = Annotated[Path, typer.Option("--root", help="The root's folder: root.key and root.vkey.")]
KeyFolder = Annotated[Path, typer.Option("--keys", help="The keystore folder of the role that holds the key.")]
Days = Annotated[int, typer.Option(min=1, max=36_500, help="How long the certificate holds.")]
Reason = Annotated[str, typer.Option(help="Why; it is content, so it is masked in the event.")]
Ticket = Annotated[str | None, typer.Option(help="The reference of the change request.")]
Approver = Annotated[str | None, typer.Option(help="Who agreed; hashed in the event.")]


@app.command("init")
def init(
    root: RootFolder, authority: Annotated[str, typer.Option(help="Who vouches for the trail, e.g. audit.example.")]
) -> None:
    """Make a root key: what certifies every other key, and what every verifier must hold the public half of."""
    with explained():
        made = Root.create(root, authority)
    say(f"root of {authority}: {made.key.vkey}")
    say(f"give {root / 'root.vkey'} to whoever verifies; keep {root / 'root.key'} offline, and a copy elsewhere")


@app.command("certify")
def certify(
    name: Annotated[str, typer.Argument(help="The key's name: sealer, archive, source-github, tenant-data-acme …")],
    root: RootFolder,
    keys: Annotated[Path | None, typer.Option(help="The holder's keystore folder; the key is made if it has none.")] = None,
    public: Annotated[Path | None, typer.Option(help="Instead: a file with the public half, 32 bytes or base64.")] = None,
    label: Annotated[str, typer.Option("--for", help="Name in the certificate; default: by the key's name.")] = "",
    days: Days = DAYS,
    into: Annotated[
        Path | None, typer.Option(help="Before the deployment runs: write it to this folder, publish and state nothing.")
    ] = None,
    reason: Reason = "",
    ticket: Ticket = None,
    approver: Approver = None,
    config: ConfigFile = None,
) -> None:
    """Certify a public key for one role, publish the certificate and state it."""
    with explained():
        authority = Root.open(root)
        settings = settings_of(config, SOURCE) if into is None else Settings(certificates=into, root_vkey=root / VKEY)
        purpose = purpose_of(name)
        if (keys is None) == (public is None):
            raise ConfigError("give either --keys or --public")
        half = _made(name, keys) if keys is not None else _read_public(public)
        known = keyring_of(settings).by_id.get(hashlib.sha256(half).digest())
        if known is not None:
            if into is None:
                publish_keys(settings)  # a run before this one may have died before it did
            raise ConfigError(f"{_described(known)} is certified; a certificate is not renewed, the key gets a successor")
        owner = label or purpose.owner or authority.key.name.removesuffix("/root")
        certificate, note = authority.certify(purpose.role, owner, half, int(time.time()), days)
        file = _file_name(name, certificate)
        if into is None:
            with _office(settings, Authority(settings.person, reason, ticket, approver)) as office:
                path = office.certified(certificate, note, file)
        else:
            path = write_certificate(into, file, note)
    say(f"{_described(certificate)}; certificate {path}{', published' if into is None else ''}")


@app.command("rotate")
def rotate(
    name: Annotated[str, typer.Argument(help="The key to follow: sealer, archive, source-github, tenant-data-acme …")],
    root: RootFolder,
    keys: KeyFolder,
    also: Annotated[list[Path] | None, typer.Option(help="Another keystore folder with the key; may be repeated.")] = None,
    days: Days = DAYS,
    reason: Reason = "",
    ticket: Ticket = None,
    approver: Approver = None,
    config: ConfigFile = None,
) -> None:
    """Make and certify the successor of a key. Running processes take it up within seconds; what opens keeps all of them.

    Its holders have it before anybody is told to encrypt to it. A connector takes up its source's key at its next start. Where
    a run before this one died half way, it is finished.
    """
    with explained():
        settings = settings_of(config, SOURCE)
        purpose = purpose_of(name)
        following, before = _following(settings, keys, name)
        with _office(settings, Authority(settings.person, reason, ticket, approver)) as office:
            if following not in FileKeystore(str(keys)).names():
                write_private(keys, following, generate(following)[0])
            for folder in also or ():
                copy_private(keys, folder, following)
            if purpose.role.algorithm == "X25519":
                time.sleep(TAKEN_UP_S)
            public = _public(FileKeystore(str(keys)), following)
            certificate, note = Root.open(root).certify(purpose.role, before.name, public, _later_than(before), days)
            path = office.certified(certificate, note, _file_name(following, certificate))
    say(f"{following}: {_described(certificate)}; certificate {path}, published")
    if purpose.role in (Role.SEALER, Role.ARCHIVE):
        say(f"when the archive shows it in every chain: sealtrail keys revoke {before.key_id.hex()[:16]} --keys {keys}")


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key that ends: its id, or the first digits of it.")],
    keys: Annotated[Path, typer.Option("--keys", help="The keystore folder with its successor, which signs the statement.")],
    compromised: Annotated[bool, typer.Option("--compromised", help="It is in other hands; else it is superseded.")] = False,
    since: Annotated[str, typer.Option(help="It was from this time on: only what was archived before counts.")] = "",
    settled: Annotated[
        float, typer.Option(min=0, help="Superseded: for so many seconds others must have signed after it, in each chain.")
    ] = SETTLED_S,
    closed: Annotated[list[str] | None, typer.Option(help="A chain of a topic that is no more; may be repeated.")] = None,
    reason: Reason = "",
    ticket: Ticket = None,
    approver: Approver = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """State where a key ended: per chain, the last seal for which it counts, signed by its successor, kept in the archive."""
    with explained():
        settings = settings_of(config, SOURCE)
        keyring = keyring_of(settings)
        key = _find(keyring, key_id)
        if since and (not compromised or key.role is Role.ARCHIVE):
            raise ConfigError("--since goes with --compromised, and not with an archive's key: it states the times itself")
        successor, sign = _successor(keyring, key, FileKeystore(str(keys)))
        since_us = micros(since, "--since")
        expected = [] if compromised or not key.speaks_for(f"{_ours(settings)}/") else _live_chains(settings)
        found = positions(ArchiveReader(settings), root_of(settings), key, None if since_us is None else since_us / 1e6)
        if not compromised:
            live = [position for position in found if position.chain not in (closed or ())]
            require_settled(key, live, expected, settled)
        why = EndReason.COMPROMISED if compromised else EndReason.SUPERSEDED
        end = end_of(key, successor, why, found, int(time.time()))
        with _office(settings, Authority(settings.person, reason, ticket, approver)) as office:
            path = office.ended(keyring, key, successor, sign, end)
    for position in found:
        if position.doubted:
            say(f"{position.chain} counts only up to where it stops to verify: {position.doubted}")
        say(f"{position.chain}: counts for {position.mark.size if position.mark else 0:,} seals")
    say(
        f"{_described(key)} ended, in {len(end.marks)} chains after what it signed, in others from the start; {path}, published"
    )
    if as_json:
        told = {chain: {"size": mark.size, "root": mark.root.hex()} for chain, mark in end.marks.items()}
        print(json.dumps({"key_id": key.key_id.hex(), "reason": why, "statement": path.name, "chains": told}))


@app.command("list")
def list_command(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Every certified key: its role, name and time, and whether it is in use, was followed, ended or expired."""
    with explained():
        keyring = keyring_of(settings_of(config, SOURCE))
    now = time.time()
    rows = sorted(keyring.by_id.values(), key=lambda c: (c.role, c.name, c.not_before_s))
    told = [
        {
            "key_id": c.key_id.hex(),
            "role": str(c.role),
            "name": c.name,
            "not_before": _time(c.not_before_s),
            "not_after": _time(c.not_after_s),
            "state": _state(c, keyring, now),
        }
        for c in rows
    ]
    if as_json:
        print(json.dumps(told, indent=1))
        return
    for row in told:
        valid = f"{row['not_before'][:10]} {row['not_after'][:10]}"
        print(f"{row['key_id'][:16]}  {row['role']:<14} {row['name']:<24} {valid}  {row['state']}")


@contextmanager
def _office(settings: Settings, said: Authority) -> Iterator[Office]:
    settings.require("person")
    emitter = AuditProducer(settings, SOURCE, INSTANCE)
    try:
        yield Office(settings, emitter, said, lambda: publish_keys(settings))
    finally:
        emitter.close(CLOSE_S)


def _ours(settings: Settings) -> str:
    return f"{settings.authority}/{settings.deployment}"


def _live_chains(settings: Settings) -> list[str]:
    """The chains of the raw topic that there is now."""
    ends, topics = Ends(settings), Topics.of(settings)
    return [chain_of(settings, ends, topics, partition) for partition in range(ends.partition_count(topics.raw))]


def _made(name: str, folder: Path) -> bytes:
    """The public half of a key in a folder, where it is made if it is not there."""
    if name not in FileKeystore(str(folder)).names():
        write_private(folder, name, generate(name)[0])
    return _public(FileKeystore(str(folder)), name)


def _public(keystore: Keystore, name: str) -> bytes:
    return keystore.signer(name).public if kind_of(name) is KeyKind.SIGNS else keystore.opener(name).public


def _read_public(file: Path | None) -> bytes:
    if file is None:
        raise AssertionError("either --keys or --public")
    try:
        data = file.read_bytes()
        return data if len(data) == 32 else base64.b64decode(data.strip(), validate=True)
    except (OSError, binascii.Error) as error:
        raise ConfigError(f"option --public: {file}: {error}") from None


def _following(settings: Settings, folder: Path, name: str) -> tuple[str, Certificate]:
    """The name of a key's successor, and the certificate of the newest that has one.

    A newest key without a certificate is the successor: whoever made it did not come further.
    """
    keystore: Keystore = FileKeystore(str(folder))
    role, keyring = purpose_of(name).role, keyring_of(settings)
    held = keystore.generations(base_of(name)[0])
    found = [(n, keyring.find(hashlib.sha256(_public(keystore, n)).digest(), role)) for n in held]
    certified = [(n, certificate) for n, certificate in found if certificate is not None]
    if not certified:
        raise ConfigError(f"key {name}: {folder} holds none that is certified and could have a successor")
    newest, before = certified[0]
    return (held[0] if held[0] != newest else next_name(keystore, name)), before


def _later_than(before: Certificate) -> int:
    """Now, in the first second after a certificate began: a successor's begins later. Waits for it, if that is not long."""
    wait_s = before.not_before_s + 1 - time.time()
    if wait_s > TAKEN_UP_S:
        raise ConfigError("the certificate of the key before begins in the future: is the clock right?")
    time.sleep(max(0.0, wait_s))
    return int(time.time())


def _find(keyring: Keyring, digits: str) -> Certificate:
    found = [c for key_id, c in keyring.by_id.items() if digits and key_id.hex().startswith(digits.lower())]
    if len(found) != 1:
        raise ConfigError(f"{len(found)} certified keys have ids that begin with {digits!r}")
    return found[0]


def _successor(keyring: Keyring, key: Certificate, keystore: Keystore) -> tuple[Certificate, Callable[[bytes], bytes]]:
    """The newest key in a keystore that may state the end of another."""
    for name in sorted(keystore.names(), key=lambda n: -base_of(n)[1]):
        if kind_of(name) is not KeyKind.SIGNS:
            continue
        signer = keystore.signer(name)
        found = keyring.find(signer.key_id, key.role)
        if found is None or keyring.ended(found.key_id) or not found.covers(time.time()):
            continue
        if found.name == key.name and found.not_before_s > key.not_before_s:
            return found, signer.sign
    raise ConfigError(f"{_described(key)} has no successor there: sealtrail keys rotate comes first")


def _file_name(name: str, certificate: Certificate) -> str:
    """Of the certificate's file: keys of the same name may have several holders."""
    return f"{name}-{certificate.key_id.hex()[:16]}"


def _described(certificate: Certificate) -> str:
    return f"key {certificate.key_id.hex()[:16]}… of {certificate.role} {certificate.name}"


def _state(certificate: Certificate, keyring: Keyring, now: float) -> str:
    if keyring.ended(certificate.key_id):
        return "ended"
    if now > certificate.not_after_s:
        return "expired"
    if now < certificate.not_before_s:
        return "not yet valid"
    same = [c for c in keyring.of_role(certificate.role) if c.name == certificate.name]
    if certificate.role not in SEVERAL and any(c.not_before_s > certificate.not_before_s for c in same):
        return "followed"
    left = int((certificate.not_after_s - now) // 86_400)
    return f"in use, {left} days left" if left <= SOON_DAYS else "in use"


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
