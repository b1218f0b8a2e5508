"""Bare arrays of k-space: what a person states about them, in the file or in ``NAME.yaml`` beside it.

Known keys (docs/mri-files.md): ``axes``, ``data``, ``mask``, ``spacing``, ``affine``, ``shape``, ``dimensions``,
``readout``, ``centred``, ``noise``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medrecon.data.kspace import AXES, KSpace
from medrecon.data.kspace_checks import centre_remark, check_kspace
from medrecon.data.reading import naming
from medrecon.data.volume import Geometry
from medrecon.errors import InputError

KEYS = ("axes", "data", "mask", "spacing", "affine", "shape", "dimensions", "readout", "centred", "noise")
_LARGEST = 1 << 20
_NAMES = {"coil": "coil", "coils": "coil", "c": "coil", "z": "z", "slice": "z", "slices": "z", "kz": "z", "y": "y",
          "ky": "y", "x": "x", "kx": "x"}  # fmt: skip
_MOST_COILS = 128
HINT = "Say what the axes are in NAME.yaml beside the file, for instance `axes: coil, z, y, x` (docs/mri-files.md)."


def statements_beside(path: Path) -> dict[str, object]:
    """What ``NAME.yaml`` beside a file says; {} without one. Raises InputError for what cannot be understood."""
    beside = path.with_suffix(".yaml")
    if not beside.is_file():
        return {}
    import yaml

    if beside.stat().st_size > _LARGEST:
        raise InputError("the description is too large", where=beside.name)
    try:
        said = yaml.safe_load(beside.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError("the description is not YAML", where=beside.name) from error
    if not isinstance(said, dict) or not set(said) <= set(KEYS):
        unknown = sorted(str(k) for k in set(said) - set(KEYS)) if isinstance(said, dict) else type(said).__name__
        raise InputError(
            "unknown entries in the description", where=beside.name, found=unknown, expected=", ".join(KEYS)
        )
    return said


def kspace_of_array(
    array: np.ndarray, said: Mapping[str, object], where: str, *, kind: str, mask: np.ndarray | None = None
) -> KSpace:
    """k-space of a bare array and what is stated about it; what is assumed instead stands in ``meta["warnings"]``.

    Raises InputError for real numbers, for axes that are not stated and cannot be guessed, and for statements that do
    not fit the array.
    """
    if array.dtype.kind != "c":
        raise InputError(
            "k-space holds complex numbers", where=where, found=str(array.dtype), expected="complex64",
            hint="Magnitude images are volumes: write them as NIfTI and use `medrecon simulate mri`.",
        )  # fmt: skip
    warnings: list[str] = []
    axes = _axes(array.shape, said.get("axes"), warnings, where)
    data = _ordered(array, axes)
    is_3d = _whole(said.get("dimensions", 2), "dimensions", where) == 3
    encoded = (0, 1, 2) if is_3d else (1, 2)
    if said.get("centred", True) is False:
        data = np.fft.fftshift(data, axes=tuple(1 + a for a in encoded))
    if mask is not None:
        names = [a for a in axes if a != "coil"]
        if mask.ndim == len(names):
            mask = _ordered(mask[None], ("coil", *names))[0]
        elif mask.ndim == 1:
            mask = mask.reshape(1, 1, -1)
        if mask.ndim != 3 or any(m not in (1, n) for m, n in zip(mask.shape, data.shape[1:], strict=True)):
            raise InputError(
                "the mask does not fit the k-space", where=where, found=mask.shape, expected=f"{data.shape[1:]}, or 1"
            )
        if said.get("centred", True) is False:
            mask = np.fft.fftshift(mask, axes=encoded)
        mask = mask != 0
    grid, extent, missing = _grid(data.shape[1:], said, where)
    noise = said.get("noise")
    covariance = None
    if noise is not None:
        covariance = (_numbers(noise, (), "noise", where) ** 2 * np.eye(len(data))).astype(np.complex128)
    made = KSpace(
        np.require(data, np.complex64, ["C", "W"]), grid, extent, mask, encoded,
        _readout(said.get("readout"), encoded, where), covariance,
        meta={"format": kind, "warnings": warnings, "missing": missing},
    )  # fmt: skip
    check_kspace(made, where)
    remark = centre_remark(made)
    if remark:
        warnings.append(remark)
    return made


def _axes(shape: tuple[int, ...], stated: object, warnings: list[str], where: str) -> tuple[str, ...]:
    if stated is None:
        guess: tuple[str, ...] = ("y", "x")
        if len(shape) == 3 and shape[0] <= _MOST_COILS and shape[0] < min(shape[1:]):
            guess = ("coil", "y", "x")
        elif len(shape) != 2:
            raise InputError("the axes are not stated", where=where, found=f"shape {shape}", hint=HINT)
        warnings.append(f"axes are not stated: {shape} is taken as ({', '.join(guess)})")
        return guess
    words = [str(w).strip().lower() for w in (stated.split(",") if isinstance(stated, str) else _list(stated))]
    axes = tuple(_NAMES.get(word, "") for word in words)
    if "" in axes or len(set(axes)) < len(axes) or not {"y", "x"} <= set(axes):
        raise InputError(
            "axes that cannot be understood", where=where, found=", ".join(words), expected="coil, z, y, x"
        )
    if len(axes) != len(shape):
        raise InputError("not one name for each axis", where=where, found=f"{len(axes)} for shape {shape}", hint=HINT)
    return axes


def _ordered(array: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
    """The array as ``(coil, z, y, x)``."""
    wanted = ("coil", *AXES)
    present = [a for a in wanted if a in axes]
    array = array.transpose([axes.index(a) for a in present])
    return array.reshape([array.shape[present.index(a)] if a in present else 1 for a in wanted])


def _grid(
    sizes: tuple[int, ...], said: Mapping[str, object], where: str
) -> tuple[Geometry, tuple[float, float, float], list[str]]:
    """Grid, encoded field of view along ``(z, y, x)``, and what is not stated."""
    missing = []
    shape = said.get("shape")
    counts = tuple(int(n) for n in (sizes if shape is None else _numbers(shape, (3,), "shape", where)))
    affine = said.get("affine")
    with naming(where):
        if affine is not None:
            grid = Geometry(counts, _numbers(affine, (4, 4), "affine", where))  # type: ignore[arg-type]
        else:
            spacing = np.ones(3)
            if said.get("spacing") is None:
                missing.append("voxel size: 1 mm is taken (state `spacing: [z, y, x]`)")
            else:
                spacing = _numbers(said["spacing"], (3,), "spacing", where)
            if not (np.isfinite(spacing).all() and spacing.min() > 0):
                raise InputError("voxel sizes are positive, in mm", where=where, found=spacing.tolist())
            missing.append("place and orientation in the patient")
            grid = Geometry.from_spacing(counts, tuple(float(s) for s in spacing))  # type: ignore[arg-type]
    z, y, x = (n * s for n, s in zip(sizes, grid.spacing, strict=True))
    return grid, (z, y, x), missing


def _readout(stated: object, encoded: tuple[int, ...], where: str) -> int | None:
    if stated is None:
        return None
    if stated not in AXES or AXES.index(str(stated)) not in encoded:
        raise InputError(
            "unknown readout axis", where=where, found=stated, expected=", ".join(AXES[a] for a in encoded)
        )
    return AXES.index(str(stated))


def _list(value: object) -> list:
    return list(value) if isinstance(value, list | tuple | np.ndarray) else [value]


def _whole(value: object, name: str, where: str) -> int:
    number = float(_numbers(value, (), name, where))
    if number not in (2, 3):
        raise InputError(f"{name} is 2 or 3", where=where, found=value)
    return int(number)


def _numbers(value: object, shape: tuple[int, ...], name: str, where: str) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != shape or not np.isfinite(array).all():
        wanted = " x ".join(map(str, shape)) + " numbers" if shape else "a number"
        raise InputError(f"{name} is malformed", where=where, found=str(value)[:60], expected=wanted)
    return array
