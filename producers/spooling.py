"""Which spool is an emitter's: a place in the settings' folder, and what others before it left in theirs.

    <spool>/<source>/<instance>/0, 1, 2 …

A process takes the first place that no other holds; a forked child, which is an emitter of its own, finds the next. What
lies in the places behind (of children that were killed, say) is taken over into its own before its first event: in order,
with the same bytes, so that a repeat is known by its number.
"""

from __future__ import annotations

from pathlib import Path

import structlog

from producers.identity import Identity
from producers.spool import Spool, SpoolInUseError
from schemas.settings import Settings
from sealtrail.errors import ConfigError, SealtrailError, TransientError

PLACES = 64  # processes of one instance at once
BATCH = 500
KEY = "spool-"

_HALVES: list[Spool] = []  # of which a part was taken over

_LOG = structlog.get_logger("producers.spooling")


def open_spool(settings: Settings, identity: Identity) -> Spool:
    """The spool of this process, what was left behind included.

    Raises:
        ConfigError: no folder, no key, or no free place.
        EvidenceError: something that was acknowledged cannot be read; names file and offset.
        TransientError: the disk is full or refuses.
    """
    settings.require("spool")
    assert settings.spool is not None
    folder = settings.spool / identity.source / identity.instance
    key = identity.secret(f"{KEY}{identity.source}")
    for number in range(PLACES):
        own = _opened(folder, number, key, identity, settings)
        if own is not None:
            try:
                for other in range(number + 1, PLACES):
                    if (folder / str(other)).is_dir():
                        _take_over(own, folder, other, key, identity, settings)
            except BaseException:
                own.close()
                raise
            return own
    raise ConfigError(f"setting spool: {PLACES} processes of {identity.name} hold a place each, the most that may")


def _opened(folder: Path, number: int, key: bytes, identity: Identity, settings: Settings) -> Spool | None:
    """The spool at this place, or None if another process holds it."""
    try:
        return Spool.open(
            folder / str(number),
            key,
            f"{identity.name}/{number}",
            settings.spool_mib << 20,
            set_damaged_aside=settings.spool_set_damaged_aside,
        )
    except SpoolInUseError:
        return None


def _take_over(own: Spool, folder: Path, number: int, key: bytes, identity: Identity, settings: Settings) -> None:
    """Move what is left at a place behind into `own`. What cannot be moved now stays, and is found the next time."""
    try:
        left = _opened(folder, number, key, identity, settings)
    except SealtrailError as error:  # its own place must not fail for another's; whoever takes that one is told
        _LOG.error("spool left behind cannot be opened", emitter=identity.name, place=number, problem=str(error))
        return
    if left is None:
        return
    if own.used_bytes + left.used_bytes > settings.spool_mib << 20:
        _LOG.warning("no room to take over a spool left behind", emitter=identity.name, place=number, records=left.waiting)
        _closed(left, identity, number)
        return
    moved = 0
    try:
        position = left.released
        while records := left.read(position, BATCH):
            own.append([record for _, record in records])
            own.commit()
            # Durable here: from now on a crash leaves it in both, and the repeat is known by its number.
            position = records[-1][0] + 1
            left.release(position)
            moved += len(records)
    except SealtrailError as error:
        # Nobody may send the rest before the part that was moved: the lock is held until this process ends.
        _LOG.error("spool left behind not taken over whole", emitter=identity.name, place=number, problem=str(error))
        _HALVES.append(left)
    else:
        _closed(left, identity, number)
    if moved:
        _LOG.warning("spool left behind taken over", emitter=identity.name, place=number, records=moved)


def _closed(spool: Spool, identity: Identity, number: int) -> None:
    try:
        spool.close()
    except TransientError as error:  # the disk refuses; what was durable there stays so
        _LOG.error("spool left behind not closed in order", emitter=identity.name, place=number, problem=str(error))
