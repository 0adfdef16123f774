"""Figures as files: html that needs no network, png and svg that need no browser, films."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import holoviews as hv
import matplotlib as mpl
import numpy as np
from bokeh.embed import file_html
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, CustomJS, Model
from bokeh.models.annotations import Title
from bokeh.models.widgets.sliders import CategoricalSlider
from bokeh.resources import Resources
from matplotlib import pyplot as plt

from ipstore.analysis.figures.animation import FILMS, RATE, check_rate, film, find_ffmpeg, refuse_still
from ipstore.analysis.figures.frame import typeset, write_title
from ipstore.errors import ParameterError

__all__ = ["check_path", "save"]

_FORMS = ("html", "png", "svg", *FILMS)
_FRAMES = 6  # a row of more would be illegible: then the first, the middle and the last stand for all


def save(figure: Any, path: str | os.PathLike[str], *, rate: float | None = None) -> Path:
    """Write a figure in the format that the suffix names: `.html`, `.png`, `.svg`, `.gif` or `.mp4`.

    html holds everything it needs (BokehJS included) and asks no host for anything; a HoloMap gets a slider.
    png and svg are drawn by matplotlib; there a HoloMap of at most six frames stands in rows of three, and of
    a longer one the first, the middle (in log(1 + epoch)) and the last frame. gif and mp4 show all frames of a
    HoloMap, one after another, and hold the last one for two seconds. The file appears whole or not at all.

    Parameters
    ----------
    figure : HoloViews object
        A figure of this package; a HoloMap's frames carry titles whose last line is the frame's own.
    path : path
        Where to; missing folders are made, an existing file is replaced.
    rate : float, optional
        Frames per second of a gif or an mp4, 0.1 to 50; 10 by default.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ParameterError
        Another suffix, `path` is a folder, a figure without frames as gif or mp4, or a `rate` that is not allowed or
        of a file that is neither.
    MissingPackageError
        An mp4 where there is no ffmpeg.
    OSError
        The file cannot be written, or ffmpeg failed.
    """
    path = check_path(path, rate=rate)
    form = path.suffix.lower()[1:]
    if form in FILMS:
        content = film(figure, form, RATE if rate is None else rate)
    else:
        content = _html(figure, path.stem) if form == "html" else _image(figure, form)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def check_path(path: str | os.PathLike[str], *, rate: float | None = None, frames: bool = True) -> Path:
    """Check that `save` could write there, before the work that a figure takes.

    Parameters
    ----------
    path : path
    rate : float, optional
        As `save` takes it.
    frames : bool
        Whether the figure has frames, so that it can be a film.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    ParameterError
        The suffix is not .html, .png, .svg, .gif or .mp4, `path` is a folder, `rate` is not allowed there, or it is a
        film of a figure that has no frames.
    MissingPackageError
        The suffix is .mp4, but there is no ffmpeg.
    """
    path = Path(path)
    form = path.suffix.lower()[1:]
    if form not in _FORMS:
        raise ParameterError(
            f"a figure is written as .html, .png or .svg, or as a film, .gif or .mp4; the path given is {str(path)!r}"
        )
    if path.is_dir():
        raise ParameterError(f"{str(path)!r} is a folder; give the name of a file")
    if form in FILMS and not frames:
        refuse_still(form)
    if rate is not None:
        if form not in FILMS:
            raise ParameterError(f"rate is that of a film, .gif or .mp4, but the path given is {str(path)!r}")
        check_rate(rate)
    if form == "mp4":
        find_ffmpeg()
    return path


def _html(figure: Any, title: str) -> bytes:
    renderer = hv.Store.renderers["bokeh"].instance(theme=None, webgl=False)
    plot = renderer.get_plot(figure)
    model: Model = plot.state
    if isinstance(figure, hv.HoloMap):
        model = column(_slider(plot, figure.keys()), model)
    return file_html(model, _Offline(mode="inline"), title=title).encode()


class _Offline(Resources):
    """BokehJS inline and nothing beside it.

    bokeh.resources.INLINE adds links to the scripts of every model that any library has loaded: here Panel's,
    which HoloViews loads and no figure uses.
    """

    @property
    def js_files(self) -> list[str]:
        return []

    @property
    def css_files(self) -> list[str]:
        return []

    def clone(self, *, components: list[Any] | None = None) -> Resources:
        return _Offline(mode="inline", components=components)


def _slider(plot: Any, epochs: list[int]) -> CategoricalSlider:
    """Let a slider swap the frames' data and titles in the browser.

    HoloViews' own way to html is Panel, whose page asks cdn.holoviz.org for its icons.
    """
    texts = list(plot.state.select({"type": Title}))
    sources = list(plot.state.select({"type": ColumnDataSource}))
    titles, frames = [], []
    for position in range(len(epochs)):
        plot.update(position)
        titles.append([title.text for title in texts])
        frames.append([ColumnDataSource(dict(source.data)) for source in sources])
    plot.update(0)
    slider = CategoricalSlider(
        title="epoch",
        categories=[str(epoch) for epoch in epochs],
        value=str(epochs[0]),
        width=620,
        margin=(8, 60),
    )
    code = """
        const frame = slider.categories.indexOf(slider.value)
        texts.forEach((title, i) => { title.text = titles[frame][i] })
        sources.forEach((source, i) => { source.data = frames[frame][i].data })
    """
    arguments = {"slider": slider, "texts": texts, "titles": titles, "sources": sources, "frames": frames}
    slider.js_on_change("value", CustomJS(args=arguments, code=code))
    return slider


def _image(figure: Any, form: str) -> bytes:
    if isinstance(figure, hv.HoloMap):
        figure, shared = _row(figure)
    else:
        shared = ""
    plot = hv.Store.renderers["matplotlib"].get_plot(figure)
    if shared:
        write_title(plot.state.axes[0], shared, lift=52)
    content = BytesIO()
    # The same figure gives the same bytes: no date, and ids that are hashes of what they name.
    metadata = {"Date": None} if form == "svg" else None
    with mpl.rc_context({"svg.hashsalt": "ipstore"}):
        plot.state.savefig(content, format=form, dpi=160, bbox_inches="tight", metadata=metadata)
    plt.close(plot.state)
    return content.getvalue()


def _row(frames: Any) -> tuple[Any, str]:
    """Stand frames side by side, and give the lines of the title that they share."""
    keys = frames.keys()
    if len(keys) > _FRAMES:
        scale = np.log1p(keys)
        middle = np.abs(scale - (scale[0] + scale[-1]) / 2).argmin()
        keys = [keys[0], keys[middle], keys[-1]]
    panels, shared = [], ""
    columns = min(3, len(keys))
    bottom_left = (len(keys) - 1) // columns * columns  # where the footnotes stand
    for position, key in enumerate(keys):
        options = frames[key].opts.get("plot", backend="matplotlib").kwargs
        shared, _, own = options["title"].rpartition("\n")
        panels.append(
            frames[key]
            .clone()
            .opts(
                title=own.replace(" · ", "\n", 1),
                hooks=options["hooks"] if position == bottom_left else [typeset([])],
                show_legend=position == len(keys) - 1,
                aspect=1.15,
                backend="matplotlib",
            )
        )
    rows = -(-len(panels) // columns)
    row = hv.Layout(panels).cols(columns)
    return row.opts(
        sublabel_format="",
        hspace=0.25,
        vspace=0.35,
        fig_inches=(4.2 * columns, 4 * rows),
        backend="matplotlib",
    ), shared
