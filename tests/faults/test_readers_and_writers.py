"""Readers and writers at once: a reader never fails, a second writer is refused, two runs do not meet."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import ipstore
from ipstore.errors import RunLockedError
from ipstore.levels import Level
from tests.faults.children import RUN, Child, Work, assert_finished, assert_kept, committed
from tests.faults.conftest import Trials
from tests.faults.live_reader import LiveReader

LEVELS: list[Level] = ["codes", "full", "weights"]

UNENDING = 100_000


@pytest.mark.long
def test_a_reader_sees_a_whole_run_at_every_moment(tmp_path: Path, trials: Trials) -> None:
    for number, rng in enumerate(trials(1, 10)):
        store = tmp_path / str(number)
        work = Work(level=rng.choice(LEVELS), shard_epochs=8)
        reader = None
        for _ in range(5):
            child = Child(partial(replace(work, epochs=UNENDING).proceed, store))
            child.wait_for(committed(store) + 1)
            if reader is None:
                reader = LiveReader(store)
                reader.start()
            child.outlives(rng.uniform(0, 1))
            os.kill(child.pid, signal.SIGINT)
            outcome = child.outcome()
            assert outcome.error == "KeyboardInterrupt", outcome
            assert ipstore.runs(store)[0].status == "interrupted"
            assert_kept(store, outcome.acknowledged)
        ended = replace(work, epochs=committed(store) + 20)
        assert Child(partial(ended.proceed, store)).outcome().error == ""
        assert reader is not None
        reader.end()
        assert reader.looks > 5
        assert_finished(store, ended)


def test_a_second_writer_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    work, store = Work(), tmp_path / "store"
    first = Child(partial(replace(work, epochs=UNENDING).proceed, store))
    first.wait_for(8)
    for second in (work.proceed, partial(work.capture, overwrite=True)):
        with pytest.raises(RunLockedError, match=rf"'{RUN}' is being written by process {first.pid} on "):
            second(store)
    assert ipstore.runs(store)[0].status == "live"
    os.kill(first.pid, signal.SIGINT)
    assert first.outcome().error == "KeyboardInterrupt"
    longer = replace(work, epochs=committed(store) + 3)
    longer.proceed(store)
    assert_finished(store, longer)


@pytest.mark.long
def test_a_second_command_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = Child(partial(Work(epochs=UNENDING).proceed, store))
    first.wait_for(8)
    command = [sys.executable, "-m", "ipstore", "capture", "rule", str(store), "--run", RUN, "--processes=0"]
    second = subprocess.run([*command, "--overwrite"], capture_output=True, text=True)
    assert second.returncode == 1
    assert f"is being written by process {first.pid} on " in second.stderr
    first.process.kill()
    assert_kept(store, first.outcome().acknowledged)


@pytest.mark.long
def test_two_runs_are_written_into_one_new_store_at_once(tmp_path: Path, trials: Trials) -> None:
    for number, rng in enumerate(trials(2, 40)):
        store = tmp_path / str(number)
        works = [Work(epochs=16, run="one"), Work(epochs=16, run="two", level=rng.choice(["full", "codes"]))]
        children = [Child(partial(work.proceed, store)) for work in works]
        assert [child.outcome().error for child in children] == ["", ""]
        assert [run.name for run in ipstore.runs(store)] == ["one", "two"]
        for work in works:
            assert_finished(store, work)
