"""NIfTI-1 and NIfTI-2 volumes (``.nii``, ``.nii.gz``): one array, its affine in mm, its quantity.

Reading goes by the bytes, not by nibabel's lazy proxies: sizes are checked against the file and the memory before
anything is allocated, and a gzip stream is read to its end, where its checksum stands. nibabel interprets the header.
Writing keeps to what every viewer agrees on: float32, qform and sform with code 1, millimetres, no scaling.

Reference: NIfTI-1 data format, https://nifti.nimh.nih.gov/nifti-1 (header fields, three ways to orient).
"""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from medrecon.data.atomic import final_name
from medrecon.data.formats import reader, writer
from medrecon.data.limits import Limits
from medrecon.data.reading import reading, require_finite
from medrecon.data.volume import Geometry, Volume
from medrecon.errors import CorruptInput, InputError

if TYPE_CHECKING:
    import nibabel as nib

_MAGIC_AT = {348: (344, (b"n+1\0",)), 540: (4, (b"n+2\0",))}  # size of header: (offset, magic of single files)
_PAIR_MAGICS = (b"ni1\0", b"ni2\0")
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI's code for unknown, metre, mm, micrometre
_PLAIN_TYPES = {2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280}  # integers, float32, float64
_TYPE_NAMES = {1: "binary", 32: "complex64", 128: "RGB", 1536: "float128", 1792: "complex128", 2304: "RGBA"}
_COMMENT = 6  # code of a NIfTI extension that holds text
_BLOCK = 1 << 22


def sniff_nifti(path: Path, head: bytes) -> bool:
    """A NIfTI magic, in the bytes or in the first bytes of the gzip stream."""
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, 1024)
        except zlib.error:
            return path.name.lower().endswith(".nii.gz")
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


@reader("nifti", suffixes=(".nii", ".nii.gz"), sniff=sniff_nifti)
def read_nifti(path: str | Path, *, quantity: str | None = None, limits: Limits | None = None) -> Volume:
    """NIfTI volume.

    Parameters
    ----------
    quantity
        ``"HU"``, ``"1/mm"``, ``"a.u."``. NIfTI has no place for it; without this argument it is what `write_nifti`
        noted in the file, else ``"HU"`` if the values reach down to air (minimum from -4096 to -500), else
        ``"a.u."``. ``meta["quantity_from"]`` says which.
    limits
        What may be allocated; see `Limits`.

    Returns
    -------
    Volume
        float32 ``(z, y, x)``; the affine in mm (RAS+) from the sform, else the qform, else the voxel size alone
        (as nibabel: x to the left, centred; ``meta["affine_from"]`` says so).

    Raises
    ------
    InputError
        Not one scalar 3D volume, NaN or infinity in it, no usable geometry.
    CorruptInput
        Truncated, failed checksum, impossible header.
    TooLarge
        More than the limits allow.
    """
    path = Path(path)
    with reading(path, "NIfTI"), path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if compressed:
            with gzip.GzipFile(fileobj=file) as stream:
                return _read(stream, path.name, None, quantity, limits or Limits())  # type: ignore[arg-type]
        return _read(file, path.name, path.stat().st_size, quantity, limits or Limits())


@writer("nifti", suffixes=(".nii", ".nii.gz"))
def write_nifti(path: Path, volume: Volume) -> None:
    """Write float32 NIfTI-1: qform and sform codes 1, mm, no scaling. Call through `formats.write`, which is atomic.

    The affine that NIfTI stores is rounded to float32. The exact one stands beside it in a comment extension together
    with the quantity; `read_nifti` takes it back if it still rounds to the stored one, so that the round trip is exact
    until another program moves the volume. The suffix ``.gz`` of ``path`` decides on compression.
    """
    import nibabel as nib

    name = final_name(path)
    array = np.ascontiguousarray(volume.array, dtype="<f4")
    require_finite(array, where=name)
    if max(array.shape) > 32767:
        raise InputError("NIfTI-1 holds at most 32767 voxels along an axis", where=name, found=array.shape)
    header = nib.Nifti1Header(endianness="<")
    header.set_data_shape(array.shape[::-1])
    header.set_data_dtype("<f4")
    header.set_xyzt_units("mm", "sec")
    header.set_sform(volume.geometry.affine, code=1)
    # A sheared affine has no quaternion; the sform alone is exact then.
    header.set_qform(volume.geometry.affine, code=1 if _orthogonal(volume.geometry.affine) else 0, strip_shears=True)
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header["descrip"] = b"medrecon"
    header["magic"] = b"n+1"
    note = {"medrecon": 1, "quantity": volume.quantity, "affine": volume.geometry.affine.tolist()}
    text = json.dumps(note, separators=(",", ":")).encode("ascii")
    size = -(-(8 + len(text)) // 16) * 16
    extension = np.array([size, _COMMENT], dtype="<i4").tobytes() + text.ljust(size - 8, b"\0")
    header["vox_offset"] = 352 + size
    start = header.structarr.tobytes() + b"\x01\0\0\0" + extension
    with path.open("wb") as file:
        if name.lower().endswith(".gz"):
            # No file name and no time in the gzip header: the same volume gives the same bytes.
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=4, mtime=0) as stream:
                _write_blocks(stream, start, array)  # type: ignore[arg-type]
        else:
            _write_blocks(file, start, array)


