"""Equal bins, exactly: one definition of which bin a value lies in, for capture and for every estimator.

A code is the number of interior edges that are less than or equal to the value, which is what
``numpy.digitize(x, edges[1:-1])`` gives. ``floor((x - low) / width)`` is not: rounding puts values at or beside
an edge into the wrong bin. The kernel below starts from that floor and corrects it by comparing with the
edges themselves, so it is exact and costs about a nanosecond per value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ipstore.errors import ParameterError

__all__ = ["MISSING", "Binning", "thresholds"]

MISSING = 255
"""The code of NaN, and the fill value of code arrays; so at most 255 bins fit a uint8 code."""


def thresholds(edges: ArrayLike, dtype: np.dtype[Any] | type) -> NDArray[Any]:
    """Interior edges rounded up to `dtype`, framed by the infinities.

    For every `x` of that dtype, ``x >= edge`` in exact arithmetic if and only if ``x >= threshold``.

    Parameters
    ----------
    edges : (bins + 1,) float64
        Increasing; the outermost two only say where the bins begin and end.
    dtype : float32 or float64

    Returns
    -------
    (bins + 1,) array of `dtype`
        ``-inf``, the interior thresholds, ``inf``.
    """
    exact = np.asarray(edges, np.float64)
    rounded = exact.astype(dtype)
    below = rounded.astype(np.float64) < exact
    rounded[below] = np.nextafter(rounded[below], rounded.dtype.type(np.inf))
    rounded[0], rounded[-1] = -np.inf, np.inf
    return rounded


@dataclass(frozen=True)
class Binning:
    """Equal bins over a closed range; values outside it fall into the outermost bins.

    Parameters
    ----------
    bins : int
        Number of intervals, 1 to 255.
    range : (float, float)
        Lower and upper end, in units of the activation.
    """

    bins: int = 30
    range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= MISSING:
            raise ParameterError(f"bins must lie in [1, {MISSING}] but got {self.bins}")
        low, high = self.range
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ParameterError(f"range must be two finite numbers, low < high, but got {self.range}")

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the bins, (bins + 1,) float64."""
        return np.linspace(*self.range, self.bins + 1)

    def encode(self, x: NDArray[Any], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Bin codes of `x`.

        Parameters
        ----------
        x : float32 or float64 array, any shape
        out : uint8 array of the same shape, optional
            Where to write the codes; any strides.

        Returns
        -------
        uint8 array of the shape of `x`
            0 to bins - 1; NaN becomes `MISSING`.
        """
        if out is None:
            out = np.empty(x.shape, np.uint8)
        low, high = self.range
        scale = x.dtype.type(self.bins / (high - low))
        _encode_kernel()(x, thresholds(self.edges, x.dtype), x.dtype.type(low), scale, out)
        return out

    def to_attrs(self) -> dict[str, Any]:
        """Give the rule as JSON attributes."""
        return {"rule": "equal", "bins": self.bins, "range": list(self.range)}

    @classmethod
    def from_attrs(cls, attrs: Mapping[str, Any]) -> "Binning":
        """Read the rule back from the attributes that `to_attrs` gave."""
        low, high = attrs["range"]
        return cls(int(attrs["bins"]), (float(low), float(high)))


@cache
def _encode_kernel() -> Any:
    """Compile on first use: importing numba costs half a second that most commands need not pay."""
    import numba

    @numba.guvectorize(
        [
            (numba.float32[:], numba.float32[:], numba.float32, numba.float32, numba.uint8[:]),
            (numba.float64[:], numba.float64[:], numba.float64, numba.float64, numba.uint8[:]),
        ],
        "(n),(b),(),()->(n)",
        nopython=True,
        cache=True,
    )
    def encode(x: Any, threshold: Any, low: Any, scale: Any, out: Any) -> None:
        last = threshold.size - 2
        for i in range(x.size):
            value = x[i]
            if np.isnan(value):
                out[i] = MISSING
                continue
            position = min(max((value - low) * scale, value.dtype.type(0)), value.dtype.type(last))
            code = int(position)
            code += int(value >= threshold[code + 1])
            code -= int(value < threshold[code])
            out[i] = code

    return encode
