"""Loops over traces for bulk reading: IBM and byte-swapped IEEE floats decoded where they go, figures of each trace.

Stored samples are a strided view ``(traces, samples)`` of a mapped file as native 32-bit integers; ``swap`` says that
the file has the other byte order. Row ``which[k]`` is decoded into row ``places[k]`` of ``out``.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

_SCALES = 2.0 ** (4.0 * np.arange(128) - 256 - 24)  # of a mantissa taken as an integer, by the seven bits of exponent


@numba.njit(inline="always")
def _swapped(bits: Any) -> Any:
    return np.uint32(  # shifts widen to 64 bits
        (bits >> np.uint32(24))
        | ((bits >> np.uint32(8)) & np.uint32(0xFF00))
        | ((bits << np.uint32(8)) & np.uint32(0xFF0000))
        | (bits << np.uint32(24))
    )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def decode_ibm(stored: Any, which: Any, swap: bool, out: Any, places: Any) -> None:
    """IBM floats; the products are exact in double precision and rounded once (see `segy_samples.ibm_to_ieee`)."""
    for k in range(len(which)):
        source, target = stored[which[k]], out[places[k]]
        for j in range(source.shape[0]):
            bits = _swapped(source[j]) if swap else source[j]
            value = np.float32(np.float64(bits & np.uint32(0x00FFFFFF)) * _SCALES[(bits >> np.uint32(24)) & 0x7F])
            target[j] = -value if bits >> np.uint32(31) else value


@numba.njit(nogil=True, cache=True)
def copy_words(stored: Any, which: Any, swap: bool, out: Any, places: Any) -> None:
    """IEEE floats as their bits; ``out`` is uint32 too."""
    for k in range(len(which)):
        source, target = stored[which[k]], out[places[k]]
        for j in range(source.shape[0]):
            target[j] = _swapped(source[j]) if swap else source[j]


@numba.njit(nogil=True, fastmath={"reassoc", "nsz", "nnan", "ninf"})
def _extent(trace: Any) -> Any:
    """Lowest, highest and sum of squares of finite values."""
    lowest, highest, energy = trace[0], trace[0], 0.0
    for j in range(trace.shape[0]):
        lowest, highest = min(lowest, trace[j]), max(highest, trace[j])
        energy += np.float64(trace[j]) * np.float64(trace[j])
    return lowest, highest, energy


@numba.njit(nogil=True, cache=True)
def judge(out: Any, words: Any, places: Any, finite: Any, constant: Any, loudness: Any) -> None:
    """Whether each trace of ``places`` is finite and constant, and its root mean square (0 where it is not finite).

    ``words`` is ``out`` as uint32: an exponent of ones is infinite or NaN, and integers are compared fastest.
    """
    for k in range(len(places)):
        bits, special = words[places[k]], False
        for j in range(bits.shape[0]):
            special |= (bits[j] & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
        finite[places[k]], constant[places[k]], loudness[places[k]] = not special, False, 0.0
        if not special:
            lowest, highest, energy = _extent(out[places[k]])
            constant[places[k]] = lowest == highest
            loudness[places[k]] = np.sqrt(energy / bits.shape[0])
