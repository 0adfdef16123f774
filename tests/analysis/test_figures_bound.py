"""The figures of the bound: the bottleneck curve with its layers, beta*, the residual, and the curve under a plane."""

import re
from functools import cache
from typing import Any

import holoviews as hv
import numpy as np
import pytest
import xarray as xr
from bokeh.plotting import figure as BokehFigure

from ipstore.analysis import figures
from ipstore.analysis.figures.standing import beta_number, beta_words, seed_quantiles
from ipstore.analysis.intervals import seed_interval
from ipstore.errors import ParameterError, UnknownNameError
from tests.analysis.test_figures import (
    H_X,
    LAYERS,
    binary_channel,
    bound,
    diverged,
    elements,
    one,
    option,
    plane_of,
    standing_of,
    words,
)
from tests.analysis.test_figures_panels import paper, screen

DRAWN = ["bound", "beta", "residual"]


@cache
def figure_of(name: str, seeds: int = 6) -> Any:
    return figures.FIGURES[name](standing_of(seeds))


def rows(figure: Any) -> list[str]:
    """What stands over the rows of distances."""
    return [text for e in elements(figure, hv.Labels, "Row") for text in e["text"]][1:]


# The layers beside the curve --------------------------------------------------


def test_a_layer_stands_at_its_means_over_seeds() -> None:
    now = standing_of().sel(epoch=39)
    points = elements(figure_of("bound").values()[0], hv.Points, "Mean")
    assert [e["layer"][0] for e in points] == LAYERS
    for point, layer in zip(points, LAYERS, strict=True):
        mean = now[["I_XT", "I_TY"]].sel(layer=layer).mean("seed")
        np.testing.assert_allclose([point["I_XT"][0], point["I_TY"][0]], [mean["I_XT"], mean["I_TY"]], rtol=1e-12)


@pytest.mark.parametrize("seeds", [3, 6])
def test_error_bars_are_intervals_of_the_mean_or_with_few_seeds_their_range(seeds: int) -> None:
    now = standing_of(seeds).sel(epoch=39, layer="layer3")
    figure = figure_of("bound", seeds)
    (bars,) = elements(figure.values()[0], hv.Segments, "Interval")
    for name, row in (("I_XT", 4), ("I_TY", 5)):
        ends = seed_interval(now[name]).values if seeds >= 5 else [now[name].min(), now[name].max()]
        start, end = bars.array([name, f"{name}_end"])[row]
        np.testing.assert_allclose([start, end], ends, rtol=1e-12)
    said = "95% BCa bootstrap interval of the mean" if seeds >= 5 else "range of the 3 seeds"
    assert f"with error bars: {said}" in screen(figure)


def test_a_row_is_as_long_as_the_layer_is_away_from_the_curve() -> None:
    standing = standing_of()
    now = standing.sel(epoch=39).mean("seed")
    figure = figure_of("bound")
    thin, thick = (e for e in elements(figure, hv.Segments, "Distance") if e.label == "layer2")
    (start, _, end, _) = thin.array()[0]
    np.testing.assert_allclose(end - start, now["IB_distance_I_XT"].sel(layer="layer2"), rtol=1e-12)
    np.testing.assert_allclose(end, now["I_XT"].sel(layer="layer2"), rtol=1e-12)
    (inner, _, same, _) = thick.array()[0]
    at = standing["I_TY"].sel(epoch=39, layer="layer2")
    achieved = np.interp(at, standing["curve_I_TY"], standing["curve_I_XT"]).mean()
    np.testing.assert_allclose([inner, same], [achieved, end], rtol=1e-12)
    assert inner >= start


def test_a_row_says_how_far_the_layer_is_in_both_directions_and_its_beta() -> None:
    for figure in (figure_of("bound"), figure_of("bound", 1)):
        assert [text.split("  ")[0] for text in rows(figure)] == LAYERS
    texts = rows(figure_of("bound"))
    assert re.fullmatch(
        r"layer1  11\.0( to 11\.\d)? bits right of the curve, < 0\.0001 below · β\* ≥ 10⁶ \(6 of 6 seeds\)", texts[0]
    )
    assert texts[1].endswith("β* 121")  # the third of six seeds: 1.05 + 100 * 1.2
    assert rows(figure_of("bound", 1))[0].endswith("β* ≥ 10⁶")


