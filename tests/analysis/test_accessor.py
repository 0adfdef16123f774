"""The accessor ``.ip``: thin, visible to an IDE, and what it shows of a run."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import ipstore
from ipstore import analysis
from ipstore.analysis import accessor, dynamics, information_plane
from tests.analysis.test_views import make_run
from tests.store.synthetic import make_plan, write_run

RUN, DATASET, ARRAY = accessor.RunAccessor, accessor.DatasetAccessor, accessor.ArrayAccessor
THIN = [
    (RUN.information_plane, analysis.information_plane),
    (RUN.information_planes, analysis.information_planes),
    (RUN.bound, analysis.bound),
    (RUN.self_consistency, analysis.self_consistency),
    (RUN.distributions, analysis.distributions),
    (RUN.dynamics, dynamics.measure_run),
    (RUN.layer_activity, analysis.layer_activity),
    (RUN.sweep, analysis.sweep),
    (DATASET.summary, analysis.summary),
    (DATASET.dynamics, dynamics.measure),
    (DATASET.over_seeds, dynamics.over_seeds),
    (ARRAY.seed_interval, analysis.seed_interval),
]
BY_PATH = {"analyze", "analyze_all", "analyze_bound"}
"""What takes a path, since it writes: no tree can stand in for it."""


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())[1:]


@pytest.mark.parametrize(("method", "function"), THIN, ids=lambda each: each.__qualname__)
def test_a_method_takes_what_its_function_takes(method: Any, function: Any) -> None:
    assert parameters(method) == parameters(function)
    assert inspect.signature(method, eval_str=True).return_annotation == (
        inspect.signature(function, eval_str=True).return_annotation
    )
    home = "dynamics." if function.__module__.startswith("ipstore.analysis.dynamics") else ""
    assert f"`ipstore.analysis.{home}{function.__name__}`" in method.__doc__


def test_no_public_function_of_a_run_and_no_method_is_left_out() -> None:
    functions = {name for name in analysis.__all__ if inspect.isfunction(vars(analysis).get(name))}
    assert functions - BY_PATH == {function.__name__ for _, function in THIN if function.__name__ in functions}
    methods = {
        method for kind in (RUN, DATASET, ARRAY) for name, method in vars(kind).items() if not name.startswith("_")
    }
    assert methods - {DATASET.estimate, ARRAY.estimate} == {method for method, _ in THIN}


@pytest.fixture(scope="module")
def run() -> xr.DataTree:
    return make_run()


CALLS: dict[str, dict[str, Any]] = {
    "information_plane": {
        "estimator": "binned",
        "layers": ["layer1"],
        "every": 2,
        "split": "test",
        "labels": "hard",
        "quantities": ["I_XT"],
        "bins": [3, 5],
    },
    "information_planes": {"asks": ["binned:bins=3"], "layers": ["output"], "every": 4, "target": "output"},
    "bound": {"labels": "hard", "tol": 1e-2},
    "self_consistency": {"estimator": "binned", "layers": ["layer1"], "every": 4, "labels": "hard", "tol": 1e-2},
    "distributions": {"layer": "layer1", "epoch": 2, "seed": 8, "estimator": "binned", "beta": 3.0, "bins": 4},
    "layer_activity": {"layer": "layer1", "epochs": 2, "seeds": [8], "histogram_bins": 7, "bins": 4},
    "dynamics": {"layers": ["layer1"], "split": "train", "share": 0.1, "least": 0.01, "stretch": 0.2, "bins": 4},
}


@pytest.mark.parametrize("name", CALLS)
def test_a_method_passes_on_all_that_it_is_given(run: xr.DataTree, name: str) -> None:
    method: Any
    function: Any
    method, function = (
        getattr(run.ip, name),
        {a.__name__: b for a, b in THIN if a.__qualname__.startswith("Run")}[name],
    )
    found, expected = method(**CALLS[name]), function(run, **CALLS[name])
    for one, other in zip(
        *([each] if isinstance(each, xr.Dataset) else each for each in (found, expected)), strict=True
    ):
        xr.testing.assert_identical(one.compute(), other.compute())


def test_every_option_of_the_dynamics_reaches_them(run: xr.DataTree) -> None:
    options: dict[str, Any] = {"share": 0.11, "least": 0.02, "least_label": 0.03, "stretch": 0.2}
    options |= {"error": "error", "accuracy": 0.7, "stays": True}
    plane = information_plane(run, bins=4)
    for found in (run.ip.dynamics(bins=4, **options), plane.ip.dynamics(**options)):
        assert found.attrs["dynamics"] == options
    training = xr.Dataset(
        {"accuracy": (("epoch", "seed", "split"), np.linspace(0, 1, 15).reshape(5, 3, 1))},
        {"epoch": run["epoch"], "seed": run["seed"], "split": ["test"]},
    )
    assert "epochs_to" in plane.ip.dynamics(training)


def test_a_plane_is_summed_up(run: xr.DataTree) -> None:
    plane = information_plane(run, bins=4).compute()
    xr.testing.assert_identical(plane.ip.summary(), analysis.summary(plane))
    xr.testing.assert_identical(plane.ip.over_seeds(level=0.8), dynamics.over_seeds(plane, level=0.8))
    wide = xr.DataArray(np.random.default_rng(0).normal(size=(2, 9)), dims=("layer", "seed"))
    found = wide.ip.seed_interval(0.5, resamples=50, random_state=3)
    xr.testing.assert_identical(found, analysis.seed_interval(wide, 0.5, resamples=50, random_state=3))
    assert not found.equals(analysis.seed_interval(wide, 0.5, resamples=50, random_state=4))


# What is shown ----------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Path:
    place = tmp_path / "<b>runs.zarr"
    attrs = {"task": "rule", "task_params": {"signed": True, "note": "<script>alert(1)</script>"}}
    model = {"kind": "mlp", "widths": [4, 3, 2], "activation": "tanh<img src=x>"}
    plan = make_plan()
    write_run(place, make_plan(attrs={**plan.attrs, **attrs, "model": model}), 6, run="first")
    write_run(place, plan, 0, run="second", status="interrupted")
    return place


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("an array was read")


def test_an_opened_run_says_what_it_is_and_reads_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = ipstore.open(store, run="first")
    monkeypatch.setattr(da.Array, "compute", refuse)
    monkeypatch.setattr(xr.Variable, "load", refuse)
    for shown in (repr(tree.ip), tree.ip._repr_html_()):
        for words in (
            "first",
            "rule:signed=true",
            "4-3-2 tanh",
            ">5<" if shown.startswith("<") else "epochs            5\n",
            "3 (0, 10, 20)",
            "layer1",
            "finished",
            "none yet",
        ):
            assert words in shown, words
    assert "information_plane" not in repr(tree["probe"].ip)
    assert "is no run and no store" in repr(tree["probe"].ip)


def test_an_opened_store_lists_its_runs(store: Path) -> None:
    tree = ipstore.open(store)
    assert repr(tree.ip).splitlines()[0].endswith("2 runs")
    assert "interrupted" in tree.ip._repr_html_()


def test_results_are_named_with_their_questions(store: Path) -> None:
    analysis.analyze(store, "first", "binned", bins=7, name="mine")
    tree = ipstore.open(store, run="first")
    assert "mine: binned (bins 7" in repr(tree.ip)


def test_what_a_strangers_store_says_is_text_and_never_markup(store: Path) -> None:
    for shown in (ipstore.open(store).ip, ipstore.open(store, run="first").ip):
        page = shown._repr_html_()
        assert "&lt;script&gt;" in page
        assert not [mark for mark in ("<script", "<img", "<b>runs") if mark in page]
