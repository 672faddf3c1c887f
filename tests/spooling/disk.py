"""A file system that keeps only what POSIX promises, with a process that can die at any act.

Power loss: of a file, each 512-byte sector that was not fsynced is there or not, and its length is any between old and new,
so that torn, reordered and zero-filled tails come up; of a directory, names made, replaced or removed since its last fsync
are done or not, each by itself.
A kill: the system lives on, nothing is lost.
After a failed fsync the pages count as clean: they can be read, a later fsync does not write them, and a power loss takes
them.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

SECTOR = 512


class Died(BaseException):
    """The process is gone: no code of its own runs any more, `except Exception` included."""


@dataclass(slots=True, eq=False)
class Inode:
    """Bytes as processes see them, bytes on the platter, and the sectors that an fsync would write."""

    data: bytearray = field(default_factory=bytearray)
    stable: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)

    def write(self, at: int, data: bytes) -> None:
        """Into the page cache."""
        if not data:
            return
        if at > len(self.data):
            self.data.extend(bytes(at - len(self.data)))
        self.data[at : at + len(data)] = data
        self.dirty.update(range(at // SECTOR, (at + len(data) - 1) // SECTOR + 1))

    def truncate(self, size: int) -> None:
        """In the page cache."""
        del self.data[size:]
        self.dirty.add(max(0, size - 1) // SECTOR)

    def persist(self, sectors: set[int], size: int) -> None:
        """Write these sectors to the platter; the file has `size` bytes there, zeros where nothing was written."""
        self.stable[:] = self.stable[:size] + bytes(max(0, size - len(self.stable)))
        for sector in sectors:
            a, b = sector * SECTOR, min((sector + 1) * SECTOR, size, len(self.data))
            if a < b:
                self.stable[a:b] = self.data[a:b]


Name = tuple[str, str]
"""Directory and name."""


@dataclass(slots=True)
class Faults:
    """What goes wrong, as probabilities an act, and when the process dies: after so many acts."""

    write: float = 0.0
    sync: float = 0.0
    sync_directory: float = 0.0
    create: float = 0.0
    capacity: int | None = None
    die_after: int | None = None


class Disk:
    """What outlives processes. `files()` is what one process sees of it, until it dies."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.faults = Faults()
        self.acts = 0
        self.enospc = 0  # how often each was met
        self.sync_failures = 0
        self._names: dict[Name, Inode] = {}
        self._stable: dict[Name, Inode] = {}
        self._undone: list[tuple[str, Name, Name | None, Inode]] = []
        self._locks: set[Path] = set()
        self._life = 0

    def files(self) -> DiskFiles:
        """For the process that begins now."""
        return DiskFiles(self, self._life)

    def kill(self) -> None:
        """The process ends (kill -9); the system goes on."""
        self._life += 1
        self._locks.clear()

    def lose_power(self) -> None:
        """The system ends; what was not fsynced is there, in part or not at all."""
        self.kill()
        for done in self._some(self._undone):
            self._apply(self._stable, *done)
        self._undone.clear()
        for inode in {id(inode): inode for inode in (*self._stable.values(), *self._names.values())}.values():
            old, new = len(inode.stable), len(inode.data)
            size = self.random.choice((old, new, self.random.randint(min(old, new), max(old, new))))
            inode.persist(set(self._some(sorted(inode.dirty))), size)
            inode.data[:] = inode.stable
            inode.dirty.clear()
        self._names = dict(self._stable)

    def bytes_of(self, path: Path) -> bytearray:
        """A file's bytes, to look at or to damage; as if they were on the platter."""
        return self._names[_name(path)].data

    def damage(self, path: Path, data: bytes) -> None:
        """Put `data` in place of a file's bytes, on the platter too."""
        inode = self._names[_name(path)]
        inode.data[:] = inode.stable[:] = data
        inode.dirty.clear()

    @property
    def used(self) -> int:
        """Bytes of all files."""
        return sum(len(inode.data) for inode in self._names.values())

    def _some(self, things: list) -> list:  # type: ignore[type-arg]
        how = self.random.randrange(4)
        if how == 0:
            return []
        if how == 1:
            return list(things)
        if how == 2:
            return things[: self.random.randint(0, len(things))]
        return [thing for thing in things if self.random.random() < 0.5]

    # -- acts, for the file objects below

    def _apply(self, names: dict[Name, Inode], what: str, old: Name, new: Name | None, inode: Inode) -> None:
        if what == "link":
            names[old] = inode
            return
        if new is not None:
            names[new] = inode
        if names.get(old) is inode:
            del names[old]

    def _do(self, what: str, old: Name, new: Name | None, inode: Inode) -> None:
        self._apply(self._names, what, old, new, inode)
        self._undone.append((what, old, new, inode))

    def _act(self, life: int) -> bool:
        """Count an act of a living process. Raises Died before it; True when the process dies just after it."""
        if life != self._life:
            raise Died
        self.acts += 1
        left = self.faults.die_after
        if left is None:
            return False
        self.faults.die_after = left - 1
        if left > 0:
            return False
        if self.random.random() < 0.5:
            self.die()
        return True

    def die(self) -> None:
        """The process ends here."""
        self._life += 1
        self._locks.clear()
        raise Died

    def _fails(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability


class DiskFile:
    """See `producers.spool.files.File`."""

    def __init__(self, disk: Disk, life: int, inode: Inode) -> None:
        self._disk = disk
        self._life = life
        self._inode = inode

    def read(self, at: int, size: int) -> bytes:
        if self._life != self._disk._life:
            raise Died
        return bytes(self._inode.data[at : at + size])

    def write(self, at: int, data: bytes) -> None:
        disk = self._disk
        dies = disk._act(self._life)
        room = len(data)
        if disk.faults.capacity is not None:
            grows = max(0, at + len(data) - len(self._inode.data))
            room = min(room, max(0, len(data) - grows + max(0, disk.faults.capacity - disk.used)))
        fails = disk._fails(disk.faults.write)
        if dies or fails:
            room = min(room, disk.random.randint(0, len(data)))
        self._inode.write(at, data[:room])
        if dies:
            disk.die()
        if fails or room < len(data):
            disk.enospc += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def truncate(self, size: int) -> None:
        dies = self._disk._act(self._life)
        if self._disk._fails(self._disk.faults.write):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._inode.truncate(size)
        if dies:
            self._disk.die()

    def size(self) -> int:
        if self._life != self._disk._life:
            raise Died
        return len(self._inode.data)

    def sync(self) -> None:
        disk, inode = self._disk, self._inode
        dies = disk._act(self._life)
        if dies or disk._fails(disk.faults.sync):
            inode.persist(set(disk._some(sorted(inode.dirty))), max(len(inode.stable), len(inode.data)))
            if dies:
                disk.die()
            inode.dirty.clear()  # the pages count as clean from here on
            disk.sync_failures += 1
            code = disk.random.choice((errno.EIO, errno.ENOSPC))
            raise OSError(code, os.strerror(code))
        inode.persist(inode.dirty, len(inode.data))
        inode.dirty.clear()

    def close(self) -> None:
        if self._life != self._disk._life:
            raise Died


class DiskLock:
    """See `producers.spool.files.Lock`."""

    def __init__(self, disk: Disk, life: int, path: Path) -> None:
        self._disk = disk
        self._life = life
        self._path = path

    @property
    def held(self) -> bool:
        return self._life == self._disk._life and self._path in self._disk._locks

    def release(self) -> None:
        if self.held:
            self._disk._locks.discard(self._path)


class DiskFiles:
    """See `producers.spool.files.Files`."""

    def __init__(self, disk: Disk, life: int) -> None:
        self._disk = disk
        self._life = life

    def make_directory(self, directory: Path) -> None:
        self._living()

    def names(self, directory: Path) -> list[str]:
        self._living()
        return sorted(name for folder, name in self._disk._names if folder == str(directory))

    def create(self, path: Path) -> DiskFile:
        dies = self._disk._act(self._life)
        if self._disk._fails(self._disk.faults.create) or (
            self._disk.faults.capacity is not None and self._disk.used >= self._disk.faults.capacity
        ):
            self._disk.enospc += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        old = self._disk._names.get(_name(path))
        if old is not None:
            self._disk._do("unlink", _name(path), None, old)
        inode = Inode()
        self._disk._do("link", _name(path), None, inode)
        if dies:
            self._disk.die()
        return DiskFile(self._disk, self._life, inode)

    def open(self, path: Path) -> DiskFile:
        self._living()
        if _name(path) not in self._disk._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return DiskFile(self._disk, self._life, self._disk._names[_name(path)])

    def rename(self, old: Path, new: Path) -> None:
        dies = self._disk._act(self._life)
        self._disk._do("rename", _name(old), _name(new), self._disk._names[_name(old)])
        if dies:
            self._disk.die()

    def remove(self, path: Path) -> None:
        dies = self._disk._act(self._life)
        if _name(path) not in self._disk._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._disk._do("unlink", _name(path), None, self._disk._names[_name(path)])
        if dies:
            self._disk.die()

    def sync_directory(self, directory: Path) -> None:
        dies = self._disk._act(self._life)
        if self._disk._fails(self._disk.faults.sync_directory):
            self._disk.sync_failures += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._disk._stable = dict(self._disk._names)
        self._disk._undone.clear()
        if dies:
            self._disk.die()

    def lock(self, path: Path) -> DiskLock | None:
        self._living()
        if path in self._disk._locks:
            return None
        self._disk._locks.add(path)
        return DiskLock(self._disk, self._life, path)

    def _living(self) -> None:
        if self._life != self._disk._life:
            raise Died


def _name(path: Path) -> Name:
    return str(path.parent), path.name