def test_a_layer_that_touches_the_curve_from_below_is_seen_to_be_far_to_its_right() -> None:
    standing = standing_of(epochs=2)
    touching = standing.assign(
        I_TY=xr.full_like(standing["I_TY"], 0.999),
        I_XT=xr.full_like(standing["I_XT"], 10.0),
        IB_distance_I_TY=xr.zeros_like(standing["I_TY"]),
        IB_distance_I_XT=xr.full_like(standing["I_TY"], 9.0),
    )
    assert rows(figures.bound(touching))[1].startswith("layer2  9.0 bits right of the curve, < 0.0001 below")


def test_the_whole_plane_reaches_to_h_x_and_the_second_panel_is_where_the_curve_bends() -> None:
    whole, near = figure_of("bound").values()
    left, right = option(whole, "xlim")
    assert left < 0 < H_X < right
    low, high = option(near, "xlim")
    assert high - low < right - left
    curve = binary_channel()
    inside = (curve["I_XT"] > low) & (curve["I_XT"] < high)
    assert inside.sum() >= 3
    assert "Outside the second panel: layer1 and layer2." in screen(figure_of("bound"))


def test_panels_of_unlike_scales_have_each_their_own_on_screen() -> None:
    drawn = hv.Store.renderers["bokeh"].instance(theme=None).get_plot(figure_of("bound")).state
    shown = {
        ((frame.x_range.start, frame.x_range.end), (frame.y_range.start, frame.y_range.end))
        for frame in drawn.select({"type": BokehFigure})
    }
    assert shown == {(option(panel, "xlim"), option(panel, "ylim")) for panel in figure_of("bound")}


def test_the_curve_is_drawn_to_h_x_in_its_band_over_the_deterministic_one() -> None:
    panel = figure_of("bound").values()[0]
    (line,) = elements(panel, hv.Curve, "Bottleneck")
    curve = binary_channel()
    np.testing.assert_array_equal(line["I_XT"], [*curve["I_XT"], H_X])
    np.testing.assert_array_equal(line["I_TY"], [*curve["I_TY"], 0.999])
    (band,) = elements(panel, hv.Area, "Band")
    assert (band["I_TY_upper"] - band["I_TY"] >= 0).all()
    assert 0 < (band["I_TY_upper"] - band["I_TY"]).max() < curve.attrs["error"]
    (deterministic,) = elements(panel, hv.Curve, "Deterministic")
    np.testing.assert_array_equal(deterministic.array(), [[0, 0], [1, 0.999], [H_X, 0.999]])
    drawn = [element.group for element in panel.traverse(lambda e: e, [hv.Curve])]
    assert drawn.index("Deterministic") < drawn.index("Bottleneck")


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        ("rigorous", "reaches up to what is proven, at most 0.005 bits higher"),
        ("heuristic", "many starts and is no proof"),
    ],
)
def test_a_note_says_what_the_band_is_worth(certificate: str, said: str) -> None:
    standing = standing_of(2, 2, layers=LAYERS[2:]).assign_attrs(certificate=certificate)
    assert said in screen(figures.bound(standing))


def test_the_nearest_stored_epoch_is_drawn() -> None:
    standing = standing_of()
    figure = figures.bound(standing, epoch=7)
    assert "epoch 7" in screen(figure).split("p(y|x)")[0]
    point = elements(figure.values()[0], hv.Points, "Mean")[3]
    np.testing.assert_allclose(point["I_XT"][0], standing["I_XT"].sel(epoch=7, layer="output").mean("seed"), rtol=1e-12)
    assert "epoch 39" in screen(figures.bound(standing, epoch=1000)).split("p(y|x)")[0]


def test_an_epoch_without_a_number_is_refused() -> None:
    standing = standing_of()
    nan = standing.assign({name: standing[name].where(standing["epoch"] < 30) for name in ("I_XT", "I_TY")})
    with pytest.raises(ParameterError, match="at epoch 39 no cell is a number; give another epoch, from 0 to 39"):
        figures.bound(nan)


# beta* ------------------------------------------------------------------------


