"""Classical methods against direct solutions and what defines them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from helpers.operators import MatrixOperator, as_matrix
from helpers.problems import blocks, projection_problem
from helpers.runs import run, states
from medrecon.data.volume import Geometry
from medrecon.errors import UsageError
from medrecon.noise import KeyedNoise
from medrecon.physics.ct import CTOperator
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.noise import GaussianNoise
from medrecon.problem import Problem, System
from medrecon.samplers.asd_pocs import descend
from medrecon.samplers.settings import make_sampler

SHAPE = (3, 12, 10)


def system(views: int = 8, sigma: float = 0.05, shape: tuple[int, int, int] = SHAPE, **changes: object) -> System:
    problem = projection_problem(shape, views=views, sigma=sigma, with_prior=False)
    return replace(problem, **changes).system()


def solve(name: str, made: System, **settings: object) -> torch.Tensor:
    return run(make_sampler(name, settings), made).estimate


def error(made: System, x: torch.Tensor) -> float:
    return float((made.to_quantity(x) - blocks(tuple(made.geometry.shape))).square().mean().sqrt())


# --- direct and linear -------------------------------------------------------------------------------------


def test_direct_inversion_is_that_of_the_operator():
    made = system()
    expected = made.raw.op.direct_inverse(made.raw.y)
    torch.testing.assert_close(made.to_quantity(solve("fbp", made)), expected, atol=1e-6, rtol=0)


def test_direct_inversion_passes_its_settings_on():
    made, seen = system(), {}

    class Recorder(type(made.raw.op)):
        def direct_inverse(self, y: torch.Tensor, **settings: object) -> torch.Tensor:
            seen.update(settings)
            return torch.zeros(self.domain.shape)

    solve("fbp", system(op=Recorder(SHAPE, 8)), filter="cosine", cutoff=0.5)
    assert seen == {"filter": "cosine", "cutoff": 0.5}


def test_data_without_a_direct_inversion_say_so():
    made = system()
    with pytest.raises(UsageError, match="no direct inversion"):
        solve("fbp", replace(made, raw=replace(made.raw, op=2.0 * made.raw.op)))


@pytest.mark.parametrize("damping", [0.03, 0.3])
def test_cgls_converges_to_the_damped_weighted_least_squares(damping: float):
    """Weights differ by datum; the damping is relative to ``||A||^2 = 1``."""
    made = system()
    weights = torch.linspace(0.5, 2.0, made.y.numel()).reshape(made.y.shape)
    noise = _Weighted(weights)
    made = system(noise_model=noise)
    matrix = as_matrix(made.op).double()
    left = matrix.T @ matrix + damping * torch.eye(matrix.shape[1], dtype=torch.float64)
    expected = torch.linalg.solve(left, matrix.T @ made.y.double().reshape(-1)).reshape(SHAPE).float()
    torch.testing.assert_close(solve("cgls", made, iterations=300, damping=damping), expected, atol=2e-4, rtol=0)


class _Weighted(GaussianNoise):
    """A noise model that gives each datum the weight it is told."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__(1.0)
        object.__setattr__(self, "given", weights)

    def weights(self, y: torch.Tensor) -> torch.Tensor:
        return self.given  # type: ignore[attr-defined]


def test_more_iterations_of_cgls_fit_better():
    made = system()
    found = [made.discrepancy(solve("cgls", made, iterations=n)) for n in (1, 3, 10, 30)]
    assert found == sorted(found, reverse=True)


# --- SIRT --------------------------------------------------------------------------------------------------


def test_a_sweep_of_sirt_is_its_formula():
    """``x + C A' R (y - A x)``, then the bound; R and C are reciprocal sums of rows and columns of the matrix."""
    made = system()
    matrix, y = as_matrix(made.raw.op).double(), made.raw.y.double().reshape(-1)
    rows, columns = matrix.sum(1), matrix.sum(0)
    inverse = torch.where(rows > 1e-3 * rows.max(), 1 / rows.clamp_min(1e-9), 0)
    x = torch.zeros(len(columns), dtype=torch.float64)
    for count, state in enumerate(states(make_sampler("sirt", {"iterations": 3}), made, KeyedNoise(0))):
        if count:
            x = (x + (matrix.T @ (inverse * (y - matrix @ x))) / columns).clamp_min(0)
        torch.testing.assert_close(made.to_quantity(state.estimate).reshape(-1).double(), x, atol=1e-5, rtol=0)


