"""What is to be solved: the user's problem, and the normalised system that samplers work on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf, log

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medrecon.data.volume import WATER, Geometry, Volume, affine_between
from medrecon.errors import InputError, NonFinite, UsageError
from medrecon.noise import KeyedNoise
from medrecon.physics.linop import Composition, Diagonal, LinearOperator
from medrecon.physics.noise import NoiseModel
from medrecon.prior import ANY, OBLONG, NetworkPrior, Prior
from medrecon.regularisers import Bounds, Regulariser, TotalVariation, regularisers

_BACKGROUND_FRACTION = 0.08  # of the prior's unit: what lies nearer to the background counts as empty
_REGION_MARGIN = 6  # pixels around the object that the prior still sees
_MIRRORS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
_EDGE = 2  # pixels around the object that are not yet empty space for certain


@dataclass(frozen=True, eq=False)
class Problem:
    """Measured data with everything known about them; plain data.

    Attributes
    ----------
    op : LinearOperator
        From the volume in ``quantity`` to the data.
    y : Tensor
        Data in the operator's range.
    geometry : Geometry
        Where the voxels are.
    quantity : str
        What the operator acts on, for example ``"1/mm"``.
    prior : Prior, optional
        Needed by diffusion methods only.
    noise_model : NoiseModel, optional
        Gives each datum its weight; without it all data weigh the same and no discrepancy is reported.
    lower_bound : float, optional
        Smallest possible value in ``quantity`` (0 for attenuation).
    water : float
        Attenuation of water in 1/mm, for the Hounsfield scale.
    """

    op: LinearOperator
    y: Tensor
    geometry: Geometry
    quantity: str = "a.u."
    prior: Prior | None = None
    noise_model: NoiseModel | None = None
    lower_bound: float | None = None
    water: float = WATER
    regulariser: Regulariser | None = None
    used: Tensor | None = None
    """Data to use: 1 or 0, broadcastable to ``y``; held-out tests set some to 0."""
    unit: float = 1.0
    """A bright value of the volume, for data whose scale means nothing (MR): what counts as 1 inside."""
    notes: tuple[str, ...] = ()
    """What was decided on the way from the file to here, in words."""

    def __post_init__(self) -> None:
        self.op.range.check(self.y, "measured data")
        if not bool(torch.isfinite(self.y).all()):
            bad = int((~torch.isfinite(self.y)).sum())
            raise InputError("the measured data hold NaN or infinity", found=f"{bad} of {self.y.numel()} values")
        if tuple(self.op.domain.shape) != self.geometry.shape:
            raise InputError("operator and geometry disagree", found=self.op.domain.shape, expected=self.geometry.shape)

    def system(self) -> System:
        """The problem in units of the prior, whitened, with an operator of norm one."""
        scale, offset = self._units()
        weights = self.noise_model.weights(self.y) if self.noise_model else torch.ones_like(self.y)
        whitener: Tensor | float = weights.sqrt()
        data_count = int(getattr(self.op, "data_count", self.y.numel()))
        known: Tensor | None = getattr(self.op, "known", None)
        if self.used is not None:
            whitener = whitener * self.used
            known = None if known is None else known * self.used
            data_count = round(data_count * float(self.used.expand_as(self.y).mean()))
        elif bool((weights == weights.flatten()[0]).all()):
            whitener = float(weights.flatten()[0].sqrt())  # a number lets the operator use its short way to A'A
        residual = self.y if offset == 0 else self.y - self.op(torch.full(self.op.domain.shape, offset))
        length = abs(scale) * Composition(Diagonal(self.op.range, whitener), self.op).norm()
        if not length > 0:
            raise InputError("the operator gives zero for every volume", hint="Does the geometry meet the volume?")
        return System(
            op=Composition(Diagonal(self.op.range, whitener * (scale / length)), self.op),
            y=residual * whitener / length,
            noise_level=1 / length if self.noise_model else 0.0,
            data_count=data_count,
            scale=scale,
            offset=offset,
            geometry=self.geometry,
            prior=self.prior,
            lower=None if self.lower_bound is None else (self.lower_bound - offset) / scale,
            raw=self,
            regulariser=self.regulariser,
            known=None if known is None else known.expand(self.geometry.shape),
        )

    def _units(self) -> tuple[float, float]:
        """``quantity = scale * internal + offset``, where the internal unit is that of the prior's network."""
        if self.prior is not None:
            card = self.prior.card
            factor, shift = affine_between(card.quantity, self.quantity, self.water)
            return self.unit * factor * card.scale, self.unit * (factor * card.offset + shift)
        return (self.water, 0.0) if self.quantity == "1/mm" else (self.unit, 0.0)


