"""A layer as a file."""

from __future__ import annotations

from typing import Any


def write_image(path: str, data: object, keywords: dict[str, Any]) -> list[str]:
    """Write the volume of a layer, with its true affine and the record of the run that made it.

    napari has asked before an existing file is replaced. Raises InputError where the layer is no volume.
    """
    from medrecon.data import write
    from medrecon.viewer.layers import volume_of

    record = (keywords.get("metadata") or {}).get("record")
    left_out = ("output", "written", "medrecon_record", "beside")  # true of another file, or not of a single layer
    kept = {key: value for key, value in record.items() if key not in left_out} if isinstance(record, dict) else None
    return [str(write(path, volume_of(data, keywords), overwrite=True, provenance=kept))]
