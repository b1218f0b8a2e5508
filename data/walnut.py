"""A folder of cone-beam pictures with vectors: ``scan_*.tif``, flats ``io*.tif``, darks ``di*.tif``, a ``.geom`` file.

The layout of the open walnut scans: every line of the ``.geom`` file holds the twelve numbers of ASTRA's ``cone_vec``
for the picture of that number, in mm. Pictures are stored as the scanner reads them out: turned over and transposed
against the vectors.

Reference: H. Der Sarkissian et al., Sci. Data 6, 215 (2019).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from medrecon.data.formats import reader
from medrecon.data.limits import Limits
from medrecon.data.projections import read_pictures, scan_of
from medrecon.data.reading import naming, reading
from medrecon.data.scan import Scan
from medrecon.errors import InputError

_KIND = "cone-beam pictures with vectors"


def sniff_walnut(path: Path, head: bytes) -> bool:
    """A folder with a geometry file and pictures."""
    return path.is_dir() and any(path.glob("*.geom")) and any(path.glob("scan_*.tif"))


@reader("cone-vectors", suffixes=(), sniff=sniff_walnut)
def read_walnut(path: str | Path, *, limits: Limits | None = None) -> Scan:
    """The scan as line integrals, on a volume that fills the field of view.

    Raises InputError where pictures and vectors do not fit together, or flats are missing.
    """
    from medrecon.physics.cone_geometry import ConeGeometry
    from medrecon.physics.counts import line_integrals

    folder = Path(path)
    where, limits = folder.name, limits or Limits()
    vectors = _vectors(folder)
    files = sorted(folder.glob("scan_*.tif"))
    numbers = [int(re.sub(r"\D", "", file.stem) or 0) for file in files]
    if max(numbers) >= len(vectors):
        raise InputError(
            "there are more pictures than vectors", where=where, found=f"picture {max(numbers)}",
            expected=f"numbers below {len(vectors)}",
        )  # fmt: skip
    flats, darks = sorted(folder.glob("io*.tif")), sorted(folder.glob("di*.tif"))
    if not flats:
        raise InputError("the folder has no flat fields", where=where, expected="io000000.tif")
    read = [_upright(read_pictures(group, limits=limits)) if group else None for group in (files, flats, darks)]
    assert read[0] is not None and read[1] is not None
    with naming(where):
        found = line_integrals(read[0], read[1], read[2])
        _, rows, columns = found.data.shape
        chosen = vectors[numbers]
        pitch = float(np.linalg.norm(chosen[0, 6:9]))
        # A speck at the axis gives way to the volume that fills the field of view.
        speck = ConeGeometry(chosen, rows, columns, (1, 1, 1), (0.01 * pitch,) * 3)
        return scan_of(found.data, speck.fit_volume(), kind=_KIND, noise=found.noise, notes=found.notes)


def _upright(pictures: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pictures[:, ::-1].transpose(0, 2, 1))


def _vectors(folder: Path) -> np.ndarray:
    """The file of corrected vectors where there is one."""
    files = sorted(folder.glob("*.geom"), key=lambda file: ("corrected" not in file.name, file.name))
    with reading(files[0], "geometry"):
        rows = [line.split() for line in files[0].read_text(encoding="ascii").splitlines() if line.strip()]
        if not rows or any(len(row) != 12 for row in rows):
            raise InputError("every line of a .geom file has twelve numbers", where=files[0].name)
        return np.array([[float(word) for word in row] for row in rows])
