"""Sample formats of SEG-Y as numpy sees them, and IBM floating point, which it does not know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrecon.errors import InputError

IBM_LARGEST = float(np.float64(1 - 2.0**-24) * 16.0**63)
_IBM_SMALLEST = 16.0**-65


@dataclass(frozen=True)
class SampleFormat:
    """One code of bytes 3225-3226: what it is called and how a sample is stored (without its byte order)."""

    code: int
    name: str
    stored: str
    bytes: int

    def dtype(self, order: str) -> np.dtype:
        """Dtype of a stored sample, ``order`` being ``">"`` or ``"<"``."""
        return np.dtype((np.uint8, (3,))) if self.bytes == 3 else np.dtype(order + self.stored)


_TABLE = (
    (1, "IBM float", "u4", 4), (2, "int32", "i4", 4), (3, "int16", "i2", 2), (5, "IEEE float", "f4", 4),
    (6, "IEEE double", "f8", 8), (7, "int24", "i3", 3), (8, "int8", "i1", 1), (9, "int64", "i8", 8),
    (10, "uint32", "u4", 4), (11, "uint16", "u2", 2), (12, "uint64", "u8", 8), (15, "uint24", "u3", 3),
    (16, "uint8", "u1", 1),
)  # fmt: skip
FORMATS = {row[0]: SampleFormat(*row) for row in _TABLE}
"""By code; 4 (fixed point with gain, obsolete) is not read."""


def decode(stored: np.ndarray, form: SampleFormat, order: str) -> np.ndarray:
    """Stored samples ``(traces, samples)`` (int24: with a last axis of three bytes) as new float32 values."""
    if form.code == 1:
        return ibm_to_ieee(stored)
    if form.bytes == 3:
        return _from_three_bytes(stored, order, signed=form.stored == "i3").astype(np.float32)
    return stored.astype(np.float32)


def encode(values: np.ndarray, form: SampleFormat, order: str) -> np.ndarray:
    """Float32 values as stored samples, without touching ``values``; integers are rounded and cut to their range.

    Raises InputError for NaN or infinity, which no reader expects in a trace.
    """
    if not np.isfinite(values).all():
        raise InputError("a trace to write holds NaN or infinity", found=f"{int((~np.isfinite(values)).sum())} samples")
    if form.code == 1:
        return ieee_to_ibm(values).astype(form.dtype(order))
    if form.stored.startswith("f"):
        return values.astype(form.dtype(order))
    bits, signed = 8 * form.bytes, form.stored.startswith("i")
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    rounded = np.rint(values.astype(np.float64))
    # float64 cannot hold 2^63 - 1 itself: the largest double below is as near as it gets
    top = np.nextafter(float(high), 0.0) if bits == 64 else float(high)
    whole = np.clip(rounded, float(low), top)
    if form.bytes == 3:
        return _to_three_bytes(whole.astype(np.int64), order)
    return whole.astype(form.dtype(order))


def ibm_to_ieee(stored: np.ndarray) -> np.ndarray:
    """IBM System/360 single precision, as unsigned integers, to float32.

    A number is ``sign * 0.mantissa * 16^(exponent - 64)`` with 24 bits of mantissa. What exceeds float32 becomes
    infinite, what is too small becomes zero: both lie outside anything that a recorder writes.
    """
    bits = stored.astype(np.uint32)  # native order; a copy
    mantissa = (bits & np.uint32(0x00FFFFFF)).astype(np.float32)
    exponent = ((bits >> np.uint32(24)) & np.uint32(0x7F)).astype(np.int32)
    exponent *= 4
    exponent -= 256 + 24
    with np.errstate(over="ignore", under="ignore"):
        values = np.ldexp(mantissa, exponent, out=mantissa)
    values.view(np.uint32)[...] |= bits & np.uint32(0x80000000)
    return values


def ieee_to_ibm(values: np.ndarray) -> np.ndarray:
    """Float32 to IBM single precision as unsigned integers; the nearest number, relative error up to 2^-21."""
    exact = np.abs(values.astype(np.float64))
    mantissa, power = np.frexp(exact)
    exponent = -(-power // 4)  # 16^exponent is the least that exceeds the value
    whole = np.rint(np.ldexp(mantissa, power - 4 * exponent + 24)).astype(np.int64)
    carried = whole == 1 << 24
    whole[carried], exponent = 1 << 20, exponent + carried
    bits = whole.astype(np.uint32) | ((exponent + 64).astype(np.uint32) << np.uint32(24))
    bits[exact < _IBM_SMALLEST] = 0
    return bits | (np.signbit(values).astype(np.uint32) << np.uint32(31))


def _from_three_bytes(stored: np.ndarray, order: str, *, signed: bool) -> np.ndarray:
    parts = stored.astype(np.int32)
    if order == "<":
        parts = parts[..., ::-1]
    whole = (parts[..., 0] << 16) | (parts[..., 1] << 8) | parts[..., 2]
    return np.where(whole >= 1 << 23, whole - (1 << 24), whole) if signed else whole


def _to_three_bytes(whole: np.ndarray, order: str) -> np.ndarray:
    parts = np.stack([(whole >> shift) & 0xFF for shift in (16, 8, 0)], axis=-1).astype(np.uint8)
    return parts if order == ">" else parts[..., ::-1]
