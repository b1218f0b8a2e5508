"""`medrecon priors stats`, `search` and `suit`: what solvers want to know of a prior, added to its card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from medrecon.cli import console, options
from medrecon.errors import UsageError

_LEVELS = 24  # of the statistics

Prior = Annotated[str, typer.Argument(metavar="PRIOR", help="Name, or .safetensors file.")]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", help="NAME.safetensors, a copy of the weights; its card goes to NAME.json."),
]


def priors_stats(
    prior: Prior,
    volumes: Annotated[Path, typer.Argument(metavar="VOLUMES", help="Folder of volumes that it was not trained on.")],
    output: Output,
    slices: Annotated[int, typer.Option("--slices", min=1, help="Slices to measure it on.")] = 16,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Measure the model statistics that `--set stepper=dpm-v3` needs, on noisy slices of VOLUMES.

    The prior is asked five times about each slice at 24 noise levels.
    """
    import numpy as np

    from medrecon.data.atomic import check_target
    from medrecon.model_statistics import measured_statistics
    from medrecon.prior import copy_prior, load_prior
    from medrecon.training.describe import slices_for

    loaded = load_prior(prior)
    card = loaded.card
    check_target(output, overwrite=overwrite)
    levels = np.geomspace(card.sigma_max / card.scale, card.sigma_min / card.scale, _LEVELS).tolist()
    shown = slices_for(card, volumes, slices)
    with console.progress("statistics", len(shown) * len(levels)) as advance:
        found = measured_statistics(loaded, shown, levels, progress=lambda done, total: advance(done))
    written = copy_prior(prior, output, replace(card, statistics=found.to_dict()), overwrite=overwrite)
    if as_json:
        console.result_json({"output": str(output), "slices": len(shown), "statistics": written.statistics})
        return
    rows = [tuple(f"{value:.4g}" for value in row) for row in zip(*found.to_dict().values(), strict=True)]
    console.result(f"{output}: model statistics of {len(shown)} slices, network units\n")
    console.result(console.table(rows, ("level", "l", "s", "b")))


def priors_search(
    prior: Prior,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Measured data like those to be reconstructed.")],
    output: Output,
    method: Annotated[str, typer.Option("--method", help="The method that the levels are for.")] = "diffpir",
    steps: Annotated[str, typer.Option("--steps", metavar="N[,N...]", help="Numbers of steps.")] = "20",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the method; may be repeated.")
    ] = None,
    slices: Annotated[int, typer.Option("--slices", min=0, help="Middle slices that are used, 0 for all.")] = 8,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Search the noise levels with which few steps of a method come nearest to many, for `--set schedule=searched`.

    A search takes one reconstruction of 100 steps and at most 29 of N, of the middle slices; no truth is needed.
    """
    from medrecon.data import read_scan
    from medrecon.data.atomic import check_target
    from medrecon.data.reading import naming
    from medrecon.level_search import FoundSequence, runs_of_search, search_for_problem
    from medrecon.prior import copy_prior, load_prior
    from medrecon.scans import cut_slices, grid_of, measured_in_words, problem_from_scan

    counts, said = _counts(steps), options.settings_of(settings)
    loaded = load_prior(prior)
    check_target(output, overwrite=overwrite)
    scan = read_scan(data)
    with naming(data.name):
        depth = scan.volume_geometry.shape[0]
        if 0 < slices < depth and not getattr(scan, "is_cone", False):
            first = (depth - slices) // 2
            scan = cut_slices(scan, first, first + slices)
        problem = problem_from_scan(scan, prior=loaded, grid=grid_of(scan, None, None))
    found: dict[int, FoundSequence] = {}
    for count in counts:
        with console.progress(f"{method}, {count} steps", runs_of_search()) as advance:

            def note(done: int, total: int, advance: console.Advance = advance) -> None:
                advance(done)

            found[count] = search_for_problem(problem, method, said | {"steps": count}, progress=note)
    about = {"settings": said, "data": measured_in_words(scan)}
    entries = [{"method": method, "steps": n} | found[n].to_record() | about for n in counts]
    kept = [old for old in loaded.card.sequences if (old["method"], old["steps"]) not in [(method, n) for n in counts]]
    copy_prior(prior, output, replace(loaded.card, sequences=(*kept, *entries)), overwrite=overwrite)
    if as_json:
        console.result_json({"output": str(output), "sequences": entries})
        return
    console.result(f"{output}: root-mean-square distance to the end of many steps, network units\n")
    rows = [
        (str(count), *(f"{error:.3g}" for error in (each.error, *each.errors.values())), _listed(each.levels))
        for count, each in found.items()
    ]
    console.result(console.table(rows, ("steps", "searched", *found[counts[0]].errors, "levels")))


def priors_suit(
    prior: Prior,
    output: Output,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="The method that the settings are for; NAME+directions: on top where slices of any direction fit.",
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the method; may be repeated. [its own defaults]"),
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Write down which settings of a method suit a prior: `recon` takes them where it is told no others."""
    from medrecon.cli.card_text import in_words
    from medrecon.prior import EVERY_WAY, copy_prior, read_card
    from medrecon.samplers.settings import make_sampler

    said = options.settings_of(settings)
    make_sampler(method.removesuffix(EVERY_WAY), said)  # raises for what is no method or none of its settings
    card = read_card(prior)
    kept = {other: theirs for other, theirs in card.settings.items() if other != method}
    known = kept | ({method: said} if said else {})
    copy_prior(prior, output, replace(card, settings=known), overwrite=overwrite)
    if as_json:
        console.result_json({"output": str(output), "settings": known})
    else:
        console.result(f"{output}: {method} with {in_words(said) or 'its own defaults'}")


def _listed(levels: tuple[float, ...]) -> str:
    return " ".join(f"{level:.3g}" for level in levels)


def _counts(text: str) -> list[int]:
    counts = options.numbers(text, what="--steps", counts=tuple(range(1, 20)))
    if any(count != int(count) or count < 1 for count in counts):
        raise UsageError("--steps takes positive whole numbers", found=text)
    return [int(count) for count in counts]
