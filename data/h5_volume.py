"""Volumes as HDF5: the dataset ``/reconstruction`` and its attributes, as fastMRI names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medrecon.data import hdf5
from medrecon.data.atomic import final_name
from medrecon.data.formats import reader, writer
from medrecon.data.limits import Limits
from medrecon.data.reading import require_finite
from medrecon.data.volume import Geometry, Volume
from medrecon.errors import CorruptInput, InputError

FORMAT = "medrecon-volume"
_KIND = "HDF5 volume"


def sniff_volume(path: Path, head: bytes) -> bool:
    """An HDF5 file with a dataset ``/reconstruction``."""
    found = hdf5.peek(path, head)
    if found is None:
        return False
    return found["format"] == FORMAT or (isinstance(found["names"], list) and "reconstruction" in found["names"])


@reader("hdf5-volume", suffixes=(".h5", ".hdf5"), sniff=sniff_volume)
def read_h5_volume(path: str | Path, *, limits: Limits | None = None) -> Volume:
    """``/reconstruction`` (z, y, x) with the attributes ``affine`` (4 x 4, RAS+ mm) and ``quantity``.

    Raises InputError (CorruptInput, UnsafeInput, TooLarge) for missing parts, NaN or infinity, damage, links.
    """
    where, limits = Path(path).name, limits or Limits()
    with hdf5.open_input(path, _KIND) as file:
        array = hdf5.read_array(file, "reconstruction", kinds="fiu", where=where, limits=limits)
        attributes = hdf5.read_attributes(file, "reconstruction")
    affine, quantity, stated = (attributes.get(key) for key in ("affine", "quantity", "sha256"))
    if array.ndim != 3 or not isinstance(affine, np.ndarray) or affine.shape != (4, 4):
        raise InputError(
            "/reconstruction cannot be placed in space",
            where=where,
            found=f"shape {array.shape}, affine {affine.shape if isinstance(affine, np.ndarray) else 'missing'}",
            expected="three dimensions (z, y, x) and an attribute affine (4 x 4, RAS+ mm)",
        )
    quantity = quantity if isinstance(quantity, str) else "a.u."
    if stated is not None:
        actual = hdf5.digest({"reconstruction": array}, {"affine": affine.tolist(), "quantity": quantity})
        if actual != stated:
            raise CorruptInput(
                "the content does not agree with its SHA-256", where=where, hint="Copy it again from its source."
            )
    require_finite(array, where=where, what="voxels")
    meta = {"format": "hdf5-volume", "verified": stated is not None}
    return Volume(np.ascontiguousarray(array, dtype=np.float32), Geometry(array.shape, affine), quantity, meta)


@writer("hdf5-volume", suffixes=(".h5", ".hdf5"))
def write_h5_volume(path: Path, volume: Volume) -> None:
    """Write ``/reconstruction``, float32, gzip and Fletcher-32, with a SHA-256 over values and attributes."""
    array = np.ascontiguousarray(volume.array, dtype="<f4")
    require_finite(array, where=final_name(path), what="voxels")
    affine = volume.geometry.affine
    attributes = {
        "affine": affine,
        "quantity": volume.quantity,
        "axes": "z,y,x",
        "units": "mm",
        "sha256": hdf5.digest({"reconstruction": array}, {"affine": affine.tolist(), "quantity": volume.quantity}),
    }
    with hdf5.new_file(path) as file:
        hdf5.write_attributes(file, {"format": FORMAT, "format_version": 1})
        hdf5.write_array(file, "reconstruction", array, attributes)
