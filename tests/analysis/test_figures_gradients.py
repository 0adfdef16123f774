"""The figure of drift and diffusion: ratios of norms on logarithmic scales, with the crossing."""

from typing import Any

import holoviews as hv
import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

from ipstore.analysis import figures
from ipstore.errors import ParameterError, UnknownNameError
from tests.analysis.test_figures import LAYERS, elements, option, training_of
from tests.analysis.test_figures_panels import drawn, paper, screen


def crossing_of(training: xr.Dataset) -> xr.DataArray:
    """Where the mean first falls below the noise, one seed of the output never."""
    below = (training["grad_mean_norm"] < training["grad_std_norm"]).values
    first = training["epoch"].values[below.argmax(axis=0)].astype(float)
    first[0, -1] = np.nan
    return xr.DataArray(first, {"seed": training["seed"], "layer": training["layer"]}, ("seed", "layer"))


def test_lines_are_means_over_seeds_of_norms_by_the_norm_of_the_weights() -> None:
    training = training_of()
    figure = figures.gradients(training)
    for layer in LAYERS:
        for words, name in (("mean", "grad_mean_norm"), ("standard deviation", "grad_std_norm")):
            (line,) = drawn(figure, hv.Curve, "Mean", layer=layer, of=words)
            each = [
                np.mean(
                    [
                        float(training[name][e, s].sel(layer=layer) / training["weight_norm"][e, s].sel(layer=layer))
                        for s in range(6)
                    ]
                )
                for e in range(1, 40)
            ]
            np.testing.assert_array_equal(line["epoch"], np.arange(1, 40))
            np.testing.assert_allclose(line["gradient"], each, rtol=1e-12)
            np.testing.assert_allclose(line["log_epoch"], np.log10(np.arange(2, 41)), rtol=1e-12)


def test_a_band_holds_the_middle_of_the_seeds() -> None:
    training = training_of().sel(layer=["layer2"])
    bands = elements(figures.gradients(training), hv.Area, "Band")
    for band, name in zip(bands, ("grad_mean_norm", "grad_std_norm"), strict=True):
        ratio = (training[name] / training["weight_norm"]).values[1:, :, 0]
        np.testing.assert_allclose(band["gradient"], np.quantile(ratio, 0.1, axis=1), rtol=1e-12)
        np.testing.assert_allclose(band["gradient_high"], np.quantile(ratio, 0.9, axis=1), rtol=1e-12)


def test_mean_and_noise_are_told_apart_without_colour() -> None:
    figure = figures.gradients(training_of(epochs=5))
    for words, dash in (("mean", "solid"), ("standard deviation", "dashed")):
        assert {option(line, "line_dash", kind="style") for line in drawn(figure, hv.Curve, "Mean", of=words)} == {dash}


@pytest.mark.long
def test_axes_are_logarithmic_under_either_backend_and_hold_every_number() -> None:
    figure = figures.gradients(training_of())
    low, high = option(figure.values()[0], "ylim")
    assert {option(panel, "ylim") for panel in figure} == {(low, high)}
    values = [line["gradient"] for line in elements(figure, hv.Curve, "Mean")]
    values += [band[end] for band in elements(figure, hv.Area, "Band") for end in ("gradient", "gradient_high")]
    assert 0 < low < min(map(min, values)) < max(map(max, values)) < high
    on_paper = hv.Store.renderers["matplotlib"].get_plot(figure).state
    mpl.pyplot.close(on_paper)
    assert [axis.get_yscale() for axis in on_paper.axes] == ["log"] * len(LAYERS)
    assert on_paper.axes[0].get_ylabel() == "norm / norm of the weights"
    assert {axis.get_xlabel() for axis in on_paper.axes} == {"epoch"}
    on_screen = hv.Store.renderers["bokeh"].instance(theme=None).get_plot(figure)
    assert {
        type(plot.state.y_scale).__name__ for plot in on_screen.traverse(None, [hv.plotting.bokeh.OverlayPlot])
    } == {"LogScale"}


