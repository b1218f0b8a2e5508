"""Volumes as OME-Zarr 0.5: a folder with one array, chunks of one slice, scale and place in its metadata.

Written with nothing but JSON and gzip, so that no library has to come along; gzip's checksum guards every chunk. Other
codings of Zarr v3 (zstd, blosc, shards) are read through the library zarr. Affine and quantity stand exactly under
``medrecon``; what other programs read of it is the voxel size and the origin.

Reference: OME-NGFF 0.5 (https://ngff.openmicroscopy.org/0.5/), Zarr v3 core specification.
"""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

import numpy as np

from medrecon.data.atomic import final_name
from medrecon.data.formats import reader, writer
from medrecon.data.limits import Limits
from medrecon.data.reading import reading, require_finite
from medrecon.data.volume import Geometry, Volume
from medrecon.errors import CorruptInput, InputError, MissingDependency

_LARGEST_JSON = 1 << 20
_TYPES = {"float32": "<f4", "float64": "<f8", "int16": "<i2", "uint16": "<u2", "uint8": "|u1", "int32": "<i4"}
_AXES = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]


def sniff_zarr(path: Path, head: bytes) -> bool:
    """A folder with the metadata of a Zarr v3 group that names OME multiscales."""
    if not (path / "zarr.json").is_file():
        return False
    try:
        return "multiscales" in _ome(_json(path / "zarr.json"))
    except (OSError, ValueError):
        return False


@reader("ome-zarr", suffixes=(".ome.zarr", ".zarr"), sniff=sniff_zarr)
def read_ome_zarr(path: str | Path, *, limits: Limits | None = None) -> Volume:
    """The finest level of an OME-Zarr 0.5 image with axes z, y, x.

    Returns
    -------
    Volume
        float32; the affine of ``medrecon`` where it is there and agrees, else from scale and translation with axes to
        the left, the back and the head.

    Raises
    ------
    InputError
        Other axes, units, types or codecs, NaN, links out of the folder.
    CorruptInput
        Broken metadata, chunks that are missing, cut short or fail their checksum.
    """
    path, limits = Path(path), limits or Limits()
    where = path.name
    with reading(path, "OME-Zarr"):
        if not path.is_dir():
            raise InputError("an OME-Zarr is a folder", where=where)
        attributes = _json(path / "zarr.json")
        scales = _ome(attributes)["multiscales"][0]
        _check_axes(scales, where)
        level = scales["datasets"][0]
        folder = (path / str(level["path"])).resolve()
        if not folder.is_relative_to(path.resolve()):
            raise InputError("the image names a level outside its folder", where=where)
        array = _read_array(folder, where, limits)
        require_finite(array, where=where, what="voxels")
        own = attributes["attributes"].get("medrecon")
        geometry = _geometry(array.shape, level, own if isinstance(own, dict) else {})
    quantity = own.get("quantity") if isinstance(own, dict) else None
    quantity = quantity if isinstance(quantity, str) and 0 < len(quantity) <= 32 else "a.u."
    return Volume(array, geometry, quantity, {"format": "ome-zarr"})


@writer("ome-zarr", suffixes=(".ome.zarr", ".zarr"), folder=True)
def write_ome_zarr(folder: Path, volume: Volume) -> None:
    """Write one level, float32, a chunk for each slice, gzip. Call through `formats.write`."""
    name = final_name(folder)
    array = np.ascontiguousarray(volume.array, dtype="<f4")
    require_finite(array, where=name, what="voxels")
    scale, translation = _scale_and_translation(volume.geometry)
    scales = {
        "name": "volume",
        "axes": _AXES,
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale},
                    {"type": "translation", "translation": translation},
                ],
            }
        ],
    }
    own = {"affine_ras_mm": volume.geometry.affine.tolist(), "quantity": volume.quantity}
    group = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"ome": {"version": "0.5", "multiscales": [scales]}, "medrecon": own},
    }
    _write_json(folder / "zarr.json", group)
    level = folder / "0"
    level.mkdir()
    _write_json(level / "zarr.json", _array_metadata(array.shape))
    for k, plane in enumerate(array):
        chunk = level / "c" / str(k) / "0"
        chunk.mkdir(parents=True)
        (chunk / "0").write_bytes(gzip.compress(plane.tobytes(), compresslevel=4, mtime=0))


def _array_metadata(shape: tuple[int, ...]) -> dict[str, object]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, *shape[1:]]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "gzip", "configuration": {"level": 4}},
        ],
        "dimension_names": ["z", "y", "x"],
    }


# --- place -------------------------------------------------------------------------------------------------------
def _scale_and_translation(geometry: Geometry) -> tuple[list[float], list[float]]:
    """Voxel size and origin along (z, y, x): the place of the first voxel in LPS, mm, where axes are not turned."""
    x, y, z = np.diag([-1.0, -1.0, 1.0]) @ geometry.affine[:3, 3]
    return list(geometry.spacing), [float(z), float(y), float(x)]


