"""Whatever ends a recording, what is whole is committed; and it goes on from there."""

import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ipstore
from ipstore.errors import RunExistsError, RunLockedError, StoreWriteError
from ipstore.reader import run_info
from ipstore.trainers import Recorder, recordings
from ipstore.trainers.streaming import DivergedWarning
from tests.store.synthetic import array

SAMPLES = 10
X = torch.randn(SAMPLES, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(SAMPLES) % 2


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def change(model: nn.Sequential, epoch: int) -> None:
    """Stand in for an epoch: what the network is then follows from the epoch alone."""
    generator = torch.Generator().manual_seed(epoch)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))


def expected(epochs: list[int], layer: str = "2") -> Any:
    model, found = net(), []
    for epoch in epochs:
        if epoch:
            change(model, epoch)
        whole: Tensor = model(X) if layer == "2" else model[0](X)
        found.append(whole.detach().numpy())
    return np.array(found)


def record(store: Path, first: int, last: int, run: str = "run", **options: Any) -> Recorder:
    """Record epochs, the network before training among them where the run is new."""
    model = net()
    if first > 1:
        change(model, first - 1)
    recorder = Recorder(store, model, (X, Y), run, shard_epochs=4, **options)
    for epoch in range(first, last + 1):
        change(model, epoch)
        recorder.epoch(loss=1 / epoch, accuracy={"train": epoch / 100})
    return recorder


def assert_holds(store: Path, epochs: list[int], status: str = "finished", run: str = "run") -> None:
    tree = ipstore.open(store, run=run)
    assert array(tree, "epoch").values.tolist() == epochs
    for layer in ("0", "2"):
        np.testing.assert_array_equal(array(tree, f"activations/{layer}")[:, 0], expected(epochs, layer))
    accuracy = array(tree, "training/accuracy")[:, 0, 0]
    np.testing.assert_array_equal(
        accuracy, np.array([epoch / 100 if epoch else np.nan for epoch in epochs], np.float32)
    )
    assert tree.attrs["status"] == status
    assert tree.attrs["commit"]["last_epoch"] == epochs[-1]
    assert_counted(store, run)
    assert ipstore.verify(store / run) == []


def assert_counted(store: Path, run: str = "run") -> None:
    """The commit counts every file, and the bytes of every chunk beside those that any such run begins with."""
    files, documents = _counted(store / run)
    tree = ipstore.open(store, run=run)
    assert tree.attrs["commit"]["files"] == files
    assert documents == _documents("train" in tree["probe"])


@cache
def _documents(train: bool) -> int:
    """Bytes that a run begins with, beside chunks."""
    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder), 1, 0, train=np.ones(SAMPLES, bool) if train else None).close()
        return _counted(Path(folder) / "run")[1]


def _counted(run: Path) -> tuple[int, int]:
    """Files of a run without results, and the bytes that its commit has beside those of chunks."""
    there = [
        file for file in run.rglob("*") if file.is_file() and file.name != ".lease" and file.parent != run / "state"
    ]
    there = [file for file in there if file != run / "zarr.json" and run / "results" not in file.parents]
    chunks = sum(file.stat().st_size for file in there if file.name != "zarr.json" and file.parent.name != "probe")
    commit = ipstore.open(run.parent, run=run.name).attrs["commit"]
    return len(there), commit["bytes"] - chunks


def test_activations_that_are_no_numbers(tmp_path: Path) -> None:
    model = net()
    with Recorder(tmp_path, model, (X, Y), "run") as recorder:
        recorder.epoch(loss=1.0)
        with torch.no_grad():
            next(model.parameters())[1] = torch.nan
        with pytest.warns(
            DivergedWarning, match=r"run 'run': from epoch 2 on, activations of 0, 1, 2 hold NaN"
        ) as told:
            recorder.epoch(loss=1.0)
        assert told[0].filename == __file__
        with torch.no_grad():
            next(model.parameters())[0, 0] = torch.inf
        recorder.epoch(loss=1.0)
    run = ipstore.open(tmp_path, run="run")
    assert run.attrs["diverged"] == {"0": 2}
    layer = array(run, "activations/0")[:, 0].values
    assert np.isnan(layer[2:, :, 1]).all()
    assert np.isinf(layer[3, :, 0]).all()
    assert np.isfinite(layer[:2]).all()
    assert ipstore.verify(tmp_path / "run") == []


