"""A recording goes on where it was, or where a checkpoint says; and seeds from many processes are one run."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ipstore
from ipstore.analysis import analyze
from ipstore.binning import Binning
from ipstore.errors import CorruptionError, ResumeError, RunExistsError, RunLockedError
from ipstore.trainers import Recorder
from tests.store.synthetic import array
from tests.trainers.test_recorder_faults import X, Y, assert_counted, assert_holds, change, expected, net, record


@pytest.mark.parametrize(
    ("stop", "form"),
    [
        *[(3, "last"), (1, "state"), (6, "state")],
        *[pytest.param(stop, form, marks=pytest.mark.long) for stop in (1, 3, 4, 6) for form in ("last", "state")],
    ],
)
def test_going_on(stop: int, form: str, tmp_path: Path) -> None:
    recorder = record(tmp_path, 1, stop)
    state = recorder.state_dict()
    recorder.close("interrupted")
    assert state == {"run": "run", "epoch": stop, "recorded": stop}
    recorder = record(tmp_path, stop + 1, 9, resume=True if form == "last" else state)
    assert recorder.last_epoch == 9
    recorder.close()
    assert_holds(tmp_path, list(range(10)))


@pytest.mark.parametrize("back", [2, *[pytest.param(back, marks=pytest.mark.long) for back in (0, 3, 4, 5, 7, 8)]])
def test_going_back(back: int, tmp_path: Path) -> None:
    """To a checkpoint that is older than the last commit; what came after it is gone, and what was found out of it."""
    record(tmp_path, 1, 8).close("interrupted")
    analyze(tmp_path, "run", "binned", bins=4, range=(-1, 1), name="all")
    analyze(tmp_path, "run", "binned", bins=4, range=(-1, 1), every=5, name="every5")  # knows epochs 0 and 5 alone
    reader = ipstore.open(tmp_path, run="run")
    state = {"run": "run", "epoch": back, "recorded": back}
    recorder = record(tmp_path, back + 1, back, resume=state)
    assert recorder.last_epoch == back
    now = ipstore.open(tmp_path, run="run")
    assert array(now, "epoch").values.tolist() == list(range(back + 1))
    np.testing.assert_array_equal(array(now, "activations/2")[:, 0], expected(list(range(back + 1))))
    results = {name for name in ("all", "every5") if (tmp_path / "run" / "results" / name).exists()}
    assert results == {name for name, known in (("all", 8), ("every5", 5)) if known <= back}
    assert_counted(tmp_path)
    assert ipstore.verify(tmp_path / "run") == []
    kept = array(reader, "activations/2")[: back + 1, 0]  # who had opened it reads on what stands
    np.testing.assert_array_equal(kept, expected(list(range(back + 1))))
    if back < 4:  # and hears that the rest is gone, where a file of it is
        with pytest.raises(CorruptionError, match="is missing"):
            array(reader, "activations/2")[4:].load()
    recorder.close("interrupted")
    record(tmp_path, back + 1, 10, resume=state).close()
    assert_holds(tmp_path, list(range(11)))


def test_going_back_takes_the_divergence_back(tmp_path: Path) -> None:
    recorder = record(tmp_path, 1, 2)
    state = recorder.state_dict()
    recorder.epoch(loss=float("nan"))
    recorder.close()
    assert ipstore.open(tmp_path, run="run").attrs["diverged"] == {"0": 3}
    record(tmp_path, 3, 3, resume=state).close()
    assert ipstore.open(tmp_path, run="run").attrs["diverged"] == {}
    assert_holds(tmp_path, [0, 1, 2, 3])


def test_components_are_those_of_the_first_epoch_also_later(tmp_path: Path) -> None:
    options: dict[str, Any] = {"reduce": {"0": "pca:2"}, "every": 2, "level": "codes", "binning": Binning(8, (-2, 2))}
    for run in ("whole", "parts"):
        record(tmp_path, 1, 5 if run == "parts" else 8, run, **options).close()
    recorder = record(tmp_path, 6, 8, "parts", resume={"run": "parts", "epoch": 5, "recorded": 4}, **options)
    recorder.close()
    whole, parts = (array(ipstore.open(tmp_path, run=run), "activations/0") for run in ("whole", "parts"))
    assert whole.sizes["0_unit"] == 2
    np.testing.assert_array_equal(parts, whole)
    assert parts["epoch"].values.tolist() == [0, 2, 4, 6, 8]


def test_states_of_something_else(tmp_path: Path) -> None:
    record(tmp_path, 1, 3).close()
    before = (tmp_path / "run" / "zarr.json").read_bytes()
    for state, message in (
        ({"run": "other", "epoch": 2, "recorded": 2}, r"the state is not of run 'run' but \{'run': 'other'"),
        ({"run": "run"}, r"the state is not of run 'run' but.*give what this run's recorder gave as state_dict\(\)"),
        ({}, r"the state is not of run 'run'"),
    ):
        with pytest.raises(ResumeError, match=message):
            record(tmp_path, 1, 0, resume=state)
    assert (tmp_path / "run" / "zarr.json").read_bytes() == before
    with pytest.raises(ResumeError, match=r"stored to epoch 3, and the state is of epoch 7: the run has lost"):
        record(tmp_path, 8, 7, resume={"run": "run", "epoch": 7, "recorded": 7})
    with pytest.raises(ResumeError, match=r"there is no run 'run' to go on with at epoch 3: give the store that holds"):
        record(tmp_path / "elsewhere", 4, 3, resume={"run": "run", "epoch": 3, "recorded": 3})
    assert not (tmp_path / "elsewhere").exists()
    assert_holds(tmp_path, [0, 1, 2, 3])


@pytest.fixture(scope="module")
def six_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("six")
    record(store, 1, 6).close()
    return store


@pytest.mark.parametrize(
    ("model", "probe", "options", "message"),
    [
        (
            nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 5)),
            (X, Y),
            {},
            r"its model\.parameters is 23, and now",
        ),
        (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), (X, Y), {}, r"model\.layers\.1\.class is .*Tanh'"),
        (net(), (X + 1, Y), {}, r"its probe/x is not that of this probe. Give the samples with which it was begun"),
        (net(), (X, 1 - Y), {}, r"its probe/p_y_given_x|its probe/y"),
        (net(), (X[:8], Y[:8]), {}, r"its probe/p_x"),
        (net(), (X, Y), {"train": np.ones(10, bool)}, r"its probe/train"),
        (net(), (X, Y), {"every": 2}, r"its config\.every is 1, and now it is 2\. Give what it was begun with"),
        (net(), (X, Y), {"layers": ["0"]}, r"its model\.layers|its config\.layers"),
        (net(), (X, Y), {"level": "half"}, r"its level is 'full', and now it is 'half'"),
    ],
)
def test_runs_of_something_else(model: nn.Module, probe: Any, options: Any, message: str, six_epochs: Path) -> None:
    for resume in (True, {"run": "run", "epoch": 2, "recorded": 2}):
        with pytest.raises(ResumeError, match=message):
            Recorder(six_epochs, model, probe, "run", resume=resume, **options)
    assert_holds(six_epochs, [0, 1, 2, 3, 4, 5, 6])  # nothing was taken back


def test_training_samples_that_are_not_told_again(tmp_path: Path) -> None:
    train = np.arange(10) < 5
    record(tmp_path, 1, 2, train=train).close()
    with pytest.raises(ResumeError, match=r"its probe/train is not that of this probe"):
        record(tmp_path, 3, 2, resume=True)
    record(tmp_path, 3, 4, resume=True, train=train).close()
    assert_holds(tmp_path, [0, 1, 2, 3, 4])


CHILD = """
    import sys
    from pathlib import Path
    import torch
    from ipstore.trainers import Recorder
    from tests.trainers import test_recorder_faults as here

    store, seed = Path(sys.argv[1]), int(sys.argv[2])
    model = here.net(seed)
    sys.stdin.readline()
    with Recorder(store, model, (here.X, here.Y), "mine", seed=seed) as recorder:
        for epoch in range(1, 4):
            here.change(model, 100 * seed + epoch)
            recorder.epoch(loss=float(seed))
