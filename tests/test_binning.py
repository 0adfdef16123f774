"""Codes of equal bins are those of numpy.digitize, at edges and beside them too."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ipstore.binning import MISSING, Binning
from ipstore.errors import ParameterError

RANGES = (
    (-1.0, 1.0),
    (0.0, 1.0),
    (0.0, 6.0),
    (-0.3, 0.7),
    (1000.0, 1001.0),
    (-1e-30, 3e-30),
    (1e20, 3e20),
    (-5e-324, 1e-320),
)


def digitised(x: NDArray[Any], binning: Binning) -> NDArray[np.uint8]:
    codes = np.digitize(x.astype(np.float64), binning.edges[1:-1])
    return np.where(np.isnan(x), MISSING, codes).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(deadline=None)
@given(
    bins=st.integers(1, MISSING),
    span=st.sampled_from(RANGES)
    | st.tuples(st.floats(-1e3, 1e3), st.floats(1e-9, 1e3)).map(lambda p: (p[0], p[0] + p[1])),
    seed=st.integers(0, 2**32),
)
def test_codes_are_those_of_digitise(dtype: type, bins: int, span: tuple[float, float], seed: int) -> None:
    low, high = span
    if not low < high:
        return
    binning, rng = Binning(bins, span), np.random.default_rng(seed)
    at: NDArray[Any] = binning.edges.astype(dtype)
    beside = [np.nextafter(at, dtype(-np.inf)), np.nextafter(at, dtype(np.inf))]
    rest: NDArray[Any] = rng.uniform(low - (high - low), high + (high - low), 2000).astype(dtype)
    odd: NDArray[Any] = np.array([0, -0.0, np.nan, np.inf, -np.inf, np.finfo(dtype).max, np.finfo(dtype).tiny], dtype)
    x = rng.permutation(np.concatenate([at, *beside, rest, odd]))
    np.testing.assert_array_equal(binning.encode(x), digitised(x, binning))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_thirty_bins_of_a_tanh_layer(dtype: type) -> None:
    # 90 values at and beside the edges, of which floor((x + 1) * 15) gets some wrong.
    binning = Binning()
    at: NDArray[Any] = binning.edges[1:].astype(dtype)
    x = np.concatenate([np.nextafter(at, dtype(-2)), at, np.nextafter(at, dtype(2))])
    np.testing.assert_array_equal(binning.encode(x), digitised(x, binning))
    assert np.any(np.clip(np.floor((x + 1) * 15), 0, 29) != digitised(x, binning))


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_any_strides_on_either_side(axes: tuple[int, int, int]) -> None:
    binning, x = (
        Binning(12, (-2.0, 2.0)),
        np.random.default_rng(0).normal(0, 1, (6, 50, 8)).astype(np.float32),
    )
    expected = digitised(x, binning)
    there = np.argsort(axes)
    turned = x.transpose(axes).copy().transpose(there)
    for view, codes in (
        (turned, expected),
        (turned[::2, 3:, ::-1], expected[::2, 3:, ::-1]),
        (x[0, 0, 0, ...], expected[0, 0, 0, ...]),
    ):
        np.testing.assert_array_equal(binning.encode(view), codes)
        room = np.full((*(2 * size for size in view.shape), 1), 77, np.uint8)
        every_other: tuple[Any, ...] = (slice(None, None, 2),) * view.ndim
        out = room[(*every_other, 0, ...)]
        assert binning.encode(view, out=out) is out
        np.testing.assert_array_equal(out, codes)
        assert np.count_nonzero(room != 77) == codes.size
    broadcast = np.broadcast_to(x[:1], (3, 50, 8))
    np.testing.assert_array_equal(binning.encode(broadcast), np.repeat(expected[:1], 3, axis=0))


def test_the_rule_survives_its_attributes() -> None:
    binning = Binning(17, (-0.5, 3.0))
    assert Binning.from_attrs(binning.to_attrs()) == binning
    assert binning.to_attrs() == {"rule": "equal", "bins": 17, "range": [-0.5, 3.0]}


@pytest.mark.parametrize(
    ("bins", "span", "message"),
    [
        (0, (-1.0, 1.0), r"bins must lie in \[1, 255\] but got 0"),
        (256, (-1.0, 1.0), "got 256"),
        (30, (1.0, 1.0), r"low < high, but got \(1.0, 1.0\)"),
        (30, (0.0, np.inf), "two finite numbers"),
        (30, (np.nan, 1.0), "two finite numbers"),
        (30, (-1e308, 1e308), "two finite numbers"),
    ],
)
def test_bins_that_are_none(bins: int, span: tuple[float, float], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Binning(bins, span)
