"""One ordered registry of file formats: what a file is goes by its content, where a volume goes by its suffix.

A format is one module with a function under `reader` and, if it can be written, one under `writer`; `medrecon.data`
imports it once. Tests, command line and viewer find it here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from medrecon.data.atomic import Transaction, sha256_of_file
from medrecon.data.kspace import KSpace
from medrecon.data.limits import Limits
from medrecon.data.provenance import describe_output, sidecar_path, verify_sidecar, write_json
from medrecon.data.scan import Scan
from medrecon.data.volume import Volume
from medrecon.errors import InputError, UsageError
from medrecon.registry import Registry

HEAD = 4096
"""Bytes of a file that a sniffer is shown."""


class ReadFunction(Protocol):
    """``read(path, *, limits=None)``; raises InputError and nothing else for whatever a file may hold."""

    def __call__(self, path: Path, *, limits: Limits | None = None) -> Volume | Scan | KSpace:
        """Read one file or folder."""
        ...


@dataclass(frozen=True)
class Reader:
    """How one kind of file is recognised and read."""

    name: str
    suffixes: tuple[str, ...]
    sniff: Callable[[Path, bytes], bool]
    read: ReadFunction


@dataclass(frozen=True)
class Writer:
    """How one kind of file is written. ``write(path, content)`` fills a new file and need not care for atomicity."""

    name: str
    suffixes: tuple[str, ...]
    content: type
    write: Callable[[Path, Volume], None] | Callable[[Path, Scan], None] | Callable[[Path, KSpace], None]


readers: Registry[Reader] = Registry("reader")
writers: Registry[Writer] = Registry("writer")

Function = TypeVar("Function", bound=Callable)


def reader(
    name: str, *, suffixes: tuple[str, ...], sniff: Callable[[Path, bytes], bool]
) -> Callable[[Function], Function]:
    """Register a function that reads a format.

    ``sniff(path, head)`` says from the path and the first `HEAD` bytes (none for a folder) whether this is its format.
    """

    def add(function: Function) -> Function:
        readers.register(name)(Reader(name, suffixes, sniff, function))
        return function

    return add


def writer(name: str, *, suffixes: tuple[str, ...], content: type = Volume) -> Callable[[Function], Function]:
    """Register a function that writes ``content`` (`Volume` or `Scan`) to files with these suffixes."""

    def add(function: Function) -> Function:
        writers.register(name)(Writer(name, suffixes, content, function))
        return function

    return add


def sniff(path: str | Path) -> str:
    """Name of the format of a file or folder, by its content.

    Raises InputError if nothing is there or no reader recognises it.
    """
    path = Path(path)
    head = b""
    if not path.exists():
        raise InputError("there is no such file", where=path.name)
    if not path.is_dir():
        try:
            with path.open("rb") as file:
                head = file.read(HEAD)
        except OSError as error:
            raise InputError("the file cannot be opened", where=path.name, found=error.strerror) from error
        if not head:
            raise InputError("the file is empty", where=path.name)
    for entry in readers:
        if entry.value.sniff(path, head):
            return entry.name
    raise InputError(
        "no reader recognises this",
        where=path.name,
        found="a folder" if path.is_dir() else f"a file that starts with {head[:8].hex(' ')}",
        expected=", ".join(f"{e.name} ({' '.join(e.value.suffixes) or 'folder'})" for e in readers),
    )


def read(path: str | Path, *, limits: Limits | None = None, verify: bool = True) -> Volume | Scan | KSpace:
    """Read a file or folder of any known format.

    With ``verify``, a ``NAME.json`` that this package wrote beside the file must agree with the file's bytes.

    Raises
    ------
    InputError
        Nothing there, unknown format, or what the format's reader says; CorruptInput for damaged files and for a file
        that differs from what its ``NAME.json`` says.
    """
    path = Path(path)
    if verify and path.is_file():
        verify_sidecar(path)  # first: a damaged file does not reach any format library
    return readers.get(sniff(path)).read(path, limits=limits)


def read_volume(path: str | Path, *, quantity: str | None = None, limits: Limits | None = None) -> Volume:
    """`read`, for files that must hold a volume; ``quantity`` overrules what the file says or what was guessed."""
    content = read(path, limits=limits)
    if not isinstance(content, Volume):
        raise InputError(
            "this file holds measured data, not a volume",
            where=Path(path).name,
            hint="Reconstruct it first (medrecon recon).",
        )
    return content if quantity is None else content.with_array(content.array, quantity)


def read_scan(path: str | Path, *, limits: Limits | None = None) -> Scan | KSpace:
    """`read`, for files that must hold measured data."""
    content = read(path, limits=limits)
    if not isinstance(content, Scan | KSpace):
        raise InputError(
            "this file holds a volume, not measured data",
            where=Path(path).name,
            hint="Measured data are what `medrecon simulate` writes; see docs/scan-h5.md for your own.",
        )
    return content


def writer_for(path: str | Path, content: type = Volume) -> Writer:
    """The writer for a path, by the longest suffix that fits. Raises UsageError if there is none."""
    name = Path(path).name.lower()
    able = [entry.value for entry in writers if issubclass(content, entry.value.content)]
    fitting = [(len(s), w) for w in able for s in w.suffixes if name.endswith(s)]
    if not fitting:
        raise UsageError(
            f"no writer for a {content.__name__.lower()} with this suffix",
            where=Path(path).name,
            expected="one of " + ", ".join(s for w in able for s in w.suffixes),
        )
    return max(fitting, key=lambda pair: pair[0])[1]


def write(
    path: str | Path,
    content: Volume | Scan | KSpace,
    *,
    overwrite: bool = False,
    provenance: dict[str, object] | None = None,
    sidecar: bool = True,
) -> Path:
    """Write a volume or a scan, and the ``NAME.json`` beside it; both appear whole or not at all.

    Parameters
    ----------
    path
        Its suffix picks the format.
    provenance
        What `medrecon.data.provenance.describe_run` gave, possibly with more; the name, hash, geometry and units of the
        output are added.
    sidecar
        Write ``NAME.json``.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    UsageError
        Unknown suffix; ``path`` exists and ``overwrite`` is false.
    MedreconError
        The operating system refused; what stood there is unharmed.
    """
    path = Path(path)
    chosen = writer_for(path, type(content))
    with Transaction(overwrite=overwrite) as transaction:
        complete = transaction.write(path, lambda temporary: chosen.write(temporary, content))  # type: ignore[arg-type]
        if sidecar:
            record = describe_output(path.name, sha256_of_file(complete), content, provenance)
            transaction.write(sidecar_path(path), lambda temporary: write_json(temporary, record), replace=True)
        transaction.commit()
    return path
