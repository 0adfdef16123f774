"""Wide layers made narrow: what is kept of an output that has places in space or along a sequence, or many units."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ipstore.errors import ParameterError

__all__ = ["RULES", "Reduction", "make_reduction", "parse_rule"]

RULES = "'flatten', 'mean', 'mean:AXES' such as 'mean:2,3', 'pca:K' or 'random:K'"
"""The rules, in words."""

_CHANNELS_FIRST = ("Conv", "BatchNorm", "InstanceNorm", "GroupNorm", "Pool", "LazyConv", "LazyBatchNorm")


def parse_rule(rule: str) -> tuple[str, tuple[int, ...]]:
    """Take a rule apart: its name, and its numbers.

    Raises
    ------
    ParameterError
        If there is no such rule.
    """
    name, _, given = rule.partition(":") if isinstance(rule, str) else ("", "", "")
    try:
        numbers = tuple(int(number) for number in given.split(",")) if given else ()
    except ValueError:
        numbers = (0,)
    counts = {"flatten": len(numbers) == 0, "mean": True, "pca": len(numbers) == 1, "random": len(numbers) == 1}
    if not counts.get(name, False) or any(number < 1 for number in numbers) or len(set(numbers)) < len(numbers):
        raise ParameterError(f"reduce must be {RULES}, with numbers of at least 1, but got {rule!r}")
    return name, numbers


@dataclass
class Reduction:
    """How one layer's output becomes (sample, unit).

    Attributes
    ----------
    rule : str
        The one in force; ``"flatten"`` where the layer is not wider than what it was to be projected on.
    shape : tuple of int
        Of the output for one sample.
    axes : tuple of int
        Averaged over, counted with the sample's as 0.
    arrays : dict of str to array
        What a projection consists of: ``components`` (k, unit), and ``mean`` (unit) under ``pca``.
    """

    rule: str
    shape: tuple[int, ...]
    axes: tuple[int, ...] = ()
    arrays: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    _tensors: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def units(self) -> int:
        """Number of units that are recorded."""
        name, numbers = parse_rule(self.rule)
        if name in ("pca", "random"):
            return numbers[0]
        return prod(length for axis, length in enumerate(self.shape, 1) if axis not in self.axes)

    @property
    def needs_fit(self) -> bool:
        """Whether it is of no use before `fit`."""
        return self.rule.startswith("pca") and not self.arrays

    def fit(self, outputs: Tensor) -> None:
        """Find the principal components of the outputs (sample, ...)."""
        from sklearn.decomposition import PCA

        rows = outputs.reshape(len(outputs), -1).double().cpu().numpy()
        with np.errstate(invalid="ignore", divide="ignore"):  # a layer that is constant has no variance to share out
            found = PCA(parse_rule(self.rule)[1][0], random_state=0).fit(rows)
        self.arrays = {"components": found.components_.astype(np.float32), "mean": found.mean_.astype(np.float32)}

    def __call__(self, output: Tensor) -> Tensor:
        """Reduce outputs (sample, ...) to (sample, unit)."""
        if self.axes:
            output = output.mean(self.axes)
        output = output.reshape(len(output), -1)
        if not self.arrays:
            return output
        if not self._tensors or self._tensors["components"].device != output.device:
            self._tensors = {name: torch.from_numpy(array).to(output.device) for name, array in self.arrays.items()}
        output = output.float()
        if "mean" in self._tensors:
            output = output - self._tensors["mean"]
        return output @ self._tensors["components"].T


def make_reduction(
    layer: str, module: nn.Module, shape: Sequence[int], rule: str, place: int, samples: int
) -> Reduction:
    """Apply a rule to a layer.

    Parameters
    ----------
    layer : str
    module : Module
        Whether its output has channels first is told by its type.
    shape : sequence of int
        Of its output for one sample.
    rule : str
    place : int
        Of the layer among those recorded: the seed of ``random``.
    samples : int
        Of the probe: ``pca`` finds no more components.

    Raises
    ------
    ParameterError
        If the rule does not fit the layer.
    """
    name, numbers = parse_rule(rule)
    shape = tuple(shape)
    units = prod(shape)
    if name == "mean" and len(shape) > 1:
        axes = numbers or _places(module, len(shape))
        if max(axes) > len(shape) or len(axes) == len(shape):
            raise ParameterError(
                f"layer {layer!r} gives {shape} for each sample, so {rule!r} cannot average it: axes are 1 to "
                f"{len(shape)}, and one must remain"
            )
        return Reduction(f"mean:{','.join(map(str, axes))}", shape, axes)
    if name in ("pca", "random") and numbers[0] < units:
        if name == "pca":
            if numbers[0] > samples:
                raise ParameterError(
                    f"layer {layer!r}: {rule!r} needs at least {numbers[0]} samples, but the probe has {samples}; take "
                    "fewer components, or 'random:K', which needs none"
                )
            return Reduction(rule, shape)
        matrix = np.random.Generator(np.random.Philox(key=place)).standard_normal((numbers[0], units), np.float32)
        return Reduction(rule, shape, arrays={"components": matrix / np.float32(numbers[0] ** 0.5)})
    return Reduction("flatten", shape)


def _places(module: nn.Module, dims: int) -> tuple[int, ...]:
    """Say which axes of an output are places: all behind the channels, or the sequence before its features."""
    first = any(word in type(module).__name__ for word in _CHANNELS_FIRST)
    return tuple(range(2, dims + 1)) if first or dims > 2 else (1,)
