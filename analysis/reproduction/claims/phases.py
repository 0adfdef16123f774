"""Whether most of training is compression, and begins where the gradients pass from drift to diffusion."""

import numpy as np
import xarray as xr

from ipstore.analysis import dynamics
from ipstore.analysis.reproduction.claims.claim import PAPER, RECIPES, Claim, recipe, recipe_runs
from ipstore.analysis.reproduction.claims.losing import LEAST
from ipstore.analysis.reproduction.evidence import Evidence
from ipstore.analysis.reproduction.verdicts import Finding, Number, above, all_of, below, over_seeds, typical

__all__ = ["MOST", "TRANSITION"]

_FACTOR = 2.0
"""Between two epochs that are said to coincide."""

_ONSETS = {"first fall, 5%": 0.05, "lasting fall, 40%": 0.4}
"""Shares of the drop within which compression has not begun. Layers often lose a bit early, most of which they regain,
and later more for good: a small share finds the one, a large share the other."""


def _compressing(evidence: Evidence, run: str, share: float) -> xr.Dataset:
    """Measure a run's compression and gradients, of the cells (seed, layer) that lose more than `LEAST` bits alone."""
    found = dynamics.measure(evidence.plane(run), evidence.training(run), share=share)
    return found.where((found["compresses"] == 1) & (found["compressed"] > LEAST))


def _typical_of_layers(values: xr.DataArray) -> xr.DataArray:
    """Average epochs or ratios over the layers of each seed, those that have one, by the geometric mean."""
    logarithm = xr.apply_ufunc(np.log, values.where(values > 0))
    return xr.apply_ufunc(np.exp, logarithm.mean("layer"))  # type: ignore[no-any-return]  # it carries no types


def _which(found: xr.Dataset) -> str:
    """Name the layers that compress, each with the number of seeds in which it does."""
    counts = found["compressed"].notnull().sum("seed")
    every = found.sizes["seed"]
    named = [
        str(layer) + ("" if count == every else f" ({count} of {every} seeds)")
        for layer, count in zip(counts["layer"].values, counts.values.tolist(), strict=True)
        if count
    ]
    return f"compressing: {', '.join(named)}" if named else "no layer compresses"


def _find_most(evidence: Evidence) -> list[Finding]:
    findings = []
    for run in recipe_runs(evidence):
        found = _compressing(evidence, run, 0.05)
        last = evidence.last_epoch(run)
        share = over_seeds(((found["compression_end"] - found["onset"]) / found["compression_end"]).mean("layer"))
        numbers = {
            "share of epochs to rest": share,
            "share of all epochs": over_seeds(found["share_compressing"].mean("layer")),
            "after the peak": over_seeds(found["share_after_peak"].mean("layer")),
            "peak": typical(_typical_of_layers(found["peak_epoch"]), "epochs"),
            "onset": typical(_typical_of_layers(found["onset"]), "epochs"),
            "end of compression": typical(_typical_of_layers(found["compression_end"]), "epochs"),
            "trained": Number(last, units="epochs"),
        }
        compresses = bool(found["compressed"].notnull().any())
        findings.append(
            Finding(recipe(evidence.run(run)), numbers, above(share, 0.5) if compresses else False, _which(found))
        )
    return findings


def _find_transition(evidence: Evidence) -> list[Finding]:
    full = [run for run in evidence.runs("batches") if evidence.run(run).attrs["config"]["batch_size"] is None]
    runs = [*recipe_runs(evidence), *full]
    return [_meeting(evidence, run, words, share) for run in runs for words, share in _ONSETS.items()]


def _meeting(evidence: Evidence, run: str, words: str, share: float) -> Finding:
    """Find out whether onset, crossing and change of the error meet in a run."""
    found = _compressing(evidence, run, share)
    training = evidence.training(run)
    onset = _typical_of_layers(found["onset"])
    ratios = {
        "onset by crossing": typical(_typical_of_layers(10 ** found["onset_log_ratio_crossing"])),
        "onset by change of the error": typical(_typical_of_layers(10 ** found["onset_log_ratio_change"])),
    }
    numbers = {
        "crossing": typical(_typical_of_layers(found["crossing"]), "epochs"),
        "change of the error": typical(found["change_point"].max("layer"), "epochs"),
        "onset": typical(onset, "epochs"),
        **ratios,
        "training error at the onset": over_seeds(_error_at(training, onset)),
    }
    conditions = {
        **recipe(evidence.run(run)),
        "batch": _batch(evidence.run(run).attrs["config"]["batch_size"]),
        "onset": words,
    }
    # Without a crossing there is no ratio, and nothing meets.
    meets = [
        all_of(above(ratio, 1 / _FACTOR), below(ratio, _FACTOR)) if ratio.seeds else False for ratio in ratios.values()
    ]
    remark = _which(found)
    if onset.notnull().any() and not found["crossing"].notnull().any():
        remark += "; the gradients never pass to diffusion"
    return Finding(conditions, numbers, all_of(*meets), remark)


def _batch(size: int | None) -> str:
    return "all samples" if size is None else str(size)


def _error_at(training: xr.Dataset, epoch: xr.DataArray) -> xr.DataArray:
    """Give the training error of each seed at the stored epoch nearest to its own; NaN where that is none."""
    error = 1 - training["accuracy"].sel(split="train")
    there = epoch.dropna("seed")
    return error.sel(seed=there["seed"]).sel(epoch=there, method="nearest").reset_coords("epoch", drop=True)


MOST = Claim(
    title="Most epochs go to compression",
    sentence="Fitting the labels takes a short time; most epochs of training are spent compressing the input.",
    source=f"{PAPER}, section 3.2 and figures 2 and 3",
    measure=f"Of layers that lose more than {LEAST:g} bits of I(X;T), binned: from the onset (the last epoch within "
    "5% of the drop from the peak) to the end of compression (the first from which the layer stays within 5% "
    "of its end), as a share of the epochs until that end. Unlike a share of all epochs it does not depend "
    "on when training was stopped. Means over these layers.",
    rule="That share is more than one half; a training in which no layer compresses counts against it.",
    find=_find_most,
    experiments=RECIPES,
    figures=("fig2", "fig3"),
)

TRANSITION = Claim(
    title="Compression begins when the gradients pass from drift to diffusion",
    sentence="Compression begins when the training error has become small and the gradients turn from a drift into a "
    "diffusion: their mean falls below their standard deviation.",
    source=f"{PAPER}, section 3.3 and figure 4",
    measure=f"Of layers that lose more than {LEAST:g} bits, binned: the epoch at which they begin to compress, by the "
    "epoch of their own crossing (the first after the early maximum at which the norm of the mean of the "
    "gradients is less than that of their standard deviation), and by the epoch at which the training loss "
    "bends from falling to flat. Layers often lose a bit early, regain most of it, and lose more for good "
    "later; so the onset is taken twice, as the last epoch within 5% and within 40% of the drop from the "
    "peak. Geometric means over layers and seeds.",
    rule=f"Both ratios lie between 1/{_FACTOR:g} and {_FACTOR:g}; without a crossing nothing meets.",
    find=_find_transition,
    experiments=(*RECIPES, "batches"),
    figures=("fig4",),
)