def test_the_line_of_beta_is_the_median_over_seeds() -> None:
    standing = standing_of()
    lines = elements(figure_of("beta"), hv.Curve, "Median")
    assert [line["layer"][0] for line in lines] == LAYERS
    for line, layer in zip(lines, LAYERS, strict=True):
        ordered = np.sort(standing["beta"].sel(layer=layer).transpose("epoch", "seed").values, axis=1)
        np.testing.assert_array_equal(line["beta"], ordered[:, 2])
        np.testing.assert_allclose(line["log_beta"], np.log10(ordered[:, 2]), rtol=1e-12)
        np.testing.assert_array_equal(line["epoch"], standing["epoch"])


def test_every_seed_stands_by_depth_and_beyond_the_cap_as_an_open_triangle_at_it() -> None:
    depth = figure_of("beta").values()[0]
    assert [len(e) for e in elements(depth, hv.Points, "Seeds")] == [0, 6, 6, 6]
    capped = elements(depth, hv.Points, "Capped")
    assert [len(e) for e in capped] == [6, 0, 0, 0]
    np.testing.assert_array_equal(capped[0]["log_beta"], 6)
    assert option(capped[0], "marker", "matplotlib", "style") == "^"
    assert option(capped[0], "color", kind="style") == "white"
    assert option(depth, "xticks") == list(enumerate(LAYERS))
    (bottom, top) = option(depth, "ylim")
    assert bottom < 0 < 6 < top


def test_panels_name_the_median_of_their_layer() -> None:
    titles = [option(panel, "title") for panel in figure_of("beta") if not isinstance(panel, hv.Empty)]
    assert titles == [
        "by depth\nat epoch 39",
        "layer1\nβ* ≥ 10⁶ (6 of 6 seeds)",
        "layer2\nβ* 121",
        "layer3\nβ* 2.25",
        "output\nβ* 1.06",
    ]


def test_a_beta_of_zero_is_counted_and_not_drawn() -> None:
    standing = standing_of(epochs=4)
    zero = standing.assign(beta=standing["beta"].where((standing["layer"] != "output") | (standing["epoch"] > 0), 0.0))
    figure = figures.beta(zero)
    assert "Not drawn, as 0 has no place on the scale: output in 6 cells." in screen(figure)
    assert "β* = 0: no larger β fits better" in screen(figure)
    (*_, line) = elements(figure, hv.Curve, "Median")
    np.testing.assert_array_equal(np.isnan(line["log_beta"]), [True, False, False, False])
    assert rows(figures.bound(zero, epoch=0))[-1].endswith("β* 0 (0 in 6 of 6)")
    nowhere = standing.assign(beta=0 * standing["beta"], beta_capped=0 * standing["beta"])
    assert "output in 24 cells" in paper(figures.beta(nowhere))


@pytest.mark.parametrize(
    ("beta", "capped", "said"),
    [
        ([1.2, 1.1, 1.3], [0, 0, 0], "β* 1.20"),
        ([1e6, 1e6, 1e6], [1, 1, 1], "β* ≥ 10⁶ (3 of 3 seeds)"),
        ([1e6, 1e6, 8271.4], [1, 1, 0], "β* ≥ 10⁶ (2 of 3 seeds)"),
        ([1e6, 35, 36], [1, 0, 0], "β* 36.0 (≥ 10⁶ in 1 of 3)"),
        ([1e6, 35, 36, 1e6], [1, 0, 0, 1], "β* 36.0 (≥ 10⁶ in 2 of 4)"),
        ([0, 1.1, 1.3], [0, 0, 0], "β* 1.10 (0 in 1 of 3)"),
        ([0, np.nan, np.nan], [0, np.nan, np.nan], "β* 0"),
        ([1e6], [1], "β* ≥ 10⁶"),
    ],
)
def test_a_beta_is_the_median_with_the_seeds_beyond_the_cap(beta: list[float], capped: list[float], said: str) -> None:
    assert beta_words(xr.DataArray(beta, dims="seed"), xr.DataArray(capped, dims="seed")) == said


