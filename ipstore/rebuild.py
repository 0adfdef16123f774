"""Computing activations again from the weights that a run stored.

On the machine and build that captured a run, what is rebuilt is what was captured, bit for bit, and the digests
agree. Another processor or matrix library adds in another order, and digests differ although nothing is wrong. Two
records that were taken beside the activations tell this from weights that are not the run's: the norm of each layer's
weights, and the loss, which the very same forward pass gave. `Rebuilder.rounding` holds the weights against both, and
measures how far float32 may have taken the activations.
"""

import reprlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipstore.errors import CorruptionError, UnknownNameError
from ipstore.mlp import ACTIVATIONS, Layer, computing, forward, network, softmax

__all__ = ["Rebuilder", "Rounding", "rebuilder"]

_PASS_BYTES = 4 << 20
"""Memory that the networks of one pass fill together; what a network gives does not depend on it."""

_ROUNDOFF = 2.0**-24
"""Largest relative error of one float32 operation."""

_HEADROOM = 8
"""Two machines may differ by so many times the largest error of this one, plus its last bit.

Of 10,080 layers of networks with five activations, up to four layers and probes of 5 to 4096 samples, captured with
OpenBLAS's kernels for SkylakeX and rebuilt with those for Haswell, SandyBridge and Prescott, the worst came to 0.47 of
that.
"""


def rebuilder(attrs: Mapping[Any, Any]) -> "Rebuilder":
    """Read from a run's attributes how its activations follow from its weights.

    Parameters
    ----------
    attrs : mapping
        With ``model`` and ``layers``.

    Returns
    -------
    Rebuilder

    Raises
    ------
    UnknownNameError
        If this version cannot rebuild models of that kind, activation or output.
    CorruptionError
        If the attributes are of other types than a writer leaves, or at odds with each other.
    """
    model = attrs.get("model")
    if not isinstance(model, Mapping):
        raise CorruptionError(f"the run's attribute 'model' must describe its network but is {reprlib.repr(model)}")
    for what, known in (("kind", ["mlp"]), ("activation", list(ACTIVATIONS)), ("output", ["softmax"])):
        given = model.get(what)
        if given not in known:
            shown = reprlib.repr(given)
            raise UnknownNameError(f"rebuildable model {what}", shown[1:-1] if isinstance(given, str) else shown, known)
    widths = model.get("widths")
    if not (
        isinstance(widths, list | tuple)
        and len(widths) >= 2
        and all(type(width) is int and width > 0 for width in widths)
    ):
        raise CorruptionError(
            f"the widths of the run's model must be two or more positive integers but are {reprlib.repr(widths)}"
        )
    layers, named = network(widths), attrs.get("layers")
    if named != [layer.name for layer in layers]:
        raise CorruptionError(
            f"widths {reprlib.repr(widths)} of the run's model make {len(layers)} layers, 'layer1' and so on and "
            f"'output', but its attribute 'layers' is {reprlib.repr(named)}"
        )
    return Rebuilder(layers, model["activation"])


@dataclass(frozen=True)
class Rounding:
    """What differing digests are worth.

    Parameters
    ----------
    tolerance : dict of str to (epoch, seed) float64
        By layer, how far from what is rebuilt here another machine's activations may lie, on any unit and sample.
        Measured against a pass in float64, with headroom; infinite where only one of the two overflows.
    vouched : (epoch, seed) bool
        Whether the weights are those of the run, as far as norms and losses tell: then the activations are within the
        tolerance, otherwise they are wrong.
    """

    tolerance: dict[str, NDArray[np.float64]]
    vouched: NDArray[np.bool_]


