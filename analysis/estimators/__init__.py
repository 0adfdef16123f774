"""Estimators of the information in a layer, by name; a new one is one file and one line in `registry`."""

from ipstore.analysis.estimators.base import H_T, I_TY, I_XT, N_CELLS, Estimator, Kernel, Quantity
from ipstore.analysis.estimators.parameters import Choice, Integer, Interval, Number, Parameter
from ipstore.analysis.estimators.registry import available, estimate, get, parse

__all__ = [
    "H_T",
    "I_TY",
    "I_XT",
    "N_CELLS",
    "Choice",
    "Estimator",
    "Integer",
    "Interval",
    "Kernel",
    "Number",
    "Parameter",
    "Quantity",
    "available",
    "estimate",
    "get",
    "parse",
]
