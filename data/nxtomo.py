"""NeXus NXtomo: one entry with all frames of a scan, told apart by ``image_key``.

``instrument/detector`` holds ``data`` (frames, rows, columns), ``image_key`` (0 projection, 1 flat, 2 dark, 3 invalid)
and the pixel sizes; ``sample/rotation_angle`` one angle per frame.

Reference: NeXus application definition NXtomo.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrecon.data import hdf5
from medrecon.data.formats import reader
from medrecon.data.limits import Limits
from medrecon.data.projections import check_views, millimetres, parallel_scan, radians
from medrecon.data.reading import naming
from medrecon.data.scan import Scan
from medrecon.errors import InputError

if TYPE_CHECKING:
    import h5py

_KIND = "NXtomo"
_PROJECTION, _FLAT, _DARK = 0, 1, 2
_KEYS = ("instrument/detector/image_key", "instrument/detector/image_key_control")


def sniff_nxtomo(path: Path, head: bytes) -> bool:
    """An HDF5 file one of whose groups has a detector with image keys."""
    found = hdf5.peek(path, head)
    return found is not None and bool(hdf5.groups_with(path, _KEYS))


@reader("nxtomo", suffixes=(".nx", ".nxs", ".h5"), sniff=sniff_nxtomo)
def read_nxtomo(path: str | Path, *, limits: Limits | None = None) -> Scan:
    """The parallel-beam scan of the first entry as line integrals, one slice of the volume for every row.

    Raises
    ------
    InputError
        Frames, keys and angles that do not agree in number, no flats, no projections.
    CorruptInput, UnsafeInput, TooLarge
        As for every HDF5 file.
    """
    from medrecon.physics.counts import line_integrals

    where, limits = Path(path).name, limits or Limits()
    entries = hdf5.groups_with(Path(path), _KEYS)
    with hdf5.open_input(path, _KIND, soft_links=True) as file:
        if not entries:
            raise InputError("no entry of the file has a detector with image keys", where=where)
        entry = entries[0]
        detector = f"{entry}/instrument/detector"
        frames = hdf5.read_array(file, f"{detector}/data", kinds="iuf", where=where, limits=limits)
        key = next(f"{entry}/{name}" for name in _KEYS if f"{entry}/{name}" in file)
        keys = hdf5.read_array(file, key, kinds="iu", where=where, limits=limits).reshape(-1)
        angles = hdf5.read_array(file, f"{entry}/sample/rotation_angle", kinds="iuf", where=where, limits=limits)
        unit = hdf5.read_attributes(file, f"{entry}/sample/rotation_angle").get("units", "degrees")
        pixel = tuple(_length(file, f"{detector}/{axis}_pixel_size", where, limits) for axis in "yx")
    if frames.ndim != 3 or len(keys) != len(frames):
        raise InputError(
            "the number of image keys is not the number of frames", where=where, found=f"{len(keys)} keys",
            expected=f"frames of shape {frames.shape}",
        )  # fmt: skip
    check_views(angles.size, len(frames), where)
    kept = keys == _PROJECTION
    if not kept.any() or not (keys == _FLAT).any():
        raise InputError(
            "the scan has no projections or no flat fields", where=where,
            found=f"{int(kept.sum())} projections, {int((keys == _FLAT).sum())} flats",
        )  # fmt: skip
    with naming(where):
        found = line_integrals(frames[kept], frames[keys == _FLAT], frames[keys == _DARK])
        turned = radians(angles.reshape(-1)[kept], unit, where=where)
        notes = [] if len(entries) == 1 else [f"the first of {len(entries)} entries of the file"]
        size = None if None in pixel else (float(pixel[0] or 0), float(pixel[1] or 0))
        return parallel_scan(found, turned, size, kind=_KIND, where=where, notes=notes)


def _length(file: h5py.File, name: str, where: str, limits: Limits) -> float | None:
    if name not in file:
        return None
    value = hdf5.read_array(file, name, kinds="iuf", where=where, limits=limits)
    unit = hdf5.read_attributes(file, name).get("units", "m")
    size = millimetres(float(np.ravel(value)[0]), unit, where=where, what="pixel size")
    return size if size > 0 else None
