"""How often calibrated intervals hold the truth on patients that they were not learnt on: JSON lines, one a case.

    python tests/bench/quality_coverage.py --methods refine pnp posterior:8 --views 8 16 --slices 8 -o coverage.jsonl
    python tests/bench/quality_coverage.py --methods refine --views 8 --slices 8 -o coverage.jsonl --card

Factors are learnt on patients of ``val``, for each method (``NAME`` or ``NAME:SAMPLES`` or
``NAME:SAMPLES:key=value,...``) and each number of views, and judged on patients of ``test``: the share of the voxels of
the body within the interval at each level, its mean half-width, and what the raw scale would hold if it were a standard
deviation. The line of a calibration has ``"kind": "calibration"`` and is what a prior's card holds; ``--card`` puts
those into the card of the prior. Lines that the output file holds already are not made again.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from cases import Journal, parsed
from quality_ct import TEST_PATIENTS, measured, patient

from medrecon.calibration import LEVEL, Calibration, Case
from medrecon.engine import Result, reconstruct
from medrecon.intervals import calibration_of, case_of
from medrecon.prior import NetworkPrior, load_prior, update_card
from medrecon.problem import System

CALIBRATION_PATIENTS = (
    "212", "230", "206", "222", "202", "204", "208", "210", "213", "216", "218", "219", "224", "231",
)  # fmt: skip
"""Of ``val``: with four, the factor of the largest of them counts, and intervals are wider than they need to be."""

_NORMAL = 1.645  # half-width of 90 % of a normal distribution, in standard deviations


def main() -> None:
    """Learn and judge what the output file does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", default=["refine"], help="NAME[:SAMPLES[:key=value,...]]")
    parser.add_argument("--views", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--photons", type=float, default=1e5)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--prior", default="ct")
    parser.add_argument("--val", nargs="+", default=list(CALIBRATION_PATIENTS))
    parser.add_argument("--test", nargs="*", default=list(TEST_PATIENTS))
    parser.add_argument("--card", action="store_true", help="put the calibrations into the prior's card")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    prior, learnt = load_prior(options.prior), []
    for views in options.views:
        for method in options.methods:
            calibration = _calibration(options, prior, method, views)
            learnt.append(calibration)
            for name in options.test:
                _judge(options, prior, method, views, name, calibration)
    if options.card:
        kept = [other for other in prior.card.calibration if not any(new.replaces(other) for new in learnt)]
        update_card(options.prior, replace(prior.card, calibration=(*kept, *learnt)))


def _calibration(options: argparse.Namespace, prior: NetworkPrior, method: str, views: int) -> Calibration:
    key = f"val/{'+'.join(options.val)}/{_key(options, method, views)}"
    if (line := Journal(options.output).find(key)) is not None:
        return Calibration.from_dict(line["calibration"])
    made = [_case(options, prior, method, views, "val", name) for name in options.val]
    cases, results, systems = zip(*made, strict=True)
    calibration = calibration_of(cases, results[0], systems)
    record = {"case": key, "kind": "calibration", "views": views, "calibration": asdict(calibration)}
    Journal(options.output).write(record)
    return calibration


def _judge(
    options: argparse.Namespace, prior: NetworkPrior, method: str, views: int, name: str, calibration: Calibration
) -> None:
    key = f"test/{name}/{'+'.join(options.val)}/{_key(options, method, views)}"
    if key in Journal(options.output):
        return
    case, result, _ = _case(options, prior, method, views, "test", name)
    width = calibration.factor() * float(np.mean(case.scales + calibration.floor)) * prior.card.scale
    record = {
        "case": key, "kind": "test", "patient": name, "method": result.method, "views": views,
        "samples": calibration.samples, "discrepancy": result.assessment["discrepancy"],
        "coverage": {f"{level:g}": case.covered(factor, calibration.floor) for level, factor in calibration.factors},
        "raw_coverage": case.covered(_NORMAL, 0.0), "half_width": width, "level": LEVEL,
        "rms_error": float(np.sqrt(np.mean(case.errors**2))) * prior.card.scale,
    }  # fmt: skip
    Journal(options.output).write(record)


def _case(
    options: argparse.Namespace, prior: NetworkPrior, method: str, views: int, split: str, name: str
) -> tuple[Case, Result, System]:
    label, samples, text = (*method.split(":", 2), "", "")[:3]
    settings = parsed(f"{label}:{text}")[1]
    truth = patient(split, name, options.slices)
    problem = replace(measured(truth, views, options.photons, seed=0), prior=prior)
    result = reconstruct(problem, label, samples=int(samples or 1), judgement="none", **settings)
    system = problem.system()
    return case_of(result, system, truth, name), result, system


def _key(options: argparse.Namespace, method: str, views: int) -> str:
    return f"{views}/{options.photons:g}/{options.slices}/{method}/{options.prior}"


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    main()
