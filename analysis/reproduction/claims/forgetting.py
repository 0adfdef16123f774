"""Whether layers that were trained on little data lose information on the label, and others keep it."""

from ipstore.analysis import dynamics
from ipstore.analysis.reproduction.claims.claim import PAPER, Claim, recipe
from ipstore.analysis.reproduction.evidence import Evidence
from ipstore.analysis.reproduction.verdicts import Finding, above, below, over_seeds

__all__ = ["FORGETTING"]

_LITTLE, _MUCH = 0.05, 0.85
_LOST = 0.05


def _find(evidence: Evidence) -> list[Finding]:
    findings = []
    for run in evidence.runs("fractions"):
        fraction = float(evidence.run(run).attrs["config"]["train_fraction"])
        if fraction not in (_LITTLE, _MUCH):
            continue
        found = dynamics.label_loss(evidence.plane(run))
        lost = found["label_lost"].where(found["loses_label"] != 0, 0.0).where(found["label_lost"].notnull())
        numbers = {str(layer): over_seeds(lost.sel(layer=layer), "bits") for layer in lost["layer"].values}
        most = max(numbers.values(), key=lambda number: number.value)
        holds = above(most, _LOST) if fraction == _LITTLE else below(most, _LOST)
        conditions = {**recipe(evidence.run(run)), "training data": f"{fraction:.0%}"}
        findings.append(Finding(conditions, numbers, holds))
    return findings


FORGETTING = Claim(
    title="With little data, compression loses the label",
    sentence="Trained on 5% of the patterns, layers lose information on the label as they compress; trained on 85%, "
    "they keep it.",
    source=f"{PAPER}, section 3.2 and figure 3",
    measure="Bits of I(T;Y) lost between its highest value and the end of training, of each network and layer; 0 where "
    "that is no more than its noise explains.",
    rule=f"At {_LITTLE:.0%}, the layer that loses most loses more than {_LOST:g} bits; at {_MUCH:.0%}, less.",
    find=_find,
    experiments=("fractions",),
    figures=("fig3", "fig6"),
)