@pytest.mark.parametrize(
    ("beta", "said"),
    [(0, "0"), (1.068, "1.07"), (8, "8.00"), (99.94, "99.9"), (8271.4, "8,271"), (1e4, "10⁴"), (5e5, "500,000")],
)
def test_a_beta_has_three_digits(beta: float, said: str) -> None:
    assert beta_number(beta) == said


def test_a_quantile_over_seeds_is_the_value_of_a_seed() -> None:
    values = xr.DataArray([[1.0, 1e6, 2.0, 1e6], [1.0, np.nan, 2.0, 3.0]], dims=("epoch", "seed"))
    found = seed_quantiles(values, (0.25, 0.5, 0.75)).transpose("epoch", "quantile")
    np.testing.assert_array_equal(found, [[1, 2, 1e6], [np.nan] * 3])


# The residual -----------------------------------------------------------------


def test_the_residual_lies_below_the_distance_and_that_below_i_xt() -> None:
    standing = standing_of()
    lines = {e["shown"][0]: e for e in elements(figure_of("residual"), hv.Curve, "Mean") if e["layer"][0] == "layer3"}
    mean = standing.sel(layer="layer3").mean("seed")
    for shown, name in (("J", "residual"), ("distance", "IB_distance_I_XT"), ("I(X;T)", "I_XT")):
        np.testing.assert_allclose(lines[shown]["residual"], mean[name], rtol=1e-12)
    assert "lies above" not in screen(figure_of("residual"))


def test_the_band_holds_the_middle_of_the_seeds() -> None:
    bands = elements(figure_of("residual"), hv.Area, "Band")
    low, high = np.quantile(standing_of()["residual"].sel(layer="output"), [0.1, 0.9], axis=1)
    np.testing.assert_allclose(bands[3]["residual"], low, rtol=1e-12)
    np.testing.assert_allclose(bands[3]["residual_high"], high, rtol=1e-12)
    assert elements(figure_of("residual", 1), hv.Area, "Band") == []


def test_a_residual_above_the_distance_is_told() -> None:
    standing = standing_of(2, 2)
    wrong = standing.assign(residual=standing["IB_distance_I_XT"] + 0.25 * (standing["layer"] == "output"))
    said = "In 4 of 16 cells J lies above the distance, by up to 0.25 bits, which only an error of the distance can do."
    assert said in screen(figures.residual(wrong))


# What they have in common -----------------------------------------------------


@pytest.mark.parametrize("name", DRAWN)
def test_the_heading_says_what_is_drawn_on_paper_and_on_screen(name: str) -> None:
    for text in (paper(figure_of(name)), screen(figure_of(name))):
        assert "run rule-tanh" in text
        assert "p(y|x): soft labels, I(X;Y) = 0.999 bits · estimator: binned (bins=30" in text
        assert "6 seeds" in text


@pytest.mark.parametrize("name", DRAWN)
def test_a_single_seed_at_a_single_epoch_is_drawn(name: str) -> None:
    text = paper(figures.FIGURES[name](standing_of(1, 1)))
    assert "1 seed" in text
    assert re.search("(the|The) one seed", text)


@pytest.mark.parametrize("name", DRAWN)
def test_a_diverged_seed_is_left_out_and_counted(name: str) -> None:
    standing = standing_of(epochs=6)
    cells = [name for name in standing.data_vars if "seed" in standing[name].dims]
    nan = standing.assign(diverged(standing[cells], 4, 3).data_vars)
    figure = figures.FIGURES[name](nan)
    assert "5 of 6 seeds" in screen(figure)
    assert "Left out: 1 seed with NaN, as after divergence (4)" in screen(figure)


