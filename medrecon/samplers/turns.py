"""One prior of slices for all directions: the axis that it takes its slices along changes from step to step."""

from __future__ import annotations

from torch import Tensor

from medrecon.problem import System


def denoise_in_turn(
    system: System,
    x: Tensor,
    sigma: float,
    directions: tuple[int, ...],
    step: int,
    guide: Tensor | None = None,
    mirrors: int = 1,
) -> Tensor:
    """By the prior, slices taken along the direction whose turn it is (Lee et al. 2023, TPDM, with one prior).

    Raises UsageError unless voxels are cubes, where other directions than z take turns.
    """
    if directions == (0,):
        return system.denoise(x, sigma, guide, mirrors)
    axis = directions[step % len(directions)]
    guide = None if guide is None else guide.transpose(0, axis)
    return system.across(axis).denoise(x.transpose(0, axis), sigma, guide, mirrors).transpose(0, axis)
