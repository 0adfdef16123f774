"""The information plane of a run: labels, laziness, chunks, memory, stored codes, and the accessor."""

import pickle
import sys
import tracemalloc
from types import SimpleNamespace
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import ipstore.analysis
from ipstore.analysis import estimators, information_plane
from ipstore.analysis.estimators import I_TY, Estimator
from ipstore.binning import MISSING, Binning
from ipstore.errors import ActivationError, ParameterError, UnknownNameError

da: Any = dask.array  # its functions carry no types

LAYERS = {"deep": 4, "shallow": 2}
EPOCHS, SEEDS, SAMPLES = 6, 3, 64


def activations(rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    return {
        layer: np.tanh(rng.normal(0, 1, (EPOCHS, SEEDS, SAMPLES, units))).astype(np.float32)
        for layer, units in LAYERS.items()
    }


def as_run(
    values: dict[str, Any], *, soft: bool = True, level: str = "full", attrs: dict[str, Any] | None = None
) -> xr.DataTree:
    """A run as `ipstore.open` gives it."""
    rng = np.random.default_rng(7)
    samples = next(iter(values.values())).shape[2]
    p_y_given_x = rng.dirichlet([1, 1, 1], samples) if soft else np.eye(2)[np.arange(samples) % 2]
    probe = xr.Dataset(
        {
            "x": (("sample", "feature"), rng.normal(0, 1, (samples, 12))),
            "y": ("sample", p_y_given_x.argmax(axis=1)),
            "p_x": ("sample", np.full(samples, 1 / samples)),
            "p_y_given_x": (("sample", "class"), p_y_given_x),
            "x_id": ("sample", np.arange(samples)),
        }
    )
    stored = {
        layer: (("epoch", "seed", "sample", f"{layer}_unit"), value, attrs or {}) for layer, value in values.items()
    }
    epochs, seeds = next(iter(values.values())).shape[:2]
    attrs_of_run = {"level": level, "probe": "population"}
    root = xr.Dataset(coords={"epoch": np.arange(epochs) * 10, "seed": np.arange(seeds) + 5}, attrs=attrs_of_run)
    return xr.DataTree.from_dict(
        {"/": root, "/probe": probe, "/activations": xr.Dataset(stored, attrs={"layers": list(values)})},
        name="rule-tanh",
    )


def chunked(values: dict[str, Any], chunks: tuple[int, ...]) -> dict[str, Any]:
    return {layer: da.from_array(value, chunks=chunks) for layer, value in values.items()}


@pytest.fixture(scope="module")
def values() -> dict[str, NDArray[np.float32]]:
    return activations(np.random.default_rng(0))


@pytest.mark.parametrize("chunks", [None, (2, 1, SAMPLES, -1), (1, 2, 17, 1)])
def test_equals_the_estimator_on_arrays(values: dict[str, NDArray[np.float32]], chunks: tuple[int, ...] | None) -> None:
    run = as_run(chunked(values, chunks) if chunks else values)
    plane = information_plane(run, bins=9)
    assert {str(name): array.dims for name, array in plane.data_vars.items()} == dict.fromkeys(
        ("I_XT", "I_TY", "H_T", "n_cells"), ("epoch", "seed", "layer")
    )
    for layer, t in values.items():
        expected = estimators.estimate("binned", t, run["probe"]["p_y_given_x"].to_numpy(), bins=9)
        for name, array in plane.data_vars.items():
            np.testing.assert_array_equal(array.sel(layer=layer), expected[str(name)])
    assert plane["epoch"].values.tolist() == [0, 10, 20, 30, 40, 50]
    assert plane["seed"].values.tolist() == [5, 6, 7]
    assert {str(name): array.dtype for name, array in plane.data_vars.items()} == dict.fromkeys(
        plane.data_vars, np.float64
    )


def test_says_where_it_comes_from(values: dict[str, NDArray[np.float32]]) -> None:
    plane = information_plane(as_run(values, soft=False), "binned", range="layer")
    assert plane.attrs == {
        "estimator": "binned",
        "estimator_version": 1,
        "estimator_kind": "exact",
        "parameters": {"bins": 30, "range": "layer", "width": None, "rule": "equal", "correction": "plugin"},
        "units": "bits",
        "probe": "population",
        "labels": "hard",
        "I_XY": pytest.approx(1.0),
        "H_X": pytest.approx(6.0),
        "H_Y": pytest.approx(1.0),
        "source_run": "rule-tanh",
        "every": 1,
        "split": "all",
        "target": "labels",
    }
    assert plane["I_XT"].attrs == {"long_name": "I(X;T)", "units": "bits", "kind": "exact"}
    assert plane["n_cells"].attrs["units"] == "1"
    soft = as_run(values)
    rows = soft["probe"]["p_y_given_x"].to_numpy()
    plane = information_plane(soft, "binned")
    assert plane.attrs["labels"] == "soft"
    assert plane.attrs["parameters"]["range"] == [-1.0, 1.0]
    conditional = -np.sum(rows * np.log2(rows)) / SAMPLES
    assert plane.attrs["I_XY"] == pytest.approx(plane.attrs["H_Y"] - conditional, abs=1e-12)


def test_repeated_inputs_and_weights_of_the_probe_are_used(values: dict[str, NDArray[np.float32]]) -> None:
    run = as_run(values)
    p_x = np.random.default_rng(1).dirichlet(np.ones(SAMPLES))
    run["probe"] = run["probe"].to_dataset().assign(p_x=("sample", p_x), x_id=("sample", np.arange(SAMPLES) // 2))
    plane = information_plane(run, layers=["deep"])
    expected = estimators.estimate(
        "binned", values["deep"], run["probe"]["p_y_given_x"].to_numpy(), np.arange(SAMPLES) // 2, p_x
    )
    for name, array in plane.data_vars.items():
        np.testing.assert_array_equal(array.sel(layer="deep"), expected[str(name)])
    pairs = p_x.reshape(-1, 2).sum(axis=1)
    assert plane.attrs["H_X"] == pytest.approx(-np.sum(pairs * np.log2(pairs)), abs=1e-12)


def test_layers_keep_the_order_of_the_network(values: dict[str, NDArray[np.float32]]) -> None:
    run = as_run(values)
    run["activations"].attrs["layers"] = ["shallow", "deep"]
    assert information_plane(run)["layer"].values.tolist() == ["shallow", "deep"]
    assert information_plane(run, layers=["deep", "shallow"])["layer"].values.tolist() == ["shallow", "deep"]
    del run["activations"].attrs["layers"]
    assert information_plane(run)["layer"].values.tolist() == ["deep", "shallow"]
    with pytest.raises(UnknownNameError, match=r"no layer 'deeep'.* Did you mean 'deep'"):
        information_plane(run, layers=["deeep"])
    for layers in ([], ["deep", "deep"]):
        with pytest.raises(ParameterError, match="layers must name"):
            information_plane(run, layers=layers)


def test_nothing_is_read_before_it_is_asked_for() -> None:
    read: list[Any] = []

    def load(block_info: Any = None) -> NDArray[np.float32]:
        where = block_info[None]["array-location"]
        read.append(where[:2])
        return np.ones([high - low for low, high in where], np.float32)

    blocks = da.map_blocks(
        load, chunks=((2,) * 50, (1,) * 4, (32,), (3,)), dtype=np.float32, meta=np.empty((0,) * 4, "f4")
    )
    plane = information_plane(as_run({"layer1": blocks, "layer2": blocks}))
    assert read == []
    plane["I_XT"].isel(epoch=0, seed=2, layer=1).compute(scheduler="synchronous")
    assert {seeds for _, seeds in read} == {(2, 3)}
    assert max(epochs[1] for epochs, _ in read) == 40  # one task, and no more


@pytest.mark.parametrize(
    ("shape", "chunks", "expected"),
    [
        ((400, 3, 16, 2), (64, 1, 16, 2), (64, 1)),  # whole chunks as they are stored
        ((400, 3, 16, 2), (4, 1, 16, 2), (40, 1)),  # merged until the work is worth a task
        ((6, 50, 16, 2), (6, 1, 16, 2), (6, 7)),  # with other seeds, where epochs are few
        ((400, 3, 4096, 128), (4, 1, 4096, 128), (32, 1)),  # as many as fit 64 MiB
        ((8, 3, 4096, 3000), (4, 1, 4096, 3000), (1, 1)),  # a cell that fills a task
        ((400, 3, 4096, 100_000), (1, 1, 512, 100_000), (1, 1)),  # samples and units always together
    ],
)
def test_chunks(shape: tuple[int, ...], chunks: tuple[int, ...], expected: tuple[int, ...]) -> None:
    plane = information_plane(as_run({"layer1": da.zeros(shape, chunks=chunks, dtype=np.float32)}, soft=False))
    assert plane["I_XT"].chunks is not None
    assert tuple(sizes[0] for sizes in plane["I_XT"].chunks[:2]) == expected


def peak_memory(epochs: int) -> int:
    rng = np.random.default_rng(0)
    t = np.tanh(rng.normal(0, 1, (16, 1, 4096, 10))).astype(np.float32)
    blocks = da.map_blocks(np.copy, da.concatenate([da.from_array(t, chunks=-1)] * (epochs // 16)), dtype=np.float32)
    plane = information_plane(as_run({"layer1": blocks}))
    with dask.config.set(scheduler="synchronous"):
        tracemalloc.start()
        plane.compute()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def test_memory_grows_with_the_chunk_and_not_with_the_run() -> None:
    task = 48 * 4096 * 10 * 4
    short, long = peak_memory(96), peak_memory(960)
    assert long < 1.2 * short
    assert long < 4 * task  # the run is 20 tasks


def test_cells_that_the_estimator_cannot_take_are_nan(values: dict[str, NDArray[np.float32]]) -> None:
    diverged = {layer: value.copy() for layer, value in values.items()}
    diverged["deep"][3:, 1, 5, 0] = np.nan
    diverged["shallow"][4:, 1, :, 1] = np.inf
    plane = information_plane(as_run(diverged))
    whole = information_plane(as_run(values)).compute()
    for layer, epoch in (("deep", 3), ("shallow", 4)):
        for name in plane.data_vars:
            expected = whole[name].sel(layer=layer).values.copy()
            expected[epoch:, 1] = np.nan
            np.testing.assert_array_equal(plane[name].sel(layer=layer), expected)


def stored_codes(values: dict[str, Any], binning: Binning) -> dict[str, NDArray[np.uint8]]:
    return {layer: binning.encode(value) for layer, value in values.items()}


def test_stored_codes_answer_as_the_activations_do(values: dict[str, NDArray[np.float32]]) -> None:
    binning = Binning(30, (-1.0, 1.0))
    codes = as_run(stored_codes(values, binning), level="codes", attrs={"binning": binning.to_attrs()})
    activations = as_run(values)
    halved: dict[str, Any] = {"bins": 15, "range": (-1.0, 0.0)}
    for params in ({}, halved, *({"bins": bins} for bins in (1, 2, 3, 5, 6, 10, 15, 30))):
        coarse = information_plane(codes, **params)
        xr.testing.assert_equal(coarse, information_plane(activations, **params))
        assert coarse.attrs["parameters"]["bins"] == params.get("bins", 30)
    other = as_run(
        stored_codes(values, Binning(12, (-0.5, 0.5))), attrs={"binning": Binning(12, (-0.5, 0.5)).to_attrs()}
    )
    plane = information_plane(other)
    assert plane.attrs["parameters"] == {
        "bins": 12,
        "range": [-0.5, 0.5],
        "width": None,
        "rule": "equal",
        "correction": "plugin",
    }
    xr.testing.assert_equal(plane, information_plane(activations, bins=12, range=(-0.5, 0.5)))


def test_stored_codes_that_are_missing_are_nan(values: dict[str, NDArray[np.float32]]) -> None:
    codes = stored_codes(values, Binning())
    codes["deep"][2, 0, 9, 1] = MISSING
    for bins in (30, 10):
        plane = information_plane(as_run(codes, attrs={"binning": Binning().to_attrs()}), bins=bins)
        missing = np.isnan(plane["I_XT"].sel(layer="deep").values)
        assert missing[2, 0]
        assert np.count_nonzero(missing) == 1


@pytest.mark.parametrize(
    "params",
    [{"bins": 20}, {"bins": 60}, {"range": (-2, 2)}, {"range": "layer"}, {"width": 0.1}, {"rule": "idnns"}],
    ids=str,
)
def test_stored_codes_that_cannot_answer(values: dict[str, NDArray[np.float32]], params: dict[str, Any]) -> None:
    run = as_run(stored_codes(values, Binning()), attrs={"binning": Binning().to_attrs()})
    (name,) = params
    with pytest.raises(
        ParameterError, match=r"stores codes of 30 equal bins on \(-1.0, 1.0\), which cannot answer"
    ) as raised:
        information_plane(run, **params)
    assert f"{name}=" in str(raised.value)


def test_codes_and_an_estimator_that_needs_activations(
    values: dict[str, NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kernel(
        t: NDArray[Any], p_y_given_x: NDArray[np.float64], *, x_id: Any = None, p_x: Any = None
    ) -> dict[str, NDArray[np.float64]]:
        return {"I_TY": t.mean(axis=(-2, -1), dtype=np.float64)}

    mean = Estimator("mean", 1, "lower", "a mean", "none", kernel, quantities=(I_TY,))
    monkeypatch.setitem(sys.modules, "mean_package", SimpleNamespace(mean=mean))
    name = "mean_package:mean"
    plane = information_plane(as_run(values), name)
    assert list(plane.data_vars) == ["I_TY"]
    np.testing.assert_allclose(plane["I_TY"].sel(layer="deep"), values["deep"].mean(axis=(2, 3)), rtol=1e-5)
    with pytest.raises(ActivationError, match="'mean_package:mean' needs activations but layer 'deep' stores codes"):
        information_plane(as_run(stored_codes(values, Binning()), attrs={"binning": Binning().to_attrs()}), name)


def test_what_is_no_run_with_activations(values: dict[str, NDArray[np.float32]]) -> None:
    run = as_run(values, level="weights")
    with pytest.raises(ParameterError, match="needs one run but got a tree with rule-tanh"):
        information_plane(xr.DataTree(children={"rule-tanh": run}))
    without = run.drop_nodes("activations")
    with pytest.raises(ActivationError, match=r"holds no activations \(capture level 'weights'\)"):
        information_plane(without)
    with pytest.raises(ParameterError, match=r"does not say of which bins"):
        information_plane(as_run(stored_codes(values, Binning())))
    with pytest.raises(ParameterError, match="bins must be an integer"):
        information_plane(run, bins=0)
    with pytest.raises(UnknownNameError, match="no estimator 'bined'"):
        information_plane(run, "bined")


def test_accessor(values: dict[str, NDArray[np.float32]]) -> None:
    run = as_run(values)
    plane = run.ip.information_plane("binned", layers=["deep"], bins=8)
    xr.testing.assert_identical(plane, information_plane(run, "binned", layers=["deep"], bins=8))
    rows = run["probe"]["p_y_given_x"].to_numpy()
    layers = run["activations"].to_dataset().ip.estimate("binned", rows, bins=8)
    xr.testing.assert_equal(layers, information_plane(run, bins=8))
    layer = run["activations"]["deep"].isel(epoch=2).ip.estimate("binned", rows, bins=8)
    assert layer["I_XT"].chunks is not None
    xr.testing.assert_equal(layer, layers.sel(layer="deep", drop=True).isel(epoch=2))
    with pytest.raises(ParameterError, match=r"must have dimensions \(..., sample, <layer>_unit\)"):
        run["probe"]["x"].ip.estimate("binned", rows)
    assert ipstore.analysis.accessor.RunAccessor is type(run.ip)


def test_a_plane_can_be_sent_to_another_process(values: dict[str, NDArray[np.float32]]) -> None:
    plane = information_plane(as_run(values))
    xr.testing.assert_equal(pickle.loads(pickle.dumps(plane)), plane)
