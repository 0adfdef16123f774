"""Entropies from counts against the papers' formulas, written out slowly, and against what is known of their bias."""

from collections import Counter
from collections.abc import Callable
from math import comb, log, log2
from typing import Any, get_args

import numpy as np
import pytest
from mpmath import mp
from numpy.typing import NDArray

from ipstore.analysis.estimators import estimate
from ipstore.analysis.estimators.corrections import (
    CORRECTION,
    UNBOUNDED,
    Correction,
    choose,
    coverage,
    entropies,
    entropy,
)
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError

Array = NDArray[Any]
Counts = list[int]

CORRECTIONS: tuple[Correction, ...] = get_args(Correction)
HARD = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
SOFT = np.array([[0.9, 0.1], [0.1, 0.9], [0.0, 1.0]])

COUNTS: tuple[Counts, ...] = (
    [1],
    [7],
    [1, 1],
    [2, 1],
    [5, 5],
    [1] * 9,
    [3, 3, 3, 2, 2, 2, 1, 1, 1, 1],
    [40, 13, 8, 5, 5, 2, 1, 1],
    [400, 399, 301, 1],
)


def plug_in(counts: Counts) -> float:
    n = sum(counts)
    return -sum(c / n * log2(c / n) for c in counts if c)


def miller_madow(counts: Counts) -> float:
    return plug_in(counts) + (len(counts) - 1) / (2 * sum(counts)) / log(2)


def grassberger(counts: Counts) -> float:
    """With G(n) by its integral, psi(n) + (-1)^n int_0^1 x^(n - 1) / (1 + x) dx."""
    n = sum(counts)

    def G(c: int) -> Any:
        return mp.digamma(c) + (-1) ** c * mp.quad(lambda x: x ** (c - 1) / (1 + x), [0, 0.5, 0.9, 1])

    return float((mp.log(n) - mp.fsum(c * G(c) for c in counts) / n) / mp.log(2))


def chao_shen(counts: Counts) -> float:
    """With the probability of having been seen at all summed term by term, from exact binomials."""
    n, once = sum(counts), counts.count(1)
    once -= once == n and n > 1
    total = 0.0
    for c in counts:
        p = (1 - once / n) * c / n if n > 1 else 1.0
        seen = mp.fsum(comb(n, k) * mp.mpf(p) ** k * (1 - mp.mpf(p)) ** (n - k) for k in range(1, n + 1))
        total -= float(p * log2(p) / seen)
    return total


def jackknife(counts: Counts) -> float:
    n = sum(counts)
    if n == 1:
        return 0.0
    left = []
    for place, c in enumerate(counts):
        without = [*counts[:place], c - 1, *counts[place + 1 :]]
        left += [plug_in(without)] * c
    return n * plug_in(counts) - (n - 1) * float(np.mean(left))


def nsb(counts: Counts, alphabet: float) -> float:
    """By quadrature over log beta, with 40 digits and differences of large numbers that cost it 20."""
    n, K, several = sum(counts), mp.mpf(alphabet), Counter(counts).items()
    unseen = K - len(counts)

    def parts(u: Any) -> tuple[Any, Any]:
        beta = mp.exp(u)
        evidence = mp.loggamma(K * beta) - mp.loggamma(n + K * beta)
        evidence += mp.fsum(k * (mp.loggamma(c + beta) - mp.loggamma(beta)) for c, k in several)
        prior = K * mp.psi(1, K * beta + 1) - mp.psi(1, beta + 1)
        total = n + K * beta
        mean = mp.psi(0, total + 1) - mp.fsum(k * (c + beta) / total * mp.psi(0, c + beta + 1) for c, k in several)
        mean -= unseen * beta / total * mp.psi(0, beta + 1)
        return mp.exp(evidence + n * mp.log(n)) * prior * beta, mean

    with mp.workdps(40):
        grid = [mp.mpf(u) / 3 for u in range(int(-3 * mp.log(K)) - 105, 105)]
        values = [parts(u) for u in grid]
        weight = mp.fsum(w for w, _ in values)
        return float(mp.fsum(w * m for w, m in values) / weight / mp.log(2))


