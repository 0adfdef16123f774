"""Experiments: what they train, what is left of them, and that they go on where they were stopped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ipstore
from ipstore.errors import ParameterError
from ipstore.format import make_store
from ipstore.trainers.carrying_out import carry_out, cost, missing
from ipstore.trainers.config import TrainConfig
from ipstore.trainers.experiments import Experiment, Quick, experiments

ALONE = Experiment("alone", TrainConfig(hidden=(3,), epochs=4), 2, 4, Quick(1, 2, 2))
SWEPT = replace(ALONE, name="swept", axes={"activation": ("tanh", "relu")})


def ignore(run: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def store(tmp_path: Path) -> Path:
    make_store(tmp_path / "s.zarr")
    return tmp_path / "s.zarr"


def test_the_recipes_are_those_that_the_claims_are_about() -> None:
    full = experiments()
    assert full["networks"].config == TrainConfig(
        hidden=(10, 7, 5, 4, 3), optimizer="adam", learning_rate=4e-4, batch_size=512, epochs=10_000
    )
    assert [config.learning_rate for config in full["rates"].runs.values()] == [0.2, 0.05, 0.01]
    assert [len(config.hidden) for config in full["depths"].runs.values()] == [1, 2, 3, 4, 5, 6]
    fractions = [config.train_fraction for config in full["fractions"].runs.values()]
    assert (fractions[0], fractions[-1], len(fractions)) == (0.03, 0.85, 10)
    assert [config.batch_size for config in full["batches"].runs.values()] == [512, None]
    assert full["networks"].networks == 50


def test_the_quick_form_is_the_same_with_less() -> None:
    for name, full in experiments().items():
        quick = experiments(quick=True)[name]
        assert quick.seeds < full.seeds
        assert quick.captured <= full.captured
        assert set(quick.runs) <= set(full.runs)
        for run, config in quick.runs.items():
            assert config.epochs <= full.runs[run].epochs
            assert replace(config, epochs=full.runs[run].epochs) == full.runs[run]
        assert quick.seeds >= 5  # with fewer there would be no intervals


@pytest.mark.parametrize("experiment", [ALONE, SWEPT])
def test_what_is_carried_out_is_not_missing_and_not_trained_again(experiment: Experiment, store: Path) -> None:
    assert missing(store, experiment) == list(experiment.runs)
    told: list[str] = []
    carry_out(store, experiment, processes=0, on_progress=lambda run, done, total: told.append(run))
    assert missing(store, experiment) == []
    assert set(told) == set(experiment.runs)
    for run, config in experiment.runs.items():
        tree = ipstore.open(store, run=run)
        assert tree.attrs["level"] == "weights"
        assert tree["activations"].to_dataset()["layer1"].isel(epoch=-1).compute().notnull().all()
        assert (tree.sizes["seed"], tree["epoch"].to_numpy()[-1]) == (2, config.epochs)
    told.clear()
    carry_out(store, experiment, processes=0, on_progress=lambda run, done, total: told.append(run))
    assert not told


@pytest.mark.parametrize("experiment", [ALONE, SWEPT])
def test_an_experiment_that_is_stopped_goes_on_bit_for_bit(experiment: Experiment, store: Path, tmp_path: Path) -> None:
    longer = replace(experiment, config=replace(experiment.config, epochs=40), captured=30)

    def stop(run: str, done: int, total: int) -> None:
        if done >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(store, longer, processes=0, on_progress=stop)
    assert missing(store, longer)
    carry_out(store, longer, processes=0, on_progress=ignore)
    assert missing(store, longer) == []
    whole = tmp_path / "whole.zarr"
    carry_out(whole, longer, processes=0, on_progress=ignore)
    for run in longer.runs:
        one, other = (ipstore.open(each, run=run)["weights/output"].values for each in (store, whole))
        np.testing.assert_array_equal(one, other)


def test_a_run_that_was_captured_otherwise_is_refused(store: Path) -> None:
    carry_out(store, ALONE, processes=0, on_progress=ignore)
    other = replace(ALONE, config=replace(ALONE.config, learning_rate=0.1), seeds=3)
    words = r"learning_rate is 0\.2 where 0\.1 is wanted; seeds is 2 where 3"
    with pytest.raises(ParameterError, match=words) as raised:
        carry_out(store, other, processes=0, on_progress=ignore)
    assert "'alone'" in str(raised.value)
    assert "another store" in str(raised.value)


def test_the_cost_is_that_of_what_is_left(store: Path) -> None:
    before = cost(store, [ALONE, SWEPT], processes=0)
    assert (before.runs, before.networks, before.epochs, before.cells) == (3, 6, 6 * 4, 6 * 4)
    assert before.seconds > 0
    carry_out(store, SWEPT, processes=0, on_progress=ignore)
    after = cost(store, [ALONE, SWEPT], processes=0)
    assert (after.runs, after.networks, after.epochs) == (1, 2, 2 * 4)
    assert 0 < after.stored_bytes < before.stored_bytes
    carry_out(store, ALONE, processes=0, on_progress=ignore)
    assert cost(store, [ALONE, SWEPT]).runs == 0


@pytest.mark.long
def test_the_size_is_about_what_is_stored(store: Path) -> None:
    experiment = replace(ALONE, seeds=20, captured=1000, config=TrainConfig(epochs=63))  # 64 epochs fill a chunk
    expected = cost(store, [experiment], processes=0).stored_bytes
    carry_out(store, experiment, processes=0, on_progress=ignore)
    stored = ipstore.runs(store)[0].stored_bytes
    assert 0.8 * expected < stored < 1.25 * expected
