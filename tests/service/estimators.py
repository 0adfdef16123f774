"""Estimators as somebody else might write them, badly."""

import ctypes
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipstore.analysis.estimators import Estimator, Integer, Kernel, Number

Values = Mapping[str, NDArray[np.float64]]


def constant(t: NDArray[Any], value: float = 0.0) -> Values:
    return {name: np.full(t.shape[:-2], value) for name in ("I_XT", "I_TY")}


def raises(t: NDArray[Any], p_y_given_x: NDArray[np.float64], **rest: Any) -> Values:
    raise RuntimeError("of an\nestimator")


def exits(t: NDArray[Any], p_y_given_x: NDArray[np.float64], **rest: Any) -> Values:
    sys.exit(7)


def vanishes(t: NDArray[Any], p_y_given_x: NDArray[np.float64], **rest: Any) -> Values:
    os._exit(7)


def crashes(t: NDArray[Any], p_y_given_x: NDArray[np.float64], **rest: Any) -> Values:
    return {"I_XT": np.array(ctypes.string_at(0))}  # a segmentation fault


def hangs(t: NDArray[Any], p_y_given_x: NDArray[np.float64], **rest: Any) -> Values:
    threading.Event().wait()
    return constant(t)


def hogs(t: NDArray[Any], p_y_given_x: NDArray[np.float64], **rest: Any) -> Values:
    ctypes.PyDLL(None).sleep(3600)  # the interpreter's lock is held all the time
    return constant(t)


def waits(t: NDArray[Any], p_y_given_x: NDArray[np.float64], *, gate: int = 0, **rest: Any) -> Values:
    """Go on when there is a file of that number in the folder that the environment names."""
    file = Path(os.environ["TEST_GATES"]) / str(gate)
    while not file.exists():
        threading.Event().wait(0.02)
    return constant(t)


def steps(t: NDArray[Any], p_y_given_x: NDArray[np.float64], **rest: Any) -> Values:
    """Take a second for each call."""
    threading.Event().wait(1)
    return constant(t, 1.0)


def sees(t: NDArray[Any], p_y_given_x: NDArray[np.float64], *, shift: float = 0.0, **rest: Any) -> Values:
    """Give the threads of the arithmetic, and how nice the process is."""
    return constant(t, 100 * int(os.environ["OMP_NUM_THREADS"]) + os.nice(0) + shift)


def _estimator(kernel: Kernel, *parameters: Any) -> Estimator:
    return Estimator(kernel.__name__, 1, "estimate", "For tests.", "none", kernel, parameters=parameters)


raising, exiting, vanishing, crashing = map(_estimator, (raises, exits, vanishes, crashes))
hanging, hogging, stepping = map(_estimator, (hangs, hogs, steps))
waiting = _estimator(waits, Integer("gate", "which file it waits for", low=0, high=9))
seeing = _estimator(sees, Number("shift", "bits that are added"))
