"""Figures compose: ``a * b``, ``a + b``, layouts and options, under both backends and in a notebook."""

import gc
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import holoviews as hv
import matplotlib as mpl
import nbformat
import pytest
from bokeh.models import ColumnDataSource
from bokeh.models.annotations import Title
from nbformat.v4 import new_code_cell, new_notebook

from ipstore.analysis import figures
from ipstore.analysis.figures.composing import _PAGES
from tests.analysis.test_figures import LAYERS, elements, planes_for, words
from tests.notebooks import EXAMPLES, execute

OVERLAYS = ("plane", "snapshots", "converged")
"""Figures of one frame; the others are pages of several, which HoloViews can set beside others, not lay over them."""


@cache
def drawn(name: str, run: str = "rule-tanh", part: float = 1.0) -> Any:
    planes = [plane.assign_attrs(source_run=run) for plane in planes_for(name, epochs=4, seeds=5, layers=LAYERS[1:])]
    if part != 1.0:
        planes = [plane.assign(I_XT=plane["I_XT"] * part) for plane in planes]
    return figures.FIGURES[name](*planes)


def shown(figure: Any) -> Any:
    return hv.Store.renderers["bokeh"].instance(theme=None).get_plot(figure).state


def titles(figure: Any) -> list[str]:
    return [title.text for title in shown(figure).select({"type": Title}) if title.text]


def printed(figure: Any) -> Any:
    state = hv.Store.renderers["matplotlib"].get_plot(figure).state
    state.canvas.draw()
    mpl.pyplot.close(state)
    return state


def visible(figure: Any) -> str:
    return "\n".join(text.get_text() for text in printed(figure).findobj(mpl.text.Text) if text.get_visible())


def test_planes_of_two_runs_in_one_frame_are_both_named() -> None:
    both = drawn("plane") * drawn("plane", "rule-relu", 0.5)
    for text in (visible(both), "\n".join(titles(both))):
        assert "(a) Information plane · run rule-tanh" in text
        assert "(b) Information plane · run rule-relu" in text
        assert text.count("Line: mean over seeds, from epoch 0 (hollow) to epoch 3 (filled).") == 1
    assert len(elements(both, hv.Segments, "Mean")) == 2
    screen = shown(both)
    assert (screen.width, screen.height) == (880, 600)
    assert (screen.x_range.start, screen.x_range.end) < (0, 12)
    assert screen.x_range.end > 12
    assert printed(both).get_figwidth() == 8.8


@pytest.mark.long
def test_layers_say_of_which_figure_they_are() -> None:
    both = drawn("plane") * drawn("plane", "rule-relu", 0.5)
    names = set(visible(both).splitlines())
    assert {"output (a)", "output (b)"} <= names
    assert "output" not in names
    on_screen = [
        text for source in shown(both).select({"type": ColumnDataSource}) for text in source.data.get("text", [])
    ]
    assert {"output (a)", "output (b)"} <= set(on_screen)


@pytest.mark.long
def test_a_third_figure_is_named_too_and_the_same_figure_twice_is_one() -> None:
    one, other, third = drawn("plane"), drawn("plane", "rule-relu", 0.5), drawn("plane", "rule-sigmoid", 0.7)
    text = visible(one * other * third)
    assert [f"({letter}) Information plane" in text for letter in "abcd"] == [True, True, True, False]
    assert "(a)" not in visible(one * one)
    assert visible(one * (other * third)) == text


def test_something_small_laid_over_a_figure_leaves_its_frame() -> None:
    for figure in (drawn("plane") * hv.Points([(1, 0.5)]), hv.Points([(1, 0.5)]) * drawn("plane")):
        for text in (visible(figure), "\n".join(titles(figure))):
            assert "Information plane · run rule-tanh" in text
            assert "(a)" not in text


@pytest.mark.long
def test_a_title_of_ones_own_takes_the_place_of_all() -> None:
    for figure in (drawn("plane"), drawn("plane") * drawn("plane", "rule-relu", 0.5)):
        for backend in ("bokeh", "matplotlib"):
            figure = figure.opts(title="Mine", backend=backend, clone=True)
        assert "Mine" in visible(figure)
        assert "Information plane" not in visible(figure)
        assert "Mine" in titles(figure)
        assert not [text for text in titles(figure) if "Information plane" in text]


