"""Vectors of float32 for numba kernels: a fixed number of slices handled as one value.

Written with these, a kernel's inner loop over slices is a single statement whose accumulator stays in CPU
registers; LLVM splits a vector into whatever the machine has (eight AVX registers for 64 lanes). A plain loop over
an array would load and store its accumulator at every step.

A kernel takes one of ``LANES[8]``, ``LANES[16]``, ... as an argument; numba compiles one version per width.

    @njit
    def scaled_copy(lanes, source, target, factor):
        store(target, 0, add_scaled(zero(lanes), factor, load(lanes, source, 0)))
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending
from numba.core import cgutils, types
from numba.extending import NativeValue, models, register_model, typeof_impl, unbox

WIDTHS = (8, 16, 32, 64)
_INT32 = ir.IntType(32)
intrinsic: Any = extending.intrinsic  # its stubs do not know that the first argument is dropped


class Lanes:
    """Names a vector width; passed to kernels."""

    def __init__(self, width: int) -> None:
        self.width = width


LANES = {width: Lanes(width) for width in WIDTHS}


class _LanesType(types.Type):
    """Type of the argument that selects the width; carries no data."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Lanes({width})")


class _VectorType(types.Type):
    """Type of a vector of ``width`` float32."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Float32x{width}")


register_model(_LanesType)(models.OpaqueModel)


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: _VectorType) -> None:
        super().__init__(manager, vector, _vector(vector.width))


@typeof_impl.register(Lanes)
def _type_of_lanes(value: Lanes, context: Any) -> _LanesType:
    return _LanesType(value.width)


@unbox(_LanesType)
def _unbox_lanes(kind: Any, value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


def _vector(width: int) -> ir.VectorType:
    return ir.VectorType(ir.FloatType(), width)


def _address(context: Any, builder: Any, array_type: Any, array: Any, start: Any, width: int) -> Any:
    data = cgutils.create_struct_proxy(array_type)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [start]), _vector(width).as_pointer())


def _splat(builder: Any, scalar: Any, width: int) -> Any:
    undefined = ir.Constant(ir.VectorType(scalar.type, width), ir.Undefined)
    first = builder.insert_element(undefined, scalar, _INT32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT32, width), [0] * width))


def _zeros(width: int) -> ir.Constant:
    return ir.Constant(_vector(width), [0.0] * width)


@intrinsic
def width_of(typing: Any, lanes: Any) -> Any:
    """Number of lanes, a constant to the compiler."""
    return types.intp(lanes), lambda context, builder, signature, args: ir.Constant(ir.IntType(64), lanes.width)


@intrinsic
def zero(typing: Any, lanes: Any) -> Any:
    """A vector of zeros."""
    return _VectorType(lanes.width)(lanes), lambda context, builder, signature, args: _zeros(lanes.width)


@intrinsic
def load(typing: Any, lanes: Any, array: Any, start: Any) -> Any:
    """``array[start : start + width]`` of a flat float32 array; unaligned addresses are allowed."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, array, args[1], args[2], lanes.width), align=4)

    return _VectorType(lanes.width)(lanes, array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, start: Any, vector: Any) -> Any:
    """Write a vector to ``array[start : start + width]``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, array, args[0], args[1], vector.width), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def add_scaled(typing: Any, total: Any, factor: Any, vector: Any) -> Any:
    """``total + factor * vector``, fused where the machine can."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scaled = builder.fmul(_splat(builder, args[1], vector.width), args[2], flags=["contract"])
        return builder.fadd(args[0], scaled, flags=["contract"])

    return vector(vector, types.float32, vector), generate
