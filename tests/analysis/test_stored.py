"""An analysis is kept in its run, done once, and continued as the run grows."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import ipstore
from ipstore.analysis import analyze, information_plane
from ipstore.analysis.estimators import Estimator, Number
from ipstore.analysis.stored import NonFiniteWarning, Outcome, analyze_all
from ipstore.chunk_files import read_file
from ipstore.errors import (
    ActivationError,
    CorruptionError,
    EstimatorError,
    ParameterError,
    RunLockedError,
    UnknownNameError,
)
from ipstore.writer import RunWriter
from tests.store.synthetic import make_plan, write_epochs, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "store", make_plan("codes", shard=8), 20, status="interrupted")


def grow(run: Path, epochs: int) -> None:
    writer = RunWriter.resume(run.parent, run.name)
    write_epochs(writer, make_plan("codes", shard=8), epochs)
    writer.finish("interrupted")
    writer.close()


def ask(run: Path, **options: Any) -> tuple[xr.Dataset, list[int]]:
    """The result, and how many epochs were stored at each step."""
    told: list[int] = []
    result = analyze(run.parent, run.name, **options, on_progress=lambda done, total: told.append(done))
    return result, told


def test_it_is_what_the_lazy_plane_computes(run: Path) -> None:
    stored, _ = ask(run)
    plane = information_plane(ipstore.open(run)).compute()
    assert stored.chunks
    xr.testing.assert_equal(stored.compute(), plane)
    again = ipstore.open(run)[f"results/{stored.attrs['name']}"].to_dataset()
    xr.testing.assert_identical(again.compute(), stored.compute())


def test_provenance(run: Path) -> None:
    attrs = ask(run, bins=10)[0].attrs
    assert attrs["estimator"] == "binned"
    assert attrs["parameters"]["bins"] == 10
    assert attrs["units"] == "bits"
    assert attrs["source_run"] == "run"
    assert attrs["layers"] == ["layer1", "output"]
    assert attrs["ipstore_version"] == ipstore.__version__
    assert attrs["run_created_at"] == ipstore.open(run).attrs["created_at"]
    assert {"created_at", "estimator_version", "labels", "I_XY", "H_X", "commit"} <= attrs.keys()


def test_what_was_done_is_not_done_again(run: Path) -> None:
    first, told = ask(run)
    assert told[0] == 0
    assert told[-1] == 20
    second, told = ask(run)
    assert told == [20]
    assert second.attrs == first.attrs
    _, told = ask(run, again=True)
    assert told[0] == 0


def test_another_question_is_another_result(run: Path) -> None:
    names = {
        ask(run)[0].attrs["name"],
        ask(run, bins=10)[0].attrs["name"],
        ask(run, layers=["output"])[0].attrs["name"],
        ask(run, bins=30)[0].attrs["name"],  # the default
    }
    assert len(names) == 3
    assert set(ipstore.open(run)["results"].children) == names


def test_only_new_epochs_are_computed(run: Path) -> None:
    grow(run, 75)  # beyond the 64 epochs that a chunk of a result holds
    ask(run)
    grow(run, 90)
    grown, told = ask(run)
    assert told[0] == 75
    assert told[-1] == 90
    xr.testing.assert_equal(grown.compute(), information_plane(ipstore.open(run)).compute())
    assert not ipstore.verify(run)


def test_a_name_that_means_something_else(run: Path) -> None:
    ask(run, name="mine")
    with pytest.raises(ParameterError, match="'mine' is of something else"):
        ask(run, name="mine", bins=10)
    assert ask(run, name="mine", bins=10, again=True)[0].attrs["parameters"]["bins"] == 10
    assert set(ipstore.open(run)["results"].children) == {"mine"}


def test_a_run_that_was_replaced_has_no_results_of_the_old_one(run: Path) -> None:
    ask(run)
    writer = RunWriter.create(run.parent, "run", make_plan("codes", shard=8), 10, overwrite=True)
    write_epochs(writer, make_plan("codes", shard=8), 10)
    writer.finish("finished")
    writer.close()
    assert "results" not in ipstore.open(run).children


def test_damage_is_an_error_and_not_a_seed_that_diverged(run: Path) -> None:
    kept, _ = ask(run)
    chunk = run / "activations/layer1/c.1.2.0.0"
    whole = chunk.read_bytes()
    chunk.unlink()
    with pytest.raises(CorruptionError, match=r"layer1/c\.1\.2\.0\.0 is missing.*ipstore verify"):
        ask(run, again=True)
    flipped = bytearray(whole)
    flipped[50] ^= 1
    chunk.write_bytes(flipped)
    with pytest.raises(CorruptionError, match="its checksum does not match"):
        ask(run, again=True)
    chunk.write_bytes(whole)
    xr.testing.assert_identical(ask(run)[0].compute(), kept.compute())
    ask(run, again=True)


def test_two_at_once(run: Path) -> None:
    def second(done: int, total: int) -> None:
        if done < total:
            with pytest.raises(RunLockedError):
                analyze(run.parent, "run")

    analyze(run.parent, "run", on_progress=second)


def test_a_run_without_epochs(tmp_path: Path) -> None:
    RunWriter.create(tmp_path, "run", make_plan(), 4).close()
    with pytest.raises(ParameterError, match="no committed epoch yet"):
        analyze(tmp_path, "run")


def test_an_unknown_run(run: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"no run 'rum'. Did you mean 'run'"):
        analyze(run.parent, "rum")


def test_nan_activations_are_nan_and_the_rest_stands(tmp_path: Path) -> None:
    from tests.store.synthetic import make_block

    plan = make_plan("full", shard=4)
    block = make_block(plan, 0, 4)
    block.arrays["activations/layer1"][2:, 1] = np.nan
    writer = RunWriter.create(tmp_path, "run", plan, 4)
    writer.write(block)
    writer.finish("finished")
    writer.close()
    message = (
        "run 'run': NaN or infinite activations in layer 'layer1' at epoch 2, seed 10 (and 1 more): binned has "
        "no estimate there; all other cells are stored"
    )
    with pytest.warns(NonFiniteWarning, match=f"^{re.escape(message)}$"):
        plane = analyze(tmp_path, "run").compute()
    lost = plane["I_XT"].isnull()
    assert lost.sel(layer="layer1").values.tolist() == [[False] * 3, [False] * 3] + [[False, True, False]] * 2
    assert not lost.sel(layer="output").any()


# Several estimators at once ---------------------------------------------------


def kernel(
    t: NDArray[Any], p_y_given_x: NDArray[np.float64], *, x_id: Any = None, p_x: Any = None, at: float = 1e9
) -> dict[str, NDArray[np.float64]]:
    """The mean code; fails on cells whose mean is `at`."""
    mean = t.mean(axis=(-2, -1), dtype=np.float64)
    if (mean == at).any():
        raise ZeroDivisionError("nothing left to divide by")
    return {"I_XT": mean, "I_TY": mean / 2}


@pytest.fixture
def mean(monkeypatch: pytest.MonkeyPatch) -> str:
    """Somebody's own estimator, by the name under which it can be asked for."""
    estimator = Estimator(
        "mean",
        1,
        "estimate",
        "a mean",
        "nowhere",
        kernel,
        parameters=(Number("at", "where it fails"),),
        read_codes=lambda binning, given: (given, None),
    )
    monkeypatch.setitem(sys.modules, "mean_package", SimpleNamespace(mean=estimator))
    return "mean_package:mean"


