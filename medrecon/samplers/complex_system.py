"""The complex form of a normalised MR problem, for methods that reconstruct magnitude and phase."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.errors import UsageError
from medrecon.physics.linop import Composition, Diagonal, LinearOperator
from medrecon.problem import System


@dataclass(frozen=True, eq=False)
class ComplexSystem:
    """``op x = y`` in internal units with a complex ``x``, ``(z, y, x)`` or ``(sets, z, y, x)``."""

    op: LinearOperator
    y: Tensor
    raw_op: LinearOperator

    @property
    def back_projection(self) -> Tensor:
        """``A'y``."""
        return self.op.adjoint(self.y)


def complex_system(system: System) -> ComplexSystem:
    """The complex form. Raises UsageError for data that are not of MRI."""
    raw_op = getattr(system.raw.op, "complex_op", None)
    if raw_op is None:
        raise UsageError("this method is for MR k-space", hint="Choose another --method.")
    assert isinstance(system.op, Composition)
    assert isinstance(system.op.outer, Diagonal)
    factor = system.op.outer.factor
    if isinstance(factor, Tensor):
        factor = factor[..., 0]  # the same for the real and the imaginary part of a sample
    op = Composition(Diagonal(raw_op.range, factor), raw_op)
    return ComplexSystem(op, torch.view_as_complex(system.y.contiguous()), raw_op)


def magnitude(system: System, x: Tensor) -> Tensor:
    """A complex estimate as a real volume in internal units: its modulus, over all sets of maps."""
    size = system.to_quantity(x).abs()
    if size.ndim == 4:
        size = torch.linalg.vector_norm(size, dim=0)
    return system.from_quantity(size)


def discrepancy(system: System, form: ComplexSystem, x: Tensor) -> float:
    """Of a complex estimate: root-mean-square residual over the noise, or over the data without a noise model."""
    residual = float(torch.linalg.vector_norm(form.op(x) - form.y))
    if system.noise_level > 0:
        return residual / (system.noise_level * system.data_count**0.5)
    size = float(torch.linalg.vector_norm(form.y))
    return residual / size if size > 0 else residual
