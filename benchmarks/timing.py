"""Contestants take turns, so that a machine that slows down slows all of them; of each, the median counts."""

import time
from collections.abc import Callable, Mapping
from statistics import median

__all__ = ["typical_seconds"]


def typical_seconds(cases: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Run every case once unmeasured (to compile, and to fill caches), then all in turn `repeats` times."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(repeats + 1):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}