@pytest.mark.long
def test_figures_side_by_side_have_lines_that_fit() -> None:
    alone, beside = (words(figure).splitlines() for figure in (drawn("plane"), drawn("plane") + drawn("plane", "r")))
    longest = max(map(len, alone))
    assert longest > 90
    assert max(map(len, beside)) < 80
    assert len(beside) > 2 * len(alone)


def test_a_frame_of_a_map_replaces_the_one_before() -> None:
    film = drawn("snapshots") * hv.Points([(1, 0.5)])
    plot = hv.Store.renderers["bokeh"].instance(theme=None).get_plot(film)
    for position in range(len(film)):
        plot.update(position)
        told = "\n".join(title.text for title in plot.state.select({"type": Title}))
        assert f"epoch {film.keys()[position]}" in told
        assert told.count("Networks in the information plane") == 1


def test_nothing_is_left_behind_by_figures_that_are_gone() -> None:
    gc.collect()
    before = len(_PAGES)
    one, other = (drawn("snapshots", run).last for run in ("rule-tanh", "rule-relu"))
    for _ in range(3):  # without a colour bar, of which HoloViews under matplotlib keeps every one
        assert "(b)" in visible(one * other)
    gc.collect()
    assert len(_PAGES) <= before + 1  # the last plot may be held


@pytest.mark.long
@pytest.mark.parametrize(("one", "other"), list(product(OVERLAYS, repeat=2)))
@pytest.mark.parametrize("backend", ["bokeh", "matplotlib"])
def test_figures_of_one_frame_are_laid_over_one_another(one: str, other: str, backend: str) -> None:
    figure = drawn(one) * drawn(other, "rule-relu", 0.5)
    assert visible(figure) if backend == "matplotlib" else titles(figure)


@pytest.mark.long
@pytest.mark.parametrize("name", figures.FIGURES)
@pytest.mark.parametrize("backend", ["bokeh", "matplotlib"])
def test_every_figure_stands_beside_a_plane(name: str, backend: str) -> None:
    for figure in (drawn("plane", "beside") + drawn(name), drawn(name) + drawn("plane", "beside")):
        text = visible(figure) if backend == "matplotlib" else "\n".join(titles(figure))
        assert "Information plane · run beside" in text
        assert len(figure) == 1 + (len(drawn(name)) if isinstance(drawn(name), hv.Layout) else 1)


SETUP = """
import sys
sys.path.insert(0, {root!r})
import holoviews as hv
from ipstore.analysis import figures
from tests.analysis.test_figures import planes_for
drawn = {{name: figure(*planes_for(name, epochs=3, seeds=5)) for name, figure in figures.FIGURES.items()}}
"""


@pytest.mark.long
@pytest.mark.parametrize(("backend", "kind"), [("bokeh", "text/html"), ("matplotlib", "image/png")])
def test_every_figure_shows_itself_in_a_notebook(backend: str, kind: str, tmp_path: Path) -> None:
    shown = [f"drawn[{name!r}]" for name in figures.FIGURES] + [
        'drawn["plane"] * drawn["converged"]',
        'drawn["plane"] + drawn["gradients"]',
        'hv.Layout([drawn["plane"], drawn["converged"]]).cols(1)',
        'drawn["plane"].opts(title="Mine", clone=True)',
    ]
    sources = [SETUP.format(root=str(EXAMPLES.parent)), f"hv.extension({backend!r})", *shown]
    notebook: Any = new_notebook(cells=list(map(new_code_cell, sources)))  # type: ignore[no-untyped-call]
    path = tmp_path / "figures.ipynb"
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    executed = execute(path, tmp_path)
    for cell in executed.cells[2:]:
        kinds = {name for output in cell.outputs for name in output.get("data", {})}
        assert kinds & {kind, "text/html"}, cell.source
        assert not [output for output in cell.outputs if output.output_type == "stream"], cell.source
