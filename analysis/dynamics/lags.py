"""How long one event in training comes after another."""

import numpy as np
import xarray as xr

from ipstore.analysis.dynamics.labelled_curves import Meaning, described

__all__ = ["lag"]


def lag(later: xr.DataArray, earlier: xr.DataArray) -> xr.Dataset:
    """Compare two events by the epochs at which they happen.

    Parameters
    ----------
    later, earlier : DataArray
        Epochs, over (seed, layer) or (seed); what they have in common is compared.

    Returns
    -------
    Dataset
        ``after``, epochs from the earlier to the later, negative if it comes first; ``log_ratio``, the logarithm to
        base 10 of the later epoch by the earlier: 1 is ten times as late. Both are NaN where an event does not happen,
        and the ratio also where one happens at epoch 0.
    """
    names = [str(event.attrs.get("long_name", event.name)) for event in (later, earlier)]
    after = later - earlier
    factor = later.where(later > 0) / earlier.where(earlier > 0)
    ratio: xr.DataArray = xr.apply_ufunc(np.log10, factor)
    return xr.Dataset(
        {
            "after": described(after, Meaning(" after ".join(names), "epochs", " minus ".join(names))),
            "log_ratio": described(
                ratio, Meaning(" by ".join(names), "1", f"log10 of the {names[0]} by the {names[1]}")
            ),
        }
    )
