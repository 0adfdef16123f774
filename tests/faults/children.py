"""Captures in processes of their own, to be killed, starved and cut off.

A child is forked from a server that has imported PyTorch already, so it begins within milliseconds. It tells of each
commit as that is acknowledged, and of how it ended.
"""

import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import numpy as np
import xarray as xr

import ipstore
from ipstore.errors import NotAStoreError, StoreNotFoundError, UnknownNameError
from ipstore.levels import Level
from ipstore.repairs import sweep_store
from ipstore.trainers import TrainConfig, capture, resume
from ipstore.trainers.streaming import Progress
from ipstore.trainers.tasks import Task
from tests.trainers.test_capture import assert_same

__all__ = ["DEADLINE", "RUN", "Child", "Outcome", "Work", "assert_finished", "assert_kept", "assert_swept", "committed"]

DEADLINE = 60
"""Seconds after which a child that should have ended is said to hang; its work is a second or two."""

RUN = "run"

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.faults.children", "dask.array", "ipstore.pipeline"])


@dataclass(frozen=True)
class Work:
    """A run of networks so small that it commits every few milliseconds."""

    epochs: int = 60
    level: Level = "full"
    seeds: tuple[int, ...] = (3, 0, 8)
    hidden: tuple[int, ...] = (5, 3)
    shard_epochs: int = 4
    processes: int = 0
    run: str = RUN

    def capture(self, store: Path, **options: Any) -> xr.DataTree:
        """Do it all."""
        rng = np.random.default_rng(5)
        x = rng.standard_normal((96, 6), np.float32)
        task = Task(x, np.full(96, 1 / 96), np.eye(2)[(x[:, 0] > 0).astype(int)], np.arange(96))
        config = TrainConfig(hidden=self.hidden, epochs=self.epochs, batch_size=48, learning_rate=0.05)
        shape = {"seeds": self.seeds, "level": self.level, "shard_epochs": self.shard_epochs}
        return capture(task, store, self.run, config, processes=self.processes, **shape, **options)  # type: ignore[arg-type]

    def proceed(self, store: Path, **options: Any) -> xr.DataTree:
        """Begin, or go on from the last commit."""
        try:
            return resume(store, self.run, epochs=self.epochs, processes=self.processes, **options)
        except (StoreNotFoundError, NotAStoreError):  # not even begun
            return self.capture(store, **options)


@dataclass(frozen=True)
class Outcome:
    """How a child ended.

    Attributes
    ----------
    acknowledged : int
        Epochs of the last commit it told of.
    captured : int
        Epochs that had been trained and captured when it ended with an error.
    error : str
        Name of that error; "" if it finished, or was killed.
    message : str
    exitcode : int
        Negative: the signal that killed it.
    result : object
        What its action returned.
    """

    acknowledged: int = 0
    captured: int = 0
    error: str = ""
    message: str = ""
    exitcode: int = 0
    result: Any = None


class Child:
    """An action on a store, in a process of its own.

    Parameters
    ----------
    action : callable
        Takes ``on_progress``, as `capture` does. It, and what it returns, is sent between the processes.
    at : (int, callable), optional
        What to do in the child as soon as so many epochs are committed.
    """

    def __init__(self, action: Callable[..., Any], at: tuple[int, Callable[[], Any]] | None = None) -> None:
        self._reports, theirs = _CONTEXT.Pipe(duplex=False)
        self._known = Outcome()
        self.process = _CONTEXT.Process(target=_live, args=(theirs, action, at), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.process.pid is not None
        return self.process.pid

    def wait_for(self, epochs: int) -> None:
        """Wait until so many epochs are committed."""
        while self._known.acknowledged < epochs:
            assert self._listen(DEADLINE), f"ended before it had committed {epochs} epochs: {self._known}"

    def outlives(self, seconds: float) -> bool:
        """Whether it has not ended after so many seconds."""
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            if self._reports.poll(left) and not self._listen(0):
                return False
        return True

    def outcome(self, seconds: float = DEADLINE) -> Outcome:
        """Wait for its end."""
        try:
            while self._listen(seconds):
                pass
            self.process.join(seconds)
            assert self.process.exitcode is not None, "closed its reports, and went on"
            return replace(self._known, exitcode=self.process.exitcode)
        finally:
            self.process.kill()  # one that hangs
            self.process.join()
            self._reports.close()

    def _listen(self, seconds: float) -> bool:
        """Take a report; False at the last."""
        assert self._reports.poll(seconds), f"hangs: no word for {seconds} s after {self._known}"
        try:
            news = self._reports.recv()
        except (EOFError, ConnectionResetError):
            return False
        self._known = replace(self._known, **news)
        return True


def _live(reports: Connection, action: Callable[..., Any], at: tuple[int, Callable[[], Any]] | None) -> None:
    lock = threading.Lock()  # progress is told by the thread that trains and by the one that writes
    acknowledged = captured = 0
    due = at

    def tell(progress: Progress) -> None:
        nonlocal acknowledged, captured, due
        with lock:
            captured = max(captured, progress.captured)
            if progress.committed > acknowledged:
                acknowledged = progress.committed
                reports.send({"acknowledged": acknowledged})
            if due and acknowledged >= due[0]:
                do, due = due[1], None
                do()

    try:
        result = action(on_progress=tell)
        reports.send({"result": None if isinstance(result, xr.DataTree) else result})
    except BaseException as error:
        reports.send({"error": type(error).__name__, "message": str(error), "captured": captured})


@cache
def _uninterrupted(work: Work) -> xr.DataTree:
    with TemporaryDirectory() as folder:
        return work.capture(Path(folder)).load()


def committed(store: Path, run: str = RUN) -> int:
    """Epochs that a reader finds; 0 where there is no run yet."""
    try:
        return int(ipstore.open(store, run=run).sizes["epoch"])
    except (StoreNotFoundError, UnknownNameError, NotAStoreError):
        return 0


def assert_kept(store: Path, acknowledged: int) -> None:
    """What was acknowledged is there, and all that is there is whole."""
    epochs = committed(store)
    assert epochs >= acknowledged, "an acknowledged epoch is lost"
    if epochs:
        assert ipstore.verify(store / RUN) == []
        nodes = ipstore.open(store, run=RUN).subtree
        assert {array.sizes.get("epoch", epochs) for node in nodes for array in node.data_vars.values()} == {epochs}


def assert_finished(store: Path, work: Work) -> None:
    """The run is complete, bit for bit what it would have been without a fault."""
    tree = ipstore.open(store, run=work.run)
    assert tree.attrs["status"] == "finished"
    assert_same(_uninterrupted(replace(work, processes=0, run=RUN)), tree)
    assert ipstore.verify(store / work.run) == []


def assert_swept(store: Path) -> None:
    """Nothing lies about that the commit does not know, but half of the store's document, which the sweep takes."""
    assert all(name.startswith(".zarr.json.") for name in sweep_store(store))
    assert [path.relative_to(store) for path in store.rglob(".*") if path.name != ".lease"] == []
    commit = ipstore.runs(store)[0].attrs["commit"]
    assert [f"state/{path.name}" for path in (store / RUN / "state").iterdir()] == [commit["state"]]
