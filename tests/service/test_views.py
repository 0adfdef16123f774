"""Figures of a page are drawn once; what comes later is fed to them, and they make room for it."""

import holoviews as hv
import numpy as np
import pytest
import xarray as xr
from bokeh.models.renderers import GlyphRenderer
from bokeh.models.sources import DataSource

from ipstore.analysis.service.drawn import Lines, on_scale
from ipstore.analysis.service.views import LinesView

COLOURS = {"layer1": "#0072b2", "layer2": "#d55e00"}


def lines(until: int, *, falls: bool = False) -> Lines:
    epochs = np.arange(until + 1)
    values = np.exp(-epochs / 10) if falls else np.log2(2.0 + epochs)
    array = xr.DataArray(
        np.stack([values, values + 1], -1)[:, None] * np.array([1.0, 1.1])[:, None],
        {"epoch": epochs, "seed": [0, 1], "layer": list(COLOURS)},
        ("epoch", "seed", "layer"),
    )
    return Lines.of(array, "layer")


def drawn(of: Lines, *, logarithmic: bool = False) -> tuple[LinesView, hv.plotting.Plot]:
    view = LinesView(of, "title", "bits", COLOURS, list(COLOURS), 0, None, logarithmic=logarithmic)
    return view, hv.render(view.figure, backend="bokeh")


def take(view: LinesView, of: Lines) -> None:
    assert view.show(of, {}, 0, None), "without a figure of its own"
    view.choose(list(COLOURS))


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("falls", [False, True])
def test_the_axes_hold_what_a_run_has_grown_to(logarithmic: bool, falls: bool) -> None:
    view, figure = drawn(lines(5, falls=falls), logarithmic=logarithmic)
    before = figure.x_range.end
    take(view, lines(900, falls=falls))
    assert figure.x_range.end > on_scale(900) > before
    sources = [each.data_source for each in figure.renderers if isinstance(each, GlyphRenderer)]
    heights = np.concatenate([np.ravel(y) for each in sources for y in _lines_of(each)])
    assert figure.y_range.start < np.nanmin(heights)
    assert figure.y_range.end > np.nanmax(heights)
    ticks = figure.xaxis[0].major_label_overrides
    assert list(ticks.values()) == ["0", "1", "10", "100", "900"]
    assert figure.xaxis[0].ticker.ticks == list(ticks)


def _lines_of(source: DataSource) -> list[list[float]]:
    """Give the heights of lines, of a table that has lines."""
    return [y for y in getattr(source, "data", {}).get("ys", []) if not isinstance(y[0], list)]


def test_an_axis_that_a_person_has_moved_stays() -> None:
    view, figure = drawn(lines(5))
    figure.x_range.update(start=0.2, end=0.4)  # as a browser sends it
    take(view, lines(900))
    assert (figure.x_range.start, figure.x_range.end) == (0.2, 0.4)
    assert figure.x_range.reset_end > on_scale(900), "the tool that resets shows all"
    assert figure.y_range.end > np.log2(900), "the other axis has not been moved"


def test_a_frame_of_one_epoch_and_of_one_value() -> None:
    (left, right), (bottom, top) = lines(0).frame(logarithmic=False)
    assert left < right
    assert bottom < top
    zeros = xr.DataArray(
        np.zeros((2, 1, 1)), {"epoch": [0, 1], "seed": [0], "layer": ["layer1"]}, ("epoch", "seed", "layer")
    )
    flat = Lines.of(zeros, "layer")
    for logarithmic in (False, True):
        (left, right), (bottom, top) = flat.frame(logarithmic)
        assert left < right
        assert bottom < top
