"""Analyses are done beside the server, one after the other; whatever becomes of one, the next is done."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import ipstore
from ipstore.analysis import analyze, information_plane
from ipstore.analysis.service.following import Following
from ipstore.analysis.service.jobs import Job, Jobs
from ipstore.errors import ActivationError, ParameterError, StoreNotFoundError, UnknownNameError
from ipstore.writer import RunWriter
from tests.service import waiting
from tests.store.synthetic import make_block, make_plan, write_epochs, write_run

eventually = partial(waiting.eventually, seconds=200)

ROOT = Path(__file__).parents[2]
PLAN = make_plan("half", shard=8)
OURS = "tests.service.estimators"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_run(tmp_path / "runs.zarr", PLAN, 20)
    return tmp_path / "runs.zarr"


@pytest.fixture
def jobs(store: Path) -> Iterator[Jobs]:
    jobs = Jobs(store)
    yield jobs
    workers = own_workers()
    jobs.close()
    assert not [worker for worker in workers if worker.is_running()], "a worker was left behind"


@pytest.fixture
def gates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files in it let `waits` go on."""
    folder = tmp_path / "gates"
    folder.mkdir()
    monkeypatch.setenv("TEST_GATES", str(folder))
    return folder


def own_workers(of: int | None = None) -> list[psutil.Process]:
    children = psutil.Process(of).children(recursive=True)
    return [child for child in children if any("worker_main" in word for word in child.cmdline())]


def now(jobs: Jobs, job: Job) -> Job:
    return next(each for each in jobs.all() if each.id == job.id)


def reach(jobs: Jobs, job: Job, *states: str) -> Job:
    eventually(lambda: now(jobs, job).state in (states or ("finished", "failed", "cancelled")))
    return now(jobs, job)


def test_it_does_what_analyze_does(store: Path, jobs: Jobs) -> None:
    heard: list[Job] = []
    jobs.subscribe(heard.append)
    job = jobs.ask("run", parameters={"bins": 10})
    assert (job.run, job.question, job.about, job.state) == ("run", "binned:bins=10", "information", "waiting")
    assert [job.started, job.ended, job.result, job.message] == [None] * 4
    over = reach(jobs, job)
    assert (over.state, over.message) == ("finished", None)
    assert (over.done, over.total) == (20, 20)
    assert over.created <= (over.started or over.created) <= (over.ended or over.created)
    tree = ipstore.open(store, run="run")
    stored = tree[f"results/{over.result}"].to_dataset().compute()
    assert stored.equals(information_plane(tree, bins=10).compute())
    eventually(lambda: heard[-1] == over)
    assert [each.state for each in heard][:2] == ["waiting", "running"]
    assert all(earlier.done <= later.done for earlier, later in pairwise(heard))


