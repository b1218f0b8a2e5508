"""``kspace.h5``: measured k-space in one documented HDF5 file. The schema is written down in docs/kspace-h5.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medrecon.data import hdf5
from medrecon.data.atomic import final_name
from medrecon.data.formats import reader, writer
from medrecon.data.kspace import KSpace
from medrecon.data.kspace_checks import check_kspace
from medrecon.data.limits import Limits
from medrecon.data.provenance import jsonable_dict
from medrecon.data.reading import naming
from medrecon.data.volume import Geometry
from medrecon.errors import CorruptInput, InputError

FORMAT = "medrecon-kspace"
VERSION = 1
_KIND = "kspace.h5"
# Optional arrays: name, kinds of number, type in memory
_PARTS = (
    ("mask", "biu", np.bool_),
    ("averages", "fiu", np.float32),
    ("calibration", "c", np.complex64),
    ("noise_covariance", "fc", np.complex128),
    ("trajectory", "f", np.float32),
    ("maps", "c", np.complex64),
)


def sniff_kspace(path: Path, head: bytes) -> bool:
    """An HDF5 file that says it is k-space of this layout."""
    found = hdf5.peek(path, head)
    return found is not None and found["format"] == FORMAT


@reader("kspace.h5", suffixes=(".h5", ".hdf5"), sniff=sniff_kspace)
def read_kspace_h5(path: str | Path, *, limits: Limits | None = None) -> KSpace:
    """Measured k-space with mask, noise, calibration and the grid to reconstruct on.

    ``meta["verified"]`` is true when the file carries a SHA-256 and agrees with it; files written by hand need none.

    Raises
    ------
    InputError
        A part is missing or contradicts another, NaN or infinity, no signal, a version from the future.
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
        arrays = {"data": hdf5.read_array(file, "data", kinds="c", where=where, limits=limits)}
        for name, kinds, _ in _PARTS:
            if name in file:
                arrays[name] = hdf5.read_array(file, name, kinds=kinds, where=where, limits=limits)
        facts: dict[str, object] = {
            name: {key: _listed(value) for key, value in hdf5.read_attributes(file, name).items()}
            for name in ("acquisition", "volume")
        }
        facts |= {name: hdf5.read_text(file, name, where=where) or "{}" for name in ("provenance", "notes")}
    verified = _verified(root.get("sha256"), arrays, facts, where)
    made = _assembled(arrays, facts, where)
    made.meta["verified"] = verified
    check_kspace(made, where)
    return made


def _verified(stated: object, arrays: Mapping[str, np.ndarray], facts: Mapping[str, object], where: str) -> bool:
    if stated is None:
        return False
    actual = hdf5.digest(arrays, facts)
    if actual != stated:
        raise CorruptInput(
            "the content does not agree with its SHA-256",
            where=where,
            found=f"{actual[:12]}...",
            expected=f"{str(stated)[:12]}...",
            hint="Copy it again from its source. If you edited it on purpose, delete the root attribute sha256.",
        )
    return True


def _assembled(arrays: dict[str, np.ndarray], facts: Mapping[str, object], where: str) -> KSpace:
    acquisition, volume = facts["acquisition"], facts["volume"]
    assert isinstance(acquisition, dict)
    assert isinstance(volume, dict)
    field_of_view = _numbers(acquisition, "field_of_view", (3,), where)
    shape, affine = _numbers(volume, "shape", (3,), where), _numbers(volume, "affine", (4, 4), where)
    matrix = _numbers(acquisition, "matrix", (3,), where) if "matrix" in acquisition else None
    encoded = _numbers(acquisition, "encoded", None, where) if "encoded" in acquisition else np.array([1, 2])
    readout = acquisition.get("readout_axis")
    parts = {name: arrays[name].astype(kind) for name, _, kind in _PARTS if name in arrays}
    meta = _parsed(facts["notes"], "notes", where)
    with naming(where):
        grid = Geometry(tuple(int(n) for n in shape), affine)  # type: ignore[arg-type]
    return KSpace(
        data=np.ascontiguousarray(arrays["data"], dtype=np.complex64),
        volume_geometry=grid,
        field_of_view=(float(field_of_view[0]), float(field_of_view[1]), float(field_of_view[2])),
        encoded=tuple(int(a) for a in encoded.ravel()),
        readout_axis=None if readout is None else int(readout),
        matrix=None if matrix is None else (int(matrix[0]), int(matrix[1]), int(matrix[2])),
        quantity=str(volume.get("quantity", "a.u.")),
        provenance=_parsed(facts["provenance"], "provenance", where),
        meta={"format": _KIND} | meta,
        **parts,  # type: ignore[arg-type]
    )


@writer("kspace.h5", suffixes=(".h5", ".hdf5"), content=KSpace)
def write_kspace_h5(path: Path, kspace: KSpace) -> None:
    """Write k-space. The same content gives the same bytes: no times and no paths are in the file.

    Raises InputError where `read_kspace_h5` would refuse the result.
    """
    check_kspace(kspace, final_name(path))
    arrays = {"data": np.ascontiguousarray(kspace.data, dtype="<c8")}
    for name, _, kind in _PARTS:
        part = getattr(kspace, name)
        if part is not None:
            arrays[name] = np.ascontiguousarray(part, dtype=np.uint8 if kind is np.bool_ else kind)
    grid = kspace.volume_geometry
    acquisition: dict[str, object] = {
        "field_of_view": [float(length) for length in kspace.field_of_view],
        "encoded": list(kspace.encoded),
    }
    if kspace.readout_axis is not None:
        acquisition["readout_axis"] = kspace.readout_axis
    if kspace.matrix is not None:
        acquisition["matrix"] = list(kspace.matrix)
    volume = {"shape": list(grid.shape), "affine": grid.affine.tolist(), "quantity": kspace.quantity}
    notes = {key: value for key, value in kspace.meta.items() if key not in ("verified",)}
    texts = {
        "provenance": json.dumps(jsonable_dict(kspace.provenance), sort_keys=True),
        "notes": json.dumps(jsonable_dict(notes), sort_keys=True),
    }
    facts = {"acquisition": acquisition, "volume": volume, **texts}
    with hdf5.new_file(path) as file:
        root = {"format": FORMAT, "format_version": VERSION, "modality": kspace.modality}
        hdf5.write_attributes(file, root | {"sha256": hdf5.digest(arrays, facts)})
        for name, array in arrays.items():
            hdf5.write_array(file, name, array, {})
        hdf5.write_attributes(file.create_group("acquisition"), acquisition)
        hdf5.write_attributes(file.create_group("volume"), volume)
        for name, text in texts.items():
            hdf5.write_text(file, name, text)


def _listed(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _numbers(group: Mapping[str, object], name: str, shape: tuple[int, ...] | None, where: str) -> np.ndarray:
    value = group.get(name)
    array = np.asarray(value) if isinstance(value, list | int | float) else np.empty(0)
    if not array.size or array.dtype.kind not in "fiu" or (shape is not None and array.shape != shape):
        wanted = "numbers" if shape is None else f"{' x '.join(map(str, shape))} numbers"
        raise InputError(
            f"the attribute {name} is missing or malformed", where=where,
            found="nothing" if value is None else str(value)[:60], expected=wanted, hint="See docs/kspace-h5.md.",
        )  # fmt: skip
    return array


def _parsed(text: object, name: str, where: str) -> dict:
    try:
        parsed = json.loads(str(text))
    except ValueError as error:
        raise InputError(f"/{name} is not JSON", where=where) from error
    return parsed if isinstance(parsed, dict) else {"note": parsed}
