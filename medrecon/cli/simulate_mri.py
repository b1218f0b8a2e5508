"""`medrecon simulate mri`: k-space of a known volume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medrecon.cli import console, options
from medrecon.registry import unknown_name


def simulate_mri(
    volume: Annotated[Path, typer.Argument(help="MR volume: magnitudes, any orientation.")],
    output: options.Output,
    mask: Annotated[
        str,
        typer.Option(
            "--mask",
            help="uniform1d, gaussian1d, poisson2d, radial, fastmri-random, fastmri-equispaced or equispaced1d.",
        ),
    ],
    acceleration: Annotated[float, typer.Option("--acceleration", min=1.0, help="All samples over those measured.")],
    coils: Annotated[int, typer.Option("--coils", min=1, max=128, help="Receive coils around the object.")] = 8,
    noise: Annotated[
        float,
        typer.Option("--noise", min=0.0, help="Standard deviation of a sample's parts, relative to the largest value."),
    ] = 0.0,
    centre: Annotated[
        int | None, typer.Option("--centre", min=0, help="Width of the fully sampled centre. [0.32 / R, at least 12]")
    ] = None,
    partial: Annotated[
        float, typer.Option("--partial", min=0.5, max=1.0, help="Share of k-space that partial Fourier keeps.")
    ] = 1.0,
    seed: options.Seed = 0,
    refine: Annotated[
        int, typer.Option("--refine", min=1, max=4, help="How many times finer the grid is that the coils see.")
    ] = 2,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Simulate an MR scan of VOLUME: coils with phase, an undersampling mask, noise.

    Masks of lines (1d) undersample slices along x; masks of two directions undersample a 3D scan along y and x.
    """
    from medrecon.data import read_volume, write
    from medrecon.data.atomic import check_target
    from medrecon.data.formats import writer_for
    from medrecon.data.kspace import KSpace
    from medrecon.data.provenance import describe_run
    from medrecon.physics.mri.masks import masks
    from medrecon.simulate_mri import simulate_kspace

    if mask not in masks.names():
        raise unknown_name("mask", mask, masks.names())
    writer_for(output, KSpace)
    check_target(output, overwrite=overwrite)
    settings = {"mask": mask, "acceleration": acceleration, "coils": coils, "noise": noise, "centre": centre,
                "partial": partial, "refine": refine}  # fmt: skip
    scan = simulate_kspace(
        read_volume(volume), mask, acceleration, coils=coils, noise=noise, seed=seed, centre=centre, partial=partial,
        refine=refine,
    )  # fmt: skip
    run = describe_run(inputs=[volume], settings=settings, seed=seed)
    write(output, scan, overwrite=overwrite, provenance=run)
    real = scan.meta["acceleration"]
    if as_json:
        shown = settings | {"real_acceleration": real, "calibration": scan.meta["calibration"], "seed": seed}
        console.result_json({"output": output, "data_shape": scan.data.shape, **shown})
        return
    kind = "3D scan, readout along z" if 0 in scan.encoded else "slices, lines along y"
    centre_text = " x ".join(map(str, scan.meta["calibration"]))
    console.result(
        f"{output.name}: {kind}, {coils} coils, {' x '.join(map(str, scan.data.shape[1:]))} (z, y, x)\n"
        f"mask: {mask}, acceleration {real:.2f}, centre of {centre_text}\n"
        f"noise: {noise:g} of the largest value"
    )


def simulate_mri_contrast(
    labels: Annotated[
        Path, typer.Argument(help="Label map of a head: FreeSurfer's numbers, SynthSeg's beyond the brain.")
    ],
    output: options.Output,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Paint a label map as an MR volume: random contrast, bias field, resolution and noise.

    For training a prior on more contrasts and heads than there are volumes (`docs/training.md`).
    """
    from medrecon.data import read_volume, write
    from medrecon.data.atomic import check_target
    from medrecon.data.formats import writer_for
    from medrecon.data.provenance import describe_run
    from medrecon.data.volume import Volume
    from medrecon.simulate_contrast import random_contrast

    writer_for(output, Volume)
    check_target(output, overwrite=overwrite)
    volume = random_contrast(read_volume(labels, quantity="a.u."), seed)
    write(output, volume, overwrite=overwrite, provenance=describe_run(inputs=[labels], settings={}, seed=seed))
    if as_json:
        console.result_json({"output": output, "shape": volume.geometry.shape, "seed": seed})
    else:
        size = " x ".join(map(str, volume.geometry.shape))
        console.result(f"{output.name}: {size} voxels (z, y, x) of {volume.geometry.spacing[0]:.2f} mm")
