"""What the methods share that ask the prior at falling noise levels: where the levels come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from medrecon.errors import UsageError
from medrecon.prior import PriorCard
from medrecon.registry import unknown_name
from medrecon.samplers.base import Sampler, samplers
from medrecon.schedules import check_levels, falling, schedules

SEARCHED = "searched"
"""The schedule whose levels stand in the prior's card."""

AnnealedSampler = TypeVar("AnnealedSampler", bound="Annealed")


@dataclass(frozen=True)
class Annealed(Sampler):
    """One step at each noise level, the highest first."""

    steps: int = 20
    sigma_max: float = 1.0  # in the prior's unit (1 = the difference between air and water in CT)
    sigma_min: float = 0.02
    schedule: str = "log"
    sequence: tuple[float, ...] = ()  # the levels one by one, instead of sigma_max, sigma_min and schedule

    needs_prior = True

    def __post_init__(self) -> None:
        check_choices(("schedule", self.schedule, [*schedules.names(), SEARCHED]))
        check_levels(self.sigma_max, self.sigma_min)
        if self.sequence and (len(self.sequence) != self.steps or not falling(self.sequence)):
            raise UsageError(
                "a sequence holds as many noise levels as there are steps, and they fall",
                found=f"{len(self.sequence)} levels, {list(self.sequence)}",
                expected=f"{self.steps} levels",
                hint="Say steps too.",
            )

    @property
    def total_steps(self) -> int:
        """One noise level each."""
        return self.steps

    def levels(self) -> list[float]:
        """Noise levels, with a final zero."""
        if self.sequence:
            return [*map(float, self.sequence), 0.0]
        if self.schedule == SEARCHED:
            raise UsageError("a searched sequence is that of a prior's card", hint="Say sequence, or another schedule.")
        return [*schedules.get(self.schedule)(self.sigma_max, self.sigma_min, self.steps).tolist(), 0.0]

    def for_prior(self: AnnealedSampler, card: PriorCard) -> AnnealedSampler:
        """With the levels that were searched for this method and number of steps, if it asks for them.

        Raises UsageError where the card has none.
        """
        if self.schedule != SEARCHED or self.sequence:
            return self
        method = samplers.name_of(type(self))
        found = {entry["steps"]: entry["levels"] for entry in card.sequences if entry["method"] == method}
        if self.steps not in found:
            raise UsageError(
                f"the prior has no searched sequence of {self.steps} levels for {method}",
                where=card.name,
                found=", ".join(f"{entry['method']} {entry['steps']}" for entry in card.sequences) or "none",
                hint=f"Make a copy that has it: medrecon priors search PRIOR DATA --method {method} "
                f"--steps {self.steps} -o NEW.safetensors.",
            )
        return replace(self, sequence=tuple(found[self.steps]))


def check_choices(*choices: tuple[str, str, Sequence[str]]) -> None:
    """Raise UsageError for a setting (name, value, known values) that is not a known one."""
    for name, value, known in choices:
        if value not in known:
            raise unknown_name(name, value, list(known))
