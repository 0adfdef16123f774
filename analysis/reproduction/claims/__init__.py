"""Claims of the paper and objections to them, each with its measure and its rule.

A new one is a `Claim` in a module of its own, and one line in `CLAIMS`.
"""

from ipstore.analysis.reproduction.claims.claim import Claim
from ipstore.analysis.reproduction.claims.depth import DEPTH
from ipstore.analysis.reproduction.claims.objections import OBJECTIONS
from ipstore.analysis.reproduction.claims.optimality import CRITICAL, OPTIMAL
from ipstore.analysis.reproduction.claims.phases import MOST, TRANSITION

__all__ = ["CLAIMS", "CRITICAL", "DEPTH", "MOST", "OBJECTIONS", "OPTIMAL", "TRANSITION", "Claim"]

CLAIMS: dict[str, Claim] = {
    "most-epochs": MOST,
    "transition": TRANSITION,
    "optimal": OPTIMAL,
    "depth": DEPTH,
    "critical": CRITICAL,
    **OBJECTIONS,
}
"""Claims by name, in the order of the report: those of the paper, then the objections."""
