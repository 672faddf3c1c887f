"""A file of the spool cut at each of its last bytes: what was acknowledged is there, or its absence is said."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from random import Random

from producers.spool import Spool
from producers.spool.folder import file_name
from sealtrail.errors import EvidenceError
from tests.spooling.disk import Disk
from tests.spooling.life import DIRECTORY, EMITTER, KEY, number_of, sequence

LAST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Cuts:
    """cuts: files cut; kept: acknowledged records read again, of all of them; said: cuts into acknowledged records that were
    named as damage; wrong: cuts after which something was missing in silence, or invented."""

    cuts: int
    kept: int
    said: int
    wrong: int


def cut_every(step: int = 1) -> Cuts:
    """Each length from the whole file down to 4,096 bytes less, twice: in a tail never acknowledged, and in one that was."""
    kept = said = wrong = cuts = 0
    for acknowledged in (8, 32):
        disk = Disk(Random(5))
        spool = Spool.open(DIRECTORY, KEY, EMITTER, files=disk.files())
        for start in range(0, 32, 4):
            spool.append(sequence(range(start, start + 4), 400))
            if start < acknowledged:
                spool.commit()
        disk.kill()
        whole = bytes(disk.bytes_of(DIRECTORY / file_name(0)))
        for length in range(len(whole) - LAST_BYTES, len(whole), step):
            cuts += 1
            one = deepcopy(disk)
            one.damage(DIRECTORY / file_name(0), whole[:length])
            try:
                again = Spool.open(DIRECTORY, KEY, EMITTER, files=one.files())
            except EvidenceError as error:
                said += 1
                wrong += acknowledged == 8 or file_name(0) not in str(error)
                continue
            found = [number_of(record) for _, record in again.read(0)]
            kept += acknowledged if found[:acknowledged] == list(range(acknowledged)) else 0
            wrong += found != list(range(len(found))) or len(found) < acknowledged
    return Cuts(cuts, kept, said, wrong)
