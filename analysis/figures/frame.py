"""What the figures of the information plane share: checked data, limits, reference lines, words, options."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import holoviews as hv
import holoviews.plotting.bokeh
import holoviews.plotting.mpl
import numpy as np
import xarray as xr
from bokeh.models.annotations import Title
from numpy.typing import NDArray

from ipstore.errors import ParameterError, UnknownNameError

__all__ = [
    "GREY",
    "INK",
    "I_TY",
    "I_XT",
    "SATURATION",
    "STEP",
    "canvas",
    "count",
    "heading",
    "limits",
    "log_spaced",
    "prepare",
    "reference_lines",
    "saturated",
    "styled",
    "typeset",
    "write_title",
]

I_XT = hv.Dimension("I_XT", label="I(X;T)", unit="bits")
I_TY = hv.Dimension("I_TY", label="I(T;Y)", unit="bits")

STEP = [I_XT, I_TY, "I_XT_end", "I_TY_end"]
"""Dimensions of a segment from one point of the plane to another."""

INK = "#222222"
GREY = "#767676"  # 4.5:1 on white, the least contrast that WCAG 2.1 allows for text

SATURATION = 0.05
"""Bits below H(X) within which a layer counts as saturated."""

_ATTRS = ("estimator", "parameters", "labels", "I_XY", "H_X", "source_run")
_WRAP = 118  # characters of a title line or a footnote that fit the width of the frame


def prepare(plane: xr.Dataset, layers: Sequence[str] | None = None) -> xr.Dataset:
    """Check that `plane` is an information plane, choose its layers and load it.

    Parameters
    ----------
    plane : Dataset
        I_XT and I_TY (epoch, seed, layer), in bits; may be lazy.
    layers : sequence of str, optional
        Which layers, in this order; all by default.

    Returns
    -------
    Dataset
        In memory, ordered (epoch, seed, layer), epochs ascending; a cell is two finite numbers or two NaN.

    Raises
    ------
    ParameterError
        Variables, dimensions or attributes are missing, or no cell is a number.
    UnknownNameError
        A layer that the plane does not have.
    """
    for name in ("I_XT", "I_TY"):
        if name not in plane:
            raise ParameterError(
                f"an information plane has I_XT and I_TY, but {name} is not among the variables given: "
                f"{', '.join(map(str, plane.data_vars)) or 'none'}. Give what `information_plane` returned"
            )
        if set(plane[name].dims) != {"epoch", "seed", "layer"}:
            raise ParameterError(f"{name} must have dims (epoch, seed, layer) but has {plane[name].dims}")
    if missing := [name for name in ("epoch", "seed", "layer") if name not in plane.coords]:
        raise ParameterError(f"the plane lacks coordinates for {', '.join(missing)}; assign them (assign_coords)")
    if missing := [name for name in _ATTRS if name not in plane.attrs]:
        raise ParameterError(
            f"the plane lacks the attributes {', '.join(missing)}, which the figure must state. "
            f"Keep the attrs (xarray.set_options(keep_attrs=True)) when you compute on a plane"
        )
    if (units := plane.attrs.get("units", "bits")) != "bits":
        raise ParameterError(f"the plane must be in bits but its units are {units!r}; convert it")
    if layers is not None:
        known = [str(name) for name in plane["layer"].values]
        for name in layers:
            if name not in known:
                raise UnknownNameError("layer", name, known)
        plane = plane.sel(layer=list(layers))
    plane = plane[["I_XT", "I_TY"]].transpose("epoch", "seed", "layer").sortby("epoch").compute()
    plane = plane.where(np.isfinite(plane["I_XT"] + plane["I_TY"]))
    if empty := [str(name) for name in plane["layer"].values if not plane["I_XT"].sel(layer=name).notnull().any()]:
        raise ParameterError(
            f"layer {', '.join(empty)} has no finite value at any epoch and seed. If every seed diverged, "
            f"look at the training loss; else choose the other layers with `layers`"
        )
    if 0 in plane.sizes.values():
        raise ParameterError(f"the plane is empty: {dict(plane.sizes)}. Select at least one epoch, seed and layer")
    return plane


def saturated(plane: xr.Dataset, tolerance: float) -> xr.DataArray:
    """Tell where the mean I(X;T) over seeds lies within `tolerance` bits of H(X): bool (epoch, layer)."""
    if not tolerance >= 0:
        raise ParameterError(f"saturation must be a number of bits, 0 or more, but got {tolerance}")
    full: xr.DataArray = plane["I_XT"].mean("seed") >= plane.attrs["H_X"] - tolerance
    return full


def limits(plane: xr.Dataset) -> tuple[tuple[float, float], tuple[float, float]]:
    """Give the limits of both axes: zero, the reference lines and every value lie inside.

    Estimates other than the plug-in can fall below zero or above the entropies.
    """
    ends = []
    for values, bound in ((plane["I_XT"], plane.attrs["H_X"]), (plane["I_TY"], plane.attrs["I_XY"])):
        low, high = min(0.0, float(values.min())), max(float(bound), float(values.max()))
        ends.append((low - 0.03 * (high - low), high + 0.11 * (high - low)))
    return ends[0], ends[1]


def log_spaced(epochs: NDArray[Any], number: int) -> NDArray[np.int64]:
    """Choose at most `number` of `epochs` (ascending), even in log(1 + epoch), with the first and the last.

    Returns
    -------
    (at most number,) int64
        Positions in `epochs`, ascending.
    """
    if len(epochs) <= number:
        return np.arange(len(epochs))
    position = np.log1p(np.asarray(epochs, np.float64))
    targets = np.linspace(position[0], position[-1], number)
    right = np.clip(np.searchsorted(position, targets), 1, len(epochs) - 1)
    nearest = right - (targets - position[right - 1] < position[right] - targets)
    return np.unique(nearest)


def reference_lines(plane: xr.Dataset) -> Any:
    """Draw I(X;Y) and H(X), labelled: no layer can lie above the one or to the right of the other."""
    xlim, ylim = limits(plane)
    i_xy, h_x = float(plane.attrs["I_XY"]), float(plane.attrs["H_X"])
    lines = styled(
        hv.Segments([(xlim[0], i_xy, h_x, i_xy), (h_x, ylim[0], h_x, i_xy)], STEP),
        bokeh={"color": GREY, "line_width": 1, "line_dash": "dashed"},
        matplotlib={"color": GREY, "linewidth": 0.8, "linestyle": "dashed"},
    )
    width, height = xlim[1] - xlim[0], ylim[1] - ylim[0]
    beside = (xlim[0] + 0.01 * width, i_xy + 0.008 * height, f"I(X;Y) = {i_xy:.3f} bits")
    along = (h_x + 0.008 * width, ylim[0] + 0.02 * height, f"H(X) = {h_x:.4g} bits")
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


def heading(plane: xr.Dataset, title: str, seeds: str) -> str:
    """Say what is drawn: the run, p(y|x), the estimator with its parameters, and how many seeds."""
    attrs = plane.attrs
    given = {name: value for name, value in attrs["parameters"].items() if value is not None}
    parameters = ", ".join(f"{name}={_plain(value)}" for name, value in given.items())
    estimator = f"estimator: {attrs['estimator']}" + (f" ({parameters})" if parameters else "")
    labels = f"p(y|x): {attrs['labels']} labels, I(X;Y) = {float(attrs['I_XY']):.3f} bits"
    details = " · ".join([labels, estimator, seeds])
    return "\n".join(
        line for text in (f"{title} · run {attrs['source_run']}", details) for line in textwrap.wrap(text, _WRAP)
    )


def _plain(value: Any) -> str:
    """Write a parameter, numbers without idle zeros."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def count(number: int, noun: str) -> str:
    """Write "1 seed", "20 seeds"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def typeset(notes: Sequence[str]) -> Callable[[Any, Any], None]:
    """Set the first line of the title as a headline, the others small, and `notes` smaller below the frame.

    Neither backend can vary the type within a title; this is a HoloViews hook that does it in both.
    """
    below = "\n".join(line for note in notes for line in textwrap.wrap(note, _WRAP + 10))

    def hook(plot: Any, _: Any) -> None:
        if plot.renderer.backend == "matplotlib":
            axis = plot.handles["axis"]
            write_title(axis, axis.get_title())
            axis.set_title("")
            axis.annotate(below, (0, 0), (0, -38), size=8, color=GREY, verticalalignment="top", **_OUTSIDE)
            return
        figure = plot.state
        figure.title.text, _, details = figure.title.text.partition("\n")
        if added := [title for title in figure.above if title.name == "details"]:
            added[0].text = details  # the hook runs again for every frame of a HoloMap
            return
        small: dict[str, Any] = {"text_font_style": "normal", "text_line_height": 1.3}
        figure.add_layout(Title(text=details, text_font_size="10pt", text_color=INK, name="details", **small), "above")
        figure.add_layout(Title(text=below, text_font_size="8.5pt", text_color=GREY, **small), "below")

    return hook


_OUTSIDE: dict[str, Any] = {
    "xycoords": "axes fraction",
    "textcoords": "offset points",
    "annotation_clip": False,
    "parse_math": False,
}


def write_title(axis: Any, title: str, lift: float = 6) -> None:
    """Write a headline and the small lines under it `lift` points above a matplotlib axis."""
    headline, _, details = title.partition("\n")
    rows = details.count("\n") + 1 if details else 0
    axis.annotate(details, (0, 1), (0, lift), size=9, color=INK, linespacing=1.3, **_OUTSIDE)
    axis.annotate(headline, (0, 1), (0, lift + 2 + 13 * rows), size=12, weight="bold", color=INK, **_OUTSIDE)


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
