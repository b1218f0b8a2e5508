"""`medrecon priors calibrate`: how wide the intervals around results of a prior must be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrecon.cli import console, options, running
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from medrecon.calibration import Calibration
    from medrecon.data.volume import Volume
    from medrecon.prior import NetworkPrior
    from medrecon.problem import Problem, System


def priors_calibrate(
    prior: Annotated[str, typer.Argument(help="Name, or .safetensors file: its card receives the calibration.")],
    pairs: Annotated[
        list[str], typer.Argument(metavar="SCAN=TRUTH...", help="Measured data and the volume that was measured.")
    ],
    method: Annotated[str | None, typer.Option("--method", help="A diffusion method. [that of auto]")] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Samples, as recon is to draw them.")] = 1,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the method; may be repeated.")
    ] = None,
    seed: options.Seed = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda:0.")] = "auto",
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Learn how wide intervals must be, on scans whose truth is known, and put it into the prior's card.

    Take volumes of people that the prior was not trained on, four or more, measured as the scans will be that it is
    for: `medrecon simulate` makes such scans. From then on `recon` with this prior, method and number of samples writes
    NAME-half-width. See docs/methods.md.
    """
    from dataclasses import asdict, replace

    from medrecon.calibration import fitting
    from medrecon.intervals import calibration_of, case_of, conditions
    from medrecon.prior import load_prior, update_card
    from medrecon.selection import diffusion_method

    loaded = load_prior(prior, device=running.device_name(device))
    chosen, said = method or diffusion_method(loaded), options.settings_of(settings)
    ready = [_ready(pair, loaded) for pair in pairs]
    if not overwrite and any(
        fitting(loaded.card.calibration, chosen, samples, said, conditions(each.system))[0] for each in ready
    ):
        raise _taken(loaded.card.name, chosen)
    results = []
    for each in ready:
        results.append(running.run(each.problem, chosen, said, samples=samples, seed=seed, judgement="none"))
        console.remark(f"{len(results)} of {len(ready)} done")
    cases = [case_of(result, e.system, e.truth, e.name) for result, e in zip(results, ready, strict=True)]
    found = calibration_of(cases, results[0], [each.system for each in ready])
    kept = tuple(other for other in loaded.card.calibration if not found.replaces(other))
    if len(kept) < len(loaded.card.calibration) and not overwrite:  # one sample, whatever number was asked for
        raise _taken(loaded.card.name, found.method)
    path = update_card(prior, replace(loaded.card, calibration=(*kept, found)))
    if as_json:
        console.result_json({"card": str(path), **asdict(found)})
    else:
        console.result(f"{path}: {found.method}, {found.samples} sample{'s' * (found.samples > 1)}, by {_of(found)}\n")
        console.result(_table(found))


def _taken(prior: str, method: str) -> UsageError:
    return UsageError(
        f"the prior has a calibration of {method} for such scans",
        where=prior,
        hint="Choose --overwrite to replace it.",
    )


@dataclass(frozen=True, eq=False)
class _Ready:
    """A scan and its truth, read and checked; equal truths are one volume and have one name."""

    problem: Problem
    system: System
    truth: Volume
    name: str


def _ready(pair: str, prior: NetworkPrior) -> _Ready:
    import numpy as np

    from medrecon.cli.stored import as_result
    from medrecon.data import Volume, read_scan, read_volume
    from medrecon.data.atomic import sha256_of_file
    from medrecon.data.reading import naming
    from medrecon.scans import problem_from_scan

    scan_name, equals, truth_name = pair.rpartition("=")
    if not equals or not scan_name or not truth_name:
        raise UsageError("a scan goes with its truth", found=pair, expected="SCAN=TRUTH")
    scan_file, truth_file = Path(scan_name), Path(truth_name)
    scan, known = read_scan(scan_file), read_volume(truth_file)
    with naming(scan_file.name):
        problem = problem_from_scan(scan, prior=prior)
        system = problem.system()
    with naming(truth_file.name):
        grid = Volume(np.broadcast_to(np.float32(0), problem.geometry.shape), problem.geometry, prior.card.quantity)
        truth = as_result(known, grid)
        system.internal(truth, "the truth")
    name = sha256_of_file(truth_file) if truth_file.is_file() else truth_name
    return _Ready(problem, system, truth, name)


def _of(found: Calibration) -> str:
    return {"spread": "their spread", "change": "its change from the classical volume"}[found.scale]


def _table(found: Calibration) -> str:
    rows = [
        (f"{level:.0%}", f"{factor:.3g}", *(f"{share:.1%}" for share in shares))
        for (level, factor), (_, *shares) in zip(found.factors, found.coverage, strict=True)
    ]
    header = ("interval", "factor", "least covered", "mean", "most covered")
    return (
        console.table(rows, header)
        + f"\n\n{found.volumes} volumes, each judged by the others; with a chance of {found.confidence:.0%} or more a "
        "new one that is like them is covered to the level or better"
    )
