"""Nikon ``.xtekct``: settings of a cone-beam scan beside its TIFF pictures, which are counts over a white level.

Angles come from ``_ctdata.txt`` or ``.ang`` beside the file, else from its angular step.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from medrecon.data.formats import reader
from medrecon.data.limits import Limits
from medrecon.data.projections import check_views, number_in, read_pictures, scan_of, settings_in
from medrecon.data.reading import naming, reading
from medrecon.data.scan import Scan
from medrecon.errors import InputError

_KIND = "Nikon XTEK"
_LEAST_TRANSMISSION = 1e-5


def sniff_nikon(path: Path, head: bytes) -> bool:
    """A settings file with a section [XTekCT]."""
    return b"[XTekCT]" in head


@reader("nikon", suffixes=(".xtekct",), sniff=sniff_nikon)
def read_nikon(path: str | Path, *, limits: Limits | None = None) -> Scan:
    """The scan as line integrals on the volume that the file asks for, else one that fills the field of view.

    Raises InputError for missing or malformed entries, and numbers of pictures and angles that disagree.
    """
    from medrecon.physics.cone_geometry import ConeGeometry

    path = Path(path)
    where, limits = path.name, limits or Limits()
    settings = settings_in(path)

    def number(key: str, default: float | None = None) -> float:
        return number_in(settings, key, where, default)

    files = sorted(p for p in path.parent.glob("*.tif*") if re.search(r"_\d+$", p.stem))
    name = settings.get("name", "")
    files = [p for p in files if p.stem.startswith(name)] or files
    if not files:
        raise InputError("there are no projections beside the file", where=where, expected=f"{name or 'NAME'}_0001.tif")
    stated = int(number("Projections", len(files)))
    if stated != len(files):
        raise InputError(
            "the number of pictures is not that of the header", where=where, found=len(files), expected=stated,
            hint="Copy the missing pictures, or correct Projections in the file.",
        )  # fmt: skip
    counts = read_pictures(files, limits=limits)
    angles = _angles(path, name)
    if angles is None:
        angles = number("InitialAngle", 0.0) + number("AngularStep") * np.arange(len(files))
    check_views(len(angles), len(files), where)
    rows, columns = counts.shape[1:]
    for key, size in (("DetectorPixelsX", columns), ("DetectorPixelsY", rows)):
        if int(number(key, size)) != size:
            raise InputError(
                "the pictures are of another detector", where=where, found=size, expected=f"{key}={number(key):g}"
            )
    white = number("WhiteLevel")
    if not white > 0:
        raise InputError("the white level must be positive", where=where, found=white)
    data = -np.log(np.maximum(counts / np.float32(white), _LEAST_TRANSMISSION))
    with naming(where):
        scan = {
            "angles": np.deg2rad(angles % 360), "source_origin": number("SrcToObject"),
            "source_detector": number("SrcToDetector"), "rows": rows, "columns": columns,
            "row_spacing": number("DetectorPixelSizeY", number("DetectorPixelSizeX")),
            "column_spacing": number("DetectorPixelSizeX"), "detector_offset": number("DetectorOffsetX", 0.0),
            "row_offset": number("DetectorOffsetY", 0.0),
        }  # fmt: skip
        speck = ConeGeometry.circular((1, 1, 1), (0.01 * number("DetectorPixelSizeX"),) * 3, **scan)  # type: ignore[arg-type]
        shape = tuple(int(number(f"Voxels{a}", 0)) for a in "ZYX")
        spacing = tuple(number(f"VoxelSize{a}", 0.0) for a in "ZYX")
        asked = min(shape) > 0 and min(spacing) > 0
        geometry = speck.with_grid(shape, spacing) if asked else speck.fit_volume()
        notes = [f"a white level of {white:g} was taken for the beam without an object"]
        return scan_of(data[:, ::-1], geometry, kind=_KIND, notes=notes)


def _angles(path: Path, name: str) -> np.ndarray | None:
    """Degrees from the file of angles; None where there is none."""
    for file, column in ((path.with_name("_ctdata.txt"), 1), (path.with_name(f"{name or path.stem}.ang"), 1)):
        if file.exists():
            with reading(file, "angles"):
                rows = [re.split(r"[\s:]+", line.strip()) for line in file.read_text("utf-8", "replace").splitlines()]
            found = []
            for row in rows:
                try:
                    found.append((int(row[0]), float(row[column])))
                except (ValueError, IndexError):
                    continue  # headings
            if found:
                return np.array([angle for _, angle in sorted(found)])
    return None
