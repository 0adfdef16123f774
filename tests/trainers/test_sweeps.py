"""A sweep is its runs, each as if captured alone, however often it is broken off."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import ipstore
from ipstore.binning import Binning
from ipstore.errors import (
    ParameterError,
    ResumeError,
    RunExistsError,
    RunLockedError,
    SpaceError,
    UnknownNameError,
)
from ipstore.places import locate
from ipstore.trainers import TrainConfig, capture, capture_sweep, resume, resume_sweep, tasks
from ipstore.trainers.sweeps import SweepProgress, plan_sweep, sweep_runs
from tests.trainers.test_capture import assert_same

TASK = tasks.load("rule", signed=True)
CONFIG = TrainConfig(hidden=(4, 3), epochs=5, batch_size=2048)
AXES: dict[str, list[Any]] = {"train_fraction": [0.1, 0.8], "hidden": [(4, 3), ()]}
OPTIONS: dict[str, Any] = {"seeds": (3, 0), "level": "codes", "every": 2, "shard_epochs": 4, "processes": 0}
RUNS = [f"s-hidden={hidden}-train_fraction={fraction}" for hidden in ("4-3", "none") for fraction in ("0.1", "0.8")]


def sweep(store: Path | str, axes: Any = AXES, config: TrainConfig = CONFIG, **options: Any) -> list[str]:
    return capture_sweep(TASK, store, "s", axes, config, **{**OPTIONS, **options})


def tree(store: Path | str, run: str) -> xr.DataTree:
    return ipstore.open(store, run=run)


def assert_stores_same(store: Path, other: Path | str) -> None:
    """Both hold the same runs: every stored value, and every attribute that does not tell of times and commits."""
    assert [info.name for info in ipstore.runs(store)] == [info.name for info in ipstore.runs(other)]
    for info, twin in zip(ipstore.runs(store), ipstore.runs(other), strict=True):
        told, expected = (
            {key: value for key, value in each.attrs.items() if key not in ("commit", "created_at")}
            for each in (info, twin)
        )
        assert told == expected
        assert (info.status, told["status"]) == ("finished", "finished")
        assert_same(tree(store, info.name), tree(other, info.name))
        assert not ipstore.verify(store / info.name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("sweep") / "whole"
    assert sweep(store) == RUNS
    return store


def test_every_run_is_as_if_captured_alone(whole: Path, tmp_path: Path) -> None:
    assert [info.name for info in ipstore.runs(whole)] == sorted(RUNS)
    for run, (hidden, fraction) in zip(RUNS, [(h, f) for h in ((4, 3), ()) for f in (0.1, 0.8)], strict=True):
        config = TrainConfig(hidden=hidden, epochs=5, batch_size=2048, train_fraction=fraction)
        alone = capture(TASK, tmp_path / "alone", run, config, **OPTIONS)
        assert_same(alone, tree(whole, run))
        attrs = tree(whole, run).attrs
        assert attrs["config"] == alone.attrs["config"]
        assert attrs["sweep"] == {
            "name": "s",
            "axes": {"hidden": [[4, 3], []], "train_fraction": [0.1, 0.8]},
            "at": {"hidden": list(hidden), "train_fraction": fraction},
            "shard_epochs": 4,
        }


@pytest.mark.long
def test_processes_change_no_bit(whole: Path, tmp_path: Path) -> None:
    sweep(tmp_path / "store", processes=2)
    assert_stores_same(whole, tmp_path / "store")


def test_progress_counts_all_runs(tmp_path: Path) -> None:
    told: list[SweepProgress] = []
    sweep(tmp_path, on_progress=told.append)
    captured = [each.captured for each in told]
    assert captured == sorted(captured)
    assert {(each.total, each.runs) for each in told} == {(4 * 4, 4)}  # epochs 0, 2, 4 and 5
    assert list(dict.fromkeys(each.run for each in told)) == RUNS
    assert (told[-1].captured, told[-1].complete) == (16, 4)
    for each in told:
        assert RUNS[each.number - 1] == each.run
        assert each.complete in (each.number - 1, each.number)
        assert each.run.endswith(f"-train_fraction={each.at['train_fraction']}")
    again: list[SweepProgress] = []
    resume_sweep(tmp_path, "s", processes=0, on_progress=again.append)
    assert again == []
    resume_sweep(tmp_path, "s", epochs=7, processes=0, on_progress=again.append)
    assert (again[-1].captured, again[-1].total, again[-1].complete) == (24, 24, 4)  # 5 stays, 6 and 7 come
    assert [each.captured for each in again] == sorted(each.captured for each in again)


def test_a_plan_is_what_is_stored(whole: Path) -> None:
    options = {key: value for key, value in OPTIONS.items() if key != "processes"}
    plans = plan_sweep(TASK, "s", AXES, CONFIG, **options)
    assert list(plans) == RUNS
    for run, plan in plans.items():
        assert tree(whole, run).attrs.items() >= dict(plan.attrs).items()
        assert {f"activations/{name}" for name in tree(whole, run)["activations"].data_vars} <= {
            array.path for array in plan.arrays
        }


# Breaking off ----------------------------------------------------------------------------------

_KILLED = """
import os, signal, sys
from ipstore.trainers import TrainConfig, capture_sweep, tasks

