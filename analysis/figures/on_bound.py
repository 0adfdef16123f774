"""Layers beside the information-bottleneck curve: the paper's last figure, with the distances that it leaves out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import holoviews as hv
import numpy as np
import xarray as xr
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ipstore.analysis.figures.bars import bar_words, error_bar
from ipstore.analysis.figures.bottleneck import CURVE, CURVE_BAND, curve_line, curve_words, draw_curve
from ipstore.analysis.figures.frame import GREY, I_TY, I_XT, INK, STEP, Limits, layer_colours, reference_lines, styled
from ipstore.analysis.figures.key import Entry
from ipstore.analysis.figures.panels import Panel, Sheet, arrange
from ipstore.analysis.figures.placing import merge, place
from ipstore.analysis.figures.planes import SATURATION, saturated
from ipstore.analysis.figures.standing import Standing, beta_words, cap_words, prepare_bound
from ipstore.analysis.figures.wording import estimator, label_words, listed, saturation_words
from ipstore.analysis.ib.curves import bounds
from ipstore.errors import ParameterError

__all__ = ["bound"]

_WIDTH, _PLANE, _ROW = 5.5, 2.7, 0.33  # inches: of a frame, of the plane in it, of a row of distances under the plane
_DETERMINISTIC = "#c1121f"
_NEAR = 2.0
"""Bits from the curve within which the second panel shows a layer."""


class _Layer(NamedTuple):
    """One layer at the epoch that is drawn."""

    name: str
    colour: str
    seeds: xr.Dataset  # its quantities (seed,)
    I_XT: float
    I_TY: float
    bars: NDArray[np.float64]  # (I_XT and I_TY, low and high)
    right: tuple[float, float]  # mean distance from the curve, in bits of I(X;T): at least, and at most
    below: float  # the same in bits of I(T;Y), at most
    beta: str


def bound(found: xr.Dataset, layers: Sequence[str] | None = None, *, epoch: int | None = None) -> Any:
    """Draw layers beside the information-bottleneck curve, with their distances to it and their beta*.

    A layer is a point at its means over seeds, with error bars in both directions. The first panel is the whole plane
    up to H(X), over one row per layer: the way from the curve to the layer at equal I(T;Y). The second is where the
    curve bends, with the layers that come near it. A layer whose I(T;Y) nearly is I(X;Y) touches the curve from below
    and may yet lie many bits to the right of it.

    Parameters
    ----------
    found : Dataset
        Over (epoch, seed, layer) I_XT, I_TY, beta, beta_capped, IB_distance_I_XT and IB_distance_I_TY, with the IB
        curve (point) and the deterministic curve (vertex), in bits; as the bound of a run is computed.
    layers : sequence of str, optional
        Which layers; all by default.
    epoch : int, optional
        The nearest stored epoch is drawn; the last by default.

    Returns
    -------
    holoviews.Layout
        With options for bokeh and matplotlib.

    Raises
    ------
    ParameterError
        `found` is no bound of a run, or has no number at that epoch.
    UnknownNameError
        A layer that is not there.

    References
    ----------
    Shwartz-Ziv and Tishby 2017, arXiv 1703.00810, the last figure. The curve: Tishby, Pereira and Bialek 1999.
    """
    standing = prepare_bound(found, layers)
    stored = standing.layers["epoch"].values
    at = int(stored[-1] if epoch is None else stored[np.abs(stored - epoch).argmin()])
    now = standing.layers.sel(epoch=[at])
    drawn = _layers(now.isel(epoch=0), standing.curve)
    if not drawn:
        raise ParameterError(f"at epoch {at} no cell is a number; give another epoch, from {stored[0]} to {stored[-1]}")
    whole, rows = _limits(standing, drawn)
    near = _zoom(standing, drawn)
    inside = [one for one in drawn if near[0][0] <= one.I_XT <= near[0][1] and near[1][0] <= one.I_TY <= near[1][1]]
    sheet = Sheet(2, _WIDTH, _PLANE + _ROW * (len(drawn) + 1), above=0.5, beside=0.75)
    size = (_WIDTH / 7, sheet.height / 4.6)
    left = (
        reference_lines(now, (whole[0], (0.0, whole[1][1])))
        * _curves(standing)
        * _floor(whole)
        * _rows(drawn, rows, whole)
        * _points(drawn)
        * _names(drawn, [one.name for one in drawn], whole, standing, size)
    )
    right = (
        reference_lines(now, near, words=False)
        * _curves(standing)
        * _points(inside)
        * _names(inside, [f"{one.name} · {one.beta.partition(' (')[0]}" for one in inside], near, standing, size)
    )
    ticks = [float(tick) for tick in MaxNLocator(5).tick_values(0, now.attrs["I_XY"]) if 0 <= tick <= whole[1][1]]
    axes = {"xlabel": I_XT.pprint_label, "ylabel": I_TY.pprint_label}
    panels = [
        Panel(left, "The whole plane, up to H(X)", whole, x=True, y=True, options={**axes, "yticks": ticks}),
        Panel(right, "Where the curve bends", near, x=True, y=True, options=axes),
    ]
    return arrange(
        panels,
        sheet,
        linked=False,
        title=f"Layers and the information-bottleneck curve · run {now.attrs['source_run']} · epoch {at}",
        details=[" · ".join([label_words(now), f"estimator: {estimator(now)}", standing.seeds])],
        notes=[
            _key(now),
            "Rows: from the curve to the layer; thick as far as is certain, thin as far as the curve's error allows: "
            "where the curve is nearly flat, little I(T;Y) is worth much I(X;T).",
            f"{curve_words(standing.curve)} Deterministic curve: the least concave one over every T that is a function "
            "of X, as a layer in bins is.",
            "β*: the β at which the layer's p(t|x) comes nearest to the self-consistent encoder of its own p(t) and "
            f"p(y|t){'; the median over seeds' if now.sizes['seed'] > 1 else ''}.",
            *cap_words(now),
            *_saturation_note(now),
            *_outside_note(drawn, inside),
            *standing.notes,
        ],
        key=(
            "",
            [
                Entry("IB curve", CURVE),
                Entry("its certified band", CURVE_BAND, area=True),
                Entry("deterministic curve", _DETERMINISTIC, dashed=True),
            ],
        ),
    )


def _layers(now: xr.Dataset, curve: xr.Dataset) -> list[_Layer]:
    """Read the layers (seed, layer) that have a number."""
    achieved = bounds(curve, I_TY=now["I_TY"].clip(max=curve.attrs["I_XY"]))["I_XT_upper"]
    now = now.assign(least=(now["I_XT"] - achieved).clip(0.0, now["IB_distance_I_XT"]))
    names = [str(name) for name in now["layer"].values]
    found = []
    for name, colour in zip(names, layer_colours(len(names)), strict=True):
        seeds = now.sel(layer=name).dropna("seed")
        if not seeds.sizes["seed"]:
            continue
        mean = {key: float(seeds[key].mean()) for key in seeds.data_vars}
        found.append(
            _Layer(
                name,
                colour,
                seeds,
                mean["I_XT"],
                mean["I_TY"],
                np.stack([error_bar(seeds["I_XT"]), error_bar(seeds["I_TY"])]),
                (mean["least"], mean["IB_distance_I_XT"]),
                mean["IB_distance_I_TY"],
                beta_words(seeds["beta"], seeds["beta_capped"]),
            )
        )
    return found


def _key(now: xr.Dataset) -> str:
    seeds = now.sizes["seed"]
    if seeds == 1:
        return "Points: the one seed."
    return (
        f"Large points: means over seeds, with error bars: {bar_words(seeds)}. Small points: single seeds. Rows: means "
        "over seeds."
    )


def _limits(standing: Standing, drawn: Sequence[_Layer]) -> tuple[Limits, list[float]]:
    """Give the limits of the whole plane with room for the rows under it, and the heights of the rows."""
    attrs = standing.layers.attrs
    right = max(float(attrs["H_X"]), *(float(one.seeds["I_XT"].max()) for one in drawn))
    high = max(float(attrs["I_XY"]), *(float(one.seeds["I_TY"].max()) for one in drawn))
    inch = 1.18 * high / _PLANE
    heights = [-inch * _ROW * (k + 1.72) for k in range(len(drawn))]
    return ((-0.03 * right, 1.07 * right), (-inch * _ROW * (len(drawn) + 1), 1.18 * high)), heights


def _zoom(standing: Standing, drawn: Sequence[_Layer]) -> Limits:
    """Give the limits of the part where the curve bends, with the layers that lie near it."""
    near = [one for one in drawn if one.right[1] <= _NEAR] or [min(drawn, key=lambda one: one.right[1])]
    x, y = standing.curve["I_XT"].values, standing.curve["I_TY"].values
    top = float(standing.layers.attrs["I_XY"])
    low = min(float(min(one.seeds["I_TY"].min(), one.bars[1, 0])) for one in near)
    low = max(0.0, min(low, 0.98 * top))
    start = float(np.interp(low, y, x))
    bent = float(np.interp(top - 0.1 * (top - low), y, x))
    end = max(bent, *(float(one.seeds["I_XT"].max()) for one in near))
    width, height = end - start, top - low
    return (start - 0.08 * width, end + 0.18 * width), (low - 0.1 * height, top + 0.12 * height)


def _curves(standing: Standing) -> Any:
    right = float(standing.layers.attrs["H_X"])
    line = curve_line(standing.deterministic["H_T"].values, standing.deterministic["I_TY"].values, right)
    deterministic = styled(
        hv.Curve(line, I_XT, I_TY, group="Deterministic"),
        color=_DETERMINISTIC,
        bokeh={"line_width": 1, "line_dash": "dashed"},
        matplotlib={"linewidth": 0.8, "linestyle": "dashed"},
    )
    return deterministic * draw_curve(standing.curve, right)  # where they are one, the curve is seen


def _floor(box: Limits) -> Any:
    """Draw where the plane ends and the rows begin."""
    (left, right), _ = box
    line = hv.Segments([(left, 0, right, 0)], STEP, group="Floor")
    return styled(line, color=GREY, bokeh={"line_width": 0.8}, matplotlib={"linewidth": 0.6})


def _rows(drawn: Sequence[_Layer], heights: Sequence[float], box: Limits) -> Any:
    """Draw the way from the curve to each layer at equal I(T;Y), and write its length, what is beside it and beta*."""
    (left, right), (bottom, top) = box
    inch = heights[0] - heights[1] if len(heights) > 1 else (top - bottom) * _ROW / (_PLANE + 2 * _ROW)
    elements = []
    texts = [(left + 0.01 * (right - left), -0.48 * inch, "From the curve to the layer, at equal I(T;Y)", GREY)]
    for one, height in zip(drawn, heights, strict=True):
        outer, inner = one.I_XT - one.right[1], one.I_XT - one.right[0]
        ends = [(end, height - 0.12 * inch, end, height + 0.12 * inch) for end in (outer, one.I_XT)]
        for ways, width in (
            ([(outer, height, one.I_XT, height), *ends], 1.0),
            ([(inner, height, one.I_XT, height)], 3.0),
        ):
            elements.append(
                styled(
                    hv.Segments(ways, STEP, group="Distance", label=one.name),
                    color=one.colour,
                    bokeh={"line_width": width},
                    matplotlib={"linewidth": 0.75 * width},
                )
            )
        far = " to ".join(dict.fromkeys(map(_bits, one.right)))
        words = f"{one.name}  {far} bits right of the curve, {_bits(one.below)} below · {one.beta}"
        texts.append((texts[0][0], height + 0.42 * inch, words, INK))
    for colour in (GREY, INK):
        some = [(x, y, words) for x, y, words, its in texts if its == colour]
        elements.append(
            styled(
                hv.Labels(some, [I_XT, I_TY], "text", group="Row"),
                bokeh={
                    "text_color": colour,
                    "text_font_size": "9pt",
                    "text_align": "left",
                    "text_baseline": "middle",
                },
                matplotlib={
                    "color": colour,
                    "size": 8.5,
                    "horizontalalignment": "left",
                    "verticalalignment": "center",
                },
            )
        )
    return hv.Overlay(elements)


def _bits(distance: float) -> str:
    """Write a distance with two digits that say something; none is more exact than the curve."""
    if distance < 1e-4:
        return "< 0.0001"
    return f"{distance:.1f}" if distance >= 0.95 else f"{distance:#.2g}"


def _points(drawn: Sequence[_Layer]) -> Any:
    """Draw single seeds, error bars and means."""
    elements = []
    for one in drawn:
        seeds = one.seeds
        columns = {
            "I_XT": seeds["I_XT"].values,
            "I_TY": seeds["I_TY"].values,
            "layer": np.full(seeds.sizes["seed"], one.name),
            "seed": seeds["seed"].values,
            "beta": seeds["beta"].values,
        }
        elements.append(
            styled(
                hv.Points(columns, [I_XT, I_TY], ["layer", "seed", "beta"], group="Seeds"),
                color=one.colour,
                alpha=0.4,
                bokeh={
                    "size": 5,
                    "line_color": None,
                    "tools": ["hover"],
                    "hover_tooltips": [
                        "layer",
                        "seed",
                        ("I(X;T)", "@I_XT{0.000}"),
                        ("I(T;Y)", "@I_TY{0.0000}"),
                        ("β*", "@beta{0,0.00}"),
                    ],
                },
                matplotlib={"s": 10, "linewidth": 0},
            )
        )
    bars = [
        bar
        for one in drawn
        for bar in (
            (one.bars[0, 0], one.I_TY, one.bars[0, 1], one.I_TY),
            (one.I_XT, one.bars[1, 0], one.I_XT, one.bars[1, 1]),
        )
    ]
    elements.append(
        styled(
            hv.Segments(bars, STEP, group="Interval"), color=INK, bokeh={"line_width": 1.4}, matplotlib={"linewidth": 1}
        )
    )
    elements += [
        styled(
            hv.Points([(one.I_XT, one.I_TY, one.name)], [I_XT, I_TY], "layer", group="Mean"),
            color=one.colour,
            bokeh={"size": 9, "line_color": INK, "line_width": 1},
            matplotlib={"s": 40, "edgecolor": INK, "linewidth": 0.8},
        )
        for one in drawn
    ]
    return hv.Overlay(elements)


def _names(
    drawn: Sequence[_Layer], words: Sequence[str], box: Limits, standing: Standing, size: tuple[float, float]
) -> Any:
    """Write what each layer is called beside it."""
    low, high = np.array(box).T
    points = np.array([(one.I_XT, one.I_TY) for one in drawn]).reshape(-1, 2)
    groups = merge((points - low) / (high - low), words, size)
    line = curve_line(standing.curve["I_XT"].values, standing.curve["I_TY"].values, float(standing.layers.attrs["H_X"]))
    across = np.linspace(low[0], high[0], 300)
    share = np.linspace(0, 1, 30)
    beside, over = np.meshgrid(
        low[0] + 0.24 * share * (high - low)[0], float(standing.layers.attrs["I_XY"]) + 0.04 * share * (high - low)[1]
    )
    ink = np.concatenate(
        [
            np.column_stack([across, np.interp(across, *line.T)]),
            np.column_stack([beside.ravel(), over.ravel()]),  # the name of the reference line
            *(one.seeds[["I_XT", "I_TY"]].to_dataarray().values.T for one in drawn),
            *(np.column_stack([one.bars[0, 0] + share * np.ptp(one.bars[0]), np.full(30, one.I_TY)]) for one in drawn),
            *(np.column_stack([np.full(30, one.I_XT), one.bars[1, 0] + share * np.ptp(one.bars[1])]) for one in drawn),
        ]
    )
    spots = (points[[first for first, _ in groups]] - low) / (high - low)
    centres = place(spots, [name for _, name in groups], (ink - low) / (high - low), size)
    x, y = (centres * (high - low) + low).T
    return styled(
        hv.Labels((x, y, [name for _, name in groups]), [I_XT, I_TY], "text", group="Layer"),
        bokeh={"text_color": INK, "text_font_size": "10pt"},
        matplotlib={"color": INK, "size": 9.5},
    )


def _saturation_note(now: xr.Dataset) -> list[str]:
    full = saturated(now, SATURATION).isel(epoch=0)
    names = [str(name) for name in now["layer"].values[full.values]]
    if not names:
        return []
    return [
        f"Saturated: {saturation_words(now, SATURATION)}, nearly every input in a cell of its own, so that "
        f"distance and β* tell of the resolution and not of the layer: {listed(names)}."
    ]


def _outside_note(drawn: Sequence[_Layer], inside: Sequence[_Layer]) -> list[str]:
    outside = [one.name for one in drawn if one not in inside]
    return [f"Outside the second panel: {listed(outside)}."] if outside else []