def test_numbers_that_a_bare_axis_hides_have_no_exponents() -> None:
    """BokehJS fails at an exponent of 0 points, and draws nothing more."""
    figure = figures.gradients(training_of(epochs=5))
    assert "yformatter" not in figure.values()[0].opts.get("plot", backend="bokeh").kwargs
    assert {option(panel, "yformatter") for panel in figure.values()[1:]} == {"%g"}


def test_the_crossing_is_marked_by_its_median_and_the_middle_of_the_seeds() -> None:
    training = training_of()
    crossing = crossing_of(training)
    figure = figures.gradients(training, crossing=crossing)
    stated = []
    for panel, layer in zip(figure, LAYERS, strict=True):
        epochs = crossing.sel(layer=layer).dropna("seed").values
        low, middle, high = np.quantile(epochs, [0.1, 0.5, 0.9])
        ((left, bottom, right, top),) = elements(panel, hv.Rectangles, "Crossings")[0].array()
        np.testing.assert_allclose([left, right], np.log10([1 + low, 1 + high]))
        assert (bottom, top) == option(panel, "ylim")
        ((at, _, same, _),) = elements(panel, hv.Segments, "Crossing")[0].array()
        np.testing.assert_allclose([at, same], np.log10(1 + middle))
        stated.append(f"{layer}: {middle:.4g} ({low:.4g} to {high:.4g}), {len(epochs)} of 6 seeds")
    assert "output" in stated[-1]
    assert "5 of 6 seeds" in stated[-1]
    for text in (screen(figure), paper(figure)):
        assert f"of the seeds that cross: {'; '.join(stated)}." in text
        assert "crossing: median" in text


def test_layers_without_gradients_are_named_and_not_drawn() -> None:
    training = training_of()
    training["grad_mean_norm"].loc[{"layer": "layer2"}] = np.nan
    training["grad_std_norm"].loc[{"layer": "layer2"}] = np.nan
    figure = figures.gradients(training, crossing=crossing_of(training))
    assert len(list(figure)) == len(LAYERS) - 1
    assert "Without gradients of their own: layer2." in paper(figure)
    assert "6 seeds" in paper(figure)


def test_a_layer_that_no_seed_crosses_has_no_mark() -> None:
    training = training_of()
    crossing = crossing_of(training)
    crossing.loc[{"layer": "layer2"}] = np.nan
    figure = figures.gradients(training, crossing=crossing)
    assert [len(elements(panel, hv.Segments, "Crossing")) for panel in figure] == [1, 0, 1, 1]
    assert "layer2: none;" in screen(figure)
    figure = figures.gradients(training, crossing=crossing * np.nan)
    assert elements(figure, hv.Segments, "Crossing") == []
    assert "maximum of their ratio: no seed has one." in screen(figure)
    assert "crossing: median" not in screen(figure)


def test_nothing_is_said_of_crossings_that_were_not_asked_for() -> None:
    assert "rossing" not in screen(figures.gradients(training_of(epochs=5)))


def test_full_batch_has_no_noise_and_says_so() -> None:
    training = training_of()
    training["grad_std_norm"] = training["grad_std_norm"] * 0
    figure = figures.gradients(training)
    assert drawn(figure, hv.Curve, "Mean", of="standard deviation") == []
    assert len(drawn(figure, hv.Curve, "Mean", of="mean")) == len(LAYERS)
    assert "The standard deviation is 0 throughout" in screen(figure)
    assert "norm of the standard deviation" not in screen(figure)


def test_a_layer_without_gradients_is_named_and_the_others_are_drawn() -> None:
    training = training_of()
    training["grad_mean_norm"][:, :, 1] = 0.0
    figure = figures.gradients(training)
    assert drawn(figure, hv.Curve, "Mean", of="mean", layer="layer2") == []
    assert "The mean is 0 throughout, and not drawn, in layer2." in screen(figure)