@dataclass(frozen=True)
class Rebuilder:
    """Multilayer perceptrons of one architecture, made anew from their weights.

    Weights are given by layer as a run stores them, (epoch, seed, param) float32. `x` is the run's ``probe/x``, whole:
    products over some of its samples may come out with other last bits.

    Parameters
    ----------
    layers : tuple of Layer
    activation : str
        Of the hidden layers, from `ipstore.mlp.ACTIVATIONS`.
    """

    layers: tuple[Layer, ...]
    activation: str

    def activations(
        self, weights: Mapping[str, NDArray[Any]], x: NDArray[Any], layers: Collection[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Compute activations as the trainers do, bit for bit.

        Parameters
        ----------
        weights : mapping of str to (epoch, seed, param) array
            Of the layers up to the deepest that is asked for; others may be missing.
        x : (sample, feature) array
        layers : collection of str, optional
            By default all.

        Returns
        -------
        dict of str to (epoch, seed, sample, unit) float32
            The output layer's are the class probabilities.

        Raises
        ------
        CorruptionError
            If the weights or `x` are not of the shapes and types that the model needs.
        UnknownNameError
            If the model has no such layer.
        """
        names = [layer.name for layer in self.layers]
        for name in layers or ():
            if name not in names:
                raise UnknownNameError("layer", name, names)
        asked = set(names if layers is None else layers)
        if not asked:
            return {}
        needed = self.layers[: max(names.index(name) + 1 for name in asked)]
        shape, parameters = _flat(needed, weights)
        inputs = self._inputs(x)
        found = {
            layer.name: np.empty((len(parameters), len(x), layer.units), np.float32)
            for layer in needed
            if layer.name in asked
        }
        with computing():
            for cells, computed in self._passes(needed, parameters, inputs):
                if needed == self.layers:
                    softmax(np, computed[-1])
                for layer, a in zip(needed, computed, strict=True):
                    if layer.name in asked:
                        found[layer.name][cells] = a.swapaxes(1, 2)
        return {name: values.reshape(*shape, *values.shape[1:]) for name, values in found.items()}

    def rounding(
        self,
        weights: Mapping[str, NDArray[Any]],
        x: NDArray[Any],
        y: NDArray[Any],
        train: NDArray[Any],
        loss: NDArray[Any],
        weight_norm: NDArray[Any],
    ) -> Rounding:
        """Judge the weights of networks whose rebuilt activations do not have the digests of the run.

        Parameters
        ----------
        weights : mapping of str to (epoch, seed, param) array
            Of all layers.
        x : (sample, feature) array
        y : (sample,) array of int
        train : (seed, sample) array of bool
        loss : (epoch, seed, split) array
            As the run stores it in ``training/``, splits train and test.
        weight_norm : (epoch, seed, layer) array

        Returns
        -------
        Rounding

        Raises
        ------
        CorruptionError
            If the arrays are not of the shapes and types that the model needs.
        """
        shape, parameters = _flat(self.layers, weights)
        inputs = self._inputs(x)
        cells, samples, classes = len(parameters), len(x), self.layers[-1].units
        for name, array, expected in (
            ("y", y, (samples,)),
            ("train", train, (*shape[-1:], samples)),
            ("loss", loss, (*shape, 2)),
            ("weight_norm", weight_norm, (*shape, len(self.layers))),
        ):
            if array.shape != expected:
                raise CorruptionError(f"{name} must be of shape {expected}, as the weights are, but is {array.shape}")
        if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= classes:
            raise CorruptionError(f"y must hold the numbers of {classes} classes but holds {y.min()} to {y.max()}")
        labels = np.eye(classes)[y].T
        mask = np.broadcast_to(train.astype(np.bool_), (*shape, samples)).reshape(cells, samples)
        splits = np.stack([mask, ~mask], axis=1).astype(np.float64)
        sizes = splits.sum(axis=-1)
        tolerance = {layer.name: np.empty(cells) for layer in self.layers}
        losses, loss_tolerance = np.empty((cells, 2)), np.empty((cells, 1))
        with computing():
            single = self._passes(self.layers, parameters, inputs)
            double = self._passes(self.layers, parameters.astype(np.float64), inputs.astype(np.float64))
            for (part, ours), (_, exact) in zip(single, double, strict=True):
                scores, exact_scores = _score(ours[-1], labels), _score(exact[-1], labels)
                losses[part] = np.matmul(splits[part], scores[:, :, None])[:, :, 0] / sizes[part]
                loss_tolerance[part, 0] = _reach(scores, exact_scores)
                for layer, a, b in zip(self.layers, ours, exact, strict=True):
                    tolerance[layer.name][part] = _reach(a, b)
            # A mean is as near as the worst of its samples, and float32 has added so many, in whatever order.
            agreed = _agree(loss.reshape(-1, 2), losses, loss_tolerance + (sizes + 2) * _ROUNDOFF * losses).all(axis=1)
            for place, layer in enumerate(self.layers):
                own = parameters[:, layer.start : layer.stop]
                norms = np.sqrt(np.sum(own * own, axis=1))
                agreed &= _agree(weight_norm[..., place].ravel(), norms, (own.shape[1] + 2) * _ROUNDOFF * norms)
        return Rounding({name: values.reshape(shape) for name, values in tolerance.items()}, agreed.reshape(shape))

    def _inputs(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Put a row of ones under the inputs, (feature + 1, sample)."""
        features = self.layers[0].inputs
        if x.ndim != 2 or x.shape[0] == 0 or x.shape[1] != features or x.dtype.kind not in "fiub":
            raise CorruptionError(
                f"x must hold numbers of shape (sample, {features}) but is {x.dtype} of shape {x.shape}"
            )
        inputs = np.ones((features + 1, len(x)), np.float32)
        inputs[:-1] = x.T
        return inputs

    def _passes(
        self, layers: Sequence[Layer], parameters: NDArray[Any], inputs: NDArray[Any]
    ) -> Iterator[tuple[slice, list[NDArray[Any]]]]:
        """Yield some networks at a time: which, and what each layer gives, (network, unit, sample).

        The output layer gives logits. What is yielded is overwritten by the next.
        """
        samples = inputs.shape[1]
        bytes_each = sum(layer.units + 1 for layer in layers) * samples * 8
        most = max(1, min(len(parameters), _PASS_BYTES // bytes_each))
        hidden = [
            np.ones((most, layer.units + 1, samples), parameters.dtype)
            for layer in layers
            if layer is not self.layers[-1]
        ]
        output = np.empty((most, self.layers[-1].units, samples), parameters.dtype)
        for first in range(0, len(parameters), most):
            cells = slice(first, min(first + most, len(parameters)))
            count = cells.stop - first
            below, logits = [a[:count] for a in hidden], output[:count] if len(hidden) < len(layers) else None
            forward(np, self.layers, ACTIVATIONS[self.activation], parameters[cells], inputs, below, logits)
            computed = [a[:, :-1] for a in below]
            yield cells, computed if logits is None else [*computed, logits]


def _flat(layers: Sequence[Layer], weights: Mapping[str, NDArray[Any]]) -> tuple[tuple[int, ...], NDArray[np.float32]]:
    """Check stored weights; give their leading shape, and all in one as the forward pass wants it, (network, param)."""
    shape = weights[layers[0].name].shape[:-1] if layers[0].name in weights else ()
    for layer in layers:
        stored = weights.get(layer.name)
        expected = (*shape, layer.stop - layer.start)
        if stored is None or stored.shape != expected or stored.dtype != np.float32:
            given = "absent" if stored is None else f"{stored.dtype} of shape {stored.shape}"
            raise CorruptionError(
                f"the weights of {layer.name!r}, of {layer.inputs} inputs and {layer.units} units, must be float32 of "
                f"shape {expected} but are {given}"
            )
    flat = np.empty((prod(shape), layers[-1].stop), np.float32)
    for layer in layers:
        stored, matrix = weights[layer.name].reshape(len(flat), layer.stop - layer.start), layer.matrix(flat)
        n = layer.units * layer.inputs
        matrix[:, :, :-1] = stored[:, :n].reshape(len(flat), layer.units, layer.inputs)
        matrix[:, :, -1] = stored[:, n:]
    return shape, flat


def _score(logits: NDArray[Any], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn logits into probabilities and give each sample's loss in nats, (network, sample)."""
    shifted = np.empty_like(logits)
    total = softmax(np, logits, shifted)
    scores: NDArray[np.float64] = np.log(total)[:, 0] - np.sum(shifted * labels, axis=1)
    return scores


def _reach(ours: NDArray[Any], exact: NDArray[Any]) -> NDArray[np.float64]:
    """Bound how far each network's values on another machine lie from ours; two NaN, or infinities, lie together."""
    off = np.abs(ours - exact)
    off[(ours == exact) | (np.isnan(ours) & np.isnan(exact))] = 0
    off[np.isnan(off)] = np.inf
    axes = tuple(range(1, ours.ndim))
    largest = np.max(np.abs(exact), axis=axes, where=np.isfinite(exact), initial=0)
    reach: NDArray[np.float64] = _HEADROOM * (off.max(axis=axes) + _ROUNDOFF * largest)
    return reach


def _agree(stored: NDArray[Any], ours: NDArray[Any], tolerance: NDArray[Any]) -> NDArray[np.bool_]:
    agreed: NDArray[np.bool_] = (np.abs(stored - ours) <= tolerance) | ~(np.isfinite(stored) | np.isfinite(ours))
    return agreed
