"""Every method with one prior on the same data, at several numbers of network evaluations: one JSON line per case.

    python tests/bench/quality_methods.py --problems ct:8 ct:16 mri:8 -o docs/results/methods.jsonl
    python tests/bench/quality_methods.py --problems ct:8 --methods mbir dds --budgets 50 2000 --slices 4 -o long.jsonl

``ct:VIEWS`` is a held-out patient, ``mri:ACCELERATION`` the held-out head under gaussian1d lines; both are measured as
in quality_ct.py and quality_mri.py, whose rules on ``test`` and ``val`` hold here too. Each method runs with its own
defaults and as many steps as the budget of evaluations per slice allows; all start from the same total-variation
volume. That volume and what ``auto`` makes of the data stand beside them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import quality_ct
import quality_mri
from cases import Journal, parsed

from medrecon.data.volume import Volume
from medrecon.engine import reconstruct
from medrecon.errors import UsageError
from medrecon.metrics import compare_volumes
from medrecon.mri import mri_problem
from medrecon.prior import load_prior
from medrecon.problem import Problem
from medrecon.samplers import samplers
from medrecon.samplers.settings import make_sampler
from medrecon.simulate_mri import simulate_kspace

PROBLEMS = ("ct:8", "ct:16", "mri:8")
BUDGETS = (10, 20, 50, 100)
PLANES = ("axial", "coronal", "sagittal")
_FAST = "diffpir:eta=0,stepper=unipc"  # the deterministic flow by a solver of high order
_NOT_HERE = ("repaint",)  # for data that are voxels of the volume itself
_NEAR = "sigma_max=1"  # with few steps `mbir` needs a first level near the contrast of the volume


def methods() -> list[str]:
    """All diffusion methods of the registry, and the flow by a better stepper."""
    names = [name for name in samplers.names() if samplers.get(name).needs_prior and name not in _NOT_HERE]
    return [*(f"{name}:{_NEAR}" if name == "mbir" else name for name in names), _FAST]


def steps_within(method: str, budget: int) -> int | None:
    """The most steps of a method whose evaluations stay within the budget; None where not even one does."""
    name, settings = parsed(method)
    for steps in range(budget, 0, -1):
        try:
            if make_sampler(name, settings | {"steps": steps}).evaluations() <= budget:
                return steps
        except UsageError:  # too few steps for this method
            return None
    return None


def main() -> None:
    """Run the cases that the output file does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--split", choices=("val", "test", "train"), default="test")
    parser.add_argument("--problems", nargs="+", default=PROBLEMS, help="ct:VIEWS or mri:ACCELERATION")
    parser.add_argument("--methods", nargs="+", default=methods(), help="name or name:key=value,key=value")
    parser.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, help="network evaluations per slice")
    parser.add_argument("--subject", help="patient or head; by default the first of the split")
    parser.add_argument("--slices", type=int, default=12, help="SSIM across slices takes 11 or more")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    for problem in options.problems:
        for seed in options.seeds:
            _cases(options, problem, seed)


def _subject(options: argparse.Namespace, kind: str) -> str:
    """The one that was asked for, or the first of the split."""
    test, other = (
        (quality_ct.TEST_PATIENTS, quality_ct.VAL_PATIENTS)
        if kind.startswith("ct:")
        else (quality_mri.TEST, quality_mri.TRAIN)
    )
    return options.subject or (test if options.split == "test" else other)[0]


def _posed(options: argparse.Namespace, kind: str, name: str, seed: int) -> tuple[Volume, Problem, float | None]:
    """Truth, problem with the bundled prior of the modality, and the data range of PSNR if not the usual."""
    modality, amount = kind.split(":")
    if modality == "ct":
        truth = quality_ct.patient(options.split, name, options.slices)
        problem, reach = quality_ct.measured(truth, int(amount), 1e5, seed), None
    else:
        truth = quality_mri.subject(options.split, name, options.slices)
        problem = mri_problem(simulate_kspace(truth, "gaussian1d", float(amount), coils=8, noise=0.01, seed=seed))
        reach = quality_mri.data_range(truth)
    return truth, replace(problem, prior=load_prior("ct" if modality == "ct" else "mr")), reach


def _cases(options: argparse.Namespace, kind: str, seed: int) -> None:
    """All methods and budgets on one measurement."""
    journal, posed, start = Journal(options.output), None, None
    subject = _subject(options, kind)
    tried = [("tv", 0), ("auto", 0), *((m, b) for b in options.budgets for m in options.methods)]
    for method, budget in tried:
        case = f"{options.split}/{subject}/{options.slices}/{kind}/{seed}/{method}/{budget}"
        name, settings = parsed(method)
        if budget:
            steps = steps_within(method, budget)
            if steps is None:
                continue
            settings["steps"] = steps
        if case in journal:
            continue
        posed = posed or _posed(options, kind, subject, seed)
        truth, problem, reach = posed
        if method != "tv" and start is None:
            start = reconstruct(replace(problem, prior=None), "tv", judgement="none").volume
        peak = _reset_peak()
        began = time.perf_counter()
        result = reconstruct(
            replace(problem, prior=None) if method == "tv" else problem, name, seed=seed, start=start,
            judgement="none", quantity=truth.quantity, **settings,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        figures = compare_volumes(result.volume, truth, **({} if reach is None else {"data_range": reach}))
        start = result.volume if method == "tv" else start
        keys = ("psnr", "z_roughness", *(f"ssim_{plane}" for plane in PLANES))
        record = {
            "case": case, "problem": kind, "subject": subject, "slices": options.slices, "seed": seed, "method": method,
            "chosen": result.method, "budget": budget, "steps": settings.get("steps"), "seconds": seconds,
            "evaluations": result.provenance["evaluations_per_slice"],
            "memory_mib": _peak() if peak else None, "discrepancy": result.assessment["discrepancy"],
        } | {key: figures[key] for key in keys}  # fmt: skip
        journal.write(record, f"{figures['psnr']:.2f} dB, z {figures['z_roughness']:.2f}, {seconds:.1f} s")


def _reset_peak() -> bool:
    """Start the process's peak memory anew; only Linux can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak() -> float:
    """Peak resident memory since then, MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    main()
