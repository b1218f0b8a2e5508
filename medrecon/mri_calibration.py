"""A calibration wider than the one that was measured: the centre of k-space, completed by a coarse volume.

Coil maps from a few lines are wrong by as much as the noise, and what they miss no method can mend. A total-variation
volume of low resolution, made with those maps, predicts the samples around the lines; maps made from both are nearly as
good as those of a full calibration. In the spirit of joint estimation of image and maps (Ying and Sheng 2007, JSENSE).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medrecon.noise import KeyedNoise
from medrecon.physics.mri.fourier import centred_fft, cropped
from medrecon.physics.mri.sense import RealVolume
from medrecon.samplers.tv import TV

if TYPE_CHECKING:
    from medrecon.mri import Measurement

_COARSE = 48  # samples along each encoded axis of the volume that predicts
_FEWEST = 4  # calibration lines, without which there is nothing to begin with
_ROUNDS = 2
_METHOD = TV(iterations=20, cg_iterations=5)


def completed(found: Measurement, wanted: int, *, map_method: str, nonnegative: bool) -> Tensor:
    """The calibration, ``wanted`` samples wide along each encoded axis where k-space is.

    The measured one comes back where it is as wide, where too little was measured to begin with, and where the maps of
    the completed one do not explain the measured samples better.
    """
    from medrecon.mri import coil_maps, posed

    sizes = [min(wanted, n) if a in found.encoded else n for a, n in enumerate(found.matrix)]
    widths = found.calibration.shape[1:]
    few = any(widths[a] < min(_FEWEST, sizes[a]) for a in found.encoded)
    enough = all(have >= want for have, want in zip(widths, sizes, strict=True))
    if found.trajectory is not None or len(found.data) == 1 or few or enough:
        return found.calibration
    coarse = _coarse(found)
    measured = (coarse.amplitude > 0).expand(coarse.matrix)
    calibration, residuals = found.calibration, []
    for _ in range(_ROUNDS):
        maps = coil_maps(replace(coarse, calibration=calibration), method=map_method)
        problem = posed(coarse, maps, nonnegative=nonnegative)
        assert isinstance(problem.op, RealVolume)
        system = problem.system()
        volume = _METHOD.run(system, KeyedNoise(0)).estimate
        residuals.append(system.discrepancy(volume))
        spectra = centred_fft((maps[0] * system.to_quantity(volume)).contiguous(), tuple(1 + a for a in found.encoded))
        calibration = cropped(torch.where(measured, coarse.data, spectra), sizes).contiguous()
    return calibration if residuals[-1] < residuals[0] else found.calibration


def _coarse(found: Measurement) -> Measurement:
    """The centre of k-space alone, on the whole encoded field of view."""
    sizes = [min(_COARSE, n) if a in found.encoded else n for a, n in enumerate(found.matrix)]
    grid = [m if a in found.encoded else n for a, (m, n) in enumerate(zip(sizes, found.grid, strict=True))]
    amplitude = cropped(found.amplitude, [min(m, n) for m, n in zip(sizes, found.amplitude.shape, strict=True)])
    return replace(
        found, data=cropped(found.data, sizes).contiguous(), amplitude=amplitude.contiguous(),
        matrix=(sizes[0], sizes[1], sizes[2]), grid=(grid[0], grid[1], grid[2]),
    )  # fmt: skip
