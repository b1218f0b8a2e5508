"""From a method's name and what the user said of it to the method itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from math import inf
from numbers import Integral, Real

from medrecon.errors import UsageError
from medrecon.prior import ANY, EVERY_WAY, OBLONG, Prior
from medrecon.problem import Problem
from medrecon.registry import unknown_name
from medrecon.samplers.base import Sampler, samplers

_NARROWEST = 32  # pixels of a slice that shows a prior enough


def make_sampler(method: str, settings: dict[str, object]) -> Sampler:
    """The method called ``method`` with these settings. Raises UsageError naming what is unknown or malformed."""
    factory = samplers.get(method)
    known = {f.name: f for f in fields(factory)}
    settings = dict(settings)
    for name, value in settings.items():
        if name not in known:
            raise unknown_name(f"setting of {method}", name, list(known))
        default = known[name].default
        if isinstance(default, float) and isinstance(value, str):
            value = settings[name] = _number(value)  # YAML 1.1 reads 5e-6 as text
        if not _fits(value, default):
            raise UsageError(f"setting {name} of {method} has the wrong type", found=value, expected=f"like {default}")
        if not _in_range(value, default):
            least = "at least 1" if isinstance(default, int) else "finite, at least 0"
            raise UsageError(f"setting {name} of {method} is out of range", found=value, expected=least)
    return factory(**factory.completed({name: _like(value, known[name].default) for name, value in settings.items()}))


def sampler_for(problem: Problem, method: str, settings: dict[str, object]) -> Sampler:
    """The same, with what suits the problem's operator and its prior where the settings do not say."""
    sampler = make_sampler(method, in_trained_range(method, suited(method, settings, problem), problem.prior))
    return sampler if problem.prior is None else sampler.for_prior(problem.prior.card)


def in_trained_range(method: str, settings: dict[str, object], prior: Prior | None) -> dict[str, object]:
    """The settings, with the method's own first and last noise level moved into the range the prior was trained on.

    Levels that were said stay as they are: those that the prior does not know are an error of the run.
    """
    if prior is None:
        return settings
    low, high = prior.card.sigma_min / prior.card.scale, prior.card.sigma_max / prior.card.scale
    defaults = {f.name: f.default for f in fields(samplers.get(method)) if f.name in ("sigma_min", "sigma_max")}
    moved = {name: min(max(level, low), high) for name, level in defaults.items() if isinstance(level, float) and level}
    return {name: level for name, level in moved.items() if level != defaults[name]} | settings


def suited(method: str, settings: dict[str, object], problem: Problem) -> dict[str, object]:
    """The settings over those that suit the prior, and those that suit the operator, better than the defaults."""
    operators: dict[str, dict[str, object]] = getattr(problem.op, "method_settings", {})
    priors = problem.prior.card.settings if problem.prior is not None else {}
    found = operators.get(method, {}) | priors.get(method, {})
    if _every_way(problem):
        found |= priors.get(method + EVERY_WAY, {})
    return found | settings


def _every_way(problem: Problem) -> bool:
    """Whether slices of all three directions are what the prior knows: wide enough, and not stretched."""
    shape, spacing = problem.geometry.shape, problem.geometry.spacing
    known = problem.prior is not None and problem.prior.card.orientation == ANY
    return known and min(shape) >= _NARROWEST and max(spacing) <= OBLONG * min(spacing)


def _like(value: object, default: object) -> object:
    """The value in the type of the default: 3.0 steps are 3, a list of axes is a tuple."""
    if isinstance(default, bool) or not isinstance(default, int | float | tuple):
        return value
    kind: Callable[..., object] = type(default)
    return kind(value)


def _in_range(value: object, default: object) -> bool:
    """Counts are at least 1, other numbers finite and not negative: true of every setting of every method."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return value >= 1 if isinstance(default, int) else 0 <= value < inf


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _fits(value: object, default: object) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, int):
        return isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    if isinstance(default, float):
        return isinstance(value, Real)
    if isinstance(default, tuple):
        return isinstance(value, list | tuple)
    return isinstance(value, type(default))
