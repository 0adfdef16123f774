"""A plane over an axis of a sweep, taken apart: at every value the layers, epochs and seeds that its run has."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ipstore.analysis.figures.planes import finite, grid_of, prepare
from ipstore.analysis.figures.wording import listed, plain
from ipstore.errors import ParameterError

__all__ = ["Along", "along"]


class Along(NamedTuple):
    """What a plane has along an axis: its name, its values in their order as words, and a plane at each."""

    axis: str
    values: list[str]
    planes: list[xr.Dataset]  # without the coordinate of the axis
    notes: list[str]


def along(plane: Any, layers: Sequence[str] | None, figure: str) -> Along:
    """Take a plane apart along its one axis.

    Parameters
    ----------
    plane : Dataset
        I_XT and I_TY (axis, epoch, seed, layer), in bits; may be lazy. NaN where the run at a value has no such layer,
        epoch or seed.
    layers : sequence of str, optional
        Which layers; all by default. A run that has none of them is left out.
    figure : str
        What is drawn, for messages.

    Returns
    -------
    Along
        Numbers are in ascending order, other values by how many layers there are, and else as they were given.

    Raises
    ------
    ParameterError
        `plane` has no axis or several, or fewer than two values with a number, or is no information plane.
    UnknownNameError
        A layer that the plane does not have.
    """
    axis = _axis(plane, figure)
    _refuse_different_labels(plane, axis, figure)
    plane = prepare(plane, layers, grid=axis)
    there = finite(plane)
    kept: list[tuple[Any, str, xr.Dataset]] = []
    empty = []
    for i, value in enumerate(plane[axis].values):
        text = plain(value.item() if hasattr(value, "item") else value)
        one, some = plane.isel({axis: i}, drop=True), there.isel({axis: i})
        if not some.any():
            empty.append(text)
            continue
        others = {dim: [name for name in some.dims if name != dim] for dim in some.dims}
        one = one.isel({dim: np.flatnonzero(some.any(rest)) for dim, rest in others.items()})
        kept.append((value if plane[axis].dtype.kind in "iuf" else one.sizes["layer"], text, one))
    if len(kept) < 2:
        raise ParameterError(
            f"{figure} shows how layers differ along {axis} and needs two values or more with a finite number, but "
            f"got {listed([text for _, text, _ in kept]) if kept else 'none'}"
            + (f"; there is none at {axis} {listed(empty)}" if empty else "")
        )
    kept.sort(key=lambda each: each[0])
    notes = [f"Left out, without a finite value: {axis} {listed(empty)}."] if empty else []
    return Along(axis, [text for _, text, _ in kept], [one for *_, one in kept], notes)


def _axis(plane: Any, figure: str) -> str:
    """Name the one dimension along which runs differ."""
    if not isinstance(plane, xr.Dataset):
        raise ParameterError(
            f"{figure} draws an information plane over an axis of a sweep, but got a {type(plane).__name__}"
        )
    names = grid_of(plane)
    if len(names) == 1:
        return names[0]
    if not names:
        raise ParameterError(
            f"{figure} draws an information plane over an axis of a sweep, but this one has the dimensions "
            f"{', '.join(map(str, plane.sizes)) or 'none'}. Give one over several runs, as "
            "tree.ip.sweep('train_fraction', of=lambda run: run.ip.information_plane('binned'))"
        )
    chosen = ", ".join(f"{name}={plane[name].values[0].item()!r}" for name in names[1:] if name in plane.coords)
    raise ParameterError(
        f"{figure} draws one axis, but this plane has {listed(names)}; choose one value of all but one, as with "
        f"plane.sel({chosen})"
    )


def _refuse_different_labels(plane: xr.Dataset, axis: str, figure: str) -> None:
    """Refuse runs whose reference lines differ, of which a sweep keeps no attribute."""
    if "sweep" in plane.attrs and (differ := [name for name in ("I_XY", "H_X") if name not in plane.attrs]):
        raise ParameterError(
            f"{figure} draws all values of {axis} on the same axes, but {listed(differ)} are not equal in all runs, as "
            "where only train or test samples count; ask for all samples, and the same labels"
        )
