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
from sealtrail.errors import ConfigError, EvidenceError, TransientError

PLACES = 64  # processes of one instance at once
BATCH = 500
KEY = "spool-"

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
            for other in range(number + 1, PLACES):
                if (folder / str(other)).is_dir():
                    _take_over(own, folder, other, key, identity, settings)
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
    except (EvidenceError, TransientError) as error:  # its own place must not fail for another's; whoever takes it is told
        _LOG.error("spool left behind cannot be opened", emitter=identity.name, place=number, problem=str(error))
        return
    if left is None:
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
    except (EvidenceError, TransientError) as error:
        _LOG.error("spool left behind not taken over whole", emitter=identity.name, place=number, problem=str(error))
    finally:
        left.close()
    if moved:
        _LOG.warning("spool left behind taken over", emitter=identity.name, place=number, records=moved)
