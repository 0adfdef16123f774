"""The figure of loss and accuracy."""

from typing import Any

import holoviews as hv
import numpy as np
import pytest

from ipstore.analysis import figures
from ipstore.errors import ParameterError
from tests.analysis.test_figures import elements, option, training_of
from tests.analysis.test_figures_panels import drawn, of, paper, screen


def test_lines_are_means_over_seeds_by_split() -> None:
    training = training_of()
    figure = figures.training(training)
    for name in ("loss", "accuracy"):
        for split in ("train", "test"):
            (line,) = of(drawn(figure, hv.Curve, "Mean", split=split), name)
            expected = training[name].sel(split=split)
            np.testing.assert_array_equal(line["epoch"], np.arange(40))
            np.testing.assert_allclose(line[name], expected.values.mean(axis=1), rtol=1e-12)
            np.testing.assert_allclose(line["log_epoch"], np.log10(np.arange(1, 41)), rtol=1e-12)


def test_a_band_holds_the_middle_of_the_seeds() -> None:
    training = training_of()
    bands = of(elements(figures.training(training), hv.Area, "Band"), "loss")
    for band, split in zip(bands, ("train", "test"), strict=True):
        values = training["loss"].sel(split=split).values
        np.testing.assert_allclose(band["loss"], np.quantile(values, 0.1, axis=1), rtol=1e-12)
        np.testing.assert_allclose(band["loss_high"], np.quantile(values, 0.9, axis=1), rtol=1e-12)


def test_splits_are_told_apart_without_colour() -> None:
    figure = figures.training(training_of(epochs=5))
    for split, dash in (("train", "solid"), ("test", "dashed")):
        lines = drawn(figure, hv.Curve, "Mean", split=split)
        assert {option(line, "line_dash", kind="style") for line in lines} == {dash}
        assert {option(line, "linestyle", "matplotlib", kind="style") for line in lines} == {dash}


def test_a_panel_for_each_metric_has_an_axis_with_its_unit_that_holds_all() -> None:
    training = training_of(epochs=5)
    loss, accuracy = figures.training(training)
    assert option(loss, "ylabel") == "cross-entropy (nats)"
    assert option(accuracy, "ylabel") == "accuracy"
    for panel, name in ((loss, "loss"), (accuracy, "accuracy")):
        low, high = option(panel, "ylim")
        assert low < 0 < float(training[name].max()) < high
    unnamed = training.drop_attrs()
    assert option(figures.training(unnamed).values()[0], "ylabel") == "loss"


def test_single_seeds_are_thin_lines_of_their_own() -> None:
    training = training_of(3, 5)
    (line,) = of(elements(figures.training(training, seeds=True), hv.Curve, "Seeds"), "loss")[:1]
    found = np.split(np.asarray(line["loss"]), 3)
    for seed, values in enumerate(found):
        np.testing.assert_array_equal(values[:-1], training["loss"].sel(seed=seed, split="train"))
        assert np.isnan(values[-1])  # the gap before the next
    assert "thin: single seeds" in screen(figures.training(training, seeds=True))
    assert elements(figures.training(training), hv.Curve, "Seeds") == []


def test_a_long_run_is_thinned_and_says_so() -> None:
    figure = figures.training(training_of(2, 2001))
    (line,) = of(drawn(figure, hv.Curve, "Mean", split="train"), "loss")
    assert 100 < len(line) <= 200
    assert (line["epoch"][0], line["epoch"][-1]) == (0, 2000)
    assert f"Drawn: {len(line)} of 2001 epochs." in paper(figure)


def test_what_was_not_recorded_is_named_and_not_drawn() -> None:
    training = training_of(epochs=5)
    training["loss"].loc[{"split": "test"}] = np.nan
    figure = figures.training(training)
    assert [line["split"][0] for line in of(elements(figure, hv.Curve, "Mean"), "loss")] == ["train"]
    assert "Not recorded: test loss." in screen(figure)
    assert "6 seeds" in screen(figure)
    figure = figures.training(training.drop_vars("accuracy"))
    assert len(list(figure)) == 1
    assert "Not recorded: test loss and accuracy." in screen(figure)
    assert "test samples" not in screen(figure)
    (only,) = figures.training(training.assign(loss=training["loss"] * np.nan))
    assert option(only, "ylabel") == "accuracy"


