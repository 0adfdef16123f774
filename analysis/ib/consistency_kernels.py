"""Compiled loops of `consistency`: the self-consistent encoder that is nearest to the one of a layer, cell by cell.

They compile on first use, stay compiled on disk, and do not hold the GIL. All information is in nats.
"""

from typing import Any

import numpy as np
from numba import njit

from ipstore.analysis.estimators.counting_kernels import identify, mix

__all__ = ["nearest_encoders"]

_TIE = 1e-12
"""Decoders whose divergences from a state differ by less, in nats, are equally near: what sums over some thousand
samples lose."""

_FAR = 1e80
"""Stands for an infinite divergence. Its weight is 0, and so is that times its third power."""

_NOTHING = -700.0
"""The exponential of less is nothing beside that of the nearest decoder, and costs time."""

_LOW_BITS = np.int64(12)  # of the 52 of a float64: decoders that agree in the others are one
_MIXED = np.int64(-2)
_SIGN = np.uint64(1 << 63)


@njit(nogil=True, cache=True)
def nearest_encoders(
    keys: Any, I_XT: Any, state: Any, weights: Any, p_y_given_state: Any, beta_max: float, out: Any
) -> None:
    """Write beta* of each cell, whether it was cut off at `beta_max`, and the residual there.

    Parameters
    ----------
    keys : (cell, sample) uint64
        Equal keys are equal T; see `counting_kernels.row_keys`.
    I_XT : (cell,) float64
    state : (sample,) int64
    weights : (sample,) float64
        Positive.
    p_y_given_state : (state, class) float64
    beta_max : float
    out : (3, cell) float64
        beta*, 0 or 1, and the residual.
    """
    cells, samples = keys.shape
    states, classes = p_y_given_state.shape
    size = 2
    while size < 2 * samples:
        size *= 2
    table_key = np.empty(size, np.uint64)
    table_id = np.full(size, -1, np.int64)
    ids = np.empty(samples, np.int32)
    decoder = np.empty(samples, np.int32)
    p_state = np.zeros(states)
    for sample in range(samples):
        p_state[state[sample]] += weights[sample]
    neg_entropy = np.zeros(states)
    for s in range(states):
        for label in range(classes):
            if p_y_given_state[s, label] > 0:
                neg_entropy[s] += p_y_given_state[s, label] * np.log(p_y_given_state[s, label])
    for cell in range(cells):
        distinct = identify(keys[cell], table_key, table_id, 2 * cell * samples, ids)
        mass, joint, key = _values(ids, distinct, state, weights, p_y_given_state)
        number = identify(key, table_key, table_id, (2 * cell + 1) * samples, decoder)
        p_r, log_r = _decoders(mass, joint, decoder, number)
        for sample in range(samples):
            ids[sample] = decoder[ids[sample]]
        out[:, cell] = _nearest_encoder(
            I_XT[cell], ids, state, weights, p_state, p_y_given_state, neg_entropy, p_r, log_r, beta_max
        )


@njit(nogil=True, cache=True)
def _values(ids: Any, distinct: Any, state: Any, weights: Any, p_y_given_state: Any) -> Any:
    """Give p(t), p(t, y), and a key of p(y|t) for each value of T.

    A value that only one state shows has that state's p(y|x), to the bit; of others, keys agree where p(y|t) does to
    12 digits.
    """
    classes = p_y_given_state.shape[1]
    mass = np.zeros(distinct)
    joint = np.zeros((distinct, classes))
    only = np.full(distinct, -1, np.int64)
    for sample in range(ids.size):
        t, s = ids[sample], state[sample]
        mass[t] += weights[sample]
        for label in range(classes):
            joint[t, label] += weights[sample] * p_y_given_state[s, label]
        only[t] = s if only[t] == s or only[t] == -1 else _MIXED
    key = np.empty(distinct, np.uint64)
    row = np.empty(classes)
    bits = row.view(np.int64)
    half = np.int64(1) << (_LOW_BITS - 1)
    for t in range(distinct):
        if only[t] != _MIXED:
            key[t] = np.uint64(only[t])
            continue
        rolling = np.uint64(0)
        for label in range(classes):
            row[label] = joint[t, label] / mass[t]
            rolling = mix(rolling ^ np.uint64((bits[label] + half) >> _LOW_BITS))
        key[t] = rolling | _SIGN
    return mass, joint, key


@njit(nogil=True, cache=True)
def _decoders(mass: Any, joint: Any, decoder: Any, number: Any) -> Any:
    """Give the probability of each distinct decoder, and its logarithms (class, decoder)."""
    classes = joint.shape[1]
    p_r = np.zeros(number)
    log_r = np.zeros((classes, number))
    for t in range(mass.size):
        p_r[decoder[t]] += mass[t]
        for label in range(classes):
            log_r[label, decoder[t]] += joint[t, label]
    for label in range(classes):
        for r in range(number):
            log_r[label, r] = np.log(log_r[label, r] / p_r[r]) if log_r[label, r] > 0 else -np.inf
    return p_r, log_r


