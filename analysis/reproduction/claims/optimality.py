"""Whether trained layers lie on the bottleneck curve, solve its equations, and end at its critical points."""

from typing import NamedTuple

import numpy as np
import xarray as xr

from ipstore.analysis.ib import point, reduce
from ipstore.analysis.probe import Probe
from ipstore.analysis.reproduction.claims.claim import PAPER, RECIPES, Claim, recipe, recipe_runs
from ipstore.analysis.reproduction.evidence import BETA_MAX, Evidence
from ipstore.analysis.reproduction.verdicts import Finding, Number, all_of, below, over_seeds, typical

__all__ = ["CRITICAL", "OPTIMAL"]

_SHARE = 0.1
"""Of I(X;T): what a layer on the curve may carry too much, and what the equations may leave."""

_NEAR = 0.1
"""Bits of I(X;T) between the points of the curve at two betas that are called near. Betas themselves would mislead: the
curve of the rule goes from 0 to 0.96 bits between 1.005 and 1.06."""


class _Converged(NamedTuple):
    """A layer of one run when training ends."""

    conditions: dict[str, str]
    run: str
    at: xr.Dataset  # (seed)


def _converged(evidence: Evidence) -> list[_Converged]:
    layers = []
    for run in recipe_runs(evidence):
        found = evidence.converged(run)
        conditions = recipe(evidence.run(run))
        layers += [
            _Converged({**conditions, "layer": str(layer)}, run, found.sel(layer=layer))
            for layer in found["layer"].values
        ]
    return layers


def _find_optimal(evidence: Evidence) -> list[Finding]:
    findings = []
    for conditions, _, at in _converged(evidence):
        too_much = over_seeds(at["IB_distance_I_XT"] / at["I_XT"])
        left = over_seeds(at["residual"] / at["I_XT"])
        numbers = {
            "I(X;T)": over_seeds(at["I_XT"], "bits"),
            "right of the curve, at most": over_seeds(at["IB_distance_I_XT"], "bits"),
            "of I(X;T)": too_much,
            "below the curve, at most": over_seeds(at["IB_distance_I_TY"], "bits"),
            "left of the equations, of I(X;T)": left,
        }
        findings.append(Finding(conditions, numbers, all_of(below(too_much, _SHARE), below(left, _SHARE))))
    return findings


def _find_critical(evidence: Evidence) -> list[Finding]:
    findings = []
    for conditions, run, at in _converged(evidence):
        joint, critical = evidence.joint(run), evidence.critical_betas(run)
        along = at["beta"].copy(data=[_along(joint, beta) for beta in at["beta"].values])
        apart = abs(along - critical["I_XT"])
        nearest = critical["beta"].isel(critical=int(apart.mean("seed").argmin("critical")))
        bits = over_seeds(apart.min("critical"), "bits")
        left = over_seeds(at["residual"] / at["I_XT"])
        numbers = {
            "beta*": typical(at["beta"]),
            "nearest critical beta": Number(float(nearest)),
            "between them on the curve": bits,
            "left of the equations, of I(X;T)": left,
        }
        findings.append(Finding(conditions, numbers, all_of(below(bits, _NEAR), below(left, _SHARE))))
    return findings


def _along(joint: Probe, beta: float) -> float:
    """I(X;T) of the curve at a beta, in bits; beyond any that was asked for critical points, that of its end."""
    if np.isnan(beta):
        return np.nan
    return float(point(joint, max(beta, 1.0))["I_XT"]) if beta <= BETA_MAX else float(reduce(joint).H_X)


OPTIMAL = Claim(
    title="Converged layers lie on the information-bottleneck curve",
    sentence="After training, every hidden layer lies on the bottleneck curve of the task or very close to it, and its "
    "encoder and decoder satisfy the self-consistent equations.",
    source=f"{PAPER}, figure 7",
    measure="At the last epoch, of T in 30 bins and labels with I(X;Y) = 0.99 bits: how far a layer lies to the "
    "right of the curve, and the divergence of its encoder from the self-consistent one at its best beta; "
    "both as shares of I(X;T).",
    rule=f"Both shares are less than {_SHARE:g}.",
    find=_find_optimal,
    experiments=RECIPES,
    figures=("fig6", "fig7"),
)

CRITICAL = Claim(
    title="Layers converge near critical points of the curve",
    sentence="The layers end near critical points of the bottleneck curve, the betas at which its optimal T changes "
    "in kind.",
    source=f"{PAPER}, section 3.6 and figure 7",
    measure="At the last epoch, of T in 30 bins: how far, in I(X;T), the curve's point at a layer's beta* lies from "
    f"that at the nearest beta at which the optimal T gains a value, up to beta {BETA_MAX:g}. At beta* the "
    "layer's encoder is nearest to the self-consistent one; it means something only of a layer that nearly "
    "satisfies the equations.",
    rule=f"They lie less than {_NEAR:g} bits apart, and the equations leave less than {_SHARE:g} of I(X;T).",
    find=_find_critical,
    experiments=RECIPES,
    figures=("fig7",),
)
