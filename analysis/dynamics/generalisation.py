"""How long a network takes to generalise."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.analysis.dynamics.error import Split, of_split
from ipstore.analysis.dynamics.labelled_curves import Meaning, measured
from ipstore.errors import ParameterError

__all__ = ["epochs_to"]


def epochs_to(training: xr.Dataset, accuracy: float = 0.9, *, split: Split = "test", stays: bool = False) -> xr.Dataset:
    """Count the epochs until a network reaches an accuracy.

    Parameters
    ----------
    training : Dataset
        With accuracy (..., epoch, seed, split); may be lazy.
    accuracy : float
        In (0, 1].
    split : {"test", "train"}
    stays : bool
        Count until it is never again less accurate.

    Returns
    -------
    Dataset
        Over (..., seed), in memory: ``epochs_to``, the first epoch at which the accuracy is reached, or from which it
        is kept; NaN if it never is. ``reached`` is 1 or 0: its mean over seeds is the share that counts. An accuracy
        that is NaN is not reached.

    Raises
    ------
    UnknownNameError
        If `split` is none.
    ParameterError
        If the accuracy or a dimension is missing, or `accuracy` lies outside (0, 1].
    """
    if not 0 < accuracy <= 1:
        raise ParameterError(f"accuracy must lie in (0, 1], as a share of samples, but got {accuracy!r}")
    how = "from which no" if stays else "at which the"
    then = f"{split} accuracy is less than {accuracy:g}" if stays else f"{split} accuracy is {accuracy:g} or more"
    goal = f"a {split} accuracy of {accuracy:g}"
    meanings = {
        "epochs_to": Meaning(f"epochs to {goal}", "epochs", f"the first epoch {how} {then}"),
        "reached": Meaning(f"whether {goal} is reached", "1", "1 if it is, otherwise 0"),
    }
    curve = of_split(training, "accuracy", split)
    level = float(np.asarray(accuracy, curve.dtype))  # an accuracy of 0.9 in float32 is a little less
    found = measured(curve, _reaching, meanings, complete=False, level=level, stays=stays)
    return found.assign_attrs(accuracy=accuracy, split=split, stays=stays)


def _reaching(
    curves: NDArray[np.float64], epochs: NDArray[np.float64], *, level: float, stays: bool
) -> dict[str, NDArray[np.float64]]:
    high = curves >= level
    if stays:
        high = np.logical_and.accumulate(high[:, ::-1], axis=1)[:, ::-1]
    reached, first = np.asarray(high.any(axis=1)), np.asarray(high.argmax(axis=1))
    return {"epochs_to": np.where(reached, epochs[first], np.nan), "reached": reached.astype(np.float64)}