def equal(outcome: Outcome, plane: xr.Dataset) -> None:
    assert outcome.error is None
    assert outcome.result is not None
    xr.testing.assert_equal(outcome.result.compute(), plane.compute())


def test_several_are_what_each_is_alone(run: Path, mean: str) -> None:
    tree = ipstore.open(run)
    outcomes = analyze_all(run.parent, run.name, ["binned", "binned:bins=10", (mean, {})], layers=["output"])
    asked: list[tuple[str, dict[str, Any]]] = [("binned", {}), ("binned", {"bins": 10}), (mean, {})]
    for outcome, (name, params) in zip(outcomes, asked, strict=True):
        equal(outcome, information_plane(tree, name, layers=["output"], **params))
    assert [outcome.estimator for outcome in outcomes] == ["binned", "binned", mean]
    assert len(ipstore.open(run)["results"].children) == 3


def test_they_read_every_chunk_once(run: Path, mean: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []

    def counted(file: str, *how: Any) -> None:
        if "/activations/" in file:
            reads.append(file)
        read_file(file, *how)

    monkeypatch.setattr("ipstore.pipeline.read_file", counted)
    analyze_all(run.parent, run.name, ["binned"])
    once = sorted(reads)
    reads.clear()
    analyze_all(run.parent, run.name, ["binned", "binned:bins=10,15", (mean, {})], again=True)
    assert once
    assert sorted(reads) == once


def test_a_grid_is_a_dimension_and_each_point_a_result(run: Path) -> None:
    grid = analyze(run.parent, run.name, bins=[10, 30])
    assert grid["I_XT"].dims == ("bins", "epoch", "seed", "layer")
    assert grid["bins"].values.tolist() == [10, 30]
    assert grid.attrs["parameters"]["bins"] == [10, 30]
    assert len(ipstore.open(run)["results"].children) == 2
    for bins in (10, 30):
        xr.testing.assert_equal(
            grid.sel(bins=bins, drop=True).compute(), analyze(run.parent, run.name, bins=bins).compute()
        )
    assert len(ipstore.open(run)["results"].children) == 2
    lazy = information_plane(ipstore.open(run), bins=[10, 30])
    xr.testing.assert_equal(grid.compute(), lazy.compute())
    assert lazy.attrs["parameters"] == grid.attrs["parameters"]
    with pytest.raises(ParameterError, match="several results, so it cannot have the one name 'mine'"):
        analyze(run.parent, run.name, bins=[10, 30], name="mine")


def test_one_that_fails_does_not_stop_the_others(run: Path, mean: str) -> None:
    means = analyze(run.parent, run.name, mean)["I_XT"]
    at = float(means[-1, 0, 0])  # fails in the last slab
    broken, whole, refused = analyze_all(run.parent, run.name, [(mean, {"at": at}), "binned", "binned:bins=7"])
    assert isinstance(broken.error, EstimatorError)
    told = r"estimator 'mean_package:mean' failed on layer '(layer1|output)': ZeroDivisionError: nothing left to divide"
    assert re.match(told, str(broken.error))
    equal(whole, information_plane(ipstore.open(run)))
    assert isinstance(refused.error, ParameterError)
    assert "cannot answer bins=7" in str(refused.error)
    results = [node.to_dataset() for node in ipstore.open(run)["results"].children.values()]
    (kept,) = [result["I_XT"] for result in results if result.attrs["parameters"].get("at") == at]
    stored = kept.notnull().all(["seed", "layer"]).compute()
    assert 0 < stored.sum() < 20
    xr.testing.assert_equal(kept[stored].compute(), means[stored].compute())
    with pytest.raises(EstimatorError, match="nothing left"):
        analyze(run.parent, run.name, mean, at=at)
    with pytest.raises(UnknownNameError, match="no estimator 'bined'"):
        analyze_all(run.parent, run.name, ["binned", "bined"])


def test_those_that_are_less_far_catch_up(run: Path) -> None:
    analyze(run.parent, run.name)
    told: list[int] = []
    outcomes = analyze_all(
        run.parent, run.name, ["binned", "binned:bins=10"], on_progress=lambda done, total: told.append(done)
    )
    assert told[0] == 0
    assert told[-1] == 20
    equal(outcomes[1], information_plane(ipstore.open(run), bins=10))


def test_every_so_many_epochs_also_of_a_run_that_grows(run: Path) -> None:
    thin = analyze(run.parent, run.name, every=6)
    assert thin["epoch"].values.tolist() == [0, 6, 12, 18]
    grow(run, 30)
    grown = analyze(run.parent, run.name, every=6)
    assert grown.attrs["name"] == thin.attrs["name"]
    assert grown["epoch"].values.tolist() == [0, 6, 12, 18, 24]
    whole = information_plane(ipstore.open(run))
    xr.testing.assert_equal(grown.compute(), whole.sel(epoch=grown["epoch"]).compute())


def test_what_the_codes_cannot_answer(run: Path) -> None:
    with pytest.raises(ActivationError, match="target 'output' cannot be told"):
        analyze(run.parent, run.name, target="output")
    with pytest.raises(ParameterError, match="does not say on which samples"):
        analyze(run.parent, run.name, split="train")
