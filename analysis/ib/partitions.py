"""The hard bottleneck: how much of the label a deterministic T can keep, given how many values or how much entropy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import log
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ipstore.analysis.ib.joints import reduce, states
from ipstore.analysis.probe import Probe, entropy
from ipstore.errors import ParameterError

__all__ = ["best_quantiser", "deterministic_bounds", "deterministic_curve"]

_ROUNDING = 1e-12
"""Bits within which two values are the same: sums of thousands of terms p log p agree to some 1e-14."""

_SLOPES = 32
"""Slopes at a time: they share the logarithms, which take most of the time."""

_DIRECTIONS = 8
"""Directions along which a search cuts the states into intervals where more than two classes occur."""


def best_quantiser(joint: Probe, k: int, *, random_state: int = 0) -> xr.Dataset:
    """Find the partition of the inputs into `k` clusters T that keeps the most of the label, the greatest I(T;Y).

    Inputs of equal p(y|x) stay together. Where two classes occur, the best clusters are intervals of p(y|x), which
    dynamic programming finds exactly [1]_, in O(k K log K) operations and 4 k K bytes for K distinct p(y|x). With
    more classes the search is heuristic: such intervals along several directions, then one p(y|x) at a time is moved
    to where I(T;Y) gains most until none gains, which goes on from where the steps of [2]_ stop.

    Parameters
    ----------
    joint : Probe
        The joint distribution p(x, y), made by `joint`.
    k : int
        Number of clusters, 1 to the number of distinct p(y|x).
    random_state : int
        Of the directions; unused with two classes.

    Returns
    -------
    Dataset
        ``cluster`` (sample), the number of each input's cluster, -1 for one without weight; ``p_t`` (t) and
        ``p_y_given_t`` (t, class); ``I_TY`` and ``H_T`` in bits. Clusters are in ascending order of the probability
        of the last class. Attributes: ``I_XY`` in bits, and ``certificate``: "exact", to rounding, with two classes;
        "heuristic" with more, where something better may exist.

    Raises
    ------
    ParameterError
        If `k` is not a whole number from 1 to the number of distinct p(y|x).

    References
    ----------
    .. [1] Kurkoski & Yagi, "Quantization of binary-input discrete memoryless channels", IEEE Transactions on
       Information Theory 60(8), 2014: the quantizer design algorithm.
    .. [2] Banerjee, Merugu, Dhillon & Ghosh, "Clustering with Bregman divergences", JMLR 6, 2005, algorithm 1.
    """
    from ipstore.analysis.ib.partition_kernels import improve, k_best_intervals

    search = _Search.of(joint, random_state)
    if not isinstance(k, int | np.integer) or not 1 <= k <= len(search.mass):
        raise ParameterError(
            f"k must be a whole number from 1 to {len(search.mass)}, the number of distinct p(y|x), but got {k!r}"
        )
    found = search.intervals(lambda mass: k_best_intervals(mass, int(k)))
    if not search.exact:
        for cluster in found:
            improve(search.mass, cluster, 0.0, k, k)
    best = max(found, key=lambda cluster: search.measure(cluster)[1])
    p_ty = _summed(search.mass, best)
    ascending = np.lexsort((p_ty / p_ty.sum(axis=1, keepdims=True)).T)
    best, p_ty = np.argsort(ascending)[best], p_ty[ascending]
    H_T, I_TY = search.measure(best)
    p_t = p_ty.sum(axis=1)
    of_sample = np.append(best, -1)[states(joint)]  # a sample without weight has state -1: the last
    return xr.Dataset(
        {
            "cluster": ("sample", of_sample, {"long_name": "cluster", "units": "1"}),
            "p_t": ("t", p_t, {"long_name": "p(t)", "units": "1"}),
            "p_y_given_t": (("t", "class"), p_ty / p_t[:, None], {"long_name": "p(y|t)", "units": "1"}),
            "I_TY": ((), I_TY, {"long_name": "I(T;Y)", "units": "bits"}),
            "H_T": ((), H_T, {"long_name": "H(T)", "units": "bits"}),
        },
        attrs={"I_XY": joint.I_XY, "certificate": search.certificate},
    )


def deterministic_curve(joint: Probe, *, tol: float = 1e-6, random_state: int = 0) -> xr.Dataset:
    """Compute the upper concave envelope of (H(T), I(T;Y)) over all hard partitions T of the inputs.

    It is the tightest concave bound on a layer that is a function of its input, and lies nowhere above the
    information-bottleneck curve, as H(T) is then I(X;T). Its vertices are the partitions of the greatest
    I(T;Y) - s H(T) for some slope s: the deterministic information bottleneck [1]_ with beta = 1 / s. The slope of
    the chord between two vertices either finds a vertex above the chord or proves that the chord is an edge.

    Where two classes occur, the partition at a slope is found exactly, as its clusters are intervals of p(y=1|x). A
    partition is worth the sum over t of a convex function of the masses (P_t, M_t), which lies above its tangent at
    the best partition, so that sending every x to the t of the greatest a_t + b_t p(y=1|x), where a_t and b_t are the
    tangent's, is worth as much; and of several lines each is the greatest on one interval, while a tie may go either
    way. (Where M_t is 0 or P_t, so that b_t is infinite, it is a limit of this.) Dynamic programming over the K
    distinct p(y|x) takes up to K^2 / 2 operations for a slope.

    With more classes the search is heuristic: it starts from intervals along several directions and from the
    neighbouring vertices, and moves one p(y|x) at a time to where the value gains most, until none gains. With
    hundreds of distinct p(y|x) of many classes that takes minutes at the default `tol`, and seconds at 1e-3.

    Parameters
    ----------
    joint : Probe
        The joint distribution p(x, y), made by `joint`.
    tol : float
        How far the envelope may lie above the chords between the vertices, in bits of I(T;Y). With 0 all vertices are
        found, save those that stand out by less than 1e-12 bits. With more than two classes this holds of the
        envelope of what the search finds.
    random_state : int
        Of the directions; unused with two classes.

    Returns
    -------
    Dataset
        Over ``vertex``, in ascending order of H(T): ``H_T`` and ``I_TY`` in bits, from (0, 0) to where I(T;Y) is
        I(X;Y) with the least H(T), which takes all distinct p(y|x) apart; ``n_clusters``; ``slope_left`` and
        ``slope_right`` in bits per bit: here I_TY - s H_T is greatest for every s from slope_right to slope_left.
        They are the slopes of the edges that meet there where these are proven; at the ends they are 1, because
        I(T;Y) <= H(T), and 0. Attributes: ``I_XY`` in bits; ``tolerance``, which is `tol`; ``certificate``:
        "exact" with two classes (to rounding, no partition lies above any of these tangents) and "heuristic" with
        more (vertices can be reached, better ones may exist).

    Raises
    ------
    ParameterError
        If `tol` is negative or not finite.

    References
    ----------
    .. [1] Strouse & Schwab, "The deterministic information bottleneck", Neural Computation 29(6), 2017,
       arXiv:1604.00268: its cost function.
    """
    if not (np.isfinite(tol) and tol >= 0):
        raise ParameterError(f"tol must be 0 or more bits, and finite, but got {tol!r}")
    search = _Search.of(joint, random_state)
    together, apart = np.zeros(len(search.mass), np.int64), np.arange(len(search.mass))
    first = _Vertex(together, 0.0, 0.0, slope_left=1.0, slope_right=1.0)
    last = _Vertex(apart, *search.measure(apart), slope_left=0.0, slope_right=0.0)
    vertices, edges = [first, last], [(first, last)]
    while edges:
        if search.exact:
            edges = [(left, right) for left, right in edges if left.room(right) > max(tol, _ROUNDING)]
        some, edges = edges[:_SLOPES], edges[_SLOPES:]
        for (left, right), cluster in zip(some, search.beyond(some), strict=True):
            slope = left.chord(right)
            found = _Vertex(cluster, *search.measure(cluster), slope_left=slope, slope_right=slope)
            above = found.I_TY - left.I_TY - slope * (found.H_T - left.H_T)
            if above > _ROUNDING and left.H_T < found.H_T < right.H_T:
                vertices.append(found)
                if above > tol:
                    edges += [(left, found), (found, right)]
            else:
                left.slope_right = right.slope_left = slope
    vertices.sort(key=lambda vertex: vertex.H_T)
    if not search.exact:
        vertices = _upper_hull(vertices)
    bits = {"units": "bits"}
    slopes = {"units": "bits per bit"}
    return xr.Dataset(
        {
            "H_T": ("vertex", [vertex.H_T for vertex in vertices], {"long_name": "H(T)"} | bits),
            "I_TY": ("vertex", [vertex.I_TY for vertex in vertices], {"long_name": "I(T;Y)"} | bits),
            "n_clusters": (
                "vertex",
                [int(vertex.cluster.max()) + 1 for vertex in vertices],
                {"long_name": "clusters", "units": "1"},
            ),
            "slope_left": ("vertex", [v.slope_left for v in vertices], {"long_name": "greatest slope"} | slopes),
            "slope_right": ("vertex", [v.slope_right for v in vertices], {"long_name": "least slope"} | slopes),
        },
        attrs={"I_XY": joint.I_XY, "tolerance": float(tol), "certificate": search.certificate},
    )


def deterministic_bounds(
    curve: xr.Dataset, *, H_T: ArrayLike | xr.DataArray | None = None, I_TY: ArrayLike | xr.DataArray | None = None
) -> xr.Dataset:
    """Read the envelope of hard partitions at given H(T) or I(T;Y), between its chords and its tangents.

    Parameters
    ----------
    curve : Dataset
        Of `deterministic_curve`.
    H_T, I_TY : array or DataArray, any shape
        In bits; one of the two. May be lazy. What lies outside the curve by rounding or bias is read at its nearer
        end. NaN stays NaN.

    Returns
    -------
    Dataset
        Of `H_T`: ``I_TY_upper``, which no layer of that H(T) exceeds if the curve is exact, and ``I_TY_lower``, the
        chords; the envelope lies between them, at most the curve's tolerance apart. Of `I_TY`: ``H_T_lower``, which
        no layer with that much of the label goes below if the curve is exact, and ``H_T_upper``. In bits, of the
        shape given.

    Raises
    ------
    ParameterError
        If not exactly one of `H_T` and `I_TY` is given, or `curve` is another curve.
    """
    if (H_T is None) == (I_TY is None):
        raise ParameterError("give exactly one of H_T and I_TY: bounds on the other are returned")
    corners = ["H_T", "I_TY", "slope_left", "slope_right"]
    missing = [name for name in corners if name not in curve]
    if missing:
        raise ParameterError(f"curve must be one of deterministic_curve but lacks {', '.join(missing)}")
    read, given, name = (_at_I_TY, I_TY, "H_T") if H_T is None else (_at_H_T, H_T, "I_TY")
    low, high = xr.apply_ufunc(
        read,
        given if isinstance(given, xr.DataArray) else xr.DataArray(np.asarray(given, np.float64)),
        kwargs={"corners": curve[corners].to_dataarray().values},
        output_core_dims=[[], []],
        dask="parallelized",
        output_dtypes=[np.float64, np.float64],
    )
    symbol = curve[name].attrs["long_name"]
    return xr.Dataset(
        {
            f"{name}_lower": low.assign_attrs(long_name=f"lower bound of {symbol}", units="bits"),
            f"{name}_upper": high.assign_attrs(long_name=f"upper bound of {symbol}", units="bits"),
        },
        attrs={"certificate": curve.attrs["certificate"]},
    )


def _at_H_T(given: NDArray[Any], corners: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    H_T, I_TY, *slopes = corners
    h = np.clip(given, 0.0, H_T[-1])
    upper = np.full(h.shape, I_TY[-1])
    for slope in slopes:
        for across, up, s in zip(H_T, I_TY, slope, strict=True):
            upper = np.minimum(upper, up + s * (h - across))
    return np.interp(h, H_T, I_TY), upper


def _at_I_TY(given: NDArray[Any], corners: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    H_T, I_TY, *slopes = corners
    i = np.clip(given, 0.0, I_TY[-1])
    lower = np.zeros(i.shape)
    for slope in slopes:
        for across, up, s in zip(H_T, I_TY, slope, strict=True):
            if s > 0:
                lower = np.maximum(lower, across + (i - up) / s)
    return np.minimum(lower, H_T[-1]), np.interp(i, I_TY, H_T)


@dataclass
class _Vertex:
    cluster: NDArray[np.int64]
    H_T: float
    I_TY: float
    slope_left: float
    slope_right: float

    def chord(self, right: "_Vertex") -> float:
        """Slope of the chord to a vertex on the right."""
        return max(0.0, (right.I_TY - self.I_TY) / (right.H_T - self.H_T))

    def room(self, right: "_Vertex") -> float:
        """Give the height above that chord at which the tangents of the two meet."""
        steeper = self.slope_right - self.chord(right)
        flatter = self.chord(right) - right.slope_left
        if min(steeper, flatter) <= 0:
            return 0.0
        return (right.H_T - self.H_T) * steeper * flatter / (steeper + flatter)


def _upper_hull(vertices: Sequence[_Vertex]) -> list[_Vertex]:
    """Keep what lies above all chords, given ascending H(T), with the slopes of the edges."""
    hull: list[_Vertex] = []
    for vertex in vertices:
        while len(hull) > 1 and hull[-2].chord(hull[-1]) <= hull[-1].chord(vertex):
            hull.pop()
        hull.append(vertex)
    for left, right in pairwise(hull):
        left.slope_right = right.slope_left = left.chord(right)
    return hull


@dataclass(frozen=True)
class _Search:
    """The states, as everything here takes them.

    Attributes
    ----------
    mass : (state, class) float64
        p(x, y) of the reduced joint distribution.
    exact : bool
        Whether only two classes occur, so that the best clusters are intervals of the states.
    orders : list of (state,) int64
        Permutations of the states whose intervals are tried.
    """

    mass: NDArray[np.float64]
    exact: bool
    orders: list[NDArray[np.int64]]

    @classmethod
    def of(cls, joint: Probe, random_state: int) -> "_Search":
        reduced = reduce(joint)
        mass = reduced.weights[:, None] * reduced.p_y_given_x
        if np.count_nonzero(reduced.p_y) == 2:
            return cls(mass, True, [np.arange(len(mass))])  # in the order of p(y|x) already
        # Square roots: distances there are Hellinger's, near to those of the divergence for p(y|x) that are close.
        roots = np.sqrt(reduced.p_y_given_x)
        directions = np.random.default_rng(random_state).normal(size=(roots.shape[1], _DIRECTIONS))
        return cls(mass, False, list(np.argsort(roots @ directions, axis=0, kind="stable").T))

    @property
    def certificate(self) -> str:
        return "exact" if self.exact else "heuristic"

    def measure(self, cluster: NDArray[np.int64]) -> tuple[float, float]:
        """H(T) and I(T;Y) of a partition of the states, in bits."""
        from scipy.special import rel_entr

        p_ty = _summed(self.mass, cluster)
        p_t = p_ty.sum(axis=1)
        return entropy(p_t), max(0.0, float(rel_entr(p_ty, np.outer(p_t, self.mass.sum(axis=0))).sum()) / log(2))

    def intervals(self, kernel: Callable[[NDArray[np.float64]], NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """Partitions (..., state) into the best intervals by `kernel`, one for each order."""
        return [kernel(self.mass[order])[..., np.argsort(order)] for order in self.orders]

    def beyond(self, edges: Sequence[tuple[_Vertex, _Vertex]]) -> list[NDArray[np.int64]]:
        """For the slope s of each chord, find the partition of the greatest I(T;Y) - s H(T)."""
        from ipstore.analysis.ib.partition_kernels import best_intervals, improve

        slopes = np.array([left.chord(right) for left, right in edges])
        starts = self.intervals(lambda mass: best_intervals(mass, slopes))
        if self.exact:
            return list(starts[0])
        found = []
        for number, (slope, (left, right)) in enumerate(zip(slopes, edges, strict=True)):
            value = partial(self.value, slope=slope)
            tried = [max((start[number] for start in starts), key=value), left.cluster.copy(), right.cluster.copy()]
            for cluster in tried:
                improve(self.mass, cluster, slope, 1, len(cluster))
            found.append(max(tried, key=value))
        return found

    def value(self, cluster: NDArray[np.int64], slope: float) -> float:
        H_T, I_TY = self.measure(cluster)
        return I_TY - slope * H_T


def _summed(mass: NDArray[np.float64], cluster: NDArray[np.int64]) -> NDArray[np.float64]:
    """p(t, y) of a partition of the states, (t, class)."""
    return np.stack([np.bincount(cluster, column) for column in mass.T], axis=1)
