"""An analysis on a Dask cluster gives what threads give, bit for bit, whatever becomes of its workers."""

import contextlib
import os
import pickle
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from dask.base import optimize as dask_optimize
from numpy.typing import NDArray

import ipstore
from ipstore import errors
from ipstore.analysis import analyze, analyze_bound, information_plane, scheduling
from ipstore.analysis.estimators import Estimator, Number
from ipstore.analysis.plane import View
from ipstore.analysis.questions import Question
from ipstore.analysis.stored import _at as slab_of
from ipstore.analysis.stored import analyze_all
from ipstore.errors import (
    CorruptionError,
    EstimatorError,
    IpstoreError,
    MissingPackageError,
    StoreNotFoundError,
    UnknownNameError,
    UnreachableError,
    WorkerError,
)
from ipstore.reader import in_tasks, open_stored
from ipstore.schema import StaticArray
from tests.store.synthetic import SAMPLES, make_plan, write_run

EPOCHS = 24

Client = Any  # distributed carries no types


@contextlib.contextmanager
def cluster(workers: int) -> Iterator[Client]:
    """Worker processes of one thread each, and their client, which Dask then uses."""
    distributed: Any = pytest.importorskip("distributed")
    here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    processes = distributed.LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, **here)
    with processes, distributed.Client(processes) as client:
        yield client


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Client]:
    with cluster(2) as client:
        yield client


@pytest.fixture
def client(two_workers: Client) -> Client:
    """Two workers, both there, whatever the last test did to them."""
    two_workers.wait_for_workers(2, timeout=60)
    return two_workers


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    plan = make_plan("codes", shard=8)
    (p,) = [array for array in plan.probe if array.path == "probe/p_y_given_x"]
    p.values[:, 0] = rng.integers(0, 5, SAMPLES) / 4
    p.values[:, 1] = 1 - p.values[:, 0]
    return write_run(tmp_path / "store", plan, EPOCHS)


