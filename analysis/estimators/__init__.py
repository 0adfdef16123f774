"""Estimators of the information in a layer, by name; a new one is one file and one line in `registry`."""

from ipstore.analysis.estimators.base import (
    COVERAGE,
    H_T,
    I_TY,
    I_TY_SE,
    I_XT,
    I_XT_SE,
    N_CELLS,
    Estimator,
    Kernel,
    Kind,
    Quantity,
)
from ipstore.analysis.estimators.parameters import Choice, Integer, Interval, Number, Parameter
from ipstore.analysis.estimators.registry import available, estimate, get, parse

__all__ = [
    "COVERAGE",
    "H_T",
    "I_TY",
    "I_TY_SE",
    "I_XT",
    "I_XT_SE",
    "N_CELLS",
    "Choice",
    "Estimator",
    "Integer",
    "Interval",
    "Kernel",
    "Kind",
    "Number",
    "Parameter",
    "Quantity",
    "available",
    "estimate",
    "get",
    "parse",
]
