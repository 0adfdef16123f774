"""The figure of information over the epochs."""

from typing import Any

import holoviews as hv
import numpy as np
import pytest
import xarray as xr

from ipstore.analysis import figures
from ipstore.analysis.figures.frame import layer_colours
from ipstore.analysis.figures.over_epochs import middle
from ipstore.errors import ParameterError, UnknownNameError
from tests.analysis.test_figures import H_X, LAYERS, diverged, elements, option, plane_of
from tests.analysis.test_figures_panels import of, paper, screen


def line_of(figure: Any, name: str, layer: str) -> Any:
    """The steps of one line."""
    (steps,) = (e for e in elements(figure, hv.Segments, "Mean") if e.kdims[1].name == name)
    frame = steps.dframe()
    return frame[frame["layer"] == layer]


def test_a_line_is_the_mean_over_seeds() -> None:
    plane = plane_of()
    figure = figures.information(plane)
    for name in ("I_XT", "I_TY"):
        for layer in LAYERS:
            steps = line_of(figure, name, layer)
            expected = plane[name].sel(layer=layer).mean("seed")
            np.testing.assert_array_equal(steps["epoch"], np.arange(1, 40))
            np.testing.assert_allclose(steps[name], expected[:-1], rtol=1e-12)
            np.testing.assert_allclose(steps[f"{name}_end"], expected[1:], rtol=1e-12)
            np.testing.assert_allclose(steps["log_epoch"], np.log10(np.arange(1, 40)), rtol=1e-12)
            np.testing.assert_allclose(steps["log_epoch_end"], np.log10(np.arange(2, 41)), rtol=1e-12)


def test_layers_have_the_colours_of_their_order_in_lines_bands_and_key() -> None:
    figure = figures.information(plane_of(epochs=5))
    colours = layer_colours(len(LAYERS))
    for name in ("I_XT", "I_TY"):
        assert [set(line_of(figure, name, layer)["colour"]) for layer in LAYERS] == [{colour} for colour in colours]
    for band in elements(figure, hv.Polygons, "Band"):
        assert [area["colour"] for area in band.data] == colours
    title = option(figure, "title")
    assert [title.index(colour) for colour in colours] == sorted(title.index(colour) for colour in colours)
    assert " ".join(LAYERS) in screen(figure)


def test_a_band_holds_the_middle_of_the_seeds() -> None:
    plane = plane_of()
    band = elements(figures.information(plane), hv.Polygons, "Band")[0].data[2]
    low, high = np.quantile(plane["I_XT"].sel(layer="layer3"), [0.1, 0.9], axis=1)
    np.testing.assert_allclose(band["I_XT"], np.r_[low, high[::-1]], rtol=1e-12)


def test_the_middle_of_some_seeds_is_that_of_those_that_are_numbers() -> None:
    values = np.random.default_rng(0).normal(size=(5, 4, 7))
    values[1, 2, :3] = np.nan
    values[3, 1] = np.nan
    low, high = middle(xr.Dataset({"a": (("epoch", "layer", "seed"), values)}))
    for place in np.ndindex(5, 4):
        there = values[place][np.isfinite(values[place])]
        expected = np.quantile(there, [0.1, 0.9]) if there.size else [np.nan] * 2
        np.testing.assert_allclose([low["a"][place], high["a"][place]], expected)


def test_reference_lines_stand_at_the_entropies_and_axes_hold_all() -> None:
    plane = plane_of(i_xy=0.99)
    plane["I_XT"][3, 0, 1] = 12.7
    figure = figures.information(plane)
    levels = [set(line[line.vdims[0].name]) for line in elements(figure, hv.Curve, "Reference")]
    assert levels == [{H_X}, {0.99}]
    texts = [str(label["text"][0]) for label in elements(figure, hv.Labels, "Reference")]
    assert texts == ["H(X) = 12 bits", "I(X;Y) = 0.990 bits"]
    for panel, label in zip(figure, ("I(X;T) (bits)", "I(T;Y) (bits)"), strict=True):
        assert option(panel, "ylabel") == label
        low, high = option(panel, "ylim")
        assert low < 0 < H_X * (label[2] == "X") < high or high > 0.99