def test_sirt_does_not_depend_on_the_scale_of_the_problem():
    made = system()
    scaled = system(op=100.0 * made.raw.op, y=100.0 * made.raw.y, noise_model=GaussianNoise(5.0))
    torch.testing.assert_close(solve("sirt", scaled, iterations=20), solve("sirt", made, iterations=20))


def test_sirt_without_noise_approaches_the_object():
    """8 views of 12 x 10 pixels determine it: the error falls from sweep to sweep."""
    made = system(views=16)
    made = replace(made, raw=replace(made.raw, y=made.raw.op(blocks(SHAPE))))
    errors = [error(made, solve("sirt", made, iterations=n)) for n in (1, 10, 100, 400)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02


# --- total variation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tv", "tv-slice", "asd-pocs"])
def test_total_variation_beats_least_squares_on_piecewise_constant_objects(name: str):
    """The reason for these methods: with five noisy views, less than half the error of the best of CGLS."""
    made = system(views=5, shape=(3, 20, 20))
    settings = {"iterations": 200} if name == "asd-pocs" else {}
    best = min(error(made, solve("cgls", made, iterations=n)) for n in (3, 6, 10, 20))
    assert error(made, solve(name, made, **settings)) < 0.6 * best


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.4])
def test_the_discrepancy_principle_brings_the_residual_to_the_noise(sigma: float):
    """Over a factor of 20 in noise; a tenth more or less is as near as the search gets."""
    made = system(views=20, sigma=sigma, shape=(3, 20, 20))
    last = run(make_sampler("tv", {"discrepancy": 1.0, "model_error": 0.0}), made)
    assert 0.9 < made.discrepancy(last.estimate) < 1.1


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.4])
def test_the_automatic_weight_is_near_the_best_at_every_noise(sigma: float):
    """With few views; with many, this object of a few flat blocks likes more weight than a patient does."""
    made = system(views=5, sigma=sigma, shape=(3, 20, 20))
    weight = run(make_sampler("tv", {}), made).stats["weight"]
    errors = [error(made, solve("tv", made, weight=weight * factor)) for factor in (0.2, 1.0, 5.0)]
    assert errors[1] < 1.15 * min(errors)
    assert errors[1] < 0.9 * max(errors)


def test_the_dual_survives_a_move_of_the_weight():
    """ADMM keeps duals divided by rho, and rho follows the weight: weight times dual is what must not jump."""
    made, automatic = system(sigma=0.3), make_sampler("tv", {"discrepancy": 1.0})
    for state in states(automatic, made, KeyedNoise(0)):
        if automatic.done(state):
            break
        weight = float(state.tensors["weight"])
        moved = automatic.step(made, state, KeyedNoise(0))
        stayed = make_sampler("tv", {"weight": weight}).step(made, state, KeyedNoise(0))
        for name in ("dual0", "dual1"):
            torch.testing.assert_close(
                moved.tensors[name] * float(moved.tensors["weight"]),
                stayed.tensors[name] * weight,
                rtol=1e-5,
                atol=1e-9,
            )
    assert weight != pytest.approx(float(next(states(automatic, made, KeyedNoise(0))).tensors["weight"]))


def test_a_given_weight_stays():
    last = run(make_sampler("tv", {"weight": 0.003}), system())
    assert last.stats["weight"] == 0.003


def objective(made: System, x: torch.Tensor, weight: float, axes: tuple[int, ...] = (0, 1, 2)) -> float:
    """``1/2 ||A x - y||^2 + weight e^2 TV(x)``."""
    data = float(made.data_residual(x).double().square().sum())
    return 0.5 * data + weight * made.data_error(0.01) ** 2 * made.total_variation(axes).value(x)


