"""The store fails under a capture: full, gone, forbidden, broken. The training hears of it at once, and can go on."""

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import ipstore
from ipstore.levels import Level
from tests.faults import injection
from tests.faults.children import RUN, Child, Work, assert_finished, assert_kept
from tests.faults.conftest import Trials
from tests.faults.disks import Disk, cut_power, fill
from tests.faults.phases import PHASES

MakeDisk = Callable[..., Disk]

WORK = Work(epochs=100)
LEVELS: list[Level] = ["full", "codes", "weights"]


class Fault:
    """Something that befalls a store, and is mended.

    Attributes
    ----------
    readable : bool
        Whether the store can be read before it is mended.
    """

    readable = True

    def make_store(self, make_disk: MakeDisk, folder: Path) -> Path:
        return folder / "store"

    def befall(self, store: Path, rng: random.Random) -> Callable[[], object]:
        """What is to be called, in the process that writes."""
        raise NotImplementedError

    def mend(self, store: Path) -> None:
        pass


class FullDisk(Fault):
    def __init__(self, kind: str) -> None:
        self._kind = kind

    def make_store(self, make_disk: MakeDisk, folder: Path) -> Path:
        return make_disk(self._kind, 16).root / "store"

    def befall(self, store: Path, rng: random.Random) -> Callable[[], object]:
        return partial(fill, store.parent)

    def mend(self, store: Path) -> None:
        (store.parent / "ballast").unlink()


class MovedAway(Fault):
    readable = False

    def befall(self, store: Path, rng: random.Random) -> Callable[[], object]:
        return partial(os.rename, store, store.with_name("elsewhere"))

    def mend(self, store: Path) -> None:
        assert not store.exists(), "a store that is gone was begun anew"
        store.with_name("elsewhere").rename(store)


class Forbidden(Fault):
    """Root, whom permissions do not bind, may not write either where a folder is immutable."""

    def befall(self, store: Path, rng: random.Random) -> Callable[[], object]:
        folders = [".", "activations/layer1", "activations/output", "state", "training/loss"]
        self._folder = store / RUN / rng.choice(folders)
        return partial(forbid, self._folder)

    def mend(self, store: Path) -> None:
        if os.geteuid() == 0:
            subprocess.run(["chattr", "-i", self._folder], check=True)
        else:
            self._folder.chmod(0o755)


def forbid(folder: Path) -> None:
    if os.geteuid() == 0:
        subprocess.run(["chattr", "+i", folder], check=True)
    else:
        folder.chmod(0o555)


class BrokenCalls(Fault):
    def __init__(self, *calls: str) -> None:
        self._calls = calls

    def befall(self, store: Path, rng: random.Random) -> Callable[[], object]:
        if not injection.can_answer():
            pytest.skip("the numbers of this kernel's calls are not known here")
        return partial(injection.answer, self._calls, errno.EIO)


class BrokenDisk(Fault):
    readable = False

    def make_store(self, make_disk: MakeDisk, folder: Path) -> Path:
        self._disk = make_disk()
        return self._disk.root / "store"

    def befall(self, store: Path, rng: random.Random) -> Callable[[], object]:
        return partial(cut_power, self._disk.root)

    def mend(self, store: Path) -> None:
        self._disk.unmount()
        self._disk.mount()


FAULTS = {
    "a full memory disk": FullDisk("tmpfs"),
    "a full disk": FullDisk("ext4"),
    "moved away": MovedAway(),
    "forbidden": Forbidden(),
    "no sync": BrokenCalls("syncfs", "fsync", "fdatasync"),
    "no rename": BrokenCalls("rename", "renameat", "renameat2"),
    "a broken disk": BrokenDisk(),
}


@pytest.mark.long
@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("name", FAULTS)
def test_a_capture_hears_at_once_that_its_store_fails(
    name: str, processes: int, make_disk: MakeDisk, tmp_path: Path, trials: Trials
) -> None:
    fault = FAULTS[name]
    short = os.environ.get("IPSTORE_LONG") != "full" and "IPSTORE_FAULT_MINUTES" not in os.environ
    if processes and name not in ("a full disk", "a broken disk") and short:
        pytest.skip("with processes that train, in the long form only")
    store = fault.make_store(make_disk, tmp_path)
    for rng in trials(1, 6):
        level: Level = rng.choice(LEVELS)
        work = replace(WORK, level=level, processes=processes)
        at = rng.randrange(4, 60, 4)
        befall = fault.befall(store, rng)
        if level == "weights" and name == "forbidden":
            continue
        outcome = Child(partial(work.proceed, store), at=(at, befall)).outcome()
        if fault.readable:
            assert_kept(store, outcome.acknowledged)
        fault.mend(store)
        assert outcome.error == "StoreWriteError", outcome
        assert f"it stands as committed, to epoch {outcome.acknowledged - 1}" in outcome.message
        in_flight = 4 * work.shard_epochs  # two blocks, each of which may be filled once more before the writer fails
        assert outcome.captured <= outcome.acknowledged + in_flight, "trained on, though nothing could be written"
        (listed,) = ipstore.runs(store)
        assert (listed.status, listed.attrs["commit"]["epochs"]) == ("stopped", outcome.acknowledged)
        work.proceed(store)
        assert_finished(store, work)
        shutil.rmtree(store)


@pytest.mark.long
@pytest.mark.parametrize("level", ["full", "weights"])
def test_a_store_that_is_removed_is_not_begun_anew_by_its_writer(tmp_path: Path, level: Level) -> None:
    work, store = replace(WORK, level=level), tmp_path / "store"
    outcome = Child(partial(work.proceed, store), at=(16, partial(shutil.rmtree, store))).outcome()
    assert outcome.error == "StoreWriteError", outcome
    assert not store.exists()
    work.proceed(store)
    assert_finished(store, work)


@pytest.mark.long
def test_any_call_of_the_file_system_may_fail(tmp_path: Path, trials: Trials) -> None:
    for number, rng in enumerate(trials(3, 300)):
        phase, store = rng.choice(PHASES), tmp_path / str(number)
        call = phase.any_call(rng)
        print(f"{phase.name}: call {call} of {phase.count_calls()} fails")
        phase.prepare(store)
        outcome = phase.run(store, call, partial(injection.fail_with, rng.choice([errno.EIO, errno.ENOSPC])))
        assert outcome.error in ("StoreWriteError", ""), outcome
        phase.assert_survived(store, outcome)
        shutil.rmtree(store)


@pytest.mark.long
def test_a_run_that_cannot_be_continued_says_so(tmp_path: Path) -> None:
    phase, store = PHASES[1], tmp_path / "store"
    phase.prepare(store)
    outcome = phase.run(store, 1, partial(injection.fail_with, errno.EIO))
    assert outcome.error == "StoreWriteError", outcome
    phase.assert_survived(store, outcome)
