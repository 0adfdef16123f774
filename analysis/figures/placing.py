"""Where the names of the layers go: beside the end of their paths, off the paths and off one another."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["merge", "place"]

_CHARACTER, _LINE = 0.0115, 0.042  # of a 10 pt label, in fractions of the frame's width and height
_GAPS = (0.018, 0.05, 0.09, 0.14, 0.2)
_ASPECT = np.array([1.0, 1.4])  # equal distances on the page, the frame being wider than high
_ANGLES = np.arange(16) * np.pi / 8


def merge(
    points: NDArray[np.float64], names: Sequence[str], size: tuple[float, float] = (1.0, 1.0)
) -> list[tuple[int, str]]:
    """Join the names of points that nobody could tell apart.

    Parameters
    ----------
    points : (name, 2) float64
        In fractions of the frame.
    size : (float, float)
        Width and height of the frame, relative to the one that is a figure by itself.

    Returns
    -------
    list of (int, str)
        The first point of each group, and the group's names.
    """
    groups: list[list[int]] = []
    for i, point in enumerate(points):
        for group in groups:
            if np.all(np.abs(points[group[0]] - point) < np.array([0.012, 0.02]) / size):
                group.append(i)
                break
        else:
            groups.append([i])
    return [(group[0], ", ".join(names[i] for i in group)) for group in groups]


def place(
    points: NDArray[np.float64],
    names: Sequence[str],
    obstacles: NDArray[np.float64],
    size: tuple[float, float] = (1.0, 1.0),
) -> NDArray[np.float64]:
    """Find the centre of each label: greedily, the nearest spot around its point that covers least.

    Parameters
    ----------
    points : (name, 2) float64
        What is named, in fractions of the frame.
    obstacles : (point, 2) float64
        What should stay visible, in fractions of the frame.
    size : (float, float)
        Width and height of the frame, relative to the one that is a figure by itself.

    Returns
    -------
    (name, 2) float64
        Centres, in fractions of the frame.
    """
    placed: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for i, (point, name) in enumerate(zip(points, names, strict=True)):
        half = np.array([_CHARACTER * len(name), _LINE]) / 2 / size
        best, least = point, np.inf
        for gap in _GAPS:
            for angle in _ANGLES:
                centre = point + (half + gap * _ASPECT) * (np.cos(angle), np.sin(angle))
                if np.any(np.abs(centre - 0.5) > 0.5 - half):
                    continue
                covered = np.all(np.abs(obstacles - centre) < half, axis=1).sum()
                clashes = sum(np.all(np.abs(other - centre) < half + reach) for other, reach in placed)
                away = np.hypot(*(np.maximum(np.abs(points - centre) - half, 0) / _ASPECT).T)
                nearest = np.argmin(away) == i  # else it would seem to name another point
                cost = covered + 1000 * (clashes + (not nearest)) + 200 * gap
                if cost < least:
                    best, least = centre, cost
        placed.append((best, half))
    return np.array([centre for centre, _ in placed]).reshape(-1, 2)
