"""What every registered method promises: purity, reproducibility, resuming, and a result that fits the data."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest
import torch

from helpers.priors import FunctionPrior
from helpers.problems import blocks, projection_problem
from helpers.runs import few_steps, run, states
from medrecon.checkpoint import RunKey, empty_progress, load_progress, save_progress
from medrecon.noise import KeyedNoise
from medrecon.physics.noise import GaussianNoise
from medrecon.problem import System
from medrecon.samplers import State, samplers
from medrecon.samplers.steppers import steppers
from medrecon.schedules import schedules

SHAPE = (5, 12, 10)
NAMES = [entry.name for entry in samplers if "modality" not in entry.meta]
"""Methods for any data; those for MR k-space alone are in test_mri_methods.py."""
DIFFUSION = [entry.name for entry in samplers if entry.value.needs_prior]
SLOW = {name: {"steps": 20} for name in ("mbir", "dps")} | {
    name: {"steps": 6, "cg_iterations": 30} for name in ("perturb-and-solve", "daps", "ddnm+", "repaint")
}
"""Settings of methods that approach the data by one gradient step at every noise level, and so need levels, or whose
draws have to be solved for."""


def system(shape: tuple[int, int, int] = SHAPE, *, start: bool = True, **changes: object) -> System:
    """Noisy projections, a small network as prior, and a rough volume to start from."""
    made = projection_problem(shape, **changes).system()
    rough = blocks(shape) + 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(9))
    return replace(made, start=rough if start else None)


def snapshot(state: State) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in state.tensors.items()} | {"estimate": state.estimate.clone()}


def assert_same(a: State, b: State) -> None:
    assert a.step == b.step
    assert torch.equal(a.estimate, b.estimate)
    assert a.tensors.keys() == b.tensors.keys()
    for name, value in a.tensors.items():
        assert torch.equal(value, b.tensors[name]), name


def test_all_methods_are_there():
    expected = {"fbp", "sirt", "cgls", "tv", "tv-slice", "asd-pocs", "dds", "diffpir", "ddnm", "pnp"}
    assert expected <= set(NAMES)


def test_every_method_and_stepper_is_described():
    text = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    for entry in (*samplers, *steppers, *schedules):
        assert f"`{entry.name}`" in text, entry.name


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_plain_values_with_defaults(name: str):
    """So that the command line, a configuration file and the report can carry them."""
    entry = samplers.entry(name)
    assert entry.summary.endswith(".")
    assert entry.meta["family"] == ("diffusion" if entry.value.needs_prior else "classical")
    for setting in fields(entry.value):
        assert setting.default is not MISSING
        assert isinstance(setting.default, bool | int | float | str | tuple)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_has_the_steps_that_it_announces(name: str):
    sampler, seen = few_steps(name), []
    for state in states(sampler, system(), KeyedNoise(0)):
        seen.append(state.step)
        assert tuple(state.estimate.shape) == SHAPE
        assert state.estimate.dtype == torch.float32
        assert torch.isfinite(state.estimate).all()
        assert all(isinstance(value, float | int) for value in state.stats.values())
    assert seen == list(range(sampler.total_steps + 1))
    assert sampler.done(state)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits(name: str):
    sampler = few_steps(name)
    torch.manual_seed(1)
    first = run(sampler, system(), seed=3)
    torch.manual_seed(2)
    torch.rand(5)
    assert_same(first, run(sampler, system(), seed=3))


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_and_the_sample_matter_to_stochastic_methods_alone(name: str):
    sampler = few_steps(name)
    first = run(sampler, system(), seed=3)
    for other in (run(sampler, system(), seed=4), run(sampler, system(), seed=3, sample=1)):
        assert torch.equal(first.estimate, other.estimate) != sampler.stochastic


@pytest.mark.parametrize("name", NAMES)
def test_a_step_changes_neither_state_nor_system_and_can_be_repeated(name: str):
    sampler, made, noise = few_steps(name), system(), KeyedNoise(0)
    untouched = made.y.clone(), made.start.clone(), made.raw.y.clone(), made.back_projection.clone()
    for state in states(sampler, made, noise):
        if sampler.done(state):
            break
        before = snapshot(state)
        first = sampler.step(made, state, noise)
        assert_same(replace(state, estimate=before["estimate"], tensors={k: before[k] for k in state.tensors}), state)
        assert_same(sampler.step(made, state, noise), first)
    for value, copy in zip((made.y, made.start, made.raw.y, made.back_projection), untouched, strict=True):
        assert torch.equal(value, copy)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_remembered_between_runs(name: str):
    """A run on other data in between, with the same sampler object, leaves no trace."""
    sampler, made = few_steps(name), system()
    first = run(sampler, made)
    run(sampler, system(sigma=0.3))
    assert_same(run(sampler, made), first)


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_resuming_at_any_step_gives_the_same_bits(name: str, start: bool, tmp_path: Path):
    """The state goes through a file, and the rest of the run starts in a new system, as in a new process.

    Without a start the volume is stored as the operator stores it, slices innermost.
    """
    sampler, noise, path = few_steps(name), KeyedNoise(2, 1), tmp_path / "run.ckpt"
    *before, last = states(sampler, system(start=start), noise)
    for state in before:
        save_progress(path, RunKey("key"), empty_progress(SHAPE, state))
        resumed, made = load_progress(path, RunKey("key")).state, system(start=start)
        assert_same(resumed, state)
        while not sampler.done(resumed):
            resumed = sampler.step(made, resumed, noise)
        assert_same(resumed, last)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("slice_batch", [1, 5])
def test_the_batch_changes_no_bit(name: str, slice_batch: int):
    """Of everything but the network, whose convolutions may round otherwise; here the prior works voxel by voxel."""
    made = system((7, 12, 10), prior=FunctionPrior(lambda x, sigma: x / (1 + sigma)))
    expected = run(few_steps(name), made)
    assert_same(run(few_steps(name), replace(made, slice_batch=slice_batch)), expected)


@pytest.mark.parametrize("name", DIFFUSION)
@pytest.mark.parametrize("slice_batch", [1, 3])
def test_the_batch_changes_rounding_only_with_a_network(name: str, slice_batch: int):
    """2e-6 per evaluation (tests of the network), carried through four steps."""
    expected = run(few_steps(name), system()).estimate
    found = run(few_steps(name), replace(system(), slice_batch=slice_batch)).estimate
    assert (found - expected).abs().max() < 5e-5 * expected.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_changes_rounding_only(name: str):
    """Sums are split by thread. A conjugate-gradient run carries a difference in the last bit to at most 1e-4."""
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(run(few_steps(name), system((9, 24, 20))).estimate)
    finally:
        torch.set_num_threads(threads)
    assert (results[0] - results[1]).abs().max() < 1e-4 * results[0].abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_the_result_explains_the_data(name: str):
    """With default settings but fewer steps, the residual is far below that of an empty volume.

    In some only the prior removes noise: these meet one that does, and whose samples have no lower bound.
    """
    slow = SLOW.get(name)
    made = system(prior=FunctionPrior(lambda x, sigma: x * (0.25 / (0.25 + sigma**2) if slow else 1)))
    made = replace(made, lower=None) if slow else made
    sampler = few_steps(name, **(slow or {"steps": 6})) if name in DIFFUSION else samplers.get(name)()
    found = made.discrepancy(run(sampler, made).estimate)
    assert found < (0.35 if slow else 0.2) * made.discrepancy(torch.zeros(SHAPE))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("fbp", "fdk", "cgls")])
def test_the_lower_bound_holds(name: str):
    """Attenuation is never negative; filtered back-projection and CGLS are linear and cannot know that."""
    sampler = samplers.get(name)() if name not in DIFFUSION else few_steps(name)
    estimate = run(sampler, system(sigma=0.5)).estimate
    assert float(estimate.min()) >= 0.0
    assert float(estimate.max()) > 0.1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("noise_model", [None, GaussianNoise(0.05)])
def test_empty_data_give_a_finite_volume(name: str, noise_model: GaussianNoise | None):
    """A scan of nothing: all data are exactly zero."""
    problem = projection_problem(prior=FunctionPrior(lambda x, sigma: x / (1 + sigma)))
    made = replace(problem, y=torch.zeros_like(problem.y), noise_model=noise_model).system()
    assert torch.isfinite(run(few_steps(name), made).estimate).all()


@pytest.mark.parametrize("name", NAMES)
def test_without_a_noise_model_a_method_still_works(name: str):
    made = replace(projection_problem(), noise_model=None).system()
    estimate = run(few_steps(name, **SLOW.get(name, {})), made).estimate
    assert torch.isfinite(estimate).all()
    assert made.discrepancy(estimate) < 0.8


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 12, 10), (3, 7, 9), (2, 1, 16)], ids=str)
def test_odd_and_flat_volumes(name: str, shape: tuple[int, int, int]):
    problem = projection_problem((*shape[:2], shape[2]))
    assert torch.isfinite(run(few_steps(name), problem.system()).estimate).all()


@pytest.mark.parametrize("name", NAMES)
def test_slices_far_apart_do_not_meet(name: str):
    """A change in the data of the last slice leaves the first where it was: nothing wraps around.

    Scalars of the solvers are global, so a little arrives; most with ASD-POCS, whose step is a share of all changes.
    """
    problem = projection_problem((9, 12, 10), prior=FunctionPrior(lambda x, sigma: x / (1 + sigma)))
    y = problem.y.clone()
    y[:, -1] *= 1.5
    first, second = (run(few_steps(name), replace(problem, y=data).system()).estimate for data in (problem.y, y))
    changed = (first - second).abs().amax(dim=(1, 2))
    assert float(changed[0]) < (0.3 if name == "asd-pocs" else 0.05) * float(changed[-1])


@pytest.mark.parametrize("name", DIFFUSION)
def test_the_evaluations_are_counted(name: str):
    counted = []

    def prior(x: torch.Tensor, sigma: float) -> torch.Tensor:
        counted.append(len(x))
        return x

    sampler = few_steps(name)
    run(sampler, system(prior=FunctionPrior(prior)))
    assert sum(counted) == sampler.evaluations() * SHAPE[0]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in DIFFUSION])
def test_classical_methods_evaluate_nothing(name: str):
    assert samplers.get(name)().evaluations() == 0
