"""The interface of every method, classical or diffusion: ``init / step / done`` on a frozen state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from medrecon.noise import KeyedNoise
from medrecon.prior import PriorCard
from medrecon.problem import System
from medrecon.registry import Registry

samplers: Registry[type[Sampler]] = Registry("method")


@dataclass(frozen=True, eq=False)
class State:
    """Everything that a method carries from one step to the next; tensors are in internal units.

    ``estimate`` is the volume to show. ``tensors`` holds what else the method needs (the noisy state, duals).
    ``stats`` describes the step just done.
    """

    step: int
    estimate: Tensor
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    stats: Mapping[str, float] = field(default_factory=dict)

    def advance(self, estimate: Tensor, tensors: Mapping[str, Tensor] | None = None, **stats: float) -> State:
        """The state after one more step."""
        return replace(
            self,
            step=self.step + 1,
            estimate=estimate,
            tensors=self.tensors if tensors is None else tensors,
            stats=stats,
        )


@dataclass(frozen=True)
class Sampler(ABC):
    """A method. Fields of the subclass are its settings; ``step`` is pure: no hidden state, no global randomness."""

    needs_prior = False

    @classmethod
    def completed(cls, settings: dict[str, object]) -> dict[str, object]:
        """The settings with those defaults that depend on other settings."""
        return settings

    def for_prior(self, card: PriorCard) -> Sampler:
        """With what it takes from the card of the prior. Raises UsageError where the card lacks it."""
        return self

    @abstractmethod
    def init(self, system: System, noise: KeyedNoise) -> State:
        """State before the first step."""

    @abstractmethod
    def step(self, system: System, state: State, noise: KeyedNoise) -> State:
        """State after one more step."""

    @property
    @abstractmethod
    def total_steps(self) -> int:
        """How many steps a run has."""

    @property
    def stochastic(self) -> bool:
        """Whether seed and sample change the result."""
        return False

    def done(self, state: State) -> bool:
        """Whether the run has ended."""
        return state.step >= self.total_steps

    def run(self, system: System, noise: KeyedNoise) -> State:
        """The state after the last step, without the engine's checks, reports and checkpoints."""
        state = self.init(system, noise)
        while not self.done(state):
            state = self.step(system, state, noise)
        return state

    def evaluations(self) -> int:
        """Network evaluations per slice of one run."""
        return self.total_steps if self.needs_prior else 0