def _write_blocks(stream: BinaryIO, start: bytes, array: np.ndarray) -> None:
    stream.write(start)
    for plane in array:  # memory for one plane at a time
        stream.write(plane.tobytes())


def _read(stream: BinaryIO, name: str, file_size: int | None, quantity: str | None, limits: Limits) -> Volume:
    header, consumed = _read_header(stream, name)
    shape, dtype = _shape_and_type(header, name)
    offset = float(header["vox_offset"])
    if not np.isfinite(offset) or offset != int(offset) or not consumed + 4 <= offset <= 1 << 30:
        raise CorruptInput("the header puts the voxels at an impossible place", where=name, found=f"byte {offset}")
    length = limits.check(shape, dtype.itemsize, where=name)
    limits.check(shape, dtype.itemsize + 4, where=name)  # the raw values and their float32 copy
    if file_size is not None and file_size < offset + length:
        raise CorruptInput(
            "the file is cut short", where=name, found=f"{file_size} bytes", expected=f"{int(offset) + length}"
        )
    slope, intercept = _scaling(header, name)
    affine, affine_from = _affine(header, name)
    extensions = _read_exactly(stream, int(offset) - consumed, name)
    raw = np.frombuffer(_read_exactly(stream, length, name), dtype).reshape(shape)
    _read_to_end(stream, name)
    array = _scaled(raw, slope, intercept)
    require_finite(array, where=name, what="voxels")
    note = _own_note(extensions)
    affine, affine_from = _exact_affine(note, affine, affine_from)
    stored = note.get("quantity")
    if quantity is not None:
        origin = "argument"
    elif isinstance(stored, str) and 0 < len(stored) <= 32:
        quantity, origin = stored, "file"
    else:
        quantity, origin = _guess_quantity(array), "values"
    meta = {"format": "nifti", "quantity_from": origin, "affine_from": affine_from}
    return Volume(array, Geometry(shape, affine), quantity, meta)


def _read_header(stream: BinaryIO, name: str) -> tuple[nib.Nifti1Header, int]:
    """The header and the number of bytes read for it."""
    import nibabel as nib

    head = _read_exactly(stream, 4, name)
    sizes = {int.from_bytes(head, order): order for order in ("little", "big")}  # type: ignore[arg-type]
    size = next((n for n in sizes if n in _MAGIC_AT), None)
    if size is None:
        raise CorruptInput("this is no NIfTI file", where=name, expected="a header of 348 or 540 bytes")
    head += _read_exactly(stream, size - 4, name)
    at, magics = _MAGIC_AT[size]
    magic = head[at : at + 4]
    if magic in _PAIR_MAGICS:
        raise InputError(
            "the header and the voxels are in two files (.hdr, .img)", where=name, hint="Convert it to one .nii file."
        )
    if magic not in magics:
        raise CorruptInput("the NIfTI magic is missing", where=name, found=magic, expected=magics[0])
    kind = nib.Nifti1Header if size == 348 else nib.Nifti2Header
    return kind(head, endianness="<" if sizes[size] == "little" else ">", check=False), size


def _shape_and_type(header: nib.Nifti1Header, name: str) -> tuple[tuple[int, int, int], np.dtype]:
    """``(z, y, x)`` and the stored type. Raises InputError for anything but one scalar volume."""
    dims = [int(n) for n in header["dim"]]
    rank = dims[0]
    if not 1 <= rank <= 7 or min(dims[1 : rank + 1]) < 1:
        raise CorruptInput("the header has impossible dimensions", where=name, found=dims)
    sizes = dims[1 : rank + 1] + [1] * (3 - rank)
    if any(n > 1 for n in sizes[3:]):
        raise InputError(
            "more than one volume in the file",
            where=name,
            found=" x ".join(map(str, sizes)),
            expected="x, y, z",
            hint="Extract one volume first.",
        )
    code = int(header["datatype"])
    if code not in _PLAIN_TYPES:
        raise InputError(
            "this kind of voxel is not supported",
            where=name,
            found=_TYPE_NAMES.get(code, f"NIfTI data type {code}"),
            expected="integers or real numbers, one per voxel",
            hint="Convert the volume to float32 (for colour: to its brightness; for complex: to its magnitude).",
        )
    dtype = header.get_data_dtype()
    if int(header["bitpix"]) != 8 * dtype.itemsize:
        raise CorruptInput(
            "the header contradicts itself about the size of a voxel",
            where=name,
            found=f"{int(header['bitpix'])} bits",
            expected=f"{8 * dtype.itemsize} bits for {dtype}",
        )
    return (sizes[2], sizes[1], sizes[0]), dtype


