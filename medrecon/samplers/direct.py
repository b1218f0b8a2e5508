"""Direct inversion: filtered back-projection, of a cone beam by Feldkamp's method."""

from __future__ import annotations

from dataclasses import dataclass

from medrecon.errors import UsageError
from medrecon.noise import KeyedNoise
from medrecon.physics.linop import LinearOperator
from medrecon.problem import System
from medrecon.samplers.base import Sampler, State, samplers

DIRECT = ("fbp", "fdk")


@samplers.register("fbp", family="classical")
@dataclass(frozen=True)
class FilteredBackProjection(Sampler):
    """Filtered back-projection: fast, exact for dense noise-free data, streaks from few views."""

    filter: str = "hann"
    cutoff: float = 1.0

    @property
    def total_steps(self) -> int:
        """One."""
        return 1

    def init(self, system: System, noise: KeyedNoise) -> State:
        """An empty volume."""
        return State(0, system.back_projection * 0)

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """The whole inversion."""
        invert = getattr(system.raw.op, "direct_inverse", None)
        if invert is None:
            raise UsageError("this kind of data has no direct inversion", hint="Choose another --method.")
        volume = invert(system.raw.y, filter=self.filter, cutoff=self.cutoff)
        return state.advance(system.from_quantity(volume))


@samplers.register("fdk", family="classical")
@dataclass(frozen=True)
class Feldkamp(FilteredBackProjection):
    """Feldkamp's filtered back-projection of cone beams on a circle; the same as fbp for all other beams."""


def direct_method(op: LinearOperator) -> str | None:
    """Name of the direct method of an operator: of traces linear interpolation; None where there is none."""
    name: str | None = getattr(op, "direct_method", "fbp" if hasattr(op, "direct_inverse") else None)
    return name
