"""Guides for MRI: random multi-coil scans of magnitude volumes, reconstructed classically."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from medrecon.data.volume import Volume
from medrecon.mri import mri_problem
from medrecon.noise import KeyedNoise
from medrecon.physics.mri.masks import default_centre, dimensions_of
from medrecon.problem import Problem
from medrecon.samplers.cg_sense import CGSense
from medrecon.samplers.tv import TV
from medrecon.simulate_mri import simulate_kspace
from medrecon.training.guides import guide_makers

MASKS = ("gaussian1d", "gaussian1d", "uniform1d", "fastmri-random", "fastmri-equispaced", "poisson2d", "poisson2d")
_RATES, _NOISE, _WEIGHTS = (2.0, 10.0), (0.003, 0.03), (0.5, 6.0)
_COILS, _VIRTUAL = (4, 9), 5
_TOTAL_VARIATION, _AUTOMATIC = 0.85, 0.5  # shares of guides that are it; that have the engine's own weight
# A seventh of the time of the method as users run it; what is missing to its minimum is a tenth of the guide's error
_ITERATIONS, _CG_ITERATIONS = 40, 6
_CENTRE_SHARE = 0.6  # of the samples, at most, that are calibration


# Sides of slices are multiples because Fourier transforms of odd lengths take four times as long; since edition 2 the
# maps are those of completed calibrations. What is granted is around the card's 0.03: more brings noise back
@guide_makers.register("mri", levels=(2, 4, 6, 8), multiple=16, edition=2, granted=(0.01, 0.1))
def undersampled_mri(truth: Volume, rng: np.random.Generator, views: int | None = None) -> tuple[Problem, Volume]:
    """Few samples of k-space in several coils with phase and noise; then total variation, or least squares (CG-SENSE).

    Lines or, for two of seven, Poisson discs; 2 to 10 times accelerated (``views`` times, where it is given); 4 to 8
    coils, noise of 0.3 to 3 % of the largest value; the usual weight of total variation or a quarter to three times
    that.
    """
    mask = str(rng.choice(MASKS))
    drawn, noise = _log_uniform(rng, _RATES), _log_uniform(rng, _NOISE)
    coils, seed = int(rng.integers(*_COILS)), int(rng.integers(2**31))
    rate = float(views) if views else drawn
    shape = truth.geometry.shape[2:] if dimensions_of(mask) == 1 else truth.geometry.shape[1:]
    samples = math.prod(shape) / rate
    widest = int((_CENTRE_SHARE * samples) ** (1 / len(shape)))
    centre = max(1, min(default_centre(shape, rate), widest))
    scan = simulate_kspace(truth, mask, rate, coils=coils, noise=noise, seed=seed, centre=centre)
    problem = mri_problem(scan, coils=_VIRTUAL)
    weight, iterations = _log_uniform(rng, _WEIGHTS), int(rng.integers(3, 6)) * 10
    method: TV | CGSense = CGSense()
    if rng.random() < _TOTAL_VARIATION:
        method = TV(iterations=_ITERATIONS, cg_iterations=_CG_ITERATIONS)
        if rng.random() >= _AUTOMATIC:
            method = replace(method, weight=weight, iterations=iterations)
    system = problem.system()
    found = system.to_quantity(method.run(system, KeyedNoise(0)).estimate).contiguous().to(torch.float32).numpy()
    return problem, truth.with_array(found)


def _log_uniform(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    return math.exp(rng.uniform(math.log(ends[0]), math.log(ends[1])))