SLOWLY: dict[str, Callable[[Counts], float]] = {
    "plugin": plug_in,
    "miller-madow": miller_madow,
    "grassberger": grassberger,
    "chao-shen": chao_shen,
    "jackknife": jackknife,
}


def test_the_declared_words_are_the_corrections() -> None:
    assert CORRECTION.words == CORRECTIONS
    assert {*SLOWLY, "nsb"} == set(CORRECTIONS)


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("correction", SLOWLY)
def test_equals_the_formula(correction: Correction, counts: Counts) -> None:
    assert entropy(counts, correction) == pytest.approx(SLOWLY[correction](counts), abs=1e-11)
    assert entropy([0, *counts[::-1], 0], correction) == entropy(counts, correction)


def test_grassberger_of_large_counts() -> None:
    # The integral is hard there; psi(n) + (-1)^n / 2 (psi((n + 1) / 2) - psi(n / 2)) is the same.
    counts = [20001, 70000, 123457]

    def G(c: int) -> Any:
        c_ = mp.mpf(c)
        return mp.digamma(c_) + (-1) ** c * (mp.digamma((c_ + 1) / 2) - mp.digamma(c_ / 2)) / 2

    expected = (mp.log(sum(counts)) - mp.fsum(c * G(c) for c in counts) / sum(counts)) / mp.log(2)
    assert entropy(counts, "grassberger") == pytest.approx(float(expected), abs=1e-11)


@pytest.mark.parametrize(
    ("counts", "alphabet"),
    [([2, 1], 1000), ([1] * 9, UNBOUNDED), (COUNTS[6], UNBOUNDED), (COUNTS[7], 10)],
    ids=str,
)
def test_nsb_equals_quadrature(counts: Counts, alphabet: float) -> None:
    assert entropy(counts, "nsb", alphabet) == pytest.approx(nsb(counts, alphabet), abs=1e-9)


def test_nsb_of_many_samples() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(200))
    counts = rng.multinomial(1_000_000, p)
    # So many samples leave no doubt: every estimate is the plug-in with its bias removed.
    corrected = entropy(counts, "miller-madow")
    for alphabet in (200, UNBOUNDED):
        assert entropy(counts, "nsb", alphabet) == pytest.approx(corrected, abs=1e-4)
    assert entropy([500_000] * 4, "nsb", 4) == pytest.approx(2, abs=1e-6)


def test_nsb_knows_no_more_values_than_are_possible() -> None:
    assert entropy([5], "nsb", 1) == 0
    assert entropy([3, 2], "nsb", 1) == entropy([3, 2], "nsb", 2)
    prior = entropy([1], "nsb", 2)
    assert 0 < prior < 1


def test_nsb_without_a_value_that_recurs_is_its_prior() -> None:
    # As the module says, and why `count` gives no interval there.
    small, large = (entropy([1] * 50, "nsb", 2.0**bits) for bits in (20, 60))
    assert large - small > 10


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_one_set_of_samples_does_not_change_another(correction: Correction) -> None:
    rng = np.random.default_rng(1)
    tallies = np.zeros((6, 5, 201), np.int64)
    for index in np.ndindex(6, 5):
        counts = rng.multinomial(200, rng.dirichlet(np.full(rng.integers(1, 300), rng.choice([0.1, 1, 10]))))
        tallies[index] = np.bincount(counts[counts > 0], minlength=201)
    together = entropies(tallies, correction, 300)
    assert together.shape == (6, 5)
    alone = [entropies(tallies[index], correction, 300) for index in np.ndindex(6, 5)]
    np.testing.assert_array_equal(together.ravel(), alone)
    np.testing.assert_array_equal(entropies(tallies[::-1, 1:3], correction, 300), together[::-1, 1:3])
    assert entropies(tallies[:0], correction, 300).shape == (0, 5)


