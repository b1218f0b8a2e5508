"""What holds a volume together: regularisers ``g(K x)`` with a proximal map of ``g``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import UsageError
from medrecon.physics.differences import Differences
from medrecon.physics.linop import Identity, LinearOperator, Space
from medrecon.physics.slopes import local_slopes
from medrecon.physics.steering import SteeredDifferences
from medrecon.registry import Registry

regularisers: Registry = Registry("regulariser")


class Regulariser(ABC):
    """``value(x) = g(K x)``; the solver splits at ``z = K x``."""

    K: LinearOperator

    def K_gram(self, x: Tensor) -> Tensor:  # noqa: N802 - K is the symbol of the operator
        """``K'K x``; override where a closed form is cheaper."""
        return self.K.adjoint(self.K(x))

    def update(self, x: Tensor, z: Tensor, u: Tensor, step: float, relaxation: float) -> tuple[Tensor, Tensor]:
        """New split and scaled dual of ADMM: ``z' = prox(v)``, ``u' = v - z'``, ``v`` the relaxed ``K x`` plus ``u``.

        May overwrite ``z`` and ``u``.
        """
        shifted = torch.lerp(z, self.K(x), relaxation) + u
        split = self.prox(shifted, step)
        return split, shifted - split

    def K_adjoint(self, z: Tensor, u: Tensor) -> Tensor:  # noqa: N802
        """``K'(z - u)``."""
        return self.K.adjoint(z - u)

    @property
    def stiffness(self) -> float:
        """Largest ``||K'K||`` of one axis over that of plain differences; a ``rho`` meant for those is divided by it.

        Splits of noisy volumes hold noise voxel by voxel. Slices near each other make ``K`` large, and a ``rho`` that
        does not know that holds the volume to the noise of the splits.
        """
        return 1.0

    def steered(self, x: Tensor) -> Regulariser:
        """The regulariser as it is for volumes like ``x``; the same for all but those that follow its structure."""
        return self

    @abstractmethod
    def value(self, x: Tensor) -> float:
        """``g(K x)``."""

    @abstractmethod
    def prox(self, v: Tensor, step: float) -> Tensor:
        """``argmin_z  g(z) + ||z - v||^2 / (2 step)``."""


def check_axes(axes: tuple[int, ...]) -> None:
    """Raise UsageError unless ``axes`` are axes of a volume, at least one."""
    if not axes or not set(axes) <= {0, 1, 2}:
        raise UsageError("axes are some of 0 (z), 1 (y) and 2 (x)", found=axes)


class GradientPenalty(Regulariser):
    """A penalty on the length of the gradient over the chosen axes of ``(z, y, x)``.

    ``axes`` (0, 1, 2) is 3D, (1, 2) slice-wise, (0,) along z. Differences are forward with Neumann borders; the
    difference along an axis is divided by its spacing relative to the smallest in-plane spacing.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        axes: tuple[int, ...] = (0, 1, 2),
    ) -> None:
        check_axes(axes)
        unit = min(spacing[1:])
        factors = [unit / spacing[axis] if axis in axes else 0.0 for axis in range(3)]
        self.K: Differences = Differences(shape, (factors[0], factors[1], factors[2]))

    @property
    def stiffness(self) -> float:
        """See :class:`Regulariser`."""
        return max(self.K.factors) ** 2

    def K_gram(self, x: Tensor) -> Tensor:  # noqa: N802
        """``K'K x`` in one pass over memory."""
        return self.K.gram_of(x)

    def K_adjoint(self, z: Tensor, u: Tensor) -> Tensor:  # noqa: N802
        """``K'(z - u)`` in one pass."""
        return self.K.adjoint_of_difference(z, u)

    def gradient_length(self, x: Tensor) -> Tensor:
        """Length of the gradient at each voxel, float64."""
        return torch.linalg.vector_norm(self.K(x).double(), dim=0)


@regularisers.register("tv")
class TotalVariation(GradientPenalty):
    """Isotropic total variation: the sum over voxels of the length of the gradient (Rudin, Osher, Fatemi 1992)."""

    def update(self, x: Tensor, z: Tensor, u: Tensor, step: float, relaxation: float) -> tuple[Tensor, Tensor]:
        """See :meth:`Regulariser.update`; one pass over memory."""
        return self.K.shrink_update(x, z, u, step, relaxation)

    def value(self, x: Tensor) -> float:
        """Total variation of ``x``."""
        return float(self.gradient_length(x).sum())

    def prox(self, v: Tensor, step: float) -> Tensor:
        """Shrinks the length of each gradient vector by ``step``."""
        if step <= 0:
            return v
        # max(length - step, 0) / length without a division by zero on flat regions
        return v * (1 - step / torch.linalg.vector_norm(v, dim=0).clamp_min(step))


