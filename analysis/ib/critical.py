"""Critical points of the information-bottleneck curve: the betas at which the optimal T gains a value."""

from functools import cache
from itertools import pairwise
from math import ceil, exp, log

import numpy as np
import xarray as xr

from ipstore.analysis.ib.curves import onset
from ipstore.analysis.ib.joints import reduce
from ipstore.analysis.ib.points import check_beta, point
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError

__all__ = ["critical_betas"]

_PER_DECADE = 24


def critical_betas(joint: Probe, beta_max: float = 1000.0, *, rtol: float = 1e-5, random_state: int = 0) -> xr.Dataset:
    """Find where, as beta grows, the T that is best gains a value: the curve's phase transitions.

    At the onset a constant T gives way to one of two values or more; later values split, or new ones appear. Betas are
    solved 24 to a factor of ten, and where two neighbours differ in their number of values, the place between them is
    narrowed by halves. A value that is gained and lost again between two neighbours goes unseen.

    Parameters
    ----------
    joint : Probe
        See `ipstore.analysis.ib.joint`.
    beta_max : float
        Where to stop, 1 or more: with ever larger beta every distinct p(y|x) gets a value of its own.
    rtol : float
        To which each beta is known, relative to itself, in [1e-9, 0.1].
    random_state : int
        Of the starts of the search if there are more than two classes.

    Returns
    -------
    xarray.Dataset
        Over ``critical``, ascending: ``beta``, the largest found with the smaller number of values, and ``beta_upper``,
        the smallest with the larger; ``n_below`` and ``n_above``, those numbers; and at `beta_upper` ``I_XT`` and
        ``I_TY`` in bits. Empty if the curve begins beyond `beta_max`.

    Raises
    ------
    ParameterError
        If `beta_max` is not a finite number of at least 1, `rtol` lies outside what is allowed, or Y is independent of
        X.

    Notes
    -----
    Values of T whose decoders agree within what the solver can tell count as one, so that a value which splits into two
    that part slowly is seen a little late.

    References
    ----------
    Parker, Gedeon & Dimitrov, "Annealing and the rate distortion problem", NIPS 2002; Wu & Fischer, "Phase transitions
    for the information bottleneck in representation learning", ICLR 2020, arXiv:2001.01878.
    """
    beta_max = check_beta(beta_max)
    if not (isinstance(rtol, int | float | np.floating) and 1e-9 <= rtol <= 0.1):
        raise ParameterError(f"rtol must be a number from 1e-9 to 0.1 but got {rtol!r}")
    states = reduce(joint)
    first = onset(states, random_state=random_state)

    @cache
    def at(beta: float) -> tuple[int, float, float]:
        if beta <= first:
            return 1, 0.0, 0.0
        best = point(states, beta, random_state=random_state)
        return best.sizes["t"], best["I_XT"].item(), best["I_TY"].item()

    pairs: list[tuple[float, float]] = []
    if first < beta_max:
        steps = max(1, ceil(_PER_DECADE * log(beta_max / first, 10)))
        pairs = list(pairwise([first, *np.geomspace(first, beta_max, steps + 1)[1:].tolist()]))
    found: list[tuple[float, float]] = []
    while pairs:
        low, high = pairs.pop(0)
        if at(low)[0] == at(high)[0]:
            continue
        if high <= low * (1 + rtol):
            found.append((low, high))
        else:
            middle = exp((log(low) + log(high)) / 2)
            pairs[:0] = [(low, middle), (middle, high)]
    columns = {
        "beta": ([low for low, _ in found], "1"),
        "beta_upper": ([high for _, high in found], "1"),
        "n_below": ([at(low)[0] for low, _ in found], "1"),
        "n_above": ([at(high)[0] for _, high in found], "1"),
        "I_XT": ([at(high)[1] for _, high in found], "bits"),
        "I_TY": ([at(high)[2] for _, high in found], "bits"),
    }
    return xr.Dataset(
        {
            name: ("critical", np.array(values, np.int64 if name.startswith("n_") else np.float64), {"units": units})
            for name, (values, units) in columns.items()
        },
        attrs={"beta_max": beta_max, "rtol": float(rtol), "labels": states.labels, "I_XY": states.I_XY},
    )
