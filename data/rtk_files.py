"""RTK: a geometry in XML and a stack of projections in a MetaImage (``.mha``) beside it.

The stack is the ``.mha`` of the same name as the XML file, or the only one in its folder. Floating-point values are
line integrals; whole numbers are counts over the largest value of their type.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from medrecon.data.formats import reader
from medrecon.data.limits import Limits
from medrecon.data.projections import check_views, scan_of
from medrecon.data.reading import naming, reading
from medrecon.data.scan import Scan
from medrecon.errors import CorruptInput, InputError

_KIND = "RTK"
_TYPES = {"MET_FLOAT": "f4", "MET_DOUBLE": "f8", "MET_USHORT": "u2", "MET_SHORT": "i2", "MET_UCHAR": "u1"}
_LONGEST_HEADER = 1 << 16


def sniff_rtk(path: Path, head: bytes) -> bool:
    """An XML file of RTK's geometry."""
    return b"RTKThreeDCircularGeometry" in head or b"RTKGEOMETRY" in head


@reader("rtk", suffixes=(".xml",), sniff=sniff_rtk)
def read_rtk_files(path: str | Path, *, limits: Limits | None = None) -> Scan:
    """The scan on a volume that fills the field of view.

    Raises InputError where geometry and projections do not fit together, CorruptInput where the stack is cut short.
    """
    from medrecon.physics.cone_geometry import ConeGeometry
    from medrecon.physics.exchange import read
    from medrecon.physics.exchange.rtk import parse_xml

    path = Path(path)
    where, limits = path.name, limits or Limits()
    with naming(where), reading(path, "RTK geometry"):
        values = parse_xml(path.read_text(encoding="utf-8"))
    stack = _stack_beside(path)
    data, spacing, origin = read_mha(stack, limits=limits)
    check_views(len(values["GantryAngle"]), len(data), where)
    notes = []
    if data.dtype.kind != "f":
        white = float(np.iinfo(data.dtype).max)
        data = -np.log(np.maximum(data, 1) / white).astype(np.float32)
        notes.append(f"counts: {white:g} was taken for the beam without an object")
    _, rows, columns = data.shape
    with naming(where):
        pitch = spacing[0]
        grid = {"shape": (1, 1, 1), "voxel_spacing": (0.01 * pitch,) * 3}
        image = {"size": (columns, rows), "spacing": spacing[:2], "origin": origin[:2]}
        speck = read({**values, **image, **grid}, "rtk")
        assert isinstance(speck, ConeGeometry)
        return scan_of(data, speck.fit_volume(), kind=_KIND, notes=notes)


def _stack_beside(path: Path) -> Path:
    same, others = path.with_suffix(".mha"), sorted(path.parent.glob("*.mha"))
    if same.exists():
        return same
    if len(others) != 1:
        raise InputError(
            "the projections of the geometry are not clear", where=path.name, found=f"{len(others)} .mha files",
            expected=same.name,
        )  # fmt: skip
    return others[0]


def read_mha(path: Path, *, limits: Limits) -> tuple[np.ndarray, tuple[float, ...], tuple[float, ...]]:
    """Array ``(views, rows, columns)``, spacing and origin (columns, rows, views) of a MetaImage in one file."""
    where = path.name
    with reading(path, "MetaImage"):
        raw = path.read_bytes()
    marker = raw.find(b"ElementDataFile", 0, _LONGEST_HEADER)
    end = raw.find(b"\n", marker)
    if marker < 0 or end < 0:
        raise InputError("this is no MetaImage", where=where, expected="ElementDataFile = LOCAL")
    header: dict[str, str] = {}
    for line in raw[:end].decode("latin-1").splitlines():
        key, _, value = line.partition("=")
        header[key.strip()] = value.strip()
    with reading(path, "MetaImage"):
        size = [int(word) for word in header["DimSize"].split()]
        spacing = tuple(
            float(word) for word in header.get("ElementSpacing", header.get("ElementSize", "1 1 1")).split()
        )
        origin = tuple(float(word) for word in header.get("Offset", header.get("Position", "0 0 0")).split())
    kind = _TYPES.get(header.get("ElementType", ""))
    if kind is None or header.get("ElementDataFile") != "LOCAL" or len(size) != 3 or min(size) < 1:
        raise InputError(
            "only single-file MetaImages of three dimensions and one number per pixel are read", where=where,
            found=f"{header.get('ElementType')}, {size}, data in {header.get('ElementDataFile')}",
        )  # fmt: skip
    dtype = np.dtype((">" if header.get("BinaryDataByteOrderMSB", "False").lower() == "true" else "<") + kind)
    needed = limits.check(size, dtype.itemsize, where=where)
    body = raw[end + 1 :]
    if header.get("CompressedData", "False").lower() == "true":
        with reading(path, "MetaImage"):
            body = zlib.decompressobj().decompress(body, needed + 1)
    if len(body) != needed:
        raise CorruptInput("the MetaImage is cut short", where=where, found=f"{len(body)} bytes", expected=needed)
    array = np.frombuffer(body, dtype).reshape(size[::-1])
    return array.astype(dtype.newbyteorder("=")), spacing, origin
