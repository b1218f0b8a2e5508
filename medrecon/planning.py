"""What a reconstruction will cost, from one timed step of each of its parts."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from medrecon.data.provenance import peak_memory
from medrecon.noise import KeyedNoise
from medrecon.problem import Problem, System
from medrecon.samplers import Sampler, State
from medrecon.samplers.settings import sampler_for
from medrecon.selection import classical_methods, diffusion_method, starting_method

_MIB = 1 << 20


@dataclass(frozen=True)
class Plan:
    """Estimated cost of a run: network evaluations for each slice, seconds and peak memory."""

    method: str
    evaluations: int
    seconds: float
    memory_mib: float


def plan(problem: Problem, method: str, settings: dict[str, object], *, samples: int = 1) -> Plan:
    """Time the beginning and one step of the method, and of the baseline before it, and extrapolate.

    The peak memory is that of this process after those steps: later steps need no more.
    """
    automatic = method == "auto"
    if automatic:
        method = classical_methods(problem)[0] if problem.prior is None else diffusion_method(problem.prior)
    sampler = sampler_for(problem, method, settings)
    system = problem.system()
    system.op.adjoint(system.op(system.back_projection))  # compiles the kernels, which a run does once too
    baseline = 0.0
    if sampler.needs_prior:
        baseline, state = _cost(sampler_for(problem, starting_method(problem), {}), system)
        system = replace(system, start=state.estimate)
    own, _ = _cost(sampler, system)
    seconds, evaluations = baseline + own * samples, sampler.evaluations() * samples
    if automatic and sampler.needs_prior:  # both candidates run once more, on a share of the data
        seconds, evaluations = seconds + 2 * baseline + own, evaluations + sampler.evaluations()
    return Plan("auto" if automatic else method, evaluations, seconds, (peak_memory() or 0) / _MIB)


def _cost(sampler: Sampler, system: System) -> tuple[float, State]:
    """Seconds of a whole run, and the state after its first step."""
    noise = KeyedNoise(0)
    began = time.perf_counter()
    state = sampler.init(system, noise)
    started = time.perf_counter()
    state = sampler.step(system, state, noise)
    step = time.perf_counter() - started
    return started - began + step * sampler.total_steps, state
