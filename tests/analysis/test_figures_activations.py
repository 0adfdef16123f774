"""The figure of what the units of a layer do."""

from typing import Any

import holoviews as hv
import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from bokeh.models.annotations import ColorBar

from ipstore.analysis import figures
from ipstore.analysis.figures import heat
from ipstore.analysis.figures.epochs import EpochScale
from ipstore.analysis.figures.heat import Rows, image
from ipstore.errors import ParameterError
from tests.analysis.test_figures import activity_of, elements, option
from tests.analysis.test_figures_panels import paper, screen

EPOCHS = [0, 1, 2, 4, 8, 15, 39]
"""Of which each has a column of the image at least."""


def images(figure: Any) -> dict[str, Any]:
    """The images by what they show."""
    return {e.vdims[0].name: e.dframe() for e in figure.traverse(lambda e: e, [hv.Image])}


def test_a_cell_of_the_histogram_holds_the_samples_of_its_unit_epoch_and_bin() -> None:
    activity = activity_of(units=3).sel(epoch=EPOCHS)
    cells = images(figures.activations(activity))["samples"].dropna()
    assert set(cells["unit"]) == {0, 1, 2}
    assert set(cells["epoch"]) == set(EPOCHS)
    found = cells.groupby(["epoch", "unit", "level"])["samples"].agg(["min", "max"])
    assert (found["min"] == found["max"]).all()  # columns of an epoch are alike
    for (epoch, unit, level), count in found["min"].items():
        assert count == activity["counts"].sel(epoch=epoch, unit=unit).sel(bin=level, method="nearest")
    shown = int((activity["counts"] > 0).sum())
    assert len(found) == shown  # bins without a sample are white


def test_rows_stand_from_the_top_down_and_values_from_the_bottom_up() -> None:
    activity = activity_of(units=3)
    figure = figures.activations(activity)
    cells = images(figure)["samples"].dropna()
    assert (np.round(-cells["row"]) == cells["unit"]).all()
    for unit, row in cells[cells["epoch"] == 39].groupby("unit"):
        height = row.groupby("level")["row"].mean()
        assert (np.diff(height) > 0).all()
        assert height.min() > -unit - 0.5
    first = figure.values()[0]
    assert option(first, "yticks") == [(0, "0"), (-1, "1"), (-2, "2")]
    assert option(first, "ylim") == (-2.5, 0.5)


def test_a_column_shows_the_nearest_epoch_on_the_scale() -> None:
    activity = activity_of(epochs=40).isel(epoch=[0, 3, 39])
    cells = images(figures.activations(activity))["saturation"]
    at = np.log10([1, 4, 40])
    nearest = np.array([0, 3, 39])[np.abs(cells["log_epoch"].values[:, None] - at).argmin(axis=1)]
    np.testing.assert_array_equal(cells["epoch"], nearest)
    np.testing.assert_allclose([cells["log_epoch"].min(), cells["log_epoch"].max()], [0, np.log10(40)], atol=1e-12)


def test_shares_are_means_over_seeds() -> None:
    activity = activity_of().sel(epoch=EPOCHS)
    activity["saturation"] = activity["saturation"] * xr.DataArray(np.linspace(0, 1, 6), dims="seed")
    activity["bins_used"][5, 2, 1] = np.nan
    shown = images(figures.activations(activity))
    for name, expected in (
        ("saturation", activity["saturation"].mean("seed")),
        ("bins_used", activity["bins_used"].mean("seed") / 10),
    ):
        cells = shown[name].dropna().groupby(["epoch", "unit"])[name].first()
        assert len(cells) == len(EPOCHS) * 3
        for (epoch, unit), share in cells.items():
            np.testing.assert_allclose(share, expected.sel(epoch=epoch, unit=unit), rtol=1e-6)


def test_distinct_codes_are_a_line_against_the_number_of_samples() -> None:
    activity = activity_of()
    figure = figures.activations(activity)
    (line,) = elements(figure, hv.Curve, "Mean")
    np.testing.assert_allclose(line["n_cells"], activity["n_cells"].mean("seed"))
    (band,) = elements(figure, hv.Area, "Band")
    np.testing.assert_allclose(band["n_cells"], np.quantile(activity["n_cells"], 0.1, axis=1))
    (level,) = elements(figure, hv.Curve, "Reference")
    assert set(level["n_cells"]) == {100}
    assert "22.5 at epoch 0 and 61.5 at epoch 39, of 100 samples." in paper(figure)


