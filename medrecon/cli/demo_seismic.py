"""`medrecon demo seismic`: synthetic surveys after and before stack, with holes, filled and judged, offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medrecon.cli import console, options

if TYPE_CHECKING:
    from medrecon.data.volume import Volume

    _Outcome = tuple[dict[str, object], dict[str, dict[str, float]]]

_CASES = (  # the first is written under the plain names of files
    ("volume", (32, 64, 96), "random", 0.6),
    ("gathers", (8, 64, 128), "random", 0.5),
)
_BESIDE = ("linear", "pocs", "drr", "dip")
_SEED = 4  # of the surveys that seed 0 shows: an unconformity over faults
_FILES = (("truth", ".sgy"), ("holes", ".sgy"), ("recon", ".sgy"), ("comparison", ".png"), ("report", ".html"))
_COLUMNS = (("snr_missing", "SNR missing dB"), ("snr_all", "all dB"), ("correlation", "correlation"),
            ("fk_error", "f-k error"))  # fmt: skip


def demo_seismic(folder: Path, seed: int, *, overwrite: bool) -> dict[str, object]:
    """Make a survey, take traces out, fill and judge it: after stack, then before it."""
    summaries, files, metrics = [], list[str](), dict[str, dict[str, float]]()
    for case in _CASES:
        tag = "" if case == _CASES[0] else f"-{case[0]}"
        summary, figures = _case(folder, *case, tag, seed, overwrite=overwrite)
        summaries.append(summary)
        files += [f"{name}{tag}{end}" for name, end in _FILES]
        metrics |= {f"{case[0]} {name}": values for name, values in figures.items()}
    chosen = ", ".join(f"{summary['method']} for {case[0]}" for summary, case in zip(summaries, _CASES, strict=True))
    return {
        "folder": str(folder),
        "files": files,
        "method": summaries[0]["method"],
        "about": f"auto takes {chosen}",
        "unit": "amplitude",
        "seconds": sum(float(str(summary["seconds"])) for summary in summaries),
        "columns": _COLUMNS,
        "metrics": metrics,
    }


def _case(
    folder: Path, kind: str, shape: tuple[int, int, int], holes: str, share: float, tag: str, seed: int, *,
    overwrite: bool,
) -> _Outcome:  # fmt: skip
    """One survey: the summary of the best method's run, and the figures of all methods."""
    import numpy as np

    from medrecon.cli.job import Job
    from medrecon.cli.stored import figures
    from medrecon.data import read_scan, read_volume, write
    from medrecon.data.atomic import check_target, write_bytes
    from medrecon.data.segy_writing import grid_line
    from medrecon.data.seismic_model import seismic_model
    from medrecon.data.survey import survey_of
    from medrecon.data.traces import Traces
    from medrecon.engine import reconstruct
    from medrecon.physics.seismic import make_trace_mask
    from medrecon.scans import problem_from_scan
    from medrecon.seismic_figures import montage_png

    truth_file, holes_file, recon_file, picture, report = (folder / f"{name}{tag}{end}" for name, end in _FILES)
    for target in (truth_file, holes_file, recon_file, picture, report):
        check_target(target, overwrite=overwrite)
    console.remark(f"making a synthetic survey ({kind}), and taking {share:.0%} of its traces out")
    write(truth_file, seismic_model(kind, shape, seed=_SEED + seed), overwrite=overwrite)
    whole = read_scan(truth_file)
    assert isinstance(whole, Traces)
    given = whole.keeping(make_trace_mask(holes, shape[:2], share, seed=seed))
    given.meta["grid"] = grid_line(whole.rows, whole.columns)
    write(holes_file, given, overwrite=overwrite)

    best = options.RunConfig(method="auto", samples=1, seed=seed, settings={}, report=str(report))
    job = Job(holes_file, recon_file, best, overwrite=overwrite, truth=truth_file)
    job.check_targets()
    summary = job.execute()

    truth, frame, problem = whole.to_volume(), survey_of(given), problem_from_scan(given)
    shown: dict[str, Volume] = {}
    for name in _BESIDE:
        if name != summary["method"]:
            found = reconstruct(problem, name, seed=seed, judgement="none").volume
            shown[name] = given.with_volume(found).to_volume()
    shown[str(summary["method"])] = read_volume(recon_file)
    title = f"{kind}: {share:.0%} of the traces missing"
    measured = np.where(given.live[:, None], truth.array, np.float32(np.nan))
    sections = {"truth": truth.array, "measured": measured}
    sections |= {name: volume.array for name, volume in shown.items()}
    write_bytes(picture, montage_png(sections, title=title), overwrite=overwrite)
    return summary, {name: figures(volume, truth, frame) for name, volume in shown.items()}