@dataclass(frozen=True, eq=False)
class System:
    """A normalised problem: white noise of one level, ``||op|| = 1``, values of order one.

    ``raw`` volumes are ``scale * x + offset`` in the problem's quantity. ``start`` is a classical volume to start
    from and to guide priors that were trained with a guide.
    """

    op: LinearOperator
    y: Tensor
    noise_level: float
    data_count: int
    scale: float
    offset: float
    geometry: Geometry
    prior: Prior | None
    lower: float | None
    raw: Problem
    regulariser: Regulariser | None = None
    start: Tensor | None = None
    known: Tensor | None = None
    """1 where a voxel itself was measured, 0 elsewhere, ``(z, y, x)``; None where the data are no voxels."""
    slice_batch: int = 8
    turn: int = 0
    """The step: which of the ways to divide the volume a prior takes that knows parts of it."""
    turned: bool = False
    """Whether its slices lie along another axis than those of the problem; then no orientation is asked of them."""
    cache: dict = field(default_factory=dict)

    def to_quantity(self, x: Tensor) -> Tensor:
        """Internal values in the problem's quantity."""
        return x * self.scale + self.offset

    def from_quantity(self, x: Tensor) -> Tensor:
        """Values in the problem's quantity as internal ones."""
        return (x - self.offset) / self.scale

    def internal(self, volume: Volume, what: str = "the volume") -> Tensor:
        """A volume in internal units. Raises InputError unless it lies on the problem's grid and is finite."""
        if not volume.geometry.almost_equal(self.geometry):
            raise InputError(
                f"{what} lies on another grid",
                found=f"{volume.geometry.shape} {volume.geometry.orientation}",
                expected=f"{self.geometry.shape} {self.geometry.orientation}, the same affine",
            )
        values = torch.tensor(volume.to_quantity(self.raw.quantity, self.raw.water).array, dtype=torch.float32)
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"{what} holds NaN or infinity")
        return self.from_quantity(values)

    @cached_property
    def back_projection(self) -> Tensor:
        """``A'y``."""
        return self.op.adjoint(self.y)

    def data_residual(self, x: Tensor) -> Tensor:
        """``A x - y``."""
        return self.op(x) - self.y

    def discrepancy(self, x: Tensor) -> float:
        """Root-mean-square residual over the noise level; 1 where the data are fitted to their noise.

        Without a noise model: the residual relative to the data.
        """
        residual = float(torch.linalg.vector_norm(self.data_residual(x)))
        if self.noise_level > 0:
            return residual / (self.noise_level * self.data_count**0.5)
        size = float(torch.linalg.vector_norm(self.y))
        return residual / size if size > 0 else residual

    def data_error(self, model_error: float) -> float:
        """Standard deviation of a whitened datum: noise, and a model error relative to the data's root mean square.

        Never zero: data without a noise model still have rounding.
        """
        size = float(torch.linalg.vector_norm(self.y)) / self.data_count**0.5
        return max((self.noise_level**2 + (model_error * size) ** 2) ** 0.5, 1e-6 * size, 1e-12)

    def fingerprint(self) -> tuple[float, ...]:
        """A few numbers that change with operator, geometry, noise model, units or bounds; equal up to rounding."""
        back = self.back_projection
        size = max(float(torch.linalg.vector_norm(back)), 1e-30)
        probes = [KeyedNoise(0).volume(step, self.geometry.shape) for step in range(3)]
        shares = [float((probe * back).sum(dtype=torch.float64)) / size for probe in probes]
        noise = log(self.noise_level) if self.noise_level > 0 else inf
        return (
            *shares,
            log(abs(self.scale)),
            self.offset / self.scale,
            noise,
            -inf if self.lower is None else self.lower,
        )

    def total_variation(self, axes: tuple[int, ...] = (0, 1, 2)) -> TotalVariation:
        """Total variation on this grid."""
        return TotalVariation(self.geometry.shape, self.geometry.spacing, axes)

    def penalty(self, name: str, axes: tuple[int, ...]) -> Regulariser:
        """The regulariser called ``name`` on this grid, along these axes."""
        return regularisers.get(name)(self.geometry.shape, self.geometry.spacing, axes)

    def bounds(self) -> list[Regulariser]:
        """The lower bound as a regulariser; empty where there is none."""
        return [] if self.lower is None else [Bounds(self.geometry.shape, self.lower)]

    @cached_property
    def region(self) -> tuple[slice, slice]:
        """Rows and columns that hold the object in ``start``, with a margin; the prior works there alone.

        Outside, the prior's answer is its background. Without ``start``, and where no value means empty space, it is
        the whole slice.
        """
        height, width = self.geometry.shape[1:]
        if self.start is None or self.prior is None or self.prior.card.signed or self.prior.whole:
            return slice(0, height), slice(0, width)
        occupied = (self.start - self.background).abs() > _BACKGROUND_FRACTION
        return (
            _interval(occupied.any(dim=0).any(dim=1).numpy()),
            _interval(occupied.any(dim=0).any(dim=0).numpy()),
        )

    @property
    def background(self) -> float:
        """Empty space in internal units: air on the Hounsfield scale, zero of anything else."""
        if self.prior is None:
            return 0.0
        card = self.prior.card
        empty = -1000.0 if card.quantity == "HU" else 0.0  # card.range[0] may be fat, or below air
        return (empty - card.offset) / card.scale

    def within_reach(self, x: Tensor, reach: float) -> Tensor:
        """``x`` without what lies far from all data, where the operator can tell (MRI); else as it is."""
        counted = getattr(self.raw.op, "within_reach", None)
        return x if counted is None else counted(x, reach, self.raw.used)

    def empty(self, x: Tensor) -> Tensor:
        """Where ``x`` is empty space, two pixels into it and farther: True there, ``(z, y, x)``."""
        if self.prior is not None and self.prior.card.signed:
            return torch.zeros_like(x, dtype=torch.bool)
        occupied = ((x - self.background).abs() > _BACKGROUND_FRACTION).to(x.dtype)
        return functional.max_pool2d(occupied[:, None], 2 * _EDGE + 1, stride=1, padding=_EDGE)[:, 0] == 0

    @cached_property
    def _flips(self) -> list[int]:
        """Slice axes (-2 = height, -1 = width) to flip to the prior's orientation."""
        assert self.prior is not None
        if self.turned or self.prior.card.orientation == ANY:
            return []
        wanted, found = self.prior.card.orientation, self.geometry.orientation
        opposite = dict(zip("RLAPSI", "LRPAIS", strict=True))
        pairs = ((-1, wanted[0], found[0]), (-2, wanted[1], found[1]))
        if any(have not in (want, opposite[want]) for _, want, have in pairs):
            raise InputError(
                "the slices lie in another plane, or transposed, to those that the prior was trained on",
                where=self.prior.card.name,
                found=f"orientation {found}",
                expected=f"{wanted}, or that mirrored",
            )
        return [axis for axis, want, have in pairs if opposite[want] == have]

    def at(self, turn: int) -> System:
        """The same in another step: groups of slices begin one slice further on, grids of patches lie elsewhere."""
        if self.prior is None:
            return self
        prior = self.prior.at(turn)
        if prior is self.prior and prior.groups == 1:
            return self
        moved = replace(self, prior=prior, turn=turn)
        for name, value in vars(self).items():  # what was computed once
            vars(moved).setdefault(name, value)
        return moved

    def across(self, axis: int) -> System:
        """The same with ``axis`` and z exchanged, so that the prior sees slices of another direction.

        For :meth:`denoise` of volumes that were exchanged alike. Raises UsageError unless voxels are cubes, nearly so
        for a prior that was trained on slices of any orientation.
        """
        spacing, card = self.geometry.spacing, None if self.prior is None else self.prior.card
        if max(spacing) > (OBLONG if card is not None and card.orientation == ANY else 1.01) * min(spacing):
            raise UsageError(
                "slices of other directions need voxels of equal sides",
                found=" x ".join(f"{size:.3g}" for size in spacing) + " mm",
                hint="Reconstruct on an isotropic grid, or set directions to 0 alone.",
            )
        if axis == 0:
            return self
        order = [axis if i == 0 else 0 if i == axis else i for i in range(3)]
        shape = tuple(self.geometry.shape[i] for i in order)
        start, known = (None if part is None else part.transpose(0, axis) for part in (self.start, self.known))
        grid = Geometry.from_spacing(shape, spacing)  # type: ignore[arg-type]
        return replace(self, geometry=grid, start=start, known=known, turned=True)

    def denoise(self, x: Tensor, sigma: float, guide: Tensor | None = None, mirrors: int = 1) -> Tensor:
        """The prior's estimate of the clean volume ``(z, y, x)``, slice by slice; all in internal units.

        ``guide`` takes the place of ``start`` for priors that were trained with a guide. ``mirrors`` of 2 or 4 asks the
        prior about the slice and its mirror images, and takes the mean of the answers.

        Raises NonFinite naming the slice when the prior returns a NaN, UsageError for a noise level that the prior was
        not trained on, InputError when its slices lie in another plane.
        """
        if self.prior is None:
            raise InputError("this method needs a prior", hint="Give one with --prior.")
        card = self.prior.card
        if not 0.99 * card.sigma_min <= sigma * card.scale <= 1.01 * card.sigma_max:
            raise UsageError(
                "the prior was not trained on this noise level",
                where=card.name,
                found=f"{sigma:.4g}",
                expected=f"{card.sigma_min / card.scale:.4g} to {card.sigma_max / card.scale:.4g}",
                hint="Set sigma_min and sigma_max within that range.",
            )
        rows, columns = self.region
        clean = torch.full_like(x, self.background)
        for numbers in self._stacks(x.shape[0]):
            answers = self._denoise_stacks(x[numbers][..., rows, columns], numbers, sigma, guide, mirrors)
            for stack, answer in zip(numbers, answers, strict=True):
                clean[stack, rows, columns] = answer
        finite = torch.isfinite(clean).all(dim=2).all(dim=1)
        if not bool(finite.all()):
            raise NonFinite("the prior returned NaN or infinity", where=f"slice {int((~finite).nonzero()[0])}")
        return clean

    def denoise_vjp(self, x: Tensor, sigma: float, cotangent: Tensor) -> Tensor:
        """``J' v`` with J the derivative of :meth:`denoise` at ``x``; the graph of a few slices at a time is held.

        Raises UsageError for a prior that cannot be differentiated, or that takes several slices at once.
        """
        rows, columns = self.region
        product = torch.zeros_like(x)
        if self.prior is not None and self.prior.groups > 1:
            raise UsageError(
                "this method differentiates the prior, slice by slice, and this one takes groups of slices",
                where=self.prior.card.name,
                found=f"{self.prior.groups} at once",
            )
        for first in range(0, x.shape[0], self.slice_batch):
            part = slice(first, first + self.slice_batch)
            noisy = x[part, rows, columns].detach().requires_grad_()
            numbers = torch.arange(first, first + len(noisy))[:, None]
            with torch.enable_grad():
                estimate = self._denoise_stacks(noisy[:, None], numbers, sigma)[:, 0]
            if not estimate.requires_grad:
                raise UsageError(
                    "this method differentiates the prior, and this one cannot be",
                    where=self.prior.card.name,  # type: ignore[union-attr]
                    hint="Methods that do not: dds, posterior, pnp.",
                )
            (product[part, rows, columns],) = torch.autograd.grad(estimate, noisy, cotangent[part, rows, columns])
        return product

    def _stacks(self, slices: int) -> Iterator[Tensor]:
        """Numbers of the slices that the prior sees together, ``(stacks, groups)``, a few stacks at a time.

        Groups begin one slice further on in each step. Those at the ends are moved inwards, so that all are whole; of
        the answers for a slice the last one counts.
        """
        assert self.prior is not None
        size = self.prior.groups
        if slices < size:
            raise InputError(
                "the prior takes more slices at once than there are", where=self.prior.card.name, found=slices,
                expected=f"{size} or more",
            )  # fmt: skip
        wanted = torch.arange(-(self.turn % size), slices, size).clamp(0, slices - size)
        firsts = torch.unique(wanted)
        return iter((firsts[:, None] + torch.arange(size)).split(max(1, self.slice_batch // size)))

    def _denoise_stacks(
        self, stacks: Tensor, numbers: Tensor, sigma: float, guide: Tensor | None = None, mirrors: int = 1
    ) -> Tensor:
        """Slices of the region ``(stacks, groups, h, w)``, with these numbers in the volume; in internal units."""
        noisy, beside = self._for_prior(stacks), None
        if isinstance(self.prior, NetworkPrior) and self.prior.guides:
            beside = self._guide_slices(self.start if guide is None else guide, numbers, self.prior)
        answers = [self._ask(noisy.flip(axes), sigma, beside, axes).flip(axes) for axes in _MIRRORS[:mirrors]]
        return self._from_prior(sum(answers[1:], answers[0]) / len(answers))

    def _ask(self, noisy: Tensor, sigma: float, guide: Tensor | None, axes: tuple[int, ...]) -> Tensor:
        assert self.prior is not None
        level = sigma * self.prior.card.scale
        if isinstance(self.prior, NetworkPrior):
            return self.prior.denoise(noisy, level, None if guide is None else guide.flip(axes))
        return self.prior.denoise(noisy, level)

    def prior_error(self, sigma: float) -> float:
        """Root-mean-square error of the prior at a level, from its validation; in internal units."""
        card = self.prior.card  # type: ignore[union-attr]
        return self.prior.rms_error(sigma * card.scale) / card.scale  # type: ignore[union-attr]

    @cached_property
    def slice_axis(self) -> int | None:
        """Axis of the data that runs along the slices; None where the data mix slices."""
        slices = self.geometry.shape[0]
        if self.op.couples_slices or slices == 1:
            return None
        probe = torch.zeros_like(self.back_projection)
        probe[0] = 1.0
        seen = self.op(probe) != 0
        for axis, size in enumerate(seen.shape):
            if size == slices and not bool(seen.narrow(axis, 1, slices - 1).any()):
                return axis
        return None

    def _for_prior(self, slices: Tensor) -> Tensor:
        card = self.prior.card  # type: ignore[union-attr]
        return slices.flip(self._flips) * card.scale + card.offset

    def _from_prior(self, slices: Tensor) -> Tensor:
        card = self.prior.card  # type: ignore[union-attr]
        return (slices.flip(self._flips) - card.offset) / card.scale

    def _guide_slices(self, guide: Tensor | None, numbers: Tensor, prior: NetworkPrior) -> Tensor | None:
        """Neighbouring slices of ``guide``, repeated at the ends, then their maps: ``(stacks, channels, h, w)``."""
        if guide is None:
            return None
        shown = [guide]
        if prior.mapped:
            shown.append(torch.zeros_like(guide) if self.known is None else self.known)
        rows, columns = self.region
        reach = (prior.guides - prior.groups) // 2
        index = (numbers[:, :1] + torch.arange(-reach, prior.guides - reach)).clamp(0, guide.shape[0] - 1)
        return torch.cat([self._for_prior(volume[index][..., rows, columns]) for volume in shown], dim=1)


def _interval(occupied: np.ndarray) -> slice:
    where = np.flatnonzero(occupied)
    if len(where) == 0:
        return slice(0, len(occupied))
    low, high = int(where[0]) - _REGION_MARGIN, int(where[-1]) + 1 + _REGION_MARGIN
    size = min(max(-(-(high - low) // 16) * 16, 48), len(occupied))
    low = min(max(0, (low + high - size) // 2), len(occupied) - size)
    return slice(low, low + size)
