"""SkyScan ``.log``: settings of a cone-beam scan beside its TIFF pictures, flat-field corrected by the scanner."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medrecon.data.formats import reader
from medrecon.data.limits import Limits
from medrecon.data.projections import number_in, read_pictures, scan_of, settings_in
from medrecon.data.reading import naming
from medrecon.data.scan import Scan
from medrecon.errors import InputError

_KIND = "SkyScan"
_LEAST_TRANSMISSION = 1e-5


def sniff_skyscan(path: Path, head: bytes) -> bool:
    """A log that names the camera and the step of rotation."""
    low = head.lower()
    return b"[system]" in low and b"[acquisition]" in low and (b"skyscan" in low or b"bruker" in low)


@reader("skyscan", suffixes=(".log",), sniff=sniff_skyscan)
def read_skyscan(path: str | Path, *, limits: Limits | None = None) -> Scan:
    """The scan as line integrals on a volume that fills the field of view.

    Raises InputError for missing or malformed entries, no flat-field correction, and numbers of pictures that disagree.
    """
    from medrecon.physics.cone_geometry import ConeGeometry

    path = Path(path)
    where, limits = path.name, limits or Limits()
    settings = settings_in(path)

    def number(key: str, default: float | None = None) -> float:
        return number_in(settings, key, where, default)

    if settings.get("flat field correction", "on").lower() != "on":
        raise InputError("the pictures were stored without flat-field correction", where=where, hint="Switch it on.")
    prefix = settings.get("filename prefix", path.stem)
    files = [
        p for p in sorted(path.parent.glob("*.tif*")) if p.stem.startswith(prefix) and p.stem[len(prefix) :].isdigit()
    ]
    stated = int(number("Number of Files", len(files)))
    if not files or stated < len(files) or len(files) < stated - 2:  # reference pictures count too
        raise InputError(
            "the number of pictures is not that of the log", where=where, found=len(files), expected=stated,
            hint="Copy the missing pictures beside the log.",
        )  # fmt: skip
    counts = read_pictures(files, limits=limits)
    _, rows, columns = counts.shape
    white = float(2 ** int(number("Depth (bits)", 16)) - 1)
    data = -np.log(np.maximum(counts / np.float32(white), _LEAST_TRANSMISSION))
    origin, detector = number("Object to Source (mm)"), number("Camera to Source (mm)")
    pixel = 1e-3 * number("Image Pixel Size (um)") * detector / origin
    # The optical axis is counted from the lowest line, rows from the highest.
    axis = number("Optical Axis (line)", (rows - 1) / 2)
    angles = np.deg2rad(number("Rotation Step (deg)") * np.arange(len(files)) % 360)
    with naming(where):
        speck = ConeGeometry.circular(
            (1, 1, 1), (0.01 * pixel,) * 3, angles=angles, source_origin=origin, source_detector=detector, rows=rows,
            columns=columns, row_spacing=pixel, column_spacing=pixel, row_offset=((rows - 1) / 2 - axis) * pixel,
        )  # fmt: skip
        notes = [f"{white:g} was taken for the beam without an object"]
        return scan_of(data[:, ::-1], speck.fit_volume(), kind=_KIND, notes=notes)
