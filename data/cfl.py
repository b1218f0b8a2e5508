"""BART's pair of files: ``.hdr`` with sixteen dimensions in text, ``.cfl`` with complex64 in Fortran order."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from medrecon.data.formats import reader
from medrecon.data.kspace import KSpace
from medrecon.data.limits import Limits
from medrecon.data.reading import reading
from medrecon.data.stated import kspace_of_array, statements_beside
from medrecon.errors import CorruptInput, InputError

_KIND = "BART"
_READ, _PHASE1, _PHASE2, _COIL, _MAPS, _SLICE = 0, 1, 2, 3, 4, 13
_HEAD = b"# Dimensions"


def sniff_cfl(path: Path, head: bytes) -> bool:
    """Either file of the pair, by name and by the first line of the ``.hdr``."""
    if path.suffix == ".hdr":
        return head.startswith(_HEAD)
    if path.suffix != ".cfl":
        return False
    header = path.with_suffix(".hdr")
    try:
        return header.read_bytes()[: len(_HEAD)] == _HEAD
    except OSError:
        return True  # so that the missing half is named


@reader("cfl", suffixes=(".cfl", ".hdr"), sniff=sniff_cfl)
def read_cfl(path: str | Path, *, limits: Limits | None = None) -> KSpace:
    """k-space: the first dimension becomes y, the second x, the third (3D) or fourteenth (slices) z.

    A pair without a first dimension, as for one slice of a 3D scan, has y and x in the second and third. Voxel sizes
    are not in these files: state them in ``NAME.yaml`` (docs/mri-files.md).

    Raises
    ------
    InputError
        Half of the pair is missing, several sets of maps, dimensions that are no image.
    CorruptInput
        The ``.cfl`` has another size than the ``.hdr`` says.
    """
    path, limits = Path(path), limits or Limits()
    where = path.name
    said = statements_beside(path)
    for part in (path.with_suffix(".hdr"), path.with_suffix(".cfl")):
        if not part.is_file():
            raise InputError("half of the pair is missing", where=where, expected=part.name)
    with reading(path, _KIND):
        sizes = _dimensions(path.with_suffix(".hdr"), where)
        limits.check(sizes, 2 * 8, where=where)
        stored = path.with_suffix(".cfl").stat().st_size
        if stored != 8 * math.prod(sizes):
            raise CorruptInput(
                "the .cfl has another size than the .hdr says", where=where, found=f"{stored} bytes",
                expected=f"{8 * math.prod(sizes)}",
            )  # fmt: skip
        values = np.fromfile(path.with_suffix(".cfl"), dtype="<c8").reshape(sizes, order="F")
    if sizes[_MAPS] > 1:
        raise InputError(
            "several sets of maps: this holds coil maps or images, not k-space",
            where=where,
            found=f"{sizes[_MAPS]} sets",
        )
    others = [d for d in range(16) if sizes[d] > 1 and d not in (_READ, _PHASE1, _PHASE2, _COIL, _SLICE)]
    warnings = [f"dimension {d} holds {sizes[d]} images: the first is read" for d in others]
    pick = tuple(0 if d in others else slice(None) for d in range(16))
    kept = [d for d in range(16) if d not in others]
    values = values[pick].transpose([kept.index(d) for d in (_COIL, _SLICE, _PHASE2, _READ, _PHASE1)]
                                    + [i for i, d in enumerate(kept) if d > _COIL and d != _SLICE])  # fmt: skip
    array = values.reshape(values.shape[:5])
    coils, slices, partitions, read, phase = array.shape
    if slices > 1 and partitions > 1:
        raise InputError("several slabs of a 3D scan in one file", where=where, found=f"{slices} of {partitions}")
    if read == 1 and partitions > 1 and phase > 1 and slices == 1:
        array, is_3d = array[:, :, :, 0].swapaxes(2, 3), False
    else:
        array, is_3d = array.reshape(coils, slices * partitions, read, phase), partitions > 1
    made = kspace_of_array(
        array, {"dimensions": 3 if is_3d else 2} | said | {"axes": "coil, z, y, x"}, where, kind="cfl"
    )
    made.meta["warnings"][:0] = warnings
    return made


def _dimensions(header: Path, where: str) -> tuple[int, ...]:
    lines = header.read_text("ascii", errors="replace").splitlines()
    if len(lines) < 2 or not lines[0].startswith(_HEAD.decode()):
        raise CorruptInput("the .hdr does not begin with its dimensions", where=where)
    sizes = [int(word) for word in lines[1].split()]
    if not sizes or len(sizes) > 16 or min(sizes) < 1:
        raise CorruptInput("the dimensions in the .hdr make no sense", where=where, found=lines[1][:60])
    return tuple(sizes + [1] * (16 - len(sizes)))
