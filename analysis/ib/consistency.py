"""Encoder/decoder self-consistency: how far the encoder of a layer is from the one that its own decoder asks for."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from inspect import Parameter as Argument
from inspect import Signature, signature
from math import inf, log, prod
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ipstore.analysis.estimators import counting
from ipstore.analysis.estimators.base import H_T, I_TY, I_XT, N_CELLS, Encode, Estimator, Quantity
from ipstore.analysis.estimators.discrete import discrete
from ipstore.analysis.estimators.encoding import symbols
from ipstore.analysis.estimators.parameters import Number
from ipstore.analysis.estimators.registry import available, get
from ipstore.analysis.ib.joints import of_inputs, reduce, states
from ipstore.analysis.ib.standing import Curves, with_curves
from ipstore.analysis.probe import Probe
from ipstore.errors import ActivationError, ParameterError

__all__ = [
    "BETA",
    "BETA_CAPPED",
    "BETA_MAX",
    "RESIDUAL",
    "RESIDUAL_AT_0",
    "distributions",
    "self_consistency",
    "self_consistent",
]

BETA = Quantity("beta", "beta*", "1")
BETA_CAPPED = Quantity("beta_capped", "whether beta* is cut off", "1")
RESIDUAL = Quantity("residual", "residual at beta*")
RESIDUAL_AT_0 = Quantity("residual_at_0", "residual at beta = 0")

_DISTANCES = (
    Quantity("IB_distance_I_TY", "I(T;Y) below the IB curve, at most", kind="upper"),
    Quantity("IB_distance_I_XT", "I(X;T) right of the IB curve, at most", kind="upper"),
    Quantity("deterministic_distance_I_TY", "I(T;Y) below the deterministic curve, at most", kind="upper"),
    Quantity("deterministic_distance_H_T", "H(T) right of the deterministic curve, at most", kind="upper"),
)
_AT_BOUND = Quantity("at_bound", "whether it lies on the IB curve", "1")
_QUANTITIES = (I_XT, I_TY, H_T, N_CELLS, BETA, BETA_CAPPED, RESIDUAL, RESIDUAL_AT_0, *_DISTANCES, _AT_BOUND)
_VERSION = 1

BETA_MAX = 1e6
"""Where beta* is cut off by default. An encoder at that beta tells divergences of 1e-6 nats apart, and there are none
between the decoders of some thousand samples that would mean anything."""

_OPTIONS = (
    Number("beta_max", "where beta* is cut off, if it is larger or unbounded", low=0.0, high=1e9),
    Number(
        "tol", "bits of I(T;Y) to which the IB curve is known; none for no curve", low=1e-7, high=1.0, optional=True
    ),
    Number("within", "bits to the right of the curve at which a layer is on it", low=0.0, high=100.0),
)
_DEFAULTS = {"beta_max": BETA_MAX, "tol": 1e-4, "within": 0.01}


@cache
def self_consistent(estimator: Estimator) -> Estimator:
    """Ask of the T of an estimator how self-consistent its encoder and decoder are.

    A T that is optimal for the information bottleneck at beta has the encoder ::

        p_beta(t|x) = p(t) exp(-beta D[p(y|x) || p(y|t)]) / Z_x(beta)

    with its own p(t) and decoder p(y|t) [1]_. The residual of any other T is by how much its encoder differs, ::

        J(beta) = sum_x p(x) D[p(t|x) || p_beta(t|x)]
                = I(X;T) + beta (I(X;Y) - I(T;Y)) + sum_x p(x) log sum_t p(t) exp(-beta D[p(y|x) || p(y|t)])

    and beta* is where that is least. J is convex. It is 0 at beta for a T that is optimal there. For any T,
    I(X;T) - beta I(T;Y) exceeds its minimum at beta by J(beta) or more; at the beta of the IB curve's point with the
    same I(T;Y) it does so by the horizontal distance from the curve, which is therefore no less than J(beta*).

    What to expect: of hard labels the encoder at beta = 1 is p(t|y), whatever T is, and no other is nearer: beta* is 1
    and the residual I(X;T) - I(T;Y). Where every input uses its nearest decoder J falls for ever: for a partition into
    labels, or a layer that tells all inputs apart. Then, and where beta* is finite but larger, ``beta`` is ``beta_max``
    with the residual there (no more than the distance from the curve's tangent of that beta), and ``beta_capped`` is 1.
    A T that knows nothing of Y has beta* 0 and the residual I(X;T). Where decoders exclude labels, J may drop at once
    from beta = 0 on and then grow: beta* is 0, and the residual where it grows from.

    Parameters
    ----------
    estimator : Estimator
        With `Estimator.encode`, which says what T is: "binned", "quantised" or "discrete".

    Returns
    -------
    Estimator
        Of the same name and parameters, without a correction, as distributions are counted, and with ``beta_max``,
        ``tol`` and ``within``. It gives ``I_XT``, ``I_TY``, ``H_T`` in bits, ``n_cells``, ``beta`` (beta*),
        ``beta_capped`` (0 or 1), ``residual`` and ``residual_at_0`` in bits: J at beta* and at 0, of the encoder that
        ignores the input, where it is I(X;T); the distances of `ipstore.analysis.ib.Curves.distances`, from the curves
        of the samples' own joint distribution; and ``at_bound``, 1 where the layer lies at most `within` bits to the
        right of the information-bottleneck curve, else 0.
        Of inputs that are repeated with different p(y|x), each has their mean, as Y depends on T only through X.
        The same estimator gives the same object.

    Raises
    ------
    ParameterError
        If T of that estimator has no discrete values.

    References
    ----------
    .. [1] Tishby, Pereira & Bialek, "The information bottleneck method", 1999, arXiv:physics/0004057, theorem 4.
    """
    if estimator.encode is None:
        able = [name for name in available() if get(name).encode is not None]
        raise ParameterError(
            f"estimator {estimator.name!r} does not say which T are equal, and self-consistency is counted over "
            f"discrete values of T; use one of {', '.join(able)}"
        )
    parameters = tuple(each for each in estimator.parameters if each.name != "correction")
    defaults = {each.name: estimator.defaults[each.name] for each in parameters} | _DEFAULTS
    return Estimator(
        name=estimator.name,
        version=estimator.version + _VERSION - 1,
        kind="exact",
        summary=f"self-consistency of encoder and decoder, T as {estimator.name} has it",
        reference="Tishby, Pereira & Bialek 1999, arXiv:physics/0004057, theorem 4",
        kernel=_Kernel(estimator.encode, tuple(defaults.items())),
        quantities=_QUANTITIES,
        parameters=(*parameters, *_OPTIONS),
        settle=partial(_settle, estimator),
        marks_nonfinite=True,
        read_codes=estimator.read_codes,
        encode=estimator.encode,
    )


def _settle(estimator: Estimator, params: dict[str, Any], probe: Probe) -> dict[str, Any]:
    """Settle what says what T is; its estimator may want a correction besides."""
    uncorrected = {"correction": "plugin"} if "correction" in estimator.defaults else {}
    own = {name: value for name, value in params.items() if name in estimator.defaults}
    settled = estimator.settle(own | uncorrected, probe)
    return params | {name: settled[name] for name in own}


@dataclass(frozen=True)
class _Kernel:
    """The kernel of `self_consistent`: equal for equal T, and picklable.

    Parameters
    ----------
    encode : callable
    defaults : tuple of (str, object)
        Of all parameters.
    """

    encode: Encode
    defaults: tuple[tuple[str, Any], ...]

    @property
    def __signature__(self) -> Signature:
        taken = [each for each in signature(_count).parameters.values() if each.name in ("t", "p_y_given_x")]
        given = (("x_id", None), ("p_x", None), *self.defaults)
        return Signature([*taken, *(Argument(key, Argument.KEYWORD_ONLY, default=value) for key, value in given)])

    def __call__(
        self,
        t: NDArray[Any],
        p_y_given_x: NDArray[np.float64],
        *,
        x_id: NDArray[np.int64] | None = None,
        p_x: NDArray[np.float64] | None = None,
        **params: Any,
    ) -> dict[str, NDArray[np.float64]]:
        return _count(t, p_y_given_x, x_id, p_x, self.encode, dict(self.defaults) | params)


def _count(
    t: NDArray[Any],
    p_y_given_x: NDArray[np.float64],
    x_id: NDArray[np.int64] | None,
    p_x: NDArray[np.float64] | None,
    encode: Encode,
    params: Mapping[str, Any],
) -> dict[str, NDArray[np.float64]]:
    """Give `_QUANTITIES` of (..., sample, unit) over the leading dimensions; NaN for cells that `encode` refuses."""
    from ipstore.analysis.ib import consistency_kernels

    t, p_y_given_x, x_id, p_x = counting.with_weight(t, p_y_given_x, x_id, p_x)
    *leading, samples, units = t.shape
    cells = t.reshape(prod(leading), samples, units)
    weights = np.full(samples, 1 / samples) if p_x is None else p_x.copy()  # compiled once, as what may be written to
    if x_id is not None:
        rows, _, inputs = of_inputs(x_id, p_y_given_x, weights)
        p_y_given_x = rows[inputs]
    ((_, (as_keys,), _),) = counting.keyed(p_y_given_x[None], None, lambda cells, *_: symbols(cells), {})
    _, places, state = np.unique(as_keys, return_index=True, return_inverse=True)
    p_y_given_state = p_y_given_x[places]
    groups = counting.Groups(p_y_given_x, x_id, p_x)
    out = np.full((len(_QUANTITIES), len(cells)), np.nan)
    for batch, keys, refused in counting.keyed(cells, p_x, encode, params):
        counted = np.empty((len(counting.QUANTITIES), len(keys)))
        groups.plug_in(keys, counted)
        I_XT = counted[0]
        found = np.empty((3, len(keys)))
        consistency_kernels.nearest_encoders(
            keys, I_XT * log(2), state, weights, p_y_given_state, params["beta_max"], found
        )
        found[2] /= log(2)
        counted[:, refused] = found[:, refused] = np.nan
        out[:8, batch] = *counted[:4], *found, I_XT
    if params["tol"] is not None:
        distances = Curves.of(Probe(p_y_given_x, x_id, p_x), params["tol"]).distances(*out[:3])
        out[8:] = *distances, np.where(np.isnan(distances[1]), np.nan, distances[1] <= params["within"])
    return {q.name: values.reshape(leading) for q, values in zip(_QUANTITIES, out, strict=True)}


def self_consistency(
    codes: ArrayLike | xr.DataArray,
    joint: Probe,
    *,
    beta_max: float = BETA_MAX,
    tol: float | None = _DEFAULTS["tol"],
    within: float = _DEFAULTS["within"],
) -> xr.Dataset:
    """Say of any discrete T how it stands to the information bottleneck; see `self_consistent`.

    Parameters
    ----------
    codes : (..., sample) or (..., sample, unit)
        T of each sample, or the units of a layer: each distinct row is one value, whether of integers or of floats
        (0.0 and -0.0 are one). Of uint8, 255 means missing, as in a store. A DataArray has the dimension ``sample``
        and at most one whose name ends in ``unit``; it may be lazy.
    joint : Probe
        Of the same samples. Those of equal ``x_id`` are one input, so that a stochastic T is given by its values for
        each input, with their weights.
    beta_max : float
        Where beta* is cut off.
    tol : float, optional
        Bits of I(T;Y) to which the information-bottleneck curve is known. With None there is none, and distances are
        NaN: of many inputs with soft labels of several classes it takes long.
    within : float
        Bits to the right of that curve at which a layer is on it.

    Returns
    -------
    Dataset
        Over the leading dimensions, in bits where not said otherwise: ``I_XT``, ``I_TY``, ``H_T``, ``n_cells`` (the
        number of distinct T), ``beta`` (beta*, a number), ``beta_capped`` (1 if it is cut off or unbounded, else 0),
        ``residual``, ``residual_at_0``, the distances of `Curves.distances`, and ``at_bound`` (0 or 1). NaN where
        values are missing or not finite. Beside them the curves, as `with_curves` adds them.

    Raises
    ------
    ParameterError
        If samples do not match, codes are neither integers nor floats, all p(y|x) are equal, or an option lies outside
        its range.
    """
    given = {"beta_max": beta_max, "tol": tol, "within": within}
    given = {option.name: option.check(given[option.name]) for option in _OPTIONS}
    array, unit = _layer(codes, joint)
    kernel = partial(_of_codes, joint=joint, options=given)
    values = xr.apply_ufunc(
        kernel,
        array,
        input_core_dims=[["sample", unit]],
        output_core_dims=[[] for _ in _QUANTITIES],
        output_dtypes=[np.float64 for _ in _QUANTITIES],
        dask="parallelized",
    )
    found = xr.Dataset({quantity.name: value for quantity, value in zip(_QUANTITIES, values, strict=True)})
    for quantity in _QUANTITIES:
        found[quantity.name].attrs = {"long_name": quantity.long_name, "units": quantity.units}
    return with_curves(found.assign_attrs(_attributes(joint) | {"parameters": given}), joint)


def distributions(codes: ArrayLike | xr.DataArray, joint: Probe, *, beta: float | None = None) -> xr.Dataset:
    """Give encoder and decoder of one discrete T, and the self-consistent encoder beside its own.

    Parameters
    ----------
    codes : (sample,) or (sample, unit)
        As `self_consistency` takes them.
    joint : Probe
        Of the same samples.
    beta : float, optional
        Of the self-consistent encoder. By default beta*, or `BETA_MAX` if that is larger.

    Returns
    -------
    Dataset
        Over ``t``, the values of T, in ascending order of p(y|t), the last class first; ``state``, the distinct p(y|x),
        as `reduce` has them; and ``class``. Probabilities: ``p_t`` (t), ``p_y_given_t`` (t, class), the decoder;
        ``p_state`` (state), ``p_y_given_state`` (state, class); ``p_t_given_state`` (state, t), the encoder, averaged
        over the inputs of a state; ``p_t_given_state_at_beta`` (state, t), the self-consistent one. ``t_of_sample`` and
        ``state_of_sample`` (sample) are the numbers of each sample's T and state, -1 for a sample without weight.
        ``beta``, ``beta_capped`` (0 or 1; always 0 of a beta that was given) and ``residual`` in bits.

    Raises
    ------
    ParameterError
        If samples do not match, there are leading dimensions, all p(y|x) are equal, or `beta` is negative or not
        finite.
    ActivationError
        If values are missing or not finite.
    """
    from scipy.special import logsumexp, rel_entr, softmax

    if beta is not None and not 0 <= beta < inf:
        raise ParameterError(f"beta must be a finite number, 0 or more, but got {beta}")
    array, unit = _layer(codes, joint)
    if array.ndim > 2:
        raise ParameterError(
            f"distributions are those of one T, but codes has dimensions {array.dims}; choose one cell"
        )
    found = self_consistency(array, joint, tol=None)
    if np.isnan(found["I_XT"]):
        raise ActivationError("codes hold values that are missing or not finite; give those of another cell")

    there = joint.weights > 0
    reduced, state = reduce(joint), np.where(there, states(joint), -1)
    _, t = np.unique(array.transpose("sample", unit).values[there], axis=0, return_inverse=True)
    shared = np.zeros((len(reduced.weights), t.max() + 1))
    np.add.at(shared, (state[there], t.reshape(-1)), joint.weights[there])
    p_t = shared.sum(axis=0)
    decoder = shared.T @ reduced.p_y_given_x / p_t[:, None]
    order = np.lexsort(decoder.T)  # its last key, and so the last class, counts first
    shared, p_t, decoder = shared[:, order], p_t[order], decoder[order]
    t_of_sample = np.full(len(state), -1)
    t_of_sample[there] = np.argsort(order)[t.reshape(-1)]

    pairs = zip(reduced.p_y_given_x.T, decoder.T, strict=True)
    divergence = sum(rel_entr(ours[:, None], theirs) for ours, theirs in pairs)
    distance = divergence - divergence.min(axis=1, keepdims=True)
    at = float(found["beta"]) if beta is None else beta
    with np.errstate(invalid="ignore"):  # at beta = 0 the encoder ignores the input, whatever a decoder excludes
        exponent = np.where((distance == inf) & (beta == 0), 0.0, np.where(distance == inf, inf, at * distance))
    logits = np.log(p_t) - exponent
    residual = float(found["residual"])
    if beta is not None:
        mean = np.sum(shared * np.where(shared > 0, exponent, 0))
        residual = max(0.0, float(found["I_XT"]) + (mean + reduced.weights @ logsumexp(logits, axis=1)) / log(2))
    return xr.Dataset(
        {
            "p_t": ("t", p_t),
            "p_y_given_t": (("t", "class"), decoder),
            "p_state": ("state", reduced.weights),
            "p_y_given_state": (("state", "class"), reduced.p_y_given_x),
            "p_t_given_state": (("state", "t"), shared / reduced.weights[:, None]),
            "p_t_given_state_at_beta": (("state", "t"), softmax(logits, axis=1)),
            "t_of_sample": ("sample", t_of_sample),
            "state_of_sample": ("sample", state),
            BETA.name: ((), at, {"long_name": BETA.long_name if beta is None else "beta", "units": "1"}),
            BETA_CAPPED.name: ((), float(found[BETA_CAPPED.name]) if beta is None else 0.0),
            RESIDUAL.name: ((), residual, {"long_name": "residual", "units": "bits"}),
        },
        attrs=_attributes(joint),
    )


def _attributes(joint: Probe) -> dict[str, Any]:
    known = {"I_XY": joint.I_XY, "H_X": joint.H_X, "H_Y": joint.H_Y}
    return {"certificate": "exact", "units": "bits", "labels": joint.labels, **known}


def _of_codes(t: NDArray[Any], joint: Probe, options: Mapping[str, float | None]) -> tuple[NDArray[np.float64], ...]:
    """Give `_QUANTITIES` of (..., sample, unit) over the leading dimensions."""
    values = t.astype(np.int64).view(np.uint64) if t.dtype.kind in "ib" else t
    return tuple(self_consistent(discrete).kernel(values, **joint.arguments, **options).values())


def _layer(codes: ArrayLike | xr.DataArray, joint: Probe) -> tuple[xr.DataArray, str]:
    """Give codes with the dimensions ``sample`` and another for the units, and the name of that."""
    samples = len(joint.p_y_given_x)
    if isinstance(codes, xr.DataArray):
        array = codes
        if "sample" not in array.dims or array.sizes["sample"] != samples:
            raise ParameterError(
                f"codes must have the dimension 'sample', of {samples} as the joint, but has {dict(array.sizes)}"
            )
    else:
        values = np.asarray(codes)
        along = [axis for axis in (-1, -2) if values.ndim >= -axis and values.shape[axis] == samples]
        if len(along) != 1:
            raise ParameterError(
                f"codes must be (..., sample) or (..., sample, unit), and the joint has {samples} samples, but its "
                f"shape is {values.shape}"
                + ("; give a DataArray, whose dimensions say which is meant" if along else "; give as many in both")
            )
        names = ["sample"] if along == [-1] else ["sample", "unit"]
        leading = [f"dim_{number}" for number in range(values.ndim - len(names))]
        array = xr.DataArray(values, dims=[*leading, *names])
    if array.dtype.kind not in "biu" and array.dtype not in (np.float16, np.float32, np.float64):
        raise ParameterError(f"codes must be integers or floats of 16, 32 or 64 bits, but are {array.dtype}")
    units = [str(dim) for dim in array.dims if str(dim).endswith("unit")]
    if len(units) > 1:
        raise ParameterError(f"codes must have one dimension of units at most, but has {', '.join(units)}")
    if not units:
        array, units = array.expand_dims("unit", axis=-1), ["unit"]
    if array.chunks is not None:
        array = array.chunk({"sample": -1, units[0]: -1})
    return array, units[0]
