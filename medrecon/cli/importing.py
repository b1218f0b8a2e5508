"""`medrecon priors import`: a published checkpoint as a prior of this package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrecon.cli import console, options
from medrecon.errors import UsageError

_SUSPICIOUS = 0.6  # of the noise left on a flat slice: the bundled prior leaves 0.34


def priors_import(
    file: Annotated[
        Path, typer.Argument(help="Checkpoint (.pt, .pth, .safetensors), or folder of diffusers or MONAI.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="NAME.safetensors; the card goes to NAME.json.")],
    value_range: Annotated[
        tuple[float, float],
        typer.Option("--range", metavar="LOW HIGH", help="Physical values that the training mapped to its range."),
    ],
    spacing: Annotated[
        str, typer.Option("--spacing", metavar="MM[,MM]", help="Pixel size of its slices, or smallest and largest.")
    ],
    quantity: Annotated[str, typer.Option("--quantity", help="HU, mu (1/mm) or a.u.")],
    network_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--network-range", metavar="LOW HIGH", help="The range it was trained on: -1 1, or 0 1. [family's]"
        ),
    ] = None,
    family: Annotated[str | None, typer.Option("--family", help="Kind of checkpoint. [recognised]")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="What the file cannot tell; may be repeated.")
    ] = None,
    orientation: Annotated[str, typer.Option("--orientation", help="Where x, y, z of its slices grow.")] = "LPS",
    modality: Annotated[str, typer.Option("--modality", help="ct, mri, ... [by the quantity]")] = "",
    licence: Annotated[str, typer.Option("--licence", help="Licence of the weights.")] = "",
    description: Annotated[str, typer.Option("--description", help="What it was trained on.")] = "",
    half: Annotated[bool, typer.Option("--half", help="Store weights in half precision.")] = False,
    minutes: Annotated[float, typer.Option("--minutes", help="Time limit of the conversion.")] = 15.0,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Convert a published checkpoint to safetensors and a card, as docs/priors.md describes for each kind.

    The file is opened in a process of its own, with limits of memory and time; nothing in it is executed.
    """
    from medrecon.families.importing import Facts, import_prior

    sizes = options.numbers(spacing, what="--spacing", counts=(1, 2))
    unit = options.quantity_name(quantity)
    if unit is None or not min(sizes) > 0:
        raise UsageError("pixels have positive sizes, in mm", where="--spacing", found=spacing)
    facts = Facts(
        quantity=unit, range=value_range, spacing_mm=(min(sizes), max(sizes)), network_range=network_range,
        orientation=orientation.upper(), modality=modality, description=description, licence=licence, family=family,
        settings=options.settings_of(settings),
    )  # fmt: skip
    imported = import_prior(file, output, facts, half=half, overwrite=overwrite, minutes=minutes)
    card = imported.card
    if imported.left > _SUSPICIOUS:
        console.say(
            f"medrecon: warning: of the noise on a flat slice {imported.left:.0%} is left after denoising. A prior "
            "that fits leaves a small part: check --network-range, --range and --set (docs/priors.md)."
        )
    if as_json:
        console.result_json(
            {"output": str(output), "family": imported.family, "noise_left": imported.left, "sha256": card.sha256,
             "architecture": card.architecture}
        )  # fmt: skip
        return
    low, high = card.training["imported"]["network_range"]
    console.result(
        f"{output}: {imported.family}, {card.range[0]:g} to {card.range[1]:g} {card.quantity} as {low:g} to {high:g}, "
        f"noise {card.sigma_min:.3g} to {card.sigma_max:.3g}, {imported.left:.0%} of the noise left on a flat slice"
    )
