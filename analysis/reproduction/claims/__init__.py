"""Claims of the paper and objections to them, each with its measure and its rule.

A new one is a `Claim` in a module of its own, and one line in `CLAIMS`.
"""

from ipstore.analysis.reproduction.claims.claim import Claim
from ipstore.analysis.reproduction.claims.depth import DEPTH
from ipstore.analysis.reproduction.claims.forgetting import FORGETTING
from ipstore.analysis.reproduction.claims.objections import OBJECTIONS
from ipstore.analysis.reproduction.claims.optimality import CRITICAL, OPTIMAL
from ipstore.analysis.reproduction.claims.phases import MOST, TRANSITION
from ipstore.analysis.reproduction.claims.relaxation import RELAXATION

__all__ = [
    "CLAIMS",
    "CRITICAL",
    "DEPTH",
    "FORGETTING",
    "MOST",
    "OBJECTIONS",
    "OPTIMAL",
    "RELAXATION",
    "TRANSITION",
    "Claim",
]

CLAIMS: dict[str, Claim] = {
    "most-epochs": MOST,
    "transition": TRANSITION,
    "optimal": OPTIMAL,
    "depth": DEPTH,
    "critical": CRITICAL,
    "relaxation": RELAXATION,
    "forgetting": FORGETTING,
    **OBJECTIONS,
}
"""Claims by name, in the order of the report: those of the paper, then the objections."""
