"""Whether the time a layer takes to compress is exponential in the bits it compresses."""

from math import log

from ipstore.analysis import dynamics
from ipstore.analysis.reproduction.claims.claim import PAPER, RECIPES, Claim, recipe, recipe_runs
from ipstore.analysis.reproduction.evidence import Evidence
from ipstore.analysis.reproduction.verdicts import Finding, above, all_of, below, over_seeds

__all__ = ["RELAXATION"]

_SHARE = 0.4
_SLOPE = log(2)
_FACTOR = 2.0


def _find(evidence: Evidence) -> list[Finding]:
    findings = []
    for run in recipe_runs(evidence):
        times = dynamics.relaxation_time(evidence.plane(run), share=_SHARE)
        law = dynamics.relaxation_law(times)
        slope = over_seeds(law["relaxation_slope"])
        numbers = {
            "slope for each bit": slope,
            "rank correlation": over_seeds(law["relaxation_rank"]),
            "layers": over_seeds(law["relaxation_layers"]),
        }
        holds = all_of(above(slope, _SLOPE / _FACTOR), below(slope, _SLOPE * _FACTOR))
        remark = "" if slope.seeds else "no network has three layers that compress"
        findings.append(Finding(recipe(evidence.run(run)), numbers, holds, remark))
    return findings


RELAXATION = Claim(
    title="Compression takes a time exponential in its bits",
    sentence="The time a layer takes to compress by diffusion grows exponentially with the bits it compresses, which "
    "is why more layers, each with fewer bits to lose, are faster.",
    source=f"{PAPER}, section 3.4",
    measure="The epochs in which what a layer has to lose at its onset (the last epoch within 40% of the drop from "
    "the peak) falls to 1/e, and how their logarithm grows with the bits compressed: the slope through the "
    "layers of a network.",
    rule=f"The slope lies within a factor of {_FACTOR:g} of ln 2 = {_SLOPE:.2f} for each bit.",
    find=_find,
    experiments=RECIPES,
    figures=("fig5",),
)
