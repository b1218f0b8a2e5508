"""Commands about files: `info`, `compare`, `convert`, `report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrecon.cli import console, options, running
from medrecon.cli.stored import Beside, stored_report
from medrecon.errors import InputError

if TYPE_CHECKING:
    from medrecon.data.scan import Scan
    from medrecon.data.volume import Volume


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("compare", short_help="Measure how far a volume is from the truth.")(compare)
    app.command("info", short_help="Say what a file holds.")(info)
    app.command("convert", short_help="Convert between file formats.")(convert)
    app.command("report", short_help="Write the report of a result.")(report)


# --- info ------------------------------------------------------------------------------------------------------
def info(
    file: Annotated[Path, typer.Argument(help="Volume or measured data.")],
    traces: options.Traces = None,
    as_json: options.Json = False,
) -> None:
    """Say what a file holds: kind, grid, units, range, geometry of the measurement. No patient data are shown."""
    from medrecon.data import Traces, read, sniff
    from medrecon.data.scan import Scan
    from medrecon.data.segy_reading import SEGY_KINDS, describe_traces
    from medrecon.data.volume import Volume

    kind = sniff(file)
    values: dict[str, object] = {"file": file.name, "format": kind}
    said = options.trace_options(traces, kind)
    content = None if kind in SEGY_KINDS else read(file)
    if content is None:  # at once, however large the file
        values |= describe_traces(file, said)
    elif isinstance(content, Traces):
        values |= content.summary()
    elif isinstance(content, Volume):
        values |= _volume_info(content)
    elif isinstance(content, Scan):
        values |= _scan_info(content)
    else:
        from medrecon.kspace_text import kspace_summary

        values |= kspace_summary(content)
    if as_json:
        console.result_json(values)
        return
    lines = [(key.replace("_", " "), _shown(value)) for key, value in values.items() if key != "description"]
    console.result(console.table([line for line in lines if line[1]]))
    if "description" in values:
        console.result(str(values["description"]))


def _volume_info(volume: Volume) -> dict[str, object]:
    import numpy as np

    finite = volume.array[np.isfinite(volume.array)]
    values: dict[str, object] = {
        "holds": "volume",
        "shape_zyx": list(volume.geometry.shape),
        "spacing_mm_zyx": [round(s, 6) for s in volume.geometry.spacing],
        "axes_xyz": volume.geometry.orientation,
        "origin_mm_ras": [round(float(v), 4) for v in volume.geometry.affine[:3, 3]],
        "quantity": volume.quantity,
        "quantity_from": volume.meta.get("quantity_from", "file"),
        "not_finite": int(volume.array.size - finite.size),
    }
    if finite.size:
        low, middle, high = (float(v) for v in np.percentile(finite, (1, 50, 99)))
        values |= {"minimum": float(finite.min()), "maximum": float(finite.max()), "mean": float(finite.mean())}
        values["percentiles_1_50_99"] = [low, middle, high]
    return values


def _scan_info(scan: Scan) -> dict[str, object]:
    from medrecon.cli.simulate import describe_noise
    from medrecon.simulate import describe_simulation

    values: dict[str, object] = {
        "holds": "measured data",
        "modality": scan.modality,
        "data_shape": list(scan.data.shape),
        "noise": describe_noise(scan.noise),
        "water_per_mm": scan.water,
        "shape_zyx": list(scan.volume_geometry.shape),
        "spacing_mm_zyx": [round(s, 6) for s in scan.volume_geometry.spacing],
        "axes_xyz": scan.volume_geometry.orientation,
        "minimum": float(scan.data.min()),
        "maximum": float(scan.data.max()),
        "checksum_verified": bool(scan.meta.get("verified", False)),
    }
    note = describe_simulation(scan)
    if note:
        values["simulated"] = note
    if notes := scan.meta.get("notes"):
        values["notes"] = "; ".join(notes)
    if scan.modality == "ct":
        from medrecon.physics.cone_geometry import geometry_from_dict

        values["description"] = geometry_from_dict(scan.geometry).describe()
    return values


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and value and isinstance(value[0], str):
        return "; ".join(value)
    if isinstance(value, list):
        return " x ".join(_shown(item) for item in value)
    return str(value)


# --- compare ---------------------------------------------------------------------------------------------------
def compare(
    recon: Annotated[Path, typer.Argument(help="Volume to judge.")],
    truth: Annotated[Path, typer.Argument(help="Volume to judge it by.")],
    mask: Annotated[
        Path | None, typer.Option("--mask", help="Take figures only where this volume is not zero.")
    ] = None,
    data_range: Annotated[
        float | None, typer.Option("--data-range", help="Range for PSNR and SSIM, in units of TRUTH. [2000 for HU]")
    ] = None,
    quantity: Annotated[
        str | None, typer.Option("--quantity", help="HU or mu, where a file does not say what it holds.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Measure how far RECON is from TRUTH: PSNR, SSIM in each plane, RMSE, NMSE, on a fixed data range."""
    from medrecon.data import read_volume
    from medrecon.metrics import compare_volumes

    named = options.quantity_name(quantity)
    volumes = [read_volume(path) for path in (recon, truth)]
    volumes = [_with_quantity(volume, named, volumes) for volume in volumes]
    figures = compare_volumes(volumes[0], volumes[1], read_volume(mask) if mask is not None else None, data_range)
    if as_json:
        console.result_json({"recon": recon.name, "truth": truth.name, **figures})
        return
    console.result(console.table([(key, _shown(value)) for key, value in figures.items()]))


