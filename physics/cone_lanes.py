"""Vectors of eight neighbouring rows or slices, read from a line of voxels at evenly spaced places.

The fast cone-beam kernels need, for eight places ``f, f + step, f + 2 step, ...`` along a contiguous line, the values
on either side of each. All of them lie within sixteen floats, so two vector loads and a permutation in registers
replace sixteen scalar loads. On machines with AVX2 the permutation is one instruction for each half; elsewhere the
compiler picks the elements one by one.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
from llvmlite import ir
from numba.core import cgutils, config, types

from medrecon.physics.lanes import _address, _splat, _vector, _VectorType, intrinsic

WIDTH = 8
LARGEST_STEP = 1.85
"""Largest step of `lerp_line`: eight places and their right-hand neighbours within sixteen floats."""
LARGEST_STEP_OF_HATS = 1.65
"""Largest step of `wide_hats`: eight places with two neighbours at either side."""
_INT = ir.VectorType(ir.IntType(32), WIDTH)


def _constants(values: list[int]) -> ir.Constant:
    return ir.Constant(_INT, values)


def _scaled(builder: Any, factor: Any, vector: Any) -> Any:
    return builder.fmul(_splat(builder, factor, WIDTH), vector, flags=["contract"])


def _places(builder: Any, first: Any, step: Any) -> tuple[Any, Any]:
    """Integer and fractional parts of ``first + step * lane``; not negative, so cutting off is rounding down."""
    lane = ir.Constant(_vector(WIDTH), [float(i) for i in range(WIDTH)])
    place = builder.fadd(_scaled(builder, step, lane), _splat(builder, first, WIDTH), flags=["contract"])
    whole = builder.fptosi(place, _INT)
    return whole, builder.fsub(place, builder.sitofp(whole, _vector(WIDTH)))


def _has_avx2() -> bool:
    """Whether the code that is generated may use AVX2: that of this machine, unless numba was told of another one."""
    features, name = getattr(config, "CPU_FEATURES", None), getattr(config, "CPU_NAME", None)
    if features is not None:
        return "+avx2" in str(features)
    if name not in (None, "", llvm.get_host_cpu_name()):
        return False
    return bool(llvm.get_host_cpu_features().get("avx2", False))


def _lookup(builder: Any, low: Any, high: Any, index: Any) -> Any:
    """Elements ``index`` (0 to 15) of two vectors one after the other."""
    if _has_avx2():
        kind = ir.FunctionType(_vector(WIDTH), [_vector(WIDTH), _INT])
        permute = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx2.permps")
        upper = builder.icmp_signed(">", index, _constants([WIDTH - 1] * WIDTH))
        return builder.select(upper, builder.call(permute, [high, index]), builder.call(permute, [low, index]))
    joined = builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(ir.IntType(32), 16), list(range(16))))
    out = ir.Constant(_vector(WIDTH), ir.Undefined)
    for lane in range(WIDTH):
        place = ir.Constant(ir.IntType(32), lane)
        value = builder.extract_element(joined, builder.extract_element(index, place))
        out = builder.insert_element(out, value, place)
    return out


def _load(context: Any, builder: Any, array_type: Any, array: Any, start: Any) -> Any:
    return builder.load(_address(context, builder, array_type, array, start, WIDTH), align=4)


@intrinsic
def lerp_line(typing: Any, array: Any, at: Any, other: Any, low: Any, high: Any, first: Any, step: Any) -> Any:
    """``low * line + high * other line`` interpolated at the places ``first + step * lane``, as a vector.

    The lines start at ``array[at]`` and ``array[at + other]``; ``0 <= first < 1`` and ``step <= LARGEST_STEP``.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, values = signature.args[0], args[0]
        eight = ir.Constant(args[1].type, WIDTH)
        beside = builder.add(args[1], args[2])
        halves = []
        for offset in (None, eight):
            one = _load(context, builder, kind, values, args[1] if offset is None else builder.add(args[1], eight))
            two = _load(context, builder, kind, values, beside if offset is None else builder.add(beside, eight))
            halves.append(
                builder.fadd(_scaled(builder, args[3], one), _scaled(builder, args[4], two), flags=["contract"])
            )
        whole, part = _places(builder, args[5], args[6])
        low, high = halves
        left = _lookup(builder, low, high, whole)
        right = _lookup(builder, low, high, builder.add(whole, _constants([1] * WIDTH)))
        return builder.fadd(left, builder.fmul(part, builder.fsub(right, left), flags=["contract"]), flags=["contract"])

    return _VectorType(WIDTH)(
        array, types.intp, types.intp, types.float32, types.float32, types.float32, types.float32
    ), generate


@intrinsic
def accumulate(typing: Any, array: Any, at: Any, factor: Any, vector: Any) -> Any:
    """``array[at : at + 8] += factor * vector``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where = _address(context, builder, signature.args[0], args[0], args[1], WIDTH)
        scaled = _scaled(builder, args[2], args[3])
        builder.store(builder.fadd(builder.load(where, align=4), scaled, flags=["contract"]), where, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.float32, vector), generate


def _hats(taps: int) -> Any:
    """An intrinsic that sums ``taps`` elements around each place, weighted by hats of half-width ``1 / slope``."""

    def hats(typing: Any, array: Any, at: Any, first: Any, step: Any, slope: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind, values = signature.args[0], args[0]
            low = _load(context, builder, kind, values, args[1])
            high = _load(context, builder, kind, values, builder.add(args[1], ir.Constant(args[1].type, WIDTH)))
            whole, part = _places(builder, args[2], args[3])
            ones, zeros = (ir.Constant(_vector(WIDTH), [v] * WIDTH) for v in (1.0, 0.0))
            total = zeros
            for tap in range(taps):
                # Distance of the element from the place: taps are floor(place) + shift.
                shift = tap - taps // 2 + 1
                offset = ir.Constant(_vector(WIDTH), [float(shift)] * WIDTH)
                away = builder.fsub(offset, part) if shift > 0 else builder.fsub(part, offset)
                weight = builder.fsub(ones, _scaled(builder, args[4], away), flags=["contract"])
                weight = builder.select(builder.fcmp_ordered(">", weight, zeros), weight, zeros)
                element = _lookup(builder, low, high, builder.add(whole, _constants([tap] * WIDTH)))
                total = builder.fadd(total, builder.fmul(weight, element, flags=["contract"]), flags=["contract"])
            return total

        return _VectorType(WIDTH)(array, types.intp, types.float32, types.float32, types.float32), generate

    return hats


narrow_hats = intrinsic(_hats(2))
"""``narrow_hats(array, at, first, step, slope)``: the transpose of `lerp_line` along one line, ``slope >= 1``.

Lane ``i`` is the sum over elements ``r`` of ``max(0, 1 - slope |r - first - step i|)`` times ``array[at + r]``, where
``r`` is the element below the place or the next one.
"""
wide_hats = intrinsic(_hats(4))
"""As ``narrow_hats`` for ``slope < 1``: two elements at either side; ``array[at]`` is the one before the first place,
``step <= LARGEST_STEP_OF_HATS``."""
