"""How long estimates will take, before they are begun."""

import time

import numpy as np

from ipstore.analysis.estimators import estimate

__all__ = ["seconds_per_cell"]

_WIDTHS = (10, 7, 5, 4, 3, 2)
_INPUTS = 4096
_CELLS = 8

_BESIDE = 2.0
"""What an analysis takes by what its estimates take: activations are rebuilt, checked, and results committed. Measured,
1.7 on two cores."""


def seconds_per_cell() -> float:
    """Time the estimate of one network at one epoch on this machine, and add what comes with it.

    Returns
    -------
    float
        Seconds, about, for all layers of the paper's network in 30 bins.
    """
    random = np.random.default_rng(0)
    layers = [np.tanh(random.normal(size=(_CELLS, _INPUTS, width))).astype(np.float32) for width in _WIDTHS]
    p_y_given_x = np.eye(2)[random.integers(0, 2, _INPUTS)]
    seconds = 0.0
    for _ in range(2):  # the first compiles, the last counts
        begun = time.perf_counter()
        for t in layers:
            estimate("binned", t, p_y_given_x)
        seconds = time.perf_counter() - begun
    return _BESIDE * seconds / _CELLS