@regularisers.register("huber")
class Huber(GradientPenalty):
    """Huber penalty on the gradient: quadratic below ``threshold``, total variation above."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        axes: tuple[int, ...] = (0, 1, 2),
        threshold: float = 0.01,
    ) -> None:
        super().__init__(shape, spacing, axes)
        self.threshold = threshold

    def value(self, x: Tensor) -> float:
        """Sum of the Huber penalties."""
        length = self.gradient_length(x)
        quadratic = length**2 / (2 * self.threshold)
        return float(torch.where(length <= self.threshold, quadratic, length - self.threshold / 2).sum())

    def prox(self, v: Tensor, step: float) -> Tensor:
        """Shrinks short gradients in proportion, long ones by ``step``."""
        length = torch.linalg.vector_norm(v, dim=0)
        return v * (1 - step / torch.clamp_min(length, step + self.threshold))


@regularisers.register("l2")
class SquaredDifferences(GradientPenalty):
    """Half the sum of squared differences (Tikhonov smoothing)."""

    def value(self, x: Tensor) -> float:
        """Half the sum of squared differences."""
        return 0.5 * float(self.gradient_length(x).square().sum())

    def prox(self, v: Tensor, step: float) -> Tensor:
        """Proportional shrinkage."""
        return v / (1 + step)


@regularisers.register("dip")
class DipSteered(Regulariser):
    """Half the sum of squared differences along the slopes of seismic events, over rows (axis 0) or columns (2).

    Sections are ``(row, time, column)``. Without ``slopes`` events are taken to be flat; :meth:`steered` finds them.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        axes: tuple[int, ...] = (0,),
        slopes: Mapping[int, Tensor] | None = None,
    ) -> None:
        if not axes or not set(axes) <= {0, 2}:
            raise UsageError("dips are followed over rows and columns", found=f"axes {axes}", expected="(0,) or (0, 2)")
        unit = min(spacing[1:])
        self._spacing, self._axes = spacing, axes
        slopes = slopes or {axis: torch.zeros(shape) for axis in axes}
        self.K: SteeredDifferences = SteeredDifferences(shape, slopes, {axis: unit / spacing[axis] for axis in axes})

    def K_gram(self, x: Tensor) -> Tensor:  # noqa: N802
        """``K'K x``, without the differences between."""
        return self.K.normal(x)

    def steered(self, x: Tensor) -> DipSteered:
        """Along the slopes of ``x`` (see `medrecon.physics.slopes`)."""
        sections, slopes = x.detach().cpu().float().numpy(), {}
        for axis in self._axes:
            found = local_slopes(sections.swapaxes(0, axis))
            slopes[axis] = torch.from_numpy(np.ascontiguousarray(found.swapaxes(0, axis)))
        return DipSteered(sections.shape, self._spacing, self._axes, slopes)  # type: ignore[arg-type]

    def value(self, x: Tensor) -> float:
        """Half the sum of squared differences."""
        return 0.5 * float(self.K(x).square().sum(dtype=torch.float64))

    def prox(self, v: Tensor, step: float) -> Tensor:
        """Proportional shrinkage."""
        return v / (1 + step)


class _WithoutMean(LinearOperator):
    """Takes the mean slice away: a projection."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.domain = self.range = Space(shape)

    def _forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=0)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)


@regularisers.register("low-rank")
class LowRank(Regulariser):
    """Nuclear norm of the slices as rows of a matrix: slices that differ from their mean by mixtures of a few images.

    ``sqrt(pixels)`` times the sum of singular values of what is left without the mean slice, pixels being those of one
    slice: the threshold of the proximal map is then, like that of the penalties on gradients, in units of voxel values
    (Cai, Candes and Shen 2010, theorem 2.1). Singular vectors come from the small ``(slices, slices)`` matrix, in
    double precision.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        axes: tuple[int, ...] = (0,),
    ) -> None:
        if axes != (0,):
            raise UsageError("low rank is a property along z", found=f"axes {axes}", expected="axes (0,)")
        self.K = _WithoutMean(shape)
        self._unit = (shape[1] * shape[2]) ** 0.5

    def K_gram(self, x: Tensor) -> Tensor:  # noqa: N802
        """Projections are their own squares."""
        return self.K(x)

    def value(self, x: Tensor) -> float:
        """Scaled nuclear norm."""
        values, _ = _row_spectrum(self.K(x))
        return self._unit * float(values.sum())

    def prox(self, v: Tensor, step: float) -> Tensor:
        """Shrinks every singular value by ``sqrt(pixels) * step``."""
        values, vectors = _row_spectrum(v)
        kept = (values - self._unit * step).clamp_min(0) / values.clamp_min(torch.finfo(values.dtype).tiny)
        mixing = (vectors * kept) @ vectors.T
        return torch.tensordot(mixing.to(v.dtype), v, dims=1)


def _row_spectrum(x: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values of ``x`` with its slices as rows, and the vectors that mix slices; float64."""
    rows = x.reshape(x.shape[0], -1).double()
    squares, vectors = torch.linalg.eigh(rows @ rows.T)
    return squares.clamp_min(0).sqrt(), vectors


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
