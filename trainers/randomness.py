"""Random numbers that depend on a seed and a purpose, never on what else was drawn.

Philox is a counter-based generator (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011):
the seed is the key; the purpose and an index stand in the two upper words of the counter. Two seeds, two
purposes or two epochs never share a number, and epoch 1000 is drawn without drawing the 999 before it, so a
resumed run needs no random state.
"""

from enum import IntEnum
from functools import cache
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipstore.errors import ParameterError

__all__ = ["Purpose", "check_seed", "shuffle"]


class Purpose(IntEnum):
    """What the numbers are for. The values are part of what a seed means: never renumber them."""

    SPLIT = 1
    ORDER = 2


def check_seed(seed: Any) -> int:
    """Return the seed as a plain int.

    Raises
    ------
    ParameterError
        If it is no integer in [0, 2**32): PyTorch, which draws the weights, would ignore any higher bits.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) < 2**32:
        raise ParameterError(f"a seed must be an integer in [0, 2**32) but got {seed!r}")
    return int(seed)


def shuffle(values: NDArray[np.int64], seed: int, purpose: Purpose, index: int = 0) -> None:
    """Shuffle in place (Fisher & Yates), fewer than 2**32 values; `index` is the epoch where there is one.

    ``numpy.random.Generator.shuffle`` takes three times as long, a tenth of a whole epoch of the paper's
    networks. A position is drawn as ``(r * i) >> 32``, whose probabilities are off by less than len(values) /
    2**32.
    """
    bits = np.random.Philox(key=check_seed(seed), counter=[0, 0, index, int(purpose)])
    _shuffle_kernel()(values, bits.random_raw((len(values) + 1) // 2).view(np.uint32))


@cache
def _shuffle_kernel() -> Any:
    """Compile on first use: importing numba costs half a second."""
    import numba

    @numba.njit("void(int64[::1], uint32[::1])", cache=True, nogil=True)
    def kernel(values: Any, random: Any) -> None:
        for i in range(values.size - 1, 0, -1):
            j = (numba.uint64(random[i]) * numba.uint64(i + 1)) >> numba.uint64(32)
            values[i], values[j] = values[j], values[i]

    return kernel
