import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import holoviews as hv
import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from bokeh.io import curdoc
from bokeh.models import ColumnDataSource
from scipy.optimize import brentq
from scipy.special import entr, logit

from ipstore.analysis import figures
from ipstore.analysis.figures.epochs import log_spaced
from ipstore.analysis.figures.placing import merge, place
from ipstore.analysis.figures.planes import limits, prepare
from ipstore.analysis.ib.curves import bounds
from ipstore.errors import ParameterError, UnknownNameError

LAYERS = ["layer1", "layer2", "layer3", "output"]
H_X = 12.0


def plane_of(
    seeds: int = 6, epochs: int = 40, *, layers: list[str] = LAYERS, labels: str = "hard", i_xy: float = 0.999
) -> xr.Dataset:
    """A plane that fits, then compresses, the more the deeper; the first layer is saturated throughout."""
    rng = np.random.default_rng(7)
    epoch = np.log10(1.0 + np.arange(epochs))[:, None, None]
    depth = np.linspace(0, 1, len(layers))
    noise = rng.normal(0, 0.1, (epochs, seeds, len(layers))) * depth
    fitted, compressed = 1 / (1 + np.exp(2 - 4 * epoch)), 1 / (1 + np.exp(8 - 4 * epoch))
    i_xt = H_X - depth * (5 + 2 * fitted * 0 + 5 * compressed - 2 * fitted) + noise
    i_ty = i_xy * (1 - 0.9 * depth * (1 - fitted)) - np.abs(noise) / 20
    dims = ("epoch", "seed", "layer")
    return xr.Dataset(
        {"I_XT": (dims, np.minimum(i_xt, H_X)), "I_TY": (dims, i_ty)},
        coords={"epoch": np.arange(epochs), "seed": np.arange(seeds), "layer": layers},
        attrs={
            "estimator": "binned",
            "parameters": {"bins": 30, "range": [-1.0, 1.0], "rule": "equal", "width": None},
            "units": "bits",
            "labels": labels,
            "I_XY": i_xy,
            "H_X": H_X,
            "H_Y": 1.0,
            "source_run": "rule-tanh",
        },
    )


def grid_of_planes(parameter: str = "bins", values: Any = (10, 30, 100), **sizes: Any) -> xr.Dataset:
    """A plane with a grid: the finer, the more information."""
    parts = []
    for i in range(len(values)):
        part = plane_of(**sizes)
        parts.append(part.assign(I_XT=part["I_XT"] * (i + 1) / len(values), I_TY=part["I_TY"] - 0.1 / (i + 1)))
    grid = xr.concat(parts, dim=xr.Variable(parameter, list(values)), combine_attrs="override")
    return grid.assign_attrs(parameters={**grid.attrs["parameters"], parameter: list(values)})


def bound(kind: str, *, noise: float = 0.001, shift: float = 0.5, **sizes: Any) -> xr.Dataset:
    """A plane of lower or upper bounds, half a bit under or over `plane_of`."""
    plane = plane_of(**sizes)
    plane = plane.map(lambda array: array + (shift if kind == "upper" else -shift)).assign_attrs(plane.attrs)
    for array in plane.data_vars.values():
        array.attrs["kind"] = kind
    return plane.assign_attrs(estimator=f"kde_{kind}", estimator_kind=kind, parameters={"noise": noise})


def binary_channel(i_xy: float = 0.999) -> xr.Dataset:
    """The bottleneck curve of a binary symmetric channel with so much information: Witsenhausen and Wyner 1975."""
    flip = brentq(lambda p: 1 - entr([p, 1 - p]).sum() / np.log(2) - i_xy, 1e-12, 0.5)
    a = np.linspace(0.5, 0, 42)[1:-1]  # of the channel from X to T; the ends are limits
    b = a * (1 - flip) + (1 - a) * flip
    x, y = (1 - (entr(p) + entr(1 - p)) / np.log(2) for p in (a, b))
    beta = logit(a) / logit(b) / (1 - 2 * flip)
    return xr.Dataset(
        {
            "I_XT": ("point", [0.0, *x, 1.0]),
            "I_TY": ("point", [0.0, *y, i_xy]),
            "beta": ("point", [(1 - 2 * flip) ** -2, *beta, np.inf]),
            "gap": ("point", np.zeros(42)),
        },
        attrs={"I_XY": i_xy, "H_X": H_X, "H_Y": 1.0, "labels": "soft", "units": "bits"}
        | {"onset_beta": (1 - 2 * flip) ** -2, "error": 5e-3, "certificate": "rigorous"},
    )


