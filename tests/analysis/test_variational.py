"""`variational`, `infonce` and `smile`: what they promise, against closed forms, scikit-learn and autograd.

The networks here are small and few, so that the file is quick; how well the defaults do stands in a test marked
long.
"""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import softplus

from ipstore.analysis.estimators import estimate, get
from ipstore.analysis.estimators.cross_fitting import Folds, Terms, Training
from ipstore.analysis.estimators.cross_fitting_network import held_out_scores
from ipstore.analysis.probe import Probe
from ipstore.analysis.testing import EstimatorContract, truths
from ipstore.analysis.testing.trials import run
from ipstore.errors import ActivationError, MissingPackageError, ParameterError

Array = NDArray[Any]

NEURAL = ("variational", "infonce", "smile")
FAST: dict[str, Any] = {"steps": 10, "hidden": 8, "batch_size": 32, "folds": 3}
LINEAR: dict[str, Any] = {"hidden": 0, "weight_decay": None, "steps": 300, "batch_size": 128, "learning_rate": 0.1}

GAUSSIAN_CLASSES = 0.485944
"""I(T;Y) in bits of a fair bit Y and T ~ N(-1, 1) or N(1, 1)."""


class TestVariational(EstimatorContract):
    estimator = "variational"
    params = FAST

    @pytest.mark.long
    def test_gives_the_known_truths(self) -> None:
        super().test_gives_the_known_truths()


class TestInfoNCE(EstimatorContract):
    estimator = "infonce"
    params = FAST

    @pytest.mark.long
    def test_gives_the_known_truths(self) -> None:
        super().test_gives_the_known_truths()


class TestSMILE(EstimatorContract):
    estimator = "smile"
    params = FAST

    @pytest.mark.long
    def test_gives_the_known_truths(self) -> None:
        super().test_gives_the_known_truths()


def one_hot(y: Array) -> Array:
    return np.eye(int(y.max()) + 1)[y]


