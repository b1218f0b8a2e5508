"""`medrecon demo`: from a phantom to a judged volume, offline."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medrecon.cli import console, options
from medrecon.errors import UsageError

_SLICES, _SIZE, _VIEWS, _PHOTONS, _FINER = 40, 128, 16, 1e5, 2


class Kind(StrEnum):
    """What to demonstrate."""

    ct = "ct"
    mri = "mri"
    seismic = "seismic"
    all = "all"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", short_help="Simulate, reconstruct and judge a bundled case, offline.")(demo)


def demo(
    kind: Annotated[Kind, typer.Argument(help="ct, mri, seismic or all of them.")] = Kind.all,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("medrecon-demo"),
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Measure a known object with too few data, reconstruct it, and write volume, report.html and pictures."""
    chosen = list(_DEMOS) if kind is Kind.all else [kind]
    summaries = {}
    for each in chosen:
        folder = output if len(chosen) == 1 and kind is not Kind.all else output / each.value
        _make_folder(folder)
        summaries[each.value] = _DEMOS[each](folder, seed, overwrite)
    if as_json:
        console.result_json(summaries)
        return
    for name, summary in summaries.items():
        console.result(_table(name, summary))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            "the folder cannot be made", where=folder.name, found=error.strerror, hint="Choose another one with -o."
        ) from error


def _ct(folder: Path, seed: int, overwrite: bool) -> dict[str, object]:
    """A chest measured with 16 views: files in ``folder``, figures for FBP, total variation and diffusion."""
    from medrecon.cli.job import Job
    from medrecon.cli.stored import figures
    from medrecon.data import read_volume, write
    from medrecon.data.anatomy import anatomy
    from medrecon.data.atomic import check_target
    from medrecon.figures import write_montage
    from medrecon.physics.noise import PoissonNoise
    from medrecon.simulate import coarsened, ct_geometry, simulate_scan

    names = ("truth.nii.gz", "scan.h5", "fbp.nii.gz", "recon.nii.gz", "comparison.png", "report.html")
    truth_file, scan_file, fbp_file, recon_file, picture, report = (folder / name for name in names)
    for target in (truth_file, scan_file, fbp_file, recon_file, picture, report):
        check_target(target, overwrite=overwrite)

    console.remark(f"drawing a chest on a grid {_FINER} times finer than the one to reconstruct")
    fine = anatomy("thorax", (_SLICES, _SIZE * _FINER, _SIZE * _FINER), seed=seed)
    truth = coarsened(fine, _FINER)
    write(truth_file, truth, overwrite=overwrite)
    console.remark(f"measuring it: {_VIEWS} views, {_PHOTONS:g} photons per detector pixel")
    geometry = ct_geometry(truth, "parallel", _VIEWS)
    write(scan_file, simulate_scan(fine, geometry, PoissonNoise(_PHOTONS), seed=seed, refine=1), overwrite=overwrite)

    direct = options.RunConfig(method="fbp", samples=1, seed=seed, trust="none", settings={})
    Job(scan_file, fbp_file, direct, overwrite=overwrite).execute()
    best = options.RunConfig(method="auto", samples=1, seed=seed, settings={}, report=str(report))
    job = Job(scan_file, recon_file, best, overwrite=overwrite, truth=truth_file)
    job.check_targets()
    summary = job.execute()

    shown = {"truth": truth, "fbp": read_volume(fbp_file)}
    if "baseline" in summary:
        shown[str(summary["baseline_method"])] = read_volume(str(summary["baseline"]))
    shown[str(summary["method"])] = read_volume(recon_file)
    write_montage(picture, shown, title=f"{_VIEWS} views, {_PHOTONS:g} photons", overwrite=overwrite)
    return {
        "folder": str(folder),
        "files": [*names, *(Path(str(summary[key])).name for key in ("baseline", "spread") if key in summary)],
        "method": summary["method"],
        "discrepancy": summary["discrepancy"],
        "unit": "HU",
        "seconds": summary["seconds"],
        "metrics": {name: figures(volume, truth) for name, volume in shown.items() if name != "truth"},
    }


def _mri(folder: Path, seed: int, overwrite: bool) -> dict[str, object]:
    from medrecon.cli.demo_mri import demo_mri

    return demo_mri(folder, seed, overwrite=overwrite)


def _seismic(folder: Path, seed: int, overwrite: bool) -> dict[str, object]:
    from medrecon.cli.demo_seismic import demo_seismic

    return demo_seismic(folder, seed, overwrite=overwrite)


_DEMOS: dict[Kind, Callable[[Path, int, bool], dict[str, object]]] = {
    Kind.ct: _ct, Kind.mri: _mri, Kind.seismic: _seismic
}  # fmt: skip
_COLUMNS = (("psnr", "PSNR dB"), ("ssim_axial", "SSIM axial"), ("ssim_coronal", "coronal"),
            ("ssim_sagittal", "sagittal"), ("rmse", "RMSE"))  # fmt: skip


def _table(name: str, summary: dict[str, object]) -> str:
    """The figures of all methods; which ones, a demo may say in ``columns``, and in ``about`` what came of it."""
    metrics, columns = summary["metrics"], summary.get("columns", _COLUMNS)
    assert isinstance(metrics, dict) and isinstance(columns, tuple)
    rows = [(method, *(_number(key, values[key]) for key, _ in columns)) for method, values in metrics.items()]
    header = ("method", *(f"{title} {summary['unit']}" if key == "rmse" else title for key, title in columns))
    where = Path(str(summary["folder"]))
    about = summary.get("about")
    if about is None:
        about = f"{summary['method']}, residual {float(str(summary['discrepancy'])):.2f} times the noise"
    return (
        f"{name}: {about}, in {float(str(summary['seconds'])):.0f} s\n\n{console.table(rows, header)}\n\n"
        f"open {where / 'report.html'}\n     {where / 'comparison.png'}"
    )


def _number(key: str, value: float) -> str:
    """Decibels with two decimals, shares and similarities with three, amplitudes with three digits."""
    if key == "rmse":
        return f"{value:.3g}"
    return f"{value:.2f}" if key.startswith(("psnr", "snr")) else f"{value:.3f}"
