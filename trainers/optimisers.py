"""Optimisers on flat parameters, (seed, param); a new one is a class and a line of `OPTIMISERS`."""

from typing import Protocol

from ipstore.trainers.backend import Array, Backend
from ipstore.trainers.config import OptimizerName

__all__ = ["OPTIMISERS", "SGD", "Adam", "Optimiser"]


class Optimiser(Protocol):
    """What an ensemble asks of an optimiser."""

    buffers: dict[str, Array]
    """State by name, each (seed, param), saved and restored with the parameters."""

    def __init__(self, backend: Backend, learning_rate: float, shape: tuple[int, int]) -> None: ...

    def step(self, parameters: Array, gradient: Array, seeds: slice, count: int) -> None:
        """Update the parameters of some seeds in place; `count` is the number of this step, from 1.

        `gradient` may be overwritten.
        """


class SGD:
    """Stochastic gradient descent."""

    def __init__(self, backend: Backend, learning_rate: float, shape: tuple[int, int]) -> None:
        self.xp, self.learning_rate = backend.xp, learning_rate
        self.buffers: dict[str, Array] = {}

    def step(self, parameters: Array, gradient: Array, seeds: slice, count: int) -> None:
        """``parameters -= learning_rate * gradient``."""
        self.xp.multiply(gradient, self.learning_rate, out=gradient)
        self.xp.subtract(parameters, gradient, out=parameters)


class Adam:
    """Adam with beta 0.9 and 0.999, epsilon 1e-8 (Kingma & Ba, ICLR 2015, algorithm 1)."""

    BETA = (0.9, 0.999)
    EPSILON = 1e-8

    def __init__(self, backend: Backend, learning_rate: float, shape: tuple[int, int]) -> None:
        self.xp, self.learning_rate = backend.xp, learning_rate
        self.buffers = {"first_moment": backend.zeros(*shape), "second_moment": backend.zeros(*shape)}
        self._scratch = backend.zeros(*shape)

    def step(self, parameters: Array, gradient: Array, seeds: slice, count: int) -> None:
        """Follow the first moment over the root of the second, both freed of their bias towards zero."""
        xp, (beta_1, beta_2), scratch = self.xp, self.BETA, self._scratch[seeds]
        first, second = self.buffers["first_moment"][seeds], self.buffers["second_moment"][seeds]
        xp.multiply(first, beta_1, out=first)
        xp.multiply(gradient, 1 - beta_1, out=scratch)
        xp.add(first, scratch, out=first)
        xp.multiply(second, beta_2, out=second)
        xp.multiply(gradient, gradient, out=gradient)
        xp.multiply(gradient, 1 - beta_2, out=gradient)
        xp.add(second, gradient, out=second)
        xp.sqrt(second, out=scratch)
        xp.multiply(scratch, (1 - beta_2**count) ** -0.5, out=scratch)
        xp.add(scratch, self.EPSILON, out=scratch)
        xp.divide(first, scratch, out=scratch)
        xp.multiply(scratch, self.learning_rate / (1 - beta_1**count), out=scratch)
        xp.subtract(parameters, scratch, out=parameters)


OPTIMISERS: dict[OptimizerName, type[Optimiser]] = {"sgd": SGD, "adam": Adam}
