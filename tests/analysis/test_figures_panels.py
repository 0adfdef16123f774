"""The figures of several panels: sensitivity, comparison and bounds."""

import html
import re
from functools import cache
from pathlib import Path
from typing import Any

import holoviews as hv
import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from bokeh.models.annotations import ColorBar

from ipstore.analysis import figures
from ipstore.analysis.figures.planes import split
from ipstore.errors import ParameterError, UnknownNameError
from tests.analysis.test_figures import bound, diverged, elements, grid_of_planes, option, plane_of, words

LAYERS = ["layer1", "layer2", "layer3", "output"]


def drawn(figure: Any, kind: Any, group: str, **marks: str) -> list[Any]:
    """Elements of a group, of which the columns say `marks`."""
    return [e for e in elements(figure, kind, group) if all((e[name] == value).all() for name, value in marks.items())]


def colours(found: list[Any]) -> list[str]:
    return list(dict.fromkeys(option(e, "color", kind="style") for e in found))


def screen(figure: Any) -> str:
    """What stands over the panels on screen."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", option(figure, "title"))).split())


def paper(figure: Any) -> str:
    return " ".join(words(figure).split())


@cache
def sensitivity_of_three() -> Any:
    return figures.sensitivity(grid_of_planes())


@cache
def bounds_of_two() -> Any:
    return figures.bounds(bound("lower"), bound("upper"))


def of(found: list[Any], quantity: str) -> list[Any]:
    return [element for element in found if element.vdims[0].name == quantity]


# Sensitivity -----------------------------------------------------------------


def test_a_line_is_the_mean_over_seeds_of_one_value_and_layer() -> None:
    plane = grid_of_planes()
    figure = sensitivity_of_three()
    for name in ("I_XT", "I_TY"):
        for value in (10, 30, 100):
            (line,) = of(drawn(figure, hv.Curve, "Mean", layer="layer3", bins=str(value)), name)
            expected = plane[name].sel(bins=value, layer="layer3").mean("seed")
            np.testing.assert_array_equal(line["epoch"], expected["epoch"])
            np.testing.assert_allclose(line[name], expected, rtol=1e-12)
            np.testing.assert_allclose(line["log_epoch"], np.log10(1 + expected["epoch"]), rtol=1e-12)


def test_a_band_holds_the_middle_of_the_seeds() -> None:
    plane = grid_of_planes(values=(10, 30))
    bands = elements(figures.sensitivity(plane, ["layer3"]), hv.Area, "Band")
    low, high = np.quantile(plane["I_XT"].sel(bins=10, layer="layer3"), [0.1, 0.9], axis=1)
    np.testing.assert_allclose(bands[0]["I_XT"], low, rtol=1e-12)
    np.testing.assert_allclose(bands[0]["I_XT_high"], high, rtol=1e-12)
    assert colours(bands) == colours(elements(figures.sensitivity(plane), hv.Curve, "Mean"))


def test_panels_stand_by_layer_and_quantity_with_one_scale_in_a_row() -> None:
    figure = sensitivity_of_three()
    assert figure.shape == (2, len(LAYERS))
    limits = [option(panel, "ylim") for panel in figure]
    assert len(set(limits[: len(LAYERS)])) == len(set(limits[len(LAYERS) :])) == 1
    assert [option(panel, "title") for panel in figure] == [*LAYERS, *[""] * len(LAYERS)]
    assert len({option(panel, "xlim") for panel in figure}) == 1
    assert [option(panel, "yaxis") for panel in figure] == ["left", "bare", "bare", "bare"] * 2
    assert [option(panel, "xaxis") for panel in figure] == ["bare"] * 4 + ["bottom"] * 4


def test_values_run_in_their_order_whatever_the_order_given() -> None:
    figure, expected = figures.sensitivity(grid_of_planes().isel(bins=[2, 0, 1])), sensitivity_of_three()
    lines = [elements(f, hv.Curve, "Mean") for f in (figure, expected)]
    assert [e["bins"][0] for e in lines[0]] == [e["bins"][0] for e in lines[1]]
    luminance = [mpl.colors.rgb_to_hsv(mpl.colors.to_rgb(c))[2] for c in colours(lines[0])]
    assert len(luminance) == 3
    assert luminance == sorted(luminance)


def test_the_key_names_every_value_once() -> None:
    twelve = grid_of_planes(values=[11, 17, 18, 16, 30, 32, 50, 64, 99, 128, 256, 1000], seeds=2, epochs=3)
    figure = figures.sensitivity(twelve, ["layer3"])
    written = words(figure).splitlines()
    assert all(written.count(str(value)) == 1 for value in twelve["bins"].values)
    assert len(colours(elements(figure, hv.Curve, "Mean"))) == 12
    assert re.search("bins 11 16 17 18 30 32 50 64 99 128 256 1000", screen(figure))


def test_words_as_values_have_colours_without_an_order() -> None:
    figure = figures.sensitivity(grid_of_planes("range", ["-1..1", "layer", "unit"]), ["layer3"])
    assert colours(elements(figure, hv.Curve, "Mean")) == ["#0072b2", "#d55e00", "#009e73"]
    assert re.search(r"range\s+-1..1\s+layer\s+unit", screen(figure))
    assert "binned (bins=30, rule=equal)" in screen(figure)


def test_the_heading_says_what_is_drawn_on_paper_and_on_screen() -> None:
    plane = grid_of_planes(epochs=3).assign_attrs(estimator_kind="upper")
    figure = figures.sensitivity(plane, LAYERS[2:])
    for text in (paper(figure), screen(figure)):
        assert "Sensitivity to bins · run rule-tanh" in text
        assert (
            "p(y|x): hard labels, I(X;Y) = 0.999 bits · estimator: binned (range=[-1, 1], rule=equal) · upper bound · "
            "6 seeds" in text
        )


def test_a_note_states_the_drop_where_it_depends_most_on_the_parameter() -> None:
    plane = grid_of_planes()
    mean = plane["I_XT"].mean("seed")
    drop = mean.max("epoch") - mean.isel(epoch=-1)
    layer = LAYERS[int((drop.max("bins") - drop.min("bins")).values.argmax())]
    stated = ", ".join(f"{drop.sel(bins=value, layer=layer).item():.2f} at {value}" for value in (10, 30, 100))
    expected = f"peak minus end, in {layer}, where it depends most on bins: {stated}."
    assert expected in screen(figures.sensitivity(plane))
    end = plane["I_TY"].isel(epoch=-1).mean("seed").sel(layer="layer1")
    stated = ", ".join(f"{end.sel(bins=value).item():.3f} at {value}" for value in (10, 30, 100))
    assert f"I(T;Y) in bits at epoch 39, in layer1: {stated}." in screen(figures.sensitivity(plane, ["layer1"]))


def test_saturation_is_told_by_layer_and_value() -> None:
    text = screen(sensitivity_of_three())
    assert "within 0.05 bits of H(X)" in text
    assert "at some epoch: layer1 at 100." in text
    assert "aturated" not in screen(figures.sensitivity(grid_of_planes(), ["layer3"]))


def test_reference_lines_stand_in_every_panel_and_are_named_once_a_row() -> None:
    figure = sensitivity_of_three()
    lines = elements(figure, hv.Curve, "Reference")
    assert len(lines) == 2 * len(LAYERS)
    assert {float(line.dimension_values(1)[0]) for line in lines} == {12.0, 0.999}
    names = [e["text"][0] for e in elements(figure, hv.Labels, "Reference")]
    assert names == ["H(X) = 12 bits", "I(X;Y) = 0.999 bits"]


@pytest.mark.parametrize("name", ["I_XT", "I_TY"])
def test_one_quantity_is_enough(name: str) -> None:
    other = {"I_XT": "I_TY", "I_TY": "I_XT"}[name]
    figure = figures.sensitivity(grid_of_planes().drop_vars(other))
    assert figure.shape == (1, len(LAYERS))
    assert {e.vdims[0].name for e in elements(figure, hv.Curve, "Mean")} == {name}


def test_the_network_s_own_answer_as_y_has_no_reference_line() -> None:
    plane = grid_of_planes().drop_vars("I_XT")
    plane = plane.drop_attrs(deep=False).assign_attrs(
        {key: value for key, value in plane.attrs.items() if key not in ("I_XY", "H_X")} | {"target": "output"}
    )
    figure = figures.sensitivity(plane)
    assert elements(figure, hv.Curve, "Reference") == []
    assert "Y: the network's own answer" in screen(figure)


def test_a_single_seed_has_no_band_and_a_single_epoch_has_points() -> None:
    figure = figures.sensitivity(grid_of_planes(seeds=1), LAYERS[2:])
    assert elements(figure, hv.Area, "Band") == []
    assert "Line: the one seed." in screen(figure)
    figure = figures.sensitivity(grid_of_planes(epochs=1), LAYERS[2:])
    assert elements(figure, hv.Curve, "Mean") == []
    assert len(elements(figure, hv.Scatter, "Point")) == 2 * 3 * 2
    assert "Point: mean over seeds; stroke: the middle 80% of the seeds." in screen(figure)
    assert "I(X;T) in bits at epoch 0" in screen(figure)


def test_a_diverged_seed_is_left_out_of_every_line_and_counted() -> None:
    plane = grid_of_planes()
    figure = figures.sensitivity(diverged(plane, 4, 30), LAYERS[3:])
    expected = figures.sensitivity(plane.sel(seed=[0, 1, 2, 3, 5]), LAYERS[3:])
    for line, other in zip(*(elements(f, hv.Curve, "Mean") for f in (figure, expected)), strict=True):
        np.testing.assert_array_equal(line.array([0, 1]), other.array([0, 1]))
    assert "5 of 6 seeds" in screen(figure)
    assert "Left out: 1 seed with NaN, as after divergence (4)" in screen(figure)


def test_a_layer_that_has_no_number_at_one_value_costs_no_seed() -> None:
    plane = grid_of_planes()
    figure = figures.sensitivity(plane.where((plane["bins"] != 10) | (plane["layer"] != "layer2")), LAYERS[1:3])
    assert drawn(figure, hv.Curve, "Mean", layer="layer2", bins="10") == []
    assert len(drawn(figure, hv.Curve, "Mean", layer="layer2", bins="30")) == 2
    assert "· 6 seeds" in screen(figure)
    assert "No line, no finite value: layer2 at 10." in screen(figure)


def test_where_every_seed_diverged_lines_end() -> None:
    plane = grid_of_planes()
    figure = figures.sensitivity(plane.where(plane["epoch"] < 20 + plane["seed"]), LAYERS[3:])
    assert {int(e["epoch"].max()) for e in elements(figure, hv.Curve, "Mean")} == {24}
    assert "Every seed has NaN cells" in screen(figure)


def test_negative_estimates_lie_within_the_frame() -> None:
    plane = grid_of_planes()
    plane["I_TY"] = plane["I_TY"] - 1.5
    figure = figures.sensitivity(plane, LAYERS[3:])
    lowest = min(float(e["I_TY"].min()) for e in of(elements(figure, hv.Area, "Band"), "I_TY"))
    assert lowest < 0
    assert min(option(panel, "ylim")[0] for panel in figure) < lowest


def test_many_layers_stand_in_blocks_of_equal_width() -> None:
    layers = [f"layer{i}" for i in range(1, 8)]
    figure = figures.sensitivity(grid_of_planes(values=[10], layers=layers, seeds=1, epochs=3))
    assert figure.shape == (4, 4)
    assert [
        option(panel, "title") for panel in figure if not isinstance(panel, hv.Empty) and option(panel, "title")
    ] == layers


@pytest.mark.parametrize(
    ("plane", "message"),
    [
        (plane_of(), "has no grid of one: its dimensions are epoch, seed, layer"),
        (grid_of_planes().expand_dims(width=[0.1, 0.2]), r"has a grid of .*bins.*choose one value of all but one"),
        ([plane_of()], "draws what `information_plane` returned, but got a list"),
        (grid_of_planes().drop_vars("bins"), "lacks coordinates for bins"),
        (grid_of_planes().drop_vars(["I_XT", "I_TY"]), "no grid of one"),
        (grid_of_planes().isel(bins=slice(0)), "layer1, layer2, layer3, output has no finite value"),
    ],
)
def test_sensitivity_refuses_what_has_not_one_grid(plane: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        figures.sensitivity(plane)


# Comparison ------------------------------------------------------------------


def test_panels_have_common_axes_and_their_own_trajectories() -> None:
    planes = [plane_of(), bound("upper"), bound("lower")]
    figure = figures.compare(*planes)
    assert figure.shape == (1, 3)
    assert len({(option(panel, "xlim"), option(panel, "ylim")) for panel in figure}) == 1
    for panel, plane in zip(figure, planes, strict=True):
        (steps,) = elements(panel, hv.Segments, "Mean")
        rows = steps.dframe()
        end = rows[rows["layer"] == "output"].iloc[-1]
        expected = plane.mean("seed").sel(layer="output", epoch=39)
        np.testing.assert_allclose([end["I_XT_end"], end["I_TY_end"]], [expected["I_XT"], expected["I_TY"]], rtol=1e-12)
    (left, right), (bottom, top) = option(figure.values()[0], "xlim"), option(figure.values()[0], "ylim")
    assert left < float(planes[2]["I_XT"].min()) < float(planes[1]["I_XT"].max()) < right
    assert bottom < float(planes[2]["I_TY"].min()) < float(planes[1]["I_TY"].max()) < top


def test_each_panel_names_its_estimator_kind_and_parameters() -> None:
    figure = figures.compare(plane_of().assign_attrs(estimator_kind="exact"), bound("upper"))
    assert [option(panel, "title") for panel in figure] == [
        "binned · exact\nbins=30, range=[-1, 1], rule=equal",
        "kde_upper · upper bound\nnoise=0.001",
    ]
    assert "Exact: of the variable that the estimator makes of a layer" in screen(figure)
    assert "run rule-tanh" in screen(figure)
    assert "p(y|x): hard labels, I(X;Y) = 0.999 bits, H(X) = 12 bits · 6 seeds" in screen(figure)
    assert elements(figure, hv.Labels, "Reference") == []


def test_kinds_that_differ_by_quantity_are_both_named() -> None:
    mixed = bound("upper")
    mixed["I_TY"].attrs["kind"] = "estimate"
    (_, panel) = figures.compare(plane_of(), mixed)
    assert option(panel, "title").startswith("kde_upper · I(X;T) upper bound, I(T;Y) estimate\n")


def test_what_panels_do_not_share_stands_over_each() -> None:
    figure = figures.compare(plane_of(), diverged(plane_of(), 4, 30).assign_attrs(source_run="relu"))
    assert [option(panel, "title").splitlines()[-1] for panel in figure] == [
        "run rule-tanh · 6 seeds",
        "run relu · 5 of 6 seeds",
    ]
    assert "run" not in screen(figure).split("p(y|x)")[0]
    assert "binned (bins=30, range=[-1, 1], rule=equal): Left out: 1 seed with NaN" in screen(figure)


def test_bounds_that_panels_do_not_share_are_named_in_each() -> None:
    figure = figures.compare(plane_of(), plane_of(i_xy=0.5))
    texts = [text for e in elements(figure, hv.Labels, "Reference") for text in e["text"]]
    assert texts == ["I(X;Y) = 0.999 bits", "H(X) = 12 bits", "I(X;Y) = 0.500 bits", "H(X) = 12 bits"]


def test_long_lists_of_parameters_are_wrapped() -> None:
    long = plane_of().assign_attrs(parameters={f"a_long_parameter_{i}": i / 7 for i in range(12)})
    titles = [option(panel, "title") for panel in figures.compare(plane_of(), long)]
    assert max(len(line) for line in titles[1].splitlines()) <= 54
    assert "a_long_parameter_11=1.57143" in titles[1]


@pytest.mark.long
def test_there_is_one_colour_bar_under_either_backend() -> None:
    figure = figures.compare(*[plane_of(2, 3)] * 5, layers=["output"])
    assert figure.shape == (2, 3)
    on_screen = hv.Store.renderers["bokeh"].instance(theme=None).get_plot(figure).state
    assert len(list(on_screen.select({"type": ColorBar}))) == 1
    on_paper = hv.Store.renderers["matplotlib"].get_plot(figure).state
    mpl.pyplot.close(on_paper)
    assert sum(axis.get_ylabel() == "epoch" for axis in on_paper.axes) == 1


def test_epochs_have_one_colour_scale() -> None:
    planes = [plane_of(), plane_of(epochs=101)]
    scales = {option(e, "clim") for e in elements(figures.compare(*planes), hv.Segments, "Mean")}
    assert scales == {(0.0, np.log10(101))}


def test_a_grid_counts_as_its_values() -> None:
    figure = figures.compare(grid_of_planes())
    assert [option(panel, "title").splitlines()[1] for panel in figure] == [
        f"bins={bins}, range=[-1, 1], rule=equal" for bins in (10, 30, 100)
    ]
    assert [one.attrs["parameters"]["bins"] for one in split(grid_of_planes())] == [10, 30, 100]


def test_compare_names_the_estimators_that_give_one_quantity_alone() -> None:
    halves = [plane_of().drop_vars("I_XT").assign_attrs(estimator=name) for name in ("variational", "knn")]
    with pytest.raises(ParameterError, match="those of 'knn' and 'variational' have I_TY only; leave them out"):
        figures.compare(plane_of(), *halves)


@pytest.mark.parametrize(("planes", "number"), [([], 0), ([plane_of()], 1), ([[plane_of(), plane_of()]], 1)])
def test_compare_needs_two_planes(planes: list[Any], number: int) -> None:
    with pytest.raises(ParameterError, match=f"needs two or more, but got {number}"):
        figures.compare(*planes)


# Bounds ----------------------------------------------------------------------


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_the_band_lies_between_the_means_of_the_bounds_in_either_order(order: slice) -> None:
    lower, upper = bound("lower"), bound("upper")
    first, second = [lower, upper][order]
    figure = figures.bounds(first, second)
    assert figure.shape == (2, len(LAYERS))
    (area,) = of(elements(figure.values()[2], hv.Area, "Band"), "I_XT")
    np.testing.assert_allclose(area["I_XT"], lower["I_XT"].sel(layer="layer3").mean("seed"), rtol=1e-12)
    np.testing.assert_allclose(area["I_XT_high"], upper["I_XT"].sel(layer="layer3").mean("seed"), rtol=1e-12)
    (edge,) = [e for e in drawn(figure, hv.Curve, "Mean", layer="layer3", bound="lower") if e.vdims[0].name == "I_XT"]
    np.testing.assert_allclose(edge["I_XT"], area["I_XT"], rtol=1e-12)
    assert option(edge, "line_dash", kind="style") == "dashed"


def test_bounds_name_the_noise_the_estimators_and_the_gap() -> None:
    figure = bounds_of_two()
    for text in (paper(figure), screen(figure)):
        assert "Bounds on the information · run rule-tanh · noise=0.001" in text
        assert "upper bound: kde_upper" in text
        assert "lower bound: kde_lower" in text
        assert (
            "I(X;T), upper minus lower in bits: at epoch 39 layer1 1.00, layer2 1.00, layer3 1.00, output 1.00;"
            in " ".join(text.split())
        )


def test_parameters_of_one_bound_alone_stand_beside_it() -> None:
    lower = bound("lower").assign_attrs(parameters={"noise": 0.01, "order": 2})
    text = screen(figures.bounds(lower, bound("upper", noise=0.01)))
    assert "lower bound: kde_lower (order=2)" in text
    assert "run rule-tanh · noise=0.01" in text


def test_a_quantity_of_which_there_are_no_bounds_is_left_out_and_named() -> None:
    lower, upper = bound("lower"), bound("upper")
    for plane in (lower, upper):
        plane["I_TY"].attrs["kind"] = "estimate"
    figure = figures.bounds(lower, upper)
    assert figure.shape == (1, len(LAYERS))
    assert "I(T;Y) is not drawn: of it kde_lower and kde_upper are not a lower and an upper bound." in screen(figure)


def test_only_cells_count_in_which_both_bounds_are_numbers() -> None:
    figure = figures.bounds(diverged(bound("lower"), 2, 10), bound("upper"), LAYERS[3:])
    expected = figures.bounds(bound("lower").drop_sel(seed=2), bound("upper").drop_sel(seed=2), LAYERS[3:])
    for line, other in zip(*(elements(f, hv.Curve, "Mean") for f in (figure, expected)), strict=True):
        np.testing.assert_array_equal(line.array([0, 1]), other.array([0, 1]))
    assert "5 of 6 seeds" in screen(figure)


def test_bounds_that_cross_are_told() -> None:
    figure = figures.bounds(bound("lower", shift=-0.25), bound("upper", shift=-0.25))
    assert "The lower bound on I(X;T) lies above the upper in 960 of 960 cells, by up to 0.5 bits" in screen(figure)
    assert "lies above" not in screen(figures.bounds(bound("lower", shift=0), bound("upper", shift=0)))


def test_bounds_at_a_single_epoch_are_points() -> None:
    figure = figures.bounds(bound("lower", epochs=1, seeds=1), bound("upper", epochs=1, seeds=1))
    assert len(elements(figure, hv.Scatter, "Point")) == 4 * len(LAYERS)
    assert "Edges: the one seed." in screen(figure)


def mixed(kinds: dict[str, str]) -> xr.Dataset:
    plane = bound("lower")
    for name, kind in kinds.items():
        plane[name].attrs["kind"] = kind
    return plane


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (bound("lower"), bound("lower"), r"kde_lower \(noise=0.001\) gives I\(X;T\) of kind 'lower' and I\(T;Y\)"),
        (plane_of(), bound("upper"), r"binned \(bins=30.* gives I\(X;T\) of kind 'unknown'.*kde_lower and kde_upper"),
        (mixed({"I_TY": "upper"}), mixed({"I_XT": "upper"}), "a lower one of one quantity and an upper one of the oth"),
        (bound("lower", epochs=3), bound("upper", epochs=4), "over the same epochs, but the lower has 0, 1, 2 and the"),
        (bound("lower", seeds=3), bound("upper"), "over the same seeds, but the lower has 0, 1, 2 and the upper 0, 1"),
        (bound("lower"), bound("upper").isel(layer=[1, 0]), "same layers, but .* upper layer2, layer1; select"),
        (bound("lower"), bound("upper").assign_attrs(source_run="relu"), "of the same source_run, but .*'rule-tanh'"),
        (bound("lower"), bound("upper", noise=0.1), "under noise=0.001 and the upper under noise=0.1: they bound diff"),
        (grid_of_planes(), bound("upper"), r"must have dims \(epoch, seed, layer\).*Choose one value of bins"),
        (
            bound("lower").where(plane_of()["seed"] < 3),
            bound("upper").where(plane_of()["seed"] >= 3),
            "in no cell are both bounds finite",
        ),
    ],
)
def test_bounds_refuses_what_are_not_two_bounds_on_the_same(first: Any, second: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        figures.bounds(first, second)


# The layout and the files ----------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [
        lambda layers: figures.sensitivity(grid_of_planes(), layers),
        lambda layers: figures.compare(plane_of(), plane_of(), layers=layers),
        lambda layers: figures.bounds(bound("lower"), bound("upper"), layers),
    ],
)
def test_layers_are_chosen_by_name(draw: Any) -> None:
    found = elements(draw(["output", "layer2"]), hv.Element, "Mean")
    assert {layer for e in found for layer in e["layer"]} == {"output", "layer2"}
    with pytest.raises(UnknownNameError, match=r"layer 'outptu'.*'output'"):
        draw(["outptu"])


@pytest.mark.parametrize("draw", [figures.compare, figures.bounds])
def test_what_lazy_planes_have_in_common_is_computed_once(draw: Any) -> None:
    computed: list[int] = []

    def compute(block: np.ndarray) -> np.ndarray:
        computed.append(1)
        return block

    lower = bound("lower").chunk(epoch=-1)
    lower["I_XT"] = lower["I_XT"].copy(
        data=lower["I_XT"].data.map_blocks(compute, dtype=float, meta=np.empty((0,) * 3))
    )
    upper = (lower + 1).assign_attrs(bound("upper").attrs)
    for name in ("I_XT", "I_TY"):
        upper[name].attrs["kind"] = "upper"
    draw(lower, upper)
    assert len(computed) == 1


@pytest.mark.long
@pytest.mark.parametrize("empty", [0, 1])
def test_panels_on_paper_have_the_size_that_they_should(empty: int) -> None:
    figure = figures.compare(*[plane_of(2, 3)] * (6 - empty), layers=["output"])
    plot = hv.Store.renderers["matplotlib"].get_plot(figure)
    plot.state.canvas.draw()
    frames = [axis.get_window_extent() for axis in plot.state.axes if axis.get_ylabel() != "epoch"]
    inches = np.array([(frame.width, frame.height) for frame in frames if frame.width > 0]) / plot.state.dpi
    mpl.pyplot.close(plot.state)
    np.testing.assert_allclose(inches, np.broadcast_to([3.9, 3.3], inches.shape), rtol=1e-6)


@pytest.mark.parametrize(
    "run",
    ["<img src=x onerror=alert(1)>", *(pytest.param(name, marks=pytest.mark.long) for name in ("{run}", "a & b"))],
)
def test_a_hostile_run_name_is_but_a_name(run: str, tmp_path: Path) -> None:
    figure = figures.sensitivity(grid_of_planes(seeds=2, epochs=2).assign_attrs(source_run=run), ["layer2"])
    page = figures.save(figure, tmp_path / "x.html").read_text()
    assert "<img src=x" not in page
    assert run in screen(figure).replace("{{", "{").replace("}}", "}")
    assert run in words(figure)


# The registry ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "grids", "message"),
    [
        ("plane", [], "takes one plane but got 0 planes"),
        ("plane", [[], []], "takes one plane but got 2 planes; give one estimator, with one value of each parameter"),
        ("snapshots", [["bins"]], "takes one plane but got 1 plane with a grid of bins"),
        ("sensitivity", [[]], "takes one plane with a grid but got 1 plane; give one estimator with several values"),
        ("sensitivity", [["bins", "range"]], "got 1 plane with a grid of bins, range"),
        ("compare", [[]], "takes two planes or more but got 1 plane; give two estimators"),
        ("bounds", [[]], "takes a lower and an upper bound but got 1 plane"),
        ("bounds", [["noise"], ["noise"]], "got 2 planes with a grid of noise and of noise"),
    ],
)
def test_a_figure_says_which_planes_it_takes(name: str, grids: list[list[str]], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        figures.FIGURES[name].check(grids)


@pytest.mark.parametrize(
    ("name", "grids"),
    [
        ("plane", [[]]),
        ("sensitivity", [["bins"]]),
        ("compare", [[], []]),
        ("compare", [["bins"]]),
        ("compare", [["bins", "rule"], []]),
        ("bounds", [[], []]),
    ],
)
def test_what_a_figure_takes_passes(name: str, grids: list[list[str]]) -> None:
    figures.FIGURES[name].check(grids)


def test_calling_a_figure_checks_its_planes_first() -> None:
    with pytest.raises(ParameterError, match="takes one plane but got 2 planes"):
        figures.FIGURES["plane"](plane_of(), plane_of())
    with pytest.raises(ParameterError, match="takes a lower and an upper bound but got 2 planes with a grid of bins"):
        figures.FIGURES["bounds"](grid_of_planes(), bound("upper"))
    assert isinstance(figures.FIGURES["plane"](plane_of(), layers=["output"]), hv.Overlay)
