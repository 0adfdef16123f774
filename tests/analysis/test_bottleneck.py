"""A run against the information bottleneck: what arrays give, lazily, in every cell; and kept in the run."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import ipstore
from ipstore.analysis import analyze, analyze_bound, bound, ib, information_plane, self_consistency
from ipstore.analysis.plane import View
from ipstore.analysis.stored import NonFiniteWarning
from ipstore.errors import ActivationError, ParameterError, UnknownNameError
from ipstore.plan import RunPlan
from ipstore.schema import StaticArray
from ipstore.writer import RunWriter
from tests.store.synthetic import LAYERS, SAMPLES, make_block, make_plan, write_epochs, write_run

da: Any = dask.array  # its functions carry no types

INPUTS = SAMPLES // 2
Y = np.repeat(np.arange(INPUTS) % 2, 2)

DISTANCES = ["IB_distance_I_TY", "IB_distance_I_XT", "deterministic_distance_I_TY", "deterministic_distance_H_T"]
INFORMATION = ["I_XT", "I_TY", "H_T", "n_cells"]
CURVES = [f"curve_{name}" for name in ("I_XT", "I_TY", "beta", "gap")] + ["deterministic_H_T", "deterministic_I_TY"]
QUANTITIES = [*INFORMATION, "beta", "beta_capped", "residual", "residual_at_0", *DISTANCES, "at_bound"]

COARSE: dict[str, Any] = {"bins": 2, "tol": 1e-3}
"""Parameters under which random codes of 30 bins share values of T, and the curve is quick to compute."""


def soft(classes: int) -> NDArray[np.float64]:
    """p(y|x) of samples of which two by two are one input."""
    return np.repeat(np.random.default_rng(classes).dirichlet(np.ones(classes), INPUTS), 2, axis=0)


def plan_of(level: Any = "codes", p_y_given_x: NDArray[np.float64] | None = None, **changes: Any) -> RunPlan:
    """A run on inputs of unequal weights, each of them stored twice."""
    weights = np.random.default_rng(0).dirichlet(np.ones(SAMPLES))
    rows = soft(2) if p_y_given_x is None else p_y_given_x
    probe = [
        StaticArray("probe/x", ("sample", "feature"), np.repeat(np.eye(INPUTS, dtype=np.float32), 2, axis=0)),
        StaticArray("probe/x_id", ("sample",), np.arange(SAMPLES) // 2),
        StaticArray("probe/y", ("sample",), Y),
        StaticArray("probe/p_x", ("sample",), weights),
        StaticArray("probe/p_y_given_x", ("sample", "class"), rows),
    ]
    return make_plan(level, probe=probe, **changes)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "store", plan_of(shard=8), 20, status="interrupted")


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """The same, of few epochs, where what is asked says enough."""
    return write_run(tmp_path / "store", plan_of(shard=8), 3, status="interrupted")


def ask(run: Path, **options: Any) -> tuple[xr.Dataset, list[int]]:
    """The result, and how many epochs were stored at each step."""
    told: list[int] = []
    result = analyze_bound(
        run.parent, run.name, **{**COARSE, **options}, on_progress=lambda done, total: told.append(done)
    )
    return result, told


def grow(run: Path, epochs: int) -> None:
    writer = RunWriter.resume(run.parent, run.name)
    write_epochs(writer, plan_of(shard=8), epochs)
    writer.finish("interrupted")
    writer.close()


def probe_of(run: xr.DataTree) -> Any:
    return View().probe(run)


# What it computes -------------------------------------------------------------


def test_every_cell_is_what_arrays_give(run: Path) -> None:
    tree = ipstore.open(run)
    found = self_consistency(tree, **COARSE)
    assert {str(name): array.dims for name, array in found.data_vars.items()} == {
        **dict.fromkeys(QUANTITIES, ("epoch", "seed", "layer")),
        **dict.fromkeys(CURVES[:4], ("point",)),
        **dict.fromkeys(CURVES[4:], ("vertex",)),
    }
    for layer in LAYERS:
        codes = tree["activations"].dataset[layer].values // 15  # two bins, of 30 that are stored
        expected = ib.self_consistency(codes.astype(int), probe_of(tree), tol=1e-3)
        for name in QUANTITIES:
            np.testing.assert_allclose(found[name].sel(layer=layer), expected[name], atol=1e-12, err_msg=name)
        xr.testing.assert_identical(found[CURVES], expected[CURVES].assign_attrs(found.attrs).assign_coords())


def test_information_is_that_of_the_information_plane(run: Path) -> None:
    tree = ipstore.open(run)
    plane = information_plane(tree, bins=2).compute()
    found = self_consistency(tree, **COARSE)[INFORMATION].compute()
    for name in INFORMATION:
        np.testing.assert_allclose(found[name], plane[name], atol=1e-12, err_msg=name)
        assert found[name].attrs == plane[name].attrs
    assert found["I_XT"].std() > 0  # cells differ, or the test would show little


@pytest.mark.parametrize("classes", [2, 3])
def test_nothing_is_less_than_no_distance(tmp_path: Path, classes: int) -> None:
    folder = write_run(tmp_path, plan_of(p_y_given_x=soft(classes)), 4)
    found = self_consistency(ipstore.open(folder), **COARSE).compute()
    assert found.attrs["certificate"] == ("rigorous" if classes == 2 else "heuristic")
    assert (found["residual"] >= 0).all()
    assert (found["residual"] <= found["IB_distance_I_XT"] + 1e-9).all()
    assert (found["IB_distance_I_XT"] <= found["I_XT"] + 1e-12).all()
    assert (found[DISTANCES].to_dataarray() >= 0).all()
    assert (found["residual_at_0"] == found["I_XT"]).all()


def test_nothing_is_computed_before_it_is_asked_for(run: Path) -> None:
    def fail(block: NDArray[Any]) -> NDArray[Any]:
        raise AssertionError("read")

    tree = ipstore.open(run).copy()
    layers = tree["activations"].dataset
    unread = {name: array.copy(data=da.map_blocks(fail, array.data, dtype=array.dtype, meta=np.empty((0,) * 4, "u1")))
              for name, array in layers.data_vars.items()}  # fmt: skip
    tree["activations"] = layers.assign(unread)
    found = self_consistency(tree, **COARSE)
    assert all(found[name].chunks is not None for name in QUANTITIES)
    assert all(found[name].chunks is None for name in CURVES)
    with pytest.raises(Exception, match="read"):
        found["beta"].compute()


def test_the_curve_of_a_run_is_that_of_its_labels(run: Path) -> None:
    tree = ipstore.open(run)
    found = bound(tree, tol=1e-3)
    xr.testing.assert_equal(found, ib.curve(probe_of(tree), 1e-3))
    assert (found.attrs["source_run"], found.attrs["probe"], found.attrs["labels"]) == ("run", "sample", "soft")
    assert "labels_from" not in found.attrs
    beside = self_consistency(tree, **COARSE)
    xr.testing.assert_equal(ib.curve_of(beside), found[["I_XT", "I_TY", "beta", "gap"]])
    attrs = ib.curve_of(beside).attrs
    rounded = {name: pytest.approx(found.attrs[name], abs=1e-12) for name in ("I_XY", "H_Y")}  # of inputs, of states
    assert attrs == {name: found.attrs[name] for name in attrs} | rounded


def test_the_accessor_does_the_same(run: Path) -> None:
    tree = ipstore.open(run)
    xr.testing.assert_identical(tree.ip.bound(tol=1e-3), bound(tree, tol=1e-3))
    asked = {"every": 10, "layers": ["output"], **COARSE}
    xr.testing.assert_identical(
        tree.ip.self_consistency("binned", **asked).compute(), self_consistency(tree, "binned", **asked).compute()
    )


def test_any_estimator_of_discrete_T(tmp_path: Path) -> None:
    tree = ipstore.open(write_run(tmp_path, plan_of("full"), 2))
    asked: list[tuple[str, dict[str, Any]]] = [("binned", {"bins": 3}), ("quantised", {}), ("discrete", {})]
    for estimator, params in asked:
        found = self_consistency(tree, estimator, tol=1e-3, **params).compute()
        plane = information_plane(tree, estimator, **params)
        np.testing.assert_allclose(found["I_TY"], plane["I_TY"], atol=1e-12)
    # Every sample has a T of its own, and so two have each input: the encoder spreads over them what it need not say.
    assert (found["n_cells"] == SAMPLES).all()
    assert (found["beta_capped"] == 1).all()
    np.testing.assert_allclose(found["I_XT"], found.attrs["H_X"], atol=1e-12)
    np.testing.assert_allclose(found["residual"], 0, atol=1e-9)


@pytest.mark.parametrize("estimator", ["kde_upper", "gaussian", "knn"])
def test_estimators_without_discrete_T_name_those_that_will_do(short: Path, estimator: str) -> None:
    for attempt in (lambda: self_consistency(ipstore.open(short), estimator), lambda: ask(short, estimator=estimator)):
        with pytest.raises(ParameterError, match=f"'{estimator}' .* use one of binned, discrete, quantised"):
            attempt()
    assert "results" not in ipstore.open(short).children


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tol": 0}, ParameterError, r"tol must be a number in \(1e-07, 1\) but got 0"),
        ({"within": -1}, ParameterError, "within must be a number in .* but got -1"),
        ({"beta_max": np.inf}, ParameterError, "beta_max must be a number in .* but got inf"),
        ({"correction": "grassberger"}, ParameterError, "has no parameter 'correction'; it has bins, .*tol, within"),
        ({"bins": 7}, ParameterError, "cannot answer bins=7"),
        ({"layers": ["outptu"]}, UnknownNameError, "no layer 'outptu'. Did you mean 'output'"),
        ({"estimator": "bined"}, UnknownNameError, "no estimator 'bined'. Did you mean 'binned'"),
        ({"estimator": "quantised", "bins": None}, ParameterError, "bins"),
        ({"labels": np.full((SAMPLES, 2), 0.5)}, ParameterError, "so Y is independent of X.*Give labels that depend"),
        ({"labels": np.full((3, 2), 0.5)}, ParameterError, "of 3 samples but the run has 32"),
    ],
)
def test_what_cannot_be_had(short: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        self_consistency(ipstore.open(short), **options)
    with pytest.raises(error, match=message):
        analyze_bound(short.parent, short.name, **options)
    assert "results" not in ipstore.open(short).children


def test_a_run_without_activations(tmp_path: Path) -> None:
    folder = write_run(tmp_path, plan_of("weights"), 2)
    assert bound(ipstore.open(folder)).attrs["labels"] == "soft"  # which needs none
    with pytest.raises(ActivationError, match="holds no activations"):
        self_consistency(ipstore.open(folder))
    with pytest.raises(ActivationError, match="holds no activations"):
        analyze_bound(tmp_path, "run")


def test_what_is_no_run(run: Path) -> None:
    for attempt in (bound, self_consistency):
        with pytest.raises(ParameterError, match="an analysis needs one run but got a tree with run"):
            attempt(ipstore.open(run.parent))


# Other labels -----------------------------------------------------------------


def test_hard_labels_are_those_of_a_run_captured_with_them(short: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "hard", plan_of(shard=8, p_y_given_x=np.eye(2)[Y]), 3, status="interrupted")
    found, expected = (
        self_consistency(ipstore.open(each), labels=labels, **COARSE).compute()
        for each, labels in ((short, "hard"), (other, "stored"))
    )
    xr.testing.assert_equal(found, expected)
    assert (found.attrs["labels"], found.attrs["labels_from"]) == ("hard", "hard")
    # The curve is a straight line, and says no more than the plane does.
    np.testing.assert_allclose(found["IB_distance_I_XT"], found["I_XT"] - found["I_TY"], atol=1e-6)
    xr.testing.assert_equal(bound(ipstore.open(short), labels="hard"), bound(ipstore.open(other)))
    assert bound(ipstore.open(short), labels="hard").attrs["labels_from"] == "hard"


def test_labels_of_ones_own_serve_the_information_and_the_curve(short: Path) -> None:
    tree = ipstore.open(short)
    rows = xr.DataArray(soft(3), dims=("sample", "class"), name="three kinds")
    found = self_consistency(tree, labels=rows, **COARSE)
    plane = information_plane(tree, bins=2, labels=rows)
    assert found.attrs["labels_name"] == "three kinds"
    assert {name: found.attrs[name] for name in ("I_XY", "labels_from")} == {
        name: plane.attrs[name] for name in ("I_XY", "labels_from")
    }
    np.testing.assert_allclose(found["I_TY"], plane["I_TY"], atol=1e-12)
    xr.testing.assert_equal(
        ib.curve_of(found), ib.curve(View(labels=rows).probe(tree), 1e-3)[["I_XT", "I_TY", "beta", "gap"]]
    )
    names = {ask(short, labels=labels)[0].attrs["name"] for labels in ("stored", "hard", rows, rows.values)}
    assert len(names) == 3  # a name does not make labels others


# No curve, and grids ----------------------------------------------------------


def test_without_a_tolerance_there_is_no_curve_and_no_distance(short: Path) -> None:
    tree = ipstore.open(short)
    found, whole = self_consistency(tree, bins=2, tol=None).compute(), self_consistency(tree, **COARSE).compute()
    assert set(map(str, found.data_vars)) == set(QUANTITIES)
    nothing = [*DISTANCES, "at_bound"]
    assert found[nothing].to_dataarray().isnull().all()
    xr.testing.assert_equal(found.drop_vars(nothing), whole.drop_vars([*nothing, *CURVES]))
    stored, _ = ask(short, tol=None)
    xr.testing.assert_equal(stored.compute(), found)
    assert ask(short)[0].attrs["name"] != stored.attrs["name"]


def test_a_grid_has_its_curves_once(short: Path) -> None:
    tree = ipstore.open(short)
    found = self_consistency(tree, bins=[2, 3], tol=1e-3)
    assert found["beta"].dims == ("bins", "epoch", "seed", "layer")
    assert [found[name].dims for name in CURVES] == [("point",)] * 4 + [("vertex",)] * 2
    assert found.attrs["parameters"]["bins"] == [2, 3]
    for bins in (2, 3):
        one = self_consistency(tree, bins=bins, tol=1e-3).compute()
        xr.testing.assert_equal(found.sel(bins=bins, drop=True).compute(), one)
    stored, _ = ask(short, bins=[2, 3])
    xr.testing.assert_equal(stored.compute(), found.compute())
    assert len(ipstore.open(short)["results"].children) == 2


def test_a_grid_of_what_counts_as_at_the_bound(short: Path) -> None:
    found = self_consistency(ipstore.open(short), bins=2, tol=1e-3, within=[0.01, 50.0]).compute()
    xr.testing.assert_equal(*(found["IB_distance_I_XT"].isel(within=each, drop=True) for each in (0, 1)))
    assert (found["at_bound"] == (found["IB_distance_I_XT"] <= found["within"])).all()
    assert found["at_bound"].sel(within=50).all()


# Kept in the run --------------------------------------------------------------


def test_it_is_what_the_lazy_answer_computes(run: Path) -> None:
    stored, _ = ask(run)
    lazy = self_consistency(ipstore.open(run), **COARSE)
    assert all(stored[name].chunks for name in QUANTITIES)
    xr.testing.assert_equal(stored.compute(), lazy.compute())
    for name in lazy.data_vars:
        assert stored[name].attrs == lazy[name].attrs, name
    assert lazy.attrs.items() <= stored.attrs.items()
    again = ipstore.open(run)[f"results/{stored.attrs['name']}"].to_dataset()
    xr.testing.assert_identical(again.compute(), stored.compute())
    xr.testing.assert_identical(ib.curve_of(again).compute(), ib.curve_of(lazy))


def test_provenance(short: Path) -> None:
    attrs = ask(short)[0].attrs
    assert attrs["about"] == "bound"
    assert attrs["estimator"] == "binned"
    assert attrs["parameters"] == {
        "bins": 2,
        "range": [-1.0, 1.0],
        "width": None,
        "rule": "equal",
        "beta_max": 1e6,
        "tol": 1e-3,
        "within": 0.01,
    }
    assert re.fullmatch(r"bound-binned-[0-9a-f]{8}", attrs["name"])
    assert (attrs["source_run"], attrs["layers"], attrs["units"]) == ("run", ["layer1", "output"], "bits")
    assert (attrs["labels"], attrs["certificate"]) == ("soft", "rigorous")
    assert "labels_from" not in attrs
    assert 0 < attrs["curve_error"] <= 1e-3
    assert attrs["run_created_at"] == ipstore.open(short).attrs["created_at"]
    assert {"onset_beta", "I_XY", "H_X", "H_Y", "created_at", "commit", "estimator_version"} <= attrs.keys()
    assert ask(short, labels="hard")[0].attrs["labels_from"] == "hard"


def test_what_was_done_is_not_done_again(run: Path) -> None:
    first, told = ask(run)
    assert (told[0], told[-1]) == (0, 20)
    second, told = ask(run)
    assert told == [20]
    assert second.attrs == first.attrs
    kept = first.compute()
    anew, told = ask(run, again=True)
    assert told[0] == 0
    xr.testing.assert_equal(anew.compute(), kept)


def test_another_question_is_another_result(short: Path) -> None:
    asked: list[dict[str, Any]] = [
        {},
        {"bins": 3},
        {"tol": 1e-2},
        {"within": 0.1},
        {"beta_max": 10.0},
        {"labels": "hard"},
        {"within": 0.01, "beta_max": 1e6},  # the defaults
    ]
    names = {ask(short, **options)[0].attrs["name"] for options in asked}
    names.add(analyze(short.parent, short.name, bins=2).attrs["name"])
    assert len(names) == len(asked)
    assert set(ipstore.open(short)["results"].children) == names


def test_an_information_plane_of_the_same_name_is_something_else(short: Path) -> None:
    analyze(short.parent, short.name, bins=2, name="mine")
    with pytest.raises(ParameterError, match=r"'mine' is of something else .*about"):
        ask(short, name="mine")
    assert ask(short, name="mine", again=True)[0].attrs["about"] == "bound"
    with pytest.raises(ParameterError, match=r"'mine' is of something else .*about"):
        analyze(short.parent, short.name, bins=2, name="mine")


def test_only_new_epochs_are_computed(run: Path) -> None:
    before, _ = ask(run)
    name = before.attrs["name"]
    kept = before.compute()
    grow(run, 30)
    lags = ipstore.open(run)[f"results/{name}"].to_dataset().compute()
    xr.testing.assert_identical(lags.sel(epoch=slice(0, 19)), kept)
    xr.testing.assert_identical(
        lags[CURVES].drop_vars("epoch", errors="ignore"), kept[CURVES].drop_vars("epoch", errors="ignore")
    )
    assert lags[QUANTITIES].sel(epoch=slice(20, None)).to_dataarray().isnull().all()
    grown, told = ask(run)
    assert (told[0], told[-1]) == (20, 30)
    assert grown.attrs["name"] == name
    xr.testing.assert_equal(grown.compute(), self_consistency(ipstore.open(run), **COARSE).compute())
    xr.testing.assert_equal(grown[CURVES].compute(), kept[CURVES])
    assert not ipstore.verify(run)


def test_some_epochs_also_of_a_run_that_grows(run: Path) -> None:
    assert ask(run, every=8)[0]["epoch"].values.tolist() == [0, 8, 16]
    grow(run, 30)
    grown, _ = ask(run, every=8)
    assert grown["epoch"].values.tolist() == [0, 8, 16, 24]
    whole = self_consistency(ipstore.open(run), **COARSE)
    xr.testing.assert_equal(grown.compute(), whole.sel(epoch=grown["epoch"]).compute())


def test_what_is_broken_off_goes_on_from_there(run: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyze_bound(run.parent, run.name, **COARSE, on_progress=stop)
    found, told = ask(run)
    assert 0 < told[0] < told[-1] == 20
    xr.testing.assert_equal(found.compute(), self_consistency(ipstore.open(run), **COARSE).compute())


def test_seeds_that_diverged_have_no_answer_and_the_rest_stands(tmp_path: Path) -> None:
    plan = plan_of("full", shard=4)
    block = make_block(plan, 0, 4)
    block.arrays["activations/layer1"][2:, 1] = np.nan
    writer = RunWriter.create(tmp_path, "run", plan, 4)
    writer.write(block)
    writer.finish("finished")
    writer.close()
    told = r"^run 'run': NaN or infinite activations in layer 'layer1' at epoch 2, seed 10 \(and 1 more\): binned has"
    with pytest.warns(NonFiniteWarning, match=told):
        found = analyze_bound(tmp_path, "run", **COARSE).compute()
    lost = [(epoch, 10, "layer1") for epoch in (2, 3)]
    for name, (epoch, seed, layer) in product(QUANTITIES, product(range(4), (0, 10, 20), LAYERS)):
        cell = found[name].sel(epoch=epoch, seed=seed, layer=layer)
        assert np.isnan(cell) == ((epoch, seed, layer) in lost), (name, epoch, seed, layer)
    assert all(found[name].notnull().all() for name in CURVES)
