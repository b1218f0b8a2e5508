"""Which files of a folder are volumes, and what tells them from others."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from medrecon.data import sniff
from medrecon.data.atomic import atomic_write
from medrecon.data.reading import reading
from medrecon.errors import InputError


def find_volumes(folder: Path) -> tuple[list[Path], list[str]]:
    """Volumes under a folder, and the names of files that no reader knows; sorted.

    A folder that holds DICOM slices is one volume. Hidden files and JSON records are passed over.

    Raises
    ------
    InputError
        There is no such folder, or nothing in it is a volume.
    """
    if not folder.exists():
        raise InputError("there is no such folder", where=folder.name)
    if not folder.is_dir():
        raise InputError("training needs a folder of volumes", where=folder.name, found="a file")
    found: list[Path] = []
    ignored: list[str] = []
    for place in [folder, *sorted(p for p in folder.rglob("*") if p.is_dir() and not _hidden(p, folder))]:
        files = sorted(p for p in place.iterdir() if p.is_file() and not p.name.startswith("."))
        if files and _known(place):
            found.append(place)
            continue
        for file in files:
            if file.suffix.lower() == ".json":
                continue
            if _known(file):
                found.append(file)
            else:
                ignored.append(file.name)
    if not found:
        raise InputError(
            "the folder holds no volume", where=folder.name,
            found=f"{len(ignored)} files that no reader knows" if ignored else "no files",
            expected="NIfTI files or folders of DICOM slices",
        )  # fmt: skip
    return found, ignored


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _known(path: Path) -> bool:
    try:
        sniff(path)
    except InputError:
        return False
    return True


def _parts(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())


def stamp(path: Path) -> list[int]:
    """Size and time of change of a file, summed over the files of a folder."""
    states = [part.stat() for part in _parts(path)]
    return [sum(s.st_size for s in states), sum(s.st_mtime_ns for s in states)]


def hashes(path: Path) -> tuple[str, str]:
    """SHA-256 and MD5 of a file's bytes; of a folder: of the sorted SHA-256 of its files."""
    with reading(path, "input"):
        if path.is_file():
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                file.seek(0)
                return sha256, hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        listing = "".join(sorted(hashes(part)[0] for part in _parts(path))).encode()
    return hashlib.sha256(listing).hexdigest(), hashlib.md5(listing, usedforsecurity=False).hexdigest()


def write_text(path: Path, text: str) -> None:
    """A text file that appears whole or not at all."""

    def fill(target: Path) -> None:
        target.write_text(text, encoding="utf-8")

    atomic_write(path, fill, overwrite=True)


def write_array(path: Path, array: np.ndarray) -> None:
    """An ``.npy`` file that appears whole or not at all."""

    def fill(target: Path) -> None:
        with target.open("wb") as file:
            np.save(file, array, allow_pickle=False)

    atomic_write(path, fill, overwrite=True)
