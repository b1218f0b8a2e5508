"""A good sequence of noise levels for a prior, an operator and a method: searched by running it.

What is judged is how far a run of few steps ends from a run of many, both along the flow of the method (no fresh noise,
the same start). The search begins at the best of the package's schedules and moves its levels along itself, denser here
and sparser there, one part after the other; a change stays if it brings the end nearer. So no result is worse than a
schedule on the data of the search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medrecon.engine import reconstruct
from medrecon.errors import UsageError
from medrecon.noise import KeyedNoise
from medrecon.problem import Problem, System
from medrecon.samplers import Sampler
from medrecon.samplers.settings import sampler_for
from medrecon.samplers.steppers import steppers
from medrecon.samplers.x0_loop import X0Loop
from medrecon.schedules import schedules
from medrecon.selection import starting_method

_FINE = 100  # steps of the run that the others are held against
_ACCURATE = "dpm++2m"  # stepper of that run, and of methods whose own one adds noise
_PARTS = 4  # of the sequence, whose lengths of step are searched
_CHANGES = (0.8, 0.4, 0.2)  # of the logarithm of a length, coarse to fine
_SEARCHABLE = "For example --method diffpir, dds or posterior."


@dataclass(frozen=True)
class FoundSequence:
    """Levels, network units, and root-mean-square distances to the end of the run of many steps.

    ``errors`` are those of the schedules, ``begun`` the one that the search began at, ``error`` that of the levels.
    """

    levels: tuple[float, ...]
    error: float
    begun: str
    errors: dict[str, float]

    def to_record(self) -> dict[str, object]:
        """Plain values for a JSON card."""
        return {"levels": list(self.levels), "error": self.error, "begun": self.begun, "errors": self.errors}


def runs_of_search() -> int:
    """Runs of one search at most, that of many steps left out."""
    return len(schedules.names()) + 2 * _PARTS * len(_CHANGES)


def search_for_problem(
    problem: Problem, method: str, settings: dict[str, object], *, progress: Callable[[int, int], None] | None = None
) -> FoundSequence:
    """Levels for a method with these settings on a problem, begun from its classical volume as `reconstruct` does.

    Raises UsageError for unknown settings, and as :func:`flow_of`.
    """
    flow, system = flow_of(sampler_for(problem, method, settings)), problem.system()
    classical = reconstruct(problem, starting_method(problem), quantity=problem.quantity, judgement="none")
    start = system.from_quantity(torch.from_numpy(classical.volume.array))
    return search_levels(flow, replace(system, start=start), progress=progress)


def search_levels(flow: X0Loop, system: System, *, progress: Callable[[int, int], None] | None = None) -> FoundSequence:
    """Levels for as many steps as a flow (:func:`flow_of`) has, between its first and its last one."""
    fine = _end(replace(flow, steps=_FINE, stepper=_ACCURATE), system)
    done = [0]

    def error(levels: np.ndarray) -> float:
        end = _end(replace(flow, sequence=tuple(levels.tolist())), system)
        done[0] += 1
        if progress is not None:
            progress(done[0], runs_of_search())
        return float((end - fine).square().mean().sqrt())

    ladders = {name: schedules.get(name)(flow.sigma_max, flow.sigma_min, flow.steps) for name in schedules.names()}
    errors = {name: error(levels) for name, levels in ladders.items()}
    begun = min(errors, key=errors.__getitem__)
    lengths, least = np.zeros(_PARTS), errors[begun]
    for change in _CHANGES:
        for part in range(_PARTS):
            for sign in (1, -1):
                tried = lengths + sign * change * np.eye(_PARTS)[part]
                if (found := error(moved(ladders[begun], tried))) < least:
                    lengths, least = tried, found
                    break
    return FoundSequence(tuple(moved(ladders[begun], lengths).tolist()), least, begun, errors)


def moved(levels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The levels moved along their own sequence; both ends stay.

    ``lengths`` are logarithms of the length of a step at equidistant places from first to last, linear in between.
    """
    grid, places = np.linspace(0, 1, 201), np.linspace(0, 1, len(levels))
    steps = np.exp(np.interp(grid, np.linspace(0, 1, len(lengths)), lengths))
    way = np.concatenate([[0], np.cumsum(steps[1:] + steps[:-1])])
    found = np.exp(np.interp(np.interp(places, grid, way / way[-1]), places, np.log(levels)))
    return np.concatenate([levels[:1], found[1:-1], levels[-1:]])


def flow_of(sampler: Sampler) -> X0Loop:
    """A method without fresh noise.

    Raises UsageError for methods that put no noise back, which follow no flow, and for fewer than three steps.
    """
    if not isinstance(sampler, X0Loop) or sampler.noise_scale == 0:
        raise UsageError("this method follows no flow, whose levels could be searched", hint=_SEARCHABLE)
    if sampler.steps < 3:
        raise UsageError("the first and the last level are given", found=f"{sampler.steps} steps", expected="3 or more")
    noisy = steppers.get(sampler.stepper)().fresh_share(0.0, 1.0, 0.5) > 0
    return replace(sampler, eta=0.0, stepper=_ACCURATE if noisy else sampler.stepper)


def _end(flow: X0Loop, system: System) -> Tensor:
    return flow.run(system, KeyedNoise(0)).estimate
