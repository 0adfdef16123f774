"""`knn` against a plain implementation by full distance matrices, other packages, and known truths."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import digamma
from scipy.stats import norm

from ipstore.analysis.estimators import estimate, get
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError

Array = NDArray[Any]
Draw = Callable[[np.random.Generator, int], tuple[Array, Array]]

GAUSSIAN_CLASSES = 0.485944  # bits that N(+1, 1) or N(-1, 1) tell of a fair sign
GAO_MIXTURE = 1.521928095  # log2 5 - 4/5: U(y, y + 2) with y uniform on 0..4


def one_hot(y: Array) -> Array:
    return np.eye(int(y.max()) + 1)[y]


def plainly(t: Array, y: Array, method: str, k: int) -> float:
    """Estimate from the matrix of all distances, in bits."""
    t = t.astype(np.float64)
    distance = np.max(abs(t[:, None] - t), axis=2)
    sizes = {label: int(np.sum(y == label)) for label in set(y)}
    used = [i for i in range(len(y)) if sizes[y[i]] > 1]
    terms = []
    for i in used:
        others = [j for j in used if j != i]
        own = sorted(distance[i, j] for j in others if y[j] == y[i])
        radius = own[min(k, len(own)) - 1]
        itself = int(method == "mixed" and radius == 0)
        same = sum(d <= radius for d in own) + itself
        near = sum(distance[i, j] <= radius for j in others) + itself
        terms.append(digamma(same) - digamma(near) - digamma(sizes[y[i]]))
    n = len(used)
    return float((np.mean(terms) + (np.log(n) if method == "mixed" else digamma(n))) / np.log(2))


def gaussian_classes(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    y = rng.integers(0, 2, n)
    return rng.normal(2.0 * y - 1, 1)[:, None], y


def gaussian_classes_5d(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """The distance between the means, in standard deviations, is 2 as in one dimension; mixed by a matrix."""
    y = rng.integers(0, 2, n)
    shift = np.outer(2 * y - 1, np.ones(5) / np.sqrt(5))
    mixing = np.random.default_rng(9).normal(0, 0.4, (5, 5)) + np.eye(5)
    return (rng.normal(0, 1, (n, 5)) + shift) @ mixing, y


def gao_mixture(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    y = rng.integers(0, 5, n)
    return (y + 2 * rng.random(n))[:, None], y


BEDS: dict[str, tuple[Draw, float]] = {
    "gaussian_classes": (gaussian_classes, GAUSSIAN_CLASSES),
    "gaussian_classes_5d": (gaussian_classes_5d, GAUSSIAN_CLASSES),
    "gao_mixture": (gao_mixture, GAO_MIXTURE),
}


@pytest.mark.parametrize("method", ["ross", "mixed"])
@pytest.mark.parametrize("seed", range(30))
def test_equals_the_matrix_of_distances(method: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, units, k = int(rng.integers(5, 320)), int(rng.integers(1, 8)), int(rng.integers(1, 8))
    t = rng.normal(0, 1, (n, units))
    if seed % 3 == 0:
        t = np.round(t * rng.choice([0.5, 3.0, 30.0])) / 4
    if seed % 3 == 1:
        t = np.clip(t, -0.8, 0.8)
    y = np.concatenate([[0, 0, 1], rng.choice(4, n - 3, p=[0.5, 0.4, 0.08, 0.02])])
    found = estimate("knn", t, one_hot(y), method=method, k=k)
    assert found["I_TY"] == pytest.approx(plainly(t, y, method, k), abs=1e-11)


@pytest.mark.parametrize("method", ["ross", "mixed"])
@pytest.mark.parametrize("round_to", [None, 0.5, 0.05])
@pytest.mark.parametrize("k", [1, 3])
def test_the_error_is_that_of_leaving_each_sample_out(method: str, round_to: float | None, k: int) -> None:
    t, y = BEDS["gaussian_classes"][0](np.random.default_rng(1), 40)
    t = t if round_to is None else np.round(t / round_to) * round_to
    without = [plainly(np.delete(t, i, axis=0), np.delete(y, i), method, k) for i in range(40)]
    expected = np.sqrt(39 * np.var(without))
    assert estimate("knn", t, one_hot(y), method=method, k=k)["I_TY_se"] == pytest.approx(expected, rel=1e-9)


def test_scikit_learn_gives_the_same() -> None:
    selection = pytest.importorskip("sklearn.feature_selection")
    for name, (draw, _) in BEDS.items():
        t, y = draw(np.random.default_rng(2), 700)
        theirs = selection.mutual_info_classif(t[:, :1], y, discrete_features=False, n_neighbors=4, random_state=0)
        ours = estimate("knn", t[:, :1], one_hot(y), method="ross", k=4)["I_TY"]
        assert ours == pytest.approx(theirs[0] / np.log(2), abs=1e-6), name


def test_npeet_gives_the_same_of_labels_far_apart() -> None:
    npeet = pytest.importorskip("npeet_plus")
    for name, (draw, _) in BEDS.items():
        t, y = draw(np.random.default_rng(3), 700)
        theirs = npeet.mi(t, 1e6 * y[:, None], k=3)
        assert estimate("knn", t, one_hot(y), method="ross")["I_TY"] == pytest.approx(theirs, abs=1e-6), name


@pytest.mark.parametrize("bed", BEDS)
@pytest.mark.parametrize("method", ["ross", "mixed"])
def test_the_interval_holds_the_truth(bed: str, method: str) -> None:
    draw, truth = BEDS[bed]
    held = []
    for seed in range(50):
        t, y = draw(np.random.default_rng(seed), 1000)
        found = estimate("knn", t, one_hot(y), method=method)
        held.append(abs(found["I_TY"] - truth) <= 1.96 * found["I_TY_se"])
    assert sum(held) >= 45


def test_rounded_values() -> None:
    # Between atoms and a continuum, where a rule that holds k fixed is off by 0.4 bits (and the letter of "ross",
    # which counts ties among all but not in the class, by more).
    errors = []
    for seed in range(20):
        t, y = gaussian_classes(np.random.default_rng(seed), 1000)
        errors.append([estimate("knn", np.round(t / g) * g, one_hot(y))["I_TY"] for g in (0.003, 0.01, 0.03)])
    assert abs(np.mean(errors, axis=0) - GAUSSIAN_CLASSES).max() < 0.035


def test_saturated_values() -> None:
    def density(v: float) -> float:
        p, q = norm.pdf(v - 1), norm.pdf(v + 1)
        return float(p * np.log2(2 * p / (p + q)))

    p, q = norm.sf(0), norm.sf(2)
    truth = quad(density, -1, 1)[0] + p * np.log2(2 * p / (p + q)) + q * np.log2(2 * q / (p + q))
    for method in ("ross", "mixed"):
        found = []
        for seed in range(20):
            t, y = gaussian_classes(np.random.default_rng(seed), 1000)
            found.append(estimate("knn", np.clip(t, -1, 1), one_hot(y), method=method)["I_TY"])
        assert np.mean(found) == pytest.approx(truth, abs=0.02), method


def test_discrete_values_are_counted() -> None:
    rng = np.random.default_rng(4)
    y = rng.integers(0, 3, 6000)
    t = np.array([[-1.0, 1.0], [1.0, 1.0], [0.5, 0.0]])[np.where(rng.random(6000) < 0.3, rng.integers(0, 3, 6000), y)]
    counted = estimate("binned", t, one_hot(y))["I_TY"]
    assert estimate("knn", t, one_hot(y))["I_TY"] == pytest.approx(counted, abs=2e-3)


def test_each_cell_stands_for_itself() -> None:
    rng = np.random.default_rng(5)
    t = np.tanh(rng.normal(0, 1, (3, 4, 300, 2)) * rng.choice([0.01, 1, 9], (3, 4, 1, 1))).astype(np.float32)
    labels = one_hot(rng.integers(0, 3, 300))
    together = estimate("knn", t, labels)
    for name, values in together.items():
        assert values.shape == (3, 4)
        assert values.dtype == np.float64
        for index in np.ndindex(3, 4):
            assert values[index] == estimate("knn", t[index], labels)[name]
    strided = np.repeat(t, 2, axis=2)[:, :, ::2]
    strided.flags.writeable = False
    np.testing.assert_array_equal(estimate("knn", strided, labels)["I_TY"], together["I_TY"])


def test_order_names_and_scale_do_not_matter() -> None:
    rng = np.random.default_rng(6)
    t, y = gao_mixture(rng, 400)
    t = np.concatenate([np.round(4 * t) / 4, rng.normal(0, 0.2, (400, 2))], axis=1)
    there = estimate("knn", t, one_hot(y))
    samples = rng.permutation(400)
    back = estimate("knn", -8 * t[samples][:, [2, 0, 1]], one_hot(y)[samples][:, [3, 0, 4, 1, 2]])
    for name in there:
        assert back[name] == pytest.approx(there[name], abs=1e-11)


def test_half_precision() -> None:
    t, y = gaussian_classes_5d(np.random.default_rng(7), 300)
    half = t.astype(np.float16)
    found = estimate("knn", half, one_hot(y))["I_TY"]
    assert found == estimate("knn", half.astype(np.float64), one_hot(y))["I_TY"]
    assert found == pytest.approx(plainly(half, y, "mixed", 3), abs=1e-11)


def test_inputs_do_not_matter_and_samples_of_no_weight_are_left_out() -> None:
    rng = np.random.default_rng(8)
    t, y = gaussian_classes(rng, 200)
    expected = estimate("knn", t[:150], one_hot(y[:150]))
    weights = np.where(np.arange(200) < 150, 1 / 150, 0.0)
    found = estimate("knn", t, one_hot(y), x_id=rng.integers(0, 20, 200), p_x=weights)
    for name in expected:
        assert found[name] == expected[name]


def test_a_class_of_one_sample_is_left_out() -> None:
    t, y = gaussian_classes(np.random.default_rng(9), 100)
    expected = estimate("knn", t, one_hot(y))["I_TY"]
    found = estimate("knn", np.append(t, [[0.1]], axis=0), one_hot(np.append(y, 4)))["I_TY"]
    assert found == expected


def test_without_information_it_is_about_zero_and_may_be_below() -> None:
    rng = np.random.default_rng(10)
    values = [
        float(estimate("knn", rng.normal(0, 1, (500, 2)), one_hot(rng.integers(0, 2, 500)))["I_TY"]) for _ in range(40)
    ]
    assert min(values) < 0 < max(values)
    assert abs(np.mean(values)) < 0.02
    constant = estimate("knn", np.zeros((500, 2)), one_hot(rng.integers(0, 2, 500)))
    assert constant["I_TY"] == pytest.approx(0, abs=5e-3)


def test_what_it_cannot_give() -> None:
    knn = get("knn")
    assert [quantity.name for quantity in knn.quantities] == ["I_TY", "I_TY_se"]
    assert "H(T)" in knn.refuses["I_XT"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p_y_given_x": np.array([[0.9, 0.1]] * 3 + [[0, 1]] * 3)}, "labels are soft .* give hard labels"),
        ({"p_x": np.array([1, 1, 1, 1, 1, 3]) / 8}, r"weights p_x differ \(from 0.125 to 0.375\)"),
        ({"p_y_given_x": np.eye(6)}, r"no class has two samples \(6 samples in as many classes\)"),
        ({"k": 0}, r"k must be an integer in \[1, 1000\] but got 0"),
        ({"method": "ksg"}, "method must be one of 'ross', 'mixed' but got 'ksg'"),
    ],
    ids=str,
)
def test_what_is_refused(change: dict[str, Any], message: str) -> None:
    arguments = {"t": np.zeros((6, 1)), "p_y_given_x": one_hot(np.array([0, 0, 0, 1, 1, 1]))} | change
    with pytest.raises(ParameterError, match=message):
        estimate("knn", **arguments)
    if "k" not in change and "method" not in change:
        probe = Probe.of(arguments["p_y_given_x"], p_x=arguments.get("p_x"))
        with pytest.raises(ParameterError, match=message):
            get("knn").resolve({}, probe)
