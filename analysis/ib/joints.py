"""The joint distribution of input and label, as everything here takes it, and its states that matter."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError

__all__ = ["joint", "of_inputs", "reduce", "states"]


def joint(p_x: ArrayLike | None, p_y_given_x: ArrayLike) -> Probe:
    """Give a joint distribution p(x, y) of a discrete input and a discrete label.

    Parameters
    ----------
    p_x : (sample,) or None
        Probability of each input, summing to one. None if they are equal.
    p_y_given_x : (sample, class)
        Probabilities of the classes given the input; rows sum to one.

    Returns
    -------
    Probe
        With ``I_XY``, ``H_X`` and ``H_Y`` in bits. Of a table p(x, y): ``joint(table.sum(1), table / table.sum(1,
        keepdims=True))``.

    Raises
    ------
    ParameterError
        If shapes disagree, probabilities are negative or do not sum to one, or only one class occurs.
    """
    return Probe.of(p_y_given_x, None, p_x)


def states(joint: Probe) -> NDArray[np.int64]:
    """Give each input the number of its p(y|x) among those that occur.

    Parameters
    ----------
    joint : Probe

    Returns
    -------
    (sample,) int64
        Number of each sample's state in `reduce(joint)`; -1 for a sample without weight.
    """
    return _reduced(joint)[1]


def reduce(joint: Probe) -> Probe:
    """Merge the inputs that have equal p(y|x), which loses nothing of the label.

    The states are a minimal sufficient statistic: every curve and bound of the joint is that of its states. The 4096
    patterns of the ``rule`` task with I(X;Y) = 0.99 bits have 53.

    Parameters
    ----------
    joint : Probe
        Samples of equal ``x_id`` are one input, whose p(y|x) is their weighted mean. Samples without weight are left
        out.

    Returns
    -------
    Probe
        Over (state, class), in ascending order of p(y|x), the last class first.
    """
    return _reduced(joint)[0]


def _reduced(joint: Probe) -> tuple[Probe, NDArray[np.int64]]:
    rows, weights, of_sample = joint.p_y_given_x, joint.weights, None
    if joint.x_id is not None:
        rows, weights, of_sample = of_inputs(joint.x_id, rows, weights)
    there = np.flatnonzero(weights > 0)
    distinct, inverse = np.unique(rows[there][:, ::-1], axis=0, return_inverse=True)
    number = np.full(len(weights), -1, np.int64)
    number[there] = inverse.reshape(-1)
    merged = np.asarray(np.bincount(number[there], weights[there]), np.float64)
    if len(merged) < 2:
        raise ParameterError(
            "every input has the same p(y|x), so Y is independent of X: I(X;Y) is 0 and there is no curve. "
            "Give labels that depend on the input"
        )
    # Probe.of would scale rows that sum to one already, and so move them by a rounding.
    reduced = Probe(np.ascontiguousarray(distinct[:, ::-1]), None, merged, joint.population)
    return reduced, number if of_sample is None else number[of_sample]


def of_inputs(
    x_id: NDArray[np.int64], p_y_given_x: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Make one of the samples of each input: they have their mean p(y|x), to the bit their own where all are equal.

    Parameters
    ----------
    x_id : (sample,) int64
        Equal for equal inputs.
    p_y_given_x : (sample, class) float64
    weights : (sample,) float64

    Returns
    -------
    p_y_given_x : (input, class) float64
    weights : (input,) float64
    inputs : (sample,) int64
        Number of each sample's input.
    """
    _, first, inputs = np.unique(x_id, return_index=True, return_inverse=True)
    total = np.asarray(np.bincount(inputs, weights), np.float64)
    mass = np.stack([np.bincount(inputs, weights * column) for column in p_y_given_x.T], axis=1)
    mean = np.divide(mass, total[:, None], where=total[:, None] > 0, out=np.zeros_like(mass))
    differ = np.bincount(inputs, (p_y_given_x != p_y_given_x[first][inputs]).any(axis=1)) > 0
    return np.where(differ[:, None], mean, p_y_given_x[first]), total, inputs
