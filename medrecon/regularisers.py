"""What holds a volume together: regularisers ``g(K x)`` with a proximal map of ``g``."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from medrecon.physics.differences import Differences
from medrecon.physics.linop import Identity, LinearOperator, Space
from medrecon.registry import Registry

regularisers: Registry = Registry("regulariser")


class Regulariser(ABC):
    """``value(x) = g(K x)``; the solver splits at ``z = K x``."""

    K: LinearOperator

    def K_gram(self, x: Tensor) -> Tensor:  # noqa: N802 - K is the symbol of the operator
        """``K'K x``; override where a closed form is cheaper."""
        return self.K.adjoint(self.K(x))

    @abstractmethod
    def value(self, x: Tensor) -> float:
        """``g(K x)``."""

    @abstractmethod
    def prox(self, v: Tensor, step: float) -> Tensor:
        """``argmin_z  g(z) + ||z - v||^2 / (2 step)``."""


@regularisers.register("tv")
class TotalVariation(Regulariser):
    """Isotropic total variation over the chosen axes: sum over voxels of the length of the gradient.

    ``axes`` are axes of ``(z, y, x)``; ``(0, 1, 2)`` is 3D TV, ``(1, 2)`` slice-wise TV, ``(0,)`` TV along z (where
    isotropic and anisotropic agree). Differences are forward with Neumann borders; each axis is divided by its
    spacing relative to the smallest in-plane spacing. Rudin, Osher and Fatemi 1992.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        axes: tuple[int, ...] = (0, 1, 2),
    ) -> None:
        unit = min(spacing[1:])
        self.K = Differences(shape, axes, tuple(unit / spacing[axis] for axis in axes))

    def value(self, x: Tensor) -> float:
        """Total variation of ``x``."""
        return float(torch.linalg.vector_norm(self.K(x), dim=0).sum(dtype=torch.float64))

    def prox(self, v: Tensor, step: float) -> Tensor:
        """Shrinks the length of each gradient vector by ``step``."""
        length = torch.linalg.vector_norm(v, dim=0) if v.shape[0] > 1 else v[0].abs()
        # max(length - step, 0) / length without a division by zero on flat regions
        return v * (1 - step / length.clamp_min(step)) if step > 0 else v


@regularisers.register("huber")
class HuberAlong(TotalVariation):
    """Huber penalty on the differences: quadratic below ``threshold``, TV above (same K as TV)."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        axes: tuple[int, ...] = (0,),
        threshold: float = 0.01,
    ) -> None:
        super().__init__(shape, spacing, axes)
        self.threshold = threshold

    def value(self, x: Tensor) -> float:
        """Sum of Huber penalties of the gradient lengths."""
        length = torch.linalg.vector_norm(self.K(x), dim=0).double()
        quadratic = length**2 / (2 * self.threshold)
        return float(torch.where(length <= self.threshold, quadratic, length - self.threshold / 2).sum())

    def prox(self, v: Tensor, step: float) -> Tensor:
        """Shrinks towards zero: proportionally for short gradients, by ``step`` for long ones."""
        length = torch.linalg.vector_norm(v, dim=0)
        return v * (1 - step / torch.clamp_min(length, step + self.threshold))


@regularisers.register("l2")
class SquaredDifferences(TotalVariation):
    """``1/2 ||K x||^2`` over the chosen axes (Tikhonov smoothing)."""

    def value(self, x: Tensor) -> float:
        """Half the sum of squared differences."""
        return 0.5 * float(self.K(x).double().square().sum())

    def prox(self, v: Tensor, step: float) -> Tensor:
        """Proportional shrinkage."""
        return v / (1 + step)


@regularisers.register("bounds")
class Bounds(Regulariser):
    """Indicator of ``low <= x <= high``: zero inside, infinite outside."""

    def __init__(self, shape: tuple[int, int, int], low: float | None = 0.0, high: float | None = None) -> None:
        self.K = Identity(Space(shape))
        self.low, self.high = low, high

    def K_gram(self, x: Tensor) -> Tensor:  # noqa: N802
        """The identity."""
        return x

    def value(self, x: Tensor) -> float:
        """0 or infinity."""
        return 0.0 if torch.equal(x, self.prox(x, 1.0)) else float("inf")

    def prox(self, v: Tensor, step: float) -> Tensor:
        """Projection onto the interval."""
        return v.clamp(self.low, self.high)
