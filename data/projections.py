"""What readers of projections share: units, scans from geometry and counts, grids, pictures, settings files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrecon.data.limits import Limits
from medrecon.data.reading import reading, require_finite
from medrecon.data.scan import Scan
from medrecon.data.volume import WATER, Geometry
from medrecon.errors import InputError

if TYPE_CHECKING:
    from medrecon.physics.cone_geometry import ConeGeometry
    from medrecon.physics.counts import LineIntegrals
    from medrecon.physics.ct_geometry import CTGeometry

MILLIMETRES = {"m": 1e3, "cm": 10.0, "mm": 1.0, "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "micron": 1e-3, "microns": 1e-3,
               "nm": 1e-6, "meter": 1e3, "meters": 1e3, "metre": 1e3}  # fmt: skip
_RADIANS = {"rad": 1.0, "radian": 1.0, "radians": 1.0, "deg": math.pi / 180, "degree": math.pi / 180,
            "degrees": math.pi / 180}  # fmt: skip
UNKNOWN_PIXEL = (
    "the file does not say how large a pixel is: 1 mm is assumed, so attenuation is per pixel "
    "(set it with --correct pixel=MM)"
)
_MOST_FRAMES = 100_000


def millimetres(value: float, unit: object, *, where: str, what: str) -> float:
    """A length in mm. Raises InputError for an unknown unit."""
    factor = MILLIMETRES.get(str(unit).strip().lower())
    if factor is None:
        raise InputError(f"unknown unit of the {what}", where=where, found=repr(unit), expected="m, cm, mm, um or nm")
    return float(value) * factor


def radians(values: np.ndarray, unit: object, *, where: str) -> np.ndarray:
    """Angles in radians within one turn. Raises InputError for an unknown unit, NaN, or no angles."""
    factor = _RADIANS.get(str(unit).strip().lower())
    if factor is None:
        raise InputError("unknown unit of the angles", where=where, found=repr(unit), expected="degrees or radians")
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    require_finite(array, where=where, what="angles")
    if array.size > 1 and np.ptp(array) == 0:
        raise InputError("all views have the same angle", where=where, found=f"{array[0]:g} {unit}")
    if factor != 1.0 and array.size > 2 and np.ptp(array) < 2 * math.pi + 0.1 and np.ptp(array) > 0.9 * math.pi:
        raise InputError(
            "the angles are said to be degrees but look like radians", where=where, found=f"span {np.ptp(array):.3f}",
            hint="Correct their unit in the file.",
        )  # fmt: skip
    turned = array * factor
    return turned if np.abs(turned).max() <= 4 * math.pi else turned % (2 * math.pi)


def scan_of(
    data: np.ndarray,
    geometry: CTGeometry | ConeGeometry,
    *,
    kind: str,
    noise: dict | None = None,
    notes: Sequence[str] = (),
    water: float = WATER,
    provenance: dict | None = None,
) -> Scan:
    """A scan on the grid of its geometry. Raises InputError where the data do not fit it or are not finite."""
    if data.shape != geometry.data_shape:
        raise InputError("the data do not fit the geometry", found=data.shape, expected=geometry.data_shape)
    require_finite(data, where=kind, what="measured data")
    return Scan(
        data=np.ascontiguousarray(data, dtype=np.float32),
        geometry=geometry.to_dict(),
        volume_geometry=Geometry.from_spacing(geometry.shape, geometry.spacing),
        noise=noise or {},
        water=water,
        provenance={"format": kind, **(provenance or {})},
        meta={"format": kind, "notes": list(notes)},
    )


def parallel_scan(found: LineIntegrals, angles: np.ndarray, pixel: tuple[float, float] | None, *, kind: str, where: str,
                  notes: Sequence[str] = ()) -> Scan:  # fmt: skip
    """A stack of parallel-beam slices: square pixels as wide as a column; ``pixel`` is (row, column) in mm."""
    from medrecon.physics.ct_geometry import CTGeometry

    views, rows, columns = found.data.shape
    check_views(len(angles), views, where)
    height, width = pixel or (1.0, 1.0)
    geometry = CTGeometry.parallel(
        (rows, columns, columns), (height, width, width), angles=angles, columns=columns, column_spacing=width
    )
    said = [*notes, *found.notes, *([] if pixel else [UNKNOWN_PIXEL])]
    return scan_of(found.data, geometry, kind=kind, noise=found.noise, notes=said)


def check_views(angles: int, views: int, where: str) -> None:
    """Raise InputError unless there is one angle per view."""
    if angles != views:
        raise InputError(
            "the number of angles is not the number of projections", where=where, found=f"{angles} and {views}",
            hint="Is a projection missing, or do the angles count flat and dark fields too?",
        )  # fmt: skip


def read_pictures(files: Sequence[Path], *, limits: Limits) -> np.ndarray:
    """Grey pictures of equal size (TIFF and the like), one or several to a file, as ``(n, rows, columns)``.

    Raises InputError for colour, unequal sizes and damage, TooLarge for more than fits into memory.
    """
    from PIL import Image, UnidentifiedImageError

    frames: list[np.ndarray] = []
    for file in files:
        with reading(file, "picture"):
            try:
                picture = Image.open(file)
            except UnidentifiedImageError as error:
                raise InputError("this is no picture that can be read", where=file.name, expected="TIFF") from error
            with picture:
                count = int(getattr(picture, "n_frames", 1))
                if not frames:
                    limits.check((len(files) * count, picture.height, picture.width), 4, where=file.name)
                for page in range(count):
                    picture.seek(page)
                    frames.append(_grey(picture, file.name))
                    if frames[-1].shape != frames[0].shape or len(frames) > _MOST_FRAMES:
                        raise InputError(
                            "pictures of one scan have one size", where=file.name, found=frames[-1].shape,
                            expected=frames[0].shape,
                        )  # fmt: skip
    if not frames:
        raise InputError("there are no pictures")
    return np.stack(frames)


def _grey(picture: object, where: str) -> np.ndarray:
    array = np.asarray(picture)
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        raise InputError("projections are grey pictures", where=where, found=f"{array.shape}, {array.dtype}")
    return array.astype(np.float32)


def settings_in(path: Path, *, limit: int = 1 << 20) -> dict[str, str]:
    """``key = value`` lines of an ini-like file, keys in lower case, section names left out.

    Raises InputError for a file that is too long or no text.
    """
    with reading(path, "settings"):
        raw = path.read_bytes()
    if len(raw) > limit or b"\0" in raw:
        raise InputError("this is no settings file", where=path.name, found=f"{len(raw)} bytes")
    out: dict[str, str] = {}
    for line in raw.decode("utf-8", "replace").splitlines():
        key, equals, value = line.partition("=")
        if equals:
            out.setdefault(key.strip().lower(), value.strip())
    return out


def number_in(settings: dict[str, str], key: str, where: str, default: float | None = None) -> float:
    """A number of a settings file. Raises InputError where it is missing, or none."""
    text = settings.get(key.lower())
    if text is None:
        if default is None:
            raise InputError(f"the file has no entry {key}", where=where)
        return default
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"the entry {key} is not a number", where=where, found=text[:20])
    return value