def standing_of(
    seeds: int = 6, epochs: int = 40, *, layers: list[str] = LAYERS, labels: str = "soft", i_xy: float = 0.999
) -> xr.Dataset:
    """Layers beside the curve of a binary symmetric channel: the first beyond the cap, beta* falling with depth."""
    plane = plane_of(seeds, epochs, layers=layers, labels=labels, i_xy=i_xy)
    curve = binary_channel(i_xy)
    right = plane["I_XT"] - bounds(curve, I_TY=plane["I_TY"])["I_XT_lower"]
    depth = xr.DataArray(np.arange(len(layers)), dims="layer")
    beta = (1.05 + 10.0 ** (4 - 2 * depth) * (1 + plane["seed"] / 10)) * (1 + 0 * plane["I_XT"])
    capped = (depth == 0) & (plane["I_XT"] > -1)
    return plane.assign(
        {
            "beta": beta.where(~capped, 1e6).transpose(*plane["I_XT"].dims),
            "beta_capped": capped.astype(float).transpose(*plane["I_XT"].dims),
            "residual": 0.6 * right,
            "residual_at_0": plane["I_XT"],
            "IB_distance_I_XT": right,
            "IB_distance_I_TY": i_xy - plane["I_TY"],
            **{f"curve_{name}": curve[name] for name in curve.data_vars},
            "deterministic_H_T": ("vertex", [0.0, 1.0]),
            "deterministic_I_TY": ("vertex", [0.0, i_xy]),
        }
    ).assign_attrs(certificate="rigorous", onset_beta=curve.attrs["onset_beta"], curve_error=curve.attrs["error"])


def sweep_of_planes(axis: str = "train_fraction", values: Any = (0.05, 0.45, 0.85), **sizes: Any) -> xr.Dataset:
    """A plane over an axis of a sweep: the larger the value, the more information."""
    plane = grid_of_planes(axis, values, **sizes)
    given = {name: value for name, value in plane.attrs["parameters"].items() if name != axis}
    return plane.assign_attrs(parameters=given, sweep="fractions", source_run="fractions")


def training_of(seeds: int = 6, epochs: int = 40, *, layers: list[str] = LAYERS) -> xr.Dataset:
    """Norms of gradients that fall, and whose noise falls later and less, the later the deeper; none at epoch 0.

    Loss and accuracy of a network that learns, and does worse on the samples that it does not see.
    """
    rng = np.random.default_rng(3)
    epoch = np.arange(epochs)[:, None, None]
    spread = np.exp(rng.normal(0, 0.2, (epochs, seeds, len(layers))))
    noise = np.exp(rng.normal(0, 0.2, (epochs, seeds, len(layers))))
    dims = ("epoch", "seed", "layer")
    mean = np.where(epoch > 0, spread / np.maximum(epoch, 1), np.nan)
    std = np.where(epoch > 0, noise * (1 + np.arange(len(layers))) / 20, np.nan)
    weights = np.full(mean.shape, 5.0) + epoch / 10
    loss = 0.7 / (1 + epoch / 5) * np.exp(rng.normal(0, 0.1, (epochs, seeds, 2))) * [1.0, 1.3]
    by_split = ("epoch", "seed", "split")
    units = {"long_name": "cross-entropy", "units": "nats"}
    return xr.Dataset(
        {
            "grad_mean_norm": (dims, mean),
            "grad_std_norm": (dims, std),
            "weight_norm": (dims, weights),
            "loss": (by_split, loss, units),
            "accuracy": (by_split, np.exp(-loss), {"units": "1"}),
        },
        coords={"epoch": np.arange(epochs), "seed": np.arange(seeds), "layer": layers, "split": ["train", "test"]},
        attrs={"source_run": "rule-tanh"},
    )