REFUSED = {
    "run": (("other",), {}, UnknownNameError, "no run 'other'"),
    "estimator": (("run", "bined"), {}, UnknownNameError, "Did you mean 'binned'"),
    "parameter": (("run",), {"parameters": {"bin": 3}}, ParameterError, "has no parameter 'bin'"),
    "value": (("run",), {"parameters": {"bins": 0}}, ParameterError, "bins must be an integer in"),
    "contradiction": (("run",), {"parameters": {"bins": 5, "width": 0.1}}, ParameterError, "width"),
    "grid": (("run",), {"parameters": {"bins": [3, 4]}}, ParameterError, "ask once for each"),
    "layer": (("run",), {"layers": ["layer9"]}, UnknownNameError, "no layer 'layer9'"),
    "no layer": (("run",), {"layers": []}, ParameterError, "layers must name"),
    "every": (("run",), {"every": 0}, ParameterError, "every must be a number of epochs"),
    "split": (("run",), {"split": "some"}, ParameterError, "split must be one of"),
    "no split": (("run",), {"split": "train"}, ParameterError, "does not say on which samples"),
    "target": (("run",), {"target": "x"}, ParameterError, "target must be one of"),
    "about": (("run",), {"about": "else"}, ParameterError, "about must be one of"),
    "bound of what has no values": (("run", "kde_upper"), {"about": "bound"}, ParameterError, "discrete"),
    "bound of a split": (("run",), {"about": "bound", "split": "train"}, ParameterError, "split must be 'all'"),
    "codes": (("codes", "knn"), {}, ActivationError, "needs activations"),
    "empty": (("empty",), {}, ParameterError, "no committed epoch"),
    "path": (("../runs.zarr",), {}, ParameterError, "run"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_asked_is_refused_before_anything_begins(store: Path, jobs: Jobs, case: str) -> None:
    write_run(store, make_plan("codes"), 4, run="codes")
    RunWriter.create(store, "empty", PLAN, 4).close()
    words, options, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        jobs.ask(*words, **options)  # type: ignore[arg-type]
    assert not jobs.all()
    assert not own_workers()


def test_no_store_there(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "runs.zarr")
    with pytest.raises(StoreNotFoundError):
        jobs.ask("run")
    jobs.close()
    with pytest.raises(ParameterError, match="workers must be"):
        Jobs(tmp_path / "runs.zarr", workers=0)


def test_nothing_is_asked_of_a_server_that_ends(store: Path) -> None:
    jobs = Jobs(store)
    jobs.close()
    jobs.close()
    with pytest.raises(ParameterError, match="the server is ending"):
        jobs.ask("run")


@pytest.mark.long
def test_one_after_the_other_in_one_process(jobs: Jobs, gates: Path) -> None:
    first = jobs.ask("run", f"{OURS}:waiting", parameters={"gate": 1})
    second, third = (jobs.ask("run", parameters={"bins": bins}) for bins in (5, 6))
    reach(jobs, first, "running")
    (worker,) = own_workers()
    assert [each.id for each in jobs.all()] == [third.id, second.id, first.id]
    assert now(jobs, second).state == now(jobs, third).state == "waiting"
    (gates / "1").touch()
    times = [reach(jobs, job) for job in (first, second, third)]
    assert [job.state for job in times] == ["finished"] * 3
    assert [job.started for job in times] == sorted(job.started for job in times if job.started)
    assert own_workers() == [worker]


@pytest.mark.long
def test_the_same_question_is_asked_once(jobs: Jobs, gates: Path) -> None:
    first = jobs.ask("run", f"{OURS}:waiting", parameters={"gate": 1})
    assert jobs.ask("run", f"{OURS}:waiting", parameters={"gate": 1}).id == first.id
    binned = jobs.ask("run")
    assert jobs.ask("run", parameters={"bins": 30}).id == binned.id, "that is the default"
    assert jobs.ask("run", layers=["layer1", "output"]).id == binned.id, "these are all"
    others: list[dict[str, Any]] = [
        {"parameters": {"bins": 20}},
        {"every": 2},
        {"layers": ["output"]},
        {"about": "bound"},
    ]
    assert len({binned.id, *(jobs.ask("run", **other).id for other in others)}) == 5
    (gates / "1").touch()
    reach(jobs, binned)
    assert jobs.ask("run").id != binned.id, "what is over can be asked again"


@pytest.mark.long
def test_the_bound(store: Path, jobs: Jobs) -> None:
    (job,) = [jobs.ask("run", about="bound", every=10, parameters={"tol": None})]
    over = reach(jobs, job)
    assert over.state == "finished", over.message
    assert over.question == "binned:tol=none"
    assert "residual" in ipstore.open(store, run="run")[f"results/{over.result}"]


FATES = {
    "raising": "RuntimeError: of an estimator",
    "exiting": "SystemExit: 7",
    "vanishing": "its process ended with exit code 7",
    "crashing": "its process ended with signal 11 (SIGSEGV)",
    "missing": "has no attribute 'missing'",
    "Values": "an estimator must be an Estimator",
}


@pytest.mark.long
def test_one_that_fails_does_not_stop_the_others(jobs: Jobs, caplog: pytest.LogCaptureFixture) -> None:
    asked = {name: jobs.ask("run", f"{OURS}:{name}") for name in FATES}
    asked["seeing"] = jobs.ask("run", f"{OURS}:seeing", parameters={"shift": "much"})
    asked["absent"] = jobs.ask("run", "tests.absent:estimator")
    last = jobs.ask("run")
    with caplog.at_level(logging.ERROR):
        assert reach(jobs, last).state == "finished"
    for name, job in asked.items():
        over = now(jobs, job)
        assert over.state == "failed", name
        assert over.message is not None
        assert FATES.get(name, "shift must be" if name == "seeing" else "no estimator") in over.message
        assert "Traceback" not in over.message
    assert 'raise RuntimeError("of an\\nestimator")' in caplog.text, "the server's log says where"


@pytest.mark.long
def test_cancelling(store: Path, jobs: Jobs, gates: Path) -> None:
    running = jobs.ask("run", f"{OURS}:waiting", parameters={"gate": 1})
    waiting = jobs.ask("run")
    reach(jobs, running, "running")
    assert jobs.cancel(waiting.id).state == "cancelled"
    (worker,) = own_workers()
    assert jobs.cancel(running.id).state == "cancelled"
    eventually(lambda: not worker.is_running())
    with pytest.raises(ParameterError, match="was cancelled already"):
        jobs.cancel(running.id)
    with pytest.raises(UnknownNameError, match="no analysis 'nonsense'"):
        jobs.cancel("nonsense")
    over = reach(jobs, jobs.ask("run"))
    assert over.state == "finished"
    assert now(jobs, waiting).started is None
    with pytest.raises(ParameterError, match="has finished already"):
        jobs.cancel(over.id)
    analyze(store, "run", bins=4)  # no lease is held


@pytest.mark.long
@pytest.mark.parametrize("kind", ["hanging", "hogging"])
def test_one_that_hangs_can_be_cancelled(jobs: Jobs, kind: str) -> None:
    job = jobs.ask("run", f"{OURS}:{kind}")
    eventually(lambda: now(jobs, job).total == 20)
    jobs.cancel(job.id)
    assert reach(jobs, jobs.ask("run")).state == "finished"


@pytest.mark.long
def test_what_was_stored_stays_and_is_gone_on_from(store: Path, jobs: Jobs) -> None:
    job = jobs.ask("run", f"{OURS}:stepping")
    eventually(lambda: now(jobs, job).done >= 2)
    jobs.cancel(job.id)
    again = jobs.ask("run", f"{OURS}:stepping")
    heard: list[Job] = []
    jobs.subscribe(heard.append)
    over = reach(jobs, again)
    assert over.state == "finished", over.message
    assert min(each.done for each in heard if each.id == again.id and each.total) >= 2
    assert not ipstore.verify(store / "run")


@pytest.mark.long
def test_a_worker_that_was_killed_between_two_jobs(jobs: Jobs) -> None:
    reach(jobs, jobs.ask("run"))
    (worker,) = own_workers()
    worker.kill()
    eventually(lambda: worker.status() == psutil.STATUS_ZOMBIE)
    assert reach(jobs, jobs.ask("run", parameters={"bins": 4})).state == "finished"


@pytest.mark.long
def test_a_worker_gives_way_and_has_few_threads(store: Path, jobs: Jobs) -> None:
    over = reach(jobs, jobs.ask("run", f"{OURS}:seeing", parameters={"shift": 0.25}))
    assert over.question == f"{OURS}:seeing:shift=0.25"
    plane = ipstore.open(store, run="run")[f"results/{over.result}"]
    assert (plane["I_XT"] == 100 + os.nice(0) + 5 + 0.25).all()


@pytest.mark.long
def test_a_plugin_by_its_entry_point(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = tmp_path / "site" / "elsewhere-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[ipstore.estimators]\nelsewhere = elsewhere:made\n")
    (tmp_path / "site" / "elsewhere.py").write_text("from tests.service.estimators import seeing as made\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    jobs = Jobs(store)
    over = reach(jobs, jobs.ask("run", "elsewhere"))
    jobs.close()
    assert over.state == "finished", over.message
    assert "elsewhere" not in sys.modules, "its code is run by the worker alone"


@pytest.mark.long
def test_cells_without_an_estimate_are_spoken_of(store: Path, jobs: Jobs) -> None:
    writer = RunWriter.create(store, "lost", PLAN, 8)
    block = make_block(PLAN, 0, 8)
    block.arrays["activations/layer1"][2, 1] = np.nan
    writer.write(block)
    writer.finish("finished")
    writer.close()
    over = reach(jobs, jobs.ask("lost"))
    assert over.state == "finished"
    assert over.result is not None
    assert "NaN or infinite activations in layer 'layer1' at epoch 2, seed 10" in (over.message or "")


@pytest.mark.long
def test_a_run_in_parts(store: Path, jobs: Jobs) -> None:
    for part, seeds in (("a", [1, 2]), ("b", [3])):
        plan = replace(PLAN, seeds=seeds, attrs={**PLAN.attrs, "part_of": "joint"})
        write_run(store, plan, 8, run=f"joint+{part}")
    over = reach(jobs, jobs.ask("joint"))
    assert (over.state, over.done, over.total) == ("finished", 16, 16), over.message
    assert over.result in ipstore.open(store, run="joint")["results"].children


@pytest.mark.long
def test_a_live_run_is_followed_to_its_end(store: Path, jobs: Jobs) -> None:
    following = Following(store, every=0.1)
    following.subscribe(lambda change: jobs.run_changed(change.changed | change.gone))
    writer = RunWriter.resume(store, "run")
    following.look()
    job = jobs.ask("run")
    assert jobs.ask("run", follow=True).id == job.id
    eventually(lambda: now(jobs, job).state == "following" and now(jobs, job).total == 20)
    for epochs in (24, 32):
        write_epochs(writer, PLAN, epochs)
        eventually(lambda: now(jobs, job).state == "following" and now(jobs, job).done == epochs)  # noqa: B023  (at once)
    write_epochs(writer, PLAN, 40)
    writer.finish("finished")
    writer.close()
    over = reach(jobs, job)
    assert (over.state, over.done, over.total) == ("finished", 40, 40)
    assert len(jobs.all()) == 1
    following.close()


@pytest.mark.long
def test_a_followed_run_that_grows_again_and_again_waits_its_turn_once(store: Path, jobs: Jobs, gates: Path) -> None:
    writer = RunWriter.resume(store, "run")
    job = jobs.ask("run", follow=True)
    reach(jobs, job, "following")
    other = jobs.ask("run", f"{OURS}:waiting", parameters={"gate": 1})
    reach(jobs, other, "running")
    for _ in range(3):
        jobs.run_changed({"run"})
    assert [entry.job.id for entry in jobs._queue] == [job.id]
    writer.close()
    (gates / "1").touch()
    assert reach(jobs, job).state == "finished"


@pytest.mark.long
def test_a_followed_run_that_goes_away_and_one_that_is_left(store: Path, jobs: Jobs) -> None:
    writer = RunWriter.resume(store, "run")
    left = jobs.ask("run", parameters={"bins": 4}, follow=True)
    job = jobs.ask("run", follow=True)
    reach(jobs, job, "following")
    reach(jobs, left, "following")
    assert jobs.cancel(left.id).state == "cancelled"
    os.rename(store / "run", store / "away")
    jobs.run_changed({"run"})
    over = reach(jobs, job)
    assert over.state == "failed"
    assert "no run 'run'" in (over.message or "")
    assert now(jobs, left).state == "cancelled"
    writer.close()


@pytest.mark.long
def test_one_that_is_told_and_fails_keeps_nobody_else_from_hearing(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(job: Job) -> None:
        raise RuntimeError("of a view")

    heard: list[Job] = []
    jobs.subscribe(fail)
    leave = jobs.subscribe(heard.append)
    job = jobs.ask("run")
    over = reach(jobs, job)
    eventually(lambda: over in heard)
    assert "of a view" in caplog.text
    leave()
    heard.clear()
    reach(jobs, jobs.ask("run"))
    jobs.close()
    assert not heard


def test_only_the_last_that_are_over_are_told_of(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipstore.analysis.service.jobs._KEPT", 3)
    jobs = Jobs(store)
    monkeypatch.setattr(jobs, "_enqueue", jobs._queue.append)  # nobody works
    for bins in range(2, 9):
        jobs.cancel(jobs.ask("run", parameters={"bins": bins}).id)
    kept = [jobs.ask("run", parameters={"bins": bins}) for bins in range(2, 8)]
    assert [each.id for each in jobs.all()[:6]] == [each.id for each in reversed(kept)]
    assert [each.question for each in jobs.all()[6:]] == ["binned:bins=8", "binned:bins=7", "binned:bins=6"]
    jobs.close()


# The end of the server ----------------------------------------------------------

ALONE = """
    import sys, time
    from ipstore.analysis.service.jobs import Jobs

    if __name__ != "__main__":
        sys.exit("the script was run again")
    jobs = Jobs(sys.argv[1])
    jobs.ask("run", "variational", parameters={"steps": 5}, every=10, layers=["output"])
    deadline = time.monotonic() + 120
    while not jobs.all()[0].is_over and time.monotonic() < deadline:
        time.sleep(0.05)
    jobs.close()
    print(jobs.all()[0].state, jobs.all()[0].message, "torch" in sys.modules)
"""

SERVER = """
    import sys, threading
    from ipstore.analysis.service.jobs import Jobs

    jobs = Jobs(sys.argv[1])
    jobs.ask("run", sys.argv[2])
    threading.Event().wait()
"""


@pytest.mark.long
def test_torch_is_loaded_by_the_worker_alone(store: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    script = tmp_path / "alone.py"
    script.write_text(textwrap.dedent(ALONE))
    done = subprocess.run(
        [sys.executable, str(script), str(store)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["finished", "None", "False"], done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.parametrize("kind", ["hanging", "hogging"])
def test_no_worker_outlives_a_server_that_is_killed(store: Path, tmp_path: Path, kind: str) -> None:
    script = tmp_path / "server.py"
    script.write_text(textwrap.dedent(SERVER))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen([sys.executable, str(script), str(store), f"{OURS}:{kind}"], env=environment)
    try:
        eventually(lambda: list(store.glob("run/results/*/zarr.json")))  # it is under way
        (worker,) = own_workers(server.pid)
        server.send_signal(signal.SIGKILL)
        server.wait()
        eventually(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, seconds=20)
    finally:
        server.kill()
        server.wait()
    assert analyze(store, "run", bins=4) is not None


@pytest.mark.long
def test_closing_ends_what_is_under_way(store: Path) -> None:
    jobs = Jobs(store)
    job, other = jobs.ask("run", f"{OURS}:hanging"), jobs.ask("run")
    eventually(lambda: now(jobs, job).total == 20)
    (worker,) = own_workers()
    jobs.close()
    assert not worker.is_running()
    assert now(jobs, job).state == now(jobs, other).state == "cancelled"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ipstore-jobs")]
