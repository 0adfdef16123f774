"""Objections: whether compression is one of the layers, or of what was chosen to train and to measure them."""

from ipstore.analysis.reproduction.claims.claim import Claim
from ipstore.analysis.reproduction.claims.losing import MEASURE, RULE, losing
from ipstore.analysis.reproduction.evidence import Evidence
from ipstore.analysis.reproduction.verdicts import Finding

__all__ = ["OBJECTIONS"]

_SAXE = 'Saxe et al., "On the information bottleneck theory of deep learning", ICLR 2018'
_GOLDFELD = 'Goldfeld et al., "Estimating information flow in deep neural networks", ICML 2019, arXiv:1810.05728'

_RANGES = {
    "over [-1, 1]": "binned",
    "over the layer's range": "binned:range=layer",
    "1/15 wide, without end": "binned:width=0.06666666666666667",
}
"""Where 30 bins lie: as in the paper; from the least to the greatest activation of the epoch; at the paper's width."""

_BINS = (5, 10, 30, 100, 300)

_ESTIMATORS = {
    "binned, 30 bins": "binned",
    "rounded to 8 bits": "quantised:bits=8",
    "with noise of variance 0.01, from above": "kde_upper:noise=0.01",
    "with noise of variance 0.01, from below": "kde_lower:noise=0.01",
    "matrix-based Rényi, order 2": "renyi",
}


def _by_activation(evidence: Evidence, experiment: str) -> list[Finding]:
    findings = []
    for run in evidence.runs(experiment):
        activation = str(evidence.run(run).attrs["config"]["activation"])
        for words, plane in zip(_RANGES, evidence.planes(run, list(_RANGES.values())), strict=True):
            findings.append(losing(evidence, run, plane, {"activation": activation, "bins": words}))
    return findings


def _activations(evidence: Evidence) -> list[Finding]:
    return _by_activation(evidence, "activations")


def _resolutions(evidence: Evidence) -> list[Finding]:
    findings = []
    for words, rest in (("over [-1, 1]", ""), ("over the layer's range", ",range=layer")):
        plane = evidence.plane("estimators", f"binned:bins={','.join(map(str, _BINS))}{rest}")
        findings += [
            losing(evidence, "estimators", plane.sel(bins=bins, drop=True), {"bins": str(bins), "they lie": words})
            for bins in _BINS
        ]
    return findings


def _batches(evidence: Evidence) -> list[Finding]:
    findings = []
    for run in evidence.runs("batches"):
        size = evidence.run(run).attrs["config"]["batch_size"]
        batch = "all samples" if size is None else str(size)
        findings.append(losing(evidence, run, evidence.plane(run), {"batch": batch}))
    return findings


def _estimators(evidence: Evidence) -> list[Finding]:
    planes = evidence.planes("estimators", list(_ESTIMATORS.values()))
    kinds = {"lower": "a lower bound", "upper": "an upper bound"}
    return [
        losing(
            evidence, "estimators", plane, {"estimator": words}, kinds.get(kind := plane["I_XT"].attrs["kind"], kind)
        )
        for words, plane in zip(_ESTIMATORS, planes, strict=True)
    ]


def _splits(evidence: Evidence) -> list[Finding]:
    run = "estimators"
    parts = {"all": "all", "train": "those trained on", "test": "those held out"}
    return [
        losing(evidence, run, evidence.plane(run, split=split), {"patterns": words}) for split, words in parts.items()
    ]


def _data(evidence: Evidence) -> list[Finding]:
    digits = _by_activation(evidence, "digits")
    there = {finding.conditions["activation"] for finding in digits}
    rule = [finding for finding in _activations(evidence) if finding.conditions["activation"] in there]
    return [
        Finding({"data": data, **each.conditions}, each.numbers, each.holds, each.remark)
        for data, findings in (("the rule", rule), ("digits", digits))
        for each in findings
    ]


OBJECTIONS = {
    "activation": Claim(
        "Layers compress whatever the activation",
        "Compression comes of activations that saturate, such as tanh; layers of ReLU do not compress.",
        _SAXE,
        MEASURE,
        RULE,
        _activations,
        ("activations",),
        objection=True,
    ),
    "resolution": Claim(
        "Layers compress in bins of any size and place",
        "What falls is how many bins are occupied, which depends on how many there are and where they lie.",
        f"{_SAXE}; {_GOLDFELD}",
        MEASURE,
        RULE,
        _resolutions,
        ("estimators",),
        objection=True,
    ),
    "batches": Claim(
        "Layers compress without the noise of small batches",
        "Networks trained by full-batch gradient descent, which has no diffusion, compress as well.",
        _SAXE,
        MEASURE,
        RULE,
        _batches,
        ("batches",),
        objection=True,
    ),
    "estimator": Claim(
        "Layers compress under any estimator",
        "Compression is an artefact of binning; other estimators show none.",
        _GOLDFELD,
        MEASURE,
        RULE,
        _estimators,
        ("estimators",),
        objection=True,
    ),
    "patterns": Claim(
        "Layers compress patterns that they were not trained on",
        "Information was measured over all patterns, most of which the network was trained on.",
        "a question that the paper leaves open",
        MEASURE,
        RULE,
        _splits,
        ("estimators",),
        objection=True,
    ),
    "data": Claim(
        "Layers compress on other data",
        "The paper's rule is one small task; real data may behave otherwise.",
        "a question that the paper leaves open",
        MEASURE,
        RULE,
        _data,
        ("activations", "digits"),
        objection=True,
    ),
}
