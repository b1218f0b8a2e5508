"""`medrecon priors calibrate`: how wide the intervals around results of a prior must be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrecon.cli import console, options, running
from medrecon.errors import UsageError

if TYPE_CHECKING:
    from medrecon.calibration import Calibration, Case
    from medrecon.engine import Result
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
    from medrecon.intervals import calibration_of, conditions
    from medrecon.prior import load_prior, update_card
    from medrecon.selection import diffusion_method

    loaded = load_prior(prior, device=running.device_name(device))
    chosen, said = method or diffusion_method(loaded), options.settings_of(settings)
    results: list[tuple[Case, Result, System]] = []
    for scan, truth in [_files(pair) for pair in pairs]:
        problem = _problem(scan, loaded)
        here = conditions(problem.system())
        if not overwrite and fitting(loaded.card.calibration, chosen, samples, said, here)[0] is not None:
            raise UsageError(
                f"the prior has a calibration of {chosen} for such scans", where=loaded.card.name,
                hint="Choose --overwrite to replace it.",
            )  # fmt: skip
        results.append(_case(problem, truth, running.run(problem, chosen, said, samples=samples, seed=seed,
                                                         judgement="none")))  # fmt: skip
        console.remark(f"{scan.name}: done, {len(results)} of {len(pairs)}")
    cases, made, systems = zip(*results, strict=True)
    found = calibration_of(cases, made[0], systems)
    kept = tuple(other for other in loaded.card.calibration if not found.replaces(other))
    path = update_card(prior, replace(loaded.card, calibration=(*kept, found)))
    if as_json:
        console.result_json({"card": str(path), **asdict(found)})
    else:
        console.result(f"{path}: {found.method}, {found.samples} sample{'s' * (found.samples > 1)}, by {_of(found)}\n")
        console.result(_table(found))


def _files(pair: str) -> tuple[Path, Path]:
    scan, equals, truth = pair.rpartition("=")
    if not equals or not scan or not truth:
        raise UsageError("a scan goes with its truth", found=pair, expected="SCAN=TRUTH")
    return Path(scan), Path(truth)


def _problem(file: Path, prior: NetworkPrior) -> Problem:
    from medrecon.data import read_scan
    from medrecon.data.reading import naming
    from medrecon.scans import problem_from_scan

    scan = read_scan(file)
    with naming(file.name):
        return problem_from_scan(scan, prior=prior)


def _case(problem: Problem, file: Path, result: Result) -> tuple[Case, Result, System]:
    """What the truth in a file says of a result; equal files are one volume."""
    from medrecon.cli.stored import as_result
    from medrecon.data import read_volume
    from medrecon.data.atomic import sha256_of_file
    from medrecon.data.reading import naming
    from medrecon.intervals import case_of

    system, truth = problem.system(), as_result(read_volume(file), result.volume)
    name = sha256_of_file(file) if file.is_file() else str(file)
    with naming(file.name):
        return case_of(result, system, truth, name), result, system


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
