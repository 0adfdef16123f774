"""Processes that write a run are killed, at any moment; nothing is torn, and nothing acknowledged is lost."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

import ipstore
from ipstore.errors import StoreNotFoundError
from ipstore.trainers import TrainConfig, capture, tasks
from ipstore.trainers.streaming import Progress
from ipstore.writer import RunWriter
from tests.faults import injection
from tests.faults.children import (
    DEADLINE,
    RUN,
    Child,
    Outcome,
    Work,
    assert_finished,
    assert_kept,
    assert_swept,
    committed,
)
from tests.faults.conftest import Trials
from tests.faults.live_reader import LiveReader
from tests.faults.phases import PHASES
from tests.store.synthetic import assert_holds, make_block, make_plan
from tests.trainers.test_capture import assert_same

UNENDING = 100_000


def write_on(store: Path, epochs: int, on_progress: Callable[[Progress], None]) -> None:
    """Write a run whose every value is known, two blocks to a commit, up to so many epochs."""
    plan = make_plan()
    try:
        writer = RunWriter.resume(store, RUN)
    except StoreNotFoundError:
        writer = RunWriter.create(store, RUN, plan, epochs)
    while writer.epochs < epochs:
        start = writer.epochs
        for seeds in (slice(0, 2), slice(2, 3)):
            if writer.write(make_block(plan, start, 4, seeds)):
                on_progress(Progress(writer.epochs, epochs, writer.epochs))
    writer.finish("finished")
    writer.close()


@pytest.mark.long
def test_a_killed_writer_has_written_what_it_was_given(tmp_path: Path) -> None:
    rng = random.Random(1703)
    kills = 30 if os.environ.get("IPSTORE_LONG") == "full" else 5
    store = tmp_path / "store"
    reader = None
    for _ in range(kills):
        child = Child(partial(write_on, store, UNENDING))
        if reader is None:
            child.wait_for(4)
            reader = LiveReader(store)
            reader.start()
        assert child.outlives(rng.uniform(0, 0.4))
        child.process.kill()
        assert_kept(store, child.outcome().acknowledged)
    whole = committed(store) + 10 - committed(store) % 4
    assert Child(partial(write_on, store, whole)).outcome().error == ""
    assert reader is not None
    reader.end()
    assert reader.looks > kills
    assert_holds(ipstore.open(store, run=RUN), make_plan(), committed(store))


def any_work(rng: random.Random) -> Work:
    return Work(
        level=rng.choice(["full", "full", "half", "codes", "weights"]),
        hidden=rng.choice([(5, 3), (4,), (6, 5, 4, 3)]),
        seeds=rng.choice([(3, 0, 8), (1,), (9, 2)]),
        shard_epochs=rng.choice([4, 4, 3]),
    )


@pytest.mark.long
def test_a_capture_killed_again_and_again_is_as_if_it_never_was(tmp_path: Path, trials: Trials) -> None:
    for number, rng in enumerate(trials(1, 40)):
        work, store = any_work(rng), tmp_path / str(number)
        acknowledged = 0
        for _ in range(5):
            child = Child(partial(replace(work, epochs=UNENDING).proceed, store))
            if rng.random() < 0.7:
                child.wait_for(committed(store) + rng.randrange(20))
            assert child.outlives(rng.uniform(0, 0.1))
            child.process.kill()
            outcome = child.outcome()
            assert outcome.exitcode == -signal.SIGKILL
            acknowledged = max(acknowledged, outcome.acknowledged)
            assert_kept(store, acknowledged)
        work = replace(work, epochs=committed(store) + rng.randrange(10))
        assert Child(partial(work.proceed, store)).outcome().error == ""
        assert_finished(store, work)
        shutil.rmtree(store)


@pytest.mark.long
def test_a_capture_killed_before_any_call_of_the_file_system(tmp_path: Path, trials: Trials) -> None:
    for number, rng in enumerate(trials(6, 600)):
        phase, store = rng.choice(PHASES), tmp_path / str(number)
        call = phase.any_call(rng)
        print(f"{phase.name}: killed before call {call} of {phase.count_calls()}")
        phase.prepare(store)
        outcome = phase.run(store, call, injection.kill)
        assert outcome.error == ""
        phase.assert_survived(store, outcome)
        shutil.rmtree(store)


@pytest.mark.long
@pytest.mark.parametrize("call", [2, 3, 4])
def test_a_store_can_be_begun_where_one_was_killed_at_its_making(tmp_path: Path, call: int) -> None:
    phase, store = PHASES[0], tmp_path / "store"
    assert phase.run(store, call, injection.kill).exitcode == -signal.SIGKILL
    phase.assert_survived(store, Outcome())


@pytest.mark.long
@pytest.mark.parametrize("kind", ["os.write", "os.rename", "syncfs"])
def test_a_commit_stands_until_the_next_is_published(tmp_path: Path, kind: str) -> None:
    phase, store = PHASES[1], tmp_path / "store"
    phase.prepare(store)
    outcome = phase.run(store, 1, injection.kill, kind)
    assert outcome.exitcode == -signal.SIGKILL
    phase.assert_survived(store, outcome)


@pytest.mark.long
def test_nothing_is_left_of_a_killed_capture(tmp_path: Path, trials: Trials) -> None:
    for number, rng in enumerate(trials(3, 60)):
        phase, store = rng.choice(PHASES), tmp_path / str(number)
        phase.prepare(store)
        phase.run(store, rng.randint(1, phase.count_calls("os.rename")), injection.kill, "os.rename")
        phase.go_on(store)
        assert_swept(store)


def _workers(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


@pytest.mark.long
def test_workers_end_with_the_process_they_train_for(tmp_path: Path, trials: Trials) -> None:
    for number, rng in enumerate(trials(1, 30)):
        work, store = replace(any_work(rng), processes=2, seeds=(3, 0, 8), epochs=UNENDING), tmp_path / str(number)
        child = Child(partial(work.proceed, store))
        started = rng.random() < 0.9
        if started:
            child.wait_for(rng.randrange(1, 24))
        assert child.outlives(rng.uniform(0, 2))
        workers = _workers(child.pid)
        assert workers or not started
        child.process.kill()
        acknowledged = child.outcome().acknowledged
        _, alive = psutil.wait_procs(workers, DEADLINE)
        assert alive == []
        assert_kept(store, acknowledged)
        work = replace(work, epochs=committed(store) + 10, processes=rng.choice([0, 2]))
        assert Child(partial(work.proceed, store)).outcome().error == ""
        assert_finished(store, work)


@pytest.mark.long
def test_a_killed_command_is_resumed_by_the_next(tmp_path: Path, trials: Trials) -> None:
    config = TrainConfig(hidden=(4, 3), epochs=240, batch_size=2048)
    whole = capture(tasks.load("rule"), tmp_path / "whole", RUN, config, seeds=range(2), level="codes", processes=0)
    for number, rng in enumerate(trials(1, 10)):
        store = tmp_path / str(number)
        command = [sys.executable, "-m", "ipstore", "capture", "rule", str(store), "--run", RUN, "--processes", "2"]
        new = ["--hidden=4-3", "--epochs=240", "--batch-size=2048", "--seeds=2", "--level=codes"]
        for kill_after in [*(rng.uniform(0, 12) for _ in range(2)), None]:
            known = (store / RUN).exists()
            process = subprocess.Popen([*command, *(["--resume"] if known else new)], stderr=subprocess.PIPE, text=True)
            try:
                _, errors = process.communicate(timeout=kill_after)
                assert process.returncode == 0, errors
            except subprocess.TimeoutExpired:
                workers = _workers(process.pid)
                process.kill()
                process.communicate()
                assert psutil.wait_procs(workers, DEADLINE)[1] == []
                assert_kept(store, 0)
        assert_same(whole, ipstore.open(store, run=RUN))


def test_a_killed_writer_leaves_no_lease(tmp_path: Path) -> None:
    store = tmp_path / "store"
    child = Child(partial(write_on, store, UNENDING))
    child.wait_for(4)
    assert ipstore.runs(store)[0].status == "live"
    child.process.kill()
    child.outcome()
    assert ipstore.runs(store)[0].status == "stopped"
