"""The information-bottleneck curve in the plane: the line of what is achieved, in the band of what is proven."""

from typing import Any

import holoviews as hv
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.analysis.figures.frame import I_TY, I_XT, styled
from ipstore.analysis.ib.curves import bounds
from ipstore.errors import ParameterError

__all__ = ["CURVE", "CURVE_BAND", "check_curve", "curve_line", "curve_words", "draw_curve", "under"]

CURVE = "#1d3557"
CURVE_BAND = "#a8c0d8"

_VARIABLES = ("I_XT", "I_TY", "beta", "gap")
_ATTRS = ("I_XY", "error", "certificate")
_TOLERANCE = 1e-6  # bits of I(X;Y): two p(y|x) that differ by less differ by rounding
_STEPS = 600


def check_curve(curve: Any, plane: xr.Dataset) -> xr.Dataset:
    """Check that `curve` is an information-bottleneck curve of the p(y|x) that `plane` refers to.

    Parameters
    ----------
    curve : Dataset
        I_XT, I_TY, beta and gap (point), as `ipstore.analysis.ib.curve` gives them, with its attrs.
    plane : Dataset
        As `prepare` gives it.

    Returns
    -------
    Dataset
        `curve`.

    Raises
    ------
    ParameterError
        It is no such curve, or one of another p(y|x): a layer can lie above a curve that is not its own.
    """
    if not isinstance(curve, xr.Dataset):
        raise ParameterError(
            f"bound must be a curve as ipstore.analysis.ib.curve gives it, not a {type(curve).__name__}"
        )
    missing = [f"{name} (point)" for name in _VARIABLES if name not in curve or curve[name].dims != ("point",)]
    missing += [f"attrs[{name!r}]" for name in _ATTRS if name not in curve.attrs]
    if missing:
        raise ParameterError(
            f"bound must be a curve as ipstore.analysis.ib.curve gives it, but it lacks {', '.join(missing)}"
        )
    if "I_XY" not in plane.attrs:
        raise ParameterError(
            "there is no bound where Y is the network's own answer: every cell has a p(y|x) of its own. Draw the plane "
            "of the labels (target='labels')"
        )
    own, its = float(plane.attrs["I_XY"]), float(curve.attrs["I_XY"])
    if not abs(own - its) <= _TOLERANCE:
        raise ParameterError(
            f"the curve is of labels with I(X;Y) = {its:.6f} bits but the plane of labels with {own:.6f}; the same "
            "p(y|x) must serve both, else layers can seem to lie above the curve. Give the plane's own curve"
        )
    return curve


def curve_line(I_XT: NDArray[np.float64], I_TY: NDArray[np.float64], right: float) -> NDArray[np.float64]:
    """Give the corners of a concave curve, (corner, 2) float64, that stays flat from its last one to `right`."""
    corners = np.column_stack([I_XT, I_TY])
    return np.vstack([corners, [max(right, corners[-1, 0]), corners[-1, 1]]])


def _band(curve: xr.Dataset, right: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Give I(X;T), and the I(T;Y) between which the curve is proven to lie."""
    x = curve["I_XT"].values
    at = np.unique(np.concatenate([x, np.linspace(0, x[-1], _STEPS), [max(right, x[-1])]]))
    between = bounds(curve, I_XT=at)
    return at, between["I_TY_lower"].values, between["I_TY_upper"].values


def draw_curve(curve: xr.Dataset, right: float) -> Any:
    """Draw the curve from the origin to `right`, in its band.

    Parameters
    ----------
    curve : Dataset
        As `check_curve` lets it pass.
    right : float
        Bits of I(X;T) up to which it is drawn; behind its last point it is flat.

    Returns
    -------
    holoviews.Overlay
    """
    at, lower, upper = _band(curve, right)
    area = styled(
        hv.Area((at, lower, upper), I_XT, [I_TY, "I_TY_upper"], group="Band"),
        color=CURVE_BAND,
        bokeh={"line_width": 0},
        matplotlib={"facecolor": CURVE_BAND, "linewidth": 0},
    )
    line = hv.Curve(curve_line(curve["I_XT"].values, curve["I_TY"].values, right), I_XT, I_TY, group="Bottleneck")
    return area * styled(line, color=CURVE, bokeh={"line_width": 1.6}, matplotlib={"linewidth": 1.2})


def curve_words(curve: xr.Dataset) -> str:
    """Say how far the curve can be off, and whether that is proven."""
    error = f"at most {float(curve.attrs['error']):.1g} bits"
    if curve.attrs["certificate"] == "rigorous":
        return (
            "IB curve: no T made from X alone lies above it. The line is achieved, and the band reaches up to what is "
            f"proven, {error} higher."
        )
    return (
        f"IB curve: the most I(T;Y) that was found at each I(X;T). The band, {error} high, rests on a search from many "
        "starts and is no proof."
    )


def under(bound: xr.Dataset | None, plane: xr.Dataset) -> tuple[Any, list[str]]:
    """Give what lies under a plane, the curve in its band, and the note that says so; nothing, if there is no curve."""
    if bound is None:
        return hv.Overlay([]), []
    curve = check_curve(bound, plane)
    return draw_curve(curve, float(plane.attrs["H_X"])), [curve_words(curve)]
