"""One ordered registry of file formats: what a file is goes by its content, where a volume goes by its suffix.

A format is one module with a function under `reader` and, if it can be written, one under `writer`; `medrecon.data`
imports it once. Tests, command line and viewer find it here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from medrecon.data.atomic import Transaction, check_target, sha256_of_file, sha256_of_folder
from medrecon.data.kspace import KSpace
from medrecon.data.limits import Limits
from medrecon.data.provenance import describe_output, read_sidecar, sidecar_path, verify_sidecar, write_json
from medrecon.data.scan import Scan
from medrecon.data.traces import Traces
from medrecon.data.volume import Volume
from medrecon.errors import InputError, UsageError
from medrecon.registry import Registry

Content = Volume | Scan | KSpace | Traces
HEAD = 4096
"""Bytes of a file that a sniffer is shown."""


class ReadFunction(Protocol):
    """``read(path, *, limits=None)``; raises InputError and nothing else for whatever a file may hold."""

    def __call__(self, path: Path, *, limits: Limits | None = None) -> Content:
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
class About:
    """What a format may say of a volume beside its values: DICOM does.

    Attributes
    ----------
    source
        The DICOM series (a folder) that the volume belongs to: its frame of reference is kept.
    keep_identifiers
        Copy patient and study of the source too, and refer to its images; otherwise nothing of them is written.
    description
        How the volume was made, in one line.
    uses_prior
        Whether part of the content was made by a trained prior rather than measured.
    group
        Volumes of one group, such as a result and its baseline, lie in one frame of reference and one study.
    """

    source: Path | None = None
    keep_identifiers: bool = False
    description: str = ""
    uses_prior: bool = False
    group: str = ""


@dataclass(frozen=True)
class Writer:
    """How one kind of file is written. ``write(path, content)`` fills a new file and need not care for atomicity.

    With ``folder`` the path is an empty folder to fill; ``write(path, content, about)`` is called with ``takes_about``.
    """

    name: str
    suffixes: tuple[str, ...]
    content: type
    write: Callable[..., None]
    folder: bool = False
    takes_about: bool = False


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


def writer(
    name: str,
    *,
    suffixes: tuple[str, ...],
    content: type = Volume,
    folder: bool = False,
    takes_about: bool = False,
) -> Callable[[Function], Function]:
    """Register a function that writes ``content`` (`Volume` or `Scan`) to files (or folders) with these suffixes.

    The suffix ``""`` stands for names without one.
    """

    def add(function: Function) -> Function:
        writers.register(name)(Writer(name, suffixes, content, function, folder, takes_about))
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


def read(path: str | Path, *, limits: Limits | None = None, verify: bool = True) -> Content:
    """Read a file or folder of any known format.

    With ``verify``, a ``NAME.json`` that this package wrote beside the file must agree with the file's bytes.

    Raises
    ------
    InputError
        Nothing there, unknown format, or what the format's reader says; CorruptInput for damaged files and for a file
        that differs from what its ``NAME.json`` says.
    """
    path = Path(path)
    if verify and path.exists():
        verify_sidecar(path)  # first: a damaged file does not reach any format library
    return readers.get(sniff(path)).read(path, limits=limits)


def read_volume(path: str | Path, *, quantity: str | None = None, limits: Limits | None = None) -> Volume:
    """`read`, for files that must hold a volume; ``quantity`` overrules what the file says or what was guessed."""
    volume = as_volume(read(path, limits=limits), where=Path(path).name)
    return volume if quantity is None else volume.with_array(volume.array, quantity)


def as_volume(content: Content, *, where: str) -> Volume:
    """A volume as it is, traces as sections with zeros where they are missing. Raises InputError for other data."""
    if isinstance(content, Traces):
        return content.to_volume()
    if not isinstance(content, Volume):
        raise InputError(
            "this file holds measured data, not a volume", where=where, hint="Reconstruct it first (medrecon recon).",
        )  # fmt: skip
    return content


def read_scan(path: str | Path, *, limits: Limits | None = None) -> Scan | KSpace | Traces:
    """`read`, for files that must hold measured data."""
    content = read(path, limits=limits)
    if not isinstance(content, Scan | KSpace | Traces):
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
    bare = Path(path).suffix == ""
    fitting = [(len(s), w) for w in able for s in w.suffixes if (name.endswith(s) if s else bare)]
    if not fitting:
        raise UsageError(
            f"no writer for a {content.__name__.lower()} with this suffix",
            where=Path(path).name,
            expected="one of "
            + ", ".join(s or f"a name without suffix (a folder of {w.name})" for w in able for s in w.suffixes),
        )
    return max(fitting, key=lambda pair: pair[0])[1]


def content_for(path: str | Path) -> type:
    """What a result of that name holds: traces where its suffix says so, a volume otherwise.

    Raises UsageError for a name that no writer of either takes.
    """
    name = Path(path).name.lower()
    suffixes = [s for entry in writers if entry.value.content is Traces for s in entry.value.suffixes]
    if any(name.endswith(suffix) for suffix in suffixes):
        return Traces
    writer_for(path, Volume)
    return Volume


def check_output(path: str | Path, content: type = Volume, *, overwrite: bool = False) -> None:
    """Raise UsageError where `write` would refuse the path: call it before a long computation, not after.

    A folder is replaced only if it is empty or holds what the ``NAME.json`` beside it says, and nothing else.
    """
    path = Path(path)
    folder = writer_for(path, content).folder
    check_target(path, overwrite=overwrite, folder=folder)
    if folder and path.is_dir() and any(path.iterdir()):
        record = read_sidecar(path)
        stated = record.get("output") if record else None
        if not isinstance(stated, dict) or stated.get("sha256") != sha256_of_folder(path):
            raise UsageError(
                "the folder holds something else than what was written there, and is left as it is",
                where=path.name,
                hint="Choose another name, or remove the folder yourself.",
            )


def write(
    path: str | Path,
    content: Content,
    *,
    overwrite: bool = False,
    provenance: dict[str, object] | None = None,
    sidecar: bool = True,
    about: About | None = None,
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
    about
        For formats that say more than values: see `About`.

    Returns
    -------
    Path
        The file or folder written.

    Raises
    ------
    UsageError
        Unknown suffix; ``path`` exists and ``overwrite`` is false.
    MedreconError
        The operating system refused; what stood there is unharmed.
    """
    path = Path(path)
    chosen = writer_for(path, type(content))
    more: tuple[About, ...] = ()
    if chosen.takes_about:
        more = (_completed(about or About(), provenance or {}),)
    check_output(path, type(content), overwrite=overwrite)
    with Transaction(overwrite=overwrite) as transaction:
        complete = transaction.write(
            path, lambda temporary: chosen.write(temporary, content, *more), folder=chosen.folder
        )
        if sidecar:
            hashed = sha256_of_folder(complete) if chosen.folder else sha256_of_file(complete)
            record = describe_output(path.name, hashed, content, provenance)
            transaction.write(sidecar_path(path), lambda temporary: write_json(temporary, record), replace=True)
        transaction.commit()
    return path


def _completed(about: About, record: dict[str, object]) -> About:
    """Description and group as far as the record of the run tells them."""
    run, inputs = record.get("run"), record.get("inputs")
    run = run if isinstance(run, dict) else {}
    method = record.get("method")
    words = [f"reconstructed by {method}"] if method else ["converted"]
    if run.get("prior"):
        words.append(f"prior {run['prior']} (SHA-256 {str(run.get('prior_sha256'))[:16]})")
    hashes = (
        [str(entry.get("sha256")) for entry in inputs if isinstance(entry, dict)] if isinstance(inputs, list) else []
    )
    return replace(
        about,
        description=about.description or ", ".join(words),
        uses_prior=about.uses_prior or bool(run.get("prior")),
        group=about.group or " ".join(hashes),
    )
