"""Initial weights, by PyTorch's own initialisers; a new one is a function and a line of `INITIALISERS`.

Each draws on the CPU from a generator of the seed's own, so a seed begins alike on every device.
"""

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import init

from ipstore.trainers.config import ActivationName, InitName

__all__ = ["INITIALISERS"]


def _truncated_normal(weight: Tensor, generator: Generator, activation: ActivationName) -> None:
    std = weight.shape[1] ** -0.5
    init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)


def _xavier_uniform(weight: Tensor, generator: Generator, activation: ActivationName) -> None:
    init.xavier_uniform_(weight, generator=generator)


def _kaiming_normal(weight: Tensor, generator: Generator, activation: ActivationName) -> None:
    init.kaiming_normal_(weight, nonlinearity=activation, generator=generator)


INITIALISERS: dict[InitName, Callable[[Tensor, Generator, ActivationName], None]] = {
    "truncated_normal": _truncated_normal,
    "xavier_uniform": _xavier_uniform,
    "kaiming_normal": _kaiming_normal,
}