def _with_quantity(volume: Volume, named: str | None, both: list[Volume]) -> Volume:
    """A volume whose file does not say what it holds is taken to hold what was named, or what the other one holds."""
    if volume.quantity != "a.u.":
        return volume
    known = named or next((other.quantity for other in both if other.quantity != "a.u."), None)
    return volume if known is None else volume.with_array(volume.array, known)


# --- convert ---------------------------------------------------------------------------------------------------
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="File or folder to read.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File to write; its suffix picks the format.")],
    quantity: Annotated[str | None, typer.Option("--quantity", help="HU or mu: convert the values.")] = None,
    like: Annotated[
        Path | None, typer.Option("--like", help="The DICOM series that the volume belongs to. [IN, if it is one]")
    ] = None,
    keep_identifiers: options.KeepIdentifiers = False,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Convert between file formats, keeping grid, units and values. No patient data are written unless asked for."""
    from medrecon.data import read, write
    from medrecon.data.formats import check_output
    from medrecon.data.provenance import describe_run
    from medrecon.data.volume import Volume

    wanted = options.quantity_name(quantity)
    content = read(source)
    check_output(target, type(content), overwrite=overwrite)
    if wanted is not None:
        if not isinstance(content, Volume):
            raise InputError("only volumes have a quantity to convert", where=source.name)
        content = content.to_quantity(wanted)
    about = options.source_of(like or source, keep_identifiers)
    write(target, content, overwrite=overwrite, provenance=describe_run(inputs=[source]), about=about)
    holds = "volume" if isinstance(content, Volume) else "measured data"
    if as_json:
        console.result_json({"output": str(target), "holds": holds})
    else:
        console.result(f"{target}: {holds}")


# --- report ----------------------------------------------------------------------------------------------------
def report(
    result: Annotated[Path, typer.Argument(help="Volume that `recon` wrote, with its NAME.json beside it.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The .html file. [RESULT's name]")] = None,
    truth: Annotated[Path | None, typer.Option("--truth", help="Volume to judge the result by.")] = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Write the report of a volume that `recon` made, from what stands beside it."""
    from medrecon.data.atomic import check_target
    from medrecon.report import verdict, write_report

    beside = Beside(result)
    target = output or beside.report
    running.check_is_file_name(target, ".html")
    check_target(target, overwrite=overwrite)
    data = stored_report(result, truth)
    write_report(target, data, overwrite=overwrite)
    level, headline, detail = verdict(data)
    if as_json:
        console.result_json({"report": str(target), "verdict": level, "text": f"{headline}. {detail}"})
    else:
        console.result(f"{target}\n{headline}. {detail}")
