"""The network of `cross_fitting`, in PyTorch, which is imported when it is called and never before.

A network this small spends its time on calls and on products of thin matrices. So all folds are trained at once
with the fold as the leading axis; samples are columns, for a product with a (class, hidden) matrix is seven times
faster than with its transpose; and the backward pass is written out, at half the time of autograd.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate, pairwise
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.cross_fitting import Folds, Slope, Training, generator, mean

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["held_out_scores", "one_thread"]

_FARTHEST = 10.0
"""Standard deviations of the training samples at which an activation is cut off. One sample far outside what was
trained on would otherwise decide the mean; and as a function of T, what is cut off has no more information."""

_COLUMNS = 2**14
"""Samples that are scored at a time."""

_CONSTANT = 1e-30
"""Variance below which a unit between -1 and 1 is constant: no difference of float32 is as small, rounding is."""

_BETA = (0.9, 0.999)
_EPSILON = 1e-8


class _Threads:
    """How many threads PyTorch is to have when nobody computes here, and how many calls compute."""

    lock = Lock()
    computing = 0
    outside = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread of PyTorch, without gradients or autocast, whatever the caller has set.

    Two threads would divide sums in two, and the last bits of a result would depend on the machine's cores. The
    number is one for each thread of Python, but what new threads begin with is common to all: so calls that
    overlap share what the first of them found, and the last one leaves it as it was. What belongs to the whole
    process is left alone: under ``torch.set_float32_matmul_precision("medium")`` products may be rounded more.
    """
    import torch

    with _Threads.lock:
        if not _Threads.computing:
            _Threads.outside = torch.get_num_threads()
        _Threads.computing += 1
        torch.set_num_threads(1)
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            yield
    finally:
        with _Threads.lock:
            _Threads.computing -= 1
            torch.set_num_threads(_Threads.outside)


def held_out_scores(t: NDArray[np.float32], folds: Folds, training: Training, slope: Slope) -> NDArray[np.float64]:
    """Score every sample by the network that was trained on the other folds.

    Parameters
    ----------
    t : (sample, unit) float32
        Activations of one cell.
    folds : Folds
        Of the same samples.
    training : Training
    slope : callable
        Of the loss; see `cross_fitting.Slope`.

    Returns
    -------
    (sample, class) float64
    """
    trained = [np.flatnonzero(folds.fold != k) for k in range(folds.n_folds)]
    centre, scale = _standardisation(t, folds, trained)
    activations = _Standardised(_tensor(t), _tensor(centre), _tensor(scale))
    decay = np.array([(training.weight_decay or 0.0) / folds.weights[rows].sum() for rows in trained])
    network = _Network((len(trained), t.shape[1], training.hidden, folds.labels.shape[1]), decay / folds.n_inputs)
    random = generator(training.random_state, 2)
    draw = _Draw(folds, trained, random)
    network.initialise(activations.of(draw(training.hidden)), random)
    labels, p_y = _tensor(folds.labels), _tensor(folds.p_y[:, None])
    for step in range(training.steps):
        samples = draw(training.batch_size)
        x = activations.of(samples)
        scores, hidden = network.forward(x)
        network.backward(x, hidden, slope(scores, _rows(labels, samples).mT, p_y).div_(training.batch_size))
        network.step(step, training.learning_rate * (1 - step / training.steps))
    return _scores(network, activations, folds)


def _tensor(values: NDArray[Any]) -> "Tensor":
    """Copy to memory of PyTorch's own: where a matrix begins can change the last bits of a product."""
    import torch

    return torch.empty(values.shape, dtype=torch.float32, device="cpu").copy_(torch.from_numpy(values))


def _rows(table: "Tensor", index: "Tensor") -> "Tensor":
    """``table[index]``, (fold, sample, column), in two thirds of its time."""
    return table.index_select(0, index.view(-1)).view(*index.shape, table.shape[1])


