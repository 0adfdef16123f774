"""The training configuration: what it refuses, and its way through JSON."""

import json
import subprocess
import sys
from typing import Any, get_args

import pytest

from ipstore.errors import ParameterError, UnknownNameError
from ipstore.trainers.activations import ACTIVATIONS
from ipstore.trainers.config import ActivationName, InitName, OptimizerName, TrainConfig
from ipstore.trainers.initialisers import INITIALISERS
from ipstore.trainers.optimisers import OPTIMISERS


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        TrainConfig((64,), "relu", "adam", 4e-4, None, 1, "kaiming_normal", 0),
        TrainConfig(hidden=(), batch_size=1, train_fraction=0.05),
    ],
)
def test_round_trip_through_json(config: TrainConfig) -> None:
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden": (10, 0)}, "width in hidden must be an integer of at least 1 but got 0"),
        ({"hidden": (2.5,)}, "width in hidden"),
        ({"hidden": "10"}, "hidden must list"),
        ({"hidden": 10}, "hidden must list"),
        ({"learning_rate": 0}, "learning_rate must be positive"),
        ({"learning_rate": -0.1}, "learning_rate must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"learning_rate": float("inf")}, "learning_rate must be positive"),
        ({"learning_rate": "0.1"}, "learning_rate must be a number"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ({"batch_size": True}, "batch_size"),
        ({"train_fraction": 0}, r"train_fraction must lie in \(0, 1\] but got 0"),
        ({"train_fraction": 1.01}, "train_fraction"),
        ({"epochs": -1}, "epochs must be an integer of at least 0"),
    ],
)
def test_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        TrainConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"activation": "tahn"}, "no activation 'tahn'. Did you mean 'tanh'"),
        ({"optimizer": "sdg"}, "Did you mean 'sgd'"),
        ({"init": "normal"}, "truncated_normal"),
        ({"batchsize": 3}, "no training parameter 'batchsize'. Did you mean 'batch_size'"),
    ],
)
def test_unknown_words(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        TrainConfig.from_dict(values)


def test_every_word_is_implemented_and_nothing_else_is() -> None:
    assert set(ACTIVATIONS) == set(get_args(ActivationName))
    assert set(OPTIMISERS) == set(get_args(OptimizerName))
    assert set(INITIALISERS) == set(get_args(InitName))


def test_tasks_and_configuration_do_without_torch() -> None:
    code = (
        "import sys; import ipstore.trainers.config; from ipstore.trainers import tasks; tasks.load('rule'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