@pytest.mark.long
def test_colours_are_of_the_logarithm_and_their_bar_says_so_on_screen_and_on_paper() -> None:
    figure = figures.activations(activity_of(seeds=30))
    first = next(iter(figure.traverse(lambda e: e, [hv.Image])))
    assert option(first, "logz")
    assert option(first, "clim") == (1.0, 3000.0)
    on_screen = hv.Store.renderers["bokeh"].instance(theme=None).get_plot(figure).state
    (bar,) = on_screen.select({"type": ColorBar})
    assert type(bar.color_mapper).__name__ == "LogColorMapper"
    assert bar.ticker.ticks == [1, 10, 100, 1000]
    on_paper = hv.Store.renderers["matplotlib"].get_plot(figure).state
    bars = [axis for axis in on_paper.findobj(mpl.axes.Axes) if axis.get_yscale() == "log"]
    assert [text.get_text() for text in bars[0].get_yticklabels()] == ["1", "10", "100", "1k"]
    mpl.pyplot.close(on_paper)
    assert "in colours of the logarithm" in screen(figure)
    assert "share 0% 25% 50% 75% 100%" in screen(figure)


def test_shares_have_one_scale_from_nothing_to_all() -> None:
    shares = figures.activations(activity_of()).traverse(lambda e: e, [hv.Image])[1:]
    assert {option(e, "clim") for e in shares} == {(0.0, 1.0)}


def test_of_many_units_all_have_one_row_and_those_chosen_their_own() -> None:
    activity = activity_of(seeds=2, epochs=6, units=40)
    figure = figures.activations(activity)
    assert option(figure.values()[0], "yticks") == [(0, "all")]
    cells = images(figure)["samples"].dropna()
    assert set(cells["unit"]) == {-1}
    last = cells[(cells["epoch"] == 5)].groupby("level")["samples"].first()
    np.testing.assert_allclose(last.iloc[0], activity["counts"].isel(epoch=5, bin=0).sum())
    assert "Row all: the 40 units together" in screen(figure)
    figure = figures.activations(activity, [7, 3])
    assert option(figure.values()[0], "yticks") == [(0, "all"), (-1, "7"), (-2, "3")]
    shares = images(figure)["saturation"].dropna()
    seven = shares[(shares["unit"] == 7) & (shares["epoch"] == 5)]["saturation"].iloc[0]
    np.testing.assert_allclose(seven, activity["saturation"].isel(epoch=5, unit=7, seed=0), rtol=1e-6)
    few = figures.activations(activity_of(epochs=4, units=5), [4, 0])
    assert option(few.values()[0], "yticks") == [(0, "4"), (-1, "0")]


def test_where_saturation_cannot_be_told_there_is_no_panel_but_a_reason() -> None:
    activity = activity_of(epochs=4).drop_vars("saturation")
    del activity.attrs["saturated"], activity.attrs["function"]
    figure = figures.activations(activity.assign_attrs(no_saturation="a linear layer does not saturate"))
    assert len(list(figure)) == 3
    assert "Saturation is not shown: a linear layer does not saturate." in screen(figure)
    assert "activation:" not in screen(figure)


def test_dead_units_are_counted() -> None:
    activity = activity_of(seeds=3, epochs=4).assign_attrs(function="relu", saturated="exactly 0")
    activity["saturation"][-1] = [[1, 0.5, 0], [1, 0.5, 1], [0.9, 0.5, 0]]
    said = "Dead at epoch 3, 0 on every sample:"
    assert f"{said} unit 0 in 2 of 3 seeds and 2 in 1 of 3 seeds." in paper(figures.activations(activity))
    activity["saturation"][-1] = 0.99
    assert f"{said} no unit of any seed." in screen(figures.activations(activity))
    assert "Dead" not in screen(figures.activations(activity_of(epochs=4)))


@pytest.mark.long
def test_what_the_histograms_leave_out_is_said() -> None:
    activity = activity_of(seeds=2, epochs=4)
    assert "Outside" not in screen(figures.activations(activity))
    activity["above"] = activity["above"] + 3
    activity["missing"] = activity["missing"] + [[0, 1]]
    activity["n_cells"][:, 1] = np.nan
    text = paper(figures.activations(activity))
    assert "Outside the bins of the left panel, above them: 1.00% of the activations." in text
    assert "NaN, as after divergence, in 1 seed (1):" in text
    activity["n_cells"][2, 0] = np.nan
    assert "The estimator cannot take 1 of 8 layers" in screen(figures.activations(activity))
    activity["n_cells"][:] = np.nan
    assert "Codes: none" in screen(figures.activations(activity))


def test_codes_and_rebuilt_activations_are_called_what_they_are() -> None:
    activity = activity_of(epochs=3)
    codes = figures.activations(activity.assign_attrs(activations="codes of bins"))
    assert "lie in each bin of the codes that the run stores" in screen(codes)
    rebuilt = figures.activations(activity.assign_attrs(activations="rebuilt from weights"))
    assert "each bin of activations rebuilt from weights" in screen(rebuilt)


