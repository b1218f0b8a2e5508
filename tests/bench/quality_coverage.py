"""How often calibrated intervals hold the truth on patients that they were not learnt on: JSON lines, one a case.

    python tests/bench/quality_coverage.py --methods refine pnp posterior:8 --problems ct:8 ct:16 -o coverage.jsonl
    python tests/bench/quality_coverage.py --methods refine --problems mri:8 --slices 16 -o coverage.jsonl --card

Factors are learnt on patients of ``val`` (for MRI on heads, most of which the prior was trained on), for each method
(``NAME`` or ``NAME:SAMPLES`` or ``NAME:SAMPLES:key=value,...``) and each number of views (acceleration of lines), and
judged on those of ``test``: the share of the voxels of the body within the interval at each level, its mean half-width,
and what the raw scale would hold if it were a standard deviation. The line of a calibration has
``"kind": "calibration"`` and is what a prior's card holds; ``--card`` puts those into the card of the prior. Lines that
the output file holds already are not made again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from cases import Journal, parsed
from quality_ct import TEST_PATIENTS, measured, patient
from quality_mri import TEST as TEST_HEADS
from quality_mri import subject

from medrecon.calibration import LEVEL, Calibration, Case
from medrecon.data.volume import Volume
from medrecon.engine import Result, reconstruct
from medrecon.intervals import calibration_of, case_of
from medrecon.mri import mri_problem
from medrecon.prior import NetworkPrior, load_prior, read_card, update_card
from medrecon.problem import Problem, System
from medrecon.simulate_mri import simulate_kspace

CALIBRATION_PATIENTS = (
    "212", "230", "206", "222", "202", "204", "208", "210", "213", "216", "218", "219", "224", "231",
)  # fmt: skip
"""Of ``val``: with four, the factor of the largest of them counts, and intervals are wider than they need to be."""

CALIBRATION_HEADS = ("eun_T1", "colin27_T1", "adi_MEMPRAGE", "stroke_FLAIR", "uih_a_T1", "uih_b_T1")
"""Of ``train``: one of every person with slices of 1 mm. The prior was validated on two and trained on four,
whose errors are smaller: these can only widen the intervals, as of six the largest factor counts."""

_NORMAL = 1.645  # half-width of 90 % of a normal distribution, in standard deviations


def main() -> None:
    """Learn and judge what the output file does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", default=["refine"], help="NAME[:SAMPLES[:key=value,...]]")
    parser.add_argument("--problems", nargs="+", default=["ct:8", "ct:16"], help="ct:VIEWS or mri:ACCELERATION")
    parser.add_argument("--photons", type=float, default=1e5)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--prior", help="by default the bundled one of the modality")
    parser.add_argument("--val", nargs="+")
    parser.add_argument("--test", nargs="*")
    parser.add_argument("--card", action="store_true", help="put the calibrations into the prior's card")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    for kind in options.problems:
        bench = _Bench.of(options, kind)
        learnt = [bench.calibration(method) for method in options.methods]
        for method, calibration in zip(options.methods, learnt, strict=True):
            for name in bench.test:
                bench.judge(method, name, calibration)
        if options.card:
            card = read_card(bench.name)
            kept = [other for other in card.calibration if not any(new.replaces(other) for new in learnt)]
            update_card(bench.name, replace(card, calibration=(*kept, *learnt)))


@dataclass(frozen=True, eq=False)
class _Bench:
    """One kind of problem: who to learn on, who to judge on, and how they are measured."""

    options: argparse.Namespace
    kind: str
    name: str
    prior: NetworkPrior
    val: Sequence[str]
    test: Sequence[str]

    @classmethod
    def of(cls, options: argparse.Namespace, kind: str) -> _Bench:
        ct = kind.startswith("ct:")
        name = options.prior or ("ct" if ct else "mr")
        usual = (CALIBRATION_PATIENTS, TEST_PATIENTS) if ct else (CALIBRATION_HEADS, TEST_HEADS)
        test = usual[1] if options.test is None else options.test
        return cls(options, kind, name, load_prior(name), options.val or usual[0], test)

    def posed(self, name: str, *, held_out: bool) -> tuple[Volume, Problem]:
        """Truth and measurement."""
        modality, amount = self.kind.split(":")
        if modality == "ct":
            truth = patient("test" if held_out else "val", name, self.options.slices)
            problem = measured(truth, int(amount), self.options.photons, seed=0)
        else:
            truth = subject("test" if held_out else "train", name, self.options.slices)
            problem = mri_problem(simulate_kspace(truth, "gaussian1d", float(amount), coils=8, noise=0.01, seed=0))
        return truth, replace(problem, prior=self.prior)

    def key(self, method: str) -> str:
        modality, amount = self.kind.split(":")
        kind = f"{amount}/{self.options.photons:g}" if modality == "ct" else self.kind
        return f"{kind}/{self.options.slices}/{method}/{self.name}"

    def calibration(self, method: str) -> Calibration:
        """Learnt on the volumes to learn on."""
        key = f"val/{'+'.join(self.val)}/{self.key(method)}"
        journal = Journal(self.options.output)
        if (line := journal.find(key)) is not None:
            return Calibration.from_dict(line["calibration"])
        made = [self.case(method, name, held_out=False) for name in self.val]
        cases, results, systems = zip(*made, strict=True)
        found = calibration_of(cases, results[0], systems)
        amount = int(self.kind.split(":")[1])
        journal.write({"case": key, "kind": "calibration", "views": amount, "calibration": asdict(found)})
        return found

    def judge(self, method: str, name: str, calibration: Calibration) -> None:
        """How often the intervals hold one volume."""
        key = f"test/{name}/{'+'.join(self.val)}/{self.key(method)}"
        journal = Journal(self.options.output)
        if key in journal:
            return
        case, result, _ = self.case(method, name, held_out=True)
        unit = self.prior.card.scale  # HU; in MR what the prior takes for 1
        width = calibration.factor() * float(np.mean(case.scales + calibration.floor)) * unit
        covered = {f"{level:g}": case.covered(factor, calibration.floor) for level, factor in calibration.factors}
        journal.write({
            "case": key, "kind": "test", "patient": name, "method": result.method,
            "views": int(self.kind.split(":")[1]),
            "samples": calibration.samples, "discrepancy": result.assessment["discrepancy"],
            "coverage": covered,
            "raw_coverage": case.covered(_NORMAL, 0.0), "half_width": width, "level": LEVEL,
            "rms_error": float(np.sqrt(np.mean(case.errors**2))) * unit,
        })  # fmt: skip

    def case(self, method: str, name: str, *, held_out: bool) -> tuple[Case, Result, System]:
        """Errors and scales of one reconstruction."""
        label, samples, text = (*method.split(":", 2), "", "")[:3]
        truth, problem = self.posed(name, held_out=held_out)
        result = reconstruct(
            problem, label, samples=int(samples or 1), judgement="none", **parsed(f"{label}:{text}")[1]
        )
        system = problem.system()
        return case_of(result, system, truth, name), result, system


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    main()
