"""Forward and backward passes of many multilayer perceptrons at once.

Units lie before samples, (seed, unit, sample), so that every elementwise pass runs along memory; a row of
ones under each layer's units makes the bias one more column of the next layer's weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ipstore.trainers.activations import Activation
from ipstore.trainers.backend import Array, Backend

__all__ = ["Layer", "Workspace", "backward", "forward"]


@dataclass(frozen=True)
class Layer:
    """A layer and its place in each row of a flat (seed, param) array."""

    name: str
    inputs: int
    units: int
    start: int

    @property
    def stop(self) -> int:
        """Where the next layer starts."""
        return self.start + self.units * (self.inputs + 1)

    def matrix(self, flat: Array) -> Array:
        """View its part of a flat array as (seed, unit_out, unit_in + 1), the last column the biases."""
        return flat[:, self.start : self.stop].reshape(-1, self.units, self.inputs + 1)


class Workspace:
    """Arrays that hold one pass of `seeds` networks over `samples` samples each.

    Attributes
    ----------
    rows : (seed, sample, column)
        Room for data gathered from a table of that many columns; 0 if none is.
    scores : (seed, 2, sample)
    activations : list of (seed, unit + 1, sample)
        Of the hidden layers; the last row holds ones.
    gradients : list of (seed, unit, sample)
        By each layer's pre-activations. The last first holds the logits and the probabilities.
    scratch : list of (seed, unit, sample)
        Of each layer's shape, all in the same memory.
    """

    def __init__(self, backend: Backend, layers: Sequence[Layer], seeds: int, samples: int, columns: int) -> None:
        self.xp = backend.xp
        self.rows = backend.zeros(seeds, samples, columns)
        self.scores = backend.zeros(seeds, 2, samples)
        self.activations = [backend.zeros(seeds, layer.units + 1, samples) for layer in layers[:-1]]
        for a in self.activations:
            a[:, -1] = 1
        self.gradients = [backend.zeros(seeds, layer.units, samples) for layer in layers]
        scratch = backend.zeros(seeds * max(layer.units for layer in layers) * samples)
        self.scratch = [
            scratch[: seeds * layer.units * samples].reshape(seeds, layer.units, samples) for layer in layers
        ]


def forward(
    layers: Sequence[Layer], activation: Activation, parameters: Array, inputs: Array, work: Workspace
) -> Array:
    """Fill `work.activations` and return the logits, (seed, class, sample), which lie in the workspace.

    `inputs` is (seed, feature + 1, sample) or (feature + 1, sample), its last row ones.
    """
    xp = work.xp
    for layer, a in zip(layers[:-1], work.activations, strict=True):
        hidden = a[:, :-1]
        xp.matmul(layer.matrix(parameters), inputs, out=hidden)
        activation.forward(xp, hidden)
        inputs = a
    return xp.matmul(layers[-1].matrix(parameters), inputs, out=work.gradients[-1])


def backward(
    layers: Sequence[Layer],
    activation: Activation,
    parameters: Array,
    inputs: Array,
    work: Workspace,
    out: Array,
) -> None:
    """Write to `out`, (seed, param), the gradient that follows from that by the logits."""
    xp = work.xp
    for i in range(len(layers) - 1, 0, -1):
        gradient, a = work.gradients[i], work.activations[i - 1]
        xp.matmul(gradient, xp.swapaxes(a, 1, 2), out=layers[i].matrix(out))
        below = work.gradients[i - 1]
        xp.matmul(xp.swapaxes(layers[i].matrix(parameters)[:, :, :-1], 1, 2), gradient, out=below)
        activation.backward(xp, a[:, :-1], below, work.scratch[i - 1])
    xp.matmul(work.gradients[0], xp.swapaxes(inputs, 1, 2), out=layers[0].matrix(out))
