"""What the figures of the information plane share in their looks: axes, reference lines, type, options."""

from collections.abc import Callable, Sequence
from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import holoviews.plotting.mpl
import xarray as xr
from bokeh.models.annotations import Title
from holoviews.plotting.util import process_cmap
from matplotlib.text import Annotation
from matplotlib.transforms import IdentityTransform

from ipstore.analysis.figures.wording import limit_words, wrap

__all__ = [
    "GREY",
    "INK",
    "I_TY",
    "I_XT",
    "NOTE_WIDTH",
    "STEP",
    "Carried",
    "Limits",
    "canvas",
    "clear_carried",
    "fitting",
    "layer_colours",
    "reference_lines",
    "split_title",
    "styled",
    "typeset",
    "write_below",
    "write_notes",
    "write_title",
]

I_XT = hv.Dimension("I_XT", label="I(X;T)", unit="bits")
I_TY = hv.Dimension("I_TY", label="I(T;Y)", unit="bits")

STEP = [I_XT, I_TY, "I_XT_end", "I_TY_end"]
"""Dimensions of a segment from one point of the plane to another."""

INK = "#222222"
GREY = "#767676"  # 4.5:1 on white, the least contrast that WCAG 2.1 allows for text

NOTE_WIDTH = 128
"""Characters of a footnote that fit the width of a frame of 880 pixels."""

_NARROW = 5.0
"""Inches of an axis that is none of a figure by itself, which has six."""

_PER_INCH = 22
"""Characters to the inch of an axis: with the room that a colour bar and the next axis leave."""

Limits = tuple[tuple[float, float], tuple[float, float]]
"""Of the axes: (left, right), (bottom, top)."""


def reference_lines(plane: xr.Dataset, box: Limits, *, words: bool = True) -> Any:
    """Draw I(X;Y) and H(X), and name them: no layer can lie above the one or to the right of the other."""
    xlim, ylim = box
    i_xy, h_x = float(plane.attrs["I_XY"]), float(plane.attrs["H_X"])
    lines = styled(
        hv.Segments([(xlim[0], i_xy, h_x, i_xy), (h_x, ylim[0], h_x, i_xy)], STEP),
        bokeh={"color": GREY, "line_width": 1, "line_dash": "dashed"},
        matplotlib={"color": GREY, "linewidth": 0.8, "linestyle": "dashed"},
    )
    if not words:
        return lines
    width, height = xlim[1] - xlim[0], ylim[1] - ylim[0]
    beside = (xlim[0] + 0.01 * width, i_xy + 0.008 * height, limit_words(plane, "I_XY"))
    along = (h_x + 0.008 * width, ylim[0] + 0.02 * height, limit_words(plane, "H_X"))
    return lines * _small_text(beside, 0, bottom=True) * _small_text(along, 90, bottom=False)


def _small_text(label: tuple[float, float, str], angle: int, *, bottom: bool) -> Any:
    """Write a label whose lower left corner, once turned by `angle`, is its position."""
    return styled(
        hv.Labels([label], [I_XT, I_TY], "text", group="Reference"),
        bokeh={
            "text_color": GREY,
            "text_font_size": "9pt",
            "text_align": "left",
            "text_baseline": "bottom" if bottom else "top",
            "angle": angle,
        },
        matplotlib={
            "color": GREY,
            "size": 9,
            "horizontalalignment": "left",
            "verticalalignment": "bottom",
            "rotation": angle,
        },
    )


def typeset(notes: Sequence[str]) -> Callable[[Any, Any], None]:
    """Set the first line of the title as a headline, the others small, and `notes` smaller below the frame.

    Neither backend can vary the type within a title; this is a HoloViews hook that does it in both.
    """

    def hook(plot: Any, _: Any) -> None:
        if plot.renderer.backend == "matplotlib":
            axis = plot.handles["axis"]
            clear_carried(axis)
            write_title(axis, fitting(axis, [axis.get_title()]))
            axis.set_title("")
            write_notes(axis, fitting(axis, notes, NOTE_WIDTH))
            return
        figure = plot.state
        if split_title(figure, "10pt"):
            write_below(figure, notes)

    return hook


def fitting(axis: Any, lines: Sequence[str], most: int = 0) -> str:
    """Break lines that are longer than a matplotlib axis is wide, as one is beside others in a layout."""
    inches = axis.get_position().width * axis.figure.get_figwidth()
    if inches > _NARROW:
        return wrap(lines, most) if most else "\n".join(lines)
    return wrap([piece for line in lines for piece in line.split("\n")], int(_PER_INCH * inches))


