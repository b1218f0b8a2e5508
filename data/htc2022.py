"""Helsinki Tomography Challenge 2022: a MATLAB struct ``CtDataFull`` or ``CtDataLimited``, version 5 or 7.3.

A fan beam on a flat detector, the middle row of a cone; the logarithm is taken already. Angles are those of ASTRA's
``fanflat``, whose images have their first row at the largest y: columns and sense of rotation are turned to ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medrecon.data import hdf5
from medrecon.data.formats import reader
from medrecon.data.limits import Limits
from medrecon.data.projections import check_views, millimetres, radians, scan_of
from medrecon.data.reading import naming, reading, require_finite
from medrecon.data.scan import Scan
from medrecon.errors import InputError

_KIND = "HTC2022"
_STRUCTS = ("CtDataLimited", "CtDataFull", "CtData")
_NUMBERS = ("distanceSourceOrigin", "distanceSourceDetector", "pixelSizePost")
_VERSION_7 = 512  # bytes of text before the HDF5 file begins


def sniff_htc(path: Path, head: bytes) -> bool:
    """A MATLAB file that holds one of the structs."""
    if not head.startswith(b"MATLAB 5.0") and not head.startswith(b"MATLAB 7.3"):
        return False
    return any(name.encode() in head for name in _STRUCTS) or bool(_holds(path))


def _holds(path: Path) -> list[str]:
    """Which of the structs are in the file; empty where it cannot be opened."""
    from scipy.io import whosmat

    try:
        if _is_hdf5(path):
            import h5py

            with h5py.File(path, "r", locking=False) as file:
                return [name for name in _STRUCTS if name in file]
        return [name for name, *_ in whosmat(path) if name in _STRUCTS]
    except Exception:  # noqa: BLE001  (whatever a broken file raises: it is not ours)
        return []


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(_VERSION_7)
        return file.read(len(hdf5.SIGNATURE)) == hdf5.SIGNATURE


@reader("htc2022", suffixes=(".mat",), sniff=sniff_htc)
def read_htc(path: str | Path, *, limits: Limits | None = None) -> Scan:
    """The fan-beam sinogram, as one slice on 512 x 512 pixels in the field of view.

    Raises
    ------
    InputError
        A part is missing, or angles and sinogram disagree.
    CorruptInput
        Damaged or cut short.
    """
    from medrecon.physics.ct_geometry import CTGeometry

    path = Path(path)
    where, limits = path.name, limits or Limits()
    values = _from_hdf5(path, limits) if _is_hdf5(path) else _from_version_5(path)
    sinogram, angles = np.asarray(values["sinogram"], dtype=np.float64), np.ravel(values["angles"])
    require_finite(sinogram, where=where, what="sinogram")
    if sinogram.ndim != 2:
        raise InputError("a sinogram has two dimensions", where=where, found=sinogram.shape)
    check_views(len(angles), len(sinogram), where)
    origin, detector, pixel = (
        millimetres(float(np.ravel(values[name])[0]), "mm", where=where, what=name) for name in _NUMBERS
    )
    with naming(where):
        turned = np.pi - radians(angles, "degrees", where=where)
        width = pixel * origin / detector
        side = sinogram.shape[1] * width
        geometry = CTGeometry.fan(
            (1, 512, 512), (width, side / 512, side / 512), angles=turned, source_origin=origin,
            source_detector=detector, columns=sinogram.shape[1], column_spacing=pixel,
        )  # fmt: skip
        return scan_of(sinogram[:, None, ::-1], geometry, kind=_KIND)


def _from_version_5(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    with reading(path, "MATLAB"):
        content = loadmat(path, simplify_cells=True, variable_names=_STRUCTS)
        found = next((content[name] for name in _STRUCTS if name in content), None)
    if not isinstance(found, dict) or not isinstance(found.get("parameters"), dict):
        raise InputError("the file holds no scan of the challenge", where=path.name, expected=" or ".join(_STRUCTS))
    wanted = {name: found["parameters"].get(name) for name in (*_NUMBERS, "angles")} | {
        "sinogram": found.get("sinogram")
    }
    return _complete(wanted, path.name)


def _from_hdf5(path: Path, limits: Limits) -> dict[str, Any]:
    """Version 7.3: arrays are stored column by column, so they come transposed."""
    with hdf5.open_input(path, "MATLAB") as file:
        name = next((name for name in _STRUCTS if name in file), None)
        if name is None:
            raise InputError("the file holds no scan of the challenge", where=path.name, expected=" or ".join(_STRUCTS))
        wanted = {}
        for key, place in [("sinogram", "sinogram"), *((k, f"parameters/{k}") for k in (*_NUMBERS, "angles"))]:
            array = hdf5.read_array(file, f"{name}/{place}", kinds="iuf", where=path.name, limits=limits)
            wanted[key] = array.T
    return _complete(wanted, path.name)


def _complete(values: dict[str, Any], where: str) -> dict[str, Any]:
    missing = [name for name, value in values.items() if value is None or np.asarray(value).dtype.kind not in "iuf"]
    if missing:
        raise InputError("the scan is not complete", where=where, found=f"no {', '.join(missing)}")
    return values
