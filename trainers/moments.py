"""The mean and the spread of the gradients of an epoch's steps, from one copy of the parameters."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["RunningMoments", "squared_norms", "watch"]

_TOGETHER = 2**16
"""Values of small parameters that are handled in one piece: a step costs calls, not bytes."""


class RunningMoments:
    """Running moments of gradients: a mean of each value, and one sum of squared deviations for each parameter.

    After Welford (1962): with n gradients g so far and mean m, the sum of squares grows by (1 - 1/n) |g - m|^2.

    Parameters
    ----------
    parameters : iterable of Parameter
        Which of them are trained is seen at an epoch's first step. Those without a gradient at a step count as if it
        were zero.
    optimizer : Optimizer, optional
        Whose parameters alone count.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], optimizer: Optimizer | None = None) -> None:
        self._parameters = list(dict.fromkeys(parameters))
        self._optimizer = optimizer
        self._pieces: list[_Piece] = []
        self.steps = 0

    def step(self) -> None:
        """Take in the gradients as they are now."""
        if not self.steps:  # now, since the model may have been moved to another device, or layers unfrozen
            self._pieces = [_Piece(group) for group in _grouped(self._trained())]
        self.steps += 1
        with torch.no_grad():
            for piece in self._pieces:
                piece.add(self.steps)

    def _trained(self) -> list[nn.Parameter]:
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        if self._optimizer is None:
            return trained
        own = {id(parameter) for group in self._optimizer.param_groups for parameter in group["params"]}
        return [parameter for parameter in trained if id(parameter) in own]

    def take(self) -> dict[nn.Parameter, tuple[float, float]]:
        """Give of each parameter the squared norm of the mean gradient and the summed variance, and begin anew.

        Nothing, if there was no step.
        """
        found: dict[nn.Parameter, tuple[float, float]] = {}
        for piece in self._pieces:
            found |= piece.squares(self.steps)
        self._pieces, self.steps = [], 0
        return found


def _grouped(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Put small parameters of one device together, up to `_TOGETHER` values."""
    groups: list[list[nn.Parameter]] = []
    for _, same in groupby(parameters, key=lambda parameter: parameter.device):
        room = 0
        for parameter in same:
            if parameter.numel() > room:
                groups.append([])
                room = _TOGETHER
            groups[-1].append(parameter)
            room -= parameter.numel()
    return groups


def squared_norms(parameters: Iterable[nn.Parameter]) -> dict[nn.Parameter, float]:
    """Give the squared norm of each parameter."""
    found: dict[nn.Parameter, float] = {}
    with torch.no_grad():
        for group in _grouped(list(dict.fromkeys(parameters))):
            if len(group) == 1:
                found[group[0]] = torch.linalg.vector_norm(group[0], dtype=torch.float64).item() ** 2
                continue
            values = torch.cat([parameter.reshape(-1) for parameter in group]).double()
            lengths = torch.tensor([parameter.numel() for parameter in group], device=values.device)
            found |= zip(group, _sums(values.square_(), lengths).tolist(), strict=True)
    return found


def _sums(values: Tensor, lengths: Tensor) -> Tensor:
    """Sum pieces of so many values each."""
    if len(lengths) == 1:
        return values.sum(dtype=torch.float64).reshape(1)
    return torch.segment_reduce(values, "sum", lengths=lengths, unsafe=True)


class _Piece:
    """Parameters whose gradients are laid end to end."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        device = parameters[0].device
        self._parameters = parameters
        self._lengths = torch.tensor([parameter.numel() for parameter in parameters], device=device)
        self._mean = torch.zeros(sum(parameter.numel() for parameter in parameters), device=device)
        self._deviations = torch.zeros(len(parameters), dtype=torch.float64, device=device)

    def add(self, count: int) -> None:
        away = torch.cat([_flat(parameter) for parameter in self._parameters]).float()
        away -= self._mean
        self._mean.add_(away, alpha=1 / count)
        self._deviations.add_(_sums(away.square_(), self._lengths), alpha=1 - 1 / count)

    def squares(self, count: int) -> dict[nn.Parameter, tuple[float, float]]:
        means, spreads = _sums(self._mean.square(), self._lengths).tolist(), (self._deviations / count).tolist()
        return dict(zip(self._parameters, zip(means, spreads, strict=True), strict=True))


def _flat(parameter: nn.Parameter) -> Tensor:
    gradient = parameter.grad
    if gradient is None:
        return torch.zeros(parameter.numel(), device=parameter.device)
    return (gradient.to_dense() if gradient.is_sparse else gradient).reshape(-1)


def watch(optimizer: Optimizer, before: Callable[[], None]) -> Any:
    """Have something called before each step of an optimizer, when the gradients are there.

    Returns
    -------
    RemovableHandle
    """

    def hook(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            before()
            return None
        pending = [before]

        def closed(*given: Any, **named: Any) -> Any:
            value = closure(*given, **named)
            if pending:  # a line search evaluates the loss again and again; the first is the mini-batch's gradient
                pending.pop()()
            return value

        if len(args) > 1:
            return (args[0], closed, *args[2:]), kwargs
        return args, {**kwargs, "closure": closed}

    return optimizer.register_step_pre_hook(hook)
