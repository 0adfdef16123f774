"""The figures of a sweep: trajectories side by side, and where layers end."""

from functools import reduce
from typing import Any

import holoviews as hv
import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from bokeh.models.annotations import ColorBar

from ipstore.analysis import figures
from ipstore.analysis.intervals import seed_interval
from ipstore.errors import ParameterError, UnknownNameError
from tests.analysis.test_figures import (
    LAYERS,
    binary_channel,
    elements,
    grid_of_planes,
    one,
    option,
    plane_of,
    sweep_of_planes,
    words,
)
from tests.analysis.test_figures_panels import paper, screen

DEPTHS = {
    "10-7-5": ["layer1", "layer2", "layer3", "output"],
    "10": ["layer1", "output"],
    "10-7": ["layer1", "layer2", "output"],
}


def sweep_of_depths() -> xr.Dataset:
    """Networks of three depths, the deepest first: the layers that a network lacks are NaN."""
    planes = [plane_of(layers=layers).reindex(layer=LAYERS) for layers in DEPTHS.values()]
    joined = xr.concat(planes, dim=xr.Variable("hidden", list(DEPTHS)), combine_attrs="override")
    return joined.assign_attrs(sweep="depths", source_run="depths")


def diverged_at(plane: xr.Dataset, fraction: float) -> xr.Dataset:
    """The fourth seed diverges at epoch 30 of the run at one value."""
    return plane.where((plane["train_fraction"] != fraction) | (plane["seed"] != 4) | (plane["epoch"] < 30))


def titles(figure: Any) -> list[str]:
    return [option(panel, "title") for panel in figure if not isinstance(panel, hv.Empty)]


def path(panel: Any, layer: str) -> Any:
    rows = one(panel, hv.Segments, "Mean").dframe()
    return rows[rows["layer"] == layer]


# Side by side -----------------------------------------------------------------


def test_a_panel_holds_the_mean_paths_of_its_value() -> None:
    plane = sweep_of_planes()
    figure = figures.sweep(plane)
    assert titles(figure) == ["train_fraction 0.05", "train_fraction 0.45", "train_fraction 0.85"]
    for panel, value in zip(figure, (0.05, 0.45, 0.85), strict=True):
        for layer in LAYERS:
            expected = plane.sel(train_fraction=value, layer=layer).mean("seed")
            shown = path(panel, layer)
            np.testing.assert_array_equal(shown["epoch"], np.arange(1, 40))
            np.testing.assert_allclose(shown["I_XT_end"], expected["I_XT"][1:], rtol=1e-12)
            np.testing.assert_allclose(shown["I_TY_end"], expected["I_TY"][1:], rtol=1e-12)


def test_panels_have_the_same_axes_and_one_scale_of_epochs() -> None:
    plane = sweep_of_planes()
    plane["I_XT"][1] += 5
    figure = figures.sweep(plane.where((plane["train_fraction"] != 0.05) | (plane["epoch"] < 20)))
    assert len({(option(panel, "xlim"), option(panel, "ylim")) for panel in figure}) == 1
    assert option(figure.values()[0], "xlim")[1] > float(plane["I_XT"].max()) > 12
    assert {option(e, "clim") for e in elements(figure, hv.Segments, "Mean")} == {(0.0, np.log10(40))}
    on_screen = hv.Store.renderers["bokeh"].instance(theme=None).get_plot(figure).state
    assert len(list(on_screen.select({"type": ColorBar}))) == 1