def activity_of(seeds: int = 6, epochs: int = 40, *, layers: list[str] = LAYERS, units: int = 3) -> xr.Dataset:
    """Units of the last of some layers, that leave the middle for the ends of tanh, the sooner the higher their number.

    There are 100 samples and ten bins.
    """
    epoch, unit = np.arange(epochs)[:, None, None], np.arange(units)
    share = np.minimum(1.0, epoch / 40 * (1 + unit) / units) * np.ones((epochs, seeds, units))
    ends = np.round(50 * share).sum(axis=1)
    counts = np.full((epochs, units, 10), 0)
    counts[..., 0] = counts[..., -1] = ends
    counts[..., 4] = 100 * seeds - 2 * ends
    lost = np.zeros((epochs, seeds), np.int64)
    by_seed = ("epoch", "seed")
    return xr.Dataset(
        {
            "counts": (("epoch", "unit", "bin"), counts),
            **dict.fromkeys(("below", "above", "missing"), (by_seed, lost)),
            "saturation": ((*by_seed, "unit"), share),
            "bins_used": ((*by_seed, "unit"), 1.0 + 2 * (share > 0)),
            "n_cells": (by_seed, 20.0 + np.arange(epochs)[:, None] + np.arange(seeds)),
        },
        coords={
            "epoch": np.arange(epochs),
            "seed": np.arange(seeds),
            "unit": unit,
            "bin": np.linspace(-0.9, 0.9, 10),
            "left": ("bin", np.linspace(-1, 0.8, 10)),
            "right": ("bin", np.linspace(-0.8, 1, 10)),
        },
        attrs={
            "source_run": "rule-tanh",
            "layer": layers[-1],
            "samples": 100,
            "epochs_of_run": epochs,
            "estimator": "binned",
            "parameters": {"bins": 10, "range": [-1.0, 1.0], "rule": "equal"},
            "function": "tanh",
            "saturated": "|T| > 0.95",
            "bins_possible": 10,
        },
    )


def planes_for(name: str, **sizes: Any) -> list[xr.Dataset]:
    """What the figure of that name takes."""
    takes = figures.FIGURES[name].takes
    if takes == "a sweep":
        return [sweep_of_planes(**sizes)]
    if takes == "a run's training":
        return [training_of(**sizes)]
    if takes == "a layer's activity":
        return [activity_of(**sizes)]
    if takes == "one plane with a grid":
        return [grid_of_planes(**sizes)]
    if takes == "two planes or more":
        return [plane_of(**sizes), bound("upper", **sizes)]
    if takes == "a lower and an upper bound":
        return [bound("lower", **sizes), bound("upper", **sizes)]
    if takes == "a bound":
        return [standing_of(**sizes)]
    return [plane_of(**sizes)]


def diverged(plane: xr.Dataset, seed: int, epoch: int) -> xr.Dataset:
    return plane.where((plane["seed"] != seed) | (plane["epoch"] < epoch))


def elements(figure: Any, kind: Any, group: str) -> list[Any]:
    return list(figure.traverse(lambda element: element, [lambda e: isinstance(e, kind) and e.group == group]))


def one(figure: Any, kind: Any, group: str) -> Any:
    (element,) = elements(figure, kind, group)
    return element


def option(figure: Any, name: str, backend: str = "bokeh", kind: str = "plot") -> Any:
    return figure.opts.get(kind, backend=backend).kwargs[name]


def words(figure: Any) -> str:
    """All that matplotlib writes on the page."""
    plot = hv.Store.renderers["matplotlib"].get_plot(figure)
    texts = [text.get_text() for text in plot.state.findobj(mpl.text.Text)]
    mpl.pyplot.close(plot.state)
    return "\n".join(texts)


# The trajectories ------------------------------------------------------------


def test_a_path_is_the_mean_over_seeds() -> None:
    plane = plane_of()
    steps = one(figures.information_plane(plane), hv.Segments, "Mean").dframe()
    mean = plane.mean("seed")
    for layer in LAYERS:
        path = steps[steps["layer"] == layer]
        expected = mean.sel(layer=layer)
        np.testing.assert_array_equal(path["epoch"], expected["epoch"][1:])
        np.testing.assert_allclose(path["I_XT"], expected["I_XT"][:-1], rtol=1e-12)
        np.testing.assert_allclose(path["I_XT_end"], expected["I_XT"][1:], rtol=1e-12)
        np.testing.assert_allclose(path["I_TY_end"], expected["I_TY"][1:], rtol=1e-12)
        np.testing.assert_allclose(path["log_epoch"], np.log10(1 + expected["epoch"][1:]), rtol=1e-12)


