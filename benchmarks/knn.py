"""Speed of the `knn` estimator against npeet-plus, in the same run.

The work: one cell of tanh activations (4096, units) float32 of a random network on the 4096 patterns of 12 binary
inputs, weights of gain 1 or (nearly saturated) 8, hard labels of two classes, k = 3; I(T;Y) and its standard error.
The baselines give no error: ``npeet_plus.mi`` of T and a label so far apart that only neighbours of the same class
count, which is the same number where no distances are equal, and ``npeet_plus.micd``, its estimator for a discrete
label, a difference of entropies. All on one core; interleaved repeats, the median of each.

The floor: a difference, its absolute value and a maximum for each unit of each pair, 0.2 ns in float64; with few
units, most pairs need not be looked at.

Run: ``OMP_NUM_THREADS=1 python -m benchmarks.knn [--repeats 5]``
"""

import argparse
import json
from collections.abc import Callable
from itertools import product
from typing import Any

import npeet_plus
import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import typical_seconds
from ipstore.analysis.estimators import get

UNITS = (1, 2, 3, 5, 10, 20, 64)
GAINS = (1.0, 8.0)
K = 3


def layer(units: int, gain: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Activations of the second layer of a random network, and labels."""
    rng = np.random.default_rng(0)
    patterns = np.array(list(product((-1.0, 1.0), repeat=12)))
    hidden = np.tanh(patterns @ rng.normal(0, gain * 12**-0.5, (12, 10)))
    t = np.tanh(hidden @ rng.normal(0, gain * 10**-0.5, (10, units)))
    return t.astype(np.float32), (patterns.sum(axis=1) + rng.normal(0, 1, len(patterns)) > 0).astype(np.int64)


def measure(repeats: int = 5) -> dict[str, Any]:
    """Give, for each layer, milliseconds of each and the ratio of each baseline to `knn`."""
    knn = get("knn")
    results: dict[str, Any] = {}
    for gain, units in product(GAINS, UNITS):
        t, y = layer(units, gain)
        labels, column, wide = np.eye(2)[y], y[:, None], t.astype(np.float64)
        cases: dict[str, Callable[[], Any]] = {
            "knn": lambda t=t, labels=labels: knn(t, labels, method="ross", k=K)["I_TY"],
            "npeet_plus.mi": lambda t=wide, y=column: npeet_plus.mi(t, 1e6 * y, k=K),
            "npeet_plus.micd": lambda t=wide, y=column: npeet_plus.micd(t, y, k=K),
        }
        found = {name: float(case()) for name, case in cases.items()}
        if gain == 1:
            np.testing.assert_allclose(found["knn"], found["npeet_plus.mi"], rtol=0, atol=1e-9)
        typical = typical_seconds(cases, repeats)
        results[f"{units} units, gain {gain:g}"] = {
            "milliseconds": {name: 1e3 * value for name, value in typical.items()},
            "ratio": {name: typical[name] / typical["knn"] for name in list(cases)[1:]},
            "bits": found,
        }
    return {"baselines": "npeet_plus.mi and npeet_plus.micd", "samples": 4096, "k": K, "layers": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    print(json.dumps(measure(parser.parse_args().repeats), indent=2))


if __name__ == "__main__":
    main()
