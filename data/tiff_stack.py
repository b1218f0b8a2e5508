"""Projections as TIFF pictures beside a YAML file that says how they were measured.

    projections: proj_*.tif        # or a list; sorted by name
    flats: flat_*.tif              # left out: the pictures are line integrals already
    darks: dark_*.tif
    angles: {start: 0, step: 0.5}  # degrees; or a list of them
    geometry:                      # lengths in mm, as in scan.h5
      kind: cone-flat
      column_spacing: 0.2
      row_spacing: 0.2
      source_origin: 410
      source_detector: 550

Without ``shape`` and ``spacing`` the volume fills the field of view.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medrecon.data.formats import reader
from medrecon.data.limits import Limits
from medrecon.data.projections import check_views, read_pictures, scan_of
from medrecon.data.reading import naming, reading
from medrecon.data.scan import Scan
from medrecon.errors import InputError, UnsafeInput

if TYPE_CHECKING:
    from medrecon.physics.cone_geometry import ConeGeometry
    from medrecon.physics.ct_geometry import CTGeometry

_KIND = "TIFF stack"
_KEYS = {"projections", "flats", "darks", "angles", "geometry", "water"}
_MOST_FILES = 50_000


def sniff_stack(path: Path, head: bytes) -> bool:
    """A YAML file that names projections and a geometry."""
    if path.suffix.lower() not in (".yaml", ".yml"):
        return False
    lines = [line.split(b":")[0].strip() for line in head.splitlines()]
    return b"projections" in lines and b"geometry" in lines


@reader("tiff-stack", suffixes=(".yaml", ".yml"), sniff=sniff_stack)
def read_stack(path: str | Path, *, limits: Limits | None = None) -> Scan:
    """The scan that a YAML file and the pictures beside it make up.

    Raises
    ------
    InputError
        No YAML, unknown or missing entries, files that are not there, numbers that disagree.
    UnsafeInput
        Pictures outside of the folder of the YAML file.
    """
    import yaml

    from medrecon.physics.counts import line_integrals

    path = Path(path)
    where, limits = path.name, limits or Limits()
    with reading(path, "YAML"):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise InputError("the description is not valid YAML", where=where) from error
    if not isinstance(content, dict) or not isinstance(content.get("geometry"), dict):
        raise InputError("the description has no table `geometry`", where=where)
    unknown = sorted(set(map(str, content)) - _KEYS)
    if unknown or "projections" not in content or "angles" not in content:
        raise InputError(
            "the description is not complete or has entries that nothing reads", where=where,
            found=", ".join(map(str, content)), expected=", ".join(sorted(_KEYS)),
        )  # fmt: skip
    counts = read_pictures(_files(path, content["projections"]), limits=limits)
    angles = np.deg2rad(_angles(content["angles"], len(counts), where))
    check_views(len(angles), len(counts), where)
    with naming(where):
        noise, notes, data = {}, [], counts
        if "flats" in content:
            flats = read_pictures(_files(path, content["flats"]), limits=limits)
            darks = read_pictures(_files(path, content["darks"]), limits=limits) if "darks" in content else None
            found = line_integrals(counts, flats, darks)
            data, noise, notes = found.data, found.noise, found.notes
        geometry = geometry_of(dict(content["geometry"]), angles, data.shape)
        water = {"water": float(content["water"])} if "water" in content else {}
        return scan_of(data, geometry, kind=_KIND, noise=noise, notes=notes, **water)  # type: ignore[arg-type]


def geometry_of(values: dict[str, Any], angles: np.ndarray, shape: tuple[int, ...]) -> CTGeometry | ConeGeometry:
    """A geometry from the entries of a file, with a volume that fills the field of view where none is given."""
    from medrecon.physics.cone_geometry import geometry_from_dict

    _, rows, columns = shape
    cone = str(values.get("kind", "")).startswith("cone")
    values |= {"angles": angles.tolist(), "columns": columns} | ({"rows": rows} if cone else {})
    for name in ("source_origin", "source_detector", "column_spacing", "row_spacing"):
        if name in values and not isinstance(values[name], int | float):
            raise InputError(f"{name} must be a number", found=repr(values[name])[:40], expected="mm")
    if "shape" in values or "spacing" in values:
        return geometry_from_dict(values)
    pitch = float(values.get("column_spacing") or 1.0)
    height = pitch if cone else float(values.pop("row_spacing", 0) or pitch)
    # A small volume at the axis, which any sensible geometry sees, gives way to the fitted one.
    seed = {"shape": [1 if cone else rows, 3, 3], "spacing": [height, 1e-2 * pitch, 1e-2 * pitch]}
    return geometry_from_dict(values | seed).fit_volume()


def _files(path: Path, named: object) -> list[Path]:
    """The files of a pattern or list of names in the folder of ``path``."""
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError("pictures are named by a pattern or a list", where=path.name, found=type(named).__name__)
    files: list[Path] = []
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UnsafeInput("pictures lie beside their description", where=path.name, found=name)
        files += sorted(path.parent.glob(name))
    if not files or len(files) > _MOST_FILES:
        raise InputError("no pictures have this name", where=path.name, found=str(names[:3]), hint="Check the pattern.")
    return files


def _angles(value: object, views: int, where: str) -> np.ndarray:
    """Degrees from a list, or from start and step."""
    if isinstance(value, Mapping) and set(value) <= {"start", "step"} and "step" in value:
        value = [value.get("start", 0.0) + value["step"] * k for k in range(views)]
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty((0, 0))
    if array.ndim != 1 or not np.isfinite(array).all():
        raise InputError("angles are a list of degrees, or `start` and `step`", where=where, found=str(value)[:60])
    return array if np.abs(array).max(initial=0) <= 720 else array % 360
