"""What an estimator is shown by its contract: activations of a few cells, and a probe of one kind or another."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.probe import Probe

__all__ = ["Case"]


@dataclass(frozen=True, eq=False)
class Case:
    """Activations and what is known of their samples, as `Estimator.__call__` takes them.

    Attributes
    ----------
    t : (..., sample, unit)
    p_y_given_x : (sample, class)
    x_id : (sample,) or None
    p_x : (sample,) or None
    """

    t: NDArray[Any]
    p_y_given_x: NDArray[np.float64]
    x_id: NDArray[np.int64] | None = None
    p_x: NDArray[np.float64] | None = None

    def __str__(self) -> str:
        """Say what is special about the samples."""
        features = [
            name
            for name, given in (
                ("soft labels", self.probe.labels == "soft"),
                ("weights", self.probe.p_x is not None),
                ("repeated inputs", self.probe.x_id is not None),
            )
            if given
        ]
        return " and ".join(features) or "hard labels of distinct, equally weighted inputs"

    @property
    def probe(self) -> Probe:
        """The probe, checked."""
        return Probe.of(self.p_y_given_x, self.x_id, self.p_x)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What an estimator is called with."""
        return self.t, self.p_y_given_x, self.x_id, self.p_x

    def of(self, t: NDArray[Any]) -> "Case":
        """Give other activations of the same samples."""
        return replace(self, t=t)

    def labelled(self, p_y_given_x: NDArray[np.float64]) -> "Case":
        """Give other labels to the same samples."""
        return replace(self, p_y_given_x=p_y_given_x)

    def take(self, samples: NDArray[np.int64]) -> "Case":
        """Give these samples, in this order, with their weights as they are."""
        return Case(
            self.t[..., samples, :],
            self.p_y_given_x[samples],
            None if self.x_id is None else self.x_id[samples],
            None if self.p_x is None else self.p_x[samples],
        )

    def weighted(self, p_x: NDArray[np.float64], x_id: NDArray[np.int64] | None) -> "Case":
        """Give other weights and numbers of the input to the same samples."""
        return replace(self, p_x=p_x, x_id=x_id)
