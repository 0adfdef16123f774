"""The information bottleneck: its curve with a certificate, and how a layer stands to it."""

from ipstore.analysis.ib.alternating import blahut_arimoto
from ipstore.analysis.ib.closed_forms import gaussian
from ipstore.analysis.ib.consistency import distributions, self_consistency, self_consistent
from ipstore.analysis.ib.critical import critical_betas
from ipstore.analysis.ib.curves import bounds, curve, onset
from ipstore.analysis.ib.joints import joint, reduce, states
from ipstore.analysis.ib.partitions import best_quantiser, deterministic_bounds, deterministic_curve
from ipstore.analysis.ib.points import certify, point
from ipstore.analysis.ib.standing import Curves, curve_of

__all__ = [
    "Curves",
    "best_quantiser",
    "blahut_arimoto",
    "bounds",
    "certify",
    "critical_betas",
    "curve",
    "curve_of",
    "deterministic_bounds",
    "deterministic_curve",
    "distributions",
    "gaussian",
    "joint",
    "onset",
    "point",
    "reduce",
    "self_consistency",
    "self_consistent",
    "states",
]
