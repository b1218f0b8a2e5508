"""``reconstruct``: progress, stopping and resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.priors import FunctionPrior
from helpers.problems import blocks, projection_problem
from helpers.quick_runs import QUICK, SHAPE, never, problem, quick, smooth, start_volume, stop_at
from medrecon import reconstruct
from medrecon.engine import StepReport
from medrecon.errors import NonFinite, ResumeError
from medrecon.problem import Problem
from medrecon.samplers.settings import make_sampler


def test_a_pause_in_the_callback_is_no_part_of_the_pace(monkeypatch: pytest.MonkeyPatch):
    """By a clock that only the pauses move, nothing is left to wait for."""
    clock = [0.0]
    monkeypatch.setattr("medrecon.engine.time.perf_counter", lambda: clock[0])
    left: list[float] = []

    def callback(report: StepReport) -> None:
        left.append(report.remaining)
        clock[0] += 1000.0

    quick(callback=callback)
    assert left and max(left) == 0


def test_the_callback_hears_of_every_step():
    reports: list[StepReport] = []
    volumes = []

    def callback(report: StepReport) -> None:
        reports.append(report)
        volumes.append(report.volume())

    made = problem()
    result = quick(made=made, samples=2, callback=callback)
    assert [(r.stage, r.sample, r.step) for r in reports] == [("dds", s, n) for s in (0, 1) for n in (1, 2, 3, 4)]
    assert all(r.total_steps == 4 and r.remaining >= 0 for r in reports)
    assert [r.seconds for r in reports] == sorted(r.seconds for r in reports)
    assert reports[-1].remaining == 0
    assert [{**r.stats, "stage": r.stage, "sample": r.sample, "step": r.step} for r in reports] == result.stats
    assert all(v.quantity == "a.u." and v.geometry is made.geometry for v in volumes)
    assert not np.array_equal(volumes[0].array, volumes[3].array)


def test_a_stopped_run_gives_the_volume_reached():
    result = quick(callback=stop_at(2))
    assert result.status == "stopped"
    assert len(result.stats) == 2
    sampler, made = make_sampler("dds", QUICK), problem()
    system = replace(made.system(), start=blocks(SHAPE))
    from medrecon.noise import KeyedNoise

    state = sampler.init(system, KeyedNoise(0))
    for _ in range(2):
        state = sampler.step(system, state, KeyedNoise(0))
    np.testing.assert_array_equal(result.volume.array, state.estimate.numpy())


def test_stopping_in_the_baseline_gives_the_baseline():
    result = reconstruct(problem(), "dds", callback=stop_at(3), **QUICK)
    assert result.status == "stopped"
    assert len(result.stats) == 3
    np.testing.assert_array_equal(result.volume.array, result.baseline.array)


def test_stopping_in_the_second_sample_gives_the_first():
    one = quick()
    result = quick(samples=3, callback=stop_at(6))
    assert result.status == "stopped"
    np.testing.assert_array_equal(result.volume.array, one.volume.array)
    assert result.spread is None


def test_stopping_after_the_last_step_is_too_late():
    assert quick(callback=stop_at(4)).status == "done"


@pytest.mark.parametrize("count", [1, 3, 4, 6, 9])
def test_a_stopped_run_goes_on_where_it_was(count: int, tmp_path: Path):
    """Stopped in the first, second or third sample: the result has the bits of the uninterrupted run."""
    whole = quick(samples=3)
    path = tmp_path / "run.checkpoint"
    first = quick(samples=3, checkpoint=path, callback=stop_at(count))
    assert first.status == "stopped"
    assert path.exists()
    second = quick(samples=3, checkpoint=path)
    assert second.status == "done"
    assert len(second.stats) == 12 - count
    np.testing.assert_array_equal(second.volume.array, whole.volume.array)
    np.testing.assert_array_equal(second.spread.array, whole.spread.array)


@pytest.mark.parametrize("method", ["tv", "sirt", "asd-pocs"])
def test_a_stopped_classical_run_goes_on_where_it_was(method: str, tmp_path: Path):
    settings = {"iterations": 40} if method == "tv" else {"iterations": 4}
    path = tmp_path / "run.checkpoint"
    whole = reconstruct(problem(), method, **settings)
    reconstruct(problem(), method, checkpoint=path, callback=stop_at(3), **settings)
    again = reconstruct(problem(), method, checkpoint=path, **settings)
    np.testing.assert_array_equal(again.volume.array, whole.volume.array)


def other_data() -> Problem:
    made = problem()
    return replace(made, y=made.y + 1e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"method": "diffpir"},
        {"eta": 0.5},
        {"samples": 3},
        {"start": start_volume().with_array(start_volume().array + 0.01)},
        {"made": other_data()},
        {"made": problem(prior=FunctionPrior(smooth, name="other"))},
        {"made": problem(op=1.01 * projection_problem().op)},
        {"made": problem(lower_bound=None)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_checkpoint_of_another_run_is_refused(change: dict, tmp_path: Path):
    path = tmp_path / "run.checkpoint"
    quick(samples=2, checkpoint=path, callback=stop_at(2))
    content = path.read_bytes()
    with pytest.raises(ResumeError, match="belongs to another run"):
        quick(**({"samples": 2, "checkpoint": path} | change))
    assert path.read_bytes() == content


def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path: Path):
    path = tmp_path / "run.checkpoint"
    quick(checkpoint=path, callback=stop_at(2))
    path.write_bytes(path.read_bytes()[:-50])
    content = path.read_bytes()
    with pytest.raises(ResumeError, match=r"run.checkpoint: the checkpoint is damaged"):
        quick(checkpoint=path, callback=never)
    assert path.read_bytes() == content


def test_checkpoints_are_written_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A killed run loses the time since the last checkpoint at most; here there is one after every step."""
    monkeypatch.setattr("medrecon.engine._CHECKPOINT_SECONDS", 0.0)
    path, sizes = tmp_path / "run.checkpoint", []

    class Killed(BaseException):
        pass

    def callback(report: StepReport) -> None:
        sizes.append(path.stat().st_size if path.exists() else 0)
        if len(sizes) == 6:
            raise Killed

    with pytest.raises(Killed):
        quick(samples=2, checkpoint=path, callback=callback)
    assert min(sizes) > 0
    again = quick(samples=2, checkpoint=path)
    assert len(again.stats) == 2
    np.testing.assert_array_equal(again.volume.array, quick(samples=2).volume.array)


