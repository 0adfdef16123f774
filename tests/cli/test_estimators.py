"""``estimators``: what is declared, and the check that holds estimators to it."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ipstore.analysis.estimators import Estimator, get
from tests.cli.conftest import ipstore, ipstore_json


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> str:
    """Somebody's estimator that says a little too much of every cell."""
    binned = get("binned")

    def kernel(t: Any, p_y_given_x: Any, *, x_id: Any = None, p_x: Any = None) -> dict[str, Any]:
        values = binned.kernel(t, p_y_given_x, x_id=x_id, p_x=p_x, bins=30, correction="plugin")
        return {"I_XT": values["I_XT"] + 0.01, "I_TY": values["I_TY"]}

    lying = Estimator("liar", 1, "exact", "too much", "nowhere", kernel, truths={"bsc": {}})
    monkeypatch.setitem(sys.modules, "liars", SimpleNamespace(liar=lying))
    return "liars:liar"


def test_a_check_shows_truth_estimate_error_and_time() -> None:
    shown = ipstore("estimators", "discrete", "kde_upper", "--check", "--repeats", "2", "--samples", "100").stdout
    lines = shown.splitlines()
    assert lines[0].startswith("discrete: holds: ")
    assert "0 broken" in lines[0]
    header = next(line for line in lines if line.startswith("  bed "))
    assert header.split() == [
        *("bed", "quantity", "kind", "truth", "estimate", "error", "interval", "held", "runs", "s/run", "verdict")
    ]
    bsc = next(line for line in lines if line.split()[:2] == ["bsc", "I_XT"]).split()
    assert bsc[2:5] == ["exact", "0.500084", "0.500084"]
    assert abs(float(bsc[5])) < 1e-9
    assert bsc[-1] == "holds"
    noisy = next(line for line in lines if line.split()[:2] == ["gaussian_channel", "I_XT"]).split()
    assert (noisy[2], noisy[3], noisy[8]) == ("upper", "0.596323", "2")
    assert lines[-1] == "2 estimators checked: nothing failed"


def test_a_breach_fails_the_check(liar: str) -> None:
    shown = ipstore("estimators", liar, "discrete", "--check", code=1).stdout
    assert "liars:liar: breach: test_" in shown
    assert "bsc I_XT: expected within 1e-09 bits of 0.500084042; got 0.510084042" in shown
    assert "discrete: holds: " in shown
    findings = ipstore_json("estimators", liar, "--check", code=1)["findings"]
    (bed,) = [each for each in findings if each["bed"] == "bsc" and each["promise"] == "I_XT"]
    assert (bed["verdict"], bed["fails"]) == ("breach", True)
    assert bed["error"] == pytest.approx(0.01)


def test_options_of_a_check_alone() -> None:
    assert "give --check too" in ipstore("estimators", "--repeats", "3", code=2).stderr
    assert "repeats of 1 or more" in ipstore("estimators", "--check", "--repeats", "0", code=2).stderr
    assert "no estimator 'bined'" in ipstore("estimators", "bined", code=2).stderr


def test_numbers_are_those_of_the_library() -> None:
    found = ipstore_json("estimators", "knn", "--check", "--repeats", "3")["findings"]
    from ipstore.analysis.testing import check_estimators

    expected = {(f.bed, f.promise): f for f in check_estimators(["knn"], repeats=3)}
    for each in found:
        other = expected[each["bed"], each["promise"]]
        assert each["estimate"] == other.estimate
        assert each["verdict"] == other.verdict
    assert np.isfinite([each["estimate"] for each in found if each["bed"]]).all()