moment, told = int(sys.argv[2]), 0

def tell(progress):
    global told
    told += 1
    if told == moment:
        os.kill(os.getpid(), signal.SIGKILL)

capture_sweep(tasks.load("rule", signed=True), sys.argv[1], "s", {"train_fraction": [0.1, 0.8], "hidden": [(4, 3), ()]},
              TrainConfig(hidden=(4, 3), epochs=5, batch_size=2048), seeds=(3, 0), level="codes", every=2,
              shard_epochs=4, processes=0, on_progress=tell)
print(told)
"""


@pytest.mark.long
@pytest.mark.parametrize("moment", [1, 2, 5, 8, 11, 14, 17, 20])
def test_a_killed_sweep_resumes_bit_for_bit(whole: Path, tmp_path: Path, moment: int) -> None:
    command = [sys.executable, "-c", textwrap.dedent(_KILLED), str(tmp_path / "store"), str(moment)]
    assert subprocess.run(command, capture_output=True).returncode == -9
    begun = sweep_runs(tmp_path / "store", "s")
    assert 0 < len(begun) <= 4
    assert list(begun) != RUNS or begun[RUNS[-1]].attrs["status"] != "finished"
    assert resume_sweep(tmp_path / "store", "s", processes=0) == RUNS
    assert_stores_same(tmp_path / "store", whole)


@pytest.mark.long
def test_a_sweep_of_which_one_run_is_left_is_made_whole(whole: Path, tmp_path: Path) -> None:
    """Any of its runs says how to make the others."""
    sweep(tmp_path)
    for run in RUNS[:2] + RUNS[3:]:
        locate(tmp_path / run).remove()
    resume_sweep(tmp_path, "s", processes=0)
    assert_stores_same(tmp_path, whole)


@pytest.mark.long
@pytest.mark.long
def test_a_sweep_in_an_object_store_is_that_of_a_folder(whole: Path, s3: str) -> None:
    assert sweep(s3) == RUNS
    assert_stores_same(whole, s3)
    (locate(s3) / RUNS[2]).remove()
    resume_sweep(s3, "s", processes=0)
    assert_stores_same(whole, s3)
    along = ipstore.open(s3).ip.sweep("train_fraction", hidden=(4, 3))
    assert along["training/loss"].sizes["train_fraction"] == 2


def test_what_was_asked_of_all_runs_holds_for_those_not_begun(tmp_path: Path) -> None:
    axes = {"activation": ["tanh", "relu", "sigmoid"]}
    sweep(tmp_path / "asked", axes, binning=Binning(9, (-1.0, 2.0)))
    sweep(tmp_path / "default", {"activation": ["tanh", "sigmoid"]}, shard_epochs=None)
    for store, ranges in (("asked", [[-1, 2]] * 3), ("default", [[-1, 1], [0, 1]])):
        runs = list(sweep_runs(tmp_path / store, "s"))
        before = {run: tree(tmp_path / store, run).load() for run in runs}
        for run in runs[1:]:
            locate(tmp_path / store / run).remove()
        resume_sweep(tmp_path / store, "s", processes=0)
        for run in runs:
            assert_same(before[run], tree(tmp_path / store, run))
            assert before[run].attrs["binning"] == tree(tmp_path / store, run).attrs["binning"]
        assert sorted(before[run].attrs["binning"]["range"] for run in runs) == sorted(ranges)


@pytest.mark.long
def test_more_epochs_extend_every_run(tmp_path: Path) -> None:
    sweep(tmp_path / "parts")
    resume(tmp_path / "parts", RUNS[2], epochs=9, processes=0)  # as when the extension is broken off
    resume_sweep(tmp_path / "parts", "s", processes=0)
    for run in RUNS:
        assert tree(tmp_path / "parts", run)["epoch"].to_numpy()[-1] == 9
    sweep(tmp_path / "whole", config=TrainConfig(hidden=(4, 3), epochs=9, batch_size=2048), every=1)
    for run in RUNS:
        parts, all_epochs = tree(tmp_path / "parts", run), tree(tmp_path / "whole", run)
        for name in ("training/loss", "activations/output"):
            np.testing.assert_array_equal(parts[name], all_epochs[name].sel(epoch=parts["epoch"]))


@pytest.mark.long
def test_overwriting_removes_all_of_the_sweep_first(whole: Path, tmp_path: Path) -> None:
    """Else what a kill leaves would be a mixture, and passed for one sweep."""
    sweep(tmp_path, {"train_fraction": [0.1, 0.3]}, level="weights")

    class Stop(Exception):
        pass

    def stop(progress: SweepProgress) -> None:
        raise Stop

    with pytest.raises(Stop):
        sweep(tmp_path, overwrite=True, on_progress=stop)
    assert list(sweep_runs(tmp_path, "s")) == RUNS[:1]
    resume_sweep(tmp_path, "s", processes=0)
    assert_stores_same(tmp_path, whole)


# Refusals --------------------------------------------------------------------------------------


def test_runs_that_exist_stay(tmp_path: Path) -> None:
    capture(TASK, tmp_path, RUNS[3], CONFIG, **OPTIONS)
    with pytest.raises(RunExistsError, match=rf"1 runs of sweep 's' exist already in .* \(such as '{RUNS[3]}'\)"):
        sweep(tmp_path)
    assert [info.name for info in ipstore.runs(tmp_path)] == [RUNS[3]]
    assert "sweep" not in ipstore.runs(tmp_path)[0].attrs
    assert sweep(tmp_path, overwrite=True) == RUNS
    with pytest.raises(RunExistsError, match="4 runs of sweep 's' exist"):  # of which no name is one of these
        sweep(tmp_path, {"activation": ["tanh", "relu"]}, level="full")


def test_a_sweep_is_not_named_as_a_run_is(tmp_path: Path) -> None:
    capture(TASK, tmp_path, "s", CONFIG, **OPTIONS)
    with pytest.raises(RunExistsError, match=r"a run 's' exists already .* another name for the sweep"):
        sweep(tmp_path, overwrite=True)


def test_a_run_that_is_being_written_is_left_to_its_writer(tmp_path: Path) -> None:
    sweep(tmp_path)
    lease = locate(tmp_path / RUNS[2]).lease()
    with pytest.raises(RunLockedError, match=RUNS[2]):
        sweep(tmp_path, overwrite=True)
    assert [info.status for info in ipstore.runs(tmp_path)].count("finished") == 3
    with pytest.raises(RunLockedError):
        resume_sweep(tmp_path, "s", epochs=7, processes=0)
    lease.release()
    resume_sweep(tmp_path, "s", epochs=7, processes=0)


@pytest.mark.parametrize(
    ("axes", "error", "message"),
    [
        ({}, ParameterError, "sweep 's' has no axis"),
        ({"epochs": [1, 2]}, UnknownNameError, "there is no axis of a sweep 'epochs'"),
        ({"activation": "tanh"}, ParameterError, r"axis 'activation' lists its values, such as activation=\[\.\.\.\]"),
        ({"train_fraction": 0.5}, ParameterError, "axis 'train_fraction' lists its values"),
        ({"activation": ["tanh", "tahn"]}, UnknownNameError, "Did you mean 'tanh'"),
        ({"hidden": (10, 7)}, ParameterError, "hidden must list the widths of the hidden layers but got 10"),
        ({"train_fraction": [0.5, np.float64(0.5)]}, ParameterError, "has the value 0.5 twice"),
        ({"train_fraction": [0.1, 2]}, ParameterError, r"train_fraction must lie in \(0, 1\] but got 2"),
        ({"activation": ["tanh", "relu"]}, ParameterError, "relu activations have no bound"),
    ],
)
def test_bad_axes_are_refused_before_anything_is_made(
    tmp_path: Path, axes: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sweep(tmp_path / "store", axes)
    assert not (tmp_path / "store").exists()


def test_a_sweep_that_would_not_fit_is_refused_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ipstore.local import LocalPlace

    options = {key: value for key, value in OPTIONS.items() if key != "processes"}
    plans = plan_sweep(TASK, "s", AXES, CONFIG, **options, binning=Binning())
    needs = sum(plan.stored_bytes(4) for plan in plans.values())
    monkeypatch.setattr(LocalPlace, "free_bytes", lambda self: needs - 1)
    with pytest.raises(SpaceError, match=r"4 runs at level 'codes' take about .* level 'weights' would take"):
        sweep(tmp_path)
    assert ipstore.runs(tmp_path) == []
    monkeypatch.setattr(LocalPlace, "free_bytes", lambda self: needs)
    sweep(tmp_path)
    monkeypatch.setattr(LocalPlace, "free_bytes", lambda self: 1000)
    with pytest.raises(SpaceError, match=r"more, and 0\.00 GB are free; make room, then go on"):
        resume_sweep(tmp_path, "s", epochs=5000, processes=0)


def test_a_number_of_processes_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="processes must be 0"):
        sweep(tmp_path / "store", processes=-1)
    assert not (tmp_path / "store").exists()


def test_resuming_what_cannot_be(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"there is no sweep 'S'\..* Known: s"):
        resume_sweep(whole, "S")
    with pytest.raises(ResumeError, match="is stored to epoch 5, so sweep 's' cannot end at 4"):
        resume_sweep(whole, "s", epochs=4)
    sweep(tmp_path)
    document = tmp_path / RUNS[1] / "zarr.json"
    text = json.loads(document.read_text())
    text["attributes"]["config"]["learning_rate"] = 0.1
    document.write_text(json.dumps(text))
    with pytest.raises(ResumeError, match=rf"do not belong together: learning_rate is 0.2 in '{RUNS[0]}' and 0.1"):
        resume_sweep(tmp_path, "s", epochs=9, processes=0)
    text["attributes"]["config"] |= {"learning_rate": 0.2, "train_fraction": 0.7}
    document.write_text(json.dumps(text))
    with pytest.raises(ResumeError, match="was trained with other settings than its name says"):
        resume_sweep(tmp_path, "s", epochs=9, processes=0)
