"""Fitting and compression of a curve of I(X;T), on plain arrays."""

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.dynamics.curve_kernels import (
    NOISE_GATE,
    NOISE_TOLERANCE,
    end_value,
    last_at_least,
    noise_scale,
    passing,
    stays_within,
)

__all__ = ["falls", "phases", "relaxation"]

Curves = NDArray[np.float64]


def falls(curves: Curves, epochs: NDArray[np.float64], *, least: float, stretch: float) -> dict[str, Curves]:
    """Give the peak, the end, the drop between them, the noise, and whether it is a fall (1) or none (0).

    Where the peak lies in the last stretch, whose median is the end, the drop is 0: the curve still rises.
    """
    peak = curves.argmax(axis=1)
    height, end = curves.max(axis=1), end_value(curves, epochs, stretch)
    noise = noise_scale(curves, epochs)
    rising = epochs[peak] >= epochs[-1] - stretch * (epochs[-1] - epochs[0])
    drop = np.where(rising, 0.0, height - end)
    falling = (drop >= least) & (drop >= NOISE_GATE * noise) & (drop > 0)
    return {
        "peak_epoch": epochs[peak],
        "peak": height,
        "end_value": end,
        "drop": drop,
        "noise": noise,
        "falls": falling.astype(np.float64),
    }


def phases(
    curves: Curves, epochs: NDArray[np.float64], *, share: float, least: float, stretch: float
) -> dict[str, Curves]:
    """Measure the phases of I(X;T); see `ipstore.analysis.dynamics.compression`."""
    found = falls(curves, epochs, least=least, stretch=stretch)
    falling = found["falls"] == 1
    drop, tolerance = found["drop"], _tolerance(found, share)
    place = {
        "onset": last_at_least(curves, found["peak"] - tolerance),
        "halfway": last_at_least(curves, found["peak"] - drop / 2),
        "compression_end": stays_within(curves, found["end_value"], tolerance),
    }
    found |= {name: np.where(falling, epochs[at], np.nan) for name, at in place.items()}
    # On a curve that overshoots and comes back the end can be settled only long after, but never before the onset.
    duration = epochs[-1] - epochs[0]
    found["share_after_peak"] = np.where(falling, (epochs[-1] - found["peak_epoch"]) / duration, 0.0)
    found["share_compressing"] = np.where(falling, (found["compression_end"] - found["onset"]) / duration, 0.0)
    later = np.maximum.accumulate(curves[:, ::-1], axis=1)[:, ::-1]
    after = epochs >= found["peak_epoch"][:, None]
    found["regained"] = np.max(later - curves, axis=1, where=after, initial=0.0)
    return found


def relaxation(
    curves: Curves, epochs: NDArray[np.float64], *, share: float, least: float, stretch: float
) -> dict[str, Curves]:
    """Measure how long a fall takes; see `ipstore.analysis.dynamics.relaxation_time`."""
    found = falls(curves, epochs, least=least, stretch=stretch)
    excess = found["drop"] - _tolerance(found, share)
    start = passing(curves, epochs, found["end_value"] + excess)
    stop = passing(curves, epochs, found["end_value"] + excess / np.e)
    fallen = found["falls"] == 1
    return {"relaxation_time": np.where(fallen, stop - start, np.nan), "bits": np.where(fallen, found["drop"], np.nan)}


def _tolerance(found: dict[str, Curves], share: float) -> Curves:
    return np.maximum(share * found["drop"], NOISE_TOLERANCE * found["noise"])
