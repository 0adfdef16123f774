"""From findings to a verdict, by one rule for all claims."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
import xarray as xr

from ipstore.analysis.intervals import seed_interval

__all__ = ["RULE", "Finding", "Number", "Verdict", "above", "all_of", "below", "over_seeds", "typical", "verdict"]

RULE = (
    "A finding holds, or fails, where the whole 95% interval over seeds lies on that side of the threshold that the "
    "claim states; else the seeds do not decide it. Supported: every finding that is decided holds. Not supported: "
    "every one fails. Depends on: some hold and some fail; what is named are the fewest conditions in which two "
    "findings of opposite outcome differ. Undecided: nothing is decided. Where findings are left undecided, the "
    "verdict says so."
)

Outcome = bool | None


@dataclass(frozen=True)
class Number:
    """A number that was measured.

    Attributes
    ----------
    value : float
        A mean over seeds; NaN if there is none.
    low, high : float
        Ends of its 95% interval over seeds; NaN if there are too few seeds for one.
    units : str
    seeds : int
        How many seeds it is the mean of.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    units: str = "1"
    seeds: int = 0


@dataclass(frozen=True)
class Finding:
    """What was measured under some conditions, and whether a claim holds there.

    Attributes
    ----------
    conditions : mapping of str to str
        Such as ``{"optimiser": "sgd", "learning rate": "0.2", "layer": "output"}``.
    numbers : mapping of str to Number
    holds : bool or None
        None where the seeds do not decide.
    remark : str
        What else must be said of it.
    """

    conditions: Mapping[str, str]
    numbers: Mapping[str, Number]
    holds: Outcome
    remark: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the findings come to.

    Attributes
    ----------
    word : {"supported", "not supported", "depends", "undecided"}
    on : tuple of str
        The conditions that it depends on.
    whole : bool
        Whether every finding is decided.
    """

    word: Literal["supported", "not supported", "depends", "undecided"]
    on: tuple[str, ...] = ()
    whole: bool = True

    def __str__(self) -> str:
        if self.word == "undecided":
            return self.word
        if self.word != "depends":
            return self.word if self.whole else f"{self.word} where decided"
        return f"depends on {' and '.join(self.on) or 'what was not varied'}"


def verdict(findings: Sequence[Finding]) -> Verdict:
    """Judge a claim by its findings; `RULE` says how.

    Parameters
    ----------
    findings : sequence of Finding

    Returns
    -------
    Verdict
    """
    holding = [finding.conditions for finding in findings if finding.holds is True]
    failing = [finding.conditions for finding in findings if finding.holds is False]
    if not holding and not failing:
        return Verdict("undecided")
    whole = all(finding.holds is not None for finding in findings)
    if not failing:
        return Verdict("supported", whole=whole)
    if not holding:
        return Verdict("not supported", whole=whole)
    apart = {_differing(one, other) for one, other in product(holding, failing)}
    fewest = [names for names in apart if not any(other < names for other in apart)]
    order = [name for finding in findings for name in finding.conditions]
    return Verdict("depends", tuple(sorted(set().union(*fewest), key=order.index)), whole)


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> frozenset[str]:
    return frozenset(name for name in {*one, *other} if one.get(name) != other.get(name))


def over_seeds(values: xr.DataArray, units: str = "1") -> Number:
    """Sum up one value per seed.

    Parameters
    ----------
    values : DataArray (seed)
        NaN is left out, and the number of seeds that count says so.
    units : str

    Returns
    -------
    Number
        The mean and its interval.
    """
    there = values.dropna("seed")
    if not there.size:
        return Number(math.nan, units=units)
    low, high = seed_interval(there).values.tolist()
    return Number(float(there.mean()), low, high, units, there.sizes["seed"])


def typical(values: xr.DataArray, units: str = "1") -> Number:
    """Sum up one positive value per seed by the geometric mean, as becomes epochs and ratios; see `over_seeds`."""
    logarithm: xr.DataArray = xr.apply_ufunc(np.log, values)
    mean = over_seeds(logarithm, units)
    return replace(mean, value=math.exp(mean.value), low=math.exp(mean.low), high=math.exp(mean.high))


def above(number: Number, threshold: float) -> Outcome:
    """Whether a number is more than a threshold: None where its interval, if it has one, lies across."""
    if np.isnan(number.low):
        return None
    return True if number.low > threshold else False if number.high <= threshold else None


def below(number: Number, threshold: float) -> Outcome:
    """Whether a number is less than a threshold: None where its interval, if it has one, lies across."""
    found = above(number, threshold)
    return None if found is None else not found


def all_of(*outcomes: Outcome) -> Outcome:
    """Whether all holds: False if anything fails, None if nothing does and something is not decided."""
    return False if False in outcomes else None if None in outcomes else True
