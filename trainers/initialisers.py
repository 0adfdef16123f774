"""Initial weights, (unit_out, unit_in), by PyTorch's own initialisers; a new one is a line of `INITIALISERS`.

Each draws on the CPU from a generator of the seed's own, so a seed begins alike on every device.
"""

from collections.abc import Callable

from torch import Generator, Tensor
from torch.nn import init

from ipstore.trainers.config import InitName

__all__ = ["INITIALISERS"]


def _truncated_normal(weight: Tensor, generator: Generator) -> None:
    std = weight.shape[1] ** -0.5
    init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)


def _xavier_uniform(weight: Tensor, generator: Generator) -> None:
    init.xavier_uniform_(weight, generator=generator)


def _kaiming_normal(weight: Tensor, generator: Generator) -> None:
    init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)


INITIALISERS: dict[InitName, Callable[[Tensor, Generator], None]] = {
    "truncated_normal": _truncated_normal,
    "xavier_uniform": _xavier_uniform,
    "kaiming_normal": _kaiming_normal,
}
