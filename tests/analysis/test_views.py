"""Which samples count, what Y is, which epochs, and several questions at once: against the estimator on arrays."""

import hashlib
import json
import sys
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import ipstore
from ipstore.analysis import analyze, analyze_all, estimators, information_plane, information_planes
from ipstore.analysis.plane import View
from ipstore.analysis.probe import Probe
from ipstore.analysis.questions import expand, stack
from ipstore.errors import ActivationError, EstimatorError, ParameterError
from ipstore.writer import RunWriter
from tests.store.synthetic import make_plan, write_epochs, write_run

EPOCHS, SEEDS, SAMPLES = 5, 3, 48
LAYERS = {"layer1": 4, "output": 3}


def make_run(**changes: Any) -> xr.DataTree:
    """A run whose networks were trained on two thirds of a sample with repeated inputs and unequal weights."""
    rng = np.random.default_rng(3)
    weights = rng.uniform(1, 2, SAMPLES)
    given = {
        "p_x": weights / weights.sum(),
        "x_id": np.arange(SAMPLES) // 2,
        "p_y_given_x": np.repeat(rng.dirichlet([1, 1, 1], SAMPLES // 2), 2, axis=0),
        "train": np.stack([rng.permutation(SAMPLES) < SAMPLES * 2 // 3 for _ in range(SEEDS)]),
        "y": np.arange(SAMPLES) // 2 % 3,  # not the likeliest class, so that it can be told from that
    }
    given |= changes
    dims = {"p_y_given_x": ("sample", "class"), "train": ("seed", "sample")}
    stored = {
        layer: (
            ("epoch", "seed", "sample", f"{layer}_unit"),
            np.tanh(rng.normal(0, 1, (EPOCHS, SEEDS, SAMPLES, units))).astype(np.float32),
        )
        for layer, units in LAYERS.items()
    }
    root = xr.Dataset(
        coords={"epoch": [0, 1, 2, 4, 8], "seed": [7, 8, 9]}, attrs={"level": "full", "probe": "population"}
    )
    probe = xr.Dataset(
        {name: (dims.get(name, ("sample",)), values) for name, values in given.items() if values is not None}
    )
    activations = xr.Dataset(stored, attrs={"layers": list(LAYERS)}).chunk(epoch=2, seed=1)
    return xr.DataTree.from_dict({"/": root, "/probe": probe, "/activations": activations}, name="mine")


@pytest.fixture(scope="module")
def run() -> xr.DataTree:
    return make_run()


def arrays(run: xr.DataTree, seed: int, keep: NDArray[np.bool_]) -> dict[str, Any]:
    """Arguments of `estimate` beside the activations, for the samples that are kept."""
    probe = run["probe"].dataset.sel(seed=seed)
    p_x = probe["p_x"].to_numpy()[keep]
    return {
        "p_y_given_x": probe["p_y_given_x"].to_numpy()[keep],
        "x_id": probe["x_id"].to_numpy()[keep],
        "p_x": p_x / p_x.sum(),
    }


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_is_the_estimate_on_those_samples(run: xr.DataTree, split: str) -> None:
    plane = information_plane(run, split=split, bins=5)  # type: ignore[arg-type]
    assert plane.attrs["split"] == split
    assert plane["I_XT"].chunks is not None
    h_x = []
    for seed in (7, 8, 9):
        train = run["probe"].dataset["train"].sel(seed=seed).to_numpy()
        keep = train if split == "train" else ~train
        given = arrays(run, seed, keep)
        h_x.append(Probe.of(**given).H_X)
        for layer in LAYERS:
            t = run["activations"].dataset[layer].sel(seed=seed).to_numpy()[:, keep]
            expected = estimators.estimate("binned", t, **given, bins=5)
            for name in ("I_XT", "I_TY", "n_cells"):
                np.testing.assert_allclose(plane[name].sel(seed=seed, layer=layer), expected[name], atol=1e-12)
    assert plane.attrs["H_X"] == pytest.approx(np.mean(h_x))


def test_all_is_neither_part(run: xr.DataTree) -> None:
    whole, train = information_plane(run, bins=5).compute(), information_plane(run, bins=5, split="train").compute()
    assert (whole["n_cells"] > train["n_cells"]).all()


@pytest.mark.parametrize(
    ("train", "options", "message"),
    [
        (None, {"split": "train"}, "does not say on which samples its networks were trained"),
        (np.ones((SEEDS, SAMPLES), bool), {"split": "test"}, "no samples of split 'test': it trained on all"),
        (None, {"split": "validation"}, "split must be one of 'all', 'train', 'test' but got 'validation'"),
        (None, {"target": "input"}, "target must be one of 'labels', 'output' but got 'input'"),
        (None, {"every": 0}, "every must be a number of epochs, 1 or more, but got 0"),
    ],
)
def test_views_that_are_refused(train: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        information_plane(make_run(train=train), **options)


def test_a_part_of_one_class_is_refused() -> None:
    labels = np.eye(2)[(np.arange(SAMPLES) == 0).astype(int)]
    train = np.ones((SEEDS, SAMPLES), bool)
    train[:, 0] = False
    with pytest.raises(ParameterError, match="the labels hold one class only"):
        information_plane(make_run(p_y_given_x=labels, train=train, x_id=None), split="train")


def test_the_networks_own_answer_as_Y(run: xr.DataTree) -> None:
    found = information_plane(run, target="output", bins=4).compute()
    assert {"I_TY", "H_Y"} <= set(found) <= {"I_TY", "H_Y", "I_TY_se"}
    assert found.attrs["labels"] == "output"
    assert "I_XY" not in found.attrs
    probe = arrays(run, 7, np.ones(SAMPLES, bool))
    for layer in LAYERS:
        for epoch in run["epoch"].to_numpy():
            for seed in (7, 8, 9):
                cells = {
                    name: a.sel(epoch=epoch, seed=seed).to_numpy() for name, a in run["activations"].data_vars.items()
                }
                answers = np.eye(3)[cells["output"].argmax(axis=1)]
                expected = estimators.estimate("binned", cells[layer], **{**probe, "p_y_given_x": answers}, bins=4)
                at = found.sel(epoch=epoch, seed=seed, layer=layer)
                assert at["I_TY"] == pytest.approx(expected["I_TY"], abs=1e-12)
                assert at["H_Y"] == pytest.approx(Probe.of(**{**probe, "p_y_given_x": answers}).H_Y)


def test_hard_labels_are_those_of_a_run_captured_with_them(run: xr.DataTree) -> None:
    one_hot = np.eye(3)[run["probe"].dataset["y"].to_numpy()]
    for split in ("all", "test"):
        found = information_plane(run, labels="hard", split=split)
        expected = information_plane(make_run(p_y_given_x=one_hot), split=split)
        assert found.attrs == {**expected.attrs, "labels_from": "hard"}
        assert found.attrs["labels"] == "hard"
        xr.testing.assert_equal(found.compute(), expected.compute())
    assert information_plane(run).attrs["I_XY"] < expected.attrs["I_XY"]


def test_other_labels_of_the_same_inputs(run: xr.DataTree) -> None:
    other = np.repeat(np.random.default_rng(5).dirichlet([1] * 5, SAMPLES // 2), 2, axis=0)
    found = information_plane(run, labels=other)
    expected = information_plane(make_run(p_y_given_x=other))
    xr.testing.assert_equal(found.compute(), expected.compute())
    rows = View(labels=other).probe(run).p_y_given_x
    digest = hashlib.sha256(rows.astype("<f8").tobytes()).hexdigest()
    assert found.attrs == {**expected.attrs, "labels_from": digest}
    named = information_plane(run, labels=xr.DataArray(other, dims=("sample", "class"), name="five kinds"))
    assert named.attrs == {**found.attrs, "labels_name": "five kinds"}
    assert information_plane(run, labels=other[:, ::-1]).attrs["labels_from"] != digest


def test_labels_that_are_those_captured_are_not_others(run: xr.DataTree) -> None:
    captured = run["probe"].dataset["p_y_given_x"]
    assert information_plane(run, labels=captured).attrs == information_plane(run).attrs
    of_certainty = make_run(p_y_given_x=np.eye(3)[np.arange(SAMPLES) // 2 % 3])
    assert information_plane(of_certainty, labels="hard").attrs == information_plane(of_certainty).attrs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "soft"}, r"one of 'stored', 'hard', or an array p\(y\|x\) \(sample, class\), but got 'soft'"),
        ({"labels": None}, r"must be a non-empty \(sample, class\) array but has shape \(\)"),
        ({"labels": [["a", "b"]]}, "labels must be an array .* of numbers: could not convert string"),
        ({"labels": np.full((SAMPLES + 2, 2), 0.5)}, "of 50 samples but the run has 48; give one row for each"),
        ({"labels": np.full((SAMPLES, 2), 0.6)}, "the rows of p_y_given_x must sum to one but one sums to 1.2"),
        ({"labels": np.eye(2)[np.zeros(SAMPLES, int)]}, "the labels hold one class only"),
        ({"labels": "hard", "target": "output"}, "it is 'output', the network's own answer; give one"),
        ({"labels": np.full((SAMPLES, 2), 0.5), "target": "output"}, "it is 'output', the network's own answer"),
    ],
)
def test_labels_that_are_refused(run: xr.DataTree, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        information_plane(run, **options)


def test_a_run_that_does_not_say_what_it_was_trained_on() -> None:
    with pytest.raises(ParameterError, match="labels 'hard' are those of probe/y, which the run lacks"):
        information_plane(make_run(y=None), labels="hard")


def test_results_under_other_labels_are_others_and_found_again(tmp_path: Path) -> None:
    plan = make_plan("codes", shard=8)
    folder = write_run(tmp_path, plan, 10, status="interrupted")
    other = np.eye(2)[np.arange(32) % 2]
    first = {"stored": analyze(tmp_path, "run"), "other": analyze(tmp_path, "run", labels=other)}
    named = first["stored"].attrs
    identity = [
        named[key] for key in ("estimator", "estimator_version", "parameters", "layers", "every", "split", "target")
    ]  # by these results were known before there was a choice of labels
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    assert named["name"] == f"binned-{digest[:8]}"
    assert first["other"].attrs["name"] != named["name"]
    assert (first["stored"].attrs["I_XY"], first["other"].attrs["I_XY"]) == (0, 1)

    (again,) = analyze_all(tmp_path, "run", ["binned"], labels=xr.DataArray(other, name="parity"))
    assert again.result is not None
    assert again.result.attrs == first["other"].attrs  # the same numbers, by whatever name
    (told,) = analyze_all(tmp_path, "run", ["binned"], labels=np.eye(2)[np.arange(32) % 3 // 2])
    assert told.result is not None
    assert len(ipstore.open(folder)["results"].children) == 3

    writer = RunWriter.resume(tmp_path, "run")
    write_epochs(writer, plan, 20)
    writer.close()
    grown = analyze(tmp_path, "run", labels=other)
    assert grown.attrs["name"] == first["other"].attrs["name"]
    xr.testing.assert_equal(grown.compute(), information_plane(ipstore.open(folder), labels=other).compute())


def test_a_result_of_ones_own_name_is_not_continued_under_other_labels(tmp_path: Path) -> None:
    write_run(tmp_path, make_plan("codes"), 2)
    labels: list[Any] = ["stored", np.eye(2)[np.arange(32) % 2]]
    for before, after in permutations(labels):
        analyze(tmp_path, "run", name="mine", again=True, labels=before)
        with pytest.raises(ParameterError, match=r"'mine' is of something else .*labels_from"):
            analyze(tmp_path, "run", name="mine", labels=after)


def test_what_a_fine_binning_of_the_output_keeps_is_everything(run: xr.DataTree) -> None:
    fine = information_plane(run, target="output", layers=["output"], width=1e-6).compute()
    np.testing.assert_allclose(fine["I_TY"], fine["H_Y"], atol=1e-12)
    coarse = information_plane(run, target="output", layers=["output"], bins=2).compute()
    assert (coarse["I_TY"] < coarse["H_Y"] - 0.1).all()


def test_a_network_that_always_answers_the_same() -> None:
    run = make_run()
    output = run["activations"].dataset["output"].copy()
    output[1, 2, :, 1] = 5.0
    run["activations"] = run["activations"].dataset.assign(output=output)
    found = information_plane(run, target="output").compute()
    assert (found["I_TY"][1, 2] == 0).all()
    assert (found["H_Y"][1, 2] == 0).all()
    assert (found["H_Y"] > 0).sum() == found["H_Y"].size - len(LAYERS)


def test_the_answer_under_a_split(run: xr.DataTree) -> None:
    found = information_plane(run, target="output", split="test", bins=4, layers=["layer1"]).compute()
    keep = ~run["probe"].dataset["train"].sel(seed=8).to_numpy()
    cells = {name: a.sel(epoch=4, seed=8).to_numpy()[keep] for name, a in run["activations"].data_vars.items()}
    given = arrays(run, 8, keep) | {"p_y_given_x": np.eye(3)[cells["output"].argmax(axis=1)]}
    expected = estimators.estimate("binned", cells["layer1"], **given, bins=4)["I_TY"]
    assert found["I_TY"].sel(epoch=4, seed=8).item() == pytest.approx(expected, abs=1e-12)


def test_the_answer_of_one_unit_cannot_be_told() -> None:
    run = make_run()
    run["activations"] = run["activations"].dataset.isel(output_unit=[0])
    with pytest.raises(ParameterError, match="layer 'output' has one unit"):
        information_plane(run, target="output")
    codes = run["activations"].dataset.astype(np.uint8)
    run["activations"] = codes
    with pytest.raises(ActivationError, match="target 'output' cannot be told"):
        information_plane(run, target="output")


def test_every_so_many_epochs(run: xr.DataTree) -> None:
    some = information_plane(run, every=4)
    assert some["epoch"].values.tolist() == [0, 4, 8]
    xr.testing.assert_equal(some.compute(), information_plane(run).sel(epoch=[0, 4, 8]).compute())
    without_the_first = make_run()
    without_the_first.coords["epoch"] = [1, 2, 3, 5, 7]
    with pytest.raises(ParameterError, match=r"no stored epoch of the run 'mine' is a multiple of every=10; the last"):
        information_plane(without_the_first, every=10)


def test_a_grid_is_a_leading_dimension(run: xr.DataTree) -> None:
    grid = information_plane(run, bins=[4, 9], range=[(-1, 1), "layer"])
    assert grid["I_XT"].dims == ("bins", "range", "epoch", "seed", "layer")
    assert grid["bins"].values.tolist() == [4, 9]
    assert grid["range"].values.tolist() == ["-1..1", "layer"]
    assert grid.attrs["parameters"] == {
        **information_plane(run).attrs["parameters"],
        "bins": [4, 9],
        "range": [[-1.0, 1.0], "layer"],
    }
    one = information_plane(run, bins=9, range="layer")
    xr.testing.assert_equal(grid.sel(bins=9, range="layer", drop=True).compute(), one.compute())
    assert "bins" not in information_plane(run, range=[-1, 1]).dims  # two numbers are an interval


def test_grids_by_any_sequence(run: xr.DataTree) -> None:
    assert information_plane(run, bins=range(5, 20, 5))["bins"].values.tolist() == [5, 10, 15]
    assert information_plane(run, bins=np.array([5, 7]))["bins"].values.tolist() == [5, 7]
    with pytest.raises(ParameterError, match="a grid of bins needs one value or more, each once"):
        information_plane(run, bins=[5, 5])
    with pytest.raises(ParameterError, match=r"bins must be an integer in \[1, 65535\] but got 0"):
        information_plane(run, bins=[5, 0])
    grid, questions = expand("binned", {"bins": [5, 7]})
    with pytest.raises(ParameterError, match="one plane for each point, but got 1"):
        stack(grid, [information_plane(run)])
    assert [question.params for question in questions] == [{"bins": 5}, {"bins": 7}]


def test_several_estimators_in_one_call(run: xr.DataTree) -> None:
    planes = information_planes(run, ["binned:bins=4,9", ("binned", {"width": 0.1})], layers=["output"])
    xr.testing.assert_equal(planes[0].compute(), information_plane(run, bins=[4, 9], layers=["output"]).compute())
    xr.testing.assert_equal(planes[1].compute(), information_plane(run, width=0.1, layers=["output"]).compute())


def test_kernels_asked_twice_are_computed_once(run: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def kernel(t: NDArray[Any], p_y_given_x: Any, *, x_id: Any = None, p_x: Any = None) -> dict[str, Any]:
        calls.append(t.shape)
        low = t.mean(axis=(-2, -1), dtype=np.float64)
        return {"least": low, "most": low + 1}

    shared: dict[str, Any] = {
        "version": 1,
        "summary": "s",
        "reference": "r",
        "kernel": kernel,
        "quantities": (estimators.I_TY,),
    }
    module = SimpleNamespace(
        low=estimators.Estimator(name="low", kind="lower", kernel_names={"I_TY": "least"}, **shared),
        high=estimators.Estimator(name="high", kind="upper", kernel_names={"I_TY": "most"}, **shared),
    )
    monkeypatch.setitem(sys.modules, "pair", module)
    small = run.isel(epoch=[0])
    low, high = information_planes(small, ["pair:low", "pair:high"], layers=["output"])
    calls.clear()  # planning may try a kernel on nothing
    whole = xr.merge([low["I_TY"].rename("low"), high["I_TY"].rename("high")], combine_attrs="drop").compute()
    np.testing.assert_allclose(whole["high"] - whole["low"], 1)
    assert (low["I_TY"].attrs["kind"], high["I_TY"].attrs["kind"]) == ("lower", "upper")
    assert len(calls) == 1


def test_chosen_quantities(run: xr.DataTree) -> None:
    plane = information_plane(run, quantities=["I_TY"])
    assert list(plane.data_vars) == ["I_TY"]
    xr.testing.assert_equal(plane["I_TY"].compute(), information_plane(run)["I_TY"].compute())
    message = r"'knn' does not give I_XT, because .*I_XT is given by .*binned"
    with pytest.raises(ParameterError, match=message):
        information_plane(run, "knn", quantities=["I_TY", "I_XT"])
    with pytest.raises(ParameterError, match="I_ZT is given by no estimator"):
        information_plane(run, quantities=["I_ZT"])


def test_networks_that_diverged_have_no_answer() -> None:
    run = make_run()
    layers = run["activations"].dataset.load().copy(deep=True)
    layers["output"][1, 0, 5] = np.nan
    layers["layer1"][2, 1] = np.nan
    layers["output"][2, 1] = [1, 0, 0]
    layers["output"][3, 2, :, 1] = np.inf
    run["activations"] = layers.chunk(epoch=2, seed=1)
    found = information_plane(run, target="output").compute()
    lost = found["I_TY"].isnull()
    assert np.argwhere(lost.sel(layer="output").values).tolist() == [[1, 0], [3, 2]]
    assert np.argwhere(lost.sel(layer="layer1").values).tolist() == [[2, 1]]
    np.testing.assert_array_equal(found["H_Y"].isnull(), lost)


def test_a_grid_over_what_is_exact_and_what_is_not_claims_the_less() -> None:
    labels = np.eye(2)[np.arange(SAMPLES) % 2]
    run = make_run(p_y_given_x=labels, p_x=None, x_id=None)
    for order in (["plugin", "grassberger"], ["grassberger", "plugin"]):
        assert information_plane(run, correction=order)["I_XT"].attrs["kind"] == "estimate"
    assert information_plane(run, bins=[4, 5])["I_XT"].attrs["kind"] == "exact"
    rules = information_plane(run, rule=["equal", "quantile"])
    assert rules.attrs["parameters"]["range"] == [[-1.0, 1.0], "unit"]


def test_labels_of_a_grid_tell_its_values_apart(run: xr.DataTree) -> None:
    plane = information_plane(run, range=[(-1, 1), (-1, 1.0000001)])
    assert plane["range"].values.tolist() == ["-1..1", "-1..1.0000001"]


def test_quantities_are_named(run: xr.DataTree) -> None:
    assert list(information_plane(run, quantities="I_TY").data_vars) == ["I_TY"]
    with pytest.raises(ParameterError, match="quantities must name one quantity or more"):
        information_plane(run, quantities=[])


def bad(kernel: Any, monkeypatch: pytest.MonkeyPatch, **declared: Any) -> str:
    """Somebody's estimator with this kernel, by the name under which it can be asked for."""
    estimator = estimators.Estimator("bad", 1, "estimate", "bad", "nowhere", kernel, **declared)
    monkeypatch.setitem(sys.modules, "bad_package", SimpleNamespace(bad=estimator))
    return "bad_package:bad"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda t: {"I_XT": np.zeros(t.shape[:-2])}, r"gave no I_TY, but only I_XT"),
        (
            lambda t: dict.fromkeys(("I_XT", "I_TY"), np.zeros(())),
            r"gave I_XT of shape \(\) for cells of shape \(\d+,\)",
        ),
        (lambda t: dict.fromkeys(("I_XT", "I_TY"), np.full(t.shape[:-2], np.nan)), "gave NaN as I_XT of .* finite"),
        (lambda t: np.linalg.inv(np.zeros((2, 2))), r"failed on layer '\w+': LinAlgError: Singular matrix$"),
    ],
)
def test_a_kernel_that_breaks_its_word_is_told_so(
    run: xr.DataTree, monkeypatch: pytest.MonkeyPatch, given: Any, message: str
) -> None:
    def kernel(t: Any, p_y_given_x: Any, *, x_id: Any = None, p_x: Any = None) -> Any:
        return given(t) if t.size else dict.fromkeys(("I_XT", "I_TY"), np.zeros(t.shape[:-2]))

    with pytest.raises(EstimatorError, match=message):
        information_plane(run, bad(kernel, monkeypatch)).compute()


@pytest.mark.parametrize("which", ["t", "p_y_given_x"])
def test_a_kernel_that_writes_to_what_others_read_is_the_one_to_fail(
    run: xr.DataTree, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    def kernel(t: Any, p_y_given_x: Any, *, x_id: Any = None, p_x: Any = None) -> Any:
        array = {"t": t, "p_y_given_x": p_y_given_x}[which]
        array *= 0
        return dict.fromkeys(("I_XT", "I_TY"), np.zeros(t.shape[:-2]))

    planes = information_planes(run, [bad(kernel, monkeypatch, marks_nonfinite=True), "binned"])
    with pytest.raises(EstimatorError, match=r"'bad_package:bad' failed .* read-only"):
        planes[0].compute()