def test_axes_carry_their_units() -> None:
    figure = figures.information_plane(plane_of(epochs=2))
    assert {"I(X;T) (bits)", "I(T;Y) (bits)", "epoch"} <= set(words(figure).splitlines())
    plot = hv.Store.renderers["bokeh"].instance(theme=None).get_plot(figure).state
    assert [plot.xaxis.axis_label, plot.yaxis.axis_label] == ["I(X;T) (bits)", "I(T;Y) (bits)"]


@pytest.mark.parametrize(("labels", "i_xy"), [("hard", 0.999), ("soft", 0.99)])
def test_the_title_says_what_is_drawn(labels: str, i_xy: float) -> None:
    plane = plane_of(labels=labels, i_xy=i_xy)
    for figure in (figures.information_plane(plane), figures.snapshots(plane, epochs=[0])[0]):
        title = option(figure, "title")
        for part in (
            "rule-tanh",
            f"p(y|x): {labels} labels, I(X;Y) = {i_xy:.3f} bits",
            "binned (bins=30, range=[-1, 1], rule=equal)",
            "6 seeds",
        ):
            assert part in title
        assert "width" not in title
        assert option(figure, "title", "matplotlib") == title


def test_reference_lines_stand_at_the_bounds() -> None:
    figure = figures.information_plane(plane_of(i_xy=0.99))
    texts = {row[2]: (row[0], row[1]) for e in elements(figure, hv.Labels, "Reference") for row in e.dframe().values}
    assert texts.keys() == {"I(X;Y) = 0.990 bits", "H(X) = 12 bits"}
    assert 0.99 <= texts["I(X;Y) = 0.990 bits"][1] < 1.02
    assert 12 <= texts["H(X) = 12 bits"][0] < 12.3
    lines = one(figure, hv.Segments, "Segments").dframe()
    assert (lines["I_TY"] == 0.99).any()
    assert ((lines["I_XT"] == 12) & (lines["I_XT_end"] == 12)).any()


def test_every_layer_is_named_once_beside_its_end() -> None:
    figure = figures.information_plane(plane_of())
    names = one(figure, hv.Labels, "Layer").dframe()
    assert sorted(", ".join(names["text"]).split(", ")) == sorted(LAYERS)
    xlim, ylim = option(figure, "xlim"), option(figure, "ylim")
    assert names["I_XT"].between(*xlim).all()
    assert names["I_TY"].between(*ylim).all()


def test_all_values_lie_within_the_frame() -> None:
    plane = plane_of()
    plane["I_XT"][3, 0, 1] = 12.7  # an estimator that overshoots
    plane["I_TY"][3, 0, 1] = -0.2
    (left, right), (bottom, top) = limits(prepare(plane))
    assert left < 0 < 12.7 < right
    assert bottom < -0.2 < 0.999 < top


def test_epoch_zero_has_its_place_on_the_colour_scale() -> None:
    paths = one(figures.information_plane(plane_of(epochs=2001)), hv.Segments, "Mean")
    assert option(paths, "clim") == (0.0, np.log10(2001))
    at, shown = zip(*option(paths, "cbar_ticks", "matplotlib"), strict=True)
    assert shown == ("0", "1", "10", "100", "1000", "2000")
    np.testing.assert_allclose(at, np.log10(1 + np.array([0, 1, 10, 100, 1000, 2000])))


@pytest.mark.parametrize("name", [name for name in figures.FIGURES if name not in {"snapshots", "bound"}])
def test_tooltips_show_epochs_and_not_their_logarithms(name: str) -> None:
    figure = figures.FIGURES[name](*planes_for(name, epochs=5, layers=LAYERS[3:]))
    shown = hv.Store.renderers["bokeh"].instance(theme=None).get_plot(figure).state
    sources = [dict(source.data) for source in shown.select({"type": ColumnDataSource})]
    columns = [source["epoch"] for source in sources if "epoch" in source]
    assert columns
    for column in columns:
        assert set(np.ravel(column)) <= {0, 1, 2, 3, 4}  # of an image it is an array


