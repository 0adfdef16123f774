"""Entropy from counts: the plug-in and what corrects its bias, all from how many values occur how often.

With n samples of which n_t show the value t, the plug-in -sum n_t/n log(n_t/n) is too small on average, by about
(values - 1) / 2n nats and by far more where most values are seen once. Each correction here is a function of the
*tally* alone: how many values occur once, twice, and so on. A tally has as many entries that are not 0 as there
are different counts, at most sqrt(2 n).
"""

from functools import lru_cache
from math import log
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ipstore.analysis.estimators.parameters import Choice
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError

__all__ = ["CORRECTION", "UNBOUNDED", "Correction", "choose", "coverage", "entropies", "entropy", "need_samples"]

Correction = Literal["plugin", "miller-madow", "grassberger", "chao-shen", "jackknife", "nsb"]

CORRECTION = Choice(
    "correction",
    "of the bias of entropies; plugin on a population, grassberger on a sample with hard labels and equal weights",
    words=("plugin", "miller-madow", "grassberger", "chao-shen", "jackknife", "nsb"),
    optional=True,
)

UNBOUNDED = 2.0**64
"""The number of values that are taken to be possible where nothing says how many are, or more are: as many as the
keys by which rows of codes are told apart."""


def need_samples(correction: str, p_y_given_x: NDArray[np.float64], p_x: NDArray[np.float64] | None) -> None:
    """Refuse a correction where there are no samples to count.

    Parameters
    ----------
    correction : str
        One of `Correction`.
    p_y_given_x : (sample, class) float64
    p_x : (sample,) float64, optional
        Weights; those of 0 are no samples.

    Raises
    ------
    ParameterError
        If labels are soft or weights differ, unless it is "plugin".
    """
    used = np.ones(len(p_y_given_x), np.bool_) if p_x is None else p_x > 0
    given = []
    if not np.isin(p_y_given_x[used], (0.0, 1.0)).all():
        given.append("labels are soft")
    if p_x is not None and np.ptp(p_x[used]) > 0:
        given.append(f"weights differ, from {p_x[used].min():.3g} to {p_x[used].max():.3g}")
    if correction != "plugin" and given:
        raise ParameterError(
            f"correction {correction!r} needs samples that it can count, with hard labels and equal weights, but "
            f"{' and '.join(given)}; give correction='plugin'"
        )


def choose(params: dict[str, Any], probe: Probe) -> dict[str, Any]:
    """Fill in the correction that suits the probe, where none is given.

    A population has nothing to correct: "plugin". A sample with hard labels and equal weights gets "grassberger".
    Soft labels and unequal weights cannot be counted: "plugin".

    Parameters
    ----------
    params : dict
        With ``correction``, None or one of `Correction`.
    probe : Probe

    Raises
    ------
    ParameterError
        If the correction that was given cannot be had on this probe.
    """
    correction = params["correction"]
    if correction is None:
        correction = "plugin"
        if not probe.population:
            try:
                need_samples("grassberger", probe.p_y_given_x, probe.p_x)
                correction = "grassberger"
            except ParameterError:
                pass
    need_samples(correction, probe.p_y_given_x, probe.p_x)
    return params | {"correction": correction}


def coverage(tallies: NDArray[Any]) -> NDArray[np.float64]:
    """Good-Turing estimate of the probability that one more sample shows a value that was seen already.

    1 - f1 / n, with f1 the number of values seen once (Good 1953, "The population frequencies of species and the
    estimation of population parameters", Biometrika 40).

    Parameters
    ----------
    tallies : (..., n + 1) integer
        As `entropies` takes them.
    """
    share: NDArray[np.float64] = 1 - tallies[..., 1] / (tallies.shape[-1] - 1)
    return share


def entropy(counts: ArrayLike, correction: Correction = "plugin", alphabet: float = UNBOUNDED) -> float:
    """Entropy of one distribution, from how often each value was seen.

    Parameters
    ----------
    counts : (value,) integer
        Not negative; one at least is positive.
    correction : {"plugin", "miller-madow", "grassberger", "chao-shen", "jackknife", "nsb"}
    alphabet : float
        See `entropies`.

    Returns
    -------
    float
        In bits.

    Raises
    ------
    ParameterError
        If `counts` are none.
    """
    seen = np.asarray(counts)
    if seen.ndim != 1 or seen.dtype.kind not in "iu" or not seen.sum() > 0 or seen.min() < 0:
        raise ParameterError(f"counts must be integers, 0 or more and not all 0, in one dimension, but got {counts!r}")
    tally = np.bincount(seen[seen > 0], minlength=int(seen.sum()) + 1)
    return float(entropies(tally, correction, alphabet))