def two_classes(samples: int, seed: int = 0) -> tuple[Array, Array]:
    """Y a fair bit, T ~ N(-1, 1) or N(1, 1): activations and labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, samples)
    return rng.normal(2.0 * y - 1, 1)[:, None], one_hot(y)


def value(name: str, *arguments: Any, **params: Any) -> tuple[float, float]:
    given = estimate(name, *arguments, **params)
    return float(given["I_TY"]), float(given["I_TY_se"])


# Against independent computations ---------------------------------------------


@pytest.mark.parametrize("case", ["two classes", "soft labels of three", "weights and repeated inputs"])
def test_a_linear_decoder_is_logistic_regression(case: str) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng, n = np.random.default_rng(1), 300
    t = rng.normal(size=(n, 3)) * (1, 100, 0.01) + (0, 0, 5)
    logits = (t - (0, 0, 5)) / (1, 100, 0.01) @ rng.normal(size=(3, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    x_id = p_x = None
    if case != "soft labels of three":
        p = one_hot((p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1))
    if case == "two classes":
        p = np.stack([p[:, 0], p[:, 1:].sum(axis=1)], axis=1)
    if case == "weights and repeated inputs":
        x_id, p_x = np.sort(np.arange(n) % 60), rng.dirichlet(np.ones(n))
    folds, classes, inputs = Folds.deal(p, x_id, p_x, 3, random_state=0), p.shape[1], 300 if x_id is None else 60
    terms = np.empty(n)
    for k in range(3):
        trained, held = np.flatnonzero(folds.fold != k), folds.fold == k
        weights = folds.weights[trained]
        centre = np.average(t[trained], axis=0, weights=weights)
        scale = np.average((t[trained] - centre) ** 2, axis=0, weights=weights) ** 0.5
        # Of two classes scikit-learn has one vector of weights, the difference of ours.
        model = linear_model.LogisticRegression(C=(2 if classes == 2 else 1) / 0.7, tol=1e-8, max_iter=1000)
        model.fit(
            np.repeat((t[trained] - centre) / scale, classes, axis=0),
            np.tile(np.arange(classes), len(trained)),
            sample_weight=(inputs * weights[:, None] * p[trained]).ravel(),
        )
        terms[held] = np.sum(p[held] * model.predict_log_proba((t[held] - centre) / scale), axis=1)
    p_y = folds.weights @ p
    expected = (folds.weights @ terms - np.sum(p_y * np.log(p_y))) / np.log(2)
    params = LINEAR | {"steps": 600, "batch_size": 2048, "learning_rate": 0.03, "weight_decay": 0.7, "folds": 3}
    got, _ = value("variational", t, p, x_id, p_x, **params)
    assert got == pytest.approx(expected, abs=2e-3)


def cross_entropy(scores: torch.Tensor, labels: torch.Tensor, p_y: torch.Tensor) -> torch.Tensor:
    return -(labels * torch.log_softmax(scores, dim=1)).sum()


def among_the_batch(scores: torch.Tensor, labels: torch.Tensor, p_y: torch.Tensor) -> torch.Tensor:
    """InfoNCE as it is written for pairs: the critic of every t with every y of the batch, hard labels."""
    total = torch.zeros(())
    for critic, label in zip(scores.mT, labels.mT, strict=True):
        table = critic @ label.T  # f(t_i, y_j)
        total = total - (table.diag() - table.logsumexp(dim=1)).sum()
    return total


def jensen_shannon(scores: torch.Tensor, labels: torch.Tensor, p_y: torch.Tensor) -> torch.Tensor:
    return (labels * softplus(-scores) + p_y * softplus(scores)).sum()


LOSSES = {"variational": cross_entropy, "infonce": among_the_batch, "smile": jensen_shannon}


@pytest.mark.parametrize("name", NEURAL)
def test_the_slope_is_that_of_the_loss(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, 16, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.eye(3, dtype=torch.float64)[torch.randint(3, (2, 16), generator=generator)].mT
    p_y = torch.tensor([[0.2], [0.3], [0.5]], dtype=torch.float64)
    (expected,) = torch.autograd.grad(LOSSES[name](scores, labels, p_y), scores)
    slope = import_module(f"ipstore.analysis.estimators.{name}").slope
    with torch.no_grad():
        torch.testing.assert_close(slope(scores, labels, p_y), expected)


@pytest.mark.parametrize("hidden", [0, 6])
def test_training_is_autograd_and_adam(hidden: int) -> None:
    """A whole batch of one sample, drawn over and over, leaves nothing to chance but the initial weights."""
    from ipstore.analysis.estimators import cross_fitting_network as ours
    from ipstore.analysis.estimators.variational import slope

    network = ours._Network((2, 4, hidden, 3), np.array([0.1, 0.1]))
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(2, 4, 9)).astype(np.float32))
    labels = torch.from_numpy(rng.dirichlet(np.ones(3), (2, 9)).astype(np.float32)).mT
    network.initialise(x[..., :hidden], rng)
    copies = [values.clone().requires_grad_() for values in network._values]
    weights, biases = copies[: len(copies) // 2], copies[len(copies) // 2 :]
    decays = [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]
    adam = torch.optim.Adam(decays, lr=0.03)
    for step in range(30):
        with torch.no_grad():
            scores, inside = network.forward(x)
            network.backward(x, inside, slope(scores, labels, labels))
            network.step(step, 0.03)
        inner = torch.relu(weights[0] @ x + biases[0]) if hidden else x
        theirs = weights[-1] @ inner + biases[-1]
        adam.zero_grad()
        cross_entropy(theirs, labels, labels).backward()  # type: ignore[no-untyped-call]
        adam.step()
    for mine, other in zip(network._values, copies, strict=True):
        torch.testing.assert_close(mine, other.detach(), rtol=1e-3, atol=1e-3)


@contextmanager
def judged(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Terms]]:
    """Instead of training, catch how an estimator judges scores."""
    caught: list[Terms] = []

    def catch(t: Array, folds: Folds, training: Training, slope: Any, terms: Terms) -> dict[str, Array]:
        caught.append(terms)
        return {"I_TY": np.zeros(t.shape[:-2]), "I_TY_se": np.zeros(t.shape[:-2])}

    with monkeypatch.context() as patch:
        patch.setattr(import_module(f"ipstore.analysis.estimators.{name}"), "cross_fit", catch)
        yield caught


@pytest.mark.parametrize("name", NEURAL)
def test_the_best_critic_gives_the_truth(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    t, p = two_classes(20_000)
    with judged(name, monkeypatch) as caught:
        value(name, t, p, batch_size=4096)
    ratio = np.log(2) - np.logaddexp(0, np.hstack([2 * t, -2 * t]))  # log p(y|t) / p(y)
    terms = caught[0](ratio) / np.log(2)
    error = terms.std() / len(t) ** 0.5
    assert terms.mean() == pytest.approx(GAUSSIAN_CLASSES, abs=4 * error)
    assert error < 0.01


def test_infonce_is_the_mean_over_labels_drawn_from_p_y(monkeypatch: pytest.MonkeyPatch) -> None:
    others, p_y = 3, np.array([0.2, 0.3, 0.5])
    p, critic = np.tile(p_y, (40_000, 1)), np.array([-1.0, 0.5, 2.0])
    with judged("infonce", monkeypatch) as caught:
        value("infonce", np.zeros((len(p), 1)), p, batch_size=others + 1)
    expected = 0.0
    for y, *drawn in product(range(3), repeat=others + 1):
        found = np.exp(critic[y]) / (np.exp(critic[y]) + np.exp(critic[drawn]).sum())
        expected += p_y[[y, *drawn]].prod() * np.log(found * (others + 1))
    terms = caught[0](np.tile(critic, (len(p), 1)))
    assert terms.mean() == pytest.approx(expected, abs=4 * terms.std() / len(p) ** 0.5)


def test_smile_is_clipped_and_its_error_that_of_the_jackknife(monkeypatch: pytest.MonkeyPatch) -> None:
    t, p = two_classes(400, seed=1)
    critic = np.hstack([-2 * t, 2 * t])
    joint, tau, n = np.sum(p * critic, axis=1), 1.5, len(t)
    clipped = np.exp(np.clip(critic, -tau, tau)) @ p.mean(axis=0)
    without = np.array([np.delete(joint, i).mean() - np.log(np.delete(clipped, i).mean()) for i in range(n)])
    with judged("smile", monkeypatch) as caught:
        value("smile", t, p, tau=tau)
    terms = caught[0](critic)
    assert terms.mean() == pytest.approx(joint.mean() - np.log(clipped.mean()), abs=1e-12)
    jackknife = ((n - 1) * without.var()) ** 0.5
    assert terms.std() / (n - 1) ** 0.5 == pytest.approx(jackknife, rel=1e-2)


# Known information ------------------------------------------------------------


@pytest.mark.parametrize("name", NEURAL)
def test_soft_labels_and_weights_are_used_as_such(name: str) -> None:
    """A population on a grid, p(x) that of two Gaussians and p(y|x) their posterior: nothing is drawn."""
    x = np.linspace(-6, 6, 601)
    density = np.exp(-((x - 1) ** 2) / 2) + np.exp(-((x + 1) ** 2) / 2)
    posterior = 1 / (1 + np.exp(-2 * x))
    p, p_x = np.stack([1 - posterior, posterior], axis=1), density / density.sum()
    truth = Probe.of(p, p_x=p_x).I_XY
    assert truth == pytest.approx(GAUSSIAN_CLASSES, abs=1e-5)
    # Only the decoder's best scores are linear, up to what is common to both classes; InfoNCE draws labels.
    params: dict[str, Any] = LINEAR if name == "variational" else {"hidden": 32, "weight_decay": None}
    within = {"variational": 1e-4, "infonce": 0.03, "smile": 0.01}[name]
    got, error = value(name, x[:, None], p, None, p_x, **params)
    assert got == pytest.approx(truth, abs=within)
    if name == "variational":
        assert got <= truth
    assert 0 < error < 0.1


def test_the_standard_error_is_that_of_a_mean_over_inputs() -> None:
    """Samples of one input count once: each sample four times is no more known than once."""
    t, p = two_classes(200)
    once = value("variational", t, p, **FAST)
    four = value("variational", np.repeat(t, 4, axis=0), np.repeat(p, 4, axis=0), np.repeat(np.arange(200), 4), **FAST)
    assert four[1] == pytest.approx(once[1], rel=0.1)
    assert 0.3 / 200**0.5 < once[1] < 1 / 200**0.5


@pytest.mark.parametrize("name", NEURAL)
def test_samples_of_one_input_are_never_on_both_sides(name: str) -> None:
    """Labels that say nothing of T but are the same whenever the input is: whoever saw it before knows them."""
    rng = np.random.default_rng(0)
    x_id = np.repeat(np.arange(40), 10)
    t = rng.normal(size=(40, 20))[x_id] + 0.01 * rng.normal(size=(400, 20))
    p = one_hot(rng.integers(0, 2, 40))[x_id]
    params: dict[str, Any] = {"steps": 100, "hidden": 32}
    got, error = value(name, t, p, x_id, **params)
    assert got < 2 * error
    assert value(name, t, p, **params)[0] > 0.9


@pytest.mark.parametrize("name", ["variational", "infonce"])
def test_overfitting_gives_a_low_bound_and_never_a_high_one(name: str) -> None:
    rng = np.random.default_rng(0)
    t, p = rng.normal(size=(3, 200, 30)), one_hot(rng.integers(0, 2, 200))
    got = estimate(name, t, p, steps=150, hidden=64, weight_decay=None)
    assert np.all(got["I_TY"] < -0.5)  # training finds every label: 200 samples, 30 units


def test_infonce_is_capped_by_the_batch() -> None:
    y = np.tile(np.arange(8), 20)
    corners = np.array(list(product((-1.0, 1.0), repeat=3)))[y]
    params: dict[str, Any] = {"steps": 200, "hidden": 16}
    assert 0.7 < value("infonce", corners, one_hot(y), batch_size=2, **params)[0] <= 1
    assert 2.8 < value("infonce", corners, one_hot(y), batch_size=256, **params)[0] <= 3.05
    assert 2.8 < value("variational", corners, one_hot(y), **params)[0] <= 3


@pytest.mark.long
@pytest.mark.parametrize("name", NEURAL)
@pytest.mark.parametrize(
    ("bed", "below"), [("gaussian_classes", 0.02), ("gaussian_classes_5d", 0.05), ("gao_mixture", 0.2)]
)
def test_the_defaults_come_near_known_truths_from_below(name: str, bed: str, below: float) -> None:
    trial = run(get(name), truths.get(bed), samples=2000, repeats=10, random_state=1)
    values, errors, truth = trial.values["I_TY"], trial.values["I_TY_se"], truths.get(bed).truth["I_TY"]
    assert truth - below < values.mean() < truth
    assert np.all(values - 3 * errors < truth)
    assert values.std(ddof=1) == pytest.approx(errors.mean(), rel=0.6)


def test_the_folds_are_not_what_the_labels_were_drawn_with() -> None:
    """A fold that is a class would be held out whole; `default_rng(0)` is everybody's generator."""
    for seed in (0, (0, 0), (0, 1)):
        y = np.random.default_rng(seed).permutation(np.arange(300) % 3)
        fold = Folds.deal(one_hot(y), None, None, 3, random_state=0).fold
        assert np.bincount(3 * y + fold, minlength=9).min() > 15


