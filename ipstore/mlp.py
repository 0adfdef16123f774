"""The forward pass of many multilayer perceptrons at once: in training, and in rebuilding what training computed.

Units lie before samples, (network, unit, sample), so that every elementwise pass runs along memory; a row of ones
under each layer's units makes the bias one more column of the next layer's weights. All works on NumPy arrays and
on PyTorch tensors alike, which share names and ``out=`` for what is needed here; `xp` says whose functions to call.

What a network computes must not depend on the networks around it, on any thread, or on who asks, so that stored
weights give the stored activations again, bit for bit, on one machine and build. NumPy multiplies matrices network
by network, each by the same kernel wherever it lies, as long as samples are not divided; `computing` keeps BLAS to
one thread, since two would divide sums of products in two. What is used beside products and sums is one operation
at a time.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

__all__ = ["ACTIVATIONS", "Array", "Layer", "computing", "forward", "network", "softmax"]

Array = Any
"""A NumPy array or a tensor: the calls used here are those that both understand alike."""


@dataclass(frozen=True)
class Layer:
    """A layer and its place in each row of a flat (network, param) array."""

    name: str
    inputs: int
    units: int
    start: int

    @property
    def stop(self) -> int:
        """Where the next layer starts."""
        return self.start + self.units * (self.inputs + 1)

    def matrix(self, flat: Array) -> Array:
        """View its part of a flat array as (network, unit_out, unit_in + 1), the last column the biases."""
        return flat[:, self.start : self.stop].reshape(-1, self.units, self.inputs + 1)


def network(widths: Sequence[int]) -> tuple[Layer, ...]:
    """Layers between the widths, that of the input first: "layer1", "layer2", ..., "output"."""
    layers: list[Layer] = []
    for place, (inputs, units) in enumerate(pairwise(widths), start=1):
        name = "output" if place == len(widths) - 1 else f"layer{place}"
        layers.append(Layer(name, inputs, units, layers[-1].stop if layers else 0))
    return tuple(layers)


def _tanh(xp: ModuleType, a: Array) -> None:
    xp.tanh(a, out=a)


def _sigmoid(xp: ModuleType, a: Array) -> None:
    # Not torch.sigmoid, whose vector and scalar code differ in the last bit.
    xp.multiply(a, 0.5, out=a)
    xp.tanh(a, out=a)
    xp.multiply(a, 0.5, out=a)
    xp.add(a, 0.5, out=a)


def _relu(xp: ModuleType, a: Array) -> None:
    xp.clip(a, 0, None, out=a)


def _hard_tanh(xp: ModuleType, a: Array) -> None:
    xp.clip(a, -1, 1, out=a)


def _linear(xp: ModuleType, a: Array) -> None:
    pass


ACTIVATIONS: dict[str, Callable[[ModuleType, Array], None]] = {
    "tanh": _tanh,
    "hard_tanh": _hard_tanh,
    "sigmoid": _sigmoid,
    "relu": _relu,
    "linear": _linear,
}
"""By name: ``function(xp, a)`` replaces z by f(z)."""


def forward(
    xp: ModuleType,
    layers: Sequence[Layer],
    activation: Callable[[ModuleType, Array], None],
    parameters: Array,
    inputs: Array,
    hidden: Sequence[Array],
    logits: Array | None,
) -> None:
    """Send inputs through every network.

    Parameters
    ----------
    xp : module
        ``numpy`` or ``torch``.
    layers : sequence of Layer
    activation : callable
        Of the hidden layers, from `ACTIVATIONS`.
    parameters : (network, param) array
    inputs : (network, feature + 1, sample) or (feature + 1, sample) array
        The last row holds ones.
    hidden : sequence of (network, unit + 1, sample) array
        Where the activations of the hidden layers are written, or of the first few of them, all but the last row,
        which holds ones.
    logits : (network, class, sample) array, optional
        Where the output layer's pre-activations are written; None stops at the last of `hidden`.
    """
    for layer, a in zip(layers[:-1], hidden, strict=logits is not None):
        z = a[:, :-1]
        xp.matmul(layer.matrix(parameters), inputs, out=z)
        activation(xp, z)
        inputs = a
    if logits is not None:
        xp.matmul(layers[-1].matrix(parameters), inputs, out=logits)


def softmax(xp: ModuleType, logits: Array, shifted: Array | None = None) -> Array:
    """Turn logits into probabilities, in place.

    Parameters
    ----------
    xp : module
    logits : (network, class, sample) array
    shifted : array of that shape, optional
        Where the logits less the largest of each sample are kept.

    Returns
    -------
    (network, 1, sample) array
        Sum over classes of the exponentials of the shifted logits.
    """
    shifted = logits if shifted is None else shifted
    xp.subtract(logits, xp.amax(logits, axis=1, keepdims=True), out=shifted)
    xp.exp(shifted, out=logits)
    total = xp.sum(logits, axis=1, keepdims=True)
    xp.divide(logits, total, out=logits)
    return total


@contextmanager
def computing() -> Iterator[None]:
    """Compute with one BLAS thread, and without warnings: a diverging network is data, not an error.

    May be entered by many threads at once, which then each have a BLAS of one thread.
    """
    with _one_thread(), np.errstate(all="ignore"):
        yield


@cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


class _OneThread:
    """BLAS has one number of threads a process: the first who computes sets it, the last puts it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entered = 0
        self._limit: Any = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._entered:
                self._limit = _blas().limit(limits=1)
            self._entered += 1
        try:
            yield
        finally:
            with self._lock:
                self._entered -= 1
                if not self._entered:
                    self._limit.restore_original_limits()


_one_thread = _OneThread()
