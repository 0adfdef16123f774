"""Critical betas against closed forms, against the points beside them, and against another algorithm."""

from typing import Any

import numpy as np
import pytest

from ipstore.analysis.ib import blahut_arimoto, critical_betas, joint, onset, point
from ipstore.errors import ParameterError
from ipstore.trainers.tasks import load


def channel(error: float) -> np.ndarray:
    return np.array([[1 - error, error], [error, 1 - error]])


@pytest.mark.parametrize("error", [0.05, 0.1, 0.2])
def test_a_symmetric_channel_has_one_critical_beta(error: float) -> None:
    found = critical_betas(joint(None, channel(error)))
    late = found["beta"].values * (1 - 2 * error) ** 2 - 1  # two values that have hardly parted count as one
    assert -1e-5 <= late.item() <= 1e-4
    assert (found["n_below"].item(), found["n_above"].item()) == (1, 2)


@pytest.mark.long
def test_two_channels_side_by_side_split_one_after_the_other() -> None:
    # Y = (Y1, Y2) of independent bits X1, X2: I(X;T) - beta I(T;Y) is a sum, whose parts begin at their own betas.
    found = critical_betas(joint(None, np.kron(channel(0.05), channel(0.2))), 10)
    np.testing.assert_allclose(found["beta"], [0.9**-2, 0.6**-2], rtol=1e-3)
    assert found["n_below"].values.tolist() == [1, 2]
    assert found["n_above"].values.tolist() == [2, 4]


def test_the_rule_has_four_values_beyond_beta_48() -> None:
    labels = joint(None, load("rule", information=0.99).p_y_given_x)
    found = critical_betas(labels, 100)
    assert found["beta"][0] == pytest.approx(onset(labels), rel=1e-12)
    assert found["n_above"].values.tolist() == [2, 3, 4]
    for below, above, fewer, more in zip(
        *(found[name].values for name in ("beta", "beta_upper", "n_below", "n_above")), strict=True
    ):
        assert above <= below * (1 + 1e-5)
        assert point(labels, below).sizes["t"] == fewer
        assert point(labels, above).sizes["t"] == more
    # Another algorithm, held to too few values, falls short of the optimum beyond a critical beta, and not before.
    for beta, least, most in [(0.9 * found["beta"][1].item(), -1e-9, 1e-7), (60.0, 1e-4, 1.0)]:
        best = point(labels, beta)
        two = blahut_arimoto(labels, beta, n_clusters=2)
        short = (two["I_XT"] - beta * two["I_TY"]) - (best["I_XT"] - beta * best["I_TY"])
        assert least <= short.item() <= most


def test_nothing_is_critical_before_the_onset() -> None:
    found = critical_betas(joint(None, channel(0.2)), 2.0)
    assert found.sizes["critical"] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [({"beta_max": 0.5}, "1 or more"), ({"beta_max": np.inf}, "finite"), ({"rtol": 0}, "1e-9 to 0.1")],
)
def test_what_is_no_range_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        critical_betas(joint(None, channel(0.1)), **options)
