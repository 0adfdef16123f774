"""Figures of the information plane, as HoloViews objects that render under bokeh and matplotlib alike.

A new figure is a function from a Dataset to a HoloViews object, in a module of its own, and one line in
`FIGURES`. In a notebook, ``hv.extension("bokeh")`` makes HoloViews show them, as always.
"""

from collections.abc import Callable
from typing import Any

from ipstore.analysis.figures.files import check_path, save
from ipstore.analysis.figures.networks import snapshots
from ipstore.analysis.figures.trajectories import information_plane

__all__ = ["FIGURES", "check_path", "information_plane", "save", "snapshots"]

FIGURES: dict[str, Callable[..., Any]] = {
    "plane": information_plane,
    "snapshots": snapshots,
}
"""The figures by the names that ``ipstore plot`` knows them by."""
