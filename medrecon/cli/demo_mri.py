"""`medrecon demo mri`: an average brain, measured four and eight times faster than fully, offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medrecon.cli import console, options

if TYPE_CHECKING:
    from medrecon.data.volume import Volume

    _Outcome = tuple[dict[str, object], dict[str, Volume]]

_FIRST, _SLICES = 30, 20  # of the bundled brain, from below the ventricles to the top of the cortex
_MARGIN = 4  # pixels of air around the brain
_CASES = ((4, "gaussian1d"), (8, "poisson2d"))  # slices by lines; a 3D scan in two directions
_COILS, _NOISE = 8, 0.01
_BESIDE = ("zero-filled", "cg-sense", "l1-wavelet", "tv")


def demo_mri(folder: Path, seed: int, *, overwrite: bool) -> dict[str, object]:
    """Simulate, reconstruct and judge at every acceleration; the first gets the plain names of files."""
    from medrecon.cli.stored import figures
    from medrecon.data import write
    from medrecon.data.atomic import check_target

    truth_file = folder / "truth.nii.gz"
    check_target(truth_file, overwrite=overwrite)
    truth = brain_slices(_SLICES)
    write(truth_file, truth, overwrite=overwrite)
    files, seconds = [truth_file.name], 0.0
    metrics: dict[str, dict[str, float]] = {}
    first: dict[str, object] = {}
    for rate, mask in _CASES:
        tag = "" if rate == _CASES[0][0] else f"-x{rate}"
        summary, shown = _case(folder, truth_file, rate, mask, tag, seed, overwrite=overwrite)
        first = first or summary
        seconds += float(str(summary["seconds"]))
        files += [f"{name}{tag}{end}" for name, end in _FILES]
        metrics |= {f"{mask} x{rate} {name}": figures(volume, truth) for name, volume in shown.items()}
    return {
        "folder": str(folder),
        "files": files,
        "method": first["method"],
        "discrepancy": first["discrepancy"],
        "unit": "a.u.",
        "seconds": seconds,
        "metrics": metrics,
    }


_FILES = (("kspace", ".h5"), ("recon", ".nii.gz"), ("comparison", ".png"), ("report", ".html"))


def brain_slices(count: int) -> Volume:
    """Some slices of the bundled average, cut to the brain, in the axes of a scanner."""
    import numpy as np

    from medrecon.data.sample_files import average_brain
    from medrecon.data.volume import Geometry, Volume

    whole = average_brain().as_orientation("LPS")
    brain = whole.array > 0.05 * whole.array.max()
    low, high = (f(np.argwhere(brain)[:, 1:], axis=0) for f in (np.min, np.max))
    top, left = (max(int(n) - _MARGIN, 0) for n in low)
    bottom, right = (int(n) + 1 + _MARGIN for n in high)
    array = whole.array[_FIRST : _FIRST + count, top:bottom, left:right].copy()
    affine = whole.geometry.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ (left, top, _FIRST)
    return Volume(array, Geometry(array.shape, affine), "a.u.")


def _case(folder: Path, truth_file: Path, rate: int, mask: str, tag: str, seed: int, *, overwrite: bool) -> _Outcome:
    """One acceleration: the summary of the best method's run, and the volumes of all methods."""
    from medrecon.cli.job import Job
    from medrecon.data import read_scan, read_volume, write
    from medrecon.data.atomic import check_target
    from medrecon.engine import reconstruct
    from medrecon.figures import write_montage
    from medrecon.scans import problem_from_scan
    from medrecon.simulate_mri import simulate_kspace

    scan_file, recon_file, picture, report = (folder / f"{name}{tag}{end}" for name, end in _FILES)
    for target in (scan_file, recon_file, picture, report):
        check_target(target, overwrite=overwrite)
    truth = read_volume(truth_file, quantity="a.u.")
    console.remark(
        f"measuring 1 of {rate} samples ({mask}) with {_COILS} coils, noise of {_NOISE:.0%} of the largest value"
    )
    write(scan_file, simulate_kspace(truth, mask, rate, coils=_COILS, noise=_NOISE, seed=seed), overwrite=overwrite)
    best = options.RunConfig(method="auto", samples=1, seed=seed, settings={}, report=str(report))
    job = Job(scan_file, recon_file, best, overwrite=overwrite, truth=truth_file)
    job.check_targets()
    summary = job.execute()
    shown = {"truth": truth}
    problem = problem_from_scan(read_scan(scan_file))
    for name in _BESIDE:
        if name != summary["method"]:
            found = reconstruct(problem, name, seed=seed).volume
            shown[name] = found.as_orientation(truth.geometry.orientation)
    shown[str(summary["method"])] = read_volume(recon_file)
    write_montage(picture, shown, title=f"{mask}, 1 of {rate}, {_COILS} coils", overwrite=overwrite)
    return summary, {name: volume for name, volume in shown.items() if name != "truth"}
