"""How often the assessment is right: planted faults on real patients, one JSON line per trial, and the figures of all.

    python tests/bench/quality_trust.py --split val --views 8 16 --slices 8 -o trust.jsonl
    python tests/bench/quality_trust.py --summary trust.jsonl

Every patient is measured once and reconstructed by total variation and by the prior. The trials are then

``good``       the result as it is: any fault that the verdict names is a false alarm;
``shift``      the same data reconstructed with a rotation axis that is off by 1.5 pixels;
``angles``     with angles that span 6 % too little;
``units``      with data in the wrong unit (line integrals 1.5 times too large);
``foreign``    an MR head given out as Hounsfield units, which the prior has never seen: a wrong prior for the object;
``prior``      the same data with the prior of MR heads: caught if it is refused;
``disguised``  the same with the card of the CT prior on that of MR heads, which no check of units can see;
``insert``     a disc of 8 mm radius and 150 HU put into the result where the data cannot see it (its unmeasured part).

A fault is caught when the verdict names one or the run is refused; an insert is scored by the map of what only the
prior says, at its place, against the same place without it. Patients of ``test`` are never used to choose a threshold.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from cases import Journal, caught
from quality_ct import TEST_PATIENTS, VAL_PATIENTS, measured, patient
from quality_mismatch import off_axis

import realdata
from medrecon.assess import assess, measured_part, object_mask, rms
from medrecon.consistency import moment_mismatch
from medrecon.data.formats import read_volume
from medrecon.data.volume import Geometry, Volume
from medrecon.engine import Result, reconstruct
from medrecon.errors import InputError
from medrecon.physics.ct import CTOperator
from medrecon.prior import NetworkPrior, Prior, load_prior
from medrecon.problem import Problem, System
from medrecon.selection import diffusion_method

_INSERTS = 4  # places for each patient
_RADIUS_MM, _HU = 8.0, 150.0
_FIGURES = ("discrepancy", "uneven", "null_share", "prior_only", "prior_error", "brightness", "moments")


def main() -> None:
    """Run the trials that the output file does not hold yet, then print their summary."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--patients", nargs="*")
    parser.add_argument("--views", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--photons", type=float, default=1e5)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--prior", default="ct")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--summary", type=Path)
    parser.add_argument("--moments", action="store_true", help="those of the views alone, of all patients of the split")
    options = parser.parse_args()
    if options.moments:
        _moments(options)
        return
    if options.summary is None:
        prior = load_prior(options.prior)
        journal = Journal(options.output)
        for name in options.patients or (TEST_PATIENTS if options.split == "test" else VAL_PATIENTS):
            for views in options.views:
                key = f"{options.split}/{name}/{views}/{options.photons:g}/{options.slices}/{options.prior}"
                if key not in journal:
                    journal.write({"case": key, "trials": list(_trials(options, name, views, prior))}, "done")
    records = Journal(options.summary or options.output).records()
    sys.stdout.write(json.dumps(summary([trial for line in records for trial in line["trials"]]), indent=2) + "\n")


def _moments(options: argparse.Namespace) -> None:
    """The smallest and largest misfit of the moments, by trial, over patients and numbers of views."""
    files = sorted((realdata.root() / "ct" / options.split).glob("openkbp_*.nii.gz"))
    found: dict[str, list[float]] = {}
    for name in (file.name.removeprefix("openkbp_").removesuffix(".nii.gz") for file in files):
        truth = patient(options.split, name, options.slices)
        for views in options.views:
            problem = measured(truth, views, options.photons, seed=0)
            for trial, changed in [("good", problem), *_faults(problem)]:
                found.setdefault(trial, []).append(moment_mismatch(changed) or 0.0)
    for trial, values in found.items():
        sys.stdout.write(f"{trial}: {len(values)} scans, {min(values):.4f} to {max(values):.4f} columns\n")


def _trials(options: argparse.Namespace, name: str, views: int, prior: NetworkPrior) -> Iterator[dict[str, object]]:
    truth = patient(options.split, name, options.slices)
    problem = measured(truth, views, options.photons, seed=0)
    good = _reconstructed(problem, prior)
    yield {"trial": "good", **_figures(good)}
    for trial, changed in _faults(problem):
        yield {"trial": trial, **_figures(_reconstructed(changed, prior))}
    foreign = measured(_foreign(truth.geometry), views, options.photons, seed=0)
    yield {"trial": "foreign", **_figures(_reconstructed(foreign, prior))}
    other = load_prior("mr")
    try:
        yield {"trial": "prior", **_figures(_reconstructed(problem, other))}
    except InputError as error:
        yield {"trial": "prior", **dict.fromkeys(_FIGURES), "level": "refused", "reasons": [error.what]}
    yield {"trial": "disguised", **_figures(_reconstructed(problem, _disguised(other, prior)))}
    yield from _inserts(replace(problem, prior=prior), good)


