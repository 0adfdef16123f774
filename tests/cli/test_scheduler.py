"""``--scheduler``: the same documents, by the workers of a Dask cluster."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipstore.analysis import scheduling
from tests.cli.conftest import ipstore, ipstore_json


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Address of a scheduler with one worker process, which nothing in this process knows of."""
    distributed: Any = pytest.importorskip("distributed")
    here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, **here) as cluster:
        yield cluster.scheduler_address


@pytest.mark.long
def test_analyze(store: Path, scheduler: str) -> None:
    words = ("analyze", store, "--estimator", "binned:bins=10,30", "--estimator", "quantised")
    here = ipstore_json(*words, code=1)
    assert len(here["analyses"]) == 3
    assert [each["kind"] for each in here["failures"]] == ["activation"]
    assert ipstore_json(*words, "--again", "--scheduler", scheduler, code=1) == here


@pytest.mark.long
def test_bound(store: Path, scheduler: str) -> None:
    words = ("bound", store / "rule-tanh", "--layers", "output", "--every", "5", "--tol", "0.01")
    here = ipstore_json(*words)
    assert ipstore_json(*words, "--again", "--scheduler", scheduler) == here


def test_no_scheduler_there(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "_PATIENCE", 0.2)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{one.getsockname()[1]}"
        for command in ("analyze", "bound"):
            error = ipstore_json(command, store, "--scheduler", address, code=1)["error"]
            assert error["kind"] == "unreachable"
            assert f"no Dask scheduler answers at '{address}'" in error["message"]
    assert "the address that `dask scheduler` prints" in ipstore("analyze", store, "--scheduler", "x", code=1).stderr
