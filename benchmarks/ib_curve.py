"""The information-bottleneck curve against embo, its cost near the onset, and a joint of many states.

The joint of the `rule` task with I(X;Y) = 0.99 bits, reduced to its 53 states; all in one process on one core, in turn.

- `curve` to 1e-4 bits, with its certificate, against embo (PyPI, GPL: for this benchmark alone) at rtol 1e-8. embo has
  no certificate and is told at which betas to solve: it is given those that `curve` found, as many iterations as it
  wants, one start where its default is three (which end no nearer to the curve here), and no pool of processes. Its
  beta is ours times log 2: it takes exp of divergences in bits. Timed as well is what a call without options does: 30
  betas up to 5, which end at an I(X;T) of 1 bit, three starts, a pool of one process. How far its points lie below the
  curve is what `bounds` says of the upper one.
- Outer iterations of `point` at the onset times 1 + 1e-3, where alternating updates need thousands.
- `curve` to 1e-3 bits of a joint of 4096 states, logits drawn from a normal distribution.
- `blahut_arimoto` at that onset times 1 + 1e-3.

Run: ``OMP_NUM_THREADS=1 python -m benchmarks.ib_curve [--repeats 5]``
"""

import argparse
import json
import time
from collections.abc import Callable
from math import log
from typing import Any

import numpy as np

from benchmarks.timing import typical_seconds
from ipstore.analysis.ib import blahut_arimoto, bounds, curve, joint, point, reduce
from ipstore.analysis.probe import Probe
from ipstore.trainers.tasks import load

RTOL, ITERATIONS = 1e-8, 1_000_000
MANY = 4096
ABOVE_ONSET = 1 + 1e-3


def many_states() -> Probe:
    logits = np.random.default_rng(0).normal(0, 2, MANY)
    q = 1 / (1 + np.exp(-logits))
    return joint(None, np.stack([1 - q, q], axis=1))


def by_embo(states: Probe, betas: Any) -> list[tuple[float, float]]:
    """I(X;T) and I(T;Y), in bits, at given betas; or, where there are none, at embo's own."""
    with np.errstate():  # its import turns warnings off for everybody
        from embo import InformationBottleneck
    table = states.weights[:, None] * states.p_y_given_x
    np.random.seed(0)  # noqa: NPY002 - embo draws from the global state
    with np.errstate(divide="ignore", invalid="ignore"):
        if betas is None:
            I_XT, I_TY, *_ = InformationBottleneck(pxy=table, rtol=RTOL, iterations=ITERATIONS).get_bottleneck()
            return list(zip(I_XT, I_TY, strict=True))
        p_x, p_y, p_y_given_x = states.weights, states.p_y, states.p_y_given_x.T
        found = [
            InformationBottleneck.beta_iter(
                1, beta * log(2), p_x, p_y, p_y_given_x, len(p_x), restarts=1, iterations=ITERATIONS, rtol=RTOL
            )
            for beta in betas
        ]
    return [(I_XT, I_TY) for I_XT, I_TY, *_ in found]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def measure(repeats: int = 5) -> dict[str, Any]:
    """Give ratios, gaps, iterations, and seconds of the larger joint."""
    states, many = reduce(joint(None, load("rule", information=0.99).p_y_given_x)), many_states()
    found = curve(states, 1e-4)
    betas = found.beta.values[np.isfinite(found.beta.values)]
    cases: dict[str, Callable[[], object]] = {
        "curve": lambda: curve(states, 1e-4),
        "embo at the same betas": lambda: by_embo(states, betas),
        "embo by default": lambda: by_embo(states, None),
    }
    typical = typical_seconds(cases, repeats)
    below = {}
    for name, given in (("embo at the same betas", betas), ("embo by default", None)):
        I_XT, I_TY = np.array(by_embo(states, given)).T
        below[name] = float((bounds(found, I_XT=I_XT).I_TY_upper - I_TY).max())
    near = found.attrs["onset_beta"] * ABOVE_ONSET
    slow, slow_seconds = timed(lambda: blahut_arimoto(states, near))
    fast, fast_seconds = timed(lambda: point(states, near))
    wide, wide_seconds = timed(lambda: curve(many, 1e-3))
    return {
        "seconds": typical,
        "ratio": {name: value / typical["curve"] for name, value in typical.items() if name != "curve"},
        "points": found.sizes["point"],
        "largest gap, nats": float(found.gap.max()) * log(2),
        "bits below the curve, at worst": below,
        "onset times 1 + 1e-3": {
            "outer iterations": fast.attrs["iterations"],
            "seconds": fast_seconds,
            "blahut_arimoto, iterations": slow.attrs["iterations"],
            "blahut_arimoto, seconds": slow_seconds,
        },
        f"{MANY} states": {"seconds": wide_seconds, "points": wide.sizes["point"], "error, bits": wide.attrs["error"]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    print(json.dumps(measure(parser.parse_args().repeats), indent=2))


if __name__ == "__main__":
    main()