def test_layers_that_a_network_lacks_are_not_drawn_and_the_output_is() -> None:
    figure = figures.sweep(sweep_of_depths())
    assert titles(figure) == ["hidden 10\n2 layers", "hidden 10-7\n3 layers", "hidden 10-7-5\n4 layers"]
    for panel, hidden in zip(figure, ("10", "10-7", "10-7-5"), strict=True):
        rows = one(panel, hv.Segments, "Mean").dframe()
        assert list(dict.fromkeys(rows["layer"])) == DEPTHS[hidden]
        assert sum(len(e) for e in elements(panel, hv.Points, "End")) == len(DEPTHS[hidden])
        alone = one(figures.information_plane(plane_of(layers=DEPTHS[hidden])), hv.Segments, "Mean").dframe()
        np.testing.assert_allclose(rows["I_XT_end"], alone["I_XT_end"])
        names = ", ".join(one(panel, hv.Labels, "Layer")["text"]).split(", ")
        assert sorted(names) == DEPTHS[hidden]
    assert "NaN" not in screen(figure)
    assert "· 6 seeds · epochs 0 to 39" in screen(figure)


def test_a_run_of_fewer_epochs_ends_where_it_ends() -> None:
    plane = sweep_of_planes()
    figure = figures.sweep(plane.where((plane["train_fraction"] != 0.45) | (plane["epoch"] < 20)))
    assert titles(figure)[:2] == ["train_fraction 0.05\nepochs 0 to 39", "train_fraction 0.45\nepochs 0 to 19"]
    assert path(figure.values()[1], "output")["epoch"].max() == 19
    assert "NaN" not in screen(figure)


def test_epochs_that_only_other_runs_captured_do_not_break_a_path() -> None:
    plane = sweep_of_planes()
    figure = figures.sweep(plane.where((plane["train_fraction"] != 0.45) | (plane["epoch"] % 3 == 0)))
    shown = path(figure.values()[1], "output")
    np.testing.assert_array_equal(shown["epoch"], np.arange(3, 40, 3))
    before = plane["I_XT"].sel(train_fraction=0.45, layer="output", epoch=np.arange(0, 37, 3)).mean("seed")
    np.testing.assert_allclose(shown["I_XT"], before, rtol=1e-12)


def test_a_seed_that_diverged_is_told_at_its_value() -> None:
    plane = sweep_of_planes()
    hurt = diverged_at(plane, 0.85)
    figure = figures.sweep(hurt)
    assert [title.splitlines()[-1] for title in titles(figure)] == ["6 seeds", "6 seeds", "5 of 6 seeds"]
    assert "train_fraction 0.85: Left out: 1 seed with NaN, as after divergence (4)" in screen(figure)


def test_a_value_without_a_number_is_left_out_and_named() -> None:
    plane = sweep_of_planes(values=(0.05, 0.1, 0.45))
    figure = figures.sweep(plane.where(plane["train_fraction"] != 0.1))
    assert titles(figure) == ["train_fraction 0.05", "train_fraction 0.45"]
    assert "Left out, without a finite value: train_fraction 0.1." in screen(figure)


def test_values_stand_in_their_order() -> None:
    figure = figures.sweep(sweep_of_planes(values=(0.85, 0.05, 0.45), epochs=3))
    assert titles(figure) == ["train_fraction 0.05", "train_fraction 0.45", "train_fraction 0.85"]
    figure = figures.sweep(sweep_of_planes("activation", ("tanh", "relu"), epochs=3))
    assert titles(figure) == ["activation tanh", "activation relu"]


def test_the_heading_says_what_is_drawn_on_paper_and_on_screen() -> None:
    plane = sweep_of_planes(epochs=3).assign_coords(activation="tanh").assign_attrs(estimator_kind="exact")
    figure = figures.sweep(plane)
    for text in (paper(figure), screen(figure)):
        assert "Information plane along train_fraction · sweep fractions" in text
        assert "p(y|x): hard labels, I(X;Y) = 0.999 bits · activation=tanh · estimator: binned (bins=30, range" in text
        assert "exact · H(X) = 12 bits · 6 seeds · epochs 0 to 2" in text