def test_single_seeds_are_thin_lines() -> None:
    plane = plane_of(3, 5)
    lines = of(elements(figures.information(plane, seeds=True), hv.Curve, "Seeds"), "I_TY")
    assert len(lines) == len(LAYERS)
    found = np.asarray(lines[1]["I_TY"]).reshape(3, 6)[:, :-1]
    np.testing.assert_array_equal(found, plane["I_TY"].sel(layer="layer2").values.T)
    assert elements(figures.information(plane), hv.Curve, "Seeds") == []
    assert "thin: single seeds" in screen(figures.information(plane, seeds=True))


def test_a_long_run_is_thinned_and_says_so() -> None:
    figure = figures.information(plane_of(2, 2001))
    epochs = line_of(figure, "I_XT", "layer3")["epoch"]
    assert 100 < len(epochs) < 200
    assert epochs.max() == 2000
    assert f"Drawn: {len(epochs) + 1} of 2001 epochs." in screen(figure)


def test_one_quantity_has_one_panel() -> None:
    (only,) = figures.information(plane_of(epochs=4).drop_vars("I_XT"))
    assert option(only, "ylabel") == "I(T;Y) (bits)"
    answers = plane_of(epochs=4).drop_vars("I_XT").assign_attrs(target="output")
    del answers.attrs["H_X"], answers.attrs["I_XY"]
    figure = figures.information(answers)
    assert elements(figure, hv.Curve, "Reference") == []
    assert "Y: the network's own answer" in screen(figure)
    assert "Dashed" not in screen(figure)


def test_saturated_layers_are_named() -> None:
    plane = plane_of()
    plane["I_XT"][-1, :, 1] = H_X
    assert "not the layer: layer1 and layer2." in paper(figures.information(plane))
    assert "Saturated" not in screen(figures.information(plane, ["layer3", "output"]))
    with pytest.raises(ParameterError, match=r"saturation must be .* but got -1"):
        figures.information(plane, saturation=-1)


def test_a_diverged_seed_is_left_out_and_named() -> None:
    plane = plane_of()
    figure = figures.information(diverged(plane, 4, 30))
    expected = figures.information(plane.sel(seed=[0, 1, 2, 3, 5]))
    np.testing.assert_array_equal(*(line_of(f, "I_XT", "layer3")["I_XT_end"] for f in (figure, expected)))
    assert "5 of 6 seeds" in screen(figure)
    assert "as after divergence (4)" in screen(figure)


def test_one_epoch_shows_points_and_one_seed_no_band() -> None:
    figure = figures.information(plane_of(1, 5))
    assert elements(figure, hv.Polygons, "Band") == []
    assert "Line: the one seed." in screen(figure)
    plane = plane_of(3, 1)
    points = elements(figures.information(plane), hv.Points, "Point")
    assert [list(e["layer"]) for e in points] == [LAYERS, LAYERS]
    np.testing.assert_allclose(points[0]["I_XT"], plane["I_XT"].mean("seed")[0])


def test_the_heading_says_what_is_drawn() -> None:
    figure = figures.information(plane_of(epochs=3).assign_attrs(estimator_kind="upper"))
    for text in (paper(figure), screen(figure)):
        assert "Information over the epochs · run rule-tanh" in text
        assert "p(y|x): hard labels" in text
        assert "estimator: binned (bins=30, range=[-1, 1], rule=equal) · upper bound · 6 seeds" in text


def test_layers_are_chosen_by_name() -> None:
    figure = figures.information(plane_of(epochs=3), ["output", "layer2"])
    assert len(line_of(figure, "I_XT", "output")) == 2
    assert line_of(figure, "I_XT", "layer3").empty
    with pytest.raises(UnknownNameError, match=r"layer 'outptu'.*'output'"):
        figures.information(plane_of(), ["outptu"])


def test_what_is_no_plane_is_refused() -> None:
    with pytest.raises(ParameterError, match="but got a list"):
        figures.information([plane_of()])  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="one value of bins"):
        figures.information(plane_of().expand_dims(bins=[10, 30]))
    with pytest.raises(ParameterError, match="takes one plane but got 2 planes"):
        figures.FIGURES["information"](plane_of(), plane_of())
