"""One reconstruction from a file to files: what `medrecon recon` and the demo do."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from medrecon.cli import console, options, running, stream
from medrecon.cli.stored import Beside, stored_report
from medrecon.errors import MissingDependency, UsageError

if TYPE_CHECKING:
    from medrecon.data.kspace import KSpace
    from medrecon.data.scan import Scan
    from medrecon.data.survey import Survey
    from medrecon.data.traces import Traces
    from medrecon.data.volume import Geometry, Volume
    from medrecon.engine import Result
    from medrecon.prior import NetworkPrior
    from medrecon.problem import Problem
    from medrecon.slabs import Slab

_PREVIEW_MARGIN = 3  # neighbours on either side of a previewed slice: the coupling along z needs them


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a run needs, read and checked."""

    scan: Scan | KSpace | Traces
    problem: Problem
    prior: NetworkPrior | None
    settings: dict[str, object]
    quantity: str | None
    orientation: str


@dataclass(frozen=True)
class Job:
    """One reconstruction from a file to files."""

    data: Path
    output: Path
    config: options.RunConfig
    overwrite: bool = False
    preview: int | None = None
    truth: Path | None = None
    keep_identifiers: bool = False

    # --- before anything is computed --------------------------------------------------------------------------
    def check_targets(self) -> None:
        """Everything that will be written can be written. Raises UsageError where not."""
        from medrecon.assess import LAYERS
        from medrecon.data.atomic import check_target
        from medrecon.data.formats import check_output, content_for

        beside = Beside(self.output)
        targets = [self.output, beside.named("baseline")]
        if self.config.trust != "none":
            targets += [beside.named(name) for name in LAYERS]
        if (self.config.samples or 1) > 1:
            targets.append(beside.named("spread"))
            if not _maps_can_be_written(self.output):
                raise MissingDependency("highdicom", "dicom", "a spread in DICOM")
        for target in targets:
            check_output(target, content_for(self.output), overwrite=self.overwrite)
        if self.config.report is not None:
            running.check_is_file_name(Path(self.config.report), ".html")
            for target in (Path(self.config.report), beside.measurement):
                check_target(target, overwrite=self.overwrite)

    def prepare_checkpoint(self, resume: bool) -> None:
        """A checkpoint that is not asked for is removed; one that is asked for and absent is said."""
        beside = Beside(self.output)
        if not resume:
            beside.remove_unfinished()
        elif not beside.checkpoint.exists():
            console.remark(running.NOTHING_TO_RESUME)

    # --- parts ------------------------------------------------------------------------------------------------
    def scan(self) -> Scan | KSpace | Traces:
        """The measured data, those of the previewed slices where one is asked for."""
        from medrecon.corrections import corrected
        from medrecon.data import read_scan, sniff
        from medrecon.data.reading import naming
        from medrecon.data.segy_reading import read_traces
        from medrecon.scans import cut_slices

        said = options.trace_options(self.config.traces, sniff(self.data)) if self.config.traces else None
        scan = read_scan(self.data) if said is None else read_traces(self.data, said)
        with naming(self.data.name):
            scan = corrected(scan, self.config.correct or (), self.config.views)
        if self.preview is None:
            return scan
        slices = scan.volume_geometry.shape[0]
        if not 0 <= self.preview < slices:
            raise UsageError("there is no such slice", found=self.preview, expected=f"0 to {slices - 1}")
        return cut_slices(scan, max(0, self.preview - _PREVIEW_MARGIN), min(slices, self.preview + _PREVIEW_MARGIN + 1))

    def grid(self, scan: Scan | KSpace | Traces) -> tuple[Geometry, str]:
        """The grid to reconstruct on, and the order of axes to write."""
        from medrecon.data import read_volume
        from medrecon.scans import grid_like, grid_of, source_orientation

        config = self.config
        if config.like is not None:
            if config.voxel is not None or config.shape is not None:
                raise UsageError("--like excludes --voxel and --shape")
            if self.preview is not None:
                raise UsageError("--preview-slice goes with the grid of the scan", hint="Leave --like out.")
            like = read_volume(config.like).geometry
            return grid_like(scan, like), like.orientation
        voxel = None if config.voxel is None else options.numbers(config.voxel, what="--voxel", counts=(1, 3))
        shape = options.shape_of(config.shape)
        if self.preview is not None and shape is not None:
            shape = (scan.volume_geometry.shape[0], shape[1], shape[2])
        return grid_of(scan, shape, voxel), source_orientation(scan)

    def prior(self, modality: str) -> NetworkPrior | None:
        """The prior that is asked for, needed, or to be considered by ``auto``; in tiles if they are asked for."""
        from medrecon.samplers import samplers
        from medrecon.scans import prior_for

        config = self.config
        device = running.device_name(config.device or "auto")
        if config.prior is None and config.method != "auto" and not samplers.get(config.method or "").needs_prior:
            return None
        prior = prior_for(modality, config.prior, device=device)
        return prior if prior is None or config.tile is None else prior.tiled(config.tile)

    def prepared(self, *, for_plan: bool = False, scan: Scan | KSpace | Traces | None = None) -> Prepared:
        """Everything that the run needs; for a plan nothing that takes long: MR phase as the centre of k-space has it.

        ``scan`` is a part of the scan instead of the whole. Raises InputError or UsageError where it does not fit
        together.
        """
        from medrecon.data import Traces
        from medrecon.data.formats import content_for
        from medrecon.data.reading import naming
        from medrecon.scans import problem_from_scan

        config = self.config
        settings = self.method_settings()
        device = running.device_name(config.device or "auto")
        scan = self.scan() if scan is None else scan
        for text in scan.meta.get("warnings", ()):
            console.remark(f"{self.data.name}: {text}")
        quantity = options.quantity_name(config.quantity) or ("HU" if scan.modality == "ct" else None)
        grid, orientation = self.grid(scan)
        prior = self.prior(scan.modality)
        if content_for(self.output) is Traces:
            if not isinstance(scan, Traces):
                raise UsageError("only seismic data are written as traces", where=self.output.name, found=scan.modality)
            if self.preview is not None:
                raise UsageError("a previewed slice is a volume", where=self.output.name, expected=".nii.gz or .h5")
        with naming(self.data.name):
            said = options.kspace_settings(config.kspace, scan.modality)
            if scan.modality == "mri":
                said = {"phase": "centre" if _is_complex(config.method) else "auto"} | said
                said |= {"phase": "centre"} if for_plan else {}
            problem = problem_from_scan(scan, prior=prior, grid=grid, **said)
        for note in problem.notes:
            console.remark(note)
        if device != "cpu":
            problem = replace(problem, y=problem.y.to(device))
        return Prepared(scan, problem, prior, settings, quantity, orientation)

    def method_settings(self) -> dict[str, object]:
        """The settings of the method, with ``steps`` under the name that the method gives it.

        Raises UsageError for unknown or malformed ones.
        """
        from medrecon.samplers import samplers
        from medrecon.samplers.settings import make_sampler
        from medrecon.selection import DIFFUSION

        method, settings = self.config.method or "auto", dict(self.config.settings or {})
        if method == "auto":  # the settings are those of the diffusion method that it may choose
            method = DIFFUSION
        if self.config.steps is not None:
            known = {f.name for f in fields(samplers.get(method))}
            name = next((n for n in ("steps", "iterations") if n in known), None)
            if name is None:
                raise UsageError(f"method {method} has no steps", hint="Leave --steps out.")
            if name in settings:
                raise UsageError(f"--steps and --set {name}=... say the same thing twice")
            settings[name] = self.config.steps
        make_sampler(method, settings)
        return settings

    # --- the run ----------------------------------------------------------------------------------------------
    def run(
        self, ready: Prepared, method: str, checkpoint: Path | None = None, *, first: int = 0, words: str = ""
    ) -> Result:
        """The engine's answer, with progress on stderr; ``first`` is the number of its first slice."""
        return running.run(
            ready.problem,
            method,
            ready.settings,
            words=words,
            quantity=ready.quantity,
            samples=self.config.samples or 1,
            seed=(self.config.seed or 0) + first,  # slabs of one sample draw noise of their own
            checkpoint=checkpoint,
            judgement=self.config.trust or "basic",
        )

    def in_slabs(self, *, resume: bool) -> tuple[Prepared, Result]:
        """The same, some slices at a time; what was prepared holds the whole scan, and the problem of one slab.

        Raises UsageError for what does not go with slabs, InputError where slices were not measured apart.
        """
        from medrecon.samplers import samplers
        from medrecon.slabs import reconstruct_in_slabs

        if resume:
            raise UsageError("a run in slabs cannot be resumed", hint="Leave --slab or --resume out.")
        scan, slabs = self._slabs()
        made, automatic = list[Prepared](), self.config.method in (None, "auto")

        def solve(slab: Slab, method: str) -> Result:
            ready = self.prepared(scan=_cut(scan, slab))
            if made and automatic and not samplers.get(method).needs_prior:
                ready = replace(ready, settings={})  # those that were said are for the diffusion method
            made.append(ready)
            return self.run(ready, method, first=slab.first, words=f"slices {slab.first} to {slab.last - 1}")

        result = reconstruct_in_slabs(slabs, scan.volume_geometry, self.config.method or "auto", solve)
        return replace(made[0], scan=scan), result

    def planned(self) -> tuple[Prepared, tuple[int, ...], int]:
        """What is solved at once (the thickest slab), the shape of the whole volume, and the number of slabs."""
        if self.config.slab is None:
            ready = self.prepared(for_plan=True)
            return ready, ready.problem.geometry.shape, 1
        scan, slabs = self._slabs()
        thickest = max(slabs, key=lambda slab: slab.high - slab.low)
        ready = self.prepared(for_plan=True, scan=_cut(scan, thickest))
        return replace(ready, scan=scan), scan.volume_geometry.shape, len(slabs)

    def _slabs(self) -> tuple[Scan | KSpace, list[Slab]]:
        from medrecon.data import Traces
        from medrecon.slabs import slabs_of

        config = self.config
        if self.preview is not None:
            raise UsageError("--preview-slice excludes --slab")
        if config.like is not None or config.voxel is not None or config.shape is not None:
            raise UsageError("slabs go with the grid of the scan", hint="Leave --like, --voxel and --shape out.")
        scan = self.scan()
        if isinstance(scan, Traces):
            raise UsageError("slabs are for slices", found=scan.modality, hint="Large surveys are streamed anyway.")
        return scan, slabs_of(scan.volume_geometry.shape[0], config.slab or 1)

    def execute(self, *, resume: bool = False) -> dict[str, object]:
        """Reconstruct and write everything; returns the summary of the run."""
        from medrecon.data import Traces, write
        from medrecon.data.atomic import write_bytes
        from medrecon.report import write_report

        config, beside = self.config, Beside(self.output)
        if stream.is_for(self):
            return stream.execute(self, resume=resume)
        if config.slab is not None:
            ready, result = self.in_slabs(resume=resume)
        else:
            ready = self.prepared()
            self.prepare_checkpoint(resume)  # bad input leaves that of an earlier run alone
            result = self.run(ready, config.method or "auto", None if self.preview is not None else beside.checkpoint)
        record = self.record(ready, result)
        doubts = self.doubts(ready, result)
        for doubt in doubts:
            console.remark(f"warning: {doubt}")
        if doubts:
            record["warnings"] = doubts
        volumes = self.volumes(ready, result)
        files = {name: self.output if name == "result" else beside.named(name) for name in volumes}
        if not isinstance(ready.scan, Traces) and not _maps_can_be_written(self.output):
            for name in result.layers:
                volumes.pop(name)
            console.remark("the maps of the assessment are left out: in DICOM they need highdicom")
        beside_it = {name: files[name].name for name in volumes if name != "result"}
        belongs, earlier = options.source_of(self.config.like, self.keep_identifiers), beside.of_earlier_run()
        written = {}
        picture = None if config.report is None else self._picture(ready, result)
        if picture is not None:
            beside_it["measurement"] = beside.measurement.name
            written["measurement"] = str(write_bytes(beside.measurement, picture, overwrite=self.overwrite))
        record["beside"] = beside_it
        for name, volume in volumes.items():
            about = record if name == "result" else _companion_record(record, name, result)
            method = result.baseline_method if name == "baseline" else result.method
            shown = self.as_written(name, volume, ready, method or "")
            write(files[name], shown, overwrite=self.overwrite, provenance=about, about=belongs)
            written[name] = str(files[name])
        beside.remove(earlier, beside_it.values())
        if config.report is not None:
            data = stored_report(self.output, self.truth)
            written["report"] = str(write_report(config.report, data, overwrite=self.overwrite))
        beside.remove_unfinished()
        return {
            "output": written.pop("result"),
            **written,
            "method": result.method,
            "status": result.status,
            "samples": config.samples or 1,
            "seed": config.seed or 0,
            "quantity": result.volume.quantity,
            **{key: value for key, value in result.assessment.items() if key != "residual_per_group"},
            "baseline_method": result.baseline_method,
            "noise_known": ready.problem.noise_model is not None,
            "seconds": _seconds(result),
            **({"warnings": doubts} if doubts else {}),
        }

    def record(self, ready: Prepared, result: Result) -> dict[str, object]:
        """What NAME.json says of the run."""
        from medrecon.data.provenance import describe_run
        from medrecon.scans import measured_in_words, noise_of
        from medrecon.simulate import describe_simulation

        scan, settings = ready.scan, result.provenance.get("settings")
        prior = ready.prior if result.provenance.get("prior") else None
        words, noise = measured_in_words(scan), noise_of(scan)
        assessment = dict(result.assessment)
        per_view = assessment.pop("residual_per_group", [])
        part = "" if self.preview is None else f", preview of slice {self.preview}"
        frame = _frame(scan, self.preview)
        data: dict[str, object] = {
            **({} if frame is None else {"survey": frame.to_record()}),
            "title": f"{self.data.name}: {words}{part}",
            "modality": scan.modality,
            "shape": scan.data.shape,
            "note": describe_simulation(scan),
        }
        if self.config.correct or self.config.views:
            data |= {"corrections": self.config.correct or [], "views": self.config.views}
        if notes := [*scan.meta.get("notes", ()), *ready.problem.notes]:
            data["notes"] = notes
        return describe_run(
            inputs=[self.data],
            weights=running.prior_file(prior, self.config.prior),
            settings={"method": result.method, **(settings if isinstance(settings, dict) else {})},
            seed=self.config.seed,
            residual=assessment | {"noise": noise},
            timings={"seconds": _seconds(result)},
            extra={
                "status": result.status,
                "method": result.method,
                "baseline_method": result.baseline_method,
                "request": vars(self.config) | {"preview": self.preview},
                "run": result.provenance,
                "data": data,
                "history": result.stats,
                "residual_per_view": per_view,
            },
        )

    def _picture(self, ready: Prepared, result: Result) -> bytes | None:
        """How the data were measured, for modalities that have a picture of it."""
        from medrecon.data.kspace import KSpace

        if not isinstance(ready.scan, KSpace):
            return None
        from medrecon.mri_figures import measurement_png

        return measurement_png(ready.scan, ready.problem, result.volume)

    def volumes(self, ready: Prepared, result: Result) -> dict[str, Volume]:
        """The result and what stands beside it, by name."""
        from medrecon.data import Traces

        named: dict[str, Volume | None] = {
            "result": result.volume,
            "baseline": result.baseline,
            "spread": result.spread,
        }
        named |= result.layers
        if isinstance(ready.scan, Traces):  # what those do not decide is what their live map shows
            named = {name: volume for name, volume in named.items() if name not in ("null-share", "prior-only")}
            if result.spread is not None and not result.spread.array.any():
                named["spread"] = None  # a file of traces that are all zero is none
                console.remark("the samples are equal: this method draws no noise, and there is no spread to write")
        return {name: volume for name, volume in named.items() if volume is not None}

    def as_written(self, name: str, volume: Volume, ready: Prepared, method: str) -> Volume | Traces:
        """In the axes of the output, live traces as measured; the previewed slice alone where one is asked for."""
        from medrecon.data import Traces

        if self.preview is not None:
            return _one_slice(volume, min(self.preview, _PREVIEW_MARGIN)).as_orientation(ready.orientation)
        if isinstance(ready.scan, Traces):
            return _with_traces(volume, ready.scan, name, self.output, method)
        return volume.as_orientation(ready.orientation)

    def doubts(self, ready: Prepared, result: Result) -> list[str]:
        """What may be wrong with the description of the scan, judging by what the result leaves unexplained."""
        from medrecon.mismatch import warnings_of

        known = ready.problem.noise_model is not None
        return warnings_of(ready.scan, float(str(result.assessment["discrepancy"])), noise_known=known)


