"""Zero-filled MRI: the inverse Fourier transform of what was measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.registry import unknown_name
from medrecon.samplers.base import Sampler, State, samplers
from medrecon.samplers.complex_system import complex_system


@samplers.register("zero-filled", family="classical", modality="mri")
@dataclass(frozen=True)
class ZeroFilled(Sampler):
    """Missing samples count as zero: aliased, but free of any model.

    ``combine`` is ``"adjoint"`` (coil images weighted by the conjugate maps) or ``"rss"`` (root sum of squares of the
    coil images, without maps; its noise does not average to zero).
    """

    combine: str = "adjoint"

    def __post_init__(self) -> None:
        if self.combine not in ("adjoint", "rss"):
            raise unknown_name("combination of coils", self.combine, ["adjoint", "rss"])

    @property
    def total_steps(self) -> int:
        """One."""
        return 1

    def init(self, system: System, noise: KeyedNoise) -> State:
        """An empty volume."""
        return State(0, torch.zeros_like(system.back_projection))

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """The whole transform; in the units of the data, the operator's norm plays no part."""
        op = complex_system(system).raw_op
        y = torch.view_as_complex(system.raw.y.contiguous())
        if self.combine == "rss":
            size = torch.linalg.vector_norm(op.coil_images(y), dim=0)  # type: ignore[attr-defined]
        else:
            size = op.zero_filled(y).abs()  # type: ignore[attr-defined]
            size = torch.linalg.vector_norm(size, dim=0) if size.ndim == 4 else size
        return state.advance(system.from_quantity(size).contiguous())
