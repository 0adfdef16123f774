"""Compiled loops of `counting`: rows of codes become keys, and the keys are counted.

They compile on first use, stay compiled on disk, and do not hold the GIL.
"""

from typing import Any

import numpy as np
from numba import njit

__all__ = ["identify", "information", "mix", "row_keys", "tally"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing, Knuth 6.4
_ODD = np.uint64(0xD6E8FEB86659FD93)  # the multiplier of Mulvey's "rrmxmx" family of 64-bit mixers
_HALF = np.uint64(32)


@njit(nogil=True, cache=True)
def mix(h: Any) -> Any:
    """Mix 64 bits so that each depends on all; a bijection, so that nothing is lost."""
    h = (h ^ (h >> _HALF)) * _ODD
    h = (h ^ (h >> _HALF)) * _ODD
    return h ^ (h >> _HALF)


@njit(nogil=True, cache=True)
def row_keys(codes: Any, keys: Any) -> None:
    """Give each row of codes a 64-bit key: the codes themselves where they fit, else a rolling hash.

    Parameters
    ----------
    codes : (cell, sample, unit) integer, not negative
    keys : (cell, sample) uint64
    """
    cells, samples, units = codes.shape
    for cell in range(cells):
        flat = codes[cell].reshape(-1)
        largest = flat[0]
        for i in range(flat.size):
            largest = max(largest, flat[i])
        bits = 1
        while (np.int64(largest) >> bits) > 0:
            bits += 1
        shift = np.uint64(bits)
        per_word = 64 // bits
        for sample in range(samples):
            row = codes[cell, sample]
            if units <= per_word:
                word = np.uint64(0)
                for unit in range(units):
                    word = (word << shift) | np.uint64(row[unit])
                keys[cell, sample] = word
            else:
                key = np.uint64(0)
                for start in range(0, units, per_word):
                    word = np.uint64(0)
                    for unit in range(start, min(start + per_word, units)):
                        word = (word << shift) | np.uint64(row[unit])
                    key = mix(key ^ word) + _GOLDEN
                keys[cell, sample] = key


@njit(nogil=True, cache=True)
def identify(keys: Any, table_key: Any, table_id: Any, first: Any, ids: Any) -> Any:
    """Write to `ids` which of the distinct keys each is, in order of appearance, and give their number.

    Open addressing with linear probing. An entry of the table counts only if its number is `first` or more: a
    caller that raises `first` by the number of samples has an empty table again without clearing it.
    """
    mask = np.int64(table_key.size - 1)
    shift = np.uint64(64)
    while (np.int64(1) << (np.int64(64) - np.int64(shift))) < table_key.size:
        shift -= np.uint64(1)
    distinct = 0
    for sample in range(keys.size):
        key = keys[sample]
        place = np.int64((key * _GOLDEN) >> shift)
        while True:
            number = table_id[place] - first
            if number < 0:
                number = distinct
                distinct += 1
                table_id[place] = first + number
                table_key[place] = key
                break
            if table_key[place] == key:
                break
            place = (place + 1) & mask
        ids[sample] = number
    return distinct


@njit(nogil=True, cache=True)
def _counted(ids: Any, order: Any, bounds: Any, growth: Any, count: Any, stamp: Any) -> float:
    """Sum of n log2 n over the counts n of (group, id).

    Group g is ``order[bounds[g]:bounds[g + 1]]``. `growth` at n is what the sum gains when a count grows
    from n to n + 1. `count` holds ``generation << 32 | n``, each group being a generation from `stamp` on,
    so that nothing is cleared and no branch is taken.
    """
    total = 0.0
    for group in range(bounds.size - 1):
        zero = (stamp + group) << 32
        for i in range(bounds[group], bounds[group + 1]):
            number = ids[order[i]]
            here = max(count[number], zero)
            total += growth[here - zero]
            count[number] = here + 1
    return total


@njit(nogil=True, cache=True)
def _weighed(ids: Any, order: Any, bounds: Any, weights: Any, mass: Any, seen: Any, stamp: Any) -> float:
    """Sum of p log2 p over the masses p of (group, id); `seen` says which group `mass` speaks of."""
    total = 0.0
    for group in range(bounds.size - 1):
        for i in range(bounds[group], bounds[group + 1]):
            number = ids[order[i]]
            before = mass[number] if seen[number] == stamp + group else 0.0
            seen[number] = stamp + group
            after = before + weights[order[i]]
            mass[number] = after
            total += after * np.log2(after)
            if before > 0:
                total -= before * np.log2(before)
    return total


@njit(nogil=True, cache=True)
def _softly(ids: Any, distinct: Any, joint: Any, own: Any, rows: Any, mass: Any) -> float:
    """Sum of p log2 p over p(t, y), with `joint` = p(x) p(y|x) of each sample and `own` its sum of p log2 p.

    A value of T with one sample, and in a saturated layer that is all of them, needs neither sum nor logarithm.
    """
    rows[:distinct] = 0
    mass[:distinct] = 0.0
    for sample in range(ids.size):
        rows[ids[sample]] += 1
    total = 0.0
    for sample in range(ids.size):
        number = ids[sample]
        if rows[number] == 1:
            total += own[sample]
            continue
        for label in range(joint.shape[1]):
            mass[number, label] += joint[sample, label]
    for number in range(distinct):
        for label in range(joint.shape[1]):
            p = mass[number, label]
            if p > 0:
                total += p * np.log2(p)
    return total


@njit(nogil=True, cache=True)
def _recurring(ids: Any, distinct: Any, weights: Any, rows: Any) -> float:
    """Weight of the samples whose id another sample has too."""
    rows[:distinct] = 0
    for sample in range(ids.size):
        rows[ids[sample]] += 1
    total = 0.0
    for sample in range(ids.size):
        if rows[ids[sample]] == 1:
            total += weights[sample]
    return 1 - total


@njit(nogil=True, cache=True)
def information(
    keys: Any,
    out: Any,
    weights: Any,
    growth: Any,
    everything: Any,
    by_input: Any,
    by_label: Any,
    joint: Any,
    own: Any,
    H_X: float,
    H_Y: float,
) -> None:
    """Write what counting alone says of each cell to `out`.

    Parameters
    ----------
    keys : (cell, sample) uint64
        Equal keys are equal rows; see `row_keys`.
    out : (5, cell) float64
        I(X;T), I(T;Y) and H(T), all by the plug-in; the number of distinct T; and the weight of the samples whose
        T another sample shows too.
    weights : (sample,) float64
        Positive; empty if they are equal.
    growth : (sample,) float64
        See `_counted`; not read if there are weights.
    everything, by_input, by_label : pairs of int64 arrays
        Order and bounds of groups of samples (see `_counted`): all in one group, by input, by label. Without
        bounds, `by_input` says that no input is repeated and `by_label` that labels are soft.
    joint, own : (sample, class) and (sample,) float64
        See `_softly`; not read if labels are hard.
    H_X, H_Y : float
        In bits.
    """
    cells, samples = keys.shape
    size = 2
    while size < 2 * samples:
        size *= 2
    table_key = np.empty(size, np.uint64)
    table_id = np.full(size, -1, np.int64)
    ids = np.empty(samples, np.int32)
    count = np.full(samples, -1, np.int64)
    mass = np.empty(samples)
    mass_y = np.empty((joint.shape[0], joint.shape[1]))
    rows = np.empty(samples, np.int64)
    stamp = 0
    for cell in range(cells):
        distinct = identify(keys[cell], table_key, table_id, cell * samples, ids)
        out[3, cell] = distinct
        if distinct == 1:
            out[:3, cell] = 0.0
            out[4, cell] = samples > 1
            continue
        entropies = np.zeros(3)
        for which, (order, bounds) in enumerate((everything, by_input, by_label)):
            if bounds.size and weights.size:
                entropies[which] = -_weighed(ids, order, bounds, weights, mass, count, stamp)
                if which == 0:
                    out[4, cell] = _recurring(ids, distinct, weights, rows)
            elif bounds.size:
                total = _counted(ids, order, bounds, growth, count, stamp)
                entropies[which] = np.log2(samples) - total / samples
                if which == 0:
                    once = (stamp << 32) | 1
                    single = 0
                    for number in range(distinct):
                        single += count[number] == once
                    out[4, cell] = 1 - single / samples
            stamp += bounds.size
        if not by_label[1].size:
            entropies[2] = -_softly(ids, distinct, joint, own, rows, mass_y)
        H_T, H_XT, H_TY = entropies
        out[0, cell] = max(0.0, H_T + H_X - H_XT) if by_input[1].size else H_T
        out[1, cell] = max(0.0, H_T + H_Y - H_TY)
        out[2, cell] = H_T


@njit(nogil=True, cache=True)
def tally(keys: Any, by_input: Any, by_label: Any, tallies: Any, spread: Any) -> None:
    """Count how many values occur how often, and how far the logarithms of p(t, g) / p(t) p(g) spread.

    Samples weigh the same here, and labels are hard.

    Parameters
    ----------
    keys : (cell, sample) uint64
        Equal keys are equal rows; see `row_keys`.
    by_input, by_label : pairs of int64 arrays
        Order and bounds of groups of samples; see `_counted`. Without bounds no input is repeated.
    tallies : (3, cell, sample + 1) int32, zeros
        Tallies (see `corrections.entropies`) of T, (X, T) and (T, Y); that of (X, T) stays 0 if no input is
        repeated.
    spread : (2, cell) float64
        Variance over the samples, in squared bits, for g = x and g = y.
    """
    cells, samples = keys.shape
    size = 2
    while size < 2 * samples:
        size *= 2
    table_key = np.empty(size, np.uint64)
    table_id = np.full(size, -1, np.int64)
    ids = np.empty(samples, np.int32)
    count = np.empty(samples, np.int64)
    count_within = np.full(samples, -1, np.int64)
    logs = np.log2(np.maximum(np.arange(samples + 1), 1))
    stamp = 0
    for cell in range(cells):
        distinct = identify(keys[cell], table_key, table_id, cell * samples, ids)
        count[:distinct] = 0
        for sample in range(samples):
            count[ids[sample]] += 1
        for number in range(distinct):
            tallies[0, cell, count[number]] += 1
        for which, (order, bounds) in enumerate((by_input, by_label)):
            seen = tallies[which + 1, cell]
            total = square = 0.0
            for group in range(bounds.size - 1):
                first, last = bounds[group], bounds[group + 1]
                zero = (stamp + group) << 32
                for i in range(first, last):
                    number = ids[order[i]]
                    count_within[number] = max(count_within[number], zero) + 1
                for i in range(first, last):
                    number = ids[order[i]]
                    within = count_within[number] - zero
                    seen[within] += 1
                    ratio = logs[within] - logs[count[number]] - logs[last - first]
                    total += ratio
                    square += ratio * ratio
            stamp += bounds.size
            if not bounds.size:
                for number in range(distinct):
                    total -= count[number] * logs[count[number]]
                    square += count[number] * logs[count[number]] ** 2
            for n in range(2, samples + 1):
                if seen[n]:
                    seen[n] //= n  # each of its values was met n times
            spread[which, cell] = max(0.0, square / samples - (total / samples) ** 2)