def _cut(scan: Scan | KSpace, slab: Slab) -> Scan | KSpace:
    from medrecon.scans import cut_slices

    part: Scan | KSpace = cut_slices(scan, slab.low, slab.high)  # type: ignore[assignment]
    return part


def _is_complex(method: str | None) -> bool:
    """Whether a method finds phase itself: those of MRI alone do."""
    from medrecon.samplers import samplers

    return method not in (None, "auto") and samplers.entry(str(method)).meta.get("modality") == "mri"


def _frame(scan: Scan | KSpace | Traces, preview: int | None) -> Survey | None:
    """Of traces: what the axes of the result mean; of the previewed section alone where one is asked for."""
    from medrecon.data import Traces
    from medrecon.data.survey import survey_of

    if not isinstance(scan, Traces):
        return None
    if preview is None:
        return survey_of(scan)
    place = min(preview, _PREVIEW_MARGIN)
    return survey_of(scan.cut_rows(place, place + 1))


def _with_traces(volume: Volume, scan: Traces, name: str, output: Path, method: str) -> Volume | Traces:
    """Live traces as they were measured around the reconstructed ones; as sections where the output holds volumes.

    Spread and half-width are zero at live traces, and none of their traces is one that was measured.
    """
    import numpy as np

    from medrecon.data import Traces
    from medrecon.data.formats import content_for
    from medrecon.data.traces import State

    if name in ("spread", "half-width"):
        volume = volume.with_array(volume.array * ~scan.live[:, None])
        scan = replace(scan, state=np.full_like(scan.state, State.absent))
        method = f"{name} of {method}"
    filled = replace(scan, meta=scan.meta | {"method": method}).with_volume(volume)
    return filled if content_for(output) is Traces else filled.to_volume()


def _one_slice(volume: Volume, index: int) -> Volume:
    from medrecon.data.volume import Geometry, Volume

    affine = volume.geometry.affine.copy()
    affine[:3, 3] += affine[:3, 2] * index
    shape = (1, *volume.geometry.shape[1:])
    return Volume(volume.array[index : index + 1].copy(), Geometry(shape, affine), volume.quantity, volume.meta)


def _maps_can_be_written(output: Path) -> bool:
    """Whether maps of real numbers can stand beside ``output``: in DICOM they take an optional library."""
    from medrecon.data import Volume
    from medrecon.data.formats import content_for, writer_for

    return content_for(output) is not Volume or (
        writer_for(output, Volume).name != "dicom" or find_spec("highdicom") is not None
    )


def _seconds(result: Result) -> float:
    return float(str(result.provenance.get("seconds", 0.0)))


def _companion_record(record: dict[str, object], name: str, result: Result) -> dict[str, object]:
    """The record of the baseline or the spread: where it comes from, without repeating the run's history."""
    kept = ("versions", "seed", "inputs", "weights", "peak_memory_bytes", "data")
    method = result.baseline_method if name == "baseline" else result.method
    return {key: record[key] for key in kept if key in record} | {"role": name, "method": method}
