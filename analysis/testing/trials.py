"""Runs of an estimator on a bed, and what they say about each quantity: the rules of both the contract and the check.

What an estimator claims is its kind, and the truth is a number, so:

exact
    Every run lies within 1e-9 bits of the truth.
lower, upper
    The mean of the runs lies on its side of the truth, to within 1e-6 bits and an allowance for chance.
estimate that states a standard error
    The interval estimate ± 1.96 standard errors holds the truth in so many of the runs that state it that an
    interval of true coverage 95% would do worse at least once in a thousand times.
estimate that states none
    The mean of the runs lies within 1e-6 bits and the same allowance for chance of the truth.

The allowance is what is due to the draw, of the samples or of the estimator's own random numbers. Of two runs or
more it is the larger of 3 standard deviations of a run, which leaves room for the bias of order 1/n that a few
samples bring into a bound on their population, and of the 1e-3 quantile of Student's t for the mean, as few runs
tell their deviation badly. Of one run it is 3 standard errors, if it states any; if not, there is none where
nothing is drawn (a population, and an estimator without ``random_state``), and elsewhere nothing can be said of a
run on the wrong side.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan, sqrt
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.base import Estimator, Kind
from ipstore.analysis.testing.truths import Bed

__all__ = ["Trial", "Verdict", "judge", "run", "share_held", "standard_error"]

Verdict = Literal["holds", "doubtful", "untested", "breach", "error"]
"""Whether a claim was kept: ``doubtful`` is what chance could still explain, ``untested`` what nothing was claimed
of or could be told of, ``error`` what raised."""

EXACT = 1e-9
"""Bits within which an exact estimator gives the truth of a population."""

SIDE = 1e-6
"""Bits by which a bound may pass the truth, for arithmetic in float32."""

INTERVAL = 1.96
"""Standard errors on either side of an estimate that hold the truth 95 times in 100."""

_RARE = 1e-3
"""Probability below which chance is no explanation."""

_GOOD = 0.9
"""Share of the intervals that must hold the truth to be beyond doubt."""


@dataclass(frozen=True, eq=False)
class Trial:
    """What an estimator gave on a bed.

    Attributes
    ----------
    values : mapping of str to (run,) float64
        Each quantity, in bits.
    kinds : mapping of str to {"exact", "lower", "upper", "estimate"}
        What each is under the parameters that were used.
    drawn : bool
        Whether the runs differ by chance: in the samples, or in the estimator's own random numbers.
    seconds : float
        Of one run, on average.
    """

    values: Mapping[str, NDArray[np.float64]]
    kinds: Mapping[str, Kind]
    drawn: bool
    seconds: float


def standard_error(quantity: str) -> str:
    """Name of the quantity that states the standard error of `quantity`."""
    return f"{quantity}_se"


def run(
    estimator: Estimator,
    bed: Bed,
    *,
    samples: int,
    repeats: int,
    random_state: int,
    params: Mapping[str, Any] | None = None,
) -> Trial:
    """Run an estimator on a bed, each time on new samples and with new random numbers of its own.

    Parameters
    ----------
    estimator : Estimator
    bed : Bed
    samples : int
        Of each run, on a bed that is sampled.
    repeats : int
        Number of runs; where nothing is drawn, one is run.
    random_state : int
        Equal ones give equal trials.
    params : mapping, optional
        Of the estimator; by default those of its ``truths``. A ``random_state`` among them holds for every run.

    Raises
    ------
    Exception
        Whatever the estimator raises.
    """
    given = dict(estimator.truths.get(bed.name, {}) if params is None else params)
    reseeds = "random_state" in estimator.defaults and "random_state" not in given
    drawn = not bed.population or reseeds
    gave = []
    start = perf_counter()
    for repeat in range(repeats if drawn else 1):
        data = bed.draw(samples, np.random.SeedSequence([random_state, repeat]))
        probe = bed.probe(data)
        own = {"random_state": random_state + repeat} if reseeds else {}
        settled = estimator.resolve(given | own, probe)
        gave.append(estimator.apply(data.t, probe.arguments, settled))
    seconds = (perf_counter() - start) / len(gave)
    kinds = {quantity.name: estimator.kind_of(quantity, settled) for quantity in estimator.quantities}
    return Trial({name: np.array([float(each[name]) for each in gave]) for name in kinds}, kinds, drawn, seconds)


def share_held(truth: float, trial: Trial, quantity: str) -> float | None:
    """Share of the runs that state an interval whose interval holds the truth; None if none states one."""
    errors = trial.values.get(standard_error(quantity))
    if errors is None or np.isnan(errors).all():
        return None
    stated = ~np.isnan(errors)
    off = abs(trial.values[quantity][stated] - truth)
    return float(np.mean(off <= INTERVAL * errors[stated] + SIDE))


def judge(truth: float, trial: Trial, quantity: str) -> tuple[Verdict, str]:
    """Say whether a trial keeps what the kind of a quantity claims; the rules stand at the head of this module.

    Parameters
    ----------
    truth : float
        In bits.
    trial : Trial
    quantity : str

    Returns
    -------
    verdict : Verdict
    reason : str
        What was expected and what came; empty where it holds.
    """
    kind, values, errors = trial.kinds[quantity], trial.values[quantity], trial.values.get(standard_error(quantity))
    if errors is not None and np.isnan(errors).all():
        errors = None
    if np.isnan(values).any() or (errors is not None and np.any(errors < 0)):
        return "breach", f"gave {quantity} = {values}{'' if errors is None else f' with standard errors {errors}'}"
    if kind == "exact":
        worst = values[np.argmax(abs(values - truth))]
        return _verdict(abs(worst - truth) <= EXACT, f"within {EXACT:g} bits of {truth:.9f}", worst)
    if kind == "estimate" and (share := share_held(truth, trial, quantity)) is not None:
        return _coverage(truth, share, int(np.count_nonzero(~np.isnan(trial.values[standard_error(quantity)]))))
    error, allowance = float(values.mean()) - truth, _allowance(trial, values, errors)
    over = {"lower": error, "upper": -error, "estimate": abs(error)}[kind]
    side = {"lower": "at most", "upper": "at least", "estimate": "about"}[kind]
    if np.isnan(allowance):
        if kind != "estimate" and over <= SIDE:
            return "holds", ""
        return "untested", "one run with no standard error says nothing of chance; give repeats of 2 or more"
    return _verdict(
        over <= SIDE + allowance, f"{side} {truth:.9f}, allowing {SIDE + allowance:.2g}, in bits", values.mean()
    )


def _verdict(holds: bool, expected: str, came: float) -> tuple[Verdict, str]:
    return ("holds", "") if holds else ("breach", f"expected {expected}; got {came:.9f}")


def _coverage(truth: float, share: float, runs: int) -> tuple[Verdict, str]:
    from scipy.stats import binom

    held = round(share * runs)
    reason = f"the interval of ± {INTERVAL} standard errors held {truth:.9f} bits in {held} of {runs} runs"
    if binom.cdf(held, runs, 0.95) < _RARE:
        return "breach", f"{reason}; 95% of them should, and chance does not do that once in {1 / _RARE:.0f} times"
    return ("holds", "") if share >= _GOOD else ("doubtful", f"{reason}, which chance could do")


def _allowance(trial: Trial, values: NDArray[np.float64], errors: NDArray[np.float64] | None) -> float:
    """Bits that chance explains; NaN if nothing tells."""
    from scipy.stats import t as student

    if len(values) == 1 and errors is not None:
        return 3 * float(errors[0])
    if not trial.drawn:
        return 0.0
    if len(values) == 1 or not np.isfinite(values).all():
        return nan
    few = float(student.isf(_RARE, len(values) - 1)) / sqrt(len(values))
    return float(values.std(ddof=1)) * max(3.0, few)
