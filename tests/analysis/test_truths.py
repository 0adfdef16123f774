"""The truths of the beds against published digits, mpmath, and likelihoods of what the beds draw."""

from collections import defaultdict
from math import e, log2, pi, sqrt
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from ipstore.analysis.testing import truths
from ipstore.analysis.testing.truths import Bed, Data
from ipstore.errors import ParameterError, UnknownNameError

NAMES = (
    "bsc",
    "bec",
    "popcount",
    "clusters",
    "noisy_pair",
    "gaussian_channel",
    "noisy_tanh",
    "gaussian_classes",
    "gaussian_classes_5d",
    "gao_mixture",
    "bsc_sample",
    "popcount_sample",
)
POPULATIONS = NAMES[:5]
SAMPLED = NAMES[5:]
CONTINUOUS = NAMES[5:10]

# Nine digits, found apart from this project: closed forms, and the entropy of the counts of all 4096 patterns.
PUBLISHED = {
    ("bsc", "I_XT"): 0.500084042,
    ("bsc", "I_TY"): 0.500084042,
    ("bec", "I_XT"): 0.75,
    ("bec", "I_TY"): 0.75,
    ("popcount", "I_XT"): 2.838528744,
    ("gaussian_channel", "I_XT"): 0.596322539,
    ("gao_mixture", "I_TY"): 1.521928095,
}


def entropy(p: Any) -> float:
    return -sum(float(each) * log2(each) for each in p if each > 0)


def density(t: Any, mean: Any, variance: Any) -> Any:
    return np.exp(-((t - mean) ** 2) / (2 * variance)) / np.sqrt(2 * pi * variance)


def test_names() -> None:
    assert truths.available() == NAMES
    for name in NAMES:
        bed = truths.get(name)
        assert bed.name == name
        assert bed is truths.get(name)
        assert bed.description
        assert bed.source
        assert bed.population == (name in POPULATIONS)
    with pytest.raises(UnknownNameError, match=r"no bed 'clusterz'\. Did you mean 'clusters'"):
        truths.get("clusterz")


@pytest.mark.parametrize(("name", "quantity"), PUBLISHED)
def test_published_digits(name: str, quantity: str) -> None:
    assert truths.get(name).truth[quantity] == pytest.approx(PUBLISHED[name, quantity], abs=5e-10)


@pytest.mark.parametrize("name", ["bsc", "bec", "popcount", "clusters"])
def test_a_population_counted_by_hand(name: str) -> None:
    """Information from a dictionary of probabilities, of the float32 activations as they are drawn."""
    bed = truths.get(name)
    data = bed.draw()
    samples = len(data.t)
    x = np.arange(samples) if data.x_id is None else data.x_id
    p = np.full(samples, 1 / samples) if data.p_x is None else data.p_x
    joint: dict[str, dict[Any, float]] = {which: defaultdict(float) for which in ("x", "y", "t", "xt", "ty")}
    for row, (t, y) in enumerate(zip(map(tuple, data.t.tolist()), data.p_y_given_x.argmax(axis=1), strict=True)):
        for which, key in (("x", x[row]), ("y", y), ("t", t), ("xt", (x[row], t)), ("ty", (t, y))):
            joint[which][key] += p[row]
    H = {which: entropy(probabilities.values()) for which, probabilities in joint.items()}
    counted = {"I_XT": H["x"] + H["t"] - H["xt"], "I_TY": H["t"] + H["y"] - H["ty"], "H_T": H["t"]}
    assert dict(bed.truth) == pytest.approx(counted, abs=1e-12)


