"""A lower and an upper bound on the same information, as the band between them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from ipstore.analysis.figures.curves import band, curve, curve_panels, sheet_of_layers
from ipstore.analysis.figures.epochs import EpochScale, log_spaced
from ipstore.analysis.figures.key import Entry
from ipstore.analysis.figures.panels import arrange
from ipstore.analysis.figures.planes import QUANTITIES, finite, load, prepare, without_nan
from ipstore.analysis.figures.wording import estimator, kind, label_words, listed, parameters, plain
from ipstore.errors import ParameterError

__all__ = ["bounds"]

_EPOCHS = 200
_COLOUR = "#21618c"
_FILL = "#a9c6dd"  # the colour at 40% on white, for the key
_ROUNDING = 1e-9
"""Bits by which a lower bound may lie above an upper one without being wrong."""

_WORDS = {"I_XT": "I(X;T)", "I_TY": "I(T;Y)"}


def bounds(first: xr.Dataset, second: xr.Dataset, layers: Sequence[str] | None = None) -> Any:
    """Draw information against the epoch as the band between a lower and an upper bound on it.

    One column per layer, one row per quantity, with a common scale in a row; the edges are the means over the seeds
    that are numbers in both planes.

    Parameters
    ----------
    first, second : Dataset
        The lower and the upper bound, in either order: their variables say which is which (``attrs["kind"]``).
        I_XT, I_TY or both (epoch, seed, layer), in bits, of the same run, epochs, seeds, layers and noise.
    layers : sequence of str, optional
        Which layers; all by default.

    Returns
    -------
    holoviews.Layout
        With options for bokeh and matplotlib.

    Raises
    ------
    ParameterError
        One is not a lower and the other an upper bound, they are not of the same, or are no information planes.
    UnknownNameError
        A layer that the planes do not have.
    """
    given = [prepare(plane, layers, needs=()) for plane in load(first, second)]
    names = [
        name for name in QUANTITIES if {kind(plane, name) for plane in given if name in plane} == {"lower", "upper"}
    ]
    if not names:
        raise ParameterError(_no_bounds(given))
    if len({kind(given[0], name) for name in names}) > 1:
        raise ParameterError(
            f"bounds needs a lower and an upper bound, but {estimator(given[0])} is a lower one of one quantity and an "
            "upper one of the other; give planes with one quantity each"
        )
    lower, upper = sorted(given, key=lambda plane: kind(plane, names[0]))
    _refuse_different(lower, upper)
    left_out = [name for name in QUANTITIES if name in lower and name in upper and name not in names]
    both = xr.concat([lower[names], upper[names]], dim=xr.Variable("bound", ["lower", "upper"]), join="exact")
    both = both.where(finite(both).all("bound")).transpose("bound", "epoch", "seed", "layer")
    if not finite(both).any():
        raise ParameterError("in no cell are both bounds finite; look at the values of each plane by themselves")
    both, seeds, notes = without_nan(both)
    mean = both.mean("seed").assign_attrs(lower.attrs)
    few = mean.isel(epoch=log_spaced(mean["epoch"].values, _EPOCHS))
    ends = {bound: few.sel(bound=bound, drop=True) for bound in ("lower", "upper")}

    def draw(name: str, layer: str, scale: EpochScale) -> Any:
        low, high = (ends[bound][name].sel(layer=layer) for bound in ("lower", "upper"))
        return (
            band(low, high, scale, _COLOUR, alpha=0.4)
            * curve(high, scale, _COLOUR, {"layer": layer, "bound": "upper"})
            * curve(low, scale, _COLOUR, {"layer": layer, "bound": "lower"}, dashed=True)
        )

    shared, (own_lower, own_upper) = _shared(lower, upper)
    noise = f" · {shared}" if shared else ""
    return arrange(
        curve_panels(mean, {name: [few[name]] for name in names}, draw),
        sheet_of_layers([str(name) for name in mean["layer"].values]),
        title=f"Bounds on the information · run {lower.attrs['source_run']}{noise}",
        details=[f"{label_words(lower)} · {seeds}"],
        notes=[
            "Edges: means over seeds." if both.sizes["seed"] > 1 else "Edges: the one seed.",
            *(_gap(mean[name]) for name in names),
            *_crossing(both, names),
            *(
                f"{_WORDS[name]} is not drawn: of it {lower.attrs['estimator']} and {upper.attrs['estimator']} are "
                "not a lower and an upper bound."
                for name in left_out
            ),
            *notes,
        ],
        key=(
            "",
            [
                Entry(f"upper bound: {own_upper}", _COLOUR),
                Entry(f"lower bound: {own_lower}", _COLOUR, dashed=True),
                Entry("between them", _FILL, area=True),
            ],
        ),
    )


def _no_bounds(planes: Sequence[xr.Dataset]) -> str:
    """Say what was given in the place of a lower and an upper bound."""
    words = [
        f"{estimator(plane)} gives "
        + listed([f"{_WORDS[name]} of kind {kind(plane, name) or 'unknown'!r}" for name in QUANTITIES if name in plane])
        for plane in planes
    ]
    return (
        f"bounds needs a lower and an upper bound on the same quantity, but {'; '.join(words)}. Give two planes of "
        "kinds 'lower' and 'upper', such as those of kde_lower and kde_upper"
    )


def _refuse_different(lower: xr.Dataset, upper: xr.Dataset) -> None:
    """Refuse planes that do not bound the same numbers."""
    for name in ("epoch", "seed", "layer"):
        if not np.array_equal(lower[name].values, upper[name].values):
            raise ParameterError(
                f"both bounds must be over the same {name}s, but the lower has {_few(lower[name].values)} and the "
                f"upper {_few(upper[name].values)}; select those that both have"
            )
    for name in ("source_run", "labels", "split", "target"):
        one, other = (plane.attrs.get(name) for plane in (lower, upper))
        if one != other:
            raise ParameterError(
                f"both bounds must be of the same {name}, but the lower is of {one!r}, the upper of {other!r}"
            )
    one, other = (parameters(plane).get("noise") for plane in (lower, upper))
    if one is not None and other is not None and one != other:
        raise ParameterError(
            f"the lower bound is under noise={plain(one)} and the upper under noise={plain(other)}: they bound "
            "different numbers. Ask both with one noise"
        )


def _few(values: Any) -> str:
    shown = [str(value) for value in values]
    return ", ".join(shown) if len(shown) <= 6 else f"{len(shown)} from {shown[0]} to {shown[-1]}"


def _shared(lower: xr.Dataset, upper: xr.Dataset) -> tuple[str, tuple[str, str]]:
    """Write the parameters that both have alike, and each estimator with those that are its own."""
    given = [parameters(plane) for plane in (lower, upper)]
    alike = {name: value for name, value in given[0].items() if name in given[1] and given[1][name] == value}
    own = [
        estimator(plane.assign_attrs(parameters={name: value for name, value in each.items() if name not in alike}))
        for plane, each in zip((lower, upper), given, strict=True)
    ]
    words = ", ".join(f"{name}={plain(value)}" for name, value in alike.items() if value is not None)
    return words, (own[0], own[1])


def _gap(mean: xr.DataArray) -> str:
    """State how far the bounds lie apart, of means (bound, epoch, layer)."""
    gap = mean.sel(bound="upper") - mean.sel(bound="lower")
    last = gap.isel(epoch=-1)
    stated = ", ".join(
        f"{layer} {round(value, 2) + 0.0:.2f}"  # no "-0.00"
        for layer, value in zip(last["layer"].values, last.values, strict=True)
        if np.isfinite(value)
    )
    words = f"{_WORDS[str(mean.name)]}, upper minus lower in bits: at epoch {int(last['epoch'])} {stated or 'none'}"
    if gap.sizes["epoch"] > 1:
        widest = gap.where(gap == gap.max(), drop=True)
        words += (
            f"; widest {float(gap.max()):.2f}, {widest['layer'].values[0]} at epoch {int(widest['epoch'].values[0])}"
        )
    return f"{words}."


def _crossing(both: xr.Dataset, names: Sequence[str]) -> list[str]:
    """Tell where a lower bound lies above the upper one, which none can."""
    notes = []
    for name in names:
        over = both[name].sel(bound="lower") - both[name].sel(bound="upper")
        if wrong := int((over > _ROUNDING).sum()):
            notes.append(
                f"The lower bound on {_WORDS[name]} lies above the upper in {wrong:,} of {over.size:,} cells, by up to "
                f"{float(over.max()):.2g} bits: there these are not bounds on the same number."
            )
    return notes
