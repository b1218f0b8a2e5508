"""HDF5 files read without trust and written whole.

An HDF5 file can point out of itself: external links, external storage and virtual datasets make a reader return the
bytes of other files, and unknown filters make the library load code. All of these are refused here (CVE-2026-1669 is
such a case). Integrity comes from Fletcher checksums per chunk and one SHA-256 over everything that is meant.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medrecon.data.limits import Limits
from medrecon.data.reading import reading
from medrecon.errors import CorruptInput, InputError, UnsafeInput

if TYPE_CHECKING:
    import h5py

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BUILT_IN_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
_MOST_OBJECTS = 1000
_LONGEST_TEXT = 16 << 20


@contextmanager
def open_input(path: str | Path, kind: str, *, soft_links: bool = False) -> Iterator[h5py.File]:
    """Open a file for reading, every link in it checked; whatever HDF5 raises inside becomes CorruptInput.

    ``soft_links`` allows links within the file, which layouts of other makers use for second names.
    """
    import h5py

    # No locking: the file is read only, and locks fail on many network file systems.
    with reading(path, kind), h5py.File(path, "r", locking=False) as file:
        _check_links(file, Path(path).name, soft_links)
        yield file


@contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """A new file, composed in memory and written in one go.

    Writing through HDF5 itself would be fatal on a full disk: the library then crashes the process while it closes the
    file (h5py 3.16, HDF5 2.0). The price is memory for the compressed file. The format version of HDF5 1.10 guards
    its own structure with checksums; of older versions, one flipped bit in three hundred hangs or crashes the library.
    """
    import h5py

    with h5py.File("in memory", "w", driver="core", backing_store=False, libver=("v110", "v110")) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    path.write_bytes(image)


def peek(path: Path, head: bytes) -> dict[str, object] | None:
    """What is at the root of an HDF5 file: its attribute ``format``, all names, and the names in each group.

    None if it is no HDF5 file; nothing is in a file that cannot be opened.
    """
    if not head.startswith(SIGNATURE):
        return None
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            form = file.attrs.get("format")
            form = form.decode("utf-8", "replace") if isinstance(form, bytes) else form
            names = list(file)[:_MOST_OBJECTS]
            inside = [n for n in names if isinstance(file.get(n, getlink=True), h5py.HardLink)]
            groups = {n: list(file[n])[:_MOST_OBJECTS] for n in inside if file.get(n, getclass=True) is h5py.Group}
            return {"format": form if isinstance(form, str) else None, "names": names, "groups": groups}
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return {"format": None, "names": [], "groups": {}}


def groups_with(path: Path, names: Sequence[str]) -> list[str]:
    """Groups at the root of a file that have one of these members; empty where it cannot be opened."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            at_root = [n for n in list(file)[:_MOST_OBJECTS] if file.get(n, getlink=True).__class__ is h5py.HardLink]
            groups = [n for n in at_root if isinstance(file[n], h5py.Group)]
            return [n for n in groups if any(name in file[n] for name in names)]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return []


def check_version(root: Mapping[str, object], newest: int, where: str) -> None:
    """Raise InputError for a ``format_version`` among the root's attributes that this package does not know."""
    version = root.get("format_version", newest)
    if not isinstance(version, int) or version < 1:
        raise CorruptInput("the format version is unreadable", where=where, found=version)
    if version > newest:
        raise InputError(
            "the file was written by a newer version of this package",
            where=where,
            found=f"format version {version}",
            expected=f"at most {newest}",
            hint="Update medrecon.",
        )


def safe_dataset(file: h5py.File, name: str, where: str) -> h5py.Dataset:
    """A dataset whose values stand in this file, readable without plug-ins. Raises InputError or UnsafeInput."""
    import h5py

    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"the dataset /{name} is missing", where=where, found=f"/{', /'.join(file)}")
    if dataset.is_virtual or dataset.external:
        raise UnsafeInput(
            f"/{name} takes its values from other files", where=where, hint="Copy the values into this file."
        )
    plist = dataset.id.get_create_plist()
    filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
    if not filters <= set(_BUILT_IN_FILTERS):
        raise UnsafeInput(
            f"/{name} is compressed by a plug-in",
            where=where,
            found=f"filter {sorted(filters - set(_BUILT_IN_FILTERS))}",
            expected="gzip, lzf or none",
            hint="Write it again with h5py's compression='gzip'.",
        )
    return dataset


def read_array(file: h5py.File, name: str, *, kinds: str, where: str, limits: Limits) -> np.ndarray:
    """A whole dataset whose dtype kind is one of ``kinds`` ("f", "iu", ...), its size checked first."""
    dataset = safe_dataset(file, name, where)
    if dataset.dtype.kind not in kinds:
        raise InputError(f"/{name} has the wrong type of number", where=where, found=str(dataset.dtype))
    limits.check(dataset.shape, dataset.dtype.itemsize, where=where)
    if dataset.size and not dataset.id.get_storage_size():
        raise CorruptInput(f"/{name} has a size but no values", where=where)
    return np.asarray(dataset[()])


