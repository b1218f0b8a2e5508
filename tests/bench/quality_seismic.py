"""Missing traces of held-out surveys: every method on the same holes, one JSON line per case.

    python tests/bench/quality_seismic.py -o results.jsonl                     # linear, POCS, rank reduction, TV
    python tests/bench/quality_seismic.py -o results.jsonl --methods refine --prior PRIOR   # on what auto finds without
    python tests/bench/quality_seismic.py --split model --methods refine:trust=0.1 -o tuning.jsonl --prior PRIOR
    python tests/bench/quality_seismic.py --split cubes --methods auto --prior seismic -o cubes.jsonl

Traces are taken out of complete real surveys (``--split test``: never trained on, and never used to choose a setting),
of cubes by other rules than those that priors learn from (``--split cubes``, see seismic_cubes.py: no setting either),
or of synthetic surveys with seeds of their own (``--split model``: for settings). Cases already in the output file are
skipped, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cases import Journal, needs_prior, parsed
from seismic_cubes import CUBES, SHAPE

import realdata
from medrecon.data import read
from medrecon.data.segy_writing import plain_axes
from medrecon.data.seismic_model import seismic_model
from medrecon.data.traces import State, Traces
from medrecon.engine import reconstruct
from medrecon.physics.seismic import make_trace_mask
from medrecon.prior import NetworkPrior, load_prior
from medrecon.scans import problem_from_scan
from medrecon.trace_metrics import compare_traces

TEST = ("f3.sgy", "f3_2lines.sgy", "viking_small.segy")
MODELS = {"volume": (48, 64, 128), "gathers": (16, 64, 128), "line": (1, 192, 192)}
_FIRST_SEED = 20_000  # of synthetic surveys that no prior was trained or validated on
HOLES = ("random:0.5", "lines:0.5", "hole:0.1", "regular:0.5")
CUBE_HOLES = ("random:0.5", "random:0.75", "regular:0.5", "gap:0.156")  # a gap of 10 columns
METHODS = ("linear", "pocs", "pocs-fan", "drr", "dip", "tv", "auto")


def survey(split: str, name: str) -> Traces:
    """A complete survey; of a synthetic one the name is ``KIND-NUMBER``."""
    if split == "cubes":
        kind, number = name.split("-")
        live = np.full(SHAPE[:2], State.live, np.uint8)
        return Traces(CUBES[kind](int(number)), live, *plain_axes(*SHAPE[:2]))
    if split == "model":
        kind, number = name.split("-")
        return seismic_model(kind, MODELS[kind], seed=_FIRST_SEED + int(number))
    content = read(realdata.need("seismic", split, name))
    assert isinstance(content, Traces)
    return content


def main() -> None:
    """Run the cases that the output file does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--split", choices=("test", "train", "cubes", "model"), default="test")
    parser.add_argument("--surveys", nargs="*", help="files of the split, or KIND-NUMBER of synthetic ones")
    parser.add_argument("--holes", nargs="+", help="KIND:SHARE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--prior", help="name or file; needed by diffusion methods")
    parser.add_argument("--start", default="auto", help="classical method that diffusions asked by name start from")
    parser.add_argument("--methods", nargs="+", default=METHODS, help="name or name:key=value,key=value")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    if options.prior is None and any(needs_prior(m, automatic=False) for m in options.methods):
        parser.error("diffusion methods need --prior")
    prior = load_prior(options.prior) if options.prior is not None else None
    kinds, count = (CUBES, 1) if options.split == "cubes" else (MODELS, 3)
    usual = TEST if options.split == "test" else tuple(f"{kind}-{n}" for kind in kinds for n in range(count))
    holes = options.holes or (CUBE_HOLES if options.split == "cubes" else HOLES)
    for name in options.surveys or usual:
        truth = survey(options.split, name)
        for kind, share in (hole.split(":") for hole in holes):
            for seed in options.seeds[:1] if kind == "regular" else options.seeds:  # which has no seed
                _cases(options, name, truth, kind, float(share), seed, prior)


def _cases(
    options: argparse.Namespace, name: str, truth: Traces, kind: str, share: float, seed: int,
    prior: NetworkPrior | None,
) -> None:  # fmt: skip
    """All methods on the same holes; a diffusion asked by name starts from what ``--start`` makes without a prior."""
    given = truth.keeping(make_trace_mask(kind, truth.data.shape[:2], share, seed=seed))
    problem, journal, start = problem_from_scan(given), Journal(options.output), None
    for method in options.methods:
        needs = needs_prior(method, automatic=prior is not None)
        case = f"{options.split}/{name}/{kind}/{share:g}/{seed}/{method}" + (f"/{options.prior}" if needs else "")
        label, settings = parsed(method)
        asked = needs and label != "auto"
        case += f"/from {options.start}" if asked and options.start != "auto" else ""
        if case in journal:
            continue
        if asked and start is None:
            start = reconstruct(problem, options.start, seed=seed, judgement="none").volume
        began = time.perf_counter()
        solved = replace(problem, prior=prior) if needs else problem
        judgement = "basic" if label == "auto" else "none"
        result = reconstruct(solved, label, seed=seed, judgement=judgement, start=start if asked else None, **settings)
        seconds = time.perf_counter() - began
        filled = given.with_volume(result.volume).to_volume()
        record = {
            "case": case, "survey": name, "holes": kind, "share": share, "missing": float(1 - given.live.mean()),
            "seed": seed, "method": method if needs or label != "auto" else "auto, classical", "chosen": result.method,
            "prior": options.prior if needs else None, "seconds": seconds,
        } | compare_traces(filled.array, truth.to_volume().array, ~given.live & truth.live)  # fmt: skip
        if (selection := result.assessment.get("selection")) is not None:
            record |= {"predicted": selection["errors"], "mixture": selection["mixture"]}  # type: ignore[index]
        if (width := result.layers.get("half-width")) is not None:
            record |= _interval(filled.array, truth.to_volume().array, width.array, ~given.live & truth.live)
            record["hidden"] = result.assessment["intervals"]["traces"]  # type: ignore[index]
        words = f"{record['snr_all']:.2f} dB, missing traces {record['snr_missing']:.2f} dB"
        journal.write(record, f"{words}, {seconds:.1f} s")


def _interval(filled: np.ndarray, truth: np.ndarray, width: np.ndarray, missing: np.ndarray) -> dict[str, float]:
    """Share of the missing samples within the interval for nine in ten, and its mean half-width over their loudness."""
    error, width, signal = ((part.transpose(0, 2, 1)[missing]) for part in (filled - truth, width, truth))
    loudness = float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))
    return {"covered": float(np.mean(np.abs(error) <= width)), "half_width": float(width.mean()) / loudness}


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    main()
