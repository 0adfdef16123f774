"""A writer that is killed, again and again, at any moment, while somebody reads."""

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import ipstore
from tests.store.synthetic import assert_holds, make_plan

EPOCHS = 4000

_WRITER = """
import sys
from pathlib import Path
from ipstore.writer import RunWriter
from tests.store.synthetic import make_block, make_plan

store, plan, epochs = Path(sys.argv[1]), make_plan(), int(sys.argv[2])
if (store / "run").exists():
    writer = RunWriter.resume(store, "run")
else:
    writer = RunWriter.create(store, "run", plan, epochs)
print("ready", flush=True)
while writer.epochs < epochs:
    start = writer.epochs
    for seeds in (slice(0, 2), slice(2, 3)):
        if writer.write(make_block(plan, start, 4, seeds)):
            print(writer.epochs, flush=True)  # acknowledged
writer.finish("finished")
"""


class _Reader(threading.Thread):
    """Polls a run; every look must succeed, and show one epoch in all arrays."""

    def __init__(self, store: Path) -> None:
        super().__init__()
        self.store, self.looks, self.stop, self.errors = store, 0, threading.Event(), list[BaseException]()
        self.seen = [0]

    def run(self) -> None:
        plan = make_plan()
        while not self.stop.is_set():
            try:
                tree = ipstore.open(self.store, run="run")
                epochs = tree.sizes["epoch"]
                for array in plan.arrays:
                    stored = tree[array.path]
                    assert stored.sizes["epoch"] == epochs
                    if epochs:
                        stored.isel(epoch=[0, epochs - 1]).load()
                assert epochs >= self.seen[-1], "a committed epoch is gone"
                self.seen.append(epochs)
                self.looks += 1
            except BaseException as error:
                self.errors.append(error)
                return


def _start(store: Path, epochs: int) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", _WRITER, store, str(epochs)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("kills", [10, pytest.param(30, marks=pytest.mark.long)])
def test_kills_tear_nothing_and_lose_nothing(tmp_path: Path, kills: int) -> None:
    rng = random.Random(1703)
    plan = make_plan()
    store = tmp_path / "store"
    reader = None
    acknowledged = 0
    for _ in range(kills):
        process = _start(store, EPOCHS)
        if reader is None:
            reader = _Reader(store)
            reader.start()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, 0.3))
        process.kill()
        lines = process.communicate()[0].split()
        assert process.returncode == -signal.SIGKILL
        acknowledged = int(lines[-1]) if lines else acknowledged
        assert ipstore.open(store, run="run").sizes["epoch"] >= acknowledged
    assert reader is not None
    committed = ipstore.open(store, run="run").sizes["epoch"]
    assert 0 < committed < EPOCHS
    process = _start(store, committed + 10 - committed % 4)
    process.communicate()
    assert process.returncode == 0
    reader.stop.set()
    reader.join()
    assert reader.errors == []
    assert reader.looks > kills
    tree = ipstore.open(store, run="run")
    assert_holds(tree, plan, tree.sizes["epoch"])
    assert ipstore.verify(store / "run") == []
    leftovers = [path for path in store.rglob(".*") if path.name not in (".lease",) and not path.name.endswith(".tmp")]
    assert leftovers == []


def test_a_killed_writer_leaves_no_lease(tmp_path: Path) -> None:
    process = _start(tmp_path, EPOCHS)
    assert ipstore.runs(tmp_path)[0].status == "live"
    process.kill()
    process.communicate()
    assert ipstore.runs(tmp_path)[0].status == "stopped"
