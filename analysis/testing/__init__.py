"""Holding an estimator to what it declares: the contract as a test class, known truths, and a check of all."""

from ipstore.analysis.testing.check import Finding, check_estimators
from ipstore.analysis.testing.contract import EstimatorContract
from ipstore.analysis.testing.truths import Bed, Data

__all__ = ["Bed", "Data", "EstimatorContract", "Finding", "check_estimators"]
