"""What estimators of a layer with Gaussian noise share: it is a mixture of Gaussians, one about each row of T."""

from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators.parameters import Choice, Number
from ipstore.analysis.probe import Probe

__all__ = ["MODE", "NOISE", "Components", "Tiles", "settle_mode", "standard_error"]

NOISE = Number("noise", "variance of the Gaussian noise, in squared units of the activation", low=1e-30, high=1e30)

MODE = Choice(
    "mode",
    "what the samples are, which the standard errors count; what the probe says unless given",
    words=("population", "sample"),
    optional=True,
)


def settle_mode(params: dict[str, Any], probe: Probe) -> dict[str, Any]:
    """Take from the probe what its samples are, unless that is given."""
    return params | {"mode": params["mode"] or ("population" if probe.population else "sample")}


def standard_error(local: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Give the standard error of the weighted mean of what independent samples say each; NaN if there is one only.

    Parameters
    ----------
    local, weights : (sample,) float64
        Weights sum to one.
    """
    if np.count_nonzero(weights) < 2:
        return nan
    away = local - weights @ local
    return float(np.sqrt(away**2 @ weights**2 / (1 - weights @ weights)))


@dataclass(frozen=True)
class Tiles:
    """The rows of one cell in the order in which kernels are summed.

    Attributes
    ----------
    index : (row,) int64
        Which of the components' samples each is.
    x : (unit, row) float32 or float64
        An even number of units.
    starts, group
        As `kde_kernels.order` gives them.
    """

    index: NDArray[np.int64]
    x: NDArray[Any]
    starts: NDArray[np.int64]
    group: NDArray[np.int64]

    @classmethod
    def of(cls, t: NDArray[Any], samples: NDArray[np.int64], bounds: NDArray[np.int64]) -> "Tiles":
        """Put the rows of one cell, ``t[samples]``, in order within groups; see `kde_kernels.order`."""
        from ipstore.analysis.estimators import kde_kernels

        index = samples.copy()
        rows = np.ascontiguousarray(t, np.float64 if t.dtype == np.float64 else np.float32)
        starts, group = kde_kernels.order(rows, index, bounds)
        x = np.zeros((rows.shape[1] + rows.shape[1] % 2, len(index)), rows.dtype)
        x[: rows.shape[1]] = rows[index].T
        return cls(index, x, starts, group)


@dataclass(frozen=True)
class Components:
    """The samples as components of mixtures: p(t) over all, p(t|y) over each class, p(t|x) over each input.

    Attributes
    ----------
    mass : (class, sample) float64
        p(x) p(y|x) of each sample; with hard labels a single row, p(x).
    p_y : (class, 1) or (1, sample) float64
        Probability of the class to which that mass belongs.
    by_label, by_input : pairs of int64 arrays
        Samples of positive weight, class by class if labels are hard, or input by input, and the bounds of those
        groups. `by_input` is empty if no input is repeated.
    I_SY : float
        Information of the sample on the label, in bits: no noisy layer has more.
    """

    mass: NDArray[np.float64]
    p_y: NDArray[np.float64]
    by_label: tuple[NDArray[np.int64], NDArray[np.int64]]
    by_input: tuple[NDArray[np.int64], NDArray[np.int64]]
    I_SY: float

    @classmethod
    def of(
        cls, p_y_given_x: NDArray[np.float64], x_id: NDArray[np.int64] | None, p_x: NDArray[np.float64] | None
    ) -> "Components":
        """Prepare what is the same for all cells."""
        probe = Probe(p_y_given_x, None, p_x)
        present = np.flatnonzero(probe.weights > 0)
        hard = probe.labels == "hard"
        label = p_y_given_x.argmax(axis=1)
        joint = (probe.weights[:, None] * p_y_given_x).T
        nothing = np.empty(0, np.int64)
        return cls(
            mass=probe.weights[None] if hard else joint[probe.p_y > 0],
            p_y=probe.p_y[label][None] if hard else probe.p_y[probe.p_y > 0, None],
            by_label=_grouped(present, label if hard else np.zeros_like(label)),
            by_input=(nothing, nothing) if x_id is None else _grouped(present, x_id),
            I_SY=probe.I_XY,
        )

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weight of each sample, (sample,) float64."""
        total: NDArray[np.float64] = self.mass.sum(axis=0)
        return total

    def repeats_differ(self, t: NDArray[Any]) -> bool:
        """Whether somewhere in the cell (sample, unit) one input has several values of T."""
        samples, bounds = self.by_input
        rows = t[samples]
        same_input = np.ones(max(0, len(samples) - 1), np.bool_)
        same_input[bounds[1:-1] - 1] = False
        return bool(np.any(same_input & (rows[1:] != rows[:-1]).any(axis=1)))


def _grouped(samples: NDArray[np.int64], of: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the samples in the order of their group, and the bounds of the groups that occur."""
    ordered = samples[np.argsort(of[samples], kind="stable")]
    return ordered, np.concatenate([[0], np.flatnonzero(np.diff(of[ordered])) + 1, [len(ordered)]])
