"""Derivatives of the activation functions, each as a function of its output.

Knowing f' from f(z) alone, the backward pass needs no pre-activations. A new activation is one entry of
`ACTIVATIONS`, one of `ipstore.mlp.ACTIVATIONS` and one word of `ActivationName`.
"""

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from ipstore import mlp
from ipstore.trainers.backend import Array
from ipstore.trainers.config import ActivationName

__all__ = ["ACTIVATIONS", "Activation"]


class Activation(NamedTuple):
    """A function and its derivative, on NumPy arrays or tensors (`xp` says whose functions to call)."""

    forward: Callable[[ModuleType, Array], None]
    """``forward(xp, a)`` replaces z by f(z)."""

    backward: Callable[[ModuleType, Array, Array, Array], None]
    """``backward(xp, a, gradient, scratch)`` multiplies `gradient` by f' and overwrites `scratch`."""


def _tanh_backward(xp: ModuleType, a: Array, gradient: Array, scratch: Array) -> None:
    xp.multiply(a, a, out=scratch)
    xp.multiply(scratch, gradient, out=scratch)
    xp.subtract(gradient, scratch, out=gradient)


def _sigmoid_backward(xp: ModuleType, a: Array, gradient: Array, scratch: Array) -> None:
    xp.multiply(a, a, out=scratch)
    xp.subtract(a, scratch, out=scratch)
    xp.multiply(gradient, scratch, out=gradient)


def _relu_backward(xp: ModuleType, a: Array, gradient: Array, scratch: Array) -> None:
    xp.sign(a, out=scratch)
    xp.multiply(gradient, scratch, out=gradient)


def _hard_tanh_backward(xp: ModuleType, a: Array, gradient: Array, scratch: Array) -> None:
    xp.trunc(a, out=scratch)  # -1 or 1 where it saturates, else 0
    xp.multiply(scratch, scratch, out=scratch)
    xp.multiply(scratch, gradient, out=scratch)
    xp.subtract(gradient, scratch, out=gradient)


def _linear_backward(xp: ModuleType, a: Array, gradient: Array, scratch: Array) -> None:
    pass


ACTIVATIONS: dict[ActivationName, Activation] = {
    "tanh": Activation(mlp.ACTIVATIONS["tanh"], _tanh_backward),
    "hard_tanh": Activation(mlp.ACTIVATIONS["hard_tanh"], _hard_tanh_backward),
    "sigmoid": Activation(mlp.ACTIVATIONS["sigmoid"], _sigmoid_backward),
    "relu": Activation(mlp.ACTIVATIONS["relu"], _relu_backward),
    "linear": Activation(mlp.ACTIVATIONS["linear"], _linear_backward),
}