def write_below(figure: Any, notes: Sequence[str]) -> None:
    """Write footnotes under a bokeh figure."""
    text = wrap(notes, NOTE_WIDTH)
    figure.add_layout(Title(text=text, text_font_size="8.5pt", text_color=GREY, **_SMALL), "below")


_OUTSIDE: dict[str, Any] = {
    "xycoords": "axes fraction",
    "textcoords": "offset points",
    "annotation_clip": False,
    "parse_math": False,
}


_SMALL: dict[str, Any] = {"text_font_style": "normal", "text_line_height": 1.3}


def split_title(figure: Any, size: str) -> bool:
    """Set the first line of a bokeh figure's title strong and the others in `size`; tell if it was the first time."""
    figure.title.text, _, details = figure.title.text.partition("\n")
    if added := [title for title in figure.above if title.name == "details"]:
        added[0].text = details  # a hook runs again for every frame of a HoloMap
        return False
    if details:
        figure.add_layout(Title(text=details, text_font_size=size, text_color=INK, name="details", **_SMALL), "above")
    return True


def write_title(
    axis: Any, title: str, *, lift: float = 6, size: float = 12, kind: type[Annotation] = Annotation
) -> None:
    """Write a headline of `size` points and the small lines under it `lift` points above a matplotlib axis."""
    headline, _, details = title.partition("\n")
    rows = details.count("\n") + 1 if details else 0
    _add(axis, kind(details, (0, 1), (0, lift), size=9, color=INK, linespacing=1.3, **_OUTSIDE))
    above = lift + 2 + 13 * rows
    _add(axis, kind(headline, (0, 1), (0, above), size=size, weight="bold", color=INK, **_OUTSIDE))


def write_notes(axis: Any, notes: str, *, kind: type[Annotation] = Annotation) -> None:
    """Write footnotes under a matplotlib axis and its label."""
    _add(axis, kind(notes, (0, 0), (0, -38), size=8, color=GREY, verticalalignment="top", **_OUTSIDE))


class Carried(Annotation):
    """What the elements of a figure carry of its frame: it gives way where the whole has a title."""

    def get_visible(self) -> bool:
        """Tell whether it is drawn."""
        axis: Any = self.axes
        return super().get_visible() and not axis.get_title().strip()


def clear_carried(axis: Any) -> None:
    """Take away what elements had carried to a matplotlib axis."""
    for text in [text for text in axis.texts if isinstance(text, Carried)]:
        text.remove()


def _add(axis: Any, text: Annotation) -> None:
    """Do what ``axis.annotate`` does, for any kind of annotation."""
    text.set_transform(IdentityTransform())
    text.set_clip_on(False)
    axis.add_artist(text)


def layer_colours(number: int) -> list[str]:
    """Give each of `number` layers a colour: in network order through viridis, from dark to light."""
    colours = process_cmap("viridis", 256)[:236]  # the lightest yellow is lost on white
    return [colours[round(k * (len(colours) - 1) / max(number - 1, 1))] for k in range(number)]


def canvas(width: int, height: int) -> dict[str, Any]:
    """Give the options of a whole figure, `width` by `height` in pixels, a hundred to the inch on paper."""
    return {
        "bokeh": {
            "width": width,
            "height": height,
            "toolbar": "right",
            "backend_opts": {
                "title.text_font_size": "12pt",
                "title.text_color": INK,
                "toolbar.logo": None,
                "xaxis.axis_label_text_font_style": "normal",
                "yaxis.axis_label_text_font_style": "normal",
                "xaxis.minor_tick_line_color": None,
                "yaxis.minor_tick_line_color": None,
            },
            "fontsize": {"labels": "11pt", "ticks": "10pt"},
        },
        "matplotlib": {
            "fig_inches": (width / 100, height / 100),
            "aspect": "auto",
            "fontsize": {"labels": 11, "ticks": 10},
        },
    }


def styled(element: Any, *, bokeh: dict[str, Any], matplotlib: dict[str, Any], **both: Any) -> Any:
    """Set the options of `element` for each backend, so that one object renders under either."""
    # The limits are given; without framewise HoloViews seeks them in all frames at every frame: 7x the time.
    both["framewise"] = True
    matplotlib.setdefault("aspect", "auto")  # HoloViews places a colour bar before the figure's aspect is set
    return element.opts(backend="bokeh", **both, **bokeh).opts(backend="matplotlib", **both, **matplotlib)