def read_complex(file: h5py.File, name: str, *, where: str, limits: Limits) -> np.ndarray:
    """A whole dataset of complex numbers, as such or as pairs named r and i, or real and imag."""
    dataset = safe_dataset(file, name, where)
    pair = dataset.dtype.names
    if pair is None:
        return read_array(file, name, kinds="c", where=where, limits=limits)
    if tuple(pair) not in (("r", "i"), ("real", "imag")) or any(dataset.dtype[part].kind != "f" for part in pair):
        raise InputError(f"/{name} holds no complex numbers", where=where, found=str(dataset.dtype)[:80])
    limits.check(dataset.shape, 2 * dataset.dtype.itemsize, where=where)
    if dataset.size and not dataset.id.get_storage_size():
        raise CorruptInput(f"/{name} has a size but no values", where=where)
    values = dataset[()]
    return np.asarray(values[pair[0]] + 1j * values[pair[1]], dtype=np.complex64)


def read_text(file: h5py.File, name: str, *, where: str) -> str | None:
    """A dataset of one text, a scalar or of length one; None if absent."""
    import h5py

    dataset = file.get(name)
    if dataset is None:
        return None
    if not isinstance(dataset, h5py.Dataset) or dataset.size != 1 or h5py.check_string_dtype(dataset.dtype) is None:
        raise InputError(f"/{name} is not one text", where=where)
    if dataset.is_virtual or dataset.external:
        raise UnsafeInput(f"/{name} takes its values from other files", where=where)
    value = dataset.asstr()[()] if dataset.shape == () else dataset.asstr()[:].ravel()[0]
    if len(value) > _LONGEST_TEXT:
        raise InputError(f"/{name} is too long", where=where)
    return str(value)


def read_attributes(file: h5py.File, name: str) -> dict[str, object]:
    """Attributes of a group or dataset as Python numbers, strings and float64 arrays; {} if the group is absent."""
    import h5py

    group = file if name == "/" else file.get(name)
    if not isinstance(group, h5py.Group | h5py.Dataset):
        return {}
    return {key: _plain(group.attrs[key]) for key in group.attrs}


def write_attributes(group: h5py.Group, values: Mapping[str, object]) -> None:
    """Numbers, strings and arrays as attributes; booleans as 0 and 1; None is left out."""
    for key, value in values.items():
        if value is None:
            continue
        if isinstance(value, list | tuple):
            value = np.asarray(value)
        group.attrs[key] = _fixed(value) if isinstance(value, str) else value


def write_text(group: h5py.Group, name: str, text: str) -> None:
    """A scalar dataset with one text."""
    group.create_dataset(name, data=_fixed(text))


def write_array(group: h5py.Group, name: str, array: np.ndarray, attributes: Mapping[str, object]) -> None:
    """A dataset in chunks of one plane, gzip and Fletcher-32, with its attributes."""
    chunks = (1,) * max(array.ndim - 2, 0) + array.shape[-2:]
    dataset = group.create_dataset(
        name, data=array, chunks=chunks, compression="gzip", compression_opts=4, shuffle=True, fletcher32=True
    )
    write_attributes(dataset, attributes)


def digest(arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> str:
    """SHA-256 over named arrays (little-endian, C order) and over facts written as JSON with sorted keys."""
    total = hashlib.sha256(json.dumps(facts, sort_keys=True, default=_listed).encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(array.data)
    return total.hexdigest()


def _check_links(group: h5py.Group, where: str, soft_links: bool) -> None:
    """Refuse links that lead elsewhere, and more objects than any of our files has."""
    import h5py

    pending, seen = [group], 0
    while pending:
        current = pending.pop()
        for name in current:
            seen += 1
            if seen > _MOST_OBJECTS:
                raise InputError("the file holds too many objects", where=where, expected=f"at most {_MOST_OBJECTS}")
            link = current.get(name, getlink=True)
            if isinstance(link, h5py.SoftLink) and soft_links:
                continue
            if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
                raise UnsafeInput(
                    f"{current.name.rstrip('/')}/{name} is a link to another place",
                    where=where,
                    expected="the data themselves in this file",
                    hint="Copy the linked data into the file (h5copy, or h5py's Group.copy).",
                )
            if current.get(name, getclass=True) is h5py.Group:
                pending.append(current[name])


def _fixed(text: str) -> np.ndarray:
    """Text of fixed length: HDF5 keeps text of variable length in a heap without checksums."""
    import h5py

    encoded = text.encode("utf-8") or b"\0"
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", len(encoded)))


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub":
            raise ValueError("an attribute that is neither text nor numbers")
        return value.astype(np.float64) if value.dtype.kind == "f" else value.astype(np.int64)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str | int | float):
        return value
    raise ValueError("an attribute that is neither text nor numbers")


def _listed(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot hash a {type(value).__name__}")
