"""Stores in an object store and on a web server; the servers are real."""

import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import xarray as xr

import ipstore
from ipstore import remote
from ipstore.analysis import analyze, analyze_bound
from ipstore.errors import (
    CorruptionError,
    ListingError,
    ParameterError,
    RunExistsError,
    RunLockedError,
    StoreNotFoundError,
    StoreWriteError,
    UnknownNameError,
    UnreachableError,
)
from ipstore.format import split_run
from ipstore.places import locate
from ipstore.remote import RemotePlace
from ipstore.state import read_state
from ipstore.trainers import TrainConfig, capture, resume, tasks
from ipstore.writer import RunWriter
from tests.servers import BUCKET, KEY, SECRET, Fault, Line, ObjectServer, free_ports, running
from tests.store.synthetic import array, assert_holds, make_block, make_plan, write_epochs, write_run

FULL = os.environ.get("IPSTORE_LONG") == "full"
CONFIG = TrainConfig(hidden=(3,), epochs=6, batch_size=2048)


def written(url: str, epochs: int = 10) -> RemotePlace:
    """A run that was written at a URL."""
    plan = make_plan()
    writer = RunWriter.create(url, "run", plan, epochs)
    write_epochs(writer, plan, epochs)
    writer.finish("finished")
    writer.close()
    place = locate(url)
    assert isinstance(place, RemotePlace)
    return place / "run"


def impatient(monkeypatch: pytest.MonkeyPatch, seconds: float = 1) -> None:
    """Have requests given up, and leases renewed, sooner than anybody would who is not a test."""
    monkeypatch.setattr(remote, "_ATTEMPT_SECONDS", seconds)
    monkeypatch.setattr(remote, "_RETRY_SECONDS", 1.5 * seconds)
    monkeypatch.setattr(remote, "_LEASE_SECONDS", 6 * seconds)
    monkeypatch.setattr(remote, "_RENEW_SECONDS", seconds / 2)