def test_ticks_that_would_overprint_the_last_are_left_out() -> None:
    paths = one(figures.information_plane(plane_of(epochs=1101)), hv.Segments, "Mean")
    assert [text for _, text in option(paths, "cticks")] == ["epoch 0", "1", "10", "100", "epoch 1100"]


def test_saturated_layers_are_marked_and_explained() -> None:
    plane = plane_of()
    plane["I_XT"][-1, :, 1] = H_X  # layer2, at the end only
    figure = figures.information_plane(plane, saturation=0.05)
    full = [e for e in elements(figure, hv.Points, "End") if e.label == "saturated"]
    assert [list(e["layer"]) for e in full] == [["layer1", "layer2"]]
    assert option(full[0], "marker", kind="style") == "diamond"
    start = [e for e in elements(figure, hv.Points, "Start") if e.label == "saturated"]
    assert [list(e["layer"]) for e in start] == [["layer1"]]
    note = " ".join(words(figure).split())
    assert "within 0.05 bits of H(X)" in note
    assert "layer1 throughout, layer2 at 1 of 40 epochs." in note


def test_a_sample_has_an_entropy_of_its_own_beyond_which_corrected_estimates_lie() -> None:
    plane = plane_of().assign_attrs(probe="sample")
    plane["I_XT"][:, :, 1] = H_X + 1.5
    figure = figures.information_plane(plane, saturation=0.05)
    text = " ".join(words(figure).split())
    assert "within 0.05 bits of H(X) of the sample or beyond" in text
    assert any(f"H(X) of the sample = {H_X:.4g} bits" in e["text"] for e in elements(figure, hv.Labels, "Reference"))


def test_nothing_is_said_of_saturation_where_there_is_none() -> None:
    figure = figures.information_plane(plane_of(), ["layer3", "output"])
    assert "aturated" not in words(figure)
    assert {e.label for e in elements(figure, hv.Points, "End")} == {""}


def test_a_diverged_seed_is_left_out_of_the_whole_mean_and_counted() -> None:
    plane = plane_of()
    figure = figures.information_plane(diverged(plane, 4, 30))
    others = figures.information_plane(plane.sel(seed=[0, 1, 2, 3, 5]))
    steps, expected = (one(f, hv.Segments, "Mean").dframe() for f in (figure, others))
    np.testing.assert_array_equal(steps["I_XT_end"], expected["I_XT_end"])
    assert "5 of 6 seeds" in option(figure, "title")
    assert "Left out: 1 seed with NaN, as after divergence (4); NaN in 40 of 960 cells." in words(figure)


def test_if_every_seed_diverged_the_mean_is_over_those_that_are_left() -> None:
    plane = plane_of()
    for seed in range(6):
        plane = diverged(plane, seed, 20 + seed)  # from epoch 25 on there is none
    figure = figures.information_plane(plane)
    steps = one(figure, hv.Segments, "Mean").dframe()
    assert steps["epoch"].max() == 24
    expected = plane["I_XT"].sel(epoch=24, seed=5, layer="output")
    assert steps[(steps["layer"] == "output") & (steps["epoch"] == 24)]["I_XT_end"].item() == expected
    assert "Every seed has NaN cells" in words(figure)


def test_infinite_estimates_count_as_missing() -> None:
    plane = plane_of()
    plane["I_TY"][5, 2, 1] = np.inf
    assert "5 of 6 seeds" in option(figures.information_plane(plane), "title")


def test_a_single_epoch_and_a_single_seed_show_their_points() -> None:
    figure = figures.information_plane(plane_of(1, 1))
    assert len(one(figure, hv.Segments, "Mean")) == 0
    assert sum(len(e) for e in elements(figure, hv.Points, "End")) == len(LAYERS)
    assert "1 seed" in option(figure, "title")
    assert "at epoch 0" in words(figure)


def test_layers_are_chosen_by_name() -> None:
    figure = figures.information_plane(plane_of(), layers=["output", "layer2"])
    assert set(one(figure, hv.Segments, "Mean")["layer"]) == {"output", "layer2"}
    with pytest.raises(UnknownNameError, match=r"layer 'outptu'.*'output'"):
        figures.information_plane(plane_of(), layers=["outptu"])


