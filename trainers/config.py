"""How networks are trained: everything a run must remember of it beside the task and the seeds."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any, Literal, get_args

from ipstore.errors import ParameterError, UnknownNameError

__all__ = ["ActivationName", "InitName", "OptimizerName", "TrainConfig"]

ActivationName = Literal["tanh", "hard_tanh", "relu", "sigmoid", "linear"]
OptimizerName = Literal["sgd", "adam"]
InitName = Literal["truncated_normal", "xavier_uniform", "kaiming_normal"]


@dataclass(frozen=True)
class TrainConfig:
    """A multilayer perceptron with a softmax output, and how it is trained.

    The defaults are the paper's network under the recipe that compresses within 2000 epochs.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers; may be empty.
    activation : {"tanh", "hard_tanh", "relu", "sigmoid", "linear"}
        Of the hidden layers.
    optimizer : {"sgd", "adam"}
        Adam with beta 0.9 and 0.999 and epsilon 1e-8 (Kingma & Ba 2015).
    learning_rate : float
        Positive.
    batch_size : int, optional
        Samples per step; the last batch of an epoch may be smaller. None trains on all samples at once.
    train_fraction : float
        Share of the samples that is trained on, in (0, 1].
    init : {"truncated_normal", "xavier_uniform", "kaiming_normal"}
        Of the weights; biases start at 0. Truncated normal has standard deviation 1/sqrt(fan_in), cut at
        twice that (the paper's). The others are PyTorch's, Kaiming with the gain of ReLU.
    epochs : int
        Epochs to train in all, 0 or more.

    Raises
    ------
    ParameterError
        If a number lies outside what is allowed.
    UnknownNameError
        If a word is none of those listed.
    """

    hidden: tuple[int, ...] = (10, 7, 5, 4, 3)
    activation: ActivationName = "tanh"
    optimizer: OptimizerName = "sgd"
    learning_rate: float = 0.2
    batch_size: int | None = 512
    train_fraction: float = 0.85
    init: InitName = "truncated_normal"
    epochs: int = 2000

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", _widths(self.hidden))
        object.__setattr__(self, "epochs", _integer("epochs", self.epochs, 0))
        if self.batch_size is not None:
            object.__setattr__(self, "batch_size", _integer("batch_size", self.batch_size, 1))
        rate = _real("learning_rate", self.learning_rate)
        if not (math.isfinite(rate) and rate > 0):
            raise ParameterError(f"learning_rate must be positive and finite but got {self.learning_rate!r}")
        fraction = _real("train_fraction", self.train_fraction)
        if not 0 < fraction <= 1:
            raise ParameterError(f"train_fraction must lie in (0, 1] but got {self.train_fraction!r}")
        object.__setattr__(self, "learning_rate", rate)
        object.__setattr__(self, "train_fraction", fraction)
        for what, known in (("activation", ActivationName), ("optimizer", OptimizerName), ("init", InitName)):
            if getattr(self, what) not in get_args(known):
                raise UnknownNameError(what, str(getattr(self, what)), get_args(known))

    def to_dict(self) -> dict[str, Any]:
        """Give the configuration as JSON values."""
        return {**asdict(self), "hidden": list(self.hidden)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Read a configuration back from what `to_dict` gave; what is missing takes its default.

        Raises
        ------
        UnknownNameError
            If a key is no parameter.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise UnknownNameError("training parameter", key, known)
        return cls(**values)


def _widths(value: Any) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ParameterError(f"hidden must list the widths of the hidden layers but got {value!r}")
    return tuple(_integer("each width in hidden", width, 1) for width in value)


def _integer(what: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ParameterError(f"{what} must be an integer of at least {least} but got {value!r}")
    return int(value)


def _real(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ParameterError(f"{what} must be a number but got {value!r}")
    return float(value)
