"""Problems and their normalised systems: checks at the border, units, whitening, and the prior's frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.operators import MatrixOperator, SliceProjector
from helpers.priors import SMALL, FunctionPrior, card, random_denoiser, small_network_prior
from helpers.problems import blocks, gaussian_case, projection_problem
from medrecon.data.volume import WATER, Geometry
from medrecon.errors import InputError, NonFinite, UsageError
from medrecon.physics.noise import GaussianNoise, PoissonNoise
from medrecon.prior import NetworkPrior
from medrecon.problem import Problem, System

SHAPE = (5, 12, 10)


def oriented(letters: str, shape: tuple[int, int, int] = SHAPE) -> Geometry:
    """A grid of the given shape whose axes x, y and z point as told."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for column, (letter, size) in enumerate(zip(letters, (1.0, 1.0, 2.0), strict=True)):
        row = next(row for row, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
        affine[row, column] = size if letter in "RAS" else -size
    assert Geometry(shape, affine).orientation == letters
    return Geometry(shape, affine)


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_data_that_are_not_numbers_are_refused(poison: float):
    problem = projection_problem()
    y = problem.y.clone()
    y[1, 2, 3] = y[0, 0, 0] = poison
    with pytest.raises(InputError, match=rf"NaN or infinity.*found 2 of {y.numel()} values") as caught:
        replace(problem, y=y)
    assert caught.value.exit_code == 3


def test_data_of_another_shape_or_type_are_refused():
    problem = projection_problem()
    with pytest.raises(InputError, match="wrong shape of the measured data"):
        replace(problem, y=problem.y[:-1])
    with pytest.raises(InputError, match="wrong dtype of the measured data"):
        replace(problem, y=problem.y.double())


def test_a_geometry_of_another_shape_is_refused():
    with pytest.raises(InputError, match="operator and geometry disagree"):
        replace(projection_problem(), geometry=Geometry.from_spacing((5, 10, 12), (1, 1, 1)))


def test_an_operator_that_meets_nothing_is_refused():
    problem = projection_problem()
    with pytest.raises(InputError, match="gives zero for every volume"):
        replace(problem, op=0.0 * problem.op).system()


def test_a_quantity_without_conversion_to_the_priors_is_refused():
    with pytest.raises(InputError, match="no conversion"):
        projection_problem(prior=small_network_prior(quantity="HU")).system()


def test_denoising_without_a_prior_says_what_is_missing():
    system = projection_problem(with_prior=False).system()
    with pytest.raises(InputError, match="needs a prior"):
        system.denoise(torch.zeros(SHAPE), 0.3)


# --- normalisation -----------------------------------------------------------------------------------------


def physical(prior_scale: float, photons: float | None = None, factor: float = 1.0) -> Problem:
    """Attenuation in 1/mm with a prior in HU: ``HU = prior_scale * network - 1000``."""
    op = factor * SliceProjector(SHAPE)
    model = PoissonNoise(photons) if photons else GaussianNoise(0.01 * factor)
    y = model.sample(op(blocks(SHAPE) * WATER), seed=1)
    prior = small_network_prior(quantity="HU", scale=prior_scale, offset=-1000.0, range=(-1000.0, 1500.0))
    return Problem(op, y, oriented("LPS"), "1/mm", prior, model, lower_bound=0.0)


@pytest.mark.parametrize("problem", [projection_problem(), physical(1000.0), physical(500.0, photons=1e4)])
def test_the_operator_has_norm_one(problem: Problem):
    assert problem.system().op.norm() == pytest.approx(1.0, rel=5e-3)


@pytest.mark.parametrize("problem", [projection_problem(), physical(1000.0), physical(500.0, photons=1e4)])
def test_the_system_is_the_whitened_problem(problem: Problem):
    """``A x - y`` of the system is the residual of the problem in units of its noise, times the noise level."""
    system, x = problem.system(), blocks(SHAPE) * (WATER if problem.quantity == "1/mm" else 1.0)
    assert problem.noise_model is not None
    expected = problem.noise_model.weights(problem.y).sqrt() * (problem.op(x) - problem.y) * system.noise_level
    found = system.data_residual(system.from_quantity(x))
    torch.testing.assert_close(found, expected, atol=1e-4 * float(system.y.abs().max()), rtol=0)


@pytest.mark.parametrize("offset", [-1000.0, 0.0, 300.0])
def test_units_of_the_prior(offset: float):
    """Water (0 HU) and air (-1000 HU) are where the card says, whatever the offset."""
    prior = small_network_prior(quantity="HU", scale=500.0, offset=offset, range=(-1000.0, 1500.0))
    system = replace(physical(1000.0), prior=prior).system()
    hounsfield = torch.tensor([-1000.0, 0.0, 1000.0])
    internal = system.from_quantity(WATER * (1 + hounsfield / 1000))
    torch.testing.assert_close(internal, (hounsfield - offset) / 500, atol=1e-5, rtol=0)
    torch.testing.assert_close(system.to_quantity(internal), WATER * (1 + hounsfield / 1000), atol=1e-8, rtol=0)
    assert system.lower == pytest.approx((-1000 - offset) / 500)


def test_the_units_of_operator_and_data_do_not_matter():
    """Data in other units, with their noise and operator, give the same system: settings mean the same everywhere."""
    a, b = physical(1000.0).system(), physical(1000.0, factor=1000.0).system()
    torch.testing.assert_close(a.y, b.y, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(a.back_projection, b.back_projection, rtol=1e-4, atol=1e-6)
    assert a.noise_level == pytest.approx(b.noise_level, rel=1e-4)


@pytest.mark.parametrize("photons", [None, 1e4, 1e3])
def test_the_truth_has_a_discrepancy_of_one(photons: float | None):
    """420 data: the standard error of a root-mean-square is 1 / sqrt(2 n) = 0.035; 3 of them. Weights from noisy
    counts add to that, 1 / counts each."""
    problem = physical(1000.0, photons)
    system = problem.system()
    found = system.discrepancy(system.from_quantity(blocks(SHAPE) * WATER))
    assert system.y.numel() >= 420
    assert found == pytest.approx(1.0, abs=0.105)


def test_the_discrepancy_in_closed_form():
    """For the exact posterior mean of a Gaussian field each measured mode k leaves ``sigma / sqrt(S + sigma^2)``
    of its noise, on average over data; 16 x 32 x 13 data give a standard error of 0.9 %."""
    case = gaussian_case()
    system = case.problem.system()
    left = (case.sigma**2 / (case.spectrum + case.sigma**2))[:, case.problem.op.columns]
    expected = float(left.mean().sqrt())
    assert 0.3 < expected < 0.8
    assert system.discrepancy(system.from_quantity(case.posterior_mean)) == pytest.approx(expected, rel=0.04)


def test_without_a_noise_model_the_discrepancy_is_relative_to_the_data():
    system = replace(projection_problem(), noise_model=None).system()
    assert system.noise_level == 0.0
    assert system.discrepancy(torch.zeros(SHAPE)) == pytest.approx(1.0)
    x = blocks(SHAPE)
    expected = torch.linalg.vector_norm(system.raw.op(x) - system.raw.y) / torch.linalg.vector_norm(system.raw.y)
    assert system.discrepancy(x) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("model", [None, GaussianNoise(0.1)])
def test_empty_data_have_a_finite_discrepancy(model: GaussianNoise | None):
    """A scan of nothing: all line integrals are zero."""
    problem = projection_problem()
    system = replace(problem, y=torch.zeros_like(problem.y), noise_model=model).system()
    assert system.discrepancy(torch.zeros(SHAPE)) == 0.0


def test_data_left_out_do_not_count():
    """With every second view unused: what they measured changes nothing, and they leave the discrepancy alone."""
    problem = projection_problem()
    used = torch.tensor([1.0, 0.0] * 3)[:, None, None]
    y = problem.y.clone()
    y[1::2] += 100.0
    a, b = (replace(problem, y=data, used=used).system() for data in (problem.y, y))
    assert torch.equal(a.back_projection, b.back_projection)
    assert a.data_count == problem.y.numel() // 2
    x = a.from_quantity(blocks(SHAPE))
    assert a.discrepancy(x) == b.discrepancy(x) == pytest.approx(1.0, abs=0.15)


# --- the prior's frame: orientation, region, slices ---------------------------------------------------------


def lopsided(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Not the same after a flip: adds a ramp along height and a steeper one along width."""
    height, width = x.shape[-2:]
    return x + torch.arange(height)[:, None] + 100 * torch.arange(width)


def system_of(letters: str, function=lopsided, **changes: object) -> System:
    problem = projection_problem(prior=FunctionPrior(function, orientation="LPS", **changes))
    return replace(problem, geometry=oriented(letters)).system()


@pytest.mark.parametrize(
    ("letters", "axes"), [("LPS", []), ("RPS", [2]), ("LAS", [1]), ("RAS", [1, 2]), ("RAI", [1, 2])]
)
def test_the_prior_sees_slices_in_its_own_orientation(letters: str, axes: list[int]):
    """A volume stored the other way round gives the mirrored result, exactly."""
    x = noise(SHAPE)
    expected = system_of("LPS").denoise(x, 0.3)
    assert torch.equal(system_of(letters).denoise(x.flip(axes), 0.3), expected.flip(axes))


@pytest.mark.parametrize("letters", ["LPS", "RAS", "ALS", "PIR"])
def test_a_prior_of_every_plane_sees_slices_as_they_are(letters: str):
    x = noise(SHAPE)
    expected = system_of("LPS").denoise(x, 0.3)
    problem = projection_problem(prior=FunctionPrior(lopsided, orientation="any"))
    assert torch.equal(replace(problem, geometry=oriented(letters)).system().denoise(x, 0.3), expected)


def test_a_prior_of_another_orientation_is_served():
    x = noise(SHAPE)
    expected = system_of("LPS").denoise(x, 0.3)
    system = system_of("RAS")
    assert system.prior is not None
    ras = replace(system, prior=FunctionPrior(lopsided, orientation="RAS"))
    assert torch.equal(ras.denoise(x, 0.3), expected)


@pytest.mark.parametrize("letters", ["LSP", "SPL", "PLS"])
def test_slices_that_are_not_axial_are_refused(letters: str):
    """The prior knows axial slices; a sagittal or transposed stack is not silently treated as one."""
    with pytest.raises(InputError, match="orientation"):
        system_of(letters).denoise(noise(SHAPE), 0.3)


def test_units_reach_the_prior():
    """Slices and noise level arrive in the card's quantity; the answer goes back into internal units."""
    seen = []

    def record(x: torch.Tensor, sigma: float) -> torch.Tensor:
        seen.append((x.clone(), sigma))
        return x + 250.0

    problem = physical(500.0)
    prior = FunctionPrior(record, quantity="HU", scale=500.0, offset=-1000.0, range=(-1000.0, 1500.0), sigma_max=900.0)
    system = replace(problem, prior=prior).system()
    x = noise(SHAPE)
    torch.testing.assert_close(system.denoise(x, 0.4), x + 0.5)
    assert seen[0][1] == pytest.approx(200.0)
    torch.testing.assert_close(torch.cat([s for s, _ in seen])[:, 0], x * 500 - 1000)


@pytest.mark.parametrize("slice_batch", [1, 2, 5, 100])
def test_every_slice_once_whatever_the_batch(slice_batch: int):
    calls = []

    def count(x: torch.Tensor, sigma: float) -> torch.Tensor:
        calls.append(len(x))
        return 2 * x

    system = replace(system_of("LPS", count), slice_batch=slice_batch)
    x = noise(SHAPE)
    assert torch.equal(system.denoise(x, 0.3), 2 * x)
    assert sum(calls) == SHAPE[0]
    assert max(calls) == min(slice_batch, SHAPE[0])


@pytest.mark.parametrize("slice_batch", [1, 2, 8])
def test_a_nan_of_the_prior_names_the_slice(slice_batch: int):
    def poison(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return torch.where(x == 7.0, torch.nan, x)

    system = replace(system_of("RAS", poison), slice_batch=slice_batch)
    x = torch.zeros(SHAPE)
    x[3, 4, 5] = 7.0
    with pytest.raises(NonFinite, match="slice 3"):
        system.denoise(x, 0.3)


@pytest.mark.parametrize("sigma", [0.001, 5.0])
def test_a_noise_level_that_the_prior_does_not_know_is_refused(sigma: float):
    """The card bounds the trained levels: 0.005 to 3."""
    system = projection_problem().system()
    with pytest.raises(UsageError, match="noise level"):
        system.denoise(noise(SHAPE), sigma)


def boxed(shape: tuple[int, int, int], rows: slice, columns: slice) -> torch.Tensor:
    start = torch.zeros(shape)
    start[1, rows, columns] = 0.5
    return start


def large(rows: slice, columns: slice, background: float = 0.0, function=lambda x, sigma: x + 1) -> System:
    """A volume of 100 x 90 pixels that is occupied in a box of one of its slices."""
    shape = (2, 100, 90)
    matrix = MatrixOperator(torch.ones(1, 18000), shape, (1,))
    prior = FunctionPrior(function, offset=-background, range=(0.3, 2.0))  # 0 a.u. is empty, not where the range begins
    problem = Problem(matrix, torch.ones(1), Geometry.from_spacing(shape, (1, 1, 1)), prior=prior)
    return replace(problem.system(), start=boxed(shape, rows, columns) + background)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (slice(40, 50), slice(30, 40)),
        (slice(0, 5), slice(85, 90)),
        (slice(0, 100), slice(0, 90)),
        (slice(10, 80), slice(44, 45)),
        (slice(97, 100), slice(0, 2)),
    ],
)
def test_the_region_holds_the_object_with_its_margin(rows: slice, columns: slice):
    region = large(rows, columns).region
    for found, box, size in zip(region, (rows, columns), (100, 90), strict=True):
        assert 0 <= found.start <= max(0, box.start - 6)
        assert min(size, box.stop + 6) <= found.stop <= size


def test_outside_the_region_the_prior_answers_its_background():
    system = large(slice(40, 50), slice(30, 40), background=-0.5)
    rows, columns = system.region
    assert (rows.stop - rows.start) * (columns.stop - columns.start) < 0.5 * 100 * 90
    clean = system.denoise(torch.zeros(2, 100, 90), 0.3)
    assert (clean[:, rows, columns] == 1.0).all()
    outside = torch.ones(100, 90, dtype=torch.bool)
    outside[rows, columns] = False
    assert (clean[:, outside] == -0.5).all()


@pytest.mark.parametrize(("scale", "offset", "air"), [(1e3, -1e3, 0.0), (500.0, 0.0, -2.0), (500.0, -1e3, 0.0)])
@pytest.mark.parametrize("lowest", [-1024.0, -200.0, 50.0])
def test_empty_space_is_air_wherever_the_range_begins(scale: float, offset: float, air: float, lowest: float):
    """A prior of soft tissue alone, or one with padding below air: outside of the region stands -1000 HU."""
    shape = (2, 100, 90)
    prior = FunctionPrior(
        lambda x, sigma: x, quantity="HU", scale=scale, offset=offset, range=(lowest, 1500.0), sigma_max=3000.0
    )
    matrix = MatrixOperator(torch.full((1, 18000), 0.01), shape, (1,))
    problem = Problem(matrix, torch.ones(1), Geometry.from_spacing(shape, (1, 1, 1)), "1/mm", prior, lower_bound=0.0)
    system = problem.system()
    system = replace(system, start=boxed(shape, slice(40, 50), slice(30, 40)) + air)
    rows, columns = system.region
    assert 0 < rows.start <= 34 and 0 < columns.start <= 24
    clean = system.denoise(torch.full(shape, air + 0.5), 0.3)
    assert float(clean[0, 0, 0]) == pytest.approx(air) == pytest.approx(system.lower)
    assert float(clean[0, 45, 35]) == pytest.approx(air + 0.5)


def test_without_a_start_or_in_an_empty_one_the_region_is_everything():
    whole = (slice(0, 100), slice(0, 90))
    assert replace(large(slice(4, 9), slice(4, 9)), start=None).region == whole
    assert large(slice(0, 0), slice(0, 0)).region == whole


# --- guides ------------------------------------------------------------------------------------------------


def guided_system(letters: str = "LPS", slice_batch: int = 8) -> tuple[System, torch.Tensor]:
    config = replace(SMALL, channels_in=4)
    prior = NetworkPrior(random_denoiser(config), card(architecture=config.to_dict()))
    start = noise(SHAPE, 4)
    problem = replace(projection_problem(prior=prior), geometry=oriented(letters))
    return replace(problem.system(), start=start, slice_batch=slice_batch), start


def test_guides_are_the_neighbouring_slices_of_the_start():
    """Below, at and above the slice; the first and last slices stand in for what lies beyond."""
    system, start = guided_system()
    assert isinstance(system.prior, NetworkPrior)
    guide = system._guide_slices(start, torch.arange(SHAPE[0])[:, None], system.prior)
    for z in range(SHAPE[0]):
        for channel, neighbour in enumerate((max(z - 1, 0), z, min(z + 1, SHAPE[0] - 1))):
            assert torch.equal(guide[z, channel], start[neighbour])


def test_guides_follow_the_orientation():
    system, start = guided_system("RAS")
    mirrored, _ = guided_system()
    x = noise(SHAPE)
    expected = replace(mirrored, start=start.flip((1, 2))).denoise(x.flip((1, 2)), 0.3)
    assert torch.equal(system.denoise(x, 0.3).flip((1, 2)), expected)


@pytest.mark.parametrize("slice_batch", [1, 2, 3])
def test_guides_do_not_depend_on_the_batch(slice_batch: int):
    """Rounding aside: torch chooses its loops by the size of the batch."""
    x = noise(SHAPE)
    expected = guided_system()[0].denoise(x, 0.3)
    found = guided_system(slice_batch=slice_batch)[0].denoise(x, 0.3)
    assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()
