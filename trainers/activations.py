"""Activation functions, each with its derivative as a function of its output.

Knowing f' from f(z) alone, the backward pass needs no pre-activations. A new activation is one entry of
`ACTIVATIONS` and one word of `ActivationName`.
"""

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from ipstore.trainers.backend import Array
from ipstore.trainers.config import ActivationName

__all__ = ["ACTIVATIONS", "Activation", "softmax"]


class Activation(NamedTuple):
    """A function and its derivative, on NumPy arrays or tensors (`xp` says whose functions to call)."""

    forward: Callable[[ModuleType, Array], None]
    """``forward(xp, a)`` replaces z by f(z)."""

    backward: Callable[[ModuleType, Array, Array, Array], None]
    """``backward(xp, a, gradient, scratch)`` multiplies `gradient` by f' and overwrites `scratch`."""


def _tanh(xp: ModuleType, a: Array) -> None:
    xp.tanh(a, out=a)


def _tanh_backward(xp: ModuleType, a: Array, gradient: Array, scratch: Array) -> None:
    xp.multiply(a, a, out=scratch)
    xp.multiply(scratch, gradient, out=scratch)
    xp.subtract(gradient, scratch, out=gradient)


def _sigmoid(xp: ModuleType, a: Array) -> None:
    # Not torch.sigmoid, whose vector and scalar code differ in the last bit.
    xp.multiply(a, 0.5, out=a)
    xp.tanh(a, out=a)
    xp.multiply(a, 0.5, out=a)
    xp.add(a, 0.5, out=a)


def _sigmoid_backward(xp: ModuleType, a: Array, gradient: Array, scratch: Array) -> None:
    xp.multiply(a, a, out=scratch)
    xp.subtract(a, scratch, out=scratch)
    xp.multiply(gradient, scratch, out=gradient)


def _relu(xp: ModuleType, a: Array) -> None:
    xp.clip(a, 0, None, out=a)


def _relu_backward(xp: ModuleType, a: Array, gradient: Array, scratch: Array) -> None:
    xp.sign(a, out=scratch)
    xp.multiply(gradient, scratch, out=gradient)


def _hard_tanh(xp: ModuleType, a: Array) -> None:
    xp.clip(a, -1, 1, out=a)


def _hard_tanh_backward(xp: ModuleType, a: Array, gradient: Array, scratch: Array) -> None:
    xp.trunc(a, out=scratch)  # -1 or 1 where it saturates, else 0
    xp.multiply(scratch, scratch, out=scratch)
    xp.multiply(scratch, gradient, out=scratch)
    xp.subtract(gradient, scratch, out=gradient)


def _linear(xp: ModuleType, a: Array) -> None:
    pass


def _linear_backward(xp: ModuleType, a: Array, gradient: Array, scratch: Array) -> None:
    pass


ACTIVATIONS: dict[ActivationName, Activation] = {
    "tanh": Activation(_tanh, _tanh_backward),
    "hard_tanh": Activation(_hard_tanh, _hard_tanh_backward),
    "sigmoid": Activation(_sigmoid, _sigmoid_backward),
    "relu": Activation(_relu, _relu_backward),
    "linear": Activation(_linear, _linear_backward),
}


def softmax(xp: ModuleType, z: Array) -> None:
    """Turn logits (seed, class, sample) into probabilities, in place."""
    xp.subtract(z, xp.amax(z, axis=1, keepdims=True), out=z)
    xp.exp(z, out=z)
    xp.divide(z, xp.sum(z, axis=1, keepdims=True), out=z)
