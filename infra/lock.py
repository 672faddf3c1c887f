"""The one lock file: wheels by hash, as pip reads them, and the other artifacts as comment lines beside them.

    # artifact maven org.apache.kafka:kafka-clients:4.3.1:jar sha256:<64 hex>
    # artifact npm @octokit/webhooks-examples@7.6.1 sha256:<64 hex>

A Maven coordinate may end in a classifier: `group:name:version:jar:linux-x86_64`.

pip ignores the comments, so the file stays a plain `--require-hashes` requirements file. `python -m infra.lock` (that
is `make lock`) makes it anew: the wheels for every platform through uv in a throw-away environment, the jars by
resolving Kafka's own dependency list and hashing what comes. It holds no address of any registry.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

from sealtrail.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
LOCK_FILE = ROOT / "requirements.lock"
LOCK_TOOL = "uv==0.13.9"  # makes the file for all platforms at once, which pip cannot

# One endpoint at a time: resolved together, Maven's rules mix the versions of two Kafka releases.
KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
EXTRA_MAVEN = (
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4:jar",  # without it Kafka logs nothing
    "org.opensearch.distribution.integ-test-zip:opensearch:3.6.0:zip",
)
NPM = ("@octokit/webhooks-examples@7.6.1",)

_LINE = re.compile(r"^# artifact (maven|npm) (\S+) sha256:([0-9a-f]{64})$")
_MAVEN = re.compile(r"^[\w.-]+:[\w.-]+:[\w.-]+:(jar|zip)(:[\w.-]+)?$")
_NPM = re.compile(r"^(@[\w.-]+/)?[\w.-]+@[\w.-]+$")


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file from a registry other than Python's: `registry` is maven or npm, `sha256` is of the whole file."""

    registry: str
    coordinate: str
    sha256: bytes

    @property
    def file_name(self) -> str:
        """The name that the file has in the cache."""
        if self.registry == "npm":
            name, _, version = self.coordinate.rpartition("@")
            return f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
        _, artifact, version, packaging, *classifier = self.coordinate.split(":")
        return f"{'-'.join((artifact, version, *classifier))}.{packaging}"

    def line(self) -> str:
        """The artifact as the lock file states it."""
        return f"# artifact {self.registry} {self.coordinate} sha256:{self.sha256.hex()}"


def parse(text: str) -> tuple[Artifact, ...]:
    """The artifacts that a lock file names, in its order. Raises ConfigError on a line that cannot be understood."""
    artifacts = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("# artifact"):
            continue
        match = _LINE.match(line)
        if not match or not (_NPM if match[1] == "npm" else _MAVEN).match(match[2]):
            raise ConfigError(f"{LOCK_FILE.name}:{number}: not an artifact line")
        artifacts.append(Artifact(registry=match[1], coordinate=match[2], sha256=bytes.fromhex(match[3])))
    if len({artifact.coordinate for artifact in artifacts}) != len(artifacts):
        raise ConfigError(f"{LOCK_FILE.name}: an artifact is named twice")
    return tuple(artifacts)


def load(path: Path = LOCK_FILE) -> tuple[Artifact, ...]:
    """The artifacts of the lock file at `path`. Raises ConfigError when there is no such file."""
    try:
        return parse(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"no lock file at {path}") from None


def _hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _resolve_maven(cache: Path) -> list[Artifact]:
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=cache, timeout=60)
    roots, transitive = context.resolver.resolve([context.create_dependency(KAFKA)])
    found = [dependency.artifact for dependency in (*roots, *transitive)]
    for coordinate in EXTRA_MAVEN:
        group, name, version, packaging = coordinate.split(":")
        found.append(context.project(group, name).at_version(version).artifact(packaging=packaging))
    artifacts = []
    for artifact in found:
        path = artifact.resolve()
        coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}:{artifact.packaging}"
        artifacts.append(Artifact("maven", coordinate, _hash(path)))
    return sorted(set(artifacts), key=lambda artifact: artifact.coordinate)


def _resolve_npm(folder: Path) -> list[Artifact]:
    from infra.artifacts import npm_pack

    return [Artifact("npm", coordinate, _hash(npm_pack(coordinate, folder))) for coordinate in NPM]


def _resolve_wheels(folder: Path) -> str:
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    subprocess.run([programs / "python", "-m", "pip", "install", "--quiet", LOCK_TOOL], check=True)
    command = [
        str(programs / "uv"),
        "pip",
        "compile",
        "pyproject.toml",
        "--all-extras",
        "--universal",
        "--generate-hashes",
    ]
    command += ["--python-version", "3.11", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return done.stdout


def remake(path: Path = LOCK_FILE) -> None:
    """Write the lock file anew from pyproject.toml and the constants above. Needs the registries."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "npm").mkdir()
        artifacts = [*_resolve_maven(folder / "maven"), *_resolve_npm(folder / "npm")]
        wheels = _resolve_wheels(folder / "venv")
    head = "# Made by `make lock`. Wheels by hash; other artifacts as the comment lines below, checked on every `up`.\n"
    path.write_text(head + "".join(artifact.line() + "\n" for artifact in artifacts) + "\n" + wheels)


if __name__ == "__main__":
    remake()
    print(f"{LOCK_FILE.name}: {len(load())} artifacts beside the wheels", file=sys.stderr)