@pytest.mark.parametrize("loss", [float("nan"), torch.tensor(torch.inf), {"train": float("nan"), "test": 1.0}])
def test_a_loss_that_is_no_number(loss: Any, tmp_path: Path) -> None:
    with Recorder(tmp_path, net(), (X, Y), "run") as recorder:
        recorder.epoch()
        recorder.epoch(loss={"test": 0.5})
        recorder.epoch(loss=loss)
    assert ipstore.open(tmp_path, run="run").attrs["diverged"] == {"0": 3}


def test_what_half_cannot_hold_is_told(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.bias[0] = 1e6
    with pytest.warns(DivergedWarning), Recorder(tmp_path, model, (X, Y), "run", level="half"):
        pass
    assert ipstore.open(tmp_path, run="run").attrs["diverged"] == {"0": 0}


@pytest.mark.parametrize(
    ("error", "epochs"), [(ZeroDivisionError("mine"), 2), (KeyboardInterrupt(), 3), (SystemExit(3), 5)]
)
def test_an_exception_goes_on_as_it_is(error: BaseException, epochs: int, tmp_path: Path) -> None:
    recorder = record(tmp_path, 1, epochs)
    with pytest.raises(type(error)) as caught, recorder:
        raise error
    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert_holds(tmp_path, list(range(epochs + 1)), "interrupted")
    recorder.epoch()  # records nothing any more
    recorder.close()
    assert_holds(tmp_path, list(range(epochs + 1)), "interrupted")


def test_an_exception_in_the_midst_of_recording(tmp_path: Path) -> None:
    class Stops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.armed = nn.Linear(4, 2), False

        def forward(self, x: Tensor) -> Tensor:
            if self.armed:
                raise KeyboardInterrupt
            out: Tensor = self.inner(x)
            return out

    model = Stops().train()
    recorder = Recorder(tmp_path, model, (X, Y), "run")
    recorder.epoch()
    model.armed = True
    with pytest.raises(KeyboardInterrupt), recorder:
        recorder.epoch()
    assert model.inner.training
    assert not model.inner._forward_hooks
    assert array(ipstore.open(tmp_path, run="run"), "epoch").values.tolist() == [0, 1]
    assert ipstore.verify(tmp_path / "run") == []


def break_store(run: Path) -> None:
    """Take the folder of a layer away, and put a file where it was: nothing can be written there."""
    folder = run / "activations" / "2"
    folder.rename(run.parent / "gone")
    folder.write_text("in the way")


@pytest.mark.parametrize("ending", ["epoch", "close", "state_dict", "ours"])
def test_a_store_that_fails(ending: str, tmp_path: Path) -> None:
    """The error comes once; and after it, whatever is called, nothing hangs or hides it."""
    recorder = record(tmp_path / "store", 1, 2)
    recorder.state_dict()
    break_store(tmp_path / "store" / "run")
    told: StoreWriteError | None = None
    if ending == "ours":
        mine = ZeroDivisionError()
        recorder.epoch()
        with pytest.raises(ZeroDivisionError) as caught, recorder:
            raise mine
        assert caught.value is mine
        assert "writing run 'run' failed" in mine.__notes__[0]
        return
    calls: dict[str, Callable[[], Any]] = {"close": recorder.close, "state_dict": recorder.state_dict}
    for _ in range(40 if ending == "epoch" else 1):
        try:
            recorder.epoch()
            calls.get(ending, int)()
        except StoreWriteError as error:
            told = error
            break
    assert told is not None
    assert (
        "it stands as committed, to epoch 2. Mend the cause, then continue it (--resume, in Python resume=True)"
        in str(told)
    )
    if ending != "close":
        for _ in range(20):
            with pytest.raises(StoreWriteError, match="it stands as committed"):
                recorder.epoch()
    recorder.close()
    (tmp_path / "store" / "run" / "activations" / "2").unlink()
    (tmp_path / "store" / "gone").rename(tmp_path / "store" / "run" / "activations" / "2")
    record(tmp_path / "store", 3, 5, resume=True).close()
    assert_holds(tmp_path / "store", [0, 1, 2, 3, 4, 5])


def test_a_second_recorder(tmp_path: Path) -> None:
    first = record(tmp_path, 1, 1)
    ways: list[dict[str, Any]] = [{}, {"resume": True}, {"overwrite": True}]
    for options in ways:
        with pytest.raises(RunLockedError, match=r"'run'.* is being written"):
            record(tmp_path, 1, 0, **options)
    first.epoch()
    first.close()
    with pytest.raises(RunExistsError, match=r"'run' exists already in .*resume=True.*overwrite=True.*another name"):
        record(tmp_path, 1, 0)
    record(tmp_path, 1, 1, overwrite=True).close()
    assert_holds(tmp_path, [0, 1])


CHILD = """
    import sys
    from pathlib import Path
    from tests.trainers import test_recorder_faults as here

    recorder = here.record(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), resume=True)
    if sys.argv[4] == "commit":
        recorder.state_dict()
    print("recorded", flush=True)
    sys.stdin.read()
"""


def killed(store: Path, first: int, last: int, word: str = "") -> None:
    """Record in a process of its own, and kill that."""
    root = Path(__file__).parents[2]
    words = [sys.executable, "-c", textwrap.dedent(CHILD), str(store), str(first), str(last), word]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    assert child.stdout is not None
    assert child.stdout.readline() == "recorded\n"
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.communicate()


@pytest.mark.long
@pytest.mark.parametrize("word", ["commit", ""])
def test_a_kill_loses_what_was_not_committed(word: str, tmp_path: Path) -> None:
    """At worst the shard of four that is being filled, and the two before it that were being written."""
    killed(tmp_path, 1, 9, word)
    tree = ipstore.open(tmp_path, run="run")
    there = array(tree, "epoch").values.tolist()
    assert there == list(range(10)) if word else there in ([], list(range(4)), list(range(8)))
    assert run_info(tmp_path / "run").status == "stopped"
    assert ipstore.verify(tmp_path / "run") == []
    if there:
        np.testing.assert_array_equal(array(tree, "activations/2")[:, 0], expected(there))
    record(tmp_path, max(there, default=0) + 1, 12, resume=True).close()
    assert_holds(tmp_path, list(range(13)))


@pytest.mark.parametrize("by_kill", [False, pytest.param(True, marks=pytest.mark.long)])
def test_what_ended_before_its_first_commit_begins_anew(by_kill: bool, tmp_path: Path) -> None:
    if by_kill:
        killed(tmp_path, 1, 2)
    else:
        record(tmp_path, 1, 2)._recording._writer.close()  # type: ignore[union-attr]  # the lease goes, and no more
    assert array(ipstore.open(tmp_path, run="run"), "epoch").size == 0
    record(tmp_path, 1, 3, resume=True).close()
    assert_holds(tmp_path, [0, 1, 2, 3])


@pytest.mark.parametrize("every_commit", [False, True])
def test_slow_training_commits_by_the_clock(
    every_commit: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "_COMMIT_SECONDS", 0.0 if every_commit else 1e9)
    model, seen = net(), []
    with Recorder(tmp_path, model, (X, Y), "run", shard_epochs=4) as recorder:
        for epoch in range(1, 7):
            change(model, epoch)
            recorder.epoch(accuracy=epoch / 100)
            seen.append(array(ipstore.open(tmp_path, run="run"), "epoch").values.tolist())
    assert_holds(tmp_path, list(range(7)))
    if every_commit:  # a whole shard is written in the background, and is in sight soon
        assert [each for at, each in enumerate(seen, 1) if (at + 1) % 4] == [
            list(range(at + 1)) for at in range(1, 7) if (at + 1) % 4
        ]
    else:
        assert all(len(each) in (0, 4) for each in seen)
