"""The error of a network in training: when it bends from falling fast to flat, and when it has settled."""

from typing import Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from ipstore.analysis.dynamics.bend_kernels import bend
from ipstore.analysis.dynamics.curve_kernels import NOISE_TOLERANCE, end_value, noise_scale, stays_within
from ipstore.analysis.dynamics.labelled_curves import Meaning, check_share, measured, variable
from ipstore.errors import ParameterError, UnknownNameError

__all__ = ["ErrorMeasure", "Split", "change_point", "of_split"]

ErrorMeasure = Literal["loss", "error"]
"""The loss, or the share of samples that are classified wrongly."""

Split = Literal["train", "test"]

Curves = NDArray[np.float64]

_MEDIAN_OF = 5
"""Captured epochs. Of ten networks of the paper over 300 epochs, thinned to a third of them, 1 moves the change of four
by more than a factor of two, 5 of none."""


def change_point(
    training: xr.Dataset,
    measure: ErrorMeasure = "loss",
    *,
    split: Split = "train",
    share: float = 0.05,
    stretch: float = 0.1,
) -> xr.Dataset:
    """Find where the training error changes from falling fast to flat.

    The change is where the continuous line of two straight parts bends that is nearest to the curve in least squares,
    over epochs themselves, each weighted by the epochs that it stands for: so it depends little on which epochs were
    captured. A running median of five of these goes before, as single epochs at which the loss of stochastic gradient
    descent jumps up would each draw the line; it leaves a curve that only falls as it is.

    Over log epochs the network of the paper has several bends, and which is the largest differs from seed to seed. And
    of its two falls, to a plateau and from there to nothing, the misclassified share bends at either, but the loss
    nearly always at the second, which is why it is the default. A run that is stopped on the plateau, or soon after it,
    gives the first.

    Parameters
    ----------
    training : Dataset
        With loss or accuracy (..., epoch, seed, split), four epochs or more; may be lazy.
    measure : {"loss", "error"}
        The loss, or 1 - accuracy.
    split : {"train", "test"}
    share : float
        Of the fall, in (0, 0.5): how near its end the curve has settled, no nearer than three times its noise.
    stretch : float
        Share of all epochs, in (0, 1), the last of them, whose median is that end.

    Returns
    -------
    Dataset
        Over (..., seed), in memory: ``change_point`` in epochs, not necessarily one that was captured;
        ``change_value``, the height of the bent line there; ``change_explained``, the share of the squared distance
        from the best straight line that the bend takes away; ``settled``, the first epoch from which the curve stays
        near its end. All are NaN for a curve with a NaN, and where a curve does not fall; the first three also where
        it falls ever faster.

    Raises
    ------
    UnknownNameError
        If `measure` or `split` is none.
    ParameterError
        If a variable, a dimension or epochs are missing, or a value is not allowed.

    References
    ----------
    Hudson, "Fitting segmented curves whose join points have to be estimated", JASA 61 (1966).
    """
    if measure not in get_args(ErrorMeasure):
        raise UnknownNameError("measure of the error", measure, get_args(ErrorMeasure))
    check_share("share", share, most=0.5)
    check_share("stretch", stretch)
    curve = of_split(training, "loss" if measure == "loss" else "accuracy", split, epochs=4)
    what = f"{split} {measure}"
    unit = "1" if measure == "error" else str(training["loss"].attrs.get("units", "1"))
    meanings = {
        "change_point": Meaning(
            f"change point of the {what}", "epochs", f"where the bent line nearest to the {what} over epochs bends"
        ),
        "change_value": Meaning(f"{what} at its change point", unit, "the height of the bent line where it bends"),
        "change_explained": Meaning(
            "share explained by the bend", "1", "by how much a bend brings a straight line nearer to the curve, squared"
        ),
        "settled": Meaning(
            f"epoch at which the {what} has settled",
            "epochs",
            f"the first epoch from which the {what} stays within a share of its fall, and 3 times its noise, of its "
            "end",
        ),
    }
    found = measured(curve if measure == "loss" else 1 - curve, _change, meanings, share=share, stretch=stretch)
    return found.assign_attrs(measure=measure, split=split, share=share, stretch=stretch)


def of_split(training: xr.Dataset, name: str, split: Split, *, epochs: int = 1) -> xr.DataArray:
    """Take loss or accuracy of one split, in memory, (..., epoch, seed)."""
    if split not in get_args(Split):
        raise UnknownNameError("split", split, get_args(Split))
    array = variable(training, name, "epoch", "seed", "split", epochs=epochs)
    if split not in (known := [str(one) for one in array["split"].values]):
        raise ParameterError(f"{name} is given of {', '.join(known) or 'no split'} but not of split {split!r}")
    return array.isel(split=known.index(split), drop=True)


def _change(curves: Curves, epochs: NDArray[np.float64], *, share: float, stretch: float) -> dict[str, Curves]:
    end = end_value(curves, epochs, stretch)
    fall = curves[:, 0] - end
    tolerance = np.maximum(share * fall, NOISE_TOLERANCE * noise_scale(curves, epochs))
    falls = fall > tolerance
    smooth = median_filter(curves, size=(1, _MEDIAN_OF), mode="nearest")
    bends = np.array([bend(epochs, curve) for curve in smooth], np.float64).reshape(-1, 3).T
    names = ("change_point", "change_value", "change_explained")
    found = {name: np.where(falls, values, np.nan) for name, values in zip(names, bends, strict=True)}
    found["settled"] = np.where(falls, epochs[stays_within(curves, end, tolerance)], np.nan)
    return found