def by_threads(what: Callable[..., xr.Dataset], *args: Any, **options: Any) -> xr.Dataset:
    with dask.config.set(scheduler="threads"):
        return what(*args, **options).compute()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_is_what_threads_give(run: Path, client: Client) -> None:
    told: list[tuple[int, int]] = []
    options: dict[str, Any] = {"every": 2, "layers": ["layer1"]}
    for what, params in ((analyze, {"bins": [10, 30]}), (analyze_bound, {"tol": 1e-2})):
        found = what(run.parent, run.name, **options, **params, on_progress=lambda *how_far: told.append(how_far))
        again = by_threads(what, run.parent, run.name, **options, **params, again=True)
        xr.testing.assert_equal(found.compute(), again)
        assert told[0] == (0, EPOCHS // 2)
        assert told[-1] == (EPOCHS // 2, EPOCHS // 2)
        assert told == sorted(told)
        told.clear()
    assert not ipstore.verify(run)


def test_workers_find_a_store_that_is_named_from_here(
    run: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent.parent)
    analyze("store", "run", layers=["output"])


@pytest.mark.long
def test_the_split_and_the_networks_own_answer(tmp_path: Path, client: Client) -> None:
    seeds = 3
    train = np.random.default_rng(0).random((seeds, SAMPLES)) < 0.7
    plan = make_plan("full", seeds)
    plan = make_plan("full", seeds, probe=[*plan.probe, StaticArray("probe/train", ("seed", "sample"), train)])
    write_run(tmp_path, plan, 6)
    asked: list[dict[str, Any]] = [{"split": "test"}, {"target": "output"}, {"split": "train", "target": "output"}]
    for options in asked:
        found = analyze(tmp_path, "run", **options).compute()
        lazy = by_threads(information_plane, ipstore.open(tmp_path, run="run"), **options)
        xr.testing.assert_equal(found, lazy)


def test_one_task_for_each_block_and_no_data_on_the_way(tmp_path: Path) -> None:
    plan = make_plan("codes", seeds=40, shard=8)
    stored = open_stored(write_run(tmp_path, plan, 16))
    inquiry = View().inquiry(in_tasks(stored), [Question("binned", {}), Question("binned", {"bins": 10})])
    slab = View().subject(slab_of(stored, range(8, 16)), inquiry.subject)
    answers = inquiry.part(slab, [0, 1]).answers()
    optimize: Any = dask_optimize
    graph = dict(optimize(answers)[0].__dask_graph__())
    blocks, layers, probe = 2 * 40 // 5, 2, 1
    assert len(graph) == blocks + layers + probe
    assert len(pickle.dumps(graph)) < 1024 * blocks + 4096 * (layers + probe)


@pytest.mark.long
def test_damage_is_an_error_there_too(run: Path, client: Client) -> None:
    chunk = run / "activations/layer1/c.1.2.0.0"
    whole = chunk.read_bytes()
    chunk.unlink()
    with pytest.raises(CorruptionError, match="missing or empty"):
        analyze(run.parent, run.name)
    chunk.write_bytes(whole[:50] + bytes([whole[50] ^ 1]) + whole[51:])
    with pytest.raises(CorruptionError, match="checksum does not match"):
        analyze(run.parent, run.name)
    chunk.write_bytes(whole)
    found = analyze(run.parent, run.name)
    xr.testing.assert_equal(found.compute(), by_threads(information_plane, ipstore.open(run)))


# Failures ---------------------------------------------------------------------


def fragile_kernel(
    t: NDArray[Any],
    p_y_given_x: NDArray[np.float64],
    *,
    x_id: Any = None,
    p_x: Any = None,
    at: float = 1e9,
    deadly: float = 1e9,
) -> dict[str, NDArray[np.float64]]:
    mean = t.mean(axis=(-2, -1), dtype=np.float64)
    if (mean == deadly).any():
        os.kill(os.getpid(), signal.SIGKILL)
    if (mean == at).any():
        raise ZeroDivisionError("nothing left to divide by")
    return {"I_XT": mean, "I_TY": mean / 2}


fragile = Estimator(
    "fragile",
    1,
    "estimate",
    "a mean",
    "nowhere",
    fragile_kernel,
    parameters=(Number("at", "where it fails"), Number("deadly", "where its process ends")),
    read_codes=lambda binning, given: (given, None),
)
FRAGILE = f"{__name__}:fragile"


@pytest.mark.long
def test_one_that_fails_does_not_stop_the_others(run: Path, client: Client) -> None:
    means = by_threads(analyze, run.parent, run.name, FRAGILE)["I_XT"]
    at = float(means[-1, 0, 0])  # fails in the last slab
    broken, whole = analyze_all(run.parent, run.name, [(FRAGILE, {"at": at}), "binned"])
    assert isinstance(broken.error, EstimatorError)
    assert "ZeroDivisionError: nothing left to divide by" in str(broken.error)
    assert whole.result is not None
    expected = by_threads(information_plane, ipstore.open(run))
    xr.testing.assert_equal(whole.result.compute(), expected)
    results = [node.to_dataset() for node in ipstore.open(run)["results"].children.values()]
    (kept,) = [result["I_XT"] for result in results if result.attrs["parameters"].get("at") == at]
    stored = kept.notnull().all(["seed", "layer"]).compute()
    assert 0 < stored.sum() < EPOCHS
    xr.testing.assert_equal(kept[stored].compute(), means[stored])


@pytest.mark.parametrize("kind", [each for each in vars(errors).values() if isinstance(each, type)])
def test_an_error_comes_back_as_itself(kind: type[Exception]) -> None:
    if not issubclass(kind, IpstoreError):
        return
    if kind is UnknownNameError:
        error: IpstoreError = UnknownNameError("layer", "lay", ["layer1", "output"], "it is not stored")
    elif kind is EstimatorError:
        error = EstimatorError("binned", 2, "layer 'output'", "ValueError: 3")
    else:
        error = kind("what was given, and what is allowed")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.long
def test_an_interrupted_one_goes_on_where_it_was(run: Path, client: Client) -> None:
    def interrupt(done: int, total: int) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyze(run.parent, run.name, on_progress=interrupt)
    eventually(lambda: not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))
    told: list[int] = []
    found = analyze(run.parent, run.name, on_progress=lambda done, total: told.append(done))
    assert told[0] >= 8
    xr.testing.assert_equal(found.compute(), by_threads(information_plane, ipstore.open(run)))


def killing(client: Client, count: int) -> tuple[Callable[[int, int], None], list[int]]:
    """What ends so many workers without a word as an analysis proceeds, and their processes."""
    left = sorted(client.run(os.getpid).values())[:count]

    def on_progress(done: int, total: int) -> None:
        if left and 8 <= done < total:
            os.kill(left.pop(), signal.SIGKILL)

    return on_progress, left


@pytest.mark.long
def test_a_killed_worker_changes_nothing(run: Path, client: Client) -> None:
    on_progress, left = killing(client, 1)
    found = analyze(run.parent, run.name, on_progress=on_progress)
    assert not left
    xr.testing.assert_equal(found.compute(), by_threads(information_plane, ipstore.open(run)))


@pytest.mark.long
def test_one_worker_of_three_is_enough(run: Path) -> None:
    for _ in range(20 if os.environ.get("IPSTORE_LONG") == "full" else 2):
        with cluster(3) as client:
            client.wait_for_workers(3, timeout=60)
            on_progress, left = killing(client, 2)
            found = analyze(run.parent, run.name, again=True, on_progress=on_progress).compute()
        assert not left
        xr.testing.assert_equal(found, by_threads(information_plane, ipstore.open(run)))


@pytest.mark.long
def test_a_task_that_ends_its_workers_is_given_up(run: Path) -> None:
    deadly = float(by_threads(analyze, run.parent, run.name, FRAGILE)["I_XT"][-1, 0, 0])
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        cluster(1),
        pytest.raises(WorkerError, match="2 workers in turn ended while they had the same task"),
    ):
        analyze(run.parent, run.name, FRAGILE, deadly=deadly)
    stored = [node.to_dataset() for node in ipstore.open(run)["results"].children.values()]
    (kept,) = [each["I_XT"] for each in stored if each.attrs["parameters"]["deadly"] == deadly]
    assert 0 < kept.notnull().all(["seed", "layer"]).sum() < EPOCHS