def test_total_variation_reaches_its_minimum():
    """The default number of iterations comes within 0.3 % of ten times as many, and no volume nearby is lower."""
    made, weight = system(shape=(3, 20, 20)), 5.0
    x = solve("tv", made, weight=weight, iterations=1000)
    lowest = objective(made, x, weight)
    assert objective(made, solve("tv", made, weight=weight), weight) < 1.003 * lowest
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-2):
        for _ in range(5):
            other = (x + size * torch.randn(x.shape, generator=generator)).clamp_min(0)
            assert objective(made, other, weight) > lowest


def test_a_heavy_weight_gives_a_flat_volume():
    assert float(solve("tv", system(sigma=0.3), weight=500.0, iterations=300).std()) < 1e-3


@pytest.mark.parametrize(("name", "joined"), [("tv", True), ("tv-slice", True), ("tv-plane", False)])
def test_which_variants_join_the_slices(name: str, joined: bool):
    """Slice-wise variation alone leaves the slices to themselves, up to the solver's global scalars."""
    settings = {"weight": 5.0} | ({"axes": (1, 2)} if name == "tv-plane" else {})
    method = "tv" if name == "tv-plane" else name
    made = system(sigma=0.3, shape=(6, 12, 10))
    rough = float(solve("tv", made, weight=5.0, axes=(1, 2)).diff(dim=0).abs().mean())
    found = float(solve(method, made, **settings).diff(dim=0).abs().mean())
    assert (found < 0.8 * rough) == joined


def test_thick_slices_count_less():
    """Differences along z are divided by the spacing: over 10 mm slices may differ more than over 1 mm."""
    thin, thick = (
        projection_problem((6, 12, 10), sigma=0.3, with_prior=False, spacing=(z, 1.0, 1.0)).system()
        for z in (1.0, 10.0)
    )
    a, b = (float(solve("tv", made, weight=5.0).diff(dim=0).abs().mean()) for made in (thin, thick))
    assert a < 0.8 * b


# --- ASD-POCS ----------------------------------------------------------------------------------------------


def test_asd_pocs_is_flatter_than_sirt_at_the_same_fit():
    made = system(views=6, sigma=0.1, shape=(3, 20, 20))
    x = solve("asd-pocs", made, iterations=100)
    runs = states(make_sampler("sirt", {"iterations": 400}), made, KeyedNoise(0))
    rival = next(s.estimate for s in runs if made.discrepancy(s.estimate) < made.discrepancy(x))
    variation = made.total_variation()
    assert variation.value(x) < 0.9 * variation.value(rival)


def fan_system(noise_model: GaussianNoise | None = None) -> System:
    """Noise-free data of 8 views that the operator itself made of the blocks: a perfect fit exists."""
    geometry = CTGeometry.fan((2, 24, 24), (2.0, 1.0, 1.0), 8, source_origin=80.0, source_detector=120.0)
    op = CTOperator(geometry)
    y = op(blocks((2, 24, 24)))
    grid = Geometry.from_spacing((2, 24, 24), (2.0, 1.0, 1.0))
    return Problem(op, y, grid, noise_model=noise_model, lower_bound=0.0).system()


def test_asd_pocs_finds_the_flattest_volume_that_fits():
    """Data without noise: the residual falls below half a percent, total variation stays below that of SIRT at its
    best, and near that of the object, which is the flattest volume that fits."""
    made = fan_system()
    x = solve("asd-pocs", made, iterations=100, model_error=0.001)
    rival = solve("sirt", made, iterations=400)
    variation, truth = made.total_variation(), blocks((2, 24, 24))
    assert made.discrepancy(x) < 0.005
    assert variation.value(x) < 0.9 * variation.value(rival)
    assert variation.value(x) == pytest.approx(variation.value(made.from_quantity(truth)), rel=0.1)
    assert error(made, x) < 0.5 * error(made, rival)


def test_subsets_of_views_need_fewer_sweeps():
    """The reason for ordered subsets: after five sweeps over eight views the misfit is a third of that of one block."""
    made = fan_system()
    found = [
        made.discrepancy(solve("asd-pocs", made, iterations=5, subsets=n, alpha=0.0, relaxation_reduction=1.0))
        for n in (1, 8)
    ]
    assert found[1] < 0.4 * found[0]


