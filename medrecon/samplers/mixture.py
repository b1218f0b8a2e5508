"""The mean of several methods' volumes, in shares."""

from __future__ import annotations

from dataclasses import dataclass
from math import isclose

import torch

from medrecon.errors import UsageError
from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.samplers.base import Sampler, State, samplers
from medrecon.samplers.settings import sampler_for
from medrecon.samplers.trace_system import trace_system


@samplers.register("mixture", family="classical", modality="seismic")
@dataclass(frozen=True)
class Mixture(Sampler):
    """Several classical volumes, weighted: methods that err differently are better together than the best of them.

    ``auto`` takes the shares with which they predict hidden traces best (Bates and Granger 1969, *The combination of
    forecasts*); they sum to one.
    """

    methods: tuple[str, ...] = ("linear", "dip")
    shares: tuple[float, ...] = (0.5, 0.5)

    def __post_init__(self) -> None:
        if not self.methods or len(self.methods) != len(self.shares):
            raise UsageError("a mixture has one share for each method", found=(self.methods, self.shares))
        if any(not isinstance(share, int | float) or not 0 < share <= 1 for share in self.shares):
            raise UsageError("shares lie between 0 and 1", found=self.shares)
        if not isclose(sum(self.shares), 1, abs_tol=1e-3):
            raise UsageError("shares sum to one", found=self.shares)
        for name in self.methods:
            entry = samplers.entry(name)
            if entry.value is Mixture or entry.value.needs_prior:
                raise UsageError("a mixture is of classical methods", found=name)

    @property
    def total_steps(self) -> int:
        """A method in each."""
        return len(self.methods)

    def init(self, system: System, noise: KeyedNoise) -> State:
        """Nothing yet."""
        empty = torch.zeros_like(system.back_projection)
        return State(0, empty, {"sum": empty})

    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """One method from start to end; shown is the mean of those so far."""
        name, share = self.methods[state.step], self.shares[state.step]
        method = sampler_for(system.raw, name, {})
        total = state.tensors["sum"] + share * method.run(system, noise).estimate
        shown = total / sum(self.shares[: state.step + 1])
        return state.advance(trace_system(system).with_live(shown), {"sum": total})
