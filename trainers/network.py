"""The backward pass of many multilayer perceptrons at once, and the memory of both; the forward: `ipstore.mlp`."""

from collections.abc import Sequence

from ipstore.mlp import Layer
from ipstore.trainers.activations import Activation
from ipstore.trainers.backend import Array, Backend

__all__ = ["Workspace", "backward"]


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
