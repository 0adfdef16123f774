"""A check of estimators: on the beds that each is held to, and against the contract of all."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from unittest import SkipTest

import numpy as np

from ipstore.analysis.estimators.base import Estimator, Kind, Quantity
from ipstore.analysis.estimators.registry import available, get
from ipstore.analysis.testing import truths
from ipstore.analysis.testing.contract import EstimatorContract
from ipstore.analysis.testing.trials import INTERVAL, Trial, Verdict, judge, run, share_held, standard_error
from ipstore.errors import MissingPackageError, ParameterError

__all__ = ["Finding", "check_estimators"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of a check: a quantity on a bed, a promise of the contract, or why there was none.

    Attributes
    ----------
    estimator : str
        As it was asked for, or its name.
    verdict : {"holds", "doubtful", "untested", "breach", "error"}
        See `ipstore.analysis.testing.trials`; "error" is an estimator that raised.
    message : str
        What was expected and what came; empty where there is nothing to say.
    bed : str or None
        Name of the bed; None for the contract.
    promise : str or None
        Name of the quantity; or of the method of the contract that failed, None for its sum.
    kind : {"exact", "lower", "upper", "estimate"} or None
        What is claimed of the quantity.
    truth, estimate, error : float or None
        In bits; the estimate is the mean of the runs, the error its distance from the truth. None if not finite.
    standard_error : float or None
        That the estimator states, in bits, on average over the runs.
    interval : (float, float) or None
        The estimate ± 1.96 of those.
    held : float or None
        Of an estimate, the share of the runs whose own interval held the truth.
    runs : int
        On a population, of an estimator that draws nothing, one tells all.
    seconds : float or None
        Of one run; of the whole contract.
    """

    estimator: str
    verdict: Verdict
    message: str = ""
    bed: str | None = None
    promise: str | None = None
    kind: Kind | None = None
    truth: float | None = None
    estimate: float | None = None
    error: float | None = None
    standard_error: float | None = None
    interval: tuple[float, float] | None = None
    held: float | None = None
    runs: int = 0
    seconds: float | None = None

    @property
    def fails(self) -> bool:
        """Whether a check that found this has failed."""
        return self.verdict in ("breach", "error")


def check_estimators(
    estimators: Iterable[str | Estimator] | None = None,
    *,
    samples: int = 1000,
    repeats: int = 10,
    random_state: int = 0,
    contract: bool = True,
) -> Iterator[Finding]:
    """Check estimators on their known truths and against the contract, one finding after the other.

    An estimator that raises an error is a finding, and the check goes on. One whose package is not installed is
    "untested".

    Parameters
    ----------
    estimators : iterable of str or Estimator, optional
        Of ``ipstore.analysis.estimators.available()``, which is the default, or ``module:object``, or estimators
        themselves.
    samples : int
        Of one run on a bed that is sampled.
    repeats : int
        Runs on each bed where something is drawn. Of 50, an interval that claims 95% and covers 82% is found out
        every second time; of 10, one that covers 55%.
    random_state : int
        Equal ones give equal findings.
    contract : bool
        Whether to hold them to `ipstore.analysis.testing.EstimatorContract` too.

    Yields
    ------
    Finding
        For each estimator the contract first: a line for each promise that is broken, then one for all; then a
        line for each quantity on each bed of its ``truths``.

    Raises
    ------
    ParameterError
        If `samples` is less than 2 or `repeats` less than 1.
    """
    if samples < 2 or repeats < 1:
        given = f"samples={samples}, repeats={repeats}"
        raise ParameterError(f"a check needs samples of 2 or more and repeats of 1 or more but got {given}")
    chosen = available() if estimators is None else tuple(estimators)
    return _check(chosen, samples, repeats, random_state, contract)


def _check(
    chosen: Sequence[str | Estimator], samples: int, repeats: int, random_state: int, contract: bool
) -> Iterator[Finding]:
    for each in chosen:
        name = each if isinstance(each, str) else each.name
        try:
            estimator = get(each) if isinstance(each, str) else each
            if contract:
                yield from _contract(name, each)
            yield from _beds(name, estimator, samples, repeats, random_state)
        except MissingPackageError as error:
            yield Finding(estimator=name, verdict="untested", message=str(error))
        except Exception as error:
            yield Finding(estimator=name, verdict="error", message=_told(error))


def _contract(name: str, estimator: str | Estimator) -> Iterator[Finding]:
    """Hold it to every promise but the known truths, which are tried at length."""
    held = type("Held", (EstimatorContract,), {"estimator": estimator, "test_gives_the_known_truths": None})()
    kept, skipped, start = 0, 0, perf_counter()
    for promise in held.promises():
        try:
            getattr(held, promise)()
            kept += 1
        except MissingPackageError:
            raise
        except SkipTest:
            skipped += 1
        except AssertionError as error:
            yield Finding(estimator=name, verdict="breach", message=str(error), promise=promise)
        except Exception as error:
            yield Finding(estimator=name, verdict="error", message=_told(error), promise=promise)
    broken = len(held.promises()) - kept - skipped
    yield Finding(
        estimator=name,
        verdict="breach" if broken else "holds",
        message=f"{kept} promises kept, {broken} broken, {skipped} do not apply",
        seconds=perf_counter() - start,
    )


def _beds(name: str, estimator: Estimator, samples: int, repeats: int, random_state: int) -> Iterator[Finding]:
    if not estimator.truths:
        yield Finding(estimator=name, verdict="untested", message="declares no bed in `truths`")
    for bed_name in estimator.truths:
        try:
            bed = truths.get(bed_name)
            trial = run(estimator, bed, samples=samples, repeats=repeats, random_state=random_state)
        except MissingPackageError:
            raise
        except Exception as error:
            yield Finding(estimator=name, verdict="error", message=_told(error), bed=bed_name)
            continue
        for quantity in estimator.quantities:
            if quantity.name in bed.truth:
                yield _finding(name, quantity, bed, trial)


def _finding(name: str, quantity: Quantity, bed: truths.Bed, trial: Trial) -> Finding:
    kind, truth, values = trial.kinds[quantity.name], bed.truth[quantity.name], trial.values[quantity.name]
    verdict, message = judge(truth, trial, quantity.name)
    estimate, errors = float(values.mean()), trial.values.get(standard_error(quantity.name))
    stated = None
    if errors is not None and np.isfinite(errors).any() and np.isfinite(estimate):
        stated = float(np.mean(errors[np.isfinite(errors)]))
    return Finding(
        estimator=name,
        verdict=verdict,
        message=message,
        bed=bed.name,
        promise=quantity.name,
        kind=kind,
        truth=truth,
        estimate=estimate if np.isfinite(estimate) else None,
        error=estimate - truth if np.isfinite(estimate) else None,
        standard_error=stated,
        interval=None if stated is None else (estimate - INTERVAL * stated, estimate + INTERVAL * stated),
        held=share_held(truth, trial, quantity.name) if kind == "estimate" else None,
        runs=len(values),
        seconds=trial.seconds,
    )


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
