"""Layers as files: volumes as NIfTI and DICOM, sections as SEG-Y.

napari has asked before an existing file is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medrecon.data import Traces, Volume


def write_volume(path: str, data: object, keywords: dict[str, Any]) -> list[str]:
    """Write the volume of a layer, with its true affine and the record of the run that made it.

    The suffix of the name picks the format; a name without one becomes a folder of DICOM. Raises InputError where the
    layer is no volume, UsageError where no format of volumes has this suffix.
    """
    from medrecon.data import write
    from medrecon.viewer.layers import volume_of

    return [str(write(path, volume_of(data, keywords), overwrite=True, provenance=_record(keywords)))]


def write_traces(path: str, data: object, keywords: dict[str, Any]) -> list[str]:
    """Write sections as SEG-Y.

    Where the survey is known that they belong to, its live traces and headers are copied byte for byte and the missing
    ones are filled; sections of unknown origin get headers of their own. Raises InputError where the layer is no
    volume.
    """
    from medrecon.data import write
    from medrecon.viewer.layers import volume_of

    traces = _as_traces(volume_of(data, keywords), keywords.get("metadata") or {})
    return [str(write(path, traces, overwrite=True, provenance=_record(keywords)))]


def _as_traces(volume: Volume, metadata: Mapping[str, Any]) -> Traces:
    from medrecon.data import Traces, read_scan
    from medrecon.data.segy_writing import plain_axes
    from medrecon.data.traces import State

    survey = read_scan(metadata["measured"]) if Path(metadata.get("measured", "")).is_file() else None
    if isinstance(survey, Traces):
        if metadata.get("role") == "traces":  # as they were measured, holes and all
            return survey
        method = (metadata.get("record") or {}).get("method", "")
        return replace(survey, meta=survey.meta | {"method": method}).with_volume(volume)
    sections = volume.array.transpose(0, 2, 1).astype("float32")
    rows, columns = plain_axes(*sections.shape[:2])
    state = (0 * sections[..., 0] + State.live).astype("uint8")
    return Traces(sections, state, rows, columns)


def _record(keywords: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the record of the run says of every file of it."""
    record = (keywords.get("metadata") or {}).get("record")
    left_out = ("output", "written", "medrecon_record", "beside")  # true of another file, or not of a single layer
    return {key: value for key, value in record.items() if key not in left_out} if isinstance(record, dict) else None
