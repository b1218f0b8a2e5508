"""What the files of a finished reconstruction say about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medrecon.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from medrecon.data.formats import Content
    from medrecon.data.survey import Survey
    from medrecon.data.trace_grid import ReadOptions
    from medrecon.data.volume import Volume
    from medrecon.report import ReportData

_SUFFIXES = (".nii.gz", ".ome.zarr")
_SHOWN = ("versions", "inputs", "weights", "seed", "residual", "timings", "peak_memory_bytes", "status", "output")


@dataclass(frozen=True)
class Beside:
    """Names of the files that stand beside an output."""

    output: Path

    @property
    def _split(self) -> tuple[str, str]:
        name = self.output.name
        suffix = next((s for s in _SUFFIXES if name.lower().endswith(s)), self.output.suffix)
        return name[: len(name) - len(suffix)], name[len(name) - len(suffix) :]

    def named(self, what: str) -> Path:
        """``recon-baseline.nii.gz`` for ``recon.nii.gz`` and ``"baseline"``."""
        stem, suffix = self._split
        return self.output.with_name(f"{stem}-{what}{suffix}")

    @property
    def measurement(self) -> Path:
        """The picture of the measurement, for modalities that have one."""
        return self.output.with_name(f"{self._split[0]}-measurement.png")

    @property
    def report(self) -> Path:
        """The report, where no other name is given."""
        return self.output.with_name(f"{self._split[0]}.html")

    def of_earlier_run(self) -> list[Path]:
        """What the record of an earlier output of this name says to stand beside it; nothing where it is damaged."""
        from medrecon.data.provenance import read_sidecar

        try:
            record = read_sidecar(self.output) or {}
        except InputError:
            return []
        named = _mapping(record.get("beside"))
        return [self.output.with_name(Path(str(name)).name) for name in named.values()]

    def remove(self, earlier: list[Path], kept: Collection[str]) -> None:
        """Take away what stood beside an earlier output, but for what the new one names: it belongs to neither."""
        from medrecon.data.atomic import remove
        from medrecon.data.provenance import sidecar_path

        for path in earlier:
            if path.name not in kept:
                remove(sidecar_path(path))
                remove(path)

    @property
    def checkpoint(self) -> Path:
        """The state of an unfinished run."""
        return self.output.with_name(f".{self.output.name}.checkpoint")

    @property
    def work(self) -> Path:
        """The work files of an unfinished run that does not fit into memory."""
        return self.output.with_name(f".{self.output.name}.work")

    def remove_unfinished(self) -> None:
        """Forget the state of an unfinished run."""
        from medrecon.data.atomic import remove

        remove(self.checkpoint)
        remove(self.work)


def stored_report(result: Path, truth_file: Path | None = None) -> ReportData:
    """The report of a volume that `recon` wrote, from the record, baseline and spread that stand beside it.

    Raises InputError where the record is missing, or the truth lies on another grid.
    """
    from medrecon.assess import LAYERS
    from medrecon.data import read_volume
    from medrecon.data.provenance import read_sidecar
    from medrecon.data.survey import Survey
    from medrecon.report import ReportData

    record = read_sidecar(result)
    if record is None or "run" not in record:
        raise InputError(
            "no record of a reconstruction stands beside this volume", where=result.name,
            hint="Keep the .json that `medrecon recon` wrote beside it.",
        )  # fmt: skip
    run, residual, data = (_mapping(record.get(key)) for key in ("run", "residual", "data"))
    whole = None if "survey" not in data else Survey.from_record(_mapping(data["survey"]))
    survey, said = whole, ""
    load = read_volume if whole is None else _reader_of_traces(result, record)
    if whole is not None and run.get("in_windows"):
        survey, load, said = _in_part(result, whole, record)
    volume, named = load(result), _mapping(record.get("beside"))
    baseline, spread = (
        load(result.with_name(str(named[name]))) if name in named else None for name in ("baseline", "spread")
    )
    truth = None if truth_file is None else as_result(load(truth_file), volume)
    metrics = {}
    if truth is not None:
        named_volumes = {"result": volume, "baseline": baseline}
        metrics = {name: figures(v, truth, survey) for name, v in named_volumes.items() if v is not None}
    history, per_view = record.get("history"), record.get("residual_per_view")
    reason = _mapping(residual.get("selection")).get("reason")
    notes = [str(data["note"])] if data.get("note") else []
    notes += [said] if said else []
    if reason and (survey is None or not _mapping(residual["selection"]).get("errors")):  # else there is a table
        notes.append(f"The method was chosen automatically: {reason}.")
    return ReportData(
        title=str(data.get("title") or result.name),
        volume=volume,
        method=str(record.get("method", "unknown")),
        baseline=baseline,
        baseline_method=str(record.get("baseline_method") or "baseline"),
        truth=truth,
        spread=spread,
        layers={name: load(result.with_name(str(named[name]))) for name in LAYERS if name in named},
        samples=int(str(run.get("samples", 1))),
        uses_prior=run.get("prior") is not None,
        noise_known=bool(residual.get("noise")),
        history=history if isinstance(history, list) else [],
        assessment=residual,
        residual_per_view=per_view if isinstance(per_view, list) else [],
        metrics=metrics,
        settings=_mapping(record.get("settings")),
        provenance={key: record[key] for key in _SHOWN if key in record} | {"seconds": run.get("seconds")},
        notes=tuple(notes),
        measurement=_picture(result, named.get("measurement")),
        survey=survey,
        whole=whole,
    )


def _asked_of_traces(result: Path, record: dict[str, object]) -> ReadOptions | None:
    """How the run was told to read its traces: its results have their headers."""
    from medrecon.cli import options
    from medrecon.data import sniff
    from medrecon.data.segy_reading import SEGY_KINDS

    asked, kind = _mapping(record.get("request")).get("traces"), str(sniff(result))
    if not isinstance(asked, list) or kind not in SEGY_KINDS:
        return None
    return options.trace_options([str(pair) for pair in asked], kind)


def read_result(result: Path, record: dict[str, object]) -> Callable[[Path], Content]:
    """Reads what a run wrote, and what stands beside it: traces as the run read its data, other files as they are."""
    from medrecon.data import read, sniff
    from medrecon.data.segy_reading import SEGY_KINDS, read_traces

    said = _asked_of_traces(result, record)

    def load(path: Path) -> Content:
        return read_traces(path, said) if said and sniff(path) in SEGY_KINDS else read(path)

    return load


def _reader_of_traces(result: Path, record: dict[str, object]) -> Callable[[Path], Volume]:
    from medrecon.data.formats import as_volume

    load = read_result(result, record)
    return lambda path: as_volume(load(path), where=path.name)


def _in_part(result: Path, whole: Survey, record: dict[str, object]) -> tuple[Survey, Callable[[Path], Volume], str]:
    """Of a survey that was larger than memory: what is shown, how to read that of a file, and what to say of it."""
    from medrecon.data import read_volume, sniff
    from medrecon.data.segy_reading import SEGY_KINDS
    from medrecon.streaming import Shown, allowed_bytes, read_shown, samples_of

    said = _asked_of_traces(result, record)
    shown = Shown.of(~whole.live, samples_of(result, said), allowed_bytes(said))

    def load(path: Path) -> Volume:
        if sniff(path) in SEGY_KINDS:
            return read_shown(path, shown, whole.state.shape, said)
        return shown.cut(read_volume(path), whole.state.shape)

    words = shown.words()
    return (
        whole.part(shown.rows, shown.columns),
        load,
        words
        and (
            f"The survey is larger than memory: sections, maps, spectra and figures against the truth are of {words}."
        ),
    )


def as_result(truth: Volume, result: Volume) -> Volume:
    """The truth in the axes and the quantity of the result; values without a unit are taken to have the result's."""
    turned = truth.as_orientation(result.geometry.orientation)
    if turned.quantity == "a.u.":
        return turned.with_array(turned.array, result.quantity)
    return turned.to_quantity(result.quantity)


def figures(volume: Volume, truth: Volume, survey: Survey | None = None) -> dict[str, float]:
    """The figures of `compare_volumes` that are numbers; of a survey those of `compare_traces`."""
    from medrecon.metrics import compare_volumes
    from medrecon.trace_metrics import compare_traces

    if survey is not None:
        if truth.geometry.shape != volume.geometry.shape:
            raise InputError("the truth is not of this survey", found=truth.geometry.shape,
                             expected=volume.geometry.shape)  # fmt: skip
        found, known = (v.as_orientation("LPS").array for v in (volume, truth))
        return compare_traces(found, known, ~survey.live)
    return {key: value for key, value in compare_volumes(volume, truth).items() if isinstance(value, float)}


def _picture(result: Path, name: object) -> bytes | None:
    """The picture of the measurement beside a result, where it still stands there."""
    path = None if name is None else result.with_name(str(name))
    return path.read_bytes() if path is not None and path.is_file() else None


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
