"""From drift to diffusion: when the noise of the mini-batch gradients becomes larger than their mean."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.analysis.dynamics.labelled_curves import Meaning, described, measured, variable

__all__ = ["crossing", "signal_to_noise"]

Curves = NDArray[np.float64]

_EXTREME = 700.0
"""Natural logarithm of what counts as an infinite ratio, near the largest number."""

_MEANINGS = {
    "crossing": Meaning(
        "crossing from drift to diffusion",
        "epochs",
        "the first epoch after the early maximum at which the norm of the mean of the gradients is less than the norm "
        "of their standard deviation",
    ),
    "early_maximum": Meaning(
        "early maximum of the ratio",
        "1",
        "the ratio where its largest fall by a factor begins",
    ),
    "early_maximum_epoch": Meaning(
        "epoch of the early maximum of the ratio", "epochs", "the first epoch of the early maximum"
    ),
}


def signal_to_noise(training: xr.Dataset) -> xr.DataArray:
    """Ratio of the norm of the mean to the norm of the standard deviation of the mini-batch gradients.

    Parameters
    ----------
    training : Dataset
        With grad_mean_norm and grad_std_norm (..., epoch, seed, layer); may be lazy. The group ``training`` of a run.

    Returns
    -------
    DataArray (..., epoch, seed, layer)
        In memory. NaN where there is no gradient, as at epoch 0, infinite where there is but one batch.

    Raises
    ------
    ParameterError
        If a variable or dimension is missing.
    """
    mean, deviation = (
        variable(training, name, "epoch", "seed", "layer").astype(np.float64)
        for name in ("grad_mean_norm", "grad_std_norm")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = mean / deviation
    return described(
        ratio,
        Meaning(
            "signal to noise of the gradients",
            "1",
            "the norm of the mean of the mini-batch gradients by the norm of their standard deviation",
        ),
    )


def crossing(training: xr.Dataset) -> xr.Dataset:
    """Find where each layer passes from drift to diffusion.

    The ratio of the two norms is above 1 while the mini-batches agree on where to go (drift), and below it while they
    do not (diffusion). In the first epochs it can be noisy about 1, and when training is over it can exceed 1 again,
    even by more than before: so neither the first value below 1 nor the first after the highest of all is the crossing.
    It is the first after the early maximum, which is where the largest fall of the ratio by a factor begins: of all
    pairs of epochs the one whose ratio is divided most from the earlier to the later. A late rise above it does no harm
    as long as what comes after that does not fall by a larger factor; on networks of the paper the noise of single
    epochs does not. The ratio is taken as it is: smoothed over epochs, the early maximum is lost where it is narrow.

    Parameters
    ----------
    training : Dataset
        With grad_mean_norm and grad_std_norm (..., epoch, seed, layer); may be lazy.

    Returns
    -------
    Dataset
        ``crossing`` and ``early_maximum_epoch`` in epochs, ``early_maximum``; over (..., seed, layer), in memory.
        There is no crossing (NaN) where the ratio does not fall below 1 after its early maximum, as in full-batch
        training, of which it is infinite, nor where that maximum is not above 1. Epochs without a ratio are passed
        over: so a seed that diverged has the crossing that it passed before.

    Raises
    ------
    ParameterError
        If a variable or dimension is missing.

    References
    ----------
    Shwartz-Ziv & Tishby, "Opening the black box of deep neural networks via information", 2017, arXiv:1703.00810,
    section 3.3 and figure 4.
    """
    return measured(signal_to_noise(training), _crossing, _MEANINGS, complete=False)


def _crossing(ratio: Curves, epochs: NDArray[np.float64]) -> dict[str, Curves]:
    known = ~np.isnan(ratio)
    with np.errstate(divide="ignore"):
        log = np.log(np.where(known, ratio, 0.0)).clip(-_EXTREME, _EXTREME)  # finite, for differences
    fall = np.where(known, np.maximum.accumulate(log, axis=1) - log, -1.0)
    at = np.arange(len(epochs))
    before = at <= fall.argmax(axis=1)[:, None]
    value = np.where(known, ratio, -np.inf)
    early = np.where(before, value, -np.inf).argmax(axis=1)
    maximum = np.take_along_axis(value, early[:, None], axis=1)[:, 0]
    below = (value < 1) & known & (at > early[:, None])
    crosses = below.any(axis=1) & (maximum > 1)
    some = known.any(axis=1)
    return {
        "crossing": np.where(crosses, epochs[below.argmax(axis=1)], np.nan),
        "early_maximum": np.where(some, maximum, np.nan),
        "early_maximum_epoch": np.where(some, epochs[early], np.nan),
    }
