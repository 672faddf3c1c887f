"""The deployment's policy on disk, which may change while processes run.

    setting policy ──► link ──► <link>.versions/<digest>/base.toml, tenants/*.toml

The setting names a symbolic link; `install` writes a version beside it and moves the link in one step, so nobody reads half
a policy. Versions stay: what was sealed under an earlier one may not be archived yet. A folder that is no link, and the
packaged policy, hold one version and are read once.

Not here: what a policy means (`schemas.policy`), and who may load one (`auditor.policy`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from schemas.policy import Policy
from sealtrail.errors import ConfigError
from sealtrail.seal import LogClass

CHECK_S = 1.0  # between two looks at the link
VERSIONS = ".versions"

_LOG = structlog.get_logger("schemas.policy")


class PolicyFiles:
    """The policy in force, and all that were. One thread.

    Args:
        path: setting `policy`; None: the packaged one.
        monotonic: seconds, for the time between two looks.

    Raises:
        ConfigError: what is there now is no policy.
    """

    def __init__(self, path: Path | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._target = _target(path)
        self._look_at = monotonic() + CHECK_S
        self._current = Policy.load(path)
        self._known = [self._current, *self._earlier()]

    @property
    def in_force(self) -> Policy:
        """The one in force when it was last looked at."""
        return self._current

    def current(self) -> Policy:
        """The one in force. One that cannot be read is refused, loudly, and the one before stays in force."""
        now = self._monotonic()
        if now < self._look_at:
            return self._current
        self._look_at = now + CHECK_S
        target = _target(self._path)
        if target == self._target:
            return self._current
        self._target = target
        try:
            found = Policy.load(self._path)
        except (ConfigError, OSError) as error:
            _LOG.error("policy refused; the one before stays in force", reason=str(error))
            return self._current
        self._current = found
        self._known = [found, *(policy for policy in self._known if policy.combined.keys() != found.combined.keys())]
        _LOG.info("policy taken up", policy=found.notes()[1].hex())
        return found

    @property
    def longest_ms(self) -> int:
        """The longest time that any version keeps anything."""
        self.current()
        return max(policy.longest_ms for policy in self._known)

    def has(self, combined: bytes) -> bool:
        """Whether a combined hash is of a version that is known here."""
        self.current()
        return any(combined in policy.combined for policy in self._known)

    def of(self, combined: bytes) -> Policy:
        """The version of a combined hash; the one in force if none here has it."""
        current = self.current()
        return next((policy for policy in self._known if combined in policy.combined), current)

    def lock_mode(self, log_class: LogClass) -> str:
        """The strictest lock mode that any version asks for a class."""
        modes = {policy.lock_mode(log_class) for policy in self._known}
        return "COMPLIANCE" if "COMPLIANCE" in modes else modes.pop()

    def _earlier(self) -> list[Policy]:
        if self._target is None:
            return []
        found = []
        for folder in sorted(self._target.parent.iterdir()):
            if folder != self._target and not folder.name.startswith("."):
                try:
                    found.append(Policy.load(folder))
                except (ConfigError, OSError) as error:
                    _LOG.warning("an earlier policy cannot be read", folder=folder.name, reason=str(error))
        return found


def install(path: Path, policy: Policy, files: Mapping[str, str]) -> None:
    """Put a policy in force at `path`, a link or nothing yet; on disk when this returns. Again: changes nothing.

    Args:
        files: the texts by their place in the folder: base.toml, tenants/<tenant>.toml.

    Raises:
        ConfigError: there is something at `path` that is no link.
    """
    if path.exists() and not path.is_symlink():
        raise ConfigError(f"setting policy: {path} is no link; name one that `sealtrail policy load` may make and move")
    versions = path.with_name(path.name + VERSIONS)
    versions.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256("\n".join(sorted(policy.texts)).encode()).hexdigest()[:32]
    version = versions / name
    if not version.exists():
        made = Path(tempfile.mkdtemp(prefix=".new-", dir=versions))
        try:
            for place, text in files.items():
                (made / place).parent.mkdir(exist_ok=True)
                _write(made / place, text)
            Policy.load(made)
            made.chmod(0o755)
            made.rename(version)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    link = path.with_name(f".{path.name}.{os.getpid()}")
    link.unlink(missing_ok=True)
    link.symlink_to(Path(versions.name) / name)
    link.replace(path)
    _sync(path.parent)


def _target(path: Path | None) -> Path | None:
    if path is None or not path.is_symlink():
        return None
    return path.resolve()


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
