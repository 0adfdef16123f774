"""Questions about a stored run: information under any estimator, as lazy labelled arrays.

Importing it gives trees, datasets and arrays of xarray the accessor ``.ip``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ipstore.analysis import accessor, dynamics, estimators, ib
from ipstore.analysis.activity import layer_activity
from ipstore.analysis.bottleneck import analyze_bound, bound, distributions, self_consistency
from ipstore.analysis.intervals import seed_interval
from ipstore.analysis.plane import information_plane, information_planes
from ipstore.analysis.stored import analyze, analyze_all
from ipstore.analysis.summaries import summary
from ipstore.analysis.sweeping import sweep

if TYPE_CHECKING:
    from ipstore.analysis import figures

__all__ = [
    "accessor",
    "analyze",
    "analyze_all",
    "analyze_bound",
    "bound",
    "distributions",
    "dynamics",
    "estimators",
    "figures",
    "ib",
    "information_plane",
    "information_planes",
    "layer_activity",
    "seed_interval",
    "self_consistency",
    "summary",
    "sweep",
]


def __getattr__(name: str) -> Any:
    """Load HoloViews only for who draws."""
    if name != "figures":
        raise AttributeError(f"module 'ipstore.analysis' has no attribute {name!r}")
    return import_module("ipstore.analysis.figures")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
