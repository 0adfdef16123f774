"""What layers lose of I(X;T) after its peak: the measure on which claims and objections agree."""

from collections.abc import Mapping

import xarray as xr

from ipstore.analysis.dynamics import compression
from ipstore.analysis.reproduction.evidence import LEARNED, Evidence
from ipstore.analysis.reproduction.verdicts import Finding, Number, above, over_seeds

__all__ = ["LEAST", "MEASURE", "RULE", "losing", "lost"]

LEAST = 0.5
"""Bits that a layer has to lose, to be said to compress."""

MEASURE = (
    "Bits of I(X;T) lost between its peak and the end of training, of each network and layer; 0 where that is no "
    f"more than its noise explains. Networks that did not learn, with a training accuracy of {LEARNED:g} or less at "
    "the end, are left out: of a network that has died nothing is left to measure. The share is that of the networks "
    "in which the hidden layer that compresses most often does."
)
RULE = (
    f"There is a hidden layer that loses more than {LEAST:g} bits in most networks. The output does not count: a "
    "softmax saturates, whatever the layers before it do."
)


def lost(plane: xr.Dataset) -> xr.DataArray:
    """Bits that each layer of each network loses, (seed, layer); 0 where it does not compress."""
    found = compression(plane)
    return found["compressed"].where(found["compresses"] != 0, 0.0).where(found["compressed"].notnull())


def losing(evidence: Evidence, run: str, plane: xr.Dataset, conditions: Mapping[str, str], remark: str = "") -> Finding:
    """Find out whether any hidden layer compresses.

    Parameters
    ----------
    evidence : Evidence
    run : str
        Whose networks these are.
    plane : Dataset
        I_XT (epoch, seed, layer) of that run.
    conditions : mapping of str to str
    remark : str

    Returns
    -------
    Finding
        It holds if there is a hidden layer that loses more than `LEAST` bits in more than half of the networks, and
        fails if there is none.
    """
    learned = evidence.learned(run)
    bits = lost(plane).sel(seed=learned)
    numbers: dict[str, Number] = {
        str(layer): over_seeds(bits.sel(layer=layer), "bits") for layer in plane["layer"].values
    }
    compressing = (bits > LEAST).astype(float).where(bits.notnull())
    hidden = [over_seeds(compressing.sel(layer=layer)) for layer in numbers if layer != "output"]
    outcomes = [above(share, 0.5) for share in hidden]
    holds = True if True in outcomes else None if None in outcomes else False
    most = {"share of networks": max(hidden, key=lambda share: share.value)}
    every = plane.sizes["seed"]
    dead = f"{every - len(learned)} of {every} networks did not learn" if len(learned) < every else ""
    return Finding(conditions, most | numbers, holds, "; ".join(filter(None, [remark, dead])))