def test_other_figures_of_a_sweep_name_it_and_where_on_it_they_stand() -> None:
    plane = sweep_of_planes(epochs=3)
    title = option(figures.information_plane(plane.sel(train_fraction=0.45)), "title")
    assert "sweep fractions" in title
    assert "· train_fraction=0.45 ·" in title
    assert "Sensitivity to train_fraction · sweep fractions" in screen(figures.sensitivity(plane, ["layer3"]))
    assert [" ".join(t.split()).split(", ")[-1] for t in titles(figures.compare(plane))] == [
        "train_fraction=0.05",
        "train_fraction=0.45",
        "train_fraction=0.85",
    ]


def test_layers_are_chosen_by_name_and_a_run_with_none_of_them_is_left_out() -> None:
    figure = figures.sweep(sweep_of_depths(), ["layer2", "layer3"])
    assert titles(figure) == ["hidden 10-7\n1 layer", "hidden 10-7-5\n2 layers"]
    assert "Left out, without a finite value: hidden 10." in screen(figure)
    with pytest.raises(UnknownNameError, match="layer 'layer9'"):
        figures.sweep(sweep_of_depths(), ["layer9"])


@pytest.mark.long
@pytest.mark.parametrize(("number", "shape"), [(2, (1, 2)), (4, (2, 2)), (7, (3, 3)), (12, (4, 3))])
def test_up_to_twelve_values_have_room(number: int, shape: tuple[int, int]) -> None:
    figure = figures.sweep(sweep_of_planes(values=np.arange(number) / 20, seeds=1, epochs=2))
    assert figure.shape == shape
    assert len(titles(figure)) == number


