"""All that is measured of how training moves through the information plane, in one dataset."""

from collections.abc import Sequence
from typing import Any

import xarray as xr
from numpy.typing import ArrayLike

from ipstore.analysis.dynamics.error import ErrorMeasure, change_point
from ipstore.analysis.dynamics.generalisation import epochs_to
from ipstore.analysis.dynamics.gradients import crossing
from ipstore.analysis.dynamics.labels import label_loss
from ipstore.analysis.dynamics.lags import lag
from ipstore.analysis.dynamics.phases import compression
from ipstore.analysis.dynamics.relaxation import relaxation_law, relaxation_time
from ipstore.analysis.plane import Labels, Split, Target, information_plane
from ipstore.errors import ParameterError

__all__ = ["measure", "measure_run"]


def measure(
    plane: xr.Dataset,
    training: xr.Dataset | None = None,
    *,
    share: float = 0.05,
    least: float = 0.1,
    least_label: float = 0.02,
    stretch: float = 0.1,
    error: ErrorMeasure = "loss",
    accuracy: float = 0.9,
    stays: bool = False,
) -> xr.Dataset:
    """Measure all of this package at once, for every seed and layer.

    Parameters
    ----------
    plane : Dataset
        With I_XT and I_TY, or the one that its estimator gives, (..., epoch, seed, layer) in bits; may be lazy. Further
        dimensions, of a grid or a sweep, stay.
    training : Dataset, optional
        The group ``training`` of the same run. It need not hold everything, nor the same epochs: what is not there is
        left out.
    share, least, stretch : float
        See `compression`; `stretch` is also that of `label_loss` and `change_point`, `share` of the latter.
    least_label : float
        Bits, the `least` of `label_loss`.
    error : {"loss", "error"}
        What the change point is of; see `change_point`.
    accuracy, stays
        See `epochs_to`.

    Returns
    -------
    Dataset
        In memory: what `compression`, `relaxation_time`, `relaxation_law` (of I_XT) and `label_loss` (of I_TY) give;
        of `training`, as far as it is there, what `change_point`, `epochs_to` and `crossing` give. And for the
        onset and for half of the compression, how they lie to the crossing and to the change point (`lag`):
        ``onset_after_crossing``, ``onset_log_ratio_crossing``, ``onset_after_change``, ``onset_log_ratio_change``, and
        the same of ``halfway``. The attributes are those of `plane` and the parameters.

    Raises
    ------
    UnknownNameError, ParameterError
        As the functions do; and if `plane` has neither I_XT nor I_TY.
    """
    given = [name for name in ("I_XT", "I_TY") if name in plane]
    if not given:
        raise ParameterError(
            "dynamics needs a plane with I_XT or I_TY, as information_plane gives it, but got "
            f"{', '.join(map(str, plane.data_vars)) or 'no variables'}"
        )
    held = plane[given].compute()
    parts = []
    if "I_XT" in held:
        times = relaxation_time(held, share=share, least=least, stretch=stretch)
        parts += [compression(held, share=share, least=least, stretch=stretch)]
        parts += [times[["relaxation_time"]], relaxation_law(times)]
    if "I_TY" in held:
        parts += [label_loss(held, least=least_label, stretch=stretch)]
    if training is not None:
        if ("loss" if error == "loss" else "accuracy") in training:
            parts += [change_point(training, error, share=share, stretch=stretch)]
        if "accuracy" in training:
            parts += [epochs_to(training, accuracy, stays=stays)]
        if "grad_mean_norm" in training and "grad_std_norm" in training:
            parts += [crossing(training)]
    found = xr.merge([part.drop_attrs(deep=False) for part in parts], join="inner", combine_attrs="override")
    for start in ("onset", "halfway"):
        for event, name in (("crossing", "crossing"), ("change_point", "change")):
            if start in found and event in found:
                between = lag(found[start], found[event])
                found[f"{start}_after_{name}"] = between["after"]
                found[f"{start}_log_ratio_{name}"] = between["log_ratio"]
    parameters: dict[str, Any] = {"share": share, "least": least, "least_label": least_label, "stretch": stretch}
    parameters |= {"error": error, "accuracy": accuracy, "stays": stays}
    return found.assign_attrs({**plane.attrs, "dynamics": parameters})


def measure_run(
    run: xr.DataTree,
    estimator: str = "binned",
    *,
    layers: Sequence[str] | None = None,
    every: int = 1,
    split: Split = "all",
    target: Target = "labels",
    labels: Labels | ArrayLike = "stored",
    quantities: Sequence[str] | None = None,
    share: float = 0.05,
    least: float = 0.1,
    least_label: float = 0.02,
    stretch: float = 0.1,
    error: ErrorMeasure = "loss",
    accuracy: float = 0.9,
    stays: bool = False,
    **params: Any,
) -> xr.Dataset:
    """Measure the dynamics of a run under an estimator.

    Parameters
    ----------
    run : xarray.DataTree
        As ``ipstore.open(store, run=name)`` gives it.
    estimator : str
    layers, every, split, target, labels, quantities
        See `ipstore.analysis.information_plane`.
    share, least, least_label, stretch, error, accuracy, stays
        See `measure`.
    **params
        Parameters of the estimator. A list is a grid: ``bins=[10, 30]`` makes a leading dimension.

    Returns
    -------
    Dataset
        See `measure`; in memory.

    Raises
    ------
    UnknownNameError, ParameterError, ActivationError
        As `ipstore.analysis.information_plane` and `measure`.
    """
    chosen: dict[str, Any] = {"layers": layers, "every": every, "split": split, "target": target, "labels": labels}
    plane = information_plane(run, estimator, quantities=quantities, **chosen, **params)
    training = run["training"].to_dataset() if "training" in run.children else None
    falls: dict[str, Any] = {"share": share, "least": least, "least_label": least_label, "stretch": stretch}
    return measure(plane, training, error=error, accuracy=accuracy, stays=stays, **falls)
