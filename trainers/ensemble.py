"""Many seeds of one multilayer perceptron, trained at once.

A network of thirty units is far too small for a computer: nearly all of the time of an ordinary loop goes into
calling functions. Here all seeds take each step together, with the seed as the leading axis of every array. Units
lie before samples, (seed, unit, sample), so that every pass runs along memory, and a row of ones under each layer's
activations makes the bias one more column of the weights.

What a seed computes does not depend on the ensemble: bit for bit the same alone, among any others, at any place,
in any process (on one machine and build; on a GPU as far as its matrix library keeps to it). See `backend` for
what that takes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipstore.errors import ParameterError, ResumeError
from ipstore.trainers.activations import ACTIVATIONS, softmax
from ipstore.trainers.backend import ALIGNMENT, Array, Backend
from ipstore.trainers.config import TrainConfig
from ipstore.trainers.initialisers import INITIALISERS
from ipstore.trainers.optimisers import OPTIMISERS
from ipstore.trainers.randomness import Purpose, check_seed, permutation
from ipstore.trainers.tasks.base import Task

__all__ = ["Ensemble", "GradientMoments", "ProbeMetrics"]

_CACHE = 1 << 20
"""Bytes of activations that seeds may fill together on a CPU: about the second-level cache of a core."""


@dataclass(frozen=True)
class GradientMoments:
    """Moments over the mini-batch gradients of one epoch, each mini-batch counted once.

    Parameters
    ----------
    mean_norm, std_norm : (seed, layer) tensor
        Norm, over a layer's parameters, of the mean and of the (population) standard deviation: numerator and
        denominator of the paper's figure 4. The deviation of a single batch is exactly 0.
    """

    mean_norm: Tensor
    std_norm: Tensor


@dataclass(frozen=True)
class ProbeMetrics:
    """How good the networks are, over the samples of each split.

    Parameters
    ----------
    loss : (seed, split) tensor
        Mean cross-entropy in nats, splits train and test; test is NaN where all samples are trained on.
    accuracy : (seed, split) tensor
        Share of samples whose most probable class is theirs; a tie of k classes counts 1/k. NaN where the loss is.
    """

    loss: Tensor
    accuracy: Tensor


@dataclass(frozen=True)
class _Layer:
    """One layer's place in a row of the flat buffer: (unit_out, unit_in + 1), the last column the bias."""

    name: str
    inputs: int
    units: int
    start: int

    @property
    def stop(self) -> int:
        return self.start + self.units * (self.inputs + 1)

    def matrix(self, flat: Array) -> Array:
        """View (seed, param) as (seed, unit_out, unit_in + 1)."""
        return flat[:, self.start : self.stop].reshape(-1, self.units, self.inputs + 1)