def test_a_seed_that_diverged_is_left_out_also_of_the_crossing() -> None:
    training = training_of()
    crossing = crossing_of(training)
    figure = figures.gradients(training.where((training["seed"] != 3) | (training["epoch"] < 20)), crossing=crossing)
    others = [0, 1, 2, 4, 5]
    expected = figures.gradients(training.sel(seed=others), crossing=crossing.sel(seed=others))
    for kind, group in ((hv.Curve, "Mean"), (hv.Segments, "Crossing")):
        for one, other in zip(*(elements(f, kind, group) for f in (figure, expected)), strict=True):
            np.testing.assert_array_equal(one.array([0, 1]), other.array([0, 1]))
    assert "5 of 6 seeds" in screen(figure)
    assert "output" in screen(figure)
    assert "4 of 5 seeds" in screen(figure)


def test_one_seed_and_one_epoch_are_enough() -> None:
    figure = figures.gradients(training_of(1, 5))
    assert elements(figure, hv.Area, "Band") == []
    assert "Lines: the one seed." in screen(figure)
    figure = figures.gradients(training_of(3, 2))
    assert len(elements(figure, hv.Scatter, "Point")) == 2 * len(LAYERS)


def test_the_heading_names_the_run_if_it_is_known() -> None:
    training = training_of(epochs=3)
    assert "Gradients: drift and diffusion · run rule-tanh" in screen(figures.gradients(training))
    assert "· run" not in screen(figures.gradients(training.drop_attrs()))


def test_single_precision_is_enough_and_lazy_arrays_are_read() -> None:
    training = training_of()
    given = training.astype(np.float32).chunk(epoch=7)
    lines = [elements(figures.gradients(one), hv.Curve, "Mean") for one in (given, training)]
    for one, other in zip(*lines, strict=True):
        np.testing.assert_allclose(one["gradient"], other["gradient"], rtol=1e-6)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop_vars("weight_norm"), r"no weight_norm among the variables given: grad_mean_norm \('epoch'"),
        (lambda t: t.mean("seed"), r"grad_mean_norm, grad_std_norm and weight_norm \(epoch, seed, layer\), but"),
        (lambda t: [t], "but got a list"),
        (lambda t: t.sel(epoch=[0]), "no epoch has a gradient larger than 0; the epochs given are 0. Give"),
        (lambda t: t.isel(epoch=slice(0)), "the epochs given are none"),
        (lambda t: t * 0, "no epoch has a gradient larger than 0; the epochs given are 0 to 39"),
    ],
)
def test_what_has_no_gradients_is_refused(spoil: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        figures.gradients(spoil(training_of()))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c.values, "crossing must be a DataArray of epochs .* but got a ndarray"),
        (lambda c: c.median("seed"), r"crossing must be a DataArray of epochs \(seed, layer\) but got \('layer',\)"),
        (lambda c: c.sel(layer=["layer1"]), "crossing lacks layer layer2, layer3, output"),
        (lambda c: c.sel(seed=[0, 1]), "crossing lacks seed 2, 3, 4, 5"),
    ],
)
def test_a_crossing_of_something_else_is_refused(spoil: Any, message: str) -> None:
    training = training_of()
    with pytest.raises(ParameterError, match=message):
        figures.gradients(training, crossing=spoil(crossing_of(training)))


def test_layers_are_chosen_by_name() -> None:
    training = training_of()
    figure = figures.gradients(training, ["output", "layer2"], crossing=crossing_of(training))
    assert [option(panel, "title") for panel in figure] == ["output", "layer2"]
    with pytest.raises(UnknownNameError, match=r"layer 'outptu'.*'output'"):
        figures.gradients(training, ["outptu"])


def test_the_registered_figure_takes_a_training_alone() -> None:
    with pytest.raises(ParameterError, match="takes a run's training but got 2 planes; give run"):
        figures.FIGURES["gradients"](training_of(), training_of())