def _standardisation(
    t: NDArray[np.float32], folds: Folds, trained: list[NDArray[np.int64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find mean and inverse deviation of each unit over the training samples, (fold, 1, unit); 0 if constant."""
    centre, scale = np.zeros((2, len(trained), 1, t.shape[1]))
    for k, rows in enumerate(trained):
        x, weights = t[rows].astype(np.float64), folds.weights[rows] / folds.weights[rows].sum()
        centre[k] = mean(x, weights)
        variance = mean((x - centre[k]) ** 2, weights)
        varies = variance > _CONSTANT
        scale[k, 0, varies] = variance[varies] ** -0.5
    return centre, scale


class _Standardised:
    """Activations as each fold's network sees them."""

    def __init__(self, t: "Tensor", centre: "Tensor", scale: "Tensor") -> None:
        self._t, self._centre, self._scale = t, centre, scale

    def of(self, samples: "Tensor", fold: slice = slice(None)) -> "Tensor":
        """Give (fold, unit, sample) of the samples (fold, sample)."""
        x = _rows(self._t, samples).sub_(self._centre[fold]).mul_(self._scale[fold]).clamp_(-_FARTHEST, _FARTHEST)
        return x.mT.contiguous()


class _Draw:
    """Draws training samples of each fold, by their weights, with replacement."""

    def __init__(self, folds: Folds, trained: list[NDArray[np.int64]], random: np.random.Generator) -> None:
        self._random, self._trained = random, trained
        equal = np.all(folds.weights == folds.weights[0])
        sums = [np.cumsum(folds.weights[rows]) for rows in trained]
        self._sums = None if equal else [cumulated[:-1] / cumulated[-1] for cumulated in sums]

    def __call__(self, size: int) -> "Tensor":
        """Give indices of samples, (fold, `size`) int64."""
        import torch

        uniform = self._random.random((len(self._trained), size))
        places = (
            [(u * len(rows)).astype(np.int64) for u, rows in zip(uniform, self._trained, strict=True)]
            if self._sums is None
            else [np.searchsorted(sums, u, side="right") for u, sums in zip(uniform, self._sums, strict=True)]
        )
        return torch.from_numpy(np.stack([rows[at] for rows, at in zip(self._trained, places, strict=True)]))


class _Network:
    """One network for each fold: a hidden layer of ReLU, or none, and its training by Adam.

    Parameters of all folds lie in one vector, weights before biases, so that a step is a few operations.

    Parameters
    ----------
    shape : (int, int, int, int)
        Numbers of folds, of units of T, of hidden units, and of classes.
    decay : (fold,)
        The loss of each network has this times half the square of its weights added; biases are free.
    """

    def __init__(self, shape: tuple[int, int, int, int], decay: NDArray[np.float64]) -> None:
        import torch

        folds, units, hidden, classes = shape
        widths = list(pairwise((units, hidden, classes) if hidden else (units, classes)))
        shapes = [(folds, out, into) for into, out in widths] + [(folds, out, 1) for _, out in widths]
        ends = list(accumulate((int(np.prod(s)) for s in shapes), initial=0))
        buffers = torch.zeros(5, ends[-1], dtype=torch.float32, device="cpu")
        self._vector, self._slope, self._first, self._second, self._decay = buffers

        def views(vector: "Tensor") -> list["Tensor"]:
            return [vector[a:b].view(s) for (a, b), s in zip(pairwise(ends), shapes, strict=True)]

        self._values, self._slopes = views(self._vector), views(self._slope)
        for of_weights in views(self._decay)[: len(widths)]:
            of_weights.copy_(_tensor(decay[:, None, None]))
        self._hidden = hidden > 0

    def initialise(self, x: "Tensor", random: np.random.Generator) -> None:
        """Draw the weights; a hidden unit bends at one of the training samples `x`, (fold, unit, hidden).

        So they bend where there is something to tell apart, also where T is narrow or has one unit.
        """
        if self._hidden:
            w_1, w_2, b_1, _ = self._values
            w_1.copy_(_tensor(random.normal(0.0, (2 / w_1.shape[2]) ** 0.5, w_1.shape)))
            w_2.copy_(_tensor(random.normal(0.0, w_2.shape[2] ** -0.5, w_2.shape)))
            b_1.copy_(-(w_1 * x.mT).sum(dim=2, keepdim=True))

    def forward(self, x: "Tensor", fold: slice = slice(None)) -> tuple["Tensor", "Tensor"]:
        """Give scores (fold, class, sample), and what the hidden units are, of `x` (fold, unit, sample)."""
        import torch

        *w, w_out = (values[fold] for values in self._values[: len(self._values) // 2])
        *b, b_out = (values[fold] for values in self._values[len(self._values) // 2 :])
        hidden = torch.baddbmm(b[0], w[0], x).relu_() if self._hidden else x
        return torch.baddbmm(b_out, w_out, hidden), hidden

    def backward(self, x: "Tensor", hidden: "Tensor", slope: "Tensor") -> None:
        """Find the slope of the loss by every parameter from that by the scores; overwrites `hidden`."""
        import torch

        *w, w_out = self._slopes[: len(self._slopes) // 2]
        *b, b_out = self._slopes[len(self._slopes) // 2 :]
        torch.bmm(slope, hidden.mT, out=w_out)
        torch.sum(slope, dim=2, keepdim=True, out=b_out)
        if self._hidden:
            of_hidden = torch.bmm(self._values[1].mT, slope).mul_(hidden.sign_())
            w[0].copy_(torch.bmm(x, of_hidden.mT).mT)  # twice as fast as the product with x transposed
            torch.sum(of_hidden, dim=2, keepdim=True, out=b[0])

    def step(self, done: int, learning_rate: float) -> None:
        """Take a step of Adam (Kingma & Ba, ICLR 2015, algorithm 1) after `done` others."""
        (beta_1, beta_2), count = _BETA, done + 1
        self._slope.addcmul_(self._vector, self._decay)
        self._first.lerp_(self._slope, 1 - beta_1)
        self._second.mul_(beta_2).addcmul_(self._slope, self._slope, value=1 - beta_2)
        root = self._second.sqrt().mul_((1 - beta_2**count) ** -0.5).add_(_EPSILON)
        self._vector.addcdiv_(self._first, root, value=-learning_rate / (1 - beta_1**count))


def _scores(network: _Network, activations: _Standardised, folds: Folds) -> NDArray[np.float64]:
    """Score each fold by the network that has not seen it."""
    import torch

    scores = np.empty(folds.labels.shape)
    for k in range(folds.n_folds):
        held_out = np.flatnonzero(folds.fold == k)
        for start in range(0, len(held_out), _COLUMNS):
            rows = held_out[start : start + _COLUMNS]
            x = activations.of(torch.from_numpy(rows)[None], slice(k, k + 1))
            scores[rows] = network.forward(x, slice(k, k + 1))[0][0].T.numpy()
    return scores