# What cannot work is refused before it begins ------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "_PATIENCE", 0.5)


@pytest.mark.usefixtures("impatient")
def test_no_scheduler_there() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{one.getsockname()[1]}"
        for each in (address, "gopher://here:70"):
            told = f"no Dask scheduler answers at '{each}'"
            with pytest.raises(UnreachableError, match=told), scheduling.connected(each):
                pass


def current() -> Client | None:
    cluster = scheduling.current_cluster()
    return None if cluster is None else cluster._client


@pytest.mark.usefixtures("impatient")
def test_a_scheduler_that_did_not_answer_is_not_waited_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor while the attempt is still under way, as it can be when patience ends."""
    distributed: Any = pytest.importorskip("distributed")
    before, during = current(), []
    connect = distributed.Client._ensure_connected

    async def watched(client: Client, timeout: float | None = None) -> None:
        during.append(current())
        await connect(client, timeout=timeout)

    monkeypatch.setattr(distributed.Client, "_ensure_connected", watched)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        with (
            pytest.raises(UnreachableError),
            scheduling.connected(f"tcp://127.0.0.1:{one.getsockname()[1]}"),
        ):
            pass
    assert [during, current()] == [[before], before]


def test_distributed_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    told = r"pip install 'ipstore\[distributed\]'"
    with pytest.raises(MissingPackageError, match=told), scheduling.connected("tcp://127.0.0.1:8786"):
        pass


@pytest.mark.long
@pytest.mark.usefixtures("impatient")
def test_no_workers(run: Path) -> None:
    with cluster(0) as client:
        with pytest.raises(UnreachableError, match="has no workers: start some with `dask worker"):
            analyze(run.parent, run.name)
        assert client.status == "running"
    assert "results" not in ipstore.open(run).children


@pytest.mark.long
def test_a_worker_that_does_not_see_the_run(run: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)  # a path that each process sees differently
    with pytest.raises(StoreNotFoundError, match=r"worker tcp://.* does not see the run '/proc/self/cwd/run'"):
        analyze("/proc/self/cwd", "run")


def say_version(version: str) -> str:
    before, scheduling.__version__ = scheduling.__version__, version  # type: ignore[attr-defined]
    return before


@pytest.mark.long
def test_a_worker_of_another_version(run: Path, client: Client) -> None:
    worker = next(iter(client.nthreads()))
    before = client.run(say_version, "0.0.7", workers=[worker])[worker]
    try:
        told = rf"worker {worker} .* has ipstore 0\.0\.7 where we have {ipstore.__version__}"
        with pytest.raises(WorkerError, match=told):
            analyze(run.parent, run.name)
    finally:
        client.run(say_version, before, workers=[worker])
    analyze(run.parent, run.name)


@pytest.mark.long
def test_what_is_stored_needs_no_workers(run: Path) -> None:
    by_threads(analyze, run.parent, run.name)
    with cluster(0):
        analyze(run.parent, run.name)
