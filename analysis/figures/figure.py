"""A figure as it is registered: what draws it, what it takes, and what it shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import xarray as xr

from ipstore.analysis.figures.planes import grid_of
from ipstore.analysis.figures.wording import count
from ipstore.errors import ParameterError

__all__ = ["Figure", "Takes"]

Takes = Literal[
    "one plane",
    "one plane with a grid",
    "two planes or more",
    "a lower and an upper bound",
    "a bound",
    "a sweep",
    "a run's training",
    "a layer's activity",
]
"""What a figure takes. A grid is a list of values of a parameter, as in ``binned:bins=10,30,100``; a bound is a plane
with the bottleneck curve, and with how its layers stand to it; a sweep is one plane over an axis along which runs
differ. A run's training is no plane, but the group of that name, and a layer's activity what
`ipstore.analysis.layer_activity` gives."""

_ADVICE: dict[Takes, str] = {
    "one plane": "give one estimator, with one value of each parameter",
    "one plane with a grid": "give one estimator with several values of a parameter, as binned:bins=10,30",
    "two planes or more": "give two estimators or more, or one with several values of a parameter",
    "a lower and an upper bound": "give two estimators, such as kde_lower and kde_upper, each with one value of its "
    "parameters",
    "a bound": "give one estimator that makes a T of discrete values, such as binned, with one value of each parameter",
    "a sweep": "give one estimator, with one value of each parameter, over one axis of the sweep",
    "a run's training": "give run['training'].dataset; it takes no estimator",
    "a layer's activity": "give run.ip.layer_activity(layer), with one value of each parameter of the estimator",
}


@dataclass(frozen=True)
class Figure:
    """A figure that ``ipstore plot`` knows by its name; calling it is drawing it.

    Parameters
    ----------
    draw : callable
        From planes, one after another, to a HoloViews object.
    takes : Takes
    summary : str
        What it shows, in one line.
    estimators : sequence of str
        Those to draw where none are named, as the command line writes them; none, if it takes no plane.
    frames : bool
        Whether it has a frame for each epoch, so that it can be a film.
    """

    draw: Callable[..., Any]
    takes: Takes
    summary: str
    estimators: Sequence[str] = ("binned",)
    frames: bool = False

    def __call__(self, *planes: xr.Dataset, **options: Any) -> Any:
        """Draw `planes`.

        Parameters
        ----------
        *planes : Dataset
            As `ipstore.analysis.information_plane` returns them, or what else it takes; as many as it takes.
        **options
            Of the figure, such as ``layers``.

        Returns
        -------
        HoloViews object

        Raises
        ------
        ParameterError, UnknownNameError
        """
        self.check([self._grid(plane) for plane in planes])
        return self.draw(*planes, **options)

    def _grid(self, plane: Any) -> list[str]:
        """Name the parameters of which a plane has several values; an axis of a sweep is none."""
        names = grid_of(plane) if isinstance(plane, xr.Dataset) else []
        return names[1:] if self.takes == "a sweep" else names

    def check(self, grids: Sequence[Sequence[str]]) -> None:
        """Refuse planes of which the figure cannot be drawn, if need be before they are computed.

        Parameters
        ----------
        grids : sequence of sequences of str
            For each plane the names of the parameters of which it has several values.

        Raises
        ------
        ParameterError
            There are too many planes or too few, or they have a grid that they should not have, or none.
        """
        gridded = [names for names in grids if names]
        alone = len(grids) == 1 and not gridded
        fits = {
            "one plane with a grid": len(grids) == 1 and len(grids[0]) == 1,
            "two planes or more": len(grids) >= 2 or bool(gridded),
            "a lower and an upper bound": len(grids) == 2 and not gridded,
        }
        if fits.get(self.takes, alone):
            return
        given = count(len(grids), "plane")
        if gridded:
            given += f" with a grid of {' and of '.join(', '.join(names) for names in gridded)}"
        raise ParameterError(f"this figure takes {self.takes} but got {given}; {_ADVICE[self.takes]}")
