"""Phase that varies faster than the centre of k-space shows: found by L1-wavelet, taken where it predicts data."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from medrecon.noise import KeyedNoise
from medrecon.physics.mri.sense import RealVolume
from medrecon.problem import Problem
from medrecon.samplers.l1_wavelet import L1Wavelet
from medrecon.selection import held_out

_FOR_PHASE = L1Wavelet(iterations=40)  # as many as the phase needs
_CLEARLY = 0.8  # the imaginary part has to take a fifth off the error of prediction
_FEWEST = 3  # lines, or samples, of which one can be left out


def complex_volume(problem: Problem, method: L1Wavelet = _FOR_PHASE) -> Tensor:
    """``(z, y, x)``, or ``(sets, z, y, x)``: L1-wavelet of an MR problem before its modulus is taken."""
    system = problem.system()
    state = method.run(system, KeyedNoise(0))
    return torch.view_as_complex(state.tensors["x"].contiguous()) * system.scale


def imaginary_errors(problem: Problem) -> tuple[float, float] | None:
    """How badly held-out samples are predicted by the real part of the complex volume, and by all of it.

    Relative to their size. The maps of ``problem`` hold the phase that is known so far; what the real part cannot
    predict and the complex volume can is phase that they lack. None where there are too few samples to leave any out.
    """
    if problem.y.shape[getattr(problem.op, "holdout_axis", 0)] < _FEWEST:
        return None
    assert isinstance(problem.op, RealVolume)
    held, op = held_out(problem), problem.op.complex_op
    found = complex_volume(replace(problem, used=held.used))
    hidden = held.mask[..., 0]
    samples = torch.view_as_complex(problem.y.contiguous()) * hidden
    size = float(torch.linalg.vector_norm(samples))
    if not size > 0:
        return None
    errors = [
        float(torch.linalg.vector_norm(op(each.to(found.dtype)) * hidden - samples)) / size
        for each in (found.real, found)
    ]
    return errors[0], errors[1]


def imaginary_part_predicts(errors: tuple[float, float]) -> bool:
    """Whether the error with the imaginary part, the second, is clearly the smaller one."""
    return errors[1] < _CLEARLY * errors[0]


def with_phase_of(maps: Tensor, volume: Tensor) -> Tensor:
    """Coil maps ``(sets, coils, z, y, x)`` times the phase of a complex volume ``(z, y, x)``; 1 where that is zero."""
    size = volume.abs()
    return maps * torch.where(size > 0, volume / size.clamp_min(1e-30), torch.ones_like(volume))