def test_a_population_is_the_same_whatever_is_asked() -> None:
    for name in POPULATIONS:
        bed = truths.get(name)
        once, again = bed.draw(), bed.draw(7, random_state=3)
        for left, right in zip(vars(once).values(), vars(again).values(), strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("name", ["bsc", "popcount"])
def test_samples_of_a_population(name: str) -> None:
    """They fall on the population's rows, with its probabilities, and the same input has the same number."""
    whole, bed = truths.get(name).draw(), truths.get(f"{name}_sample")
    assert bed.truth == truths.get(name).truth
    data = bed.draw(20_000, random_state=1)
    assert data.p_x is None
    x = np.arange(len(whole.t)) if whole.x_id is None else whole.x_id
    p = np.full(len(whole.t), 1 / len(whole.t)) if whole.p_x is None else whole.p_x
    y = whole.p_y_given_x.argmax(axis=1)
    expected: dict[Any, float] = defaultdict(float)
    for key, probability in zip(zip(map(tuple, whole.t.tolist()), y, strict=True), p, strict=True):
        expected[key] += probability
    rows = zip(map(tuple, data.t.tolist()), data.p_y_given_x.argmax(axis=1), strict=True)
    seen: dict[Any, int] = defaultdict(int)
    for key in rows:
        seen[key] += 1
    assert set(seen) <= set(expected)
    for key, probability in expected.items():
        assert abs(seen[key] / 20_000 - probability) < 5 * sqrt(probability / 20_000) + 1e-12
    assert data.x_id is not None
    for number in np.unique(data.x_id)[:50]:
        labels = data.p_y_given_x[data.x_id == number]
        assert (labels == labels[0]).all()
        assert (labels[0] == whole.p_y_given_x[x == number][0]).all()


def test_two_gaussians() -> None:
    """1 - E[h2(p(y|t))], the uncertainty that is left, by mpmath."""

    def lost(t: Any) -> Any:
        p = 1 / (1 + mpmath.exp(-2 * t))
        uncertainty = -(p * mpmath.log(p, 2) + (1 - p) * mpmath.log(1 - p, 2))
        return mpmath.npdf(t, 1, 1) * uncertainty

    expected = 1 - float(mpmath.quad(lost, [-10, -5, 0, 5, 10]))
    for name in ("noisy_pair", "gaussian_classes", "gaussian_classes_5d"):
        assert truths.get(name).truth["I_TY"] == pytest.approx(expected, abs=1e-12)
    assert truths.get("noisy_pair").truth["I_XT"] == pytest.approx(expected, abs=1e-12)
    assert expected == pytest.approx(0.485944, abs=1e-6)


def test_the_sign_through_a_gaussian_channel() -> None:
    """1 - E[h2(P(X > 0 | T))] by mpmath, in units of the activation."""
    noise = mpmath.mpf(7) / 9

    def lost(t: Any) -> Any:
        p = mpmath.ncdf(t / (1 + noise), 0, mpmath.sqrt(noise / (1 + noise)))
        uncertainty = -sum(q * mpmath.log(q, 2) for q in (p, 1 - p) if q > 0)
        return mpmath.npdf(t, 0, mpmath.sqrt(1 + noise)) * uncertainty

    expected = 1 - 2 * float(mpmath.quad(lost, [0, 2, 5, 8]))
    assert truths.get("gaussian_channel").truth["I_TY"] == pytest.approx(expected, abs=1e-12)


def test_a_noisy_tanh() -> None:
    """By the value u = tanh(x) of the unit, whose density is phi(artanh u) / (1 - u^2), on other grids.

    Equal steps of the angle arccos u where the truth uses Gauss and Legendre's nodes over x, and Simpson's rule over
    t where it uses the trapezoidal.
    """
    from scipy.integrate import simpson

    k = np.arange(1, 4001)
    u = np.cos(k * pi / 4001)
    p_u = density(np.arctanh(u), 0, 1) / (1 - u**2) * np.sin(k * pi / 4001) * pi / 4001
    t = np.linspace(-6, 6, 4001)
    of_t = density(t[:, None], u, 0.25)
    p_t, p_positive = of_t @ p_u, of_t[:, u > 0] @ p_u[u > 0] * 2
    assert p_u.sum() == pytest.approx(1, abs=1e-9)
    h_t = simpson(-p_t * np.log2(p_t), x=t)
    truth = truths.get("noisy_tanh").truth
    assert truth["I_XT"] == pytest.approx(h_t - 0.5 * log2(2 * pi * e * 0.25), abs=1e-7)
    assert truth["I_TY"] == pytest.approx(h_t - simpson(-p_positive * np.log2(p_positive), x=t), abs=1e-6)
    # No T of that variance has more: a Gaussian one has the most.
    variance = np.sum(p_u * u**2)
    assert truth["I_XT"] < 0.5 * log2(1 + variance / 0.25) < 0.69
    assert truth["I_TY"] < truth["I_XT"]


def likelihoods(name: str, data: Data, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """log2 p(t|x)/p(t) and log2 p(t|y)/p(t) of each sample, from the words of the bed."""
    t, y = data.t.astype(np.float64), data.p_y_given_x.argmax(axis=1)
    if name == "gaussian_channel":
        received = t[:, 0] + rng.normal(0, sqrt(7 / 9), len(t))
        return {"I_XT": np.log2(density(received, t[:, 0], 7 / 9) / density(received, 0, 16 / 9))}
    if name == "noisy_tanh":
        received = t[:, 0] + rng.normal(0, 0.5, len(t))
        others = np.tanh(rng.normal(0, 1, 2000))
        of_others = density(received[:, None], others, 0.25)
        p_t = of_others.mean(axis=1)
        p_given_y = np.where(y == 1, of_others[:, others > 0].mean(axis=1), of_others[:, others < 0].mean(axis=1))
        return {"I_XT": np.log2(density(received, t[:, 0], 0.25) / p_t), "I_TY": np.log2(p_given_y / p_t)}
    if name == "gao_mixture":
        inside = (t > np.arange(5)) & (t < np.arange(5) + 2)
        assert inside[np.arange(len(t)), y].all()
        return {"I_TY": np.log2(1 / inside.mean(axis=1))}
    # Of Gaussian classes of one covariance the optimal direction is known: fit it, and nothing else is left.
    middle = np.array([t[y == label].mean(axis=0) for label in (0, 1)])
    inner = np.cov((t - middle[y]).T).reshape(t.shape[1], t.shape[1])
    direction = np.linalg.solve(inner, middle[1] - middle[0])
    score = (t - middle.mean(axis=0)) @ direction
    return {"I_TY": 1 - np.log2(1 + np.exp(-np.where(y == 1, score, -score)))}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_what_is_drawn_has_the_information_that_is_said(name: str) -> None:
    bed = truths.get(name)
    data = bed.draw(5000, random_state=1)
    for quantity, each in likelihoods(name, data, np.random.default_rng(2)).items():
        error = each.std() / sqrt(len(each))
        assert error < 0.03
        assert abs(each.mean() - bed.truth[quantity]) < 4 * error, quantity


@pytest.mark.parametrize("name", NAMES)
def test_arrays(name: str) -> None:
    bed: Bed = truths.get(name)
    data = bed.draw(300)
    assert data.t.dtype == np.float32
    assert data.t.ndim == 2
    assert data.p_y_given_x.dtype == np.float64
    probe = bed.probe(data)
    assert probe.population == bed.population
    assert probe.labels == "hard"
    assert len(data.t) == (300 if name in SAMPLED else len(bed.draw(8).t))
    assert bed.truth["I_TY"] <= probe.H_Y + (0 if bed.population else 0.05)
    assert set(bed.truth) <= {"I_XT", "I_TY", "H_T"}
    if bed.population:
        assert bed.truth["I_XT"] <= probe.H_X + 1e-12
        assert len(np.unique(data.t, axis=0)) == len(np.unique(np.round(data.t, 3), axis=0)), "float32 tells them apart"


@pytest.mark.parametrize("name", SAMPLED)
def test_draws(name: str) -> None:
    bed = truths.get(name)
    once, same, other = bed.draw(50, 4), bed.draw(50, 4), bed.draw(50, np.random.SeedSequence([4, 1]))
    np.testing.assert_array_equal(once.t, same.t)
    np.testing.assert_array_equal(once.p_y_given_x, same.p_y_given_x)
    assert not np.array_equal(once.t, other.t)
    assert name not in CONTINUOUS or not np.isin(once.t, other.t).any()
    with pytest.raises(ParameterError, match="samples must be 2 or more but got 1"):
        bed.draw(1)


def test_five_units_that_each_know_a_little() -> None:
    """Every unit knows something of Y, none all, and they are correlated within a class."""
    data = truths.get("gaussian_classes_5d").draw(20_000)
    y = data.p_y_given_x[:, 1]
    shift = data.t[y == 1].mean(axis=0) - data.t[y == 0].mean(axis=0)
    np.testing.assert_allclose(shift, 2 / sqrt(5), atol=0.06)
    inner = data.t - np.where(y[:, None] == 1, 1, -1) / sqrt(5)
    correlations = np.asarray(np.corrcoef(inner.T))[np.triu_indices(5, 1)]
    assert abs(correlations).max() > 0.2
    values = np.linalg.eigvalsh(np.cov(inner.T))
    np.testing.assert_allclose(values, [0.5, 0.5, 0.5, 1, 2.5], rtol=0.06)