def test_lazy_planes_are_computed_once() -> None:
    reads: list[int] = []
    plane = plane_of()

    def read(block: np.ndarray) -> np.ndarray:
        reads.append(1)
        return block

    lazy = plane.chunk(epoch=-1).map(lambda array: array.copy(data=array.data.map_blocks(read, dtype=float)))
    lazy.attrs = plane.attrs
    reads.clear()  # dask tries the function on an empty block
    figure = figures.information_plane(lazy)
    assert len(reads) == 2  # one block of each variable
    same = figures.information_plane(plane)
    np.testing.assert_array_equal(*(one(f, hv.Segments, "Mean").array() for f in (figure, same)))


# The snapshots ---------------------------------------------------------------


def test_a_frame_holds_every_network_of_its_epoch() -> None:
    plane = plane_of()
    frames = figures.snapshots(plane, epochs=[0, 25])
    assert frames.keys() == [0, 25]
    (networks,) = frames[25].traverse(lambda e: e, [hv.NdOverlay])
    assert list(networks.keys()) == LAYERS
    for layer in LAYERS:
        expected = plane.sel(epoch=25, layer=layer)
        np.testing.assert_array_equal(networks[layer]["I_XT"], expected["I_XT"])
        np.testing.assert_array_equal(networks[layer]["I_TY"], expected["I_TY"])
    colours = {option(points, "color", kind="style") for points in networks}
    assert len(colours) == len(LAYERS)


def test_epochs_snap_to_the_nearest_stored_and_appear_once() -> None:
    plane = plane_of(epochs=101).isel(epoch=[0, 1, 10, 100])
    assert figures.snapshots(plane, epochs=[8, 11, 70, 2]).keys() == [1, 10, 100]


def test_by_default_frames_are_log_spaced_from_first_to_last() -> None:
    keys = figures.snapshots(plane_of(2, 2001)).keys()
    assert (keys[0], keys[-1]) == (0, 2000)
    assert 30 <= len(keys) <= 40
    assert all(isinstance(key, int) for key in keys)
    assert keys[:3] == [0, 1, 2]


def test_no_epochs_is_an_error() -> None:
    with pytest.raises(ParameterError, match="epochs is empty; give epochs between 0 and 39"):
        figures.snapshots(plane_of(), epochs=[])


def test_a_frame_counts_its_networks_and_names_its_saturated_layers() -> None:
    frames = figures.snapshots(diverged(plane_of(), 4, 30), epochs=[0, 39])
    last = [option(frames[key], "title").splitlines()[-1] for key in (0, 39)]
    assert last == [
        "epoch 0 · 6 networks · saturated: layer1",
        "epoch 39 · 5 of 6 networks · saturated: layer1",
    ]
    assert "NaN, as after divergence, in 40 of 960 cells" in words(frames[39])


# Bad planes ------------------------------------------------------------------


@pytest.mark.parametrize("draw", [figures.information_plane, figures.snapshots])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.drop_vars("I_TY"), "I_TY is not among the variables given: I_XT"),
        (lambda p: p.drop_vars("I_XT"), "The estimator 'binned' gives I_TY only: use one that gives both"),
        (lambda p: p.drop_vars("I_XT").assign_attrs(target="output"), "With target='output' there is I_TY alone"),
        (lambda p: p.drop_vars(["I_XT", "I_TY"]), "among the variables given: none. Give what `information_plane`"),
        (lambda p: p.expand_dims(bins=[10, 30]), r"one value of bins, as with plane.sel\(bins=10\), or draw `sens"),
        (lambda p: [p], "draws what `information_plane` returned, but got a list"),
        (lambda p: p.mean("seed"), r"must have dims \(epoch, seed, layer\)"),
        (lambda p: p.drop_vars("epoch"), "lacks coordinates for epoch"),
        (lambda p: p.drop_attrs(deep=False), "lacks the attributes estimator, parameters, labels"),
        (lambda p: p.assign_attrs(units="nats"), "must be in bits but its units are 'nats'"),
        (lambda p: p.isel(epoch=slice(0)), "layer1, layer2, layer3, output has no finite value"),
        (lambda p: p.isel(layer=slice(0)), "the plane is empty"),
        (lambda p: p.where(p["layer"] != "layer3"), "layer layer3 has no finite value"),
    ],
)
def test_what_is_no_plane_is_refused(draw: Any, spoil: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        draw(spoil(plane_of()))


def test_a_value_chosen_from_a_grid_is_the_one_that_the_title_states() -> None:
    chosen = grid_of_planes().sel(bins=30)
    assert "binned (bins=30, range=[-1, 1], rule=equal)" in option(figures.information_plane(chosen), "title")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_part_of_the_samples_is_named(split: str) -> None:
    plane = plane_of().assign_attrs(split=split)
    assert f"{split} samples only" in option(figures.information_plane(plane), "title")
    assert "samples" not in option(figures.information_plane(plane.assign_attrs(split="all")), "title")


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"saturation must be .* but got -1"):
        figures.information_plane(plane_of(), saturation=-1)


