"""The paper reproduced: each figure drawn anew, each claim measured, with a verdict by a stated rule.

All of it is made from a store in which the experiments of `ipstore.trainers.experiments` were captured;
``ipstore reproduce`` captures them, and makes it.
"""

from ipstore.analysis.reproduction.claims import CLAIMS, Claim
from ipstore.analysis.reproduction.effort import seconds_per_cell
from ipstore.analysis.reproduction.evidence import Evidence
from ipstore.analysis.reproduction.paper import PAPER_FIGURES, PaperFigure, draw
from ipstore.analysis.reproduction.report import Picture, as_document, as_page
from ipstore.analysis.reproduction.verdicts import Finding, Number, Verdict, verdict

__all__ = [
    "CLAIMS",
    "PAPER_FIGURES",
    "Claim",
    "Evidence",
    "Finding",
    "Number",
    "PaperFigure",
    "Picture",
    "Verdict",
    "as_document",
    "as_page",
    "draw",
    "seconds_per_cell",
    "verdict",
]
