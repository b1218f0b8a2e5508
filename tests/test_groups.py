"""Priors of several neighbouring slices at once: how slices are grouped, and what it brings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from helpers.priors import FunctionPrior, card, random_denoiser
from helpers.problems import GaussianCase, gaussian_case, projection_problem
from medrecon import reconstruct
from medrecon.errors import InputError, UsageError
from medrecon.network import EDMDenoiser, UNetConfig
from medrecon.prior import GaussianPrior, NetworkPrior

CORRELATION = 2.0
EXACT = {"steps": 12, "sigma_max": 2.0, "sigma_min": 0.005, "tv": 0.0, "trust": 1.0, "judgement": "none"}


class GaussianGroup(GaussianPrior):
    """Exact denoiser of ``groups`` neighbouring slices of `gaussian_case`: a spectrum in them, correlation across."""

    def __init__(self, case: GaussianCase, groups: int) -> None:
        super().__init__(case.spectrum)
        self._groups = groups
        distance = torch.arange(groups)[:, None] - torch.arange(groups)[None]
        self.weights, self.modes = torch.linalg.eigh(torch.exp(-(distance.float() ** 2) / (4 * CORRELATION**2)))

    @property
    def groups(self) -> int:
        return self._groups

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        spectrum = self.weights.clamp_min(0)[:, None, None] * self.spectrum
        turned = torch.einsum("gm,nghw->nmhw", self.modes, x)
        clean = torch.fft.ifft2(torch.fft.fft2(turned) * spectrum / (spectrum + sigma**2)).real
        return torch.einsum("gm,nmhw->nghw", self.modes, clean)


@pytest.fixture(scope="module")
def case() -> GaussianCase:
    """All measured, with much noise: a slice then says something of its neighbours."""
    made = gaussian_case(12, 24, correlation=CORRELATION, share=1.0, sigma=0.3)
    made.problem.op.classical_methods = ("cgls",)
    return made


def solved(case: GaussianCase, prior: GaussianPrior, **settings: object) -> Tensor:
    result = reconstruct(replace(case.problem, prior=prior), "pnp", **(EXACT | settings))
    return torch.from_numpy(result.volume.array)


def test_one_slice_at_a_time_is_as_before(case: GaussianCase):
    torch.testing.assert_close(solved(case, GaussianGroup(case, 1)), solved(case, GaussianPrior(case.spectrum)))


def test_a_group_knows_what_its_neighbours_say(case: GaussianCase):
    """Slices that resemble each other, with noise of their own: the exact prior of three is better than that of one."""
    single, three = (case.psnr(solved(case, GaussianGroup(case, groups))) for groups in (1, 3))
    assert three > single + 0.5
    assert case.roughness(solved(case, GaussianGroup(case, 3))) < 1.2


def test_groups_move_from_step_to_step(case: GaussianCase):
    """With groups that stay, errors step between them; over the steps of a run those places move."""

    def seams(x: Tensor) -> float:
        steps = (x - case.truth).diff(dim=0).square().mean(dim=(1, 2))
        return float(steps[2::3].mean() / torch.cat([steps[0::3], steps[1::3]]).mean())

    prior = GaussianGroup(case, 3)
    system = replace(case.problem, prior=prior).system()
    x = case.truth + 0.3 * torch.randn(case.truth.shape, generator=torch.Generator().manual_seed(4))
    fixed = system.denoise(x, 0.3)
    moved = sum(system.at(turn).denoise(x, 0.3) for turn in range(3)) / 3
    assert seams(fixed) > 1.3
    assert seams(moved) < 0.5 * (1 + seams(fixed))
    assert projection_problem().system().at(1).turn == 0  # a prior of single slices has nothing to move


@pytest.mark.parametrize(("turn", "expected"), [(0, [0, 3, 4]), (1, [0, 2, 4]), (2, [0, 1, 4]), (3, [0, 3, 4])])
def test_every_slice_is_in_a_whole_group(turn: int, expected: list[int]):
    """Seven slices in threes: the last group is moved inwards, and so is a first one that begins before the volume."""

    class Three(FunctionPrior):
        groups = 3

    system = projection_problem((7, 12, 10), prior=Three(lambda x, sigma: x)).system().at(turn)
    stacks = torch.cat(list(system._stacks(7)))
    assert stacks[:, 0].tolist() == expected
    assert set(stacks.flatten().tolist()) == set(range(7))
    x = torch.randn(7, 12, 10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(system.denoise(x, 0.1), x)


def test_a_network_takes_groups_with_their_guides():
    """Untrained, it combines the noisy slices with the same slices of the guide, whatever stands around them."""
    config = UNetConfig(channels_in=8, channels_out=3, widths=(8, 16), blocks=1, embedding=16)
    prior = NetworkPrior(EDMDenoiser(config, 0.4), card(architecture=config.to_dict(), guide_error=0.1))
    assert (prior.groups, prior.guides) == (3, 5)
    problem = projection_problem((7, 12, 10), prior=prior)
    generator = torch.Generator().manual_seed(2)
    x, guide = (torch.randn(7, 12, 10, generator=generator) for _ in range(2))
    system, sigma = replace(problem.system(), start=guide), 0.3
    rows, columns = system.region
    expected = (x * 0.1**2 + guide * sigma**2) / (sigma**2 + 0.1**2)
    for turn in range(3):
        found = system.at(turn).denoise(x, sigma)
        torch.testing.assert_close(found[:, rows, columns], expected[:, rows, columns], atol=1e-5, rtol=0)


def test_a_trained_group_runs_in_every_method_of_the_loop():
    config = UNetConfig(channels_in=3, channels_out=3, widths=(8, 16), blocks=1, embedding=16)
    prior = NetworkPrior(random_denoiser(config), card(architecture=config.to_dict()))
    result = reconstruct(projection_problem(prior=prior), "dds", steps=3, cg_iterations=3, judgement="none")
    assert result.volume.array.shape == (5, 12, 10)


def test_what_groups_cannot_do_is_refused():
    class Six(FunctionPrior):
        groups = 6

    problem = projection_problem(prior=Six(lambda x, sigma: x))
    with pytest.raises(InputError, match=r"more slices at once.*found 5.*6 or more"):
        problem.system().denoise(torch.zeros(5, 12, 10), 0.1)
    with pytest.raises(UsageError, match=r"takes groups of slices.*found 6"):
        problem.system().denoise_vjp(torch.zeros(5, 12, 10), 0.1, torch.zeros(5, 12, 10))
