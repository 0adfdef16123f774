"""The power fails: what the file system had not written is gone, and what was acknowledged is not."""

import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import ipstore
from ipstore.errors import CorruptionError
from tests.faults import injection
from tests.faults.children import RUN, Child, Work, assert_finished, assert_kept
from tests.faults.conftest import Trials
from tests.faults.disks import Disk, cut_power
from tests.faults.phases import PHASES

MakeDisk = Callable[..., Disk]

WORK = Work(epochs=80)


def after_the_cut(disk: Disk) -> None:
    disk.unmount()
    disk.mount()


@pytest.mark.long
def test_the_power_fails_before_any_call_of_the_file_system(make_disk: MakeDisk, trials: Trials) -> None:
    disk = make_disk()
    for number, rng in enumerate(trials(5, 300)):
        phase, store = rng.choice(PHASES), disk.root / str(number)
        call = phase.any_call(rng)
        print(f"{phase.name}: the power fails before call {call} of {phase.count_calls()}")
        phase.prepare(store)
        disk.sync()  # what was there before the phase is not what is tried
        outcome = phase.run(store, call, partial(cut_power, disk.root))
        after_the_cut(disk)
        if outcome.error not in ("StoreWriteError", ""):  # all was written, and then could not be read
            assert outcome.error == "OSError", outcome
            assert ipstore.open(store, run=RUN).attrs["status"] == "finished", outcome
        phase.assert_survived(store, outcome)
        shutil.rmtree(store)


@pytest.mark.long
def test_the_power_fails_at_any_moment(make_disk: MakeDisk, trials: Trials) -> None:
    disk = make_disk()
    for number, rng in enumerate(trials(5, 90)):
        store = disk.root / str(number)
        child = Child(partial(WORK.proceed, store))
        child.wait_for(rng.randrange(4, WORK.epochs // 2, 4))
        child.outlives(rng.uniform(0, 0.1))
        cut_power(disk.root)
        outcome = child.outcome()
        assert outcome.error == "StoreWriteError", outcome
        after_the_cut(disk)
        assert_kept(store, outcome.acknowledged)
        WORK.proceed(store)
        assert_finished(store, WORK)
        shutil.rmtree(store)


def act_without(calls: tuple[str, ...], store: Path, **options: object) -> None:
    """Do the work, and believe to have synced."""
    injection.answer(calls, 0)
    WORK.proceed(store, **options)


@pytest.mark.long
@pytest.mark.skipif(not injection.can_answer(), reason="the numbers of this kernel's calls are not known here")
@pytest.mark.parametrize("calls", [("syncfs",), ("fsync", "fdatasync")])
def test_a_writer_that_does_not_sync_is_found_out(make_disk: MakeDisk, calls: tuple[str, ...]) -> None:
    """A test of the tests above: without the file system's syncs, or without those of files, they would fail."""
    disk = make_disk()
    lost = 0
    for number, rng in enumerate(random.Random(seed) for seed in range(3)):
        store = disk.root / str(number)
        commit = rng.randrange(8, 40, 4)
        at = (commit, partial(cut_power, disk.root))
        outcome = Child(partial(act_without, calls, store), at=at).outcome()
        assert outcome.acknowledged >= commit
        after_the_cut(disk)
        try:
            assert_kept(store, outcome.acknowledged)
        except (AssertionError, CorruptionError):
            lost += 1
    assert lost == 3
