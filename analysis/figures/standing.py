"""How layers stand to the bottleneck curve: what the figures of the bound ask of their data, and how they say it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ipstore.analysis.figures.bottleneck import check_curve
from ipstore.analysis.figures.planes import finite, prepare, without_nan
from ipstore.analysis.figures.wording import count
from ipstore.analysis.ib.standing import curve_of
from ipstore.errors import ParameterError

__all__ = ["Standing", "beta_number", "beta_words", "cap_words", "prepare_bound", "seed_quantiles"]

_LAYERS = (
    "I_XT",
    "I_TY",
    "beta",
    "beta_capped",
    "residual",
    "residual_at_0",
    "IB_distance_I_XT",
    "IB_distance_I_TY",
)
_CURVE = ("curve_I_XT", "curve_I_TY", "curve_beta", "curve_gap")
_DETERMINISTIC = ("deterministic_H_T", "deterministic_I_TY")
_ATTRS = ("onset_beta", "curve_error", "certificate")


class Standing(NamedTuple):
    """Layers, and the curves that they are held against.

    Parameters
    ----------
    layers : Dataset
        The quantities of the layers (epoch, seed, layer), in memory; the seeds that are numbers throughout.
    curve : Dataset
        The IB curve, I_XT, I_TY, beta and gap (point).
    deterministic : Dataset
        H_T and I_TY (vertex): the least concave curve over all T that are functions of X.
    seeds : str
        "6 seeds", "5 of 6 seeds".
    notes : list of str
        What was left out.
    """

    layers: xr.Dataset
    curve: xr.Dataset
    deterministic: xr.Dataset
    seeds: str
    notes: list[str]


def prepare_bound(found: Any, layers: Sequence[str] | None = None) -> Standing:
    """Check that `found` holds layers and the curves of their bound, choose layers and load everything.

    Parameters
    ----------
    found : Dataset
        Over (epoch, seed, layer) I_XT, I_TY, beta, beta_capped, residual, residual_at_0 and the distances to the IB
        curve; with that curve (point) and the deterministic one (vertex); may be lazy.
    layers : sequence of str, optional
        Which layers, in this order; all by default.

    Raises
    ------
    ParameterError
        Variables, dimensions or attributes are missing, or no cell is a number.
    UnknownNameError
        A layer that is not there.
    """
    names = [*_LAYERS, *_CURVE, *_DETERMINISTIC]
    if isinstance(found, xr.Dataset):
        if missing := [name for name in names if name not in found]:
            raise ParameterError(
                f"this figure draws layers beside the bottleneck curve, but of what it needs {', '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing; give the bound of a run, as `ipstore bound` has it"
            )
        if missing := [name for name in _ATTRS if name not in found.attrs]:
            raise ParameterError(
                f"the bound lacks the attributes {', '.join(missing)}, which say how exact its curve is. Keep "
                "the attrs (xarray.set_options(keep_attrs=True)) when you compute on it"
            )
        found = found[names].compute()
        there = finite(found[list(_LAYERS)])
        found = found.assign({name: found[name].where(there) for name in _LAYERS})
    plane = prepare(found, layers)
    chosen = found[list(_LAYERS)].sel(layer=plane["layer"]).sortby("epoch").transpose(*plane["I_XT"].dims)
    chosen, seeds, notes = without_nan(chosen.assign_attrs(found.attrs))
    deterministic = xr.Dataset(
        {name.removeprefix("deterministic_"): ("vertex", found[name].values) for name in _DETERMINISTIC}
    )
    return Standing(chosen, check_curve(curve_of(found), plane), deterministic, seeds, notes)


def seed_quantiles(values: xr.DataArray, levels: Sequence[float]) -> xr.DataArray:
    """Give quantiles over seeds that are the values of seeds: between a finite beta and a cap there is no middle.

    Parameters
    ----------
    values : DataArray (..., seed)
    levels : sequence of float

    Returns
    -------
    DataArray (quantile, ...)
        The least value that so large a part of the seeds does not exceed; NaN where a seed is NaN.
    """
    return values.quantile(levels, "seed", method="inverted_cdf", skipna=False)


def beta_number(beta: float) -> str:
    """Write a beta: "0", "1.08", "36.0", "8,271", "10⁶"."""
    if beta == 0:
        return "0"
    power = round(np.log10(beta))
    if power >= 4 and np.isclose(beta, 10.0**power):
        return "10" + str(power).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{beta:,.0f}" if beta >= 100 else f"{beta:#.3g}"


def beta_words(beta: xr.DataArray, capped: xr.DataArray) -> str:
    """Write the median beta* over seeds (seed,), and how many of the seeds have 0 or one beyond the cap."""
    there = beta.notnull()
    beta, over = beta[there], capped[there] > 0
    seeds, none = beta.size, int((beta == 0).sum())
    median = seed_quantiles(beta, [0.5]).item()
    words = []
    if (beyond := int(over.sum())) and median < float(beta[over].min()):
        words.append(f"≥ {beta_number(float(beta[over].min()))} in {beyond} of {seeds}")
    elif beyond and seeds > 1:
        words.append(f"{beyond} of {count(seeds, 'seed')}")
    if none and seeds > 1:
        words.append(f"0 in {none} of {seeds}")
    bracket = f" ({', '.join(words)})" if words else ""
    sign = "≥ " if beyond and median >= float(beta[over].min()) else ""
    return f"β* {sign}{beta_number(median)}{bracket}"


def cap_words(layers: xr.Dataset) -> list[str]:
    """Say what a beta* at the cap means, and one of 0, as far as there are such."""
    notes = []
    capped = layers["beta_capped"] > 0
    if capped.any():
        cap = beta_number(float(layers["beta"].where(capped).min()))
        notes.append(
            f"β* ≥ {cap}: every input already has its nearest decoder, or all but, so that a larger β fits better than "
            "any smaller one."
        )
    if (layers["beta"] == 0).any():
        notes.append("β* = 0: no larger β fits better, as where I(T;Y) = 0 and all decoders are alike.")
    return notes
