"""What a list of runs and a run at a glance show, and that it is text and never markup."""

from pathlib import Path

import pytest

import ipstore
from ipstore.reader import RunList
from ipstore.representations import facts_html, table_html, table_text
from tests.store.synthetic import make_plan, write_run

MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    place = tmp_path / "runs.zarr"
    write_run(
        place, make_plan(attrs={"task": MARKUP, "model": {"kind": "module", "class": "mine.Net"}}), 9, run="first"
    )
    write_run(place, make_plan("half", seeds=1), 0, run="second", status="interrupted")
    return place


def test_a_list_of_runs_is_a_list_and_prints_as_a_table(store: Path) -> None:
    runs = ipstore.runs(store)
    assert isinstance(runs, list)
    assert isinstance(runs, RunList)
    assert [run.name for run in runs] == ["first", "second"]
    assert runs == list(runs)
    title, head, first, second = repr(runs).splitlines()
    assert title == "2 runs"
    assert head.split() == ["run", "status", "task", "model", "level", "epochs", "seeds", "on", "disk"]
    assert first.startswith("first   finished")
    assert "8  3 (0, 10, 20)" in first
    assert second.split()[:4] == ["second", "interrupted", "synthetic", "half"]
    assert "none yet" in second
    assert "sweep" not in head  # no run is of one
    assert [len(line) for line in (head, second)] == [len(first)] * 2


def test_an_empty_list_of_runs_says_so() -> None:
    assert repr(RunList()) == "0 runs"
    assert RunList()._repr_html_() == "<div><b>0 runs</b></div>"


def test_a_run_at_a_glance_is_one_line(store: Path) -> None:
    first, second = map(repr, ipstore.runs(store))
    assert first.startswith("<run 'first': status finished")
    assert "model mine.Net" in first
    assert "\n" not in first + second
    assert "diverged" not in first


def test_names_are_text_and_never_markup(store: Path) -> None:
    runs = ipstore.runs(store)
    for page in (runs._repr_html_(), runs[0]._repr_html_(), facts_html(MARKUP, {MARKUP: MARKUP})):
        assert "&lt;img src=x" in page
        assert "<img" not in page
    assert "<img" not in table_html(MARKUP, [{MARKUP: MARKUP}])


def test_of_very_many_rows_the_rest_is_counted() -> None:
    rows = [{"run": f"run-{i}"} for i in range(203)]
    assert table_text("203 runs", rows).splitlines()[-2:] == ["run-199", "and 3 more"]
    assert table_html("203 runs", rows).count("<tr>") == 201
    assert table_html("203 runs", rows).endswith("and 3 more</div>")


def test_a_column_that_few_have_is_shown_and_one_that_none_has_is_not() -> None:
    rows = [{"run": "a", "epochs": "10"}, {"run": "b", "sweep": "x=1", "epochs": "5"}, {"run": "c", "model": ""}]
    assert table_text("3 runs", rows).splitlines() == [
        "3 runs",
        "run  sweep  epochs",
        "a               10",
        "b    x=1         5",
        "c",
    ]
