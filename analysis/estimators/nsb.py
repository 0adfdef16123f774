"""Entropy by Nemenman, Shafee & Bialek: the posterior mean under a mixture of Dirichlet priors.

A Dirichlet prior of one parameter beta over K values all but fixes the entropy before any sample is seen, at
xi(beta) = psi(K beta + 1) - psi(beta + 1) nats. So beta is itself given a prior, the density of d xi / d beta, under
which the entropy is nearly uniform between 0 and log K. What is computed is the mean over beta of the posterior mean
of the entropy (Wolpert & Wolf 1995, Physical Review E 52):

    E[S | beta] = psi(n + kappa + 1) - sum_t (n_t + beta) / (n + kappa) psi(n_t + beta + 1),  kappa = K beta,

over all K values, weighed by d xi / d beta times the evidence

    Gamma(kappa) / Gamma(n + kappa) prod_t Gamma(n_t + beta) / Gamma(beta).

The number K of possible values is the one thing it has to be told. Where values recur often the answer hardly
depends on K, and there is a limit for K to infinity (Nemenman 2011, "Coincidences and estimation of entropies of
random variables with large cardinalities", Entropy 13). Where they recur little it does: of 1000 equally likely
values, 1000 samples give 0.03 bits too little with K = 1000 and 0.45 bits too much with K = 2^64. Where none recurs
nothing holds the posterior, and the estimate is the prior's, of the order of log K.
"""

from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["posterior_means"]

_TAIL = 35.0
"""Nats below its maximum at which the posterior of log kappa is cut off: e^-35 is 6e-16."""

_COARSE, _FINE = 65, 257
_ROUNDS = 4
"""Each narrows the grid to what lies above the cut, by a factor of 32 at most: enough for 10^8 samples."""

_STIRLING = 50.0
"""From which log Gamma is computed by Stirling's series, three terms of which are good to 1e-15."""

_LARGE = 1e4
"""Of beta, from which the density of the prior is computed by its asymptotic series: both are good to 1e-12."""


def posterior_means(tallies: NDArray[Any], alphabet: float) -> NDArray[np.float64]:
    """Estimate the entropy of each tally.

    Integrals over log kappa are sums on an equidistant grid, which converge exponentially as the integrand is
    analytic and falls off on both sides.

    Parameters
    ----------
    tallies : (set, n + 1) integer
        At m the number of values that occur m times; at 0 nothing.
    alphabet : float
        Number of values that are possible, K; less than what was seen counts as what was seen.

    Returns
    -------
    (set,) float64 array
        In bits.
    """
    of, count = np.nonzero(tallies)
    if not of.size:
        return np.zeros(len(tallies))
    sets = _Sets(tallies, of, count, alphabet)
    low, high = np.full(len(tallies), -60.0), np.log(sets.alphabet) + _TAIL + 5
    for _ in range(_ROUNDS):
        grid = np.linspace(low, high, _COARSE, axis=1)
        height = sets.log_posterior(grid)
        above = height > height.max(axis=1, keepdims=True) - _TAIL
        first, last = above.argmax(axis=1), _COARSE - 1 - above[:, ::-1].argmax(axis=1)
        rows = np.arange(len(grid))
        low, high = grid[rows, np.maximum(first - 1, 0)], grid[rows, np.minimum(last + 1, _COARSE - 1)]
    grid = np.linspace(low, high, _FINE, axis=1)
    height = sets.log_posterior(grid)
    weight = np.exp(height - height.max(axis=1, keepdims=True))
    means: NDArray[np.float64] = (weight * sets.mean(grid)).sum(axis=1) / weight.sum(axis=1) / log(2)
    return np.where(sets.alphabet > 1, means, 0.0)


class _Sets:
    """Tallies, entry by entry: the sums over an entry's values are taken for all sets at once."""

    def __init__(self, tallies: NDArray[Any], of: NDArray[Any], count: NDArray[Any], alphabet: float) -> None:
        self.samples = tallies.shape[1] - 1
        self.of = of
        self.start = np.searchsorted(of, np.arange(len(tallies)))
        self.count = count[:, None].astype(np.float64)
        self.values = tallies[of, count][:, None].astype(np.float64)
        self.seen = tallies.sum(axis=1).astype(np.float64)
        self.alphabet = np.maximum(alphabet, self.seen)

    def log_posterior(self, log_kappa: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log density of log kappa but for a constant, (set, point)."""
        from scipy.special import polygamma

        K = self.alphabet[:, None]
        kappa = np.exp(log_kappa)
        beta = kappa / K
        each = self.values * _log_rising(beta[self.of], self.count)
        evidence = np.add.reduceat(each, self.start, axis=0) - _log_rising(kappa, self.samples)
        direct = polygamma(1, kappa + 1) - polygamma(1, beta + 1) / K
        series = (K - 1) / (2 * kappa**2) - (K**2 - 1) / (6 * kappa**3)
        prior = np.where(beta < _LARGE, direct, series)
        return np.asarray(evidence + np.log(np.maximum(prior, np.finfo(np.float64).tiny)) + log_kappa)

    def mean(self, log_kappa: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean entropy in nats given kappa, (set, point)."""
        from scipy.special import psi

        kappa = np.exp(log_kappa)
        beta = kappa / self.alphabet[:, None]
        total = self.samples + kappa
        at = beta[self.of]
        each = self.values * (self.count + at) * psi(self.count + at + 1)
        seen = np.add.reduceat(each, self.start, axis=0)
        unseen = beta * (self.alphabet - self.seen)[:, None] * psi(beta + 1)
        return np.asarray(psi(total + 1) - (seen + unseen) / total)


def _log_rising(x: NDArray[np.float64], n: NDArray[np.float64] | int) -> NDArray[np.float64]:
    """Logarithm of Gamma(x + n) / Gamma(x); for large x without the difference of two large numbers."""
    from scipy.special import gammaln

    small = np.minimum(x, _STIRLING)
    large = np.maximum(x, _STIRLING)
    series = n * np.log(large) + ((large + n - 0.5) * np.log1p(n / large) - n) + _rest(large + n) - _rest(large)
    return np.where(x < _STIRLING, gammaln(small + n) - gammaln(small), series)


def _rest(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give Stirling's series of log Gamma beyond (x - 1/2) log x - x + log(2 pi) / 2."""
    return (1 / 12 - (1 / 360 - 1 / (1260 * x**2)) / x**2) / x