def test_epochs_between_evaluations_are_no_fault_of_any_seed() -> None:
    training = training_of(epochs=12)
    often = training["epoch"] % 5 == 0
    figure = figures.training(training.where(often | (training["split"] == "train")))
    (test,) = of(drawn(figure, hv.Curve, "Mean", split="test"), "loss")
    (train,) = of(drawn(figure, hv.Curve, "Mean", split="train"), "loss")
    np.testing.assert_array_equal(test["epoch"], [0, 5, 10])
    np.testing.assert_allclose(test["loss"], training["loss"].sel(split="test").mean("seed")[::5])
    assert len(train) == 12
    assert "Left out" not in screen(figure)


def test_a_diverged_seed_is_left_out_of_all_and_named() -> None:
    training = training_of()
    spoilt = training.copy(deep=True)
    spoilt["loss"].loc[{"seed": 4, "epoch": slice(30, None), "split": "train"}] = np.inf
    figure = figures.training(spoilt)
    expected = figures.training(training.sel(seed=[0, 1, 2, 3, 5]))
    for one, other in zip(*(elements(f, hv.Curve, "Mean") for f in (figure, expected)), strict=True):
        np.testing.assert_array_equal(one.array([0, 1]), other.array([0, 1]))
    assert "5 of 6 seeds" in screen(figure)
    assert "Left out: 1 seed with NaN, as after divergence (4); NaN in 10 of 960 cells." in paper(figure)


def test_if_every_seed_lacks_something_means_are_over_those_that_are_there() -> None:
    training = training_of(2, 6)
    training["loss"].loc[{"seed": 0, "epoch": 3}] = np.nan
    training["loss"].loc[{"seed": 1, "epoch": 4}] = np.nan
    figure = figures.training(training)
    (line,) = of(drawn(figure, hv.Curve, "Mean", split="train"), "loss")
    assert line["loss"][3] == training["loss"].sel(seed=1, split="train", epoch=3)
    assert line["loss"][4] == training["loss"].sel(seed=0, split="train", epoch=4)
    assert "Every seed has NaN cells" in screen(figure)


def test_one_seed_and_one_epoch_are_enough() -> None:
    figure = figures.training(training_of(1, 5))
    assert elements(figure, hv.Area, "Band") == []
    assert "Lines: the one seed." in screen(figure)
    assert len(elements(figures.training(training_of(3, 1)), hv.Scatter, "Point")) == 4


def test_epochs_in_any_order_single_precision_and_lazy_arrays_are_taken() -> None:
    training = training_of()
    given = training.isel(epoch=slice(None, None, -1)).astype(np.float32).chunk(epoch=7)
    for one, other in zip(
        *(elements(figures.training(each), hv.Curve, "Mean") for each in (given, training)), strict=True
    ):
        np.testing.assert_allclose(one.array([0, 1]).astype(float), other.array([0, 1]).astype(float), rtol=1e-6)


def test_the_heading_names_the_run_if_it_is_known() -> None:
    training = training_of(epochs=3)
    assert "Training · run rule-tanh" in paper(figures.training(training))
    assert "· run" not in screen(figures.training(training.drop_attrs()))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: [t], "but got a list"),
        (lambda t: t.drop_vars(["loss", "accuracy"]), r"variables given are grad_mean_norm \('epoch', 'seed', 'layer'"),
        (lambda t: t[["loss"]].mean("seed"), r"variables given are loss \('epoch', 'split'\)"),
        (lambda t: t[["loss"]].assign_coords(split=["train", "held out"]), "the splits train and held out"),
        (lambda t: t[["loss"]] * np.nan, "no number to draw in loss: they are NaN or empty at all 40 epochs"),
        (lambda t: t.isel(epoch=slice(0)), "no number to draw in loss and accuracy"),
    ],
)
def test_what_is_no_training_is_refused(spoil: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        figures.training(spoil(training_of()))


def test_the_registered_figure_takes_a_training_alone() -> None:
    with pytest.raises(ParameterError, match="takes a run's training but got 2 planes"):
        figures.FIGURES["training"](training_of(), training_of())
    assert isinstance(figures.FIGURES["training"](training_of(epochs=2)), hv.Layout)
