"""Linear interpolation between traces."""

from __future__ import annotations

from dataclasses import dataclass

from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.samplers.base import Sampler, State, samplers
from medrecon.samplers.trace_system import trace_system


@samplers.register("linear", family="classical", modality="seismic")
@dataclass(frozen=True)
class Linear(Sampler):
    """Linear interpolation between traces, time by time: hard to beat where events are flat, blind to steep dips."""

    @property
    def total_steps(self) -> int:
        """One."""
        return 1

    def init(self, system: System, noise: KeyedNoise) -> State:
        """The live traces."""
        return State(0, trace_system(system).data)

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """All missing traces."""
        return state.advance(trace_system(system).linear())
