"""Wide outputs become narrow by the stated rule."""

import numpy as np
import pytest
import torch
from torch import nn

from ipstore.errors import ParameterError
from ipstore.trainers.reductions import Reduction, make_reduction, parse_rule

OUTPUT = torch.randn(10, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def reduction(rule: str, module: nn.Module | None = None, shape: tuple[int, ...] = (3, 4, 5)) -> Reduction:
    return make_reduction("layer", module or nn.Conv2d(1, 3, 1), shape, rule, 2, 10)


def test_flatten_keeps_all() -> None:
    made = reduction("flatten")
    assert made.units == 60
    assert torch.equal(made(OUTPUT), OUTPUT.reshape(10, 60))


@pytest.mark.parametrize(
    ("module", "shape", "rule", "axes"),
    [
        (nn.Conv2d(1, 1, 1), (3, 4, 5), "mean", (2, 3)),
        (nn.MaxPool2d(2), (3, 4, 5), "mean", (2, 3)),
        (nn.ReLU(), (3, 4, 5), "mean", (2, 3)),
        (nn.Conv1d(1, 1, 1), (3, 4), "mean", (2,)),
        (nn.BatchNorm1d(3), (3, 4), "mean", (2,)),
        (nn.Linear(1, 1), (3, 4), "mean", (1,)),
        (nn.LayerNorm(4), (3, 4), "mean", (1,)),
        (nn.Linear(1, 1), (3, 4, 5), "mean:1", (1,)),
        (nn.Linear(1, 1), (3, 4, 5), "mean:1,3", (1, 3)),
        (nn.Linear(1, 1), (3,), "mean", ()),
    ],
)
def test_mean_over_places(module: nn.Module, shape: tuple[int, ...], rule: str, axes: tuple[int, ...]) -> None:
    output = torch.randn(10, *shape)
    made = reduction(rule, module, shape)
    expected = output.numpy().astype(np.float64).mean(axes) if axes else output.numpy()
    assert made.units == expected[0].size
    np.testing.assert_allclose(made(output), expected.reshape(10, -1), atol=1e-6)


def test_principal_components() -> None:
    made = reduction("pca:4")
    assert made.units == 4
    unfitted = made.needs_fit
    made.fit(OUTPUT)
    assert (unfitted, made.needs_fit) == (True, False)
    rows = OUTPUT.reshape(10, 60).double().numpy()
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    projected = made(OUTPUT).numpy()
    np.testing.assert_allclose(projected.var(0, ddof=1), values[::-1][:4], rtol=1e-5)
    theirs = (rows - rows.mean(0)) @ vectors[:, ::-1][:, :4]
    np.testing.assert_allclose(np.abs(projected), np.abs(theirs), atol=1e-5)
    components = made.arrays["components"]
    assert (components[np.arange(4), np.abs(components).argmax(1)] > 0).all()


def test_random_projection_is_the_same_everywhere() -> None:
    made = reduction("random:50")
    assert made.units == 50
    assert torch.equal(made(OUTPUT), reduction("random:50")(OUTPUT))
    other = make_reduction("layer", nn.Linear(1, 1), (3, 4, 5), "random:50", 3, 10)
    assert not torch.equal(made(OUTPUT), other(OUTPUT))
    matrix = made.arrays["components"]
    np.testing.assert_allclose(made(OUTPUT), OUTPUT.reshape(10, 60).numpy() @ matrix.T, atol=1e-4)
    # Of 3000 normal values: the mean within five, the variance within five standard errors.
    assert abs(matrix.mean() * 50**0.5) < 5 / 3000**0.5
    assert abs(matrix.var() * 50 - 1) < 5 * (2 / 3000) ** 0.5


@pytest.mark.parametrize("rule", ["pca:60", "pca:100", "random:60"])
def test_what_is_narrow_already_stays(rule: str) -> None:
    made = reduction(rule)
    assert made.rule == "flatten"
    assert not made.needs_fit
    assert torch.equal(made(OUTPUT), OUTPUT.reshape(10, 60))


@pytest.mark.parametrize(
    "rule", ["", "median", "mean:0", "flatten:1", "pca:2.5", "pca", "pca:0", "pca:2,3", "random:-1"]
)
def test_there_is_no_such_rule(rule: str) -> None:
    with pytest.raises(ParameterError, match=r"reduce must be 'flatten', 'mean', .*'pca:K' or 'random:K'.*but got"):
        parse_rule(rule)


@pytest.mark.parametrize(("rule", "shape"), [("mean:4", (3, 4, 5)), ("mean:1,2,3", (3, 4, 5))])
def test_axes_that_are_not_there(rule: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError, match=r"'layer' gives \(.*cannot average it: axes are 1 to"):
        reduction(rule, shape=shape)


def test_components_need_samples() -> None:
    with pytest.raises(ParameterError, match=r"'pca:11' needs .*11 samples.*the probe has 10"):
        reduction("pca:11")