@pytest.mark.parametrize("name", DRAWN)
def test_layers_are_chosen_by_name(name: str) -> None:
    draw = figures.FIGURES[name]
    text = paper(draw(standing_of(2, 2), layers=["output", "layer2"]))
    assert "layer2" in text
    assert "layer1" not in text
    with pytest.raises(UnknownNameError, match=r"layer 'outptu'.*'output'"):
        draw(standing_of(2, 2), layers=["outptu"])


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: plane_of(), "of what it needs beta, beta_capped, .* are missing; give the bound of a run"),
        (lambda s: s.drop_vars("curve_gap"), "curve_gap is missing"),
        (lambda s: s.drop_attrs(deep=False), "lacks the attributes onset_beta, curve_error, certificate"),
        (lambda s: s.assign_attrs(units="nats"), "must be in bits but its units are 'nats'"),
        (lambda s: s.where(s["layer"] != "layer3"), "layer layer3 has no finite value"),
    ],
)
def test_what_is_no_bound_is_refused(name: str, spoil: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        figures.FIGURES[name](spoil(standing_of(2, 2)))


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("grids", [[], [[], []], [["bins"]]])
def test_a_figure_of_the_bound_takes_one(name: str, grids: list[list[str]]) -> None:
    with pytest.raises(ParameterError, match=r"takes a bound but got .*give one estimator that makes a T of discrete"):
        figures.FIGURES[name].check(grids)
    figures.FIGURES[name].check([[]])


def test_hard_labels_have_a_straight_curve() -> None:
    standing = standing_of(2, 2, labels="hard", i_xy=0.999)
    points = {"curve_I_XT": [0, 0.999], "curve_I_TY": [0, 0.999], "curve_beta": [1.0, np.inf], "curve_gap": [0.0, 0.0]}
    hard = standing.drop_vars(list(points)).assign({name: ("point", values) for name, values in points.items()})
    (line, _) = elements(figures.bound(hard), hv.Curve, "Bottleneck")
    np.testing.assert_array_equal(line.array(), [[0, 0], [0.999, 0.999], [H_X, 0.999]])


# The curve under a plane ------------------------------------------------------


def test_a_plane_without_a_bound_is_as_it_was() -> None:
    figure = figures.information_plane(plane_of(2, 2))
    assert elements(figure, hv.Curve, "Bottleneck") == []
    assert "IB curve" not in words(figure)


def test_the_curve_lies_under_the_trajectories_and_is_explained() -> None:
    figure = figures.information_plane(plane_of(2, 3), bound=binary_channel())
    line = one(figure, hv.Curve, "Bottleneck")
    assert tuple(line.array()[-1]) == (H_X, 0.999)
    groups = [element.group for element in figure.traverse(lambda e: e, [hv.Element])]
    assert groups.index("Band") < groups.index("Bottleneck") < groups.index("Mean")
    assert "at most 0.005 bits higher" in " ".join(words(figure).split())


def test_a_coarse_curve_shows_its_band() -> None:
    """Three points leave room between chords and tangents; the band fills it, and no point of the true curve is out."""
    fine = binary_channel(0.5)
    coarse = fine.isel(point=[0, 20, -1]).assign_attrs(error=0.1)
    band = one(figures.information_plane(plane_of(2, 2, i_xy=0.5), bound=coarse), hv.Area, "Band")
    low, high = (np.interp(fine["I_XT"], band["I_XT"], band[name]) for name in ("I_TY", "I_TY_upper"))
    assert (high - low).max() > 0.01
    assert (low <= fine["I_TY"] + 1e-9).all()
    assert (fine["I_TY"] <= high + 1e-4).all()  # corners of the band between the drawn points


def test_every_frame_has_the_curve() -> None:
    frames = figures.snapshots(plane_of(2, 3), epochs=[0, 2], bound=binary_channel())
    assert [len(elements(frames[epoch], hv.Curve, "Bottleneck")) for epoch in (0, 2)] == [1, 1]
    assert "IB curve" in words(frames[2])


@pytest.mark.parametrize("draw", [figures.information_plane, figures.snapshots])
@pytest.mark.parametrize(
    ("curve", "message"),
    [
        (binary_channel(0.99), r"labels with I\(X;Y\) = 0.990000 bits but the plane of labels with 0.999000; the same"),
        (binary_channel().drop_vars("gap"), r"it lacks gap \(point\)"),
        (binary_channel().drop_attrs(), r"it lacks attrs\['I_XY'\], attrs\['error'\], attrs\['certificate'\]"),
        (bound("upper"), r"it lacks I_XT \(point\), I_TY \(point\), beta \(point\), gap \(point\)"),
        ("curve", r"bound must be a curve as ipstore\.analysis\.ib\.curve gives it, not a str"),
    ],
)
def test_a_bound_of_something_else_is_refused(draw: Any, curve: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        draw(plane_of(2, 2), bound=curve)
