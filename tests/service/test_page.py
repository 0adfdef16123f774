"""What a page shows follows from what was chosen, and from what is stored."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ipstore.analysis import analyze
from ipstore.analysis.service.page import NO_SEED, Page
from ipstore.analysis.service.service import Service
from tests.service import waiting
from tests.store.synthetic import make_plan, write_run

eventually = partial(waiting.eventually, seconds=60)

pytestmark = [
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame"),  # Panel's table uses it
    pytest.mark.filterwarnings("ignore:invalid value encountered"),  # norms of synthetic runs are below zero
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, one of them analysed under two estimators."""
    store = tmp_path_factory.mktemp("page") / "runs.zarr"
    write_run(store, make_plan("full", shard=4), 9, run="first")
    write_run(store, make_plan("full", shard=4, seeds=2), 5, run="second")
    analyze(store, "first", "binned", bins=5)
    analyze(store, "first", "binned", bins=9, every=4)
    return store


@pytest.fixture
def service(made: Path, tmp_path: Path) -> Iterator[Service]:
    service = Service(shutil.copytree(made, tmp_path / "runs.zarr"))
    yield service
    service.close()


def opened(service: Service, **asked: str) -> Page:
    """Open a page, and wait until it is drawn."""
    page = Page(service, {name: value.split(",") for name, value in asked.items()})
    settled(page)
    return page


def settled(page: Page) -> None:
    eventually(lambda: not page.is_loading)


def test_it_begins_with_the_run_that_says_most(service: Service) -> None:
    page = opened(service)
    assert page.runs.value == ["first"]
    assert page.runs.options == ["first", "second"]
    assert [words.split(",")[0] for words in page.results.options] == ["binned (bins=5", "binned (bins=9"]
    assert page.results.value == [next(iter(page.results.options.values()))], "the one of most epochs"
    assert page.layers.value == page.layers.options == ["layer1", "output"]
    assert page.seed.options == [NO_SEED, 0, 10, 20]
    assert page.player.options == list(range(9))
    assert page.epoch == 8, "the last"
    assert "epoch 8, 3 seeds" in page.status.object
    assert not page.message.visible


def test_an_address_names_what_is_shown(service: Service) -> None:
    page = opened(service, run="second", epoch="2", seed="10", tab="Dynamics")
    assert (page.runs.value, page.epoch, page.seed.value, page.tabs.active) == (["second"], 2, 10, 1)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"run": "third"}, "There is no run 'third' in this store."),
        ({"run": "second,<b>"}, "There is no run '&lt;b&gt;' in this store."),
        ({"epoch": "x"}, "epoch must be a whole number but the address says 'x'"),
        ({"seed": "1.5"}, "seed must be a whole number but the address says '1.5'"),
        ({"tab": "Plains"}, "There is no tab 'Plains': there are Plane, Dynamics, Bound, Activations, Analyse, Runs."),
    ],
)
def test_an_address_that_names_what_there_is_not(service: Service, asked: dict[str, str], words: str) -> None:
    page = opened(service, **asked)
    assert page.message.visible
    assert words in page.message.object
    assert page.runs.value, "the page is there all the same"


def test_other_runs_are_chosen(service: Service) -> None:
    page = opened(service)
    page.runs.value = ["first", "second"]
    settled(page)
    assert [run for run, _ in page.results.value] == ["first"]
    page.runs.value = ["second"]
    settled(page)
    assert not page.results.options
    assert page.has_nothing_estimated
    page.runs.value = []
    settled(page)
    assert not page.has_nothing_estimated


def test_several_estimates_stand_side_by_side(service: Service) -> None:
    page = opened(service)
    page.results.value = list(page.results.options.values())
    settled(page)
    assert len(page.panels("Plane")) == 2
    page.results.value = []
    settled(page)
    assert not page.panels("Plane")


def test_a_point_that_is_selected_is_shown_in_all_views(service: Service) -> None:
    page = opened(service)
    page.tapped(20, 3)
    assert (page.epoch, page.seed.value) == (3, 20)
    page.tapped(None, 5)
    assert (page.epoch, page.seed.value) == (5, 20), "a mean is of no seed"


def test_an_epoch_that_was_chosen_stays_and_the_last_moves_on(service: Service) -> None:
    page = opened(service)
    page.player.value = 3
    page.layers.value = ["output"]
    page.runs.value = ["first", "second"]
    settled(page)
    assert (page.epoch, page.layers.value) == (3, ["output"])
    page.player.value = page.player.options[-1]
    page.runs.value = ["second"]
    settled(page)
    assert page.epoch == page.player.options[-1] == 4


def test_a_run_that_comes_is_offered_and_one_that_goes_stays_drawn(service: Service) -> None:
    page = opened(service)
    store = Path(service.shown)
    write_run(store, make_plan("full", shard=4), 4, run="third")
    eventually(lambda: page.runs.options == ["first", "second", "third"])
    shutil.rmtree(store / "first")
    eventually(lambda: "gone from the store" in page.status.object)
    settled(page)
    assert len(page.panels("Plane")) == 1
    assert page.runs.options == ["second", "third"]


def test_a_store_that_vanishes_for_a_while(service: Service) -> None:
    page = opened(service)
    store = Path(service.shown)
    store.rename(store.with_name("away"))
    eventually(lambda: page.message.visible)
    assert "goes on by itself" in page.message.object
    assert len(page.panels("Plane")) == 1
    store.with_name("away").rename(store)
    eventually(lambda: not page.message.visible)


def test_an_empty_store_says_so_and_shows_the_first_run(tmp_path: Path, made: Path) -> None:
    store = shutil.copytree(made, tmp_path / "runs.zarr")
    for run in ("first", "second"):
        shutil.rmtree(store / run)
    service = Service(store)
    page = Page(service, {})
    assert "holds no run yet" in page.status.object
    shutil.copytree(made / "second", store / "second")
    eventually(lambda: page.runs.value == ["second"])
    service.close()