def test_the_heading_says_what_is_drawn() -> None:
    figure = figures.activations(activity_of(epochs=3).assign_attrs(epochs_of_run=2001))
    for text in (paper(figure), screen(figure)):
        assert "Activations of output · run rule-tanh" in text
        assert "activation: tanh · 100 samples · codes: binned (bins=10, range=[-1, 1], rule=equal) · 6 seeds" in text
        assert "shown are 3 of 2001 epochs" in text
    assert [option(panel, "title") for panel in figure] == [
        "samples by value\n10 bins, -1 up to 1",
        "saturated\n|T| > 0.95",
        "bins used\nof 10 bins",
        "distinct codes\nof the layer",
    ]
    activity = activity_of(epochs=3)
    del activity.attrs["bins_possible"]
    assert option(figures.activations(activity).values()[2], "title") == "bins used\nof 3, the most of a unit"


@pytest.mark.long
def test_one_epoch_and_one_seed_are_enough() -> None:
    figure = figures.activations(activity_of(1, 1))
    assert set(images(figure)["saturation"]["epoch"]) == {0}
    assert elements(figure, hv.Area, "Band") == []
    assert "samples of the one seed" in paper(figure)


def test_lazy_arrays_are_read_and_epochs_sorted() -> None:
    activity = activity_of()
    given = activity.isel(epoch=slice(None, None, -1)).chunk(epoch=7)
    one, other = (images(figures.activations(each))["samples"] for each in (given, activity))
    assert one.equals(other)


@pytest.mark.long
def test_many_cells_are_averaged_by_pixel_where_datashader_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datashader")
    epochs = np.arange(2000)
    rng = np.random.default_rng(0)
    values = rng.uniform(1, 2, (4, 60, len(epochs)))
    rows = Rows(values, epochs, np.arange(4), np.linspace(-1, 1, 60))
    scale = EpochScale(epochs)
    averaged = image(rows, hv.Dimension("z"), scale, scale.limits)
    monkeypatch.setattr(heat, "find_spec", lambda _: None)
    nearest = image(rows, hv.Dimension("z"), scale, scale.limits)
    assert averaged.dframe().columns.tolist() == nearest.dframe().columns.tolist()
    late = averaged.dframe().dropna()
    late = late[late["epoch"] > 1800]
    assert late["z"].std() < 0.1 < nearest.dframe()["z"].dropna().std()  # of some thirty cells each
    assert abs(late["z"].mean() - 1.5) < 0.02
    np.testing.assert_array_equal(np.unique(late["unit"]), np.arange(4))
    assert (np.round(-late["row"]) == late["unit"]).all()
    assert len(nearest.dframe()["epoch"].unique()) <= 120


@pytest.mark.long
def test_a_pixel_of_few_cells_is_their_own_whatever_draws_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datashader")
    rows = Rows(np.arange(24.0).reshape(2, 4, 3), np.array([0, 10, 100]), np.array([5, 8]), np.arange(4.0))
    scale = EpochScale(rows.epoch)
    plain = image(rows, hv.Dimension("z"), scale, scale.limits).dframe()
    monkeypatch.setattr(heat, "_LARGE", 0)
    assert image(rows, hv.Dimension("z"), scale, scale.limits).dframe().equals(plain)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: [a], "what `layer_activity` returned, but got a list"),
        (lambda a: a.drop_vars("counts"), "there is no counts; the variables given are below"),
        (lambda a: a.expand_dims(train_fraction=[0.1, 0.2]), "of one run"),
        (lambda a: a.drop_attrs(), "there is no source_run, layer, samples, estimator and parameters"),
        (lambda a: a.isel(epoch=slice(0)), "there is nothing to draw"),
    ],
)
def test_what_is_no_activity_is_refused(spoil: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        figures.activations(spoil(activity_of()))


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ([9], "units must name 1 to 12 of the units 0 to 2, each once, but got no unit 9"),
        ([], "but got 0 of them"),
        ([1, 1], "but got 2 of them"),
    ],
)
def test_units_that_are_not_there_are_refused(units: list[int], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        figures.activations(activity_of(), units)
    with pytest.raises(ParameterError, match="but got 13 of them"):
        figures.activations(activity_of(units=20, epochs=3), list(range(13)))


def test_the_registered_figure_takes_one_layer() -> None:
    with pytest.raises(ParameterError, match=r"takes a layer's activity but got 2 planes; give run.ip.layer_activity"):
        figures.FIGURES["activations"](activity_of(), activity_of())
