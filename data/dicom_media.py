"""The list of files on a DICOM medium (``DICOMDIR``), read with distrust: its paths come from whoever wrote it.

Reference: DICOM PS3.3 F (basic directory), PS3.10 8.2 (file IDs: at most eight components of at most eight characters).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from medrecon.errors import InputError, UnsafeInput

if TYPE_CHECKING:
    from pydicom import Dataset

_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")  # more than the standard allows, nothing that escapes
_DEEPEST = 8


def directory_in(folder: Path) -> Path | None:
    """The DICOMDIR of a folder, None where there is none."""
    return next((f for f in sorted(folder.iterdir()) if f.name.upper() == "DICOMDIR" and f.is_file()), None)


def listed_images(directory: Dataset, file: Path) -> list[Path]:
    """The image files that a DICOMDIR lists, all inside the folder in which ``file`` stands.

    Raises
    ------
    UnsafeInput
        A path that is absolute, climbs, or leads outside through a link.
    InputError
        A listed file that is missing, or no list at all.
    """
    root = file.parent.resolve()
    found: list[Path] = []
    for record in directory.get("DirectoryRecordSequence") or []:
        named = record.get("ReferencedFileID")
        if named is None or str(record.get("DirectoryRecordType")) != "IMAGE":
            continue
        parts = [str(named)] if isinstance(named, str) else [str(part) for part in named]
        if not 1 <= len(parts) <= _DEEPEST or not all(_COMPONENT.fullmatch(part) for part in parts):
            raise UnsafeInput(
                "the directory names a file outside its folder", where=file.name, found=f"entry {len(found) + 1}",
                hint="Do not trust this medium. Copy the images themselves into a folder and read that.",
            )  # fmt: skip
        path = file.parent.joinpath(*parts)
        if not path.resolve().is_relative_to(root):
            raise UnsafeInput(
                "a link on the medium leads outside its folder", where=file.name, found=f"entry {len(found) + 1}"
            )
        if not path.is_file():
            raise InputError(
                "the directory lists an image that is not there", where=file.name, found=f"entry {len(found) + 1}",
                hint="Copy the whole medium, or put the images of one series into a folder.",
            )  # fmt: skip
        found.append(path)
    if not found:
        raise InputError("the directory lists no images", where=file.name)
    return found
