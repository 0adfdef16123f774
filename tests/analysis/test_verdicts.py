"""The rule of verdicts, on findings of which the answer is plain."""

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from ipstore.analysis.reproduction.verdicts import (
    Finding,
    Number,
    above,
    all_of,
    below,
    over_seeds,
    typical,
    verdict,
)


def finding(holds: bool | None, **conditions: str) -> Finding:
    return Finding(conditions, {}, holds)


outcomes = st.sampled_from([True, False, None])


@pytest.mark.parametrize(
    ("holds", "word"),
    [
        ([True, True], "supported"),
        ([False, False], "not supported"),
        ([True, None], "supported where decided"),
        ([None, False], "not supported where decided"),
        ([None, None], "undecided"),
        ([], "undecided"),
    ],
)
def test_findings_that_agree(holds: list[bool | None], word: str) -> None:
    assert str(verdict([finding(each, run=str(place)) for place, each in enumerate(holds)])) == word


def test_what_it_depends_on_are_the_fewest_conditions_that_separate() -> None:
    rates = [
        finding(True, optimiser="sgd", rate="0.2", layer="output"),
        finding(False, optimiser="sgd", rate="0.01", layer="output"),
        finding(False, optimiser="adam", rate="0.0004", layer="output"),
    ]
    assert str(verdict(rates)) == "depends on rate"
    assert str(verdict([rates[0], rates[2]])) == "depends on optimiser and rate"
    layer = finding(False, optimiser="sgd", rate="0.2", layer="layer1")
    assert str(verdict([*rates, layer])) == "depends on rate and layer"
    assert str(verdict([finding(True, batch="512"), finding(False)])) == "depends on batch"


@given(st.lists(st.tuples(outcomes, st.sampled_from("ab"), st.sampled_from("xy")), max_size=6))
def test_a_verdict_follows_from_the_findings_in_any_order(cells: list[tuple[bool | None, str, str]]) -> None:
    findings = [finding(holds, one=one, two=two) for holds, one, two in cells]
    found = verdict(findings)
    assert verdict(findings[::-1]) == found
    decided = {holds for holds, *_ in cells} - {None}
    assert (found.word == "depends") == (decided == {True, False})
    if (True, "a", "x") in cells and (False, "a", "x") in cells:
        assert not found.on  # opposite outcomes under the same conditions: nothing that was varied explains them
        assert str(found) == "depends on what was not varied"


@pytest.mark.parametrize(
    ("low", "high", "more", "less"),
    [(0.6, 0.7, True, False), (0.1, 0.5, False, True), (0.4, 0.6, None, None), (math.nan, math.nan, None, None)],
)
def test_a_number_lies_on_a_side_if_its_interval_does(
    low: float, high: float, more: bool | None, less: bool | None
) -> None:
    number = Number(0.5, low, high)
    assert above(number, 0.5) is more
    assert below(number, 0.5) is less


@given(st.lists(outcomes, max_size=5))
def test_all_of_is_kleenes_and(given_outcomes: list[bool | None]) -> None:
    value = {True: 1.0, None: 0.5, False: 0.0}
    expected = min((value[each] for each in given_outcomes), default=1.0)
    assert value[all_of(*given_outcomes)] == expected


def test_numbers_are_means_over_the_seeds_that_have_one() -> None:
    values = xr.DataArray([1.0, 2, 3, 4, 5, np.nan], dims="seed", coords={"seed": range(6)})
    number = over_seeds(values, "bits")
    assert (number.value, number.seeds, number.units) == (3.0, 5, "bits")
    assert 1 < number.low < 3 < number.high < 5
    assert math.isnan(over_seeds(values[:4]).low)  # too few seeds for an interval
    assert math.isnan(over_seeds(values[5:]).value)
    assert typical(xr.DataArray([1.0, 10, 100], dims="seed", coords={"seed": range(3)})).value == pytest.approx(10)
