"""Looking at one record of the archive, under the reader's rights: the act is stated and sealed before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from auditor.access import Access, Act
from auditor.archive import ArchiveReader
from auditor.console import say
from auditor.finding import Found, find_event
from auditor.query.index import HotIndex
from auditor.trust import openers_of, root_of
from schemas.settings import Settings
from sealtrail.certified import keyring_of
from sealtrail.errors import SealtrailError, TransientError
from sealtrail.keyring import Keyring
from sealtrail.note import NoteKey
from sealtrail.report import Report
from sealtrail.source import Source

Place = tuple[str, str, int]
"""Index, chain and seq, as hot search has them."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Looked:
    """A record that was found and may be shown. `stated`: the event that says so; `indexed`: where hot search has it."""

    found: Found
    stated: UUID
    indexed: Place | None
    access: Access
    source: Source
    keyring: Keyring


def look(settings: Settings, act: Act, purpose: str, prefix: str, use: Callable[[Looked], T]) -> T | None:
    """State the act, find the record whose id it names, and use it; None if the archive has no readable record of it.

    Args:
        use: called while the access is open, with a record that may be shown.

    Raises:
        ContractError: the policy does not allow it; a record that was found and may not be shown is not told from that.
        ConfigError, TransientError, UndecidedError, EvidenceError: see `find_event`.
    """
    settings.require("keys")
    root, wanted = root_of(settings), UUID(act.which)
    with Access(settings, purpose) as access:
        stated = access.open(act)
        indexed = _indexed(settings, wanted)
        source = ArchiveReader(settings)
        keyring = archived_keyring(source, root)
        place = None if indexed is None else (indexed[1], indexed[2])
        found = find_event(source, wanted.bytes, keyring, openers_of(settings), prefix, place)
        if found is None and indexed is not None:
            raise TransientError(f"hot search has it as {indexed[1]} {indexed[2]}; it is not archived yet: try again")
        if found is None:
            return None
        if not access.shows(act, found.seal.log_class, found.tenant):
            raise access.refuse(act, f"may not {act.verb} this record for {purpose!r}")
        return use(Looked(found, stated, indexed, access, source, keyring))


def archived_keyring(source: Source, root: NoteKey) -> Keyring:
    """The keys that the archive shows to be certified; what does not verify counts for nothing, and is said."""
    report = Report()
    keyring = keyring_of(source, root, report)
    for finding in report.findings:
        say(f"{finding.where}: {finding.detail}")
    return keyring


def _indexed(settings: Settings, wanted: UUID) -> Place | None:
    """None when hot search has it not, or does not answer: the archive is the record."""
    if not settings.search_endpoint:
        return None
    try:
        with closing(HotIndex(settings)) as index:
            return index.place_of(str(wanted))
    except SealtrailError as error:
        say(f"hot search was not asked: {error}")
        return None
