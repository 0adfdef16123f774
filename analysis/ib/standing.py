"""How far from the curves a layer lies."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ipstore.analysis.ib.curves import bounds, curve
from ipstore.analysis.ib.joints import reduce
from ipstore.analysis.ib.partitions import deterministic_bounds, deterministic_curve
from ipstore.analysis.probe import Probe
from ipstore.errors import ParameterError

__all__ = ["Curves", "curve_of", "with_curves"]


@dataclass(frozen=True, eq=False)
class Curves:
    """Both curves of a joint distribution; made by `Curves.of`.

    Attributes
    ----------
    bottleneck : Dataset
        As `ipstore.analysis.ib.curve` gives it.
    deterministic : Dataset
        As `ipstore.analysis.ib.deterministic_curve` gives it.
    """

    bottleneck: xr.Dataset
    deterministic: xr.Dataset

    @classmethod
    def of(cls, joint: Probe, tol: float) -> "Curves":
        """Compute the curves, or take them as they were computed before.

        Parameters
        ----------
        joint : Probe
        tol : float
            Bits of I(T;Y) to which the information-bottleneck curve is known.
        """
        states = reduce(joint)
        return _curves(states.weights.tobytes(), states.p_y_given_x.tobytes(), states.p_y_given_x.shape[1], float(tol))

    def distances(
        self, I_XT: NDArray[np.float64], I_TY: NDArray[np.float64], H_T: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Give the distances of layers from both curves, in bits.

        They are taken to the side of each curve that no layer passes, so they are what a layer may at most be away.

        Parameters
        ----------
        I_XT, I_TY, H_T : float64 arrays of one shape
            In bits. NaN gives NaN.

        Returns
        -------
        (4, ...) float64
            By how much more I(T;Y) a T of the same I(X;T) can have, and by how much less I(X;T) a T of the same I(T;Y).
            Then the same for a T that is a function of X, with H(T) in place of I(X;T).
        """
        label = np.minimum(I_TY, self.bottleneck.attrs["I_XY"])
        found = (
            bounds(self.bottleneck, I_XT)["I_TY_upper"].values - label,
            I_XT - bounds(self.bottleneck, I_TY=label)["I_XT_lower"].values,
            deterministic_bounds(self.deterministic, H_T=H_T)["I_TY_upper"].values - label,
            H_T - deterministic_bounds(self.deterministic, I_TY=label)["H_T_lower"].values,
        )
        return np.maximum(found, 0.0)


@lru_cache(maxsize=64)
def _curves(p: bytes, q: bytes, classes: int, tol: float) -> Curves:
    joint = Probe(np.frombuffer(q).reshape(-1, classes), None, np.frombuffer(p))
    return Curves(curve(joint, tol), deterministic_curve(joint))


def with_curves(plane: xr.Dataset, joint: Probe) -> xr.Dataset:
    """Add the curves to the answers of `ipstore.analysis.ib.self_consistent` that refer to them.

    Parameters
    ----------
    plane : Dataset
        With ``tol`` among its parameters; without curves if that is None.
    joint : Probe
        Of all its cells.

    Returns
    -------
    xarray.Dataset
        With ``curve_I_XT``, ``curve_I_TY``, ``curve_beta`` and ``curve_gap`` (point) and ``deterministic_H_T`` and
        ``deterministic_I_TY`` (vertex), and as attributes ``onset_beta``, ``curve_error`` and ``certificate``.
    """
    if plane.attrs["parameters"]["tol"] is None:
        return plane
    curves = Curves.of(joint, plane.attrs["parameters"]["tol"])
    found = {f"curve_{name}": curves.bottleneck[name] for name in ("I_XT", "I_TY", "beta", "gap")}
    found |= {f"deterministic_{name}": curves.deterministic[name] for name in ("H_T", "I_TY")}
    attrs = curves.bottleneck.attrs
    return plane.assign(found).assign_attrs(
        onset_beta=attrs["onset_beta"], curve_error=attrs["error"], certificate=attrs["certificate"]
    )


def curve_of(plane: xr.Dataset) -> xr.Dataset:
    """Take the information-bottleneck curve out again that `with_curves` added, as `bounds` and the figures take it."""
    if "curve_I_XT" not in plane:
        raise ParameterError("there is no curve in it: give what `self_consistency` returned with a `tol`")
    found = {name: plane[f"curve_{name}"] for name in ("I_XT", "I_TY", "beta", "gap")}
    names = ("onset_beta", "certificate", "I_XY", "H_Y", "labels", "units")
    return xr.Dataset(found, attrs={"error": plane.attrs["curve_error"], **{name: plane.attrs[name] for name in names}})