@pytest.mark.parametrize(("values", "samples"), [(100, 100), (1000, 1000), (1000, 4000)])
@pytest.mark.parametrize(
    ("correction", "share"),
    [("miller-madow", 0.6), ("grassberger", 0.3), ("chao-shen", 0.3), ("jackknife", 0.35), ("nsb", 0.3)],
)
def test_bias_on_uniform_values_is_much_smaller(
    correction: Correction, share: float, values: int, samples: int
) -> None:
    # 2000 sets show, at worst of the three: 0.45, 0.08, 0.28, 0.09 and 0.13 of the plug-in's bias.
    rng = np.random.default_rng(2)
    sets = [rng.multinomial(samples, np.full(values, 1 / values)) for _ in range(60)]
    tallies = np.array([np.bincount(counts[counts > 0], minlength=samples + 1) for counts in sets])
    bias = [abs(entropies(tallies, each, values).mean() - log2(values)) for each in ("plugin", correction)]
    assert bias[1] < share * bias[0]


def test_coverage_is_good_turing() -> None:
    tallies = np.array([[0, 3, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1], [0, 5, 0, 0, 0, 0]])
    np.testing.assert_allclose(coverage(tallies), [0.4, 1, 0])
    # What it estimates, the probability of the values seen, on average over samples.
    rng = np.random.default_rng(3)
    p = 1 / np.arange(1, 2001)
    p /= p.sum()
    sets = rng.multinomial(500, p, size=200)
    estimated = [float(coverage(np.bincount(counts[counts > 0], minlength=501))) for counts in sets]
    truly = [p[counts > 0].sum() for counts in sets]
    assert np.mean(estimated) == pytest.approx(np.mean(truly), abs=0.01)


@pytest.mark.parametrize("counts", [[], [0, 0], [1, -1], [0.5, 1.5], [[1, 2]]], ids=str)
def test_counts_that_are_none(counts: Any) -> None:
    with pytest.raises(ParameterError, match="counts must be integers"):
        entropy(counts)


@pytest.mark.parametrize(
    ("labels", "p_x", "population", "chosen"),
    [
        (HARD, None, True, "plugin"),
        (HARD, None, False, "grassberger"),
        (HARD, [0.25, 0.25, 0.5], False, "plugin"),
        (HARD, [0.5, 0.5, 0], False, "grassberger"),
        (SOFT, None, False, "plugin"),
        (SOFT, [0, 0, 1.0], False, "plugin"),
        (SOFT, None, True, "plugin"),
    ],
)
def test_the_correction_follows_the_probe(labels: Array, p_x: Any, population: bool, chosen: str) -> None:
    labels = labels if p_x is None or p_x[2] < 1 else np.array([[1, 0], [0, 1], [0.5, 0.5]])
    probe = Probe.of(labels, p_x=p_x, population=population)
    settled = choose({"correction": None, "bins": 3}, probe)
    assert settled == {"correction": chosen, "bins": 3}
    assert choose(settled, probe) == settled
    assert choose({"correction": "plugin"}, probe)["correction"] == "plugin"


@pytest.mark.parametrize("name", ["binned", "quantised", "discrete"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p_y_given_x": SOFT}, "labels are soft; give correction='plugin'"),
        ({"p_x": [0.25, 0.25, 0.5]}, r"weights differ, from 0.25 to 0.5; give correction='plugin'"),
        ({"p_x": [0.25, 0.25, 0.5], "p_y_given_x": SOFT}, "labels are soft and weights differ"),
    ],
    ids=str,
)
def test_a_correction_with_nothing_to_count_is_refused(name: str, change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"t": [[0.1], [0.5], [0.9]], "p_y_given_x": HARD, "p_x": None} | change
    for correction in CORRECTIONS[1:]:
        with pytest.raises(ParameterError, match=f"'{correction}' needs samples that it can count.*{message}"):
            estimate(name, **given, correction=correction)
    assert estimate(name, **given, correction="plugin")["n_cells"] == 3
    with pytest.raises(ParameterError, match="correction must be one of 'plugin', 'miller-madow'"):
        estimate(name, **given, correction="none")