def _geometry(shape: tuple[int, ...], level: dict, own: dict) -> Geometry:
    """The exact affine if it agrees with scale and translation, else what those say."""
    found: dict[str, list] = {"scale": [1.0, 1.0, 1.0], "translation": [0.0, 0.0, 0.0]}
    for transform in level["coordinateTransformations"]:
        found[transform["type"]] = transform[transform["type"]]
    scale, translation = (np.array(found[key], dtype=float).reshape(3) for key in ("scale", "translation"))
    size = (int(shape[0]), int(shape[1]), int(shape[2]))
    if "affine_ras_mm" in own:
        geometry = Geometry(size, np.array(own["affine_ras_mm"], dtype=float))
        if np.allclose(_scale_and_translation(geometry), (scale, translation), rtol=1e-6, atol=1e-6):
            return geometry
    affine = np.diag([-scale[2], -scale[1], scale[0], 1.0])
    affine[:3, 3] = (-translation[2], -translation[1], translation[0])
    return Geometry(size, affine)


def _check_axes(scales: dict, where: str) -> None:
    axes = [(axis.get("name"), axis.get("unit", "millimeter")) for axis in scales["axes"]]
    if axes != [(name, "millimeter") for name in "zyx"]:
        raise InputError(
            "this image has other axes", where=where, found=", ".join(f"{n} in {u}" for n, u in axes),
            expected="z, y, x in millimeter", hint="Extract one channel and time point, with lengths in mm.",
        )  # fmt: skip


# --- chunks --------------------------------------------------------------------------------------------------------
def _read_array(folder: Path, where: str, limits: Limits) -> np.ndarray:
    """All chunks of a level as float32 ``(z, y, x)``."""
    about = _json(folder / "zarr.json")
    shape = [int(n) for n in about["shape"]]
    chunk = [int(n) for n in about["chunk_grid"]["configuration"]["chunk_shape"]]
    codecs = [str(codec["name"]) for codec in about["codecs"]]
    if len(shape) != 3 or len(chunk) != 3 or min(*shape, *chunk) < 1:
        raise CorruptInput("the array has impossible dimensions", where=where, found=f"{shape}, chunks {chunk}")
    limits.check(shape, 8, where=where)
    limits.check(chunk, 8, where=where)
    if about["data_type"] not in _TYPES:
        raise InputError(
            "this type of voxel is not read", where=where, found=about["data_type"], expected=", ".join(_TYPES)
        )
    endian = about["codecs"][0].get("configuration", {}).get("endian", "little")
    if codecs not in (["bytes"], ["bytes", "gzip"]) or endian != "little" or about.get("storage_transformers"):
        return _read_with_library(folder)
    separator = about["chunk_key_encoding"].get("configuration", {}).get("separator", "/")
    dtype, fill = np.dtype(_TYPES[about["data_type"]]), float(about.get("fill_value") or 0)
    array = np.full(shape, fill, np.float32)
    for index in np.ndindex(*(-(-n // c) for n, c in zip(shape, chunk, strict=True))):
        file = (
            folder.joinpath("c", *map(str, index)) if separator == "/" else folder / ".".join(["c", *map(str, index)])
        )
        if not file.is_file():  # Zarr leaves out chunks that hold the fill value alone
            continue
        block = _decoded(file.read_bytes(), "gzip" in codecs, int(np.prod(chunk)) * dtype.itemsize, where)
        target = tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(index, chunk, shape, strict=True))
        values = np.frombuffer(block, dtype).reshape(chunk)
        array[target] = values[tuple(slice(0, part.stop - part.start) for part in target)]
    return array


def _decoded(data: bytes, packed: bool, size: int, where: str) -> bytes:
    """The bytes of a chunk, read to the end, where gzip has its checksum. Raises CorruptInput where they do not fit."""
    if packed:
        unpacker = zlib.decompressobj(wbits=31)
        data = unpacker.decompress(data, size + 1)
        if len(data) <= size and not unpacker.eof:
            data += unpacker.decompress(unpacker.unconsumed_tail, 1)
        if not unpacker.eof:
            raise CorruptInput("a chunk is cut short, or larger than it should be", where=where)
    if len(data) != size:
        raise CorruptInput("a chunk has another size than it should", where=where, found=len(data), expected=size)
    return data


def _read_with_library(folder: Path) -> np.ndarray:
    """An array in any coding that the library zarr knows."""
    try:
        import zarr
    except ImportError as error:
        raise MissingDependency("zarr", "zarr", "this coding of OME-Zarr") from error
    return np.asarray(zarr.open_array(folder, mode="r")[:], dtype=np.float32)


# --- metadata --------------------------------------------------------------------------------------------------------
def _ome(group: dict) -> dict:
    found = group.get("attributes", {}).get("ome", {})
    return found if isinstance(found, dict) else {}


def _json(file: Path) -> dict:
    if file.stat().st_size > _LARGEST_JSON:
        raise ValueError("too large for metadata")
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    return content


def _write_json(file: Path, content: dict) -> None:
    file.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