def _scaling(header: nib.Nifti1Header, name: str) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 (or NaN, as some programs write) means none."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0
    if not np.isfinite([slope, intercept]).all():
        raise CorruptInput(
            "the intensity scaling is not finite", where=name, found=f"slope {slope}, intercept {intercept}"
        )
    return slope, intercept


def _scaled(raw: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """float32 values; the scaling itself is done in float64 and rounded once."""
    if (slope, intercept) == (1.0, 0.0):
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinity, which is refused later
            return raw.astype(np.float32)
    out = np.empty(raw.shape, np.float32)
    for k, plane in enumerate(raw):
        with np.errstate(over="ignore", invalid="ignore"):
            out[k] = plane.astype(np.float64) * slope + intercept
    return out


def _affine(header: nib.Nifti1Header, name: str) -> tuple[np.ndarray, str]:
    """Affine in mm and where it comes from."""
    unit = int(header["xyzt_units"]) & 7
    if unit not in _MM_PER_UNIT:
        raise CorruptInput("the header names an unknown unit of length", where=name, found=f"code {unit}")
    with np.errstate(invalid="ignore", over="ignore"):
        if int(header["sform_code"]) > 0:
            affine, origin = np.asarray(header.get_sform(), dtype=np.float64), "sform"
        else:
            pixdim = np.asarray(header["pixdim"], dtype=np.float64)[1:4]
            if not (np.isfinite(pixdim).all() and (pixdim > 0).all()):
                raise InputError(
                    "no voxel size: neither an sform nor positive spacings",
                    where=name,
                    found=f"spacings {pixdim.tolist()}",
                    hint="Write the voxel size into the file, for instance with nibabel's header.set_zooms.",
                )
            if int(header["qform_code"]) > 0:
                affine, origin = np.asarray(header.get_qform(), dtype=np.float64), "qform"
            else:
                affine, origin = np.asarray(header.get_base_affine(), dtype=np.float64), "voxel size"
    affine = affine.copy()
    affine[:3] *= _MM_PER_UNIT[unit]
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all():
        raise CorruptInput("the affine is not finite", where=name, found=f"{origin} {affine[:3].tolist()}")
    volume = abs(np.linalg.det(affine[:3, :3]))
    if spacing.min() < 1e-9 or spacing.max() > 1e9 or volume < 1e-6 * spacing.prod():
        raise InputError(
            "the affine gives voxels without a volume",
            where=name,
            found=f"{origin} {affine[:3].tolist()}",
            expected="three independent axes",
            hint="Repair the orientation in the source.",
        )
    return affine, origin


def _orthogonal(affine: np.ndarray) -> bool:
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(cosines.T @ cosines - np.eye(3)).max() < 1e-5)


def _own_note(extensions: bytes | bytearray) -> dict[str, object]:
    """What `write_nifti` noted in a comment extension; {} where there is none or it is not ours."""
    if len(extensions) < 4 or extensions[0] == 0:
        return {}
    rest = extensions[4:]
    while len(rest) >= 16:
        size, code = (int(n) for n in np.frombuffer(rest[:8], "<i4"))
        if size < 16 or size > len(rest):
            return {}
        if code == _COMMENT:
            try:
                note = json.loads(rest[8:size].rstrip(b"\0").decode("ascii"))
            except ValueError:
                note = None
            if isinstance(note, dict) and note.get("medrecon") == 1:
                return note
        rest = rest[size:]
    return {}


def _exact_affine(note: dict[str, object], affine: np.ndarray, origin: str) -> tuple[np.ndarray, str]:
    """The float64 affine of the note, if rounding it gives the stored one."""
    try:
        exact = np.array(note["affine"], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        return affine, origin
    same = exact.shape == (4, 4) and np.array_equal(exact.astype(np.float32), affine.astype(np.float32))
    return (exact, f"{origin}, exact") if same else (affine, origin)


def _guess_quantity(array: np.ndarray) -> str:
    return "HU" if -4096 <= array.min() <= -500 else "a.u."


def _read_exactly(stream: BinaryIO, count: int, name: str) -> bytearray:
    """``count`` bytes. Raises CorruptInput when the stream ends early."""
    buffer = bytearray(count)  # zeroed pages cost nothing until the stream fills them
    view, filled = memoryview(buffer), 0
    while filled < count:
        n = stream.readinto(view[filled : filled + _BLOCK])  # type: ignore[attr-defined]
        if not n:
            raise CorruptInput(
                "the file is cut short", where=name, found=f"{filled} bytes", expected=f"{count} in this part of it"
            )
        filled += n
    return buffer


def _read_to_end(stream: BinaryIO, name: str) -> None:
    """Read what follows the voxels: gzip checks its CRC only at the end. Some padding is tolerated."""
    rest = 0
    while block := stream.read(_BLOCK):
        rest += len(block)
        if rest > 16 * _BLOCK:
            raise CorruptInput("far more data than the header announces", where=name)