# The same bits ----------------------------------------------------------------


def cells() -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(5, 150, 7)).astype(np.float32), one_hot(rng.integers(0, 3, 150))


@pytest.mark.parametrize("name", NEURAL)
def test_a_cell_is_the_same_among_others_and_under_any_number_of_threads(name: str) -> None:
    t, p = cells()
    params: dict[str, Any] = {"steps": 30, "hidden": 64, "batch_size": 256}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        together = estimate(name, t, p, **params)["I_TY"]
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        alone = [float(estimate(name, cell, p, **params)["I_TY"]) for cell in t[::-1]]
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert together.tolist() == alone[::-1]
    assert len(set(alone)) == 5


def test_calls_in_several_threads_do_not_disturb_each_other() -> None:
    t, p = cells()
    before = torch.get_num_threads()
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(value, "variational", cell, p, **FAST) for cell in [*t, *t]]
        got = [future.result() for future in futures]
        threads = list(pool.map(lambda _: torch.get_num_threads(), range(8)))
    assert got == 2 * [value("variational", cell, p, **FAST) for cell in t]
    assert set(threads) == {before} == {torch.get_num_threads()}


def test_what_the_caller_has_set_in_torch_neither_matters_nor_changes() -> None:
    t, p = cells()
    expected = value("variational", t[0], p, **FAST)
    state = torch.get_rng_state()
    with torch.device("meta"), torch.autocast("cpu"), torch.inference_mode():
        torch.set_default_dtype(torch.float64)
        try:
            assert value("variational", t[0], p, **FAST) == expected
            assert torch.get_default_dtype() == torch.float64
        finally:
            torch.set_default_dtype(torch.float32)
    assert torch.is_grad_enabled()
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(7)
    assert value("variational", t[0], p, **FAST) == expected
    assert value("variational", t[0], p, **FAST, random_state=1) != expected