"""


def test_seeds_are_one_run(tmp_path: Path) -> None:
    for seed in (4, 2):
        record(tmp_path, 1, 3, "mine", seed=seed).close()
    run = ipstore.open(tmp_path, run="mine")
    assert array(run, "seed").values.tolist() == [2, 4]
    for place in (0, 1):
        np.testing.assert_array_equal(array(run, "activations/2")[:, place], expected([0, 1, 2, 3]))
    assert "probe/train" not in run
    with pytest.raises(RunExistsError, match=r"'mine\+4' exists already"):
        record(tmp_path, 1, 0, "mine", seed=4)


@pytest.mark.long
def test_seeds_of_many_processes_are_one_run(tmp_path: Path) -> None:
    root, seeds = Path(__file__).parents[2], (5, 0, 12)
    words = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path)]
    children = [
        subprocess.Popen([*words, str(seed)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)
        for seed in seeds
    ]
    told = [child.communicate("go\n")[1] for child in children]  # all are at it before the first is waited for
    assert [child.returncode for child in children] == [0, 0, 0], told
    run = ipstore.open(tmp_path, run="mine")
    assert array(run, "seed").values.tolist() == sorted(seeds)
    for seed in seeds:
        model = net(seed)
        for epoch in range(4):
            if epoch:
                change(model, 100 * seed + epoch)
            with torch.no_grad():
                stored = array(run, "activations/2").sel(seed=seed, epoch=epoch)
                np.testing.assert_array_equal(stored, model(X))
    with pytest.raises(RunExistsError, match=r"'mine\+5' exists already"):
        record(tmp_path, 1, 0, "mine", seed=5)
    again = record(tmp_path, 1, 1, "mine", seed=3)
    with pytest.raises(RunLockedError, match=r"'mine\+3'"):
        record(tmp_path, 1, 0, "mine", seed=3)
    again.close()
    (tmp_path / "mine+3").rename(tmp_path.parent / "taken-away")
    ipstore.merge(tmp_path, "mine")
    merged = ipstore.open(tmp_path, run="mine")
    assert "part_of" not in merged.attrs
    np.testing.assert_array_equal(array(merged, "activations/0"), array(run, "activations/0"))
    assert ipstore.verify(tmp_path / "mine") == []
    with pytest.raises(RunExistsError, match=r"'mine' exists already in .*whole: record seeds under another name"):
        record(tmp_path, 1, 0, "mine", seed=7)
