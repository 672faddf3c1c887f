"""The ways around the S3 port: HTTP of filer, master and volume server, gRPC, unix sockets, ports nobody asked for.

SeaweedFS opens most of them by default, and through the filer's a locked object can be deleted without credentials.
Each door is tried against an object under lock, which must still be there; beside each stands a way that works.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import urllib.error
import urllib.request
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from infra import process, seaweed
from infra.places import HOST
from infra.stack import Stack
from tests.conftest import BUCKETS
from tests.test_access import client

BUCKET = BUCKETS[0]
KEY = "contents/doors/locked"
BODY = b"locked" * 20_000  # large enough to lie on the volume server, not inline in the filer's store
SHELL_S = 8.0


@pytest.fixture(scope="module")
def version(stack: Stack) -> str:
    reply = client(stack, "sink-archive").put_object(
        Bucket=BUCKET,
        Key=KEY,
        Body=BODY,
        ChecksumAlgorithm="SHA256",
        ObjectLockMode="COMPLIANCE",
        ObjectLockRetainUntilDate=datetime.now(UTC) + timedelta(days=1),
    )
    return reply["VersionId"]


def assert_untouched(stack: Stack, version: str) -> None:
    reader = client(stack, "reader")
    assert reader.get_object(Bucket=BUCKET, Key=KEY, VersionId=version)["Body"].read() == BODY
    assert reader.get_object(Bucket=BUCKET, Key=KEY)["VersionId"] == version  # and nothing hides it


def status(method: str, port: int, path: str) -> int:
    """The HTTP status of one request without credentials; 0 when the port does not speak HTTP."""
    request = urllib.request.Request(f"http://{HOST}:{port}{path}", method=method, data=b"x" if method != "GET" else None)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def shell(stack: Stack, folder: Path, command: str) -> str:
    """What `weed shell` prints for one command, started in `folder`, whose security.toml it uses if there is one."""
    ports = stack.ports
    words = [seaweed.program(), "shell", f"-master={HOST}:{ports.master}.{ports.master_grpc}"]
    words.append(f"-filer={HOST}:{ports.filer}.{ports.filer_grpc}")
    environment = {**os.environ, "HOME": str(folder)}
    try:
        done = subprocess.run(
            words,
            input=f"{command}\nexit\n",
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SHELL_S,
        )
    except subprocess.TimeoutExpired as error:
        return (error.stdout or b"").decode()
    return done.stdout


FILER_PATHS = (f"/buckets/{BUCKET}/", f"/buckets/{BUCKET}/{KEY}", f"/buckets/{BUCKET}/{KEY}.versions?recursive=true")


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "POST"])
@pytest.mark.parametrize("path", FILER_PATHS)
def test_the_filers_http_port_serves_nothing(stack: Stack, version: str, method: str, path: str) -> None:
    assert status(method, stack.ports.filer, path) == 404
    assert_untouched(stack, version)


@pytest.mark.parametrize(
    "path",
    ["/dir/status", "/dir/assign", "/vol/grow?count=1", "/vol/vacuum", f"/col/delete?collection={BUCKET}", "/submit"],
)
def test_the_masters_http_port_serves_no_command(stack: Stack, version: str, path: str) -> None:
    assert status("GET", stack.ports.master, path) == 404
    assert status("POST", stack.ports.master, path) == 404
    assert_untouched(stack, version)


def test_the_volume_servers_http_port_wants_a_signed_token_to_read_write_or_delete(stack: Stack, version: str) -> None:
    home = stack.places.server(seaweed.NAME)
    stored = shell(stack, home, f"fs.meta.cat /buckets/{BUCKET}/{KEY}.versions/v_{version}")
    found = re.search(r'"fileId":\s*"([^"]+)"', stored)
    assert found, stored  # the shell with the server's own certificates works
    path = f"/{found[1]}"
    assert {method: status(method, stack.ports.volume, path) for method in ("GET", "DELETE", "PUT", "POST")} == {
        "GET": 401,
        "DELETE": 401,
        "PUT": 401,
        "POST": 401,
    }
    for command in ("/ui/index.html", "/stats/disk", "/debug/pprof/", "/admin/delete_collection"):
        assert status("GET", stack.ports.volume, command) in (401, 404)
    assert_untouched(stack, version)


def test_the_shell_without_certificates_sees_nothing(stack: Stack, version: str, tmp_path: Path) -> None:
    listing = f"fs.ls /buckets/{BUCKET}"
    assert "contents" in shell(stack, stack.places.server(seaweed.NAME), listing)
    assert "contents" not in shell(stack, tmp_path, listing)
    shell(stack, tmp_path, f"lock\nfs.rm -r /buckets/{BUCKET}/contents")
    assert_untouched(stack, version)


def test_the_shell_with_a_roles_certificate_sees_nothing(stack: Stack, version: str, tmp_path: Path) -> None:
    tls = stack.places.tls
    lines = ["[grpc]", f'ca = "{stack.places.server(seaweed.NAME)}/grpc/ca.pem"']
    for part in ("master", "volume", "filer", "s3", "client"):
        lines += [f"[grpc.{part}]", f'cert = "{tls}/admin.pem"', f'key = "{tls}/admin.key"']
    (tmp_path / "security.toml").write_text("\n".join(lines))
    assert "contents" not in shell(stack, tmp_path, f"fs.ls /buckets/{BUCKET}")
    assert_untouched(stack, version)


HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
SETTINGS_FRAME = b"\x04"  # the type, fourth byte of what a server of HTTP/2 says first


def hello(connection: socket.socket) -> bytes:
    """What a listener answers to the first words of HTTP/2 without TLS."""
    connection.settimeout(5)
    try:
        connection.sendall(HTTP2_HELLO)
        return connection.recv(64)
    except ConnectionError:
        return b""


@pytest.mark.parametrize("port", ["filer_grpc", "master_grpc", "volume_grpc", "s3_grpc"])
def test_grpc_ports_do_not_talk_without_tls(stack: Stack, port: str) -> None:
    with socket.create_connection((HOST, asdict(stack.ports)[port]), timeout=5) as connection:
        assert hello(connection)[3:4] != SETTINGS_FRAME
    assert stack.status()[1].healthy


def test_the_grpc_sockets_that_the_server_leaves_in_tmp_do_not_talk_without_tls(stack: Stack) -> None:
    numbers = (stack.ports.filer_grpc, stack.ports.master_grpc, stack.ports.volume_grpc, stack.ports.s3_grpc)
    found = [path for number in numbers for path in Path("/tmp").glob(f"seaweedfs-*-grpc-{number}.sock")]
    assert found  # its own parts talk through them; where they lie cannot be set
    for path in found:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            assert hello(connection)[3:4] != SETTINGS_FRAME


def test_the_s3_server_listens_on_its_stated_ports_alone(stack: Stack) -> None:
    own = process.running(stack.places.pid_file(seaweed.NAME))
    assert own is not None
    listening = {entry.laddr for entry in own.net_connections("inet") if entry.status == psutil.CONN_LISTEN}
    ports = asdict(stack.ports)
    stated = {number for name, number in ports.items() if name.split("_")[0] in ("s3", "filer", "master", "volume")}
    assert {address.port for address in listening} == stated  # no Iceberg (8181), no Lance (9101), no IAM, no metrics
    assert {address.ip for address in listening} == {HOST}


def test_the_s3_server_calls_nobody(stack: Stack) -> None:
    own = process.running(stack.places.pid_file(seaweed.NAME))
    assert own is not None
    assert "-master.telemetry=false" in own.cmdline()
    assert {entry.raddr.ip for entry in own.net_connections("inet") if entry.raddr} <= {HOST}


def test_http_sockets_lie_in_a_folder_of_this_user_alone(stack: Stack) -> None:
    own = process.running(stack.places.pid_file(seaweed.NAME))
    assert own is not None
    sockets = {Path(word.partition("=")[2]) for word in own.cmdline() if "localSocket" in word}
    assert len(sockets) == 2
    for path in sockets:
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_bucket_is_closed_to_the_nameless(stack: Stack, version: str) -> None:
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import ClientError

    settings = stack.settings("reader")
    nobody = boto3.client(
        "s3",
        endpoint_url=settings.archive_endpoint,
        verify=str(settings.archive_ca),
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED, s3={"addressing_style": "path"}),
    )
    for act in (
        lambda: nobody.list_objects_v2(Bucket=BUCKET),
        lambda: nobody.get_object(Bucket=BUCKET, Key=KEY),
        lambda: nobody.delete_object(Bucket=BUCKET, Key=KEY),
        lambda: nobody.put_object(Bucket=BUCKET, Key="chains/x", Body=b""),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            act()
    assert_untouched(stack, version)


def test_the_rights_on_disk_name_no_bucket_wide_write() -> None:
    for role, (whole, prefixes) in seaweed.RIGHTS.items():
        if role != "admin":
            assert "Write" not in whole and "Admin" not in whole, role
            assert json.dumps(seaweed.actions(role, ["b"])).count("Write:b/") == len(prefixes)