def _disguised(prior: NetworkPrior, as_if: NetworkPrior) -> NetworkPrior:
    """A prior under the card of another, but for what its network is."""
    own = {name: getattr(prior.card, name) for name in ("architecture", "sigma_data", "guide_error", "sha256")}
    return NetworkPrior(prior.denoiser, replace(as_if.card, calibration=(), **own))


def _reconstructed(problem: Problem, prior: Prior) -> Result:
    start = reconstruct(problem, "tv", judgement="none").volume
    return reconstruct(replace(problem, prior=prior), diffusion_method(prior), start=start, quantity="HU")


def _faults(problem: Problem) -> Iterator[tuple[str, Problem]]:
    """The same data with a description that is wrong in one way."""
    geometry = problem.op.geometry
    yield "shift", off_axis(problem, 1.5)
    yield "angles", replace(problem, op=CTOperator(replace(geometry, angles=np.asarray(geometry.angles) * 0.94)))
    yield "units", replace(problem, y=problem.y * 1.5)


def _foreign(grid: Geometry) -> Volume:
    """Slices of an MR head on the grid of a patient, its brightest tissue at 800 HU."""
    file = sorted(Path(realdata.root(), "mr", "train").glob("*.nii*"))[0]
    source = read_volume(file).as_orientation("LPS").array
    from scipy.ndimage import zoom

    middle = source[source.shape[0] // 2 - 4 :: 2][: grid.shape[0]]
    factors = [n / m for n, m in zip(grid.shape, middle.shape, strict=True)]
    values = np.clip(zoom(middle, factors, order=1), 0, None)
    values = values / np.percentile(values, 99.5) * 1800 - 1000
    return Volume(values.astype(np.float32), grid, "HU")


def _figures(result: Result) -> dict[str, object]:
    found = result.assessment
    return {
        "level": found["verdict"]["level"],
        "reasons": found["verdict"]["reasons"],
        "discrepancy": found["discrepancy"],
        "uneven": found["residual"]["worst_over_median"],
        "null_share": found["null_space"]["share"],
        "prior_only": found["prior_only"]["relative_to_contrast"],
        "prior_error": found["prior_fit"]["error_ratio"],
        "brightness": found["prior_fit"]["brightness"],
        "moments": found.get("moments", {}).get("columns"),
    }


def _inserts(problem: Problem, good: Result) -> Iterator[dict[str, object]]:
    """The score at a place with an insert that the data cannot see, and without it."""
    system = problem.system()
    x, classical = (_internal(system, volume) for volume in (good.volume, good.baseline))
    inside = object_mask(system, x)
    generator = np.random.default_rng(0)
    places = np.argwhere(inside.numpy())
    before = assess(system, x, classical=classical)
    for _ in range(_INSERTS):
        disc = _disc(system.geometry, places[generator.integers(len(places))])
        lesion = disc.float() * _HU / 1000
        hidden = lesion - measured_part(system, lesion)[0]
        after = assess(system, x + hidden, classical=classical)
        yield {
            "trial": "insert",
            "score": rms(after.maps["prior-only"][disc]),
            "score_without": rms(before.maps["prior-only"][disc]),
            "hidden_share": (rms(hidden) / rms(lesion)) ** 2,
            "level": after.figures["verdict"]["level"],
            "discrepancy": after.figures["discrepancy"],
        }


def _internal(system: System, volume: Volume) -> Tensor:
    turned = volume.to_quantity(system.raw.quantity, system.raw.water)
    return system.from_quantity(torch.from_numpy(turned.array))


def _disc(grid: Geometry, centre: np.ndarray) -> Tensor:
    z, y, x = np.indices(grid.shape)
    distance = np.hypot((y - centre[1]) * grid.spacing[1], (x - centre[2]) * grid.spacing[2])
    return torch.from_numpy((distance <= _RADIUS_MM) & (np.abs(z - centre[0]) <= 1))


def summary(records: list[dict]) -> dict[str, object]:
    """Share of each fault that was caught, false alarms, and the area under the curve of the inserts."""
    values: dict[str, object] = {}
    for trial in ("good", "shift", "angles", "units", "foreign", "prior", "disguised"):
        chosen = [r for r in records if r["trial"] == trial]
        if chosen:
            name = "false_alarms" if trial == "good" else f"caught_{trial}"
            values[name] = {"share": float(np.mean([caught(r) for r in chosen])), "trials": len(chosen)}
            for figure in ("discrepancy", "uneven", "moments", "prior_error", "brightness"):
                numbers = [r[figure] for r in chosen if r[figure] is not None]
                values[name][figure] = [float(f(numbers)) for f in (np.min, np.median, np.max)] if numbers else None
    inserts = [r for r in records if r["trial"] == "insert"]
    if inserts:
        with_it, without = (np.array([r[key] for r in inserts]) for key in ("score", "score_without"))
        values["insert_auc"] = float(
            np.mean((with_it[:, None] > without[None]) + 0.5 * (with_it[:, None] == without[None]))
        )
        values["inserts"] = len(inserts)
    return values


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    main()
