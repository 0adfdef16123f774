"""A claim: what is said, how it is measured, and by which rule a finding holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import xarray as xr

from ipstore.analysis.reproduction.evidence import Evidence
from ipstore.analysis.reproduction.verdicts import Finding

__all__ = ["PAPER", "RECIPES", "Claim", "recipe", "recipe_runs"]

PAPER = "Shwartz-Ziv & Tishby 2017, arXiv:1703.00810"


RECIPES = ("networks", "rates")
"""Experiments that train the paper's network under other recipes each."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, or an objection to it, and how it is put to the test.

    Attributes
    ----------
    title : str
        In a few words.
    sentence : str
        What is said.
    source : str
        Who says so, and where.
    measure : str
        What is measured of each network.
    rule : str
        When a finding holds.
    find : callable
        From the evidence to the findings.
    experiments : sequence of str
        Those whose runs `find` reads.
    figures : sequence of str
        Figures that show it, by their names.
    objection : bool
        Whether it is an objection, or what an objection is about.
    """

    title: str
    sentence: str
    source: str
    measure: str
    rule: str
    find: Callable[[Evidence], list[Finding]]
    experiments: Sequence[str]
    figures: Sequence[str] = ()
    objection: bool = False


def recipe(run: xr.DataTree) -> dict[str, str]:
    """Say how a run was trained, as conditions of a finding."""
    config = run.attrs["config"]
    return {"optimiser": str(config["optimizer"]), "learning rate": f"{config['learning_rate']:g}"}


def recipe_runs(evidence: Evidence) -> list[str]:
    """Name the runs of `RECIPES`."""
    return [run for experiment in RECIPES for run in evidence.runs(experiment)]