@njit(nogil=True, cache=True, error_model="numpy")
def _nearest_encoder(
    I_XT: float,
    decoder: Any,
    state: Any,
    weights: Any,
    p_state: Any,
    p_y_given_state: Any,
    neg_entropy: Any,
    p_r: Any,
    log_r: Any,
    beta_max: float,
) -> Any:
    """Give beta*, 0 or 1, and the residual of one cell; `decoder` is that of each sample's T.

    Distances d of a state from a decoder are by how much its divergence exceeds the least one. In these, J(beta) =
    I(X;T) + beta E[d] + E log sum_t p(t) exp(-beta d), and no digits cancel.
    """
    d = np.empty(p_r.size)
    least = np.zeros(p_state.size)
    at_zero = log_at_zero = 0.0  # mean distance and weight without beta, where it is finite
    alike = True
    for s in range(p_state.size):
        _distances(p_y_given_state[s], neg_entropy[s], log_r, d)
        least[s] = d.min()
        finite = total = 0.0
        for r in range(p_r.size):
            distance = d[r] - least[s]
            if distance < _FAR:
                finite += p_r[r]
                total += p_r[r] * distance
            alike &= distance <= _TIE
        at_zero += p_state[s] * total / finite
        log_at_zero += p_state[s] * np.log(finite)
    offset = neg_entropy - least
    mean = 0.0
    for sample in range(decoder.size):
        s = state[sample]
        distance = offset[s]
        for label in range(log_r.shape[0]):
            if p_y_given_state[s, label] > 0:
                distance -= p_y_given_state[s, label] * log_r[label, decoder[sample]]
        if distance > _TIE:
            mean += weights[sample] * distance

    if alike:  # all decoders are p(y), and so is any encoder
        return 0.0, 0.0, I_XT
    if 0 < mean >= at_zero:  # J grows from the start
        return 0.0, 0.0, max(0.0, I_XT + log_at_zero)
    # Halley's method on log E_beta[d] against log beta, nearly a line from end to end. Of hard labels the root is 1.
    beta, low, high = 1.0, 0.0, np.inf
    if mean == 0:  # each input uses its nearest decoder, and the larger beta, the better
        beta = beta_max
    while True:
        log_z, first, second, third = _cumulants(beta, p_state, p_y_given_state, offset, p_r, log_r, d)
        if first > mean:
            low = beta
        else:
            high = beta
        capped = low == beta_max or mean == 0
        if capped or high <= low * (1 + 1e-15):
            return beta, 1.0 if capped else 0.0, max(0.0, I_XT + beta * mean + log_z)
        slope = -beta * second / first
        curvature = beta * (beta * third - second) / first - slope**2
        step = -np.log(first / mean) / slope
        bend = 0.5 * step * curvature / slope
        if abs(bend) < 0.5:
            step /= 1 + bend
        if abs(step) < 1e-6:  # what is left is of the third order
            h = beta * np.expm1(step)
            residual = I_XT + beta * mean + log_z + h * (mean - first + h * (second / 2 - h * third / 6))
            return min(beta + h, beta_max), 0.0, max(0.0, residual)
        following = min(beta * np.exp(max(-4.0, min(4.0, step))), beta_max)
        if not low < following < high:
            following = np.sqrt(low * high) if low > 0 and high < np.inf else (beta / 8 if low == 0 else 8 * beta)
        beta = min(following, beta_max)


@njit(nogil=True, cache=True)
def _distances(p_y: Any, offset: float, log_r: Any, d: Any) -> None:
    """Write ``offset - sum_y p(y) log r(y)`` of each decoder."""
    d[:] = offset
    for label in range(p_y.size):
        if p_y[label] > 0:
            for r in range(d.size):
                d[r] -= p_y[label] * log_r[label, r]
    for r in range(d.size):
        d[r] = min(d[r], _FAR)


@njit(nogil=True, cache=True)
def _cumulants(beta: float, p_state: Any, p_y_given_state: Any, offset: Any, p_r: Any, log_r: Any, d: Any) -> Any:
    """Give E log Z and the mean over states of the first three cumulants of d under p(t) exp(-beta d) / Z."""
    log_z = first = second = third = 0.0
    for s in range(p_state.size):
        _distances(p_y_given_state[s], offset[s], log_r, d)
        z, m1, m2, m3 = _moments(beta, d, p_r)
        m1, m2, m3 = m1 / z, m2 / z, m3 / z
        log_z += p_state[s] * np.log(z)
        first += p_state[s] * m1
        second += p_state[s] * (m2 - m1 * m1)
        third += p_state[s] * (m3 - 3 * m1 * m2 + 2 * m1**3)
    return log_z, first, second, third


@njit(nogil=True, cache=True)
def _moments(beta: float, d: Any, p_r: Any) -> Any:
    """Give the sums of p exp(-beta d) times 1, d, d^2 and d^3."""
    z = m1 = m2 = m3 = 0.0
    for r in range(d.size):
        exponent = -beta * d[r]
        if exponent > _NOTHING:
            p = p_r[r] * np.exp(exponent)
            z += p
            m1 += p * d[r]
            m2 += p * d[r] * d[r]
            m3 += p * d[r] * d[r] * d[r]
    return z, m1, m2, m3
