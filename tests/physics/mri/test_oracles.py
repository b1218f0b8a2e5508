"""The same answers as sigpy and BART, from the same data and maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.bart import bart, need_bart, slice_for_bart
from helpers.mri import full_kspace, head, maps_and_image, psnr
from medrecon.engine import reconstruct
from medrecon.mri import mri_problem
from medrecon.physics.mri.calibration import espirit
from medrecon.physics.mri.fourier import cropped
from medrecon.physics.mri.sense import CartesianSense
from medrecon.problem import Problem
from medrecon.simulate_mri import simulate_kspace
from medrecon.solvers import cg, least_squares_gram

pytestmark = pytest.mark.slow

SHAPE = (1, 128, 112)
DAMPING = 0.01


@dataclass(frozen=True, eq=False)
class Case:
    """One slice, simulated on a finer grid, with the true maps on this one."""

    truth: np.ndarray
    data: np.ndarray
    maps: torch.Tensor
    problem: Problem
    op: CartesianSense
    y: torch.Tensor


@pytest.fixture(scope="module", params=["gaussian1d", "poisson2d"])
def case(request: pytest.FixtureRequest) -> Case:
    volume = head(SHAPE, (4.0, 2.0, 2.0))
    scan = simulate_kspace(volume, request.param, 4, coils=8, noise=0.005, seed=4)
    maps = maps_and_image(volume, 8)[0][None]
    problem = mri_problem(scan, maps=maps)
    op = CartesianSense(maps, torch.from_numpy(scan.mask), SHAPE)
    return Case(volume.array, scan.data, maps, problem, op, op.samples_of(torch.from_numpy(scan.data)))


@pytest.fixture(scope="module")
def ours(case: Case) -> np.ndarray:
    """The converged solution of ``||A x - y||^2 + damping ||x||^2``."""
    solved = cg(least_squares_gram(case.op, DAMPING), case.op.adjoint(case.y), max_iterations=100, tolerance=1e-6)
    return solved.x.abs().numpy()


def test_cg_sense_equals_sigpy(case: Case, ours: np.ndarray):
    app = pytest.importorskip("sigpy.mri.app")
    found = app.SenseRecon(
        case.data[:, 0], case.maps[0, :, 0].numpy(), lamda=DAMPING, max_iter=100, show_pbar=False
    ).run()
    assert abs(psnr(np.abs(found)[None], case.truth) - psnr(ours, case.truth)) < 0.02
    assert np.linalg.norm(np.abs(found)[None] - ours) < 2e-3 * np.linalg.norm(ours)


def test_cg_sense_equals_bart(case: Case, ours: np.ndarray, tmp_path: Path):
    need_bart()
    found = np.abs(
        bart(
            tmp_path, ["pics", "-S", "-l2", "-r", str(DAMPING), "-i", "100", "ksp", "maps", "out"],
            ksp=slice_for_bart(case.data), maps=slice_for_bart(case.maps[0].numpy()),
        )
    )[None]  # fmt: skip
    assert abs(psnr(found, case.truth) - psnr(ours, case.truth)) < 0.02
    assert np.linalg.norm(found - ours) < 2e-3 * np.linalg.norm(ours)


def test_the_method_is_that_solution(case: Case, ours: np.ndarray):
    length = case.problem.op.complex_op.norm()
    found = reconstruct(case.problem, "cg-sense", damping=DAMPING / length**2, iterations=100).volume.array
    assert abs(psnr(found, case.truth) - psnr(ours, case.truth)) < 0.02


def test_l1_wavelet_is_as_good_as_bart(case: Case, tmp_path: Path):
    """Default weight against the best of BART's over a range."""
    need_bart()
    figures = []
    for weight in (0.001, 0.002, 0.005, 0.01):
        found = bart(
            tmp_path, ["pics", "-S", "-l1", "-r", str(weight), "-i", "100", "ksp", "maps", "out"],
            ksp=slice_for_bart(case.data), maps=slice_for_bart(case.maps[0].numpy()),
        )  # fmt: skip
        figures.append(psnr(np.abs(found)[None], case.truth))
    ours = psnr(reconstruct(case.problem, "l1-wavelet").volume.array, case.truth)
    assert ours > max(figures) - 0.5


def test_espirit_agrees_with_bart_and_sigpy(tmp_path: Path):
    volume = head(SHAPE, (4.0, 2.0, 2.0))
    kspace = full_kspace(volume, 8, noise=2.0)
    ours = espirit(cropped(kspace, (24, 24)), SHAPE, SHAPE, (1, 2))[0]
    inside = torch.from_numpy(volume.array > 100)
    app = pytest.importorskip("sigpy.mri.app")
    theirs = app.EspiritCalib(kspace[:, 0].numpy(), calib_width=24, crop=0.8, show_pbar=False).run()[:, None]
    cosine = (ours.conj() * torch.from_numpy(theirs)).sum(dim=0).abs()[inside]
    assert float(cosine.min()) > 0.999
    need_bart()
    found = bart(tmp_path, ["ecalib", "-m1", "-r24", "-c0.8", "ksp", "out"], ksp=slice_for_bart(kspace.numpy()))
    found = np.moveaxis(found[:, :, 0], -1, 0)[:, None]
    cosine = (ours.conj() * torch.from_numpy(np.ascontiguousarray(found))).sum(dim=0).abs()[inside]
    assert float(cosine.mean()) > 0.999
    support = torch.linalg.vector_norm(ours, dim=0) > 0
    theirs_support = torch.from_numpy(np.linalg.norm(found, axis=0) > 0)
    assert float((support == theirs_support).double().mean()) > 0.95