@pytest.mark.parametrize("subsets", [1, 3, 8, 100])
def test_a_sweep_of_asd_pocs_is_its_formula(subsets: int):
    """``x + b C_s A_s' W R_s (y_s - A_s x)``, subset by subset, then the bound; from the dense matrix."""
    made = fan_system(_Weighted(torch.linspace(1.0, 4.0, 8)[:, None, None] * torch.ones(fan_system().y.shape)))
    op, y = made.raw.op, made.raw.y.double()
    matrix = as_matrix(op).double().reshape(8, -1, 2 * 24 * 24)
    weights = torch.linspace(1.0, 4.0, 8, dtype=torch.float64).sqrt()
    groups = [views for views, _ in op.view_subsets(subsets)]
    x = torch.zeros(2 * 24 * 24, dtype=torch.float64)
    for group in groups:
        part = matrix[group].flatten(0, 1)
        rows, w = part.sum(1), weights[group].repeat_interleave(matrix.shape[1])
        counted = rows > 1e-3 * matrix.sum(2).max()
        inverse = torch.where(counted, 1 / rows.clamp_min(1e-9), 0)
        columns = (w * counted) @ part
        inner = torch.where(columns > 1e-3 * columns.max(), 1 / columns.clamp_min(1e-9), 0)
        x = x + 0.7 * inner * (part.T @ (w * inverse * (y[group].flatten() - part @ x)))
    settings = {"iterations": 1, "subsets": subsets, "relaxation": 0.7, "descents": 1}
    _, state = states(make_sampler("asd-pocs", settings), made, KeyedNoise(0))
    found = made.to_quantity(state.estimate).reshape(-1).double()
    torch.testing.assert_close(found, x.clamp_min(0), atol=2e-5, rtol=0)


def test_operators_without_views_are_swept_in_one_block():
    made = system()
    plain = MatrixOperator(as_matrix(made.raw.op), SHAPE, made.raw.op.range.shape)
    # One sweep: the descents of later ones turn rounding in flat regions into directions
    single = solve("asd-pocs", made, iterations=1, subsets=1)
    torch.testing.assert_close(solve("asd-pocs", system(op=plain), iterations=1), single, atol=1e-5, rtol=0)
    assert not torch.allclose(solve("asd-pocs", made, iterations=1), single, atol=1e-3)


def test_a_descent_has_its_length_and_lowers_total_variation():
    made = system()
    variation, x = made.total_variation(), torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
    moved = descend(variation, x, 0.02, 1)
    assert float((moved - x).norm()) == pytest.approx(0.02, rel=1e-4)
    values = [variation.value(descend(variation, x, 0.02, n)) for n in (0, 1, 5, 20)]
    assert values == sorted(values, reverse=True)
    assert torch.equal(descend(variation, torch.full(SHAPE, 0.3), 0.02, 5), torch.full(SHAPE, 0.3))


def test_descents_are_shortened_only_where_they_undo_the_sweep_and_data_are_not_fitted():
    made = system()

    def sizes(**settings: object) -> list[float]:
        seen = states(make_sampler("asd-pocs", {"iterations": 12, **settings}), made, KeyedNoise(0))
        return [float(state.tensors["size"]) for state in seen][1:]

    empty, swept = states(make_sampler("asd-pocs", {"iterations": 1}), made, KeyedNoise(0))
    assert float(empty.estimate.norm()) == 0.0
    start = 0.01 * float(swept.estimate.norm())
    assert sizes(discrepancy=1e6) == pytest.approx([start] * 12)  # fitted: no reason to shorten
    assert sizes(discrepancy=0.0, largest_share=1e6) == pytest.approx([start] * 12)  # do not undo anything
    shrinking = sizes(discrepancy=0.0, largest_share=0.0, reduction=0.5)
    assert shrinking == pytest.approx([start * 0.5**n for n in range(1, 13)])
