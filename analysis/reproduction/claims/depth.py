"""Whether more hidden layers shorten training."""

import numpy as np
import xarray as xr

from ipstore.analysis import dynamics
from ipstore.analysis.reproduction.claims.claim import PAPER, Claim, recipe
from ipstore.analysis.reproduction.evidence import Evidence
from ipstore.analysis.reproduction.verdicts import Finding, above, over_seeds, typical

__all__ = ["DEPTH"]

_ACCURACY = 0.9
_SHALLOW, _DEEP = 1, 5
_FEWER = 2.0


def _find(evidence: Evidence) -> list[Finding]:
    findings = []
    for experiment in ("depths", "depths-sgd"):
        epochs: dict[int, xr.DataArray] = {}
        remarks = []
        for run in evidence.runs(experiment):
            tree = evidence.run(run)
            depth, last = len(tree.attrs["config"]["hidden"]), evidence.last_epoch(run)
            reached = dynamics.epochs_to(evidence.training(run), _ACCURACY)["epochs_to"]
            epochs[depth] = reached.fillna(last)
            if never := int(reached.isnull().sum()):
                remarks.append(
                    f"{depth} hidden: {never} of {reached.sizes['seed']} not within {last:,.0f} epochs, counted as that"
                )
        ratio = typical(epochs[_SHALLOW] / epochs[_DEEP])
        numbers = {
            f"{_SHALLOW} by {_DEEP} hidden layers": ratio,
            **{f"{depth} hidden": typical(values, "epochs") for depth, values in epochs.items()},
            "rank correlation with depth": over_seeds(_rank(epochs)),
        }
        findings.append(Finding(recipe(tree), numbers, above(ratio, _FEWER), "; ".join(remarks)))
    return findings


def _rank(epochs: dict[int, xr.DataArray]) -> xr.DataArray:
    """Rank correlation, for each seed, of the number of hidden layers and the epochs it takes."""
    from scipy.stats import spearmanr

    joined = xr.concat(list(epochs.values()), xr.Variable("depth", list(epochs)), join="inner")
    joined = joined.where((joined != joined.isel(depth=0)).any("depth"))  # of equal numbers there is no rank

    def rank(values: np.ndarray) -> np.ndarray:
        rows = values.reshape(-1, values.shape[-1])
        found = [spearmanr(joined["depth"], row).statistic if np.isfinite(row).all() else np.nan for row in rows]
        return np.array(found).reshape(values.shape[:-1])

    correlation: xr.DataArray = xr.apply_ufunc(rank, joined, input_core_dims=[["depth"]])
    return correlation


DEPTH = Claim(
    title="More hidden layers, far fewer epochs",
    sentence="Additional hidden layers dramatically reduce the number of epochs that good generalisation takes.",
    source=f"{PAPER}, section 3.4 and figure 5",
    measure=f"Epochs until the test accuracy is {_ACCURACY:g} or more, of networks with 1 to 6 hidden layers: those of "
    f"networks with {_SHALLOW} by those with {_DEEP}, seed by seed; geometric means.",
    rule=f"{_SHALLOW} hidden layer takes more than {_FEWER:g} times as many epochs as {_DEEP}.",
    find=_find,
    experiments=("depths", "depths-sgd"),
    figures=("fig5",),
)
