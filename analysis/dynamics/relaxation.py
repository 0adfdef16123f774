"""How long a layer takes to forget, against how much it forgets."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.analysis.dynamics.labelled_curves import Meaning, described, measured, variable
from ipstore.analysis.dynamics.phase_kernels import relaxation
from ipstore.analysis.dynamics.phases import check_fall
from ipstore.errors import ParameterError

__all__ = ["relaxation_law", "relaxation_time"]

_MEANINGS = {
    "relaxation_time": Meaning(
        "relaxation time",
        "epochs",
        "the time in which what I(X;T) has still to lose at the onset of compression falls to 1/e",
    ),
    "bits": Meaning("bits compressed", "bits", "the drop from the peak of I(X;T) to its end; NaN without compression"),
}

_LAW = {
    "relaxation_slope": Meaning(
        "growth of log relaxation time with bits",
        "1/bits",
        "slope of the least-squares line of ln(relaxation time) over bits compressed, through the layers of a seed",
    ),
    "relaxation_rank": Meaning(
        "rank correlation of relaxation time and bits",
        "1",
        "Spearman's rank correlation of relaxation time and bits compressed over the layers of a seed",
    ),
    "relaxation_layers": Meaning("layers that count", "1", "the number of layers of a seed that have relaxation time"),
}

_FEWEST_LAYERS = 3


def relaxation_time(plane: xr.Dataset, *, share: float = 0.05, least: float = 0.1, stretch: float = 0.1) -> xr.Dataset:
    """Measure how long the compression of every layer takes.

    Let the excess be what I(X;T) lies above its end. The relaxation time goes from the onset, where the excess is last
    the drop less the `share`, to where it has fallen to 1/e of that for good; both are read off between the
    epochs on straight lines. So a layer that relaxes exponentially from any epoch on has its time constant, whatever
    the share is. Where a first, partly regained fall precedes the lasting one (`compression`), the time depends on
    which of them the onset lies in; a share of 0.4 begins in the lasting one nearly always.

    Parameters
    ----------
    plane : Dataset
        With I_XT (..., epoch, seed, layer) in bits, three epochs or more; may be lazy.
    share, least, stretch : float
        See `compression`.

    Returns
    -------
    Dataset
        ``relaxation_time`` in epochs and ``bits`` over (..., seed, layer), in memory; NaN where a layer does not
        compress.

    Raises
    ------
    ParameterError
        If a variable, a dimension or epochs are missing, or a value is not allowed.
    """
    check_fall(share, least, stretch)
    curves = variable(plane, "I_XT", "epoch", "seed", "layer", epochs=3)
    found = measured(curves, relaxation, _MEANINGS, share=share, least=least, stretch=stretch)
    return found.assign_attrs(share=share, least=least, stretch=stretch)


def relaxation_law(times: xr.Dataset) -> xr.Dataset:
    """Relate relaxation times to bits over the layers of each seed.

    The paper argues that diffusion takes a time exponential in what it compresses, Δt ~ exp(ΔI). With information in
    nats that is a slope of ln Δt over ΔI of 1, and so ln 2 = 0.693 per bit. If only an exponential of some rate is
    meant, any positive slope agrees; one about 0 or below disagrees. The layers of one network are few and not
    independent: it is the spread over seeds that says how far the slope can be trusted.

    Parameters
    ----------
    times : Dataset
        ``relaxation_time`` and ``bits`` (..., layer), as `relaxation_time` gives them.

    Returns
    -------
    Dataset
        Over the dimensions but ``layer``: ``relaxation_slope`` in 1/bits, ``relaxation_rank`` in [-1, 1], and
        ``relaxation_layers``, how many layers count. With fewer than three, or layers that all have the same bits or
        times, there is no rank correlation, and no slope if they have the same bits.

    Raises
    ------
    ParameterError
        If a variable is missing.

    References
    ----------
    Shwartz-Ziv & Tishby, "Opening the black box of deep neural networks via information", 2017, arXiv:1703.00810,
    section 3.4.
    """
    bits, duration = (_of_layers(times, name) for name in ("bits", "relaxation_time"))
    parts = xr.apply_ufunc(
        _law, bits, duration, input_core_dims=[["layer"], ["layer"]], output_core_dims=[[]] * len(_LAW)
    )
    return xr.Dataset({name: described(part, _LAW[name]) for name, part in zip(_LAW, parts, strict=True)})


def _law(bits: NDArray[np.float64], times: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Slope, rank correlation and number of layers, from arrays (..., layer)."""
    from scipy.stats import rankdata  # half a second to load

    counts = np.isfinite(bits) & np.isfinite(times) & (np.nan_to_num(times) > 0)
    number = counts.sum(axis=-1).astype(np.float64)
    x = np.where(counts, bits, np.nan)
    y = np.log(np.where(counts, times, 1.0))
    slope, _ = _line(np.nan_to_num(x), y, counts)
    ranks = [rankdata(np.where(counts, one, np.nan), axis=-1, nan_policy="omit") for one in (x, y)]
    _, rank = _line(np.nan_to_num(ranks[0]), np.nan_to_num(ranks[1]), counts)
    enough = number >= _FEWEST_LAYERS
    return np.where(enough, slope, np.nan), np.where(enough, rank, np.nan), number


def _line(
    x: NDArray[np.float64], y: NDArray[np.float64], counts: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slope and correlation of y over x along the last axis; NaN where one of them does not vary."""
    number = np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    dx, dy = (np.where(counts, one - np.sum(one, axis=-1, keepdims=True, where=counts) / number, 0.0) for one in (x, y))
    xx, yy, xy = (dx**2).sum(axis=-1), (dy**2).sum(axis=-1), (dx * dy).sum(axis=-1)
    slope = np.divide(xy, xx, out=np.full_like(xx, np.nan), where=xx > 0)
    both = xx * yy
    correlation = np.divide(xy, np.sqrt(both), out=np.full_like(xx, np.nan), where=both > 0)
    return slope, correlation


def _of_layers(times: xr.Dataset, name: str) -> xr.DataArray:
    if name not in times or "layer" not in times[name].dims:
        raise ParameterError(
            f"the law needs {name} over layer, as relaxation_time gives it, but got {', '.join(map(str, times))}"
        )
    return times[name].astype(np.float64)
