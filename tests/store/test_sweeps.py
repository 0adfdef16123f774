"""What a run says of its sweep is enough to know all the others, and nothing else passes for it."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ipstore
from ipstore.binning import Binning
from ipstore.errors import CorruptionError, ParameterError
from ipstore.schema import is_name
from ipstore.sweeps import Sweep, Value, as_text, sweep_of
from ipstore.trainers import TrainConfig, capture_sweep, tasks

FRACTIONS = st.floats(0, 1, exclude_min=True, allow_subnormal=False)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "hidden": st.lists(st.integers(1, 99), max_size=3).map(tuple),
    "activation": st.sampled_from(["tanh", "hard_tanh", "relu", "sigmoid"]),
    "learning_rate": FRACTIONS,
    "batch_size": st.none() | st.integers(1, 10_000),
    "train_fraction": FRACTIONS,
}


@st.composite
def sweeps(draw: st.DrawFn) -> Sweep:
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=3, unique=True))
    axes: dict[str, tuple[Value, ...]] = {
        name: tuple(draw(st.lists(VALUES[name], min_size=1, max_size=4, unique=True))) for name in names
    }
    binning = draw(st.none() | st.builds(Binning, st.integers(1, 255), st.just((-1.0, 2.5))))
    return Sweep(
        draw(st.from_regex(r"[a-z][a-z0-9_.=-]{0,7}", fullmatch=True).filter(is_name)),
        axes,
        binning,
        draw(st.none() | st.just(4)),
    )


@given(sweeps())
def test_every_run_says_all_of_its_sweep(sweep: Sweep) -> None:
    assert len(sweep.runs()) == len(list(product(*sweep.axes.values())))
    for run, at in sweep.runs().items():
        assert is_name(run)
        read, stands = Sweep.from_attrs(json.loads(json.dumps(sweep.to_attrs(at))))
        assert (read, stands) == (sweep, at)
        assert list(read.runs()) == list(sweep.runs())
        assert sweep_of(run, {"sweep": sweep.to_attrs(at)}) == (sweep, at)
        assert sweep_of(f"{run}x", {"sweep": sweep.to_attrs(at)}) is None


def test_names_are_those_that_a_person_would_write() -> None:
    sweep = Sweep(
        "s",
        {"hidden": ((10, 7, 5), ()), "batch_size": (None, 512), "learning_rate": (1e-5, 1.0), "activation": ("relu",)},
    )
    assert list(sweep.runs())[:3] == [
        "s-hidden=10-7-5-batch_size=full-learning_rate=1e-05-activation=relu",
        "s-hidden=10-7-5-batch_size=full-learning_rate=1.0-activation=relu",
        "s-hidden=10-7-5-batch_size=512-learning_rate=1e-05-activation=relu",
    ]
    assert list(sweep.runs())[-1] == "s-hidden=none-batch_size=512-learning_rate=1.0-activation=relu"
    assert as_text((3,)) == "3"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sweep("s", {}), "sweep 's' has no axis; give one setting or more several values"),
        (lambda: Sweep("s", {"a": ()}), "axis 'a' of sweep 's' has no value"),
        (lambda: Sweep("s", {"a": (0.5, 0.5)}), "axis 'a' of sweep 's' has the value 0.5 twice"),
        (lambda: Sweep("s", {"a": ((), "none")}), "axis 'a' of sweep 's' has the value none twice"),
        (lambda: Sweep("s", {"../a": (1,)}), "axes of a sweep are named by small letters"),
        (
            lambda: Sweep("s", {"a": ((1,) * 65,)}),
            "a value of a sweep is a word, a number, a list of widths or null, but got",
        ),
        (
            lambda: Sweep("s", {"a": ("a/b",)}),
            "a value of a sweep is a word, a number, a list of widths or null, but got",
        ),
        (lambda: Sweep("../s", {"a": (1,)}), "sweep names are 1 to 128 letters"),
        (lambda: Sweep("s" * 120, {"train_fraction": (0.1,)}), "run names are 1 to 128 letters"),
        (lambda: Sweep("s", {"a": tuple(range(65)), "b": tuple(range(64))}), "would have 4160 runs"),
    ],
)
def test_what_is_no_sweep_is_refused(make: Callable[[], Sweep], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make()


# In a store ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("sweeps") / "store"
    config = TrainConfig(hidden=(2,), epochs=1, batch_size=2048)
    capture_sweep(tasks.load("rule"), where, "s", {"train_fraction": [0.5]}, config, seeds=[0], processes=0)
    return where


GOOD = {"name": "s", "axes": {"train_fraction": [0.5]}, "at": {"train_fraction": 0.5}}


@pytest.mark.parametrize(
    "value",
    [
        "s",
        {},
        {**GOOD, "name": 5},
        {**GOOD, "name": "../s"},
        {**GOOD, "axes": {}},
        {**GOOD, "axes": {"train_fraction": 0.5}},
        {**GOOD, "axes": {"train_fraction": [0.5, True]}},
        {**GOOD, "axes": {"train_fraction": [0.5, {"a": 1}]}},
        {**GOOD, "axes": {"train_fraction": [0.5, "../../etc"]}},
        {**GOOD, "axes": {"train_fraction": [0.5, [-1]]}},
        {**GOOD, "axes": {"train_fraction": [0.5, 0.5]}},
        {**GOOD, "axes": {"train_fraction": [0.5], **{letter: list(range(99)) for letter in "abc"}}},
        {**GOOD, "at": {"train_fraction": 0.4}},
        {**GOOD, "at": {"train_fraction": [[0.5]]}},
        {**GOOD, "at": {}},
        {**GOOD, "at": {"train_fraction": 0.5, "hidden": [3]}},
        {**GOOD, "binning": {"rule": "equal", "bins": 0, "range": [-1, 1]}},
        {**GOOD, "binning": {"rule": "equal"}},
        {**GOOD, "shard_epochs": 0},
        {**GOOD, "shard_epochs": True},
    ],
)
def test_a_run_that_says_what_no_writer_says_is_refused(store: Path, value: Any) -> None:
    document = store / "s-train_fraction=0.5" / "zarr.json"
    before = document.read_text()
    whole = json.loads(before)
    assert whole["attributes"]["sweep"] == GOOD
    whole["attributes"]["sweep"] = value
    document.write_text(json.dumps(whole))
    try:
        with pytest.raises(CorruptionError, match="is damaged, or not from ipstore"):
            ipstore.open(store)
    finally:
        document.write_text(before)
    ipstore.open(store)
