"""Many seeds of one multilayer perceptron, trained at once.

A network of thirty units is far too small for a computer: an ordinary loop spends nearly all of its time on
calling functions. Here all seeds take each step together, with the seed as the leading axis of every array.

What a seed computes does not depend on the ensemble: it is bit for bit the same alone, among any others, at
any place and in any process, on one machine and build (on a GPU as far as its matrix library keeps to that).
The rules that achieve this stand in `ipstore.mlp` and `backend`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipstore.errors import ParameterError, ResumeError
from ipstore.mlp import computing, forward, network, softmax
from ipstore.trainers.activations import ACTIVATIONS
from ipstore.trainers.backend import Array, Backend
from ipstore.trainers.config import TrainConfig
from ipstore.trainers.initialisers import INITIALISERS
from ipstore.trainers.network import Workspace, backward
from ipstore.trainers.optimisers import OPTIMISERS
from ipstore.trainers.randomness import Purpose, check_seed, shuffle
from ipstore.trainers.tasks.base import Task

__all__ = ["Ensemble", "GradientMoments", "ProbeMetrics"]

_PASS_BYTES = 4 << 20
"""Memory that the seeds of one pass fill together on a CPU; from 2 to 64 MiB the speed is the same."""


@dataclass(frozen=True)
class GradientMoments:
    """Moments over the mini-batch gradients of one epoch, each mini-batch counted once.

    Parameters
    ----------
    mean_norm, std_norm : (seed, layer) tensor
        Norm, over a layer's weights and biases, of the mean and of the (population) standard deviation: what
        the paper's figure 4 shows. With a single batch the deviation is exactly 0.
    """

    mean_norm: Tensor
    std_norm: Tensor


@dataclass(frozen=True)
class ProbeMetrics:
    """How good the networks are; splits are train and test.

    Parameters
    ----------
    loss : (seed, split) tensor
        Mean cross-entropy in nats. Test is NaN where all samples are trained on.
    accuracy : (seed, split) tensor
        Share of samples whose most probable class is the label; a tie of k classes counts 1/k. NaN where the
        loss is.
    """

    loss: Tensor
    accuracy: Tensor


class Ensemble:
    """Networks of one architecture, one per seed, each with its own weights, training samples and orders.

    Networks are trained on `task.y` by cross-entropy over softmax outputs.

    Parameters
    ----------
    task : Task
    config : TrainConfig
    seeds : sequence of int
        Distinct, each in [0, 2**32).
    device : str
        "cpu", or a device of PyTorch such as "cuda".
    dtype : {"float32", "float64"}
        What everything is computed in.

    Attributes
    ----------
    layers : tuple of str
        "layer1", "layer2", ..., "output".
    widths : dict of str to int
        Units of each layer.
    epoch : int
        Completed epochs; 0 before training.
    device : torch.device

    Raises
    ------
    ParameterError
        If there are no seeds, or equal ones, or the device is not there.
    """

    def __init__(
        self,
        task: Task,
        config: TrainConfig,
        seeds: Sequence[int],
        device: str = "cpu",
        dtype: Literal["float32", "float64"] = "float32",
    ) -> None:
        self.task, self.config = task, config
        self.seeds = tuple(check_seed(seed) for seed in seeds)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ParameterError(f"an ensemble needs one or more distinct seeds but got {self.seeds}")
        self.epoch = 0
        self._backend = Backend(device, dtype)
        self.device = self._backend.device
        self._activation = ACTIVATIONS[config.activation]
        self._set_data()
        self._layers = network([task.x.shape[1], *config.hidden, task.p_y_given_x.shape[1]])
        self.layers = tuple(layer.name for layer in self._layers)
        self.widths = {layer.name: layer.units for layer in self._layers}
        shape = len(self.seeds), self._layers[-1].stop
        self._parameters = self._backend.zeros(*shape)
        self._gradient = self._backend.zeros(*shape)
        self._initialise()
        self._optimiser = OPTIMISERS[config.optimizer](self._backend, config.learning_rate, shape)
        self._workspaces: dict[tuple[int, ...], Workspace] = {}

    def _set_data(self) -> None:
        backend, task, n = self._backend, self.task, len(self.task.x)
        masks = np.stack([task.split(seed, self.config.train_fraction) for seed in self.seeds])
        self._train = np.stack([np.flatnonzero(mask) for mask in masks])
        rows = np.column_stack([task.x, np.ones(n), np.eye(task.p_y_given_x.shape[1])[task.y]])
        self._rows = backend.array(rows)  # (sample, feature + 1 + class)
        self._columns = backend.array(rows.T.copy())
        splits = np.stack([masks, ~masks], axis=1)
        self._splits = backend.array(splits)  # (seed, split, sample)
        self._split_sizes = backend.array(splits.sum(axis=-1)[:, :, None])

    def _initialise(self) -> None:
        for row, seed in enumerate(self.seeds):
            generator = torch.Generator().manual_seed(seed)
            for layer in self._layers:
                weight = torch.empty(layer.units, layer.inputs, dtype=self._backend.dtype)
                INITIALISERS[self.config.init](weight, generator)
                self._backend.tensor(layer.matrix(self._parameters)[row, :, :-1]).copy_(weight)

    def train_epoch(self) -> GradientMoments:
        """Train every seed for one epoch, over its training samples in an order drawn anew."""
        mean, squares = (self._backend.zeros(*self._parameters.shape) for _ in range(2))
        n_train = self._train.shape[1]
        batch = min(self.config.batch_size or n_train, n_train)
        steps = -(-n_train // batch)
        with computing():
            for seeds in self._passes(batch):
                # One batch needs no order.
                order = self._backend.index(self._orders(seeds) if steps > 1 else self._train[seeds])
                for step in range(steps):
                    gradient = self._step_gradient(seeds, order[:, step * batch : (step + 1) * batch])
                    _accumulate(gradient, mean[seeds], squares[seeds], step + 1)
                    count = self.epoch * steps + step + 1
                    self._optimiser.step(self._parameters[seeds], gradient, seeds, count)
            moments = GradientMoments(self._norms(mean), self._norms(self._backend.xp.sqrt(squares * (1 / steps))))
        self.epoch += 1
        return moments

    def _passes(self, samples: int) -> Iterator[slice]:
        """Parts of the ensemble to take through memory one after the other; a GPU takes all at once."""
        n = len(self.seeds)
        width = sum(2 * layer.units for layer in self._layers) * self._backend.dtype.itemsize
        parts = min(n, -(-n * width * samples // _PASS_BYTES)) if self._backend.on_cpu else 1
        for part in range(parts):
            yield slice(n * part // parts, n * (part + 1) // parts)

    def _workspace(self, seeds: slice, samples: int, columns: int = 0) -> Workspace:
        key = (seeds.stop - seeds.start, samples, columns)
        if key not in self._workspaces:
            self._workspaces[key] = Workspace(self._backend, self._layers, *key)
        return self._workspaces[key]

    def _orders(self, seeds: slice) -> NDArray[np.int64]:
        orders = self._train[seeds].copy()
        for order, seed in zip(orders, self.seeds[seeds], strict=True):
            shuffle(order, seed, Purpose.ORDER, self.epoch)
        return orders

    def _step_gradient(self, seeds: slice, samples: Array) -> Array:
        """Gradient of the mean cross-entropy over `samples`, (seed, sample)."""
        n = samples.shape[1]
        work, xp = self._workspace(seeds, n, self._rows.shape[1]), self._backend.xp
        self._backend.take_rows(self._rows, samples, work.rows)
        features = self._layers[0].inputs + 1
        inputs, labels = work.rows[:, :, :features], work.rows[:, :, features:]
        inputs, labels = xp.swapaxes(inputs, 1, 2), xp.swapaxes(labels, 1, 2)
        parameters, gradient = self._parameters[seeds], self._gradient[seeds]
        output = self._forward(parameters, inputs, work)
        softmax(xp, output)
        xp.subtract(output, labels, out=output)
        xp.multiply(output, 1 / n, out=output)
        backward(self._layers, self._activation, parameters, inputs, work, gradient)
        return gradient

    def _forward(self, parameters: Array, inputs: Array, work: Workspace) -> Array:
        """Fill `work.activations` and return the logits, (seed, class, sample), which lie in the workspace."""
        logits = work.gradients[-1]
        forward(self._backend.xp, self._layers, self._activation.forward, parameters, inputs, work.activations, logits)
        return logits

    def probe(self, out: Mapping[str, Tensor]) -> ProbeMetrics:
        """Send all samples of the task through every network.

        Parameters
        ----------
        out : mapping of str to (seed, sample, unit) tensor
            Where each layer's activations are written, on the ensemble's device; the output layer's are the
            class probabilities. Every layer must be there.

        Returns
        -------
        ProbeMetrics
        """
        backend, n = self._backend, len(self.task.x)
        features = self._layers[0].inputs + 1
        inputs, labels = self._columns[:features], self._columns[features:]
        metrics = backend.zeros(len(self.seeds), 2, 2)  # (seed, split, [loss, right])
        with computing():
            for seeds in self._passes(n):
                work = self._workspace(seeds, n)
                output = self._forward(self._parameters[seeds], inputs, work)
                backend.xp.matmul(self._splits[seeds], self._score(output, labels, work), out=metrics[seeds])
                activations = [*(a[:, :-1] for a in work.activations), output]
                for name, a in zip(self.layers, activations, strict=True):
                    out[name][seeds].copy_(backend.tensor(a).transpose(1, 2), non_blocking=True)
            metrics /= self._split_sizes
        metrics = backend.tensor(metrics)
        return ProbeMetrics(loss=metrics[:, :, 0], accuracy=metrics[:, :, 1])

    def _score(self, logits: Array, labels: Array, work: Workspace) -> Array:
        """Turn logits into probabilities and give each sample's loss and hit, (seed, sample, 2)."""
        xp, z, scores = self._backend.xp, work.scratch[-1], work.scores
        total = softmax(xp, logits, z)
        top = z == 0
        scores[:, 0] = xp.log(total)[:, 0] - xp.sum(z * labels, axis=1)
        scores[:, 1] = xp.sum(top * labels, axis=1) / xp.sum(top, axis=1)
        return xp.swapaxes(scores, 1, 2)

    def weight_norms(self) -> Tensor:
        """Norm of each layer's weights and biases, (seed, layer)."""
        with computing():
            return self._norms(self._parameters)

    def _norms(self, flat: Array) -> Tensor:
        xp = self._backend.xp
        norms = self._backend.zeros(len(self.seeds), len(self._layers))
        for i, layer in enumerate(self._layers):
            part = flat[:, layer.start : layer.stop]
            norms[:, i] = xp.sqrt(xp.sum(part * part, axis=1))
        return self._backend.tensor(norms)

    def parameters(self) -> dict[str, Tensor]:
        """Copy every layer's parameters.

        Returns
        -------
        dict of str to (seed, param) tensor
            First the weights, ``weight[unit_out, unit_in]`` in row-major order, then ``bias[unit_out]``.
        """
        found = {}
        for layer in self._layers:
            matrix = self._backend.tensor(layer.matrix(self._parameters))
            found[layer.name] = torch.cat([matrix[:, :, :-1].flatten(1), matrix[:, :, -1]], dim=1)
        return found

    def state(self) -> dict[str, NDArray[Any]]:
        """Copy all that a bit-for-bit continuation needs.

        Returns
        -------
        dict of str to (seed, ...) array
            Every array begins with the seed axis, so the states of parts of an ensemble concatenate to the
            state of the whole.
        """
        state = {name: self._backend.tensor(array).cpu().numpy().copy() for name, array in self._buffers().items()}
        return {"epoch": np.full(len(self.seeds), self.epoch), **state}

    def load_state(self, state: Mapping[str, NDArray[Any]], epoch: int) -> None:
        """Continue from what `state` gave after `epoch` epochs.

        Raises
        ------
        ResumeError
            If the state is that of another configuration, other seeds in number, or another epoch.
        """
        buffers = self._buffers()
        expected = {"epoch": ((len(self.seeds),), "int64")}
        expected |= {name: (tuple(a.shape), str(self._backend.dtype)[6:]) for name, a in buffers.items()}
        given = {name: (a.shape, str(a.dtype)) for name, a in state.items()}
        if given != expected:
            raise ResumeError(
                f"the saved state holds {given}, but this ensemble needs {expected}; "
                "resume the run with the configuration it began with"
            )
        if (state["epoch"] != epoch).any():
            raise ResumeError(
                f"the saved state is of epochs {np.unique(state['epoch'])} but epoch {epoch} was asked for"
            )
        for name, array in buffers.items():
            self._backend.tensor(array).copy_(torch.tensor(state[name]))
        self.epoch = epoch

    def _buffers(self) -> dict[str, Array]:
        return {"parameters": self._parameters, **self._optimiser.buffers}


def _accumulate(gradient: Array, mean: Array, squares: Array, count: int) -> None:
    """Add the `count`-th gradient to the running mean and sum of squared deviations (Welford 1962)."""
    before = gradient - mean
    mean += before * (1 / count)
    before *= gradient - mean
    squares += before