def entropies(tallies: NDArray[Any], correction: Correction, alphabet: float = UNBOUNDED) -> NDArray[np.float64]:
    """Entropy under a correction, for any number of sets of n samples.

    With n_t the count of value t, f1 the number of values seen once and C = 1 - f1 / n, in nats:

    - "plugin": log n - 1/n sum n_t log n_t.
    - "miller-madow": that, plus (number of values seen - 1) / 2n [1]_.
    - "grassberger": log n - 1/n sum n_t G(n_t), with G(n) = psi(n) + (-1)^n/2 (psi((n + 1)/2) - psi(n/2)) [2]_.
    - "chao-shen": - sum C p_t log(C p_t) / (1 - (1 - C p_t)^n), with p_t = n_t / n [3]_. Where all values are seen
      once, C is taken as 1/n, not 0.
    - "jackknife": n times the plug-in, less (n - 1) times its mean over the sets that lack one sample [4]_.
    - "nsb": the posterior mean under a prior that is nearly flat in the entropy [5]_; see
      `ipstore.analysis.estimators.nsb`. It alone asks how many values there may be.

    None is clipped: an estimate that may fall on either side of the truth keeps its mean only so.

    Parameters
    ----------
    tallies : (..., n + 1) integer
        At m the number of values that occur m times; at 0 nothing.
    correction : {"plugin", "miller-madow", "grassberger", "chao-shen", "jackknife", "nsb"}
    alphabet : float
        Number of values that are possible, seen or not, for "nsb".

    Returns
    -------
    (...,) float64 array
        In bits.

    References
    ----------
    .. [1] Miller 1955, "Note on the bias of information estimates"; Madow is named with him since.
    .. [2] Grassberger 2003, "Entropy estimates from insufficient samplings", arXiv:physics/0307138, the estimate
       by G_n.
    .. [3] Chao & Shen 2003, "Nonparametric estimation of Shannon's index of diversity when there are unseen
       species in sample", Environmental and Ecological Statistics 10.
    .. [4] Zahl 1977, "Jackknifing an index of diversity", Ecology 58.
    .. [5] Nemenman, Shafee & Bialek 2002, "Entropy and inference, revisited", NIPS 14, arXiv:physics/0108025.
    """
    from ipstore.analysis.estimators import corrections_kernels

    samples = tallies.shape[-1] - 1
    rows = np.ascontiguousarray(tallies).reshape(-1, samples + 1)
    out = np.empty(len(rows))
    if correction == "nsb":
        from ipstore.analysis.estimators.nsb import posterior_means

        out = posterior_means(rows, alphabet)
    elif correction == "chao-shen":
        corrections_kernels.chao_shen(rows, out)
    else:
        offset, table = _table(correction, samples)
        corrections_kernels.tabulated(rows, table, out)
        out = offset - out / samples
    return out.reshape(tallies.shape[:-1])


@lru_cache(maxsize=16)
def _table(correction: str, samples: int) -> tuple[float, NDArray[np.float64]]:
    """Give c and phi(0), ..., phi(n), in bits, for entropies of the form c - 1/n sum phi(n_t)."""
    counts = np.arange(samples + 1, dtype=np.float64)
    nats = counts * np.log(np.maximum(counts, 1))
    offset = log(samples)
    if correction == "miller-madow":
        nats[1:] -= 0.5
        offset -= 0.5 / samples
    elif correction == "grassberger":
        # G(1) = -gamma - log 2, and from every odd n to the next, even one it grows by 2/n and then stays.
        odd = 2 / np.arange(1, samples + 1, 2)
        sums = np.concatenate([[0.0], np.cumsum(odd)])
        nats = counts * (sums[np.arange(samples + 1) // 2] - float(np.euler_gamma) - log(2))
    elif correction == "jackknife":
        # Leaving out one of n_t samples changes only n_t log n_t, and it happens n_t times.
        offset = nats[-1] - nats[-2]
        nats[1:] = counts[1:] * np.diff(nats)
    table = nats / log(2)
    table.flags.writeable = False
    return offset / log(2), table