def poisoned(from_sigma: float) -> FunctionPrior:
    """Returns a NaN in the third slice once the noise level has fallen to ``from_sigma``."""

    def function(x: torch.Tensor, sigma: float) -> torch.Tensor:
        clean = smooth(x, sigma)
        if sigma <= from_sigma:
            clean[2, 0, 4, 4] = torch.nan
        return clean

    return FunctionPrior(function)


def test_a_nan_names_method_step_and_slice_and_keeps_the_last_good_state(tmp_path: Path):
    levels = make_sampler("dds", QUICK).levels()
    path = tmp_path / "run.checkpoint"
    with pytest.raises(NonFinite, match=r"dds, step 3, slice 2: the prior returned NaN"):
        quick(made=problem(prior=poisoned(1.001 * levels[2])), checkpoint=path)
    again = quick(checkpoint=path)
    assert [entry["step"] for entry in again.stats] == [3, 4]
    np.testing.assert_array_equal(again.volume.array, quick().volume.array)


def test_a_nan_in_a_solver_names_the_iteration():
    made = problem(prior=None)
    huge = replace(made, op=made.op, y=made.y * 1e30)
    with pytest.raises(NonFinite, match="cgls, step 1, iteration"):
        reconstruct(replace(huge, noise_model=None), "cgls", damping=1e38)