# Activations as networks have them --------------------------------------------


def test_size_and_offset_of_a_unit_do_not_matter() -> None:
    t, p = two_classes(300)
    plain, _ = value("variational", t, p, **FAST)
    for other in (1e30 * t, 1e-30 * t, 1e6 + t, t.astype(np.float32)):
        assert value("variational", other, p, **FAST)[0] == pytest.approx(plain, abs=1e-3)


def test_units_that_are_constant_or_nearly_so() -> None:
    t, p = two_classes(300)
    params: dict[str, Any] = {"steps": 150, "hidden": 8}
    rare = np.zeros((300, 2))
    rare[7, 0] = 1.0  # constant wherever sample 7 is held out
    plain, error = value("variational", t, p, **params)
    assert value("variational", np.hstack([t, rare]), p, **params)[0] == pytest.approx(plain, abs=error)
    assert value("variational", rare[:, 1:], p, **params)[0] == pytest.approx(0, abs=0.02)
    p_x = np.where(np.arange(300) == 7, 1e-200, 1 / 299)  # nearly constant in weight
    assert np.isfinite(value("variational", rare, p, None, p_x, **params)[0])


def test_one_sample_far_out_does_not_decide() -> None:
    t, p = two_classes(300)
    t[11] = 1e8 * (1 - 2 * p[11, 1])
    assert np.isfinite(value("variational", t, p, **FAST)[0])
    narrow = np.where(np.arange(300)[:, None] == 11, t, np.tanh(t))
    scores = held_out_scores(
        narrow.astype(np.float32), Folds.deal(p, None, None, 300, 0), Training(8, 20, 32, 0.03, 0.1, 0), _slope
    )
    assert abs(scores[11]).max() < 100


