"""``scan.h5``: measured data in one documented HDF5 file. The schema is written down in docs/scan-h5.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medrecon.data import hdf5
from medrecon.data.atomic import final_name
from medrecon.data.formats import reader, writer
from medrecon.data.limits import Limits
from medrecon.data.provenance import jsonable_dict
from medrecon.data.reading import naming, require_finite
from medrecon.data.scan import Scan
from medrecon.data.volume import WATER, Geometry
from medrecon.errors import CorruptInput, InputError

FORMAT = "medrecon-scan"
VERSION = 1
_KIND = "scan.h5"
_ANGLE_UNITS = {"rad": 1.0, "deg": np.pi / 180}


def sniff_scan(path: Path, head: bytes) -> bool:
    """An HDF5 file that says it is a scan, or is laid out like one."""
    found = hdf5.peek(path, head)
    if found is None:
        return False
    names = found["names"]
    return found["format"] == FORMAT or (isinstance(names, list) and {"data", "geometry"} <= set(names))


@reader("scan.h5", suffixes=(".h5", ".hdf5"), sniff=sniff_scan)
def read_scan_h5(path: str | Path, *, limits: Limits | None = None) -> Scan:
    """Measured data with geometry, noise model and output grid.

    ``meta["verified"]`` is true when the file carries a SHA-256 and agrees with it; files written by hand need none.

    Raises
    ------
    InputError
        A part is missing or contradicts another (number of views and angles, grid and geometry), NaN or infinity,
        angles in the wrong unit, a version from the future.
    CorruptInput
        Truncated or damaged, SHA-256 disagrees.
    UnsafeInput
        Links, external storage, virtual datasets, compression plug-ins.
    TooLarge
        More than the limits allow.
    """
    where, limits = Path(path).name, limits or Limits()
    with hdf5.open_input(path, _KIND) as file:
        root = hdf5.read_attributes(file, "/")
        hdf5.check_version(root, VERSION, where)
        modality = str(root.get("modality", "ct"))
        stated = root.get("sha256")
        data = hdf5.read_array(file, "data", kinds="fiu", where=where, limits=limits)
        arrays = {"data": data}
        for name in ("angles", "vectors"):
            if name == "angles" or name in file:
                arrays[name] = hdf5.read_array(file, name, kinds="fiu", where=where, limits=limits)
        angles = arrays["angles"]
        unit = hdf5.read_attributes(file, "angles").get("units", "rad")
        grid = hdf5.read_attributes(file, "volume")
        geometry = {key: _listed(value) for key, value in hdf5.read_attributes(file, "geometry").items()}
        noise = {key: _listed(value) for key, value in hdf5.read_attributes(file, "noise").items()}
        text = hdf5.read_text(file, "provenance", where=where)
    volume_geometry = _grid(grid, where)
    water = _number(grid.get("water", WATER), "the attribute water of /volume", where)
    if stated is not None:
        facts = _facts(modality, geometry, noise, volume_geometry, water, text, str(unit))
        actual = hdf5.digest(arrays, facts)
        if actual != stated:
            raise CorruptInput(
                "the content does not agree with its SHA-256",
                where=where,
                found=f"{actual[:12]}...",
                expected=f"{str(stated)[:12]}...",
                hint="Copy it again from its source. If you edited it on purpose, delete the root attribute sha256.",
            )
    if unit not in _ANGLE_UNITS:
        raise InputError("unknown unit of the angles", where=where, found=repr(unit), expected="rad or deg")
    if "kind" not in geometry:
        raise InputError("the group /geometry is missing or has no attribute kind", where=where)
    geometry["angles"] = (angles.astype(np.float64) * _ANGLE_UNITS[str(unit)]).tolist()
    if "vectors" in arrays:
        geometry["vectors"] = arrays["vectors"].astype(np.float64).tolist()
    require_finite(angles, where=where, what="angles")
    require_finite(data, where=where, what="measured data")
    if modality == "ct":
        check_ct(data, geometry, volume_geometry, where)
    with naming(where):
        return Scan(
            data=np.ascontiguousarray(data, dtype=np.float32),
            geometry=geometry,
            volume_geometry=volume_geometry,
            modality=modality,
            noise=noise,
            water=water,
            provenance=_provenance(text, where),
            meta={"format": _KIND, "verified": stated is not None},
        )


@writer("scan.h5", suffixes=(".h5", ".hdf5"), content=Scan)
def write_scan_h5(path: Path, scan: Scan) -> None:
    """Write a scan. The same scan gives the same bytes: no times and no paths are in the file.

    Raises InputError where `read_scan_h5` would refuse the result.
    """
    where = final_name(path)
    data = np.ascontiguousarray(scan.data, dtype="<f4")
    rest = {key: _normalised(value) for key, value in scan.geometry.items() if key not in ("angles", "vectors")}
    angles = np.asarray(scan.geometry.get("angles", ()), dtype="<f8").reshape(-1)
    arrays = {"data": data, "angles": angles}
    if scan.geometry.get("vectors") is not None:
        arrays["vectors"] = np.asarray(scan.geometry["vectors"], dtype="<f8")
    noise = {key: _normalised(value) for key, value in scan.noise.items()}
    require_finite(data, where=where, what="measured data")
    require_finite(angles, where=where, what="angles")
    if scan.modality == "ct":
        listed = {name: array.tolist() for name, array in arrays.items() if name != "data"}
        check_ct(data, rest | listed, scan.volume_geometry, where)
    text = json.dumps(jsonable_dict(scan.provenance), sort_keys=True)
    rest = {key: value for key, value in rest.items() if value is not None}
    noise = {key: value for key, value in noise.items() if value is not None}
    facts = _facts(scan.modality, rest, noise, scan.volume_geometry, float(scan.water), text, "rad")
    with hdf5.new_file(path) as file:
        root = {
            "format": FORMAT,
            "format_version": VERSION,
            "modality": scan.modality,
            "sha256": hdf5.digest(arrays, facts),
        }
        hdf5.write_attributes(file, root)
        axes = "view,row,column" if scan.is_cone else "view,slice,column"
        about = {"quantity": "line integral of attenuation", "units": "1", "axes": axes}
        hdf5.write_array(file, "data", data, about if scan.modality == "ct" else {})
        file.create_dataset("angles", data=angles, fletcher32=True, chunks=angles.shape)
        hdf5.write_attributes(file["angles"], {"units": "rad"})
        if "vectors" in arrays:
            hdf5.write_array(file, "vectors", arrays["vectors"], {"units": "mm", "axes": "view,(source,centre,u,v)"})
        hdf5.write_attributes(file.create_group("geometry"), rest)
        hdf5.write_attributes(file.create_group("noise"), noise)
        grid = {"shape": list(scan.volume_geometry.shape), "affine": scan.volume_geometry.affine}
        hdf5.write_attributes(file.create_group("volume"), {**grid, "water": float(scan.water)})
        hdf5.write_text(file, "provenance", text)


def check_ct(data: np.ndarray, geometry: Mapping[str, object], grid: Geometry, where: str) -> None:
    """Raise InputError where projections, geometry and output grid contradict each other."""
    from medrecon.physics.cone_geometry import geometry_from_dict

    angles = geometry.get("angles", ())
    views = len(angles) if isinstance(angles, list) else 0
    if data.ndim != 3:
        raise InputError(
            "projections have three dimensions", where=where, found=data.shape, expected="(views, rows, columns)"
        )
    if views != data.shape[0]:
        raise InputError(
            "the number of angles is not the number of views",
            where=where,
            found=f"{views} angles and data of shape {data.shape}",
            expected="data (views, slices, columns), of a cone beam (views, rows, columns), with one angle per view",
        )
    try:
        with naming(where):
            parsed = geometry_from_dict(dict(geometry))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"/geometry cannot be used: {error}", where=where, hint="See docs/scan-h5.md.") from error
    lines = "rows" if str(geometry.get("kind")).startswith("cone") else "slices"
    if parsed.data_shape != data.shape:
        raise InputError(
            "the data do not fit the geometry",
            where=where,
            found=f"data of shape {data.shape}",
            expected="{} views, {} {}, {} columns".format(*parsed.data_shape[:2], lines, parsed.columns),
            hint="The axes are exchanged: transpose the data."
            if sorted(parsed.data_shape) == sorted(data.shape)
            else None,
        )
    if tuple(parsed.shape) != grid.shape or not np.allclose(parsed.spacing, grid.spacing, rtol=1e-5):
        raise InputError(
            "the grid of /volume is not the grid of /geometry",
            where=where,
            found=f"shape {grid.shape}, spacing {_rounded(grid.spacing)} mm",
            expected=f"shape {tuple(parsed.shape)}, spacing {_rounded(parsed.spacing)} mm",
        )


def _grid(grid: Mapping[str, object], where: str) -> Geometry:
    shape, affine = grid.get("shape"), grid.get("affine")
    if not isinstance(shape, np.ndarray) or not isinstance(affine, np.ndarray) or shape.shape != (3,):
        raise InputError(
            "the output grid is missing",
            where=where,
            expected="the group /volume with attributes shape (3) and affine (4 x 4)",
        )
    with naming(where):
        return Geometry(tuple(int(n) for n in shape), affine)  # type: ignore[arg-type]


def _facts(
    modality: str, geometry: Mapping, noise: Mapping, grid: Geometry, water: float, text: str | None, unit: str
) -> dict[str, object]:
    """All that the SHA-256 covers beside the arrays."""
    return {
        "modality": modality,
        "geometry": dict(geometry),
        "noise": dict(noise),
        "shape": list(grid.shape),
        "affine": grid.affine.tolist(),
        "water": water,
        "provenance": text or "",
        "angle_units": unit,
    }


def _normalised(value: object) -> object:
    """A value as it will come back from an attribute."""
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int | float | np.generic | np.ndarray | list | tuple):
        array = np.asarray(value)
        if array.dtype.kind in "fiub":
            return array.astype(np.float64 if array.dtype.kind == "f" else np.int64).tolist()
    raise InputError("a scan holds numbers, text and lists of numbers only", found=type(value).__name__)


def _listed(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _number(value: object, what: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{what} is not a number", where=where, found=type(value).__name__)
    return float(value)


def _provenance(text: str | None, where: str) -> dict:
    try:
        parsed = json.loads(text) if text else {}
    except ValueError as error:
        raise InputError("/provenance is not JSON", where=where) from error
    return parsed if isinstance(parsed, dict) else {"note": parsed}


def _rounded(values: tuple[float, float, float]) -> tuple[float, ...]:
    return tuple(round(float(v), 6) for v in values)
