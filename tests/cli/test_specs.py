"""What is written on the command line means what its help says."""

from typing import Any

import pytest

from ipstore.cli import specs
from ipstore.errors import ParameterError
from ipstore.wording import task_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rule", ("rule", {})),
        ("rule:information=0.99,signed=true", ("rule", {"information": 0.99, "signed": True})),
        ("rule:information=null", ("rule", {"information": None})),
        ("package.module:factory", ("package.module:factory", {})),
        ("package.module:factory:n=3,kind=plain", ("package.module:factory", {"n": 3, "kind": "plain"})),
    ],
)
def test_a_task_is_read_and_written_back(text: str, expected: tuple[str, dict[str, Any]]) -> None:
    assert specs.task(text) == expected
    assert task_text(*expected) == text


@pytest.mark.parametrize("text", ["rule:=3", "rule:n=", "rule:n=1,", "rule:n=1,n=2", "rule:n=1,m"])
def test_a_task_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match=r"rule:parameter=value,\.\.\. each once, but got 'rule:"):
        specs.task(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", [0, 1, 2]),
        ("0", []),
        ("0-3", [0, 1, 2, 3]),
        ("3,5,9", [3, 5, 9]),
        ("0-2,7", [0, 1, 2, 7]),
        ("7,", [7]),
    ],
)
def test_seeds(text: str, expected: list[int]) -> None:
    assert specs.seeds(text) == expected


@pytest.mark.parametrize("text", ["", "ten", "3-", "-3", "1,,2", "1.5"])
def test_seeds_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ParameterError, match=f"--seeds .* but got '{text}'"):
        specs.seeds(text)


def test_widths() -> None:
    assert specs.widths("10-7-5") == (10, 7, 5)
    assert specs.widths("10") == (10,)
    assert specs.widths("none") == ()


@pytest.mark.parametrize("text", ["", "10,7", "10-", "ten"])
def test_widths_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ParameterError, match=f"--hidden .* but got '{text}'"):
        specs.widths(text)


def test_batch_size() -> None:
    assert specs.batch_size("512") == 512
    assert specs.batch_size("full") is None
    with pytest.raises(ParameterError, match=r"--batch-size .* but got 'all'"):
        specs.batch_size("all")


def test_interval() -> None:
    assert specs.interval("-1..1") == (-1, 1)
    assert specs.interval("0..2.5") == (0, 2.5)
    with pytest.raises(ParameterError, match=r"--range .* but got '-1,1'"):
        specs.interval("-1,1")
