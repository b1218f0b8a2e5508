"""`medrecon simulate`: measured data from a known volume."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medrecon.cli import console, options
from medrecon.cli.simulate_mri import simulate_mri, simulate_mri_contrast
from medrecon.cli.simulate_seismic import simulate_seismic, simulate_seismic_model
from medrecon.errors import UsageError
from medrecon.registry import unknown_name


class Beam(StrEnum):
    """Shapes of the beam."""

    parallel = "parallel"
    fan = "fan"
    cone = "cone"


class Detector(StrEnum):
    """Shapes of the detector of a fan or a cone."""

    flat = "flat"
    curved = "curved"


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("ct")(simulate_ct)
    group.command("ct-phantom")(simulate_ct_phantom)
    group.command("mri")(simulate_mri)
    group.command("mri-contrast")(simulate_mri_contrast)
    group.command("seismic")(simulate_seismic)
    group.command("seismic-model")(simulate_seismic_model)
    app.add_typer(group, name="simulate", help="Make measured data from a known volume, or a synthetic survey.")


def simulate_ct(
    volume: Annotated[Path, typer.Argument(help="CT volume in HU (or attenuation, with --quantity mu).")],
    output: options.Output,
    views: Annotated[int, typer.Option("--views", min=1, help="Number of equally spaced views.")],
    geometry: Annotated[Beam, typer.Option("--geometry", help="Shape of the beam.")] = Beam.parallel,
    detector: Annotated[Detector, typer.Option("--detector", help="Detector of a fan or cone.")] = Detector.flat,
    arc: Annotated[
        float | None, typer.Option("--arc", help="Degrees over which the views are spread. [180 parallel, else 360]")
    ] = None,
    photons: Annotated[
        float | None, typer.Option("--photons", help="Photons per detector pixel without an object: Poisson noise.")
    ] = None,
    electronic: Annotated[
        float, typer.Option("--electronic", min=0.0, help="Electronic noise in photons, beside --photons.")
    ] = 0.0,
    noise: Annotated[
        float | None, typer.Option("--noise", help="Standard deviation of Gaussian noise on the line integrals.")
    ] = None,
    seed: options.Seed = 0,
    refine: Annotated[
        int, typer.Option("--refine", min=1, max=8, help="Parts of each pixel (or voxel); 1 is an inverse crime.")
    ] = 2,
    quantity: Annotated[
        str | None, typer.Option("--quantity", help="HU or mu, where the volume does not say what it holds.")
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Simulate a CT scan of VOLUME: parallel, fan or cone beam, any number of views, photon noise.

    Without --photons or --noise the data are free of noise. The scan remembers the grid of the volume, so `recon`
    returns it.
    """
    if photons is not None and noise is not None:
        raise UsageError("--photons and --noise exclude each other")
    if arc is not None and not 0 < arc <= 360:
        raise UsageError("--arc is in degrees", found=f"{arc:g}", expected="more than 0, at most 360")

    from medrecon.data import read_volume, write
    from medrecon.data.atomic import check_target
    from medrecon.data.formats import writer_for
    from medrecon.data.provenance import describe_run
    from medrecon.data.scan import Scan
    from medrecon.physics.noise import GaussianNoise, NoiseModel, PoissonNoise
    from medrecon.simulate import ct_geometry, simulate_scan

    writer_for(output, Scan)
    check_target(output, overwrite=overwrite)
    model: NoiseModel | None = None
    if photons is not None:
        model = PoissonNoise(photons, electronic)
    elif noise is not None and noise != 0:
        model = GaussianNoise(noise)
    truth = read_volume(volume)
    if quantity is not None or truth.quantity == "a.u.":  # CT volumes are in HU unless something else is said
        truth = truth.with_array(truth.array, options.quantity_name(quantity) or "HU")
    rays = ct_geometry(
        truth,
        geometry.value,
        views,
        arc=None if arc is None else math.radians(arc),
        detector=detector.value,
    )
    scan = simulate_scan(truth, rays, model, seed=seed, refine=refine)
    settings = {"geometry": rays.kind, "views": views, "arc_degrees": arc, "refine": refine}
    run = describe_run(inputs=[volume], settings=settings, seed=seed)
    write(output, scan, overwrite=overwrite, provenance=run)
    if as_json:
        console.result_json(
            {"output": output, "data_shape": scan.data.shape, "noise": scan.noise, **settings, "seed": seed}
        )
    else:
        console.result(f"{output.name}: {rays.describe()}\nnoise: {describe_noise(scan.noise)}")


def simulate_ct_phantom(
    kind: Annotated[
        str, typer.Argument(help="thorax, abdomen, torso, head, head-neck, or shapes: a random object of many parts.")
    ],
    output: options.Output,
    shape: Annotated[str, typer.Option("--shape", help="Voxels z,y,x.")] = "128,128,128",
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Draw a synthetic CT volume in HU: a person, or a random object, from a seed.

    To try things on, and for training a prior on more than patients (`docs/training.md`).
    """
    from medrecon.data import write
    from medrecon.data.anatomy import anatomy, views
    from medrecon.data.atomic import check_target
    from medrecon.data.formats import writer_for
    from medrecon.data.provenance import describe_run
    from medrecon.data.shapes import random_shapes
    from medrecon.data.volume import Volume

    if kind not in (known := [*views.names(), "shapes"]):
        raise unknown_name("kind of phantom", kind, known)
    size = options.shape_of(shape)
    assert size is not None
    writer_for(output, Volume)
    check_target(output, overwrite=overwrite)
    volume = random_shapes(size, seed=seed) if kind == "shapes" else anatomy(kind, size, seed=seed)
    settings = {"kind": kind, "shape": list(size)}
    write(output, volume, overwrite=overwrite, provenance=describe_run(inputs=[], settings=settings, seed=seed))
    if as_json:
        console.result_json({"output": output, **settings, "seed": seed})
    else:
        z, y, x = volume.geometry.spacing
        console.result(
            f"{output.name}: {kind}, {' x '.join(map(str, size))} voxels (z, y, x) of {z:.2f} x {y:.2f} x {x:.2f} mm"
        )


def describe_noise(noise: dict) -> str:
    """The noise model of a scan in words."""
    if noise.get("kind") == "poisson":
        electronic = f", electronic noise of {noise['electronic']:g}" if noise.get("electronic") else ""
        return f"Poisson, {noise['photons']:g} photons per pixel{electronic}"
    if noise.get("kind") == "gaussian":
        return f"Gaussian, standard deviation {noise['sigma']:g}"
    return "none" if not noise else str(noise)
