"""Zero-filled, CG-SENSE and L1-wavelet: known answers, and the promises that every method makes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.mri import head, psnr
from helpers.operators import as_matrix
from helpers.problems import projection_problem
from helpers.runs import few_steps, run, states
from medrecon.checkpoint import RunKey, empty_progress, load_progress, save_progress
from medrecon.engine import reconstruct
from medrecon.errors import UsageError
from medrecon.noise import KeyedNoise
from medrecon.problem import Problem
from medrecon.samplers import samplers
from medrecon.samplers.settings import make_sampler
from medrecon.scans import problem_from_scan
from medrecon.simulate_mri import simulate_kspace

NAMES = [entry.name for entry in samplers if entry.meta.get("modality") == "mri"]
VOLUME = head((2, 48, 40), (4.0, 4.0, 4.0))


@cache
def problem(mask: str = "gaussian1d", acceleration: float = 2.5, noise: float = 0.005) -> Problem:
    return problem_from_scan(simulate_kspace(VOLUME, mask, acceleration, coils=4, noise=noise, centre=14, seed=2))


def image(name: str, given: Problem | None = None, **settings: object) -> np.ndarray:
    return reconstruct(given or problem(), name, **settings).volume.array


def test_the_methods_are_there():
    assert NAMES == ["cg-sense", "l1-wavelet", "zero-filled"]
    assert all(samplers.entry(name).meta["family"] == "classical" for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_pure_reproducible_and_can_be_resumed(name: str, tmp_path: Path):
    sampler, system = few_steps(name), problem().system()
    *before, last = states(sampler, system, KeyedNoise(0))
    assert last.step == sampler.total_steps
    assert last.estimate.dtype == torch.float32
    assert torch.equal(run(sampler, problem().system(), seed=5).estimate, last.estimate)
    for state in before:
        save_progress(tmp_path / "run.ckpt", RunKey("key"), empty_progress(VOLUME.geometry.shape, state))
        resumed = load_progress(tmp_path / "run.ckpt", RunKey("key")).state
        while not sampler.done(resumed):
            resumed = sampler.step(problem().system(), resumed, KeyedNoise(0))
        assert torch.equal(resumed.estimate, last.estimate)


@pytest.mark.parametrize("name", NAMES)
def test_data_of_another_kind_are_refused(name: str):
    with pytest.raises(UsageError, match="MR k-space"):
        run(few_steps(name), projection_problem(with_prior=False).system())


@pytest.mark.parametrize("name", NAMES)
def test_fully_sampled_data_give_the_volume(name: str):
    """But for the finer grid that measured it, the noise, and the maps' own errors."""
    settings = {"zero-filled": {}, "cg-sense": {"damping": 0.0}, "l1-wavelet": {"weight": 1e-4, "iterations": 20}}
    assert psnr(image(name, problem("uniform1d", 1.0, 0.0), **settings[name]), VOLUME.array) > 30


def test_each_model_adds_to_the_one_before():
    zero_filled, least_squares = (psnr(image(name), VOLUME.array) for name in ("zero-filled", "cg-sense"))
    assert least_squares > zero_filled + 0.2
    loud = problem("uniform1d", 2.0, 0.02)
    linear, wavelet, variation = (psnr(image(name, loud), VOLUME.array) for name in ("cg-sense", "l1-wavelet", "tv"))
    assert wavelet > linear + 1
    assert variation > linear + 2


def test_the_root_sum_of_squares_needs_no_maps():
    rss = image("zero-filled", combine="rss")
    assert psnr(rss, VOLUME.array) == pytest.approx(psnr(image("zero-filled"), VOLUME.array), abs=2)
    with pytest.raises(UsageError, match="combination of coils"):
        make_sampler("zero-filled", {"combine": "sum"})


def test_conjugate_gradients_solve_the_damped_least_squares_of_complex_images():
    """Against a dense solve; a product without conjugation, or a system in real numbers, gives another answer."""
    volume = head((1, 12, 10), (4.0, 16.0, 16.0))
    made = problem_from_scan(simulate_kspace(volume, "uniform1d", 1.6, coils=3, noise=0.02, centre=4, seed=1)).system()
    found = run(make_sampler("cg-sense", {"iterations": 200, "damping": 0.05}), made).estimate
    op = made.raw.op.complex_op
    gain = float(made.op.outer.factor)
    matrix = as_matrix(op).to(torch.complex128) * gain
    y = torch.view_as_complex(made.y.contiguous()).reshape(-1).to(torch.complex128)
    normal = matrix.conj().T @ matrix + 0.05 * torch.eye(matrix.shape[1], dtype=torch.complex128)
    dense = torch.linalg.solve(normal, matrix.conj().T @ y).abs().reshape(1, 12, 10)
    assert torch.allclose(found.double(), dense, atol=1e-4 * float(dense.max()))
    assert float(torch.linalg.solve(normal, matrix.conj().T @ y).imag.abs().max()) > 1e-3


def test_the_unit_of_the_data_does_not_matter():
    """Raw data may be of any size: weights are relative to the image, the volume is in the units of the data."""
    scan = simulate_kspace(VOLUME, "gaussian1d", 2.5, coils=4, noise=0.005, centre=14, seed=2)
    small = replace(scan, data=scan.data * np.float32(1e-6), noise_covariance=scan.noise_covariance * 1e-12)
    for name, settings in (("l1-wavelet", {"iterations": 20}), ("tv", {"iterations": 20}), ("cg-sense", {})):
        large, tiny = (image(name, problem_from_scan(s), **settings) for s in (scan, small))
        assert np.abs(tiny * 1e6 - large).max() < 2e-3 * large.max()


def test_a_common_phase_of_the_coils_leaves_the_volume():
    scan = simulate_kspace(VOLUME, "gaussian1d", 2.5, coils=4, noise=0.005, centre=14, seed=2)
    turned = replace(scan, data=scan.data * np.complex64(np.exp(1.3j)))
    for name in ("cg-sense", "tv"):
        first, second = (image(name, problem_from_scan(s), iterations=20) for s in (scan, turned))
        assert np.abs(first - second).max() < 2e-3 * first.max()


def test_random_shifts_remove_block_artefacts():
    shifted, fixed = (psnr(image("l1-wavelet", shifts=s), VOLUME.array) for s in (True, False))
    assert shifted > fixed + 0.2
