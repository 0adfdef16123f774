"""`binned` against a plain implementation with numpy.digitize and numpy.unique, and against known numbers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ipstore.analysis.estimators import estimate
from ipstore.errors import ActivationError, ParameterError

Arrays = NDArray[Any]

# Information in bits as the code released with Shwartz-Ziv & Tishby 2017 computes it, on `golden_layers` with hard
# labels of the rule, in the order of the layers.
GOLDEN_I_XT = {
    1: (10.998027789608532, 4.494634463911047, 0.4071044803003101, 0.5037989849963405, 0.5039090326727599, 0.0),
    3: (11.368993895740019, 7.30020738046977, 4.531703192589515, 4.088639375872136, 3.2290689716943675, 2.763478835174621),
    30: (8.997212706638438, 7.538344249107843, 5.909359416329819, 4.30713690816636, 3.09751761384641, 1.2842318540750624),
}
GOLDEN_I_TY = {
    1: (0.588069760360213, 0.04427416605550771, 0.0011777350434560852, 0.0026870462057875244, 0.003592419852815776, 0.0),
    3: (0.7245934183400209, 0.10650432787418751, 0.014906760813224729, 0.01183074020411734, 0.010964240884990595, 0.008089532022848456),
    30: (0.3884936051952632, 0.2265092034845555, 0.11748254373644951, 0.04768938559475, 0.017044322263247036, 0.010675531525701443),
}  # fmt: skip