def after_the_lease(work: Callable[[], Any]) -> Any:
    """Do what is refused until a lease has ended."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return work()
        except RunLockedError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


# The same as in a folder ------------------------------------------------------


@pytest.fixture(params=["s3", pytest.param("s3_moto", marks=pytest.mark.long)])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def test_a_run_is_the_same_bytes_as_in_a_folder(url: str, tmp_path: Path) -> None:
    plan = make_plan()
    for where in (url, tmp_path / "runs.zarr"):
        writer = RunWriter.create(where, "run", plan, 21)
        write_epochs(writer, plan, 10)
        writer.finish("interrupted")
        assert ipstore.runs(where)[0].status == "live"
        writer.close()
        assert ipstore.runs(where)[0].status == "interrupted"
        writer = RunWriter.resume(where, "run")  # in the middle of a shard
        assert writer.state()["parameters"].tolist() == [[seed, 10] for seed in range(3)]
        write_epochs(writer, plan, 21)
        writer.finish("finished")
        writer.close()
        assert_holds(ipstore.open(where, run="run"), plan, 21)
        assert ipstore.verify(locate(where) / "run") == []
    here, there = locate(tmp_path / "runs.zarr"), locate(url)
    apart = {"zarr.json", "run/zarr.json", "run/.lease"}  # which tell the time
    kept = [key for key in here.sizes() if key not in apart and not key.startswith("run/state/")]
    assert len(kept) > 50
    assert {key: here.read(key) for key in kept} == {key: there.read(key) for key in kept}
    assert len(here.sizes()) == len(there.sizes())
    local, remotely = ipstore.runs(here)[0], ipstore.runs(there)[0]
    assert (local.files, local.stored_bytes) == (remotely.files, remotely.stored_bytes)


def test_plain_xarray_and_zarr_read_it(s3: str) -> None:
    from obstore.store import from_url
    from zarr.storage import ObjectStore

    place = written(s3)
    plain = ObjectStore(from_url(str(place), client_options={"allow_http": True}), read_only=True)
    assert_holds(xr.open_datatree(plain, engine="zarr"), make_plan(), 10)  # type: ignore[arg-type]


@pytest.mark.long
def test_a_capture_and_its_analyses_are_what_they_are_in_a_folder(s3: str, tmp_path: Path) -> None:
    planes = []
    for where in (s3, str(tmp_path / "runs.zarr")):
        task = tasks.load("rule", information=0.99)
        capture(task, where, "net", CONFIG, seeds=range(2), processes=0, shard_epochs=4)
        analyze(where, "net", estimator="binned", bins=10)
        analyze_bound(where, "net", tol=1e-2)
        resume(where, "net", epochs=9, processes=0)
        analyze(where, "net", estimator="binned", bins=10)  # grown
        before = analyze_bound(where, "net", tol=1e-2).load()
        again = analyze_bound(where, "net", tol=1e-2, again=True).load()
        xr.testing.assert_equal(before, again)
        assert ipstore.verify(f"{where}/net") == []
        planes.append(ipstore.open(f"{where}/net").load())
    there, here = planes
    assert len(there["results"].children) == 2
    assert there.sizes["epoch"] == 10
    xr.testing.assert_equal(there, here)


def test_a_run_is_replaced_only_if_that_is_said(s3: str) -> None:
    place = written(s3)
    with pytest.raises(RunExistsError, match="'run' exists already"):
        RunWriter.create(s3, "run", make_plan(), 4)
    writer = RunWriter.create(s3, "run", make_plan(), 4, overwrite=True)
    assert ipstore.open(place).sizes["epoch"] == 0
    assert not place.sizes("activations/layer1").keys() - {"activations/layer1/zarr.json"}
    writer.close()


def test_the_path_of_a_store_may_hold_any_letters(s3: str) -> None:
    url = s3.replace("runs.zarr", "ein Ördner/a%20b+c/runs.zarr")
    assert_holds(ipstore.open(written(url)), make_plan(), 10)
    assert split_run(f"{url}/run") == (locate(url), "run")
    assert ipstore.open(url).children.keys() == {"run"}


@pytest.mark.long
def test_a_store_may_be_a_whole_bucket(s3: str, object_server: ObjectServer) -> None:
    bucket = f"b{urlsplit(s3).path.split('/')[1]}"
    object_server.client().create_bucket(Bucket=bucket)
    assert_holds(ipstore.open(written(f"s3://{bucket}")), make_plan(), 10)
    assert split_run(f"s3://{bucket}/run") == (locate(f"s3://{bucket}"), "run")
    assert ipstore.open(f"s3://{bucket}").children.keys() == {"run"}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://key:secret@bucket/runs.zarr", "came with credentials"),
        ("https://host/runs.zarr?X-Amz-Signature=secret", "came with credentials"),
        ("s3://bucket/runs#secret.zarr", "after"),
        ("s3:///runs.zarr", "names no bucket"),
        ("ftp://host/runs.zarr", "got ftp://"),
    ],
)
def test_a_url_that_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ParameterError, match=reason) as error:
        locate(url)
    assert "secret" not in str(error.value)


@pytest.mark.long
def test_what_is_not_there(s3: str, object_server: ObjectServer) -> None:
    with pytest.raises(StoreNotFoundError, match="there is no store"):
        ipstore.open(s3)
    with pytest.raises(UnreachableError, match="404 Not Found"):
        ipstore.open("s3://no-such-bucket/runs.zarr")
    place = written(s3)
    with pytest.raises(UnknownNameError, match="Known: run"):
        ipstore.open(s3, run="ruin")
    tree = ipstore.open(place)
    missing = f"{place.path}/activations/layer1/c.0.1.0.0"
    object_server.client().delete_object(Bucket=BUCKET, Key=missing)
    with pytest.raises(CorruptionError, match="is missing or empty"):
        tree["activations/layer1"].load()
    (damage,) = ipstore.verify(place)
    assert (damage.layer, damage.epochs, damage.seeds) == ("layer1", (0, 1, 2, 3), (10,))


# Several at once --------------------------------------------------------------


@pytest.mark.long
def test_a_live_reader_never_fails(s3: str) -> None:
    plan, seen, ended = make_plan(), [0], threading.Event()
    writer = RunWriter.create(s3, "run", plan, 24)

    def look() -> None:
        while not ended.is_set():
            tree = ipstore.open(s3, run="run")
            assert {tree[each.path].sizes["epoch"] for each in plan.arrays} == {tree.sizes["epoch"]}
            if tree.sizes["epoch"]:
                tree["activations/layer1"].isel(epoch=[0, -1]).load()
            seen.append(tree.sizes["epoch"])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fixture's URL is read in a thread that pytest does not watch
        failed: list[BaseException] = []
        reader = threading.Thread(target=lambda: _noting(look, failed))
        reader.start()
        for stop in range(3, 25, 3):
            write_epochs(writer, plan, stop)
            writer.finish("running")
        ended.set()
        reader.join()
    writer.close()
    assert failed == []
    assert seen == sorted(seen)
    assert len(set(seen)) > 2


def _noting(work: Callable[[], None], failed: list[BaseException]) -> None:
    try:
        work()
    except BaseException as error:
        failed.append(error)


def test_a_second_writer_is_refused(s3: str) -> None:
    writer = RunWriter.create(s3, "run", make_plan(), 4)
    for second in (
        partial(RunWriter.resume, s3, "run"),
        partial(RunWriter.create, s3, "run", make_plan(), 4, overwrite=True),
    ):
        with pytest.raises(RunLockedError, match=r"'run' is being written by process \d+ on .* lease does in 1\d\d s"):
            second()
    RunWriter.create(s3, "other", make_plan(), 4).close()
    writer.close()
    RunWriter.resume(s3, "run").close()


@pytest.mark.long
def test_a_writer_whose_lease_was_taken_changes_nothing(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, 0.6)
    monkeypatch.setattr(remote, "_RENEW_SECONDS", 1000)
    plan = make_plan()
    stalled = RunWriter.create(s3, "run", plan, 8)
    write_epochs(stalled, plan, 2)
    stalled.finish("running")
    taker = after_the_lease(lambda: RunWriter.resume(s3, "run"))
    with pytest.raises(RunLockedError, match="could not be renewed for"):
        stalled.write(make_block(plan, 2, 2))
    monkeypatch.setattr(remote._TimedLease, "check", lambda self: None)  # as if its clock had stood still with it
    with pytest.raises(RunLockedError, match="changed by another writer"):
        stalled.finish("finished")
    write_epochs(taker, plan, 5)
    with pytest.raises(RunLockedError, match="changed by another writer"):
        stalled.finish("finished")
    stalled.close()
    taker.finish("finished")
    taker.close()
    assert_holds(ipstore.open(s3, run="run"), plan, 5)


def test_a_lease_outlives_a_renewal_that_nobody_answered(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    lease = written(s3, 4).lease()
    assert isinstance(lease, remote._TimedLease)
    begun = time.monotonic()
    lease._version = {"e_tag": '"of the renewal before"'}
    while lease._renewed < begun:
        assert time.monotonic() < begun + 10
        time.sleep(0.05)
    lease.check()
    lease.release()
    assert not (locate(s3) / "run").is_leased()


_WRITER = """
import sys
from ipstore import remote
remote._LEASE_SECONDS, remote._RENEW_SECONDS, remote._ATTEMPT_SECONDS, remote._RETRY_SECONDS = 2.0, 0.2, 0.5, 0.5
from ipstore.errors import RunLockedError, StoreWriteError
from ipstore.writer import RunWriter
from tests.store.synthetic import make_block, make_plan

