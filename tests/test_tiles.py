"""Networks on parts of slices: tiles give what the whole slice gives, patches what their density says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from helpers.priors import SMALL, card, random_denoiser, small_network_prior
from helpers.problems import blocks, gaussian_case, projection_problem
from medrecon import reconstruct
from medrecon.data.volume import Volume
from medrecon.errors import UsageError
from medrecon.network import Denoiser
from medrecon.prior import NetworkPrior
from medrecon.tiles import PatchDenoiser, TiledDenoiser


def noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Convolutions(Denoiser):
    """Looks ``reach`` pixels far, and has a grid of its own: blocks of ``multiple`` pixels are averaged."""

    guides, mapped, multiple = 1, False, 4

    def __init__(self, reach: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(1, 1, 3, padding=1) for _ in range(reach))
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=0.5)
        self.requires_grad_(False)

    def forward(self, x: Tensor, sigma: Tensor, guide: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(x))
        blocks = nn.functional.avg_pool2d(x, self.multiple)
        x = x + nn.functional.interpolate(blocks, scale_factor=self.multiple)
        return x if guide is None else x + guide


# --- tiles -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(48, 48), (32, 100), (96, 64), (20, 24)])
@pytest.mark.parametrize("guided", [True, False])
def test_tiles_give_what_the_whole_slice_gives(shape: tuple[int, int], guided: bool):
    """Three layers and a block look 6 pixels far at most: less than a quarter of the overlap."""
    inner, x, level = Convolutions(), noise((2, 1, *shape)), torch.ones(1)
    guide = noise((2, 1, *shape), 1) if guided else None
    torch.testing.assert_close(TiledDenoiser(inner, 60, 28)(x, level, guide), inner(x, level, guide))


def test_where_the_network_looks_farther_only_the_fades_differ():
    """Tiles of 64 that share 16: a quarter is 4 pixels, ten layers look ten."""
    inner, x, level = Convolutions(reach=10), noise((1, 1, 64, 160)), torch.ones(1)
    difference = (TiledDenoiser(inner, 64, 16)(x, level) - inner(x, level)).abs()[0, 0].amax(0)
    inside = torch.ones(160, dtype=torch.bool)
    for edge in (48, 64, 96, 112):
        inside[edge - 16 : edge + 16] = False
    assert float(difference[~inside].max()) > 1e-5
    assert float(difference[inside].max()) < 1e-6


def test_a_step_between_tiles_fades():
    """Answers that differ by one from tile to tile become a slope over half of the overlap."""

    class Level(Convolutions):
        def forward(self, x: Tensor, sigma: Tensor, guide: Tensor | None = None) -> Tensor:
            return torch.full_like(x, float(x[0, 0, 0, 0] > 0))

    x = torch.ones(1, 1, 64, 112)
    x[..., :40] = -1
    row = TiledDenoiser(Level(), 64, 16)(x, torch.ones(1))[0, 0, 0]
    assert float(row[:52].max()) == 0 and float(row[60:].min()) == 1
    assert float(row.diff().max()) < 0.13


@pytest.mark.parametrize(("size", "overlap"), [(62, 28), (64, 30), (64, 36), (64, 0), (0, 0)])
def test_tiles_that_do_not_fit_are_refused(size: int, overlap: int):
    with pytest.raises(UsageError, match=r"tiles do not fit.*multiples of 4"):
        TiledDenoiser(Convolutions(), size, overlap)


def test_a_prior_on_tiles_reconstructs():
    """One tile is the slice itself; smaller ones change something, for the norms of the network see less."""
    problem = projection_problem((3, 40, 36), prior=small_network_prior())
    start = Volume(blocks((3, 40, 36)).numpy(), problem.geometry)
    settings = {"steps": 2, "cg_iterations": 3, "judgement": "none", "start": start}
    whole = reconstruct(problem, "pnp", **settings).volume.array
    prior = problem.prior
    assert isinstance(prior, NetworkPrior)
    one = reconstruct(replace(problem, prior=prior.tiled(64)), "pnp", **settings).volume.array
    torch.testing.assert_close(torch.from_numpy(one), torch.from_numpy(whole), atol=1e-5, rtol=0)
    many = reconstruct(replace(problem, prior=prior.tiled(16, 8)), "pnp", **settings).volume.array
    assert 0 < float(abs(many - whole).mean()) < 0.2 * float(abs(whole).mean())


def test_tiles_can_be_differentiated():
    x = noise((1, 1, 32, 48)).requires_grad_()
    tiled, inner = TiledDenoiser(Convolutions(2), 32, 16), None
    inner = tiled.inner
    level, weight = torch.ones(1), noise((1, 1, 32, 48), 3)
    found, expected = (torch.autograd.grad((d(x, level) * weight).sum(), x)[0] for d in (tiled, inner))
    torch.testing.assert_close(found[..., 30:34], expected[..., 30:34], atol=1e-3, rtol=0)
    assert TiledDenoiser(random_denoiser(SMALL), 32, 16).multiple == SMALL.multiple


# --- patches ---------------------------------------------------------------------------------------------------
SIZE = 4


def gaussian_patches(sigma: float) -> Tensor:
    """Gain ``C (C + s^2)^-1`` of patches whose covariance falls with the distance, ``(16, 16)``."""
    pixels = torch.cartesian_prod(torch.arange(SIZE), torch.arange(SIZE)).double()
    covariance = torch.exp(-torch.cdist(pixels, pixels) / 3)
    return (covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(SIZE**2))).float()


def gaussian_model(x: Tensor, sigma: Tensor, positions: Tensor) -> Tensor:
    return (x.flatten(1) @ gaussian_patches(float(sigma)).T).reshape(x.shape)


def test_gaussian_patches_over_all_grids_equal_the_closed_form():
    """The mean over all grids is one filter: how a pixel at each place of a patch sees another, over all places."""
    x, sigma = noise((2, 1, 9, 11)), 0.7
    prior = PatchDenoiser(gaussian_model, SIZE)
    grids = [(row, column) for row in range(SIZE) for column in range(SIZE)]
    found = sum(prior.with_grid(*grid)(x, torch.tensor([sigma])) for grid in grids) / len(grids)
    gain = gaussian_patches(sigma).reshape(SIZE, SIZE, SIZE, SIZE)
    kernel = torch.zeros(2 * SIZE - 1, 2 * SIZE - 1)
    for row, column in grids:
        kernel[SIZE - 1 - row : 2 * SIZE - 1 - row, SIZE - 1 - column : 2 * SIZE - 1 - column] += gain[row, column]
    expected = nn.functional.conv2d(x, kernel[None, None] / len(grids), padding=SIZE - 1)
    torch.testing.assert_close(found, expected)


def test_drawn_grids_approach_it():
    x, level = noise((1, 1, 12, 12)), torch.tensor([0.7])
    prior = PatchDenoiser(gaussian_model, SIZE)
    grids = [(row, column) for row in range(SIZE) for column in range(SIZE)]
    exact = sum(prior.with_grid(*grid)(x, level) for grid in grids) / len(grids)
    drawn = sum(prior.at(turn)(x, level) for turn in range(400)) / 400
    single = prior.at(0)(x, level)
    assert float((drawn - exact).square().mean()) < 0.01 * float((single - exact).square().mean())
    assert {prior.at(turn).place for turn in range(400)} == set(grids)
    assert torch.equal(single, prior.at(0)(x, level))


@pytest.mark.parametrize("grid", [(0, 0), (3, 1)])
def test_a_patch_is_told_where_it_lies(grid: tuple[int, int]):
    """Positions count over the slice with a border of one patch, along x first."""
    x = torch.zeros(1, 1, 9, 11)

    def told(channel: int) -> Tensor:
        prior = PatchDenoiser(lambda x, sigma, positions: positions[:, channel, None], SIZE)
        return prior.with_grid(*grid)(x, torch.ones(1))[0, 0]

    across, down = told(0), told(1)
    assert float(across[0, 0]) == pytest.approx(2 * SIZE / (11 + 2 * SIZE - 1) - 1)
    assert float(across[5, 10]) == pytest.approx(-float(across[0, 0]), abs=1e-6)
    torch.testing.assert_close(across, across[:1].expand(9, -1))
    torch.testing.assert_close(down, down[:, :1].expand(-1, 11))
    assert float(down[8, 0]) == pytest.approx(-float(down[0, 0]), abs=1e-6)


def test_a_run_moves_the_grid():
    """Every step asks another grid: seams of one fixed grid cost more than those that move."""
    case = gaussian_case(3, 24)
    distance = torch.cartesian_prod(torch.arange(8), torch.arange(8)).double()
    offsets = (distance[:, None] - distance[None]).long() % 24
    covariance = torch.fft.ifft2(case.spectrum).real.double()[offsets[..., 0], offsets[..., 1]]

    def model(x: Tensor, sigma: Tensor, positions: Tensor) -> Tensor:
        gain = covariance @ torch.linalg.inv(covariance + float(sigma) ** 2 * torch.eye(64))
        return (x.flatten(1) @ gain.T.float()).reshape(x.shape)

    class Fixed(PatchDenoiser):
        def at(self, turn: int) -> PatchDenoiser:
            return self

    facts = card(sigma_max=10.0, range=(-1.0, 1.0))
    settings = {"steps": 12, "sigma_max": 2.0, "sigma_min": 0.01, "tv": 0.0, "trust": 1.0, "judgement": "none"}
    found = {}
    for kind in (PatchDenoiser, Fixed):
        prior = NetworkPrior(kind(model, 8), facts)
        assert prior.whole
        case.problem.op.classical_methods = ("cgls",)
        result = reconstruct(replace(case.problem, prior=prior), "pnp", **settings)
        found[kind] = case.psnr(torch.from_numpy(result.volume.array))
    assert found[PatchDenoiser] > found[Fixed] + 0.05
    assert found[PatchDenoiser] > case.psnr(torch.zeros(case.truth.shape)) + 3
