"""k-space as bare arrays: ``.npy``, ``.npz`` and HDF5 datasets, with what is stated about their axes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medrecon.data import hdf5
from medrecon.data.formats import reader
from medrecon.data.kspace import KSpace
from medrecon.data.limits import Limits
from medrecon.data.reading import reading
from medrecon.data.stated import HINT, KEYS, kspace_of_array, statements_beside
from medrecon.errors import InputError, UnsafeInput

_NAMES = ("kspace", "ksp", "data")  # of the array, in this order
_OTHERS = (("data", "geometry"), ("reconstruction",), ("kspace", "ismrmrd_header"), ("kspace", "reconstruction_rss"),
           ("kspace", "reconstruction_esc"))  # fmt: skip
_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"
_SMALL = 4096  # values: what states something is no larger


def sniff_npy(path: Path, head: bytes) -> bool:
    """NumPy's own magic number."""
    return head.startswith(_NPY)


@reader("npy", suffixes=(".npy",), sniff=sniff_npy)
def read_npy(path: str | Path, *, limits: Limits | None = None) -> KSpace:
    """One complex array; its axes stand in ``NAME.yaml``. Raises InputError for real numbers and unknown axes."""
    path = Path(path)
    said = statements_beside(path)
    with reading(path, "NumPy"), path.open("rb") as file:
        array = _array(file, path.name, limits or Limits())
    return kspace_of_array(array, said, path.name, kind="npy")


def sniff_npz(path: Path, head: bytes) -> bool:
    """A zip archive of NumPy arrays."""
    if not head.startswith(_ZIP):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return path.suffix == ".npz"
    return bool(names) and all(name.endswith(".npy") for name in names)


@reader("npz", suffixes=(".npz",), sniff=sniff_npz)
def read_npz(path: str | Path, *, limits: Limits | None = None) -> KSpace:
    """An archive with ``kspace`` (or ``ksp``, ``data``) and, by name, ``mask``, ``axes``, ``spacing`` and so on."""
    path, limits = Path(path), limits or Limits()
    with reading(path, "NumPy archive"), zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        beside = statements_beside(path)
        name = _main_array(names, beside, path.name)

        def load(key: str) -> np.ndarray:
            with archive.open(f"{key}.npy") as file:
                return _array(file, path.name, limits)  # type: ignore[arg-type]

        inside = {key: load(key) for key in KEYS if key in names and key not in ("data", "mask")}
        said = {key: _plain(value, key, path.name) for key, value in inside.items()} | beside
        mask_name = str(said.get("mask", "mask"))
        mask = load(mask_name) if mask_name in names else None
        array = load(name)
    return kspace_of_array(array, said, path.name, kind="npz", mask=mask)


def sniff_h5_array(path: Path, head: bytes) -> bool:
    """An HDF5 file of no layout known by another reader, with a dataset of a usual name or one named beside it."""
    found = hdf5.peek(path, head)
    if found is None or found["format"] is not None:
        return False
    names, groups = found["names"], found["groups"]
    assert isinstance(names, list)
    assert isinstance(groups, dict)
    if any(set(layout) <= set(names) for layout in _OTHERS):
        return False
    return any(n in names and n not in groups for n in _NAMES) or path.with_suffix(".yaml").is_file()


@reader("hdf5-array", suffixes=(".h5", ".hdf5"), sniff=sniff_h5_array)
def read_h5_array(path: str | Path, *, limits: Limits | None = None) -> KSpace:
    """A complex dataset; what is known of it in its attributes (``axes``, ``spacing``, ``affine``) or ``NAME.yaml``."""
    path, limits = Path(path), limits or Limits()
    beside = statements_beside(path)
    with hdf5.open_input(path, "HDF5") as file:
        name = _main_array(set(file), beside, path.name)
        attributes = {k: v for k, v in hdf5.read_attributes(file, name).items() if k in KEYS}
        said = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in attributes.items()} | beside
        if "axes" not in said and len(file[name].shape) > 3:
            raise InputError(
                "the axes are not stated", where=path.name, found=f"/{name} of shape {file[name].shape}",
                expected="an attribute axes, or /ismrmrd_header as in fastMRI files", hint=HINT,
            )  # fmt: skip
        array = hdf5.read_complex(file, name, where=path.name, limits=limits)
        mask_name = str(said.get("mask", "mask"))
        mask = None
        if mask_name in file:
            mask = hdf5.read_array(file, mask_name, kinds="biuf", where=path.name, limits=limits)
    return kspace_of_array(array, said, path.name, kind="hdf5-array", mask=mask)


def _main_array(names: set[str], beside: dict[str, object], where: str) -> str:
    wanted = [str(beside["data"])] if "data" in beside else list(_NAMES)
    for name in wanted:
        if name in names:
            return name
    raise InputError(
        "the array of k-space is not there", where=where, found=", ".join(sorted(names)[:12]),
        expected=" or ".join(wanted), hint="Name it in NAME.yaml: `data: NAME` (docs/mri-files.md).",
    )  # fmt: skip


def _array(file: BinaryIO, where: str, limits: Limits) -> np.ndarray:
    """An array in NumPy's format, its size checked before memory is taken; no objects."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, kind = read_header(file)
    if kind.hasobject:
        raise UnsafeInput("the array holds Python objects", where=where, expected="numbers")
    needed = limits.check(shape, kind.itemsize, where=where)
    raw = file.read(needed)
    if len(raw) < needed:
        raise ValueError("fewer bytes than the header says")
    return np.frombuffer(raw, dtype=kind).reshape(shape, order="F" if fortran else "C")


def _plain(value: np.ndarray, name: str, where: str) -> object:
    if value.size > _SMALL or value.dtype.kind not in "fiubU":
        raise InputError(f"the entry {name} is no statement", where=where, found=f"{value.dtype} {value.shape}")
    return value.item() if value.ndim == 0 else value.tolist()