plan = make_plan()
writer = RunWriter.resume(sys.argv[1], "run")
print("ready", flush=True)
try:
    while True:
        start = writer.epochs
        for first in (0, 2):  # so that published epochs lie in shards that are written anew
            writer.write(make_block(plan, start + first, 2))
            writer.finish("running")
            print(writer.epochs, flush=True)  # acknowledged
except (RunLockedError, StoreWriteError) as error:
    print(type(error).__name__, flush=True)
"""


@contextmanager
def writing(url: str) -> "Iterator[subprocess.Popen[str]]":
    """A process that writes on and on, and says which epochs are committed."""
    with subprocess.Popen([sys.executable, "-c", _WRITER, url], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def wait_for_epochs(process: "subprocess.Popen[str]", epochs: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= epochs:
            return


@pytest.mark.long
@pytest.mark.parametrize("times", [8 if FULL else 2])
def test_a_writer_that_was_stopped_for_too_long_harms_nothing(s3: str, times: int) -> None:
    plan, rng = make_plan(), random.Random(9)
    place = written(s3, 3)
    for _ in range(times):
        with writing(s3) as stalled:
            wait_for_epochs(stalled, ipstore.open(place).sizes["epoch"] + 2)
            time.sleep(rng.uniform(0, 0.1))
            stalled.send_signal(signal.SIGSTOP)
            try:
                taker = after_the_lease(lambda: RunWriter.resume(s3, "run"))
                write_epochs(taker, plan, taker.epochs + 3)
                taker.finish("running")
            finally:
                stalled.send_signal(signal.SIGCONT)
            last = stalled.communicate(timeout=30)[0].split()[-1]
            assert last in ("RunLockedError", "StoreWriteError")  # the latter of a request that it was stopped in
        write_epochs(taker, plan, taker.epochs + 3)
        taker.finish("finished")
        taker.close()
        tree = ipstore.open(place)
        assert_holds(tree, plan, tree.sizes["epoch"])
        assert ipstore.verify(place) == []
        commit = tree.attrs["commit"]
        state = read_state(place, commit["state"], commit["state_crc32c"])
        assert state["parameters"][:, 1].tolist() == [tree.sizes["epoch"]] * 3


@pytest.mark.long
@pytest.mark.parametrize("kills", [8 if FULL else 2])
def test_a_kill_tears_nothing_and_loses_nothing(s3: str, kills: int) -> None:
    plan, rng = make_plan(), random.Random(3)
    place = written(s3, 3)
    for _ in range(kills):
        with writing(s3) as process:
            wait_for_epochs(process, ipstore.open(place).sizes["epoch"] + 2)
            time.sleep(rng.uniform(0, 0.3))
            process.kill()
            acknowledged = [int(line) for line in process.communicate()[0].split()]
        tree = ipstore.open(place)
        assert tree.sizes["epoch"] >= max(acknowledged, default=0)
        assert_holds(tree, plan, tree.sizes["epoch"])
        writer = after_the_lease(lambda: RunWriter.resume(s3, "run"))
        writer.close()
    writer = RunWriter.resume(s3, "run")
    stop = writer.epochs + 5
    write_epochs(writer, plan, stop)
    writer.finish("finished")
    writer.close()
    assert_holds(ipstore.open(place), plan, stop)
    assert ipstore.verify(place) == []
    assert len([key for key in place.sizes() if key.startswith("state/")]) == 1


# A bad line -------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4 if FULL else 1))
def test_requests_that_fail_are_made_again(
    s3_line: tuple[str, Line], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    impatient(monkeypatch, 5)
    url, line = s3_line
    rng = random.Random(seed)
    faults: list[Fault] = ["none", "cut", "lost", "unavailable"]
    line.fault = lambda method, path: rng.choices(faults, [17, 1, 1, 1])[0]
    plan = make_plan()
    written(url, 10)
    writer = RunWriter.resume(url, "run")
    write_epochs(writer, plan, 21)
    writer.finish("finished")
    writer.close()
    met = {fault for _, _, fault in line.met}
    assert met == {"none", "cut", "lost", "unavailable"}
    assert_holds(ipstore.open(url, run="run"), plan, 21)
    line.fault = lambda method, path: "none"
    assert ipstore.verify(f"{url}/run") == []


@pytest.mark.parametrize("fault", ["lost", pytest.param("silent", marks=pytest.mark.long)])
def test_a_put_is_recognised_whose_answer_was_lost(
    s3_line: tuple[str, Line], monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    impatient(monkeypatch)
    url, line = s3_line
    plan = make_plan()
    place = written(url, 4)
    writer = RunWriter.resume(url, "run")
    befallen: list[str] = []

    def once_each(method: str, path: str) -> Fault:
        if method != "PUT" or not path.endswith(("/run/zarr.json", "/run/.lease")) or befallen.count(path) == 2:
            return "none"
        befallen.append(path)
        return fault

    line.fault = once_each
    write_epochs(writer, plan, 8)
    deadline = time.monotonic() + 20
    while len(befallen) < 4:  # the lease is renewed all the time
        assert time.monotonic() < deadline
        write_epochs(writer, plan, writer.epochs + 1)
        writer.finish("running")
    epochs = writer.epochs
    writer.finish("finished")
    writer.close()
    assert_holds(ipstore.open(place), plan, epochs)


@pytest.mark.long
def test_a_server_that_stays_away_ends_the_training_in_time(
    s3_line: tuple[str, Line], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    impatient(monkeypatch)
    url, line = s3_line
    task = tasks.load("rule")
    seen = 0

    def away_later(method: str, path: str) -> Fault:
        nonlocal seen
        seen += "activations/layer1/c.1." in path
        return "unavailable" if seen else "none"

    line.fault = away_later
    begun = time.monotonic()
    with pytest.raises(StoreWriteError, match=r"503 Service Unavailable.*it stands as committed, to epoch 3.*--resume"):
        capture(task, url, "net", CONFIG, seeds=range(2), processes=0, shard_epochs=4)
    assert time.monotonic() - begun < 15
    with pytest.raises(UnreachableError, match="503 Service Unavailable"):
        ipstore.open(url, run="net")
    line.fault = lambda method, path: "none"
    assert array(ipstore.open(url, run="net"), "epoch").values.tolist() == [0, 1, 2, 3]
    after_the_lease(lambda: resume(url, "net", processes=0))
    capture(task, tmp_path / "runs.zarr", "net", CONFIG, seeds=range(2), processes=0, shard_epochs=4)
    xr.testing.assert_equal(ipstore.open(url, run="net").load(), ipstore.open(tmp_path / "runs.zarr", run="net").load())


@pytest.mark.long
def test_a_server_that_goes_away_while_reading(s3_line: tuple[str, Line], monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch)
    url, line = s3_line
    place = written(url, 4)
    tree = ipstore.open(place)
    line.fault = lambda method, path: "unavailable" if "/c." in path else "none"
    with pytest.raises(UnreachableError, match="503 Service Unavailable"):
        tree["activations/layer1"].load()
    with pytest.raises(UnreachableError, match="503 Service Unavailable"):
        ipstore.verify(place)  # nobody can say of damage


# Read only --------------------------------------------------------------------


def test_a_run_on_a_web_server(s3: str, object_server: ObjectServer) -> None:
    written(s3)
    web = s3.replace(f"s3://{BUCKET}", object_server.pages)
    for given in ({"store": web, "run": "run"}, {"store": f"{web}/run"}):
        with pytest.warns(UserWarning, match=r"results of 'run' are left out: the web server does not list .* \(405"):
            tree = ipstore.open(**given)
        assert_holds(tree, make_plan(), 10)
    for wanting in (lambda: ipstore.open(web), lambda: ipstore.open(web, run="ruin"), lambda: ipstore.runs(web)):
        with pytest.raises(ListingError, match="name a run that is there"):
            wanting()
    with pytest.raises(StoreNotFoundError, match="there is no store"):
        ipstore.open(f"{web}-not")


@pytest.mark.long
def test_a_web_server_that_lists_gives_results_too(s3: str, object_server: ObjectServer) -> None:
    capture(tasks.load("rule"), s3, "net", CONFIG, seeds=range(2), processes=0)
    analyze(s3, "net", estimator="binned")
    web = s3.replace(f"s3://{BUCKET}", object_server.dav)
    xr.testing.assert_equal(ipstore.open(web).load(), ipstore.open(s3).load())
    assert len(ipstore.runs(web)[0].results) == 1
    assert ipstore.verify(f"{web}/net") == []
    with pytest.raises(UnknownNameError, match="Known: net"):
        ipstore.open(web, run="ruin")
    for writing in (
        lambda: RunWriter.create(f"{web}-other", "net", make_plan(), 4),
        lambda: RunWriter.create(web, "other", make_plan(), 4),
        lambda: RunWriter.create(web, "net", make_plan(), 4, overwrite=True),
        lambda: RunWriter.resume(web, "net"),
        lambda: analyze(web, "net", estimator="binned", bins=3),
    ):
        with pytest.raises(ParameterError, match="can be read, not written"):
            writing()


@pytest.mark.long
def test_a_web_server_that_gives_objects_whole_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    impatient(monkeypatch)
    plan = make_plan(level="codes", shard=32)
    write_run(tmp_path / "runs.zarr", plan, 40)
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path), str(port)]
    with running(command, port, tmp_path / "log"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        tree = ipstore.open(f"http://127.0.0.1:{port}/runs.zarr", run="run")
        assert array(tree, "epoch").values.tolist() == list(range(40))
        with pytest.raises(UnreachableError, match="Range request not supported"):
            tree["activations/layer1"].isel(epoch=39).load()


@pytest.mark.parametrize(
    ("url", "environment"),
    [
        ("s3://bucket/runs.zarr", {"AWS_ENDPOINT_URL": "http://127.0.0.1:{port}", "AWS_SECRET_ACCESS_KEY": "c2VjcmV0"}),
        ("s3://bucket/runs.zarr", {"AWS_ENDPOINT_URL": "http://user:c2VjcmV0@127.0.0.1:{port}"}),
        (
            "gs://bucket/runs.zarr",
            {"GOOGLE_BASE_URL": "http://127.0.0.1:{port}", "GOOGLE_SKIP_SIGNATURE": "true"},
        ),
        (
            "az://container/runs.zarr",
            {"AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:{port}/me", "AZURE_STORAGE_ACCOUNT_KEY": "c2VjcmV0"},
        ),
        (
            "az://container/runs.zarr",
            {"AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:{port}/me", "AZURE_STORAGE_SAS_KEY": "sig=c2VjcmV0"},
        ),
        ("az://container/runs.zarr", {"AZURE_STORAGE_USE_EMULATOR": "true"}),
        ("http://127.0.0.1:{port}/runs.zarr", {}),
    ],
)
def test_nobody_answers(url: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, 0.1)
    (port,) = free_ports(1)
    for name, value in {
        "NO_PROXY": "127.0.0.1",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AZURE_STORAGE_ACCOUNT_NAME": "me",
        "AZURITE_BLOB_STORAGE_URL": "http://127.0.0.1:{port}",
        **environment,
    }.items():
        monkeypatch.setenv(name, value.format(port=port))
    begun = time.monotonic()
    for ask in (ipstore.open, ipstore.runs, lambda url: RunWriter.resume(url, "run")):
        with pytest.raises(UnreachableError) as error:
            ask(url.format(port=port))
        assert "c2VjcmV0" not in str(error.value)
        assert "error sending request" in str(error.value)
    assert time.monotonic() - begun < 10


def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, 0.1)
    (port,) = free_ports(1)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ENDPOINT_URL", "AWS_METADATA_ENDPOINT"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    with pytest.raises(UnreachableError, match=r"no credentials were found .* AWS_ACCESS_KEY_ID and AWS_SECRET"):
        ipstore.open("s3://bucket/runs.zarr")


# Credentials ------------------------------------------------------------------


@pytest.mark.long
def test_credentials_end_up_nowhere(
    s3: str, object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    capture(tasks.load("rule"), s3, "net", CONFIG, seeds=range(2), processes=2)
    analyze(s3, "net", estimator="binned")
    tree = ipstore.open(s3)
    graph = pickle.dumps(dict(tree["net/activations/layer1"].data.__dask_graph__()))
    shown = "".join(map(str, (tree, ipstore.runs(s3), locate(s3), repr(locate(s3)), locate(s3).zarr())))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET}x")
    with pytest.raises(UnreachableError) as error:
        ipstore.open(s3)
    shown += f"{error.value!r} {error.value}"
    objects = object_server.client().list_objects_v2(Bucket=BUCKET, Prefix=urlsplit(s3).path[1:])["Contents"]
    assert len(objects) > 20
    content = [object_server.client().get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read() for each in objects]
    said = "".join(capfd.readouterr())
    for hidden in (KEY, SECRET):
        assert hidden not in shown
        assert hidden not in said
        assert not any(hidden.encode() in each for each in [graph, *content])


@pytest.mark.long
def test_a_pickled_graph_is_computed_elsewhere(s3: str, object_server: ObjectServer) -> None:
    place = written(s3, 4)
    first = array(ipstore.open(place), "activations/layer1")
    code = "import pickle, sys; print(float(pickle.load(sys.stdin.buffer).sum().compute()))"
    lazily = pickle.dumps(first.data)
    done = subprocess.run([sys.executable, "-c", code], input=lazily, capture_output=True, check=True)
    assert float(done.stdout) == pytest.approx(float(first.sum()), rel=1e-6)