def _slope(scores: Any, labels: Any, p_y: Any) -> Any:
    return scores.softmax(dim=1) - labels


# What is refused --------------------------------------------------------------


@pytest.mark.parametrize("name", NEURAL)
def test_without_torch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    t, p = cells()
    with pytest.raises(MissingPackageError, match=r"pip install 'ipstore\[train\]'"):
        estimate(name, t, p)


@pytest.mark.long
def test_torch_is_imported_when_a_network_is_trained_and_not_before() -> None:
    script = (
        "import sys; from ipstore.analysis.estimators import get; from ipstore.analysis.probe import Probe\n"
        "for name in ('variational', 'infonce', 'smile'):\n"
        "    get(name).resolve({}, Probe.of([[1, 0], [0, 1]]))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_there_are_no_more_folds_than_inputs() -> None:
    labels = np.tile([[0.5, 0.5], [0.9, 0.1]], (3, 1))
    assert get("variational").resolve({}, Probe.of(labels))["folds"] == 5
    assert get("variational").resolve({}, Probe.of(labels, x_id=[0, 1, 0, 1, 0, 1]))["folds"] == 2
    weights = [0.5, 0.2, 0.3, 0, 0, 0]
    assert get("variational").resolve({}, Probe.of(labels, p_x=weights))["folds"] == 3
    with pytest.raises(ParameterError, match="the probe has 1 distinct input of positive weight"):
        get("variational").resolve({}, Probe.of(labels, x_id=np.zeros(6, int)))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"folds": 1}, "folds must be an integer in"),
        ({"batch_size": 1}, "batch_size must be an integer in"),
        ({"weight_decay": 0.0}, "weight_decay must be a number in"),
        ({"learning_rate": -1}, "learning_rate must be a number in"),
        ({"hidden": -1}, "hidden must be an integer in"),
    ],
    ids=str,
)
def test_parameters_that_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        estimate("variational", *cells(), **params)


def test_codes_are_refused() -> None:
    with pytest.raises(ActivationError, match="needs activations but got codes"):
        estimate("variational", np.zeros((4, 1), np.uint8), np.eye(2)[[0, 1, 0, 1]])
