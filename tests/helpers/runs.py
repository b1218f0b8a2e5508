"""Samplers run by hand, without the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from medrecon.noise import KeyedNoise
from medrecon.problem import System
from medrecon.samplers import Sampler, State, samplers
from medrecon.samplers.settings import make_sampler

FEW = {"steps": 4, "iterations": 4, "descents": 3, "cg_iterations": 3, "jump": 2, "visits": 2}
"""Few steps, for tests of what does not depend on how many there are."""


def few_steps(name: str, **settings: object) -> Sampler:
    """The method called ``name`` with 3 or 4 steps where its settings allow it."""
    known = {f.name for f in fields(samplers.get(name))}
    chosen = {key: value for key, value in FEW.items() if key in known}
    if "axes" in known:  # total variation makes one step of ten iterations
        chosen["iterations"] = 30
    return make_sampler(name, chosen | settings)


def states(sampler: Sampler, system: System, noise: KeyedNoise) -> Iterator[State]:
    """All states of a run, the first included."""
    state = sampler.init(system, noise)
    yield state
    while not sampler.done(state):
        state = sampler.step(system, state, noise)
        yield state


def run(sampler: Sampler, system: System, seed: int = 0, sample: int = 0) -> State:
    """The last state of a run."""
    *_, last = states(sampler, system, KeyedNoise(seed, sample))
    return last