@pytest.mark.parametrize("name", ["sweep", "converged"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda p: p.isel(train_fraction=0),
            "but this one has the dimensions epoch, seed, layer. Give one over several",
        ),
        (lambda p: [p], "draws an information plane over an axis of a sweep, but got a list"),
        (lambda p: p.expand_dims(width=[1, 2]), r"this plane has .*train_fraction.*; choose one value of all but one"),
        (lambda p: p.isel(train_fraction=[0]), "needs two values or more with a finite number, but got 0.05"),
        (
            lambda p: p.where(p["train_fraction"] == 0.45),
            "but got 0.45; there is none at train_fraction 0.05 and 0.85",
        ),
        (
            lambda p: p.drop_attrs(deep=False).assign_attrs({k: v for k, v in p.attrs.items() if k != "I_XY"}),
            "I_XY are not equal in all runs",
        ),
        (lambda p: p.drop_vars("I_TY"), "The estimator 'binned' gives I_XT only"),
        (lambda p: p.drop_vars("train_fraction"), "lacks coordinates for train_fraction"),
    ],
)
def test_what_is_no_sweep_is_refused(name: str, spoil: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        getattr(figures, name)(spoil(sweep_of_planes(epochs=3)))


def test_more_than_a_page_holds_is_refused() -> None:
    many = sweep_of_planes(values=np.arange(13) / 20, seeds=1, epochs=2)
    with pytest.raises(ParameterError, match=r"room for 12 panels, but train_fraction has 13 values; choose some"):
        figures.sweep(many)


def test_the_registered_figures_take_one_sweep_without_a_grid() -> None:
    for name in ("sweep", "converged"):
        with pytest.raises(ParameterError, match="takes a sweep but got 2 planes; give one estimator"):
            figures.FIGURES[name](sweep_of_planes(), sweep_of_planes())
        with pytest.raises(ParameterError, match="takes a sweep but got 1 plane with a grid of bins"):
            figures.FIGURES[name].check([["bins"]])


# Where layers end ---------------------------------------------------------------


def ends(figure: Any) -> Any:
    """All points, one row of a data frame each."""
    frames = [points.dframe() for points in elements(figure, hv.Points, "End")]
    return reduce(lambda one, other: one.merge(other, how="outer"), frames)


def test_points_are_means_over_seeds_at_the_last_epoch() -> None:
    plane = sweep_of_planes(values=(0.03, 0.1, 0.45, 0.85))
    rows = ends(figures.converged(plane))
    assert len(rows) == 4 * len(LAYERS)
    for _, row in rows.iterrows():
        expected = plane.sel(train_fraction=float(row["value"]), layer=row["layer"], epoch=39)
        np.testing.assert_allclose(row["I_XT"], np.mean(expected["I_XT"]), rtol=1e-12)
        np.testing.assert_allclose(row["I_TY"], np.mean(expected["I_TY"]), rtol=1e-12)
        assert row["epoch"] == 39
        assert row["place"] == [0.03, 0.1, 0.45, 0.85].index(float(row["value"]))


def test_lines_join_the_values_of_a_layer_in_their_order() -> None:
    plane = sweep_of_planes(values=(0.85, 0.03, 0.45))
    steps = one(figures.converged(plane), hv.Segments, "Layers").dframe()
    for layer in LAYERS:
        own = steps[steps["layer"] == layer]
        mean = plane.sel(epoch=39, layer=layer, train_fraction=[0.03, 0.45, 0.85]).mean("seed")
        np.testing.assert_allclose(own["I_XT"], mean["I_XT"][:-1], rtol=1e-12)
        np.testing.assert_allclose(own["I_XT_end"], mean["I_XT"][1:], rtol=1e-12)
        np.testing.assert_allclose(own["I_TY_end"], mean["I_TY"][1:], rtol=1e-12)


def test_crosses_are_intervals_over_seeds_in_both_directions() -> None:
    plane = sweep_of_planes()
    bars = one(figures.converged(plane, ["layer3"]), hv.Segments, "Interval").array().reshape(3, 2, 4)
    for (across, up), value in zip(bars, (0.05, 0.45, 0.85), strict=True):
        end = plane.sel(train_fraction=value, layer="layer3", epoch=39)
        x, y = (float(end[name].mean()) for name in ("I_XT", "I_TY"))
        low, high = seed_interval(end["I_XT"]).values
        np.testing.assert_allclose(across, [low, y, high, y])
        low, high = seed_interval(end["I_TY"]).values
        np.testing.assert_allclose(up, [x, low, x, high])
    assert "crosses: 95% BCa bootstrap interval of the mean" in words(figures.converged(plane))


def test_few_seeds_have_their_range_and_one_has_none() -> None:
    plane = sweep_of_planes(seeds=3)
    figure = figures.converged(plane, ["layer3"])
    bars = one(figure, hv.Segments, "Interval").array()
    end = plane["I_XT"].sel(train_fraction=0.05, layer="layer3", epoch=39)
    assert (bars[0][0], bars[0][2]) == (float(end.min()), float(end.max()))
    assert "crosses: range of the 3 seeds" in words(figure)
    alone = figures.converged(sweep_of_planes(seeds=1), ["layer3"])
    bars = one(alone, hv.Segments, "Interval").array()
    np.testing.assert_array_equal(bars[:, :2], bars[:, 2:])
    assert "Points: the one seed, at epoch 39." in words(alone)


def test_colours_run_with_the_values_and_the_bar_names_each() -> None:
    figure = figures.converged(sweep_of_planes(values=(0.03, 0.45, 0.85)))
    points = elements(figure, hv.Points, "End")
    assert sum(option(e, "colorbar") for e in points) == 1
    for element in points:
        shades = option(element, "cmap", kind="style")
        assert len(shades) == 3
        light = [mpl.colors.rgb_to_hsv(mpl.colors.to_rgb(shade))[2] for shade in shades]
        assert light == sorted(light)
        assert option(element, "clim") == (-0.5, 2.5)
        assert option(element, "cbar_ticks", "matplotlib") == [(0, "0.03"), (1, "0.45"), (2, "0.85")]
        assert option(element, "cticks") == [(0, "0.03"), (1, "0.45"), (2, "train_fraction 0.85")]
    assert "train_fraction" in words(figure).splitlines()


def test_the_last_epoch_is_that_of_each_run() -> None:
    plane = sweep_of_planes()
    figure = figures.converged(plane.where((plane["train_fraction"] != 0.45) | (plane["epoch"] < 20)))
    rows = ends(figure)
    assert set(rows[rows["value"] == "0.45"]["epoch"]) == {19}
    short = rows[(rows["value"] == "0.45") & (rows["layer"] == "output")]["I_XT"].item()
    expected = plane["I_XT"].sel(train_fraction=0.45, epoch=19, layer="output").mean()
    np.testing.assert_allclose(short, expected)
    assert "at the last epoch of each run, 19 to 39" in " ".join(words(figure).split())


def test_networks_of_other_depths_end_with_the_layers_that_they_have() -> None:
    rows = ends(figures.converged(sweep_of_depths()))
    assert {hidden: sorted(rows[rows["value"] == hidden]["layer"]) for hidden in DEPTHS} == DEPTHS
    steps = one(figures.converged(sweep_of_depths()), hv.Segments, "Layers").dframe()
    assert steps["layer"].value_counts().to_dict() == {"layer1": 2, "output": 2, "layer2": 1}


def test_a_seed_that_diverged_is_left_out_where_it_did() -> None:
    plane = sweep_of_planes()
    hurt = diverged_at(plane, 0.85)
    figure = figures.converged(hurt)
    rows = ends(figure)
    shown = rows[(rows["value"] == "0.85") & (rows["layer"] == "output")]["I_XT"].item()
    expected = plane["I_XT"].sel(train_fraction=0.85, epoch=39, layer="output", seed=[0, 1, 2, 3, 5]).mean()
    np.testing.assert_allclose(shown, expected)
    assert "5 to 6 seeds" in option(figure, "title")
    assert "Left out: seeds with NaN at the end, as after divergence: 4 at 0.85." in " ".join(words(figure).split())
    partial = plane.where((plane["epoch"] < 39) | (plane["layer"] != "output"))
    with pytest.raises(ParameterError, match="at the last epoch, 39, no seed has a number in every layer; choose"):
        figures.converged(partial)


def test_saturated_ends_are_diamonds_and_named() -> None:
    plane = sweep_of_planes()
    plane["I_XT"][1, -1, :, 2] = 12.0  # layer3 at 0.45
    figure = figures.converged(plane)
    full = [e for e in elements(figure, hv.Points, "End") if option(e, "marker", kind="style") == "diamond"]
    assert sorted((row["layer"], row["value"]) for _, row in full[0].dframe().iterrows()) == [
        ("layer1", "0.85"),
        ("layer3", "0.45"),
    ]
    assert "not the layer: layer1 at 0.85; layer3 at 0.45." in " ".join(words(figure).split())


def test_the_bottleneck_curve_lies_beneath() -> None:
    curve = binary_channel()
    figure = figures.converged(sweep_of_planes(), bound=curve)
    line = one(figure, hv.Curve, "Bottleneck")
    np.testing.assert_allclose(line["I_TY"][:-1], curve["I_TY"])
    assert "IB curve:" in words(figure)
    with pytest.raises(ParameterError, match="the same p"):
        figures.converged(sweep_of_planes(), bound=binary_channel(0.9))


def test_reference_lines_and_names_stand_as_in_a_plane() -> None:
    figure = figures.converged(sweep_of_planes())
    texts = [text for e in elements(figure, hv.Labels, "Reference") for text in e["text"]]
    assert texts == ["I(X;Y) = 0.999 bits", "H(X) = 12 bits"]
    names = ", ".join(one(figure, hv.Labels, "Layer")["text"]).split(", ")
    assert sorted(names) == LAYERS
    title = option(figure, "title")
    assert title.startswith("Converged layers along train_fraction · sweep fractions\np(y|x): hard labels")
    assert title.endswith("6 seeds")


def test_a_grid_of_a_parameter_will_do_too() -> None:
    rows = ends(figures.converged(grid_of_planes()))
    assert list(dict.fromkeys(rows.sort_values("place")["value"])) == ["10", "30", "100"]
