"""Data Exchange HDF5 of synchrotron beamlines: ``/exchange/data``, ``data_white``, ``data_dark``, ``theta``.

Reference: F. De Carlo et al., J. Synchrotron Rad. 21, 1224-1230 (2014).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrecon.data import hdf5
from medrecon.data.formats import reader
from medrecon.data.limits import Limits
from medrecon.data.projections import millimetres, parallel_scan, radians
from medrecon.data.reading import naming
from medrecon.data.scan import Scan
from medrecon.errors import InputError

if TYPE_CHECKING:
    import h5py

_KIND = "Data Exchange"
_PIXEL = ("measurement/instrument/detector/actual_pixel_size_x", "measurement/instrument/detector/pixel_size_x",
          "measurement/instrument/detection_system/objective/resolution")  # fmt: skip


def sniff_exchange(path: Path, head: bytes) -> bool:
    """An HDF5 file with a group ``exchange``."""
    found = hdf5.peek(path, head)
    return found is not None and isinstance(found["names"], list) and "exchange" in found["names"]


@reader("data-exchange", suffixes=(".h5", ".hdf"), sniff=sniff_exchange)
def read_exchange(path: str | Path, *, limits: Limits | None = None) -> Scan:
    """Parallel-beam counts with flats and darks as line integrals, one slice of the volume for every row.

    Raises
    ------
    InputError
        No flats or angles, a number of angles that is not that of views, unusable flats.
    CorruptInput, UnsafeInput, TooLarge
        As for every HDF5 file.
    """
    from medrecon.physics.counts import line_integrals

    where, limits = Path(path).name, limits or Limits()
    with hdf5.open_input(path, _KIND) as file:
        counts = hdf5.read_array(file, "exchange/data", kinds="iuf", where=where, limits=limits)
        for name, what in (("data_white", "flat fields"), ("theta", "angles")):
            if f"exchange/{name}" not in file:
                raise InputError(
                    f"the file has no {what}", where=where, expected=f"/exchange/{name}",
                    hint=f"Add the {what} of this scan to the file with h5py.",
                )  # fmt: skip
        flats = hdf5.read_array(file, "exchange/data_white", kinds="iuf", where=where, limits=limits)
        darks = None
        if "exchange/data_dark" in file:
            darks = hdf5.read_array(file, "exchange/data_dark", kinds="iuf", where=where, limits=limits)
        theta = hdf5.read_array(file, "exchange/theta", kinds="iuf", where=where, limits=limits)
        unit = hdf5.read_attributes(file, "exchange/theta").get("units", "degrees")
        pixel = _pixel(file, where, limits)
    if counts.ndim != 3:
        raise InputError(
            "projections have three dimensions", where=where, found=counts.shape, expected="(views, rows, columns)"
        )
    with naming(where):
        found = line_integrals(counts, flats, darks)
        angles = radians(theta, unit, where=where)
        return parallel_scan(found, angles, None if pixel is None else (pixel, pixel), kind=_KIND, where=where)


def _pixel(file: h5py.File, where: str, limits: Limits) -> float | None:
    """Size of a pixel at the sample, mm; None where the file does not say."""
    for name in _PIXEL:
        if name in file:
            value = hdf5.read_array(file, name, kinds="iuf", where=where, limits=limits)
            unit = hdf5.read_attributes(file, name).get("units", "micron")
            size = millimetres(float(np.ravel(value)[0]), unit, where=where, what="pixel size")
            if size > 0:
                return size
    return None
