"""Files as layers: volumes, reconstructions with what stands beside them, and measured data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medrecon.errors import InputError

if TYPE_CHECKING:
    from napari.layers import Layer as NapariLayer

    from medrecon.data import Volume
    from medrecon.viewer.layers import Layer

Paths = str | Sequence[str]


_SHARED = ("npy", "npz", "hdf5-array", "ome-zarr")
"""Formats whose files other plugins open too: taken only where this package's record stands beside them."""


def get_reader(path: Paths) -> Callable[[Paths], list[Layer]] | None:
    """The function that reads these files and folders, or None where one of them is not of this package.

    Content decides, not the suffix: what another plugin may know is left to it.
    """
    return read_layers if all(_is_ours(Path(each)) for each in _listed(path)) else None


def _is_ours(path: Path) -> bool:
    from medrecon.data import sniff
    from medrecon.data.provenance import read_sidecar

    try:
        # What this package wrote is its own even where it is damaged: its error is the one to show
        return read_sidecar(path) is not None or sniff(path) not in _SHARED
    except InputError:
        return False


def read_layers(path: Paths) -> list[Layer]:
    """The layers of all files. Raises InputError with the text that the command line gives."""
    return [layer for each in _listed(path) for layer in _read(Path(each))]


def _listed(path: Paths) -> list[str]:
    return [str(path)] if isinstance(path, str | Path) else [str(each) for each in path]


def _read(path: Path) -> list[Layer]:
    from medrecon.cli.stored import read_result
    from medrecon.data import KSpace, Scan, Traces, Volume
    from medrecon.data.formats import as_volume
    from medrecon.data.provenance import read_sidecar
    from medrecon.viewer.layers import (
        measurement_layer,
        section_axes,
        traces_layer,
        volume_layer,
        with_axes,
        with_companions,
    )

    record, name, file = read_sidecar(path) or {}, _stem(path), str(path)
    load = read_result(path, record)
    content = load(path)
    if isinstance(content, Scan | KSpace):
        return [measurement_layer(content, name, file=file, measured=file)]
    made = "run" in record
    if isinstance(content, Traces) and not made:
        return [traces_layer(content, name, role="traces", file=file, measured=file)]
    if isinstance(content, Volume) and not made:
        return [volume_layer(content, name, file=file)]
    named = record.get("beside")
    named = named if isinstance(named, dict) else {}
    files = {str(role): path.with_name(Path(str(file)).name) for role, file in named.items() if role != "measurement"}
    beside = {
        role: _companion(as_volume(load(each), where=each.name), role) for role, each in files.items() if each.is_file()
    }
    if not isinstance(content, Traces):
        return with_companions(content, beside, name, file=file, record=record)
    layers = with_companions(content.to_volume(), beside, name, file=file, record=record, measured=file)
    return with_axes(layers, section_axes(content))


def _companion(volume: Volume, role: str) -> Volume:
    """What stands beside a result, marked as a map where it is one: not every format keeps the mark."""
    return volume if role == "baseline" else replace(volume, meta=dict(volume.meta) | {"map": role})


def _stem(path: Path) -> str:
    if path.is_dir():
        return path.resolve().name
    return path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem


def report_beside(layer: NapariLayer | None) -> Path:
    """The HTML report that stands beside the file of a result. Raises InputError where there is none."""
    from medrecon.cli.stored import Beside

    metadata = {} if layer is None else layer.metadata
    if not metadata.get("record"):
        raise InputError("only a result of a reconstruction has a report", hint="Choose one.")
    if "file" not in metadata:
        raise InputError(
            "this result was made in this window and has no report yet",
            hint="Run the command line of the other widget with --report FILE.html.",
        )
    file = Path(metadata["file"])
    asked = (metadata["record"].get("request") or {}).get("report")
    places = [Beside(file).report, *([file.with_name(Path(asked).name)] if asked else [])]
    for place in places:
        if place.is_file():
            return place.resolve()
    raise InputError("there is no report beside it", where=file.name, hint=f"Make one with: medrecon report {file}")
