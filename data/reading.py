"""What all readers share: one kind of error for every way in which a file can be broken."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from medrecon.errors import CorruptInput, InputError, MedreconError, TooLarge

_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    AssertionError,
    struct.error,
    zlib.error,
)


@contextmanager
def reading(path: str | Path, kind: str) -> Iterator[None]:
    """Turn whatever a format library raises on a broken ``kind`` of file into an InputError that names the file.

    Libraries show one fact, "this file is damaged", in more than eight exception types. Their texts are not passed on:
    they may quote the content of the file, which may be about a patient.
    """
    name = Path(path).name
    try:
        yield
    except MedreconError:
        raise
    except FileNotFoundError as error:
        raise InputError("there is no such file", where=name) from error
    except IsADirectoryError as error:
        raise InputError(f"this is a folder, not a {kind} file", where=name) from error
    except PermissionError as error:
        raise InputError("permission to read the file was refused", where=name) from error
    except MemoryError as error:
        raise TooLarge("the data does not fit into memory", where=name) from error
    except _DAMAGE as error:
        raise CorruptInput(
            f"the {kind} file is damaged or cut short",
            where=name,
            found=type(error).__name__,
            hint="Copy it again from its source, or write it again.",
        ) from error


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Add the file's name to an InputError from a check that does not know of files."""
    try:
        yield
    except InputError as error:
        if error.where is not None:
            raise
        raise type(error)(
            error.what, where=where, found=error.found, expected=error.expected, hint=error.hint
        ) from error


def require_finite(array: np.ndarray, *, where: str, what: str = "values") -> None:
    """Raise InputError, with the number and the first place, if the array holds NaN or infinity."""
    finite = np.isfinite(array)
    if finite.all():
        return
    bad = np.argwhere(~finite)
    raise InputError(
        f"NaN or infinity in the {what}",
        where=where,
        found=f"{len(bad)} of {array.size}, the first at index {tuple(int(i) for i in bad[0])}",
        expected="finite numbers only",
        hint="Mask or replace them in the source; they would spread over the whole volume.",
    )