# The files -------------------------------------------------------------------


class Fetches(HTMLParser):
    """What a browser would load on its own when it opens the page, scripts and styles aside."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text = ""
        self.tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag = tag
        if tag != "a":
            self.found += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data"}]

    def handle_data(self, data: str) -> None:
        if self.tag == "style":
            self.found += re.findall(r"@import[^;]*|url\(\s*['\"]?https?:[^)]*", data)


@pytest.mark.parametrize(
    "name", ["plane", *(pytest.param(name, marks=pytest.mark.long) for name in figures.FIGURES if name != "plane")]
)
def test_html_asks_no_host_for_anything(name: str, tmp_path: Path) -> None:
    page = figures.save(
        figures.FIGURES[name](*planes_for(name, epochs=5, layers=LAYERS[2:])), tmp_path / "figure.html"
    ).read_text()
    assert page.lstrip().startswith("<!DOCTYPE html>")
    parser = Fetches()
    parser.feed(page)
    assert parser.found == []
    # BokehJS itself names hosts: in licences and namespaces, which nothing loads, and for maps and formulas,
    # which no figure has. A browser that opened such pages with its network log on asked for nothing.
    ours = "".join(re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL))
    telling = {"gradients": "norm / norm of the weights", "training": "cross-entropy", "activations": "distinct codes"}
    assert telling.get(name, "I(X;T)") in ours
    assert "http" not in ours


def test_html_of_the_demo_is_light(tmp_path: Path) -> None:
    layers = ["layer1", "layer2", "layer3", "layer4", "layer5", "output"]
    page = figures.save(figures.information_plane(plane_of(20, 2001, layers=layers)), tmp_path / "plane.html")
    text = page.read_text()
    assert len("".join(re.findall(r'<script type="application/json".*?</script>', text, re.DOTALL))) < 1e6


def test_the_slider_swaps_every_frame_of_an_object_that_was_an_image_before(tmp_path: Path) -> None:
    frames = figures.snapshots(plane_of(epochs=3))
    figures.save(frames, tmp_path / "s.png")
    page = figures.save(frames, tmp_path / "s.html").read_text()
    assert '"categories":["0","1","2"]' in page
    for epoch in range(3):
        assert f"epoch {epoch} \\u00b7 6 networks" in page


def test_a_run_with_a_hostile_name_cannot_run_code(tmp_path: Path) -> None:
    plane = plane_of(epochs=3).assign_attrs(source_run="</script><script>alert(1)</script>")
    page = figures.save(figures.information_plane(plane), tmp_path / "x.html").read_text()
    assert "<script>alert(1)" not in page


@pytest.mark.long
@pytest.mark.parametrize("name", figures.FIGURES)
@pytest.mark.parametrize(
    ("suffix", "magic"),
    [("PNG", b"\x89PNG\r\n\x1a\n"), pytest.param("svg", b"<?xml", marks=pytest.mark.long)],
)
def test_images_are_what_their_suffix_says_and_the_same_again(
    name: str, suffix: str, magic: bytes, tmp_path: Path
) -> None:
    figure = figures.FIGURES[name](*planes_for(name, epochs=2, layers=LAYERS[2:]))
    first = figures.save(figure, tmp_path / f"a.{suffix}").read_bytes()
    assert first.startswith(magic)
    assert len(first) > 10_000
    assert figures.save(figure, tmp_path / f"b.{suffix}").read_bytes() == first
    assert mpl.pyplot.get_fignums() == []


def test_a_long_map_becomes_three_panels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    titles: list[str] = []
    real = mpl.figure.Figure.savefig

    def spy(self: Any, *args: Any, **kwargs: Any) -> None:
        titles.extend(text.get_text() for text in self.findobj(mpl.text.Text))
        real(self, *args, **kwargs)

    monkeypatch.setattr(mpl.figure.Figure, "savefig", spy)
    figures.save(figures.snapshots(plane_of(2, 10)), tmp_path / "row.png")
    assert [t for t in titles if t.startswith("epoch")] == ["epoch 0", "epoch 2", "epoch 9"]
    assert titles.count("Networks in the information plane · run rule-tanh") == 1


@pytest.mark.parametrize("path", ["plane.pdf", "plane", "html"])
def test_another_suffix_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"written as \.html, \.png or \.svg, or as a film, .*; the path given is"):
        figures.save(figures.information_plane(plane_of()), tmp_path / path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.png").mkdir()
    with pytest.raises(ParameterError, match="is a folder"):
        figures.check_path(tmp_path / "d.png")


def test_missing_folders_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = figures.save(figures.information_plane(plane_of()), str(tmp_path / "a" / "b" / "plane.svg"))
    assert [p.name for p in path.parent.iterdir()] == ["plane.svg"]


def test_a_failed_write_keeps_the_old_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "plane.svg"
    path.write_text("old")

    def full(self: Path, data: bytes) -> int:
        self.open("wb").close()
        raise OSError(28, "No space left on device")

    figure = figures.information_plane(plane_of())
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        figures.save(figure, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.long
@pytest.mark.parametrize("backend", ["bokeh", "matplotlib"])
def test_a_notebook_keeps_the_backend_it_chose(backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hv.Store, "current_backend", backend)
    theme = curdoc().theme
    for suffix in ("html", "png"):
        figures.save(figures.information_plane(plane_of(2, 2)), tmp_path / f"f.{suffix}")
    assert hv.Store.current_backend == backend
    assert curdoc().theme is theme


# The parts -------------------------------------------------------------------


def test_log_spaced_takes_the_ends_and_thins_evenly_in_the_logarithm() -> None:
    epochs = np.arange(2001)
    chosen = log_spaced(epochs, 100)
    assert (chosen[0], chosen[-1]) == (0, 2000)
    assert len(chosen) <= 100
    late = np.log1p(chosen[chosen > 200])
    np.testing.assert_allclose(np.diff(late), np.log1p(2000) / 99, rtol=0.05)
    np.testing.assert_array_equal(log_spaced(np.array([3, 5, 9]), 3), [0, 1, 2])


def test_names_of_points_in_one_spot_are_joined() -> None:
    points = np.array([[0.9, 0.9], [0.5, 0.5], [0.905, 0.905]])
    assert merge(points, ["a", "b", "c"]) == [(0, "a, c"), (1, "b")]


def test_a_label_lies_nearest_to_the_point_that_it_names() -> None:
    points = np.array([[0.92, 0.9], [0.88, 0.89]])
    centres = place(points, ["layer1", "layer3"], np.repeat([[0.8, 0.9], [0.88, 0.84]], 50, axis=0))
    half = np.array([0.0115 * 6, 0.042]) / 2
    away = np.linalg.norm(np.maximum(np.abs(points[None] - centres[:, None]) - half, 0) / [1, 1.4], axis=-1)
    np.testing.assert_array_equal(away.argmin(axis=1), [0, 1])


def test_labels_keep_off_one_another_and_inside() -> None:
    rng = np.random.default_rng(0)
    points = np.column_stack([np.linspace(0.05, 0.95, 8), np.full(8, 0.93)])
    names = [f"layer{i}" for i in range(8)]
    centres = place(points, names, rng.random((200, 2)))
    width, height = 0.0115 * 6, 0.042
    size = np.array([width, height])
    assert (np.abs(centres - 0.5) + size / 2 <= 0.5 + 1e-9).all()
    apart = np.abs(centres[:, None] - centres[None]) >= size - 1e-9
    assert (apart.any(axis=-1) | np.eye(8, dtype=bool)).all()
