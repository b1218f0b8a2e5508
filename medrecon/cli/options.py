"""Options that several commands share, and the parsing of what they hold."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medrecon.errors import InputError, UsageError
from medrecon.registry import unknown_name

if TYPE_CHECKING:
    from medrecon.data.trace_grid import ReadOptions

if TYPE_CHECKING:
    from medrecon.data.formats import About

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output files.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of text.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Same seed, same result.")]
Traces = Annotated[
    list[str] | None,
    typer.Option(
        "--traces",
        metavar="KEY=VALUE",
        help="Seismic: inline=BYTE, crossline, offset, cdp, keys, rows=FIRST:LAST:STEP, columns, interval, salvage, "
        "nan, sparse, memory=MIB; may be repeated.",
    ),
]
Kspace = Annotated[
    list[str] | None,
    typer.Option(
        "--kspace",
        metavar="KEY=VALUE",
        help="MRI: phase=centre|wavelet|auto, map_method=espirit|low-resolution|auto, coils=N (virtual ones), "
        "nonnegative, complete=false (calibration); may be repeated.",
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="File to write; its suffix picks the format (none: a DICOM folder).")
]
KeepIdentifiers = Annotated[
    bool, typer.Option("--keep-identifiers", help="DICOM only: copy patient and study of the source series.")
]

_QUANTITIES = {"hu": "HU", "mu": "1/mm", "1/mm": "1/mm", "a.u.": "a.u."}


def quantity_name(text: str | None) -> str | None:
    """``HU`` or ``mu`` as the package calls it. Raises UsageError for anything else."""
    if text is None:
        return None
    if text.lower() not in _QUANTITIES:
        raise UsageError("unknown quantity", found=text, expected="HU or mu (linear attenuation, 1/mm)")
    return _QUANTITIES[text.lower()]


def source_of(path: str | Path | None, keep_identifiers: bool) -> About:
    """The DICOM series at ``path`` as what a volume belongs to; nothing where another format stands there."""
    from medrecon.data import sniff
    from medrecon.data.formats import About

    source = Path(path) if path is not None and sniff(path) == "dicom" else None
    if keep_identifiers and source is None:
        raise UsageError(
            "there are no identifiers to keep: no DICOM series belongs to this volume",
            hint="Name one with --like, or leave --keep-identifiers out.",
        )
    return About(source=source, keep_identifiers=keep_identifiers)


def numbers(text: str, *, what: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    """``"2"`` or ``"3,2,2"`` as numbers. Raises UsageError unless there are as many as one of ``counts``."""
    try:
        values = tuple(float(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        values = ()
    if len(values) not in counts:
        raise UsageError(f"{what} is not understood", found=text, expected="numbers separated by commas: Z,Y,X")
    return values


def shape_of(text: str | None) -> tuple[int, int, int] | None:
    """``"48,128,128"`` as a shape ``(z, y, x)``."""
    if text is None:
        return None
    values = numbers(text, what="--shape", counts=(3,))
    if any(value != int(value) or value < 1 for value in values):
        raise UsageError("--shape takes positive whole numbers", found=text)
    return int(values[0]), int(values[1]), int(values[2])


def settings_of(pairs: list[str] | None, option: str = "--set") -> dict[str, object]:
    """``key=value`` pairs, the values read as YAML scalars or lists. Raises UsageError for anything else."""
    settings: dict[str, object] = {}
    for pair in pairs or []:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{option} takes key=value", found=pair)
        settings[key.strip()] = scalar(text)
    return settings


def trace_options(pairs: list[str] | None, kind: str) -> ReadOptions | None:
    """What --traces says; None where it says nothing. Raises UsageError for files of another kind than SEG-Y and SU."""
    if not pairs:
        return None
    from medrecon.data.segy_reading import SEGY_KINDS
    from medrecon.data.trace_grid import ReadOptions

    if kind not in SEGY_KINDS:
        raise UsageError("--traces is for SEG-Y and SU files", found=kind)
    said = {key: _boolean(value) for key, value in settings_of(pairs, "--traces").items()}
    # Ranges are text: YAML would read 1:10 as a number to the base of sixty
    for pair in pairs:
        key, _, text = pair.partition("=")
        if key.strip() in ("rows", "columns"):
            said[key.strip()] = text
    return ReadOptions.of(said)


def kspace_settings(pairs: list[str] | None, modality: str) -> dict[str, object]:
    """What --kspace says, for `medrecon.mri.mri_problem`. Raises UsageError where the data are not of MRI."""
    if modality != "mri":
        if pairs:
            raise UsageError("--kspace is for MRI", found=f"data of {modality}")
        return {}
    said = {key: _boolean(value) for key, value in settings_of(pairs, "--kspace").items()}
    kinds = {"phase": str, "map_method": str, "coils": int, "nonnegative": bool, "complete": bool}
    for key, value in said.items():
        if key not in kinds:
            raise unknown_name("--kspace setting:", key, list(kinds))
        if not isinstance(value, kinds[key]) or (isinstance(value, bool) and kinds[key] is int):
            words = {str: "a name", int: "a whole number", bool: "yes or no"}
            raise UsageError(f"--kspace {key} has the wrong type", found=repr(value), expected=words[kinds[key]])
    return said


def _boolean(value: object) -> object:
    return {"yes": True, "no": False}.get(value, value) if isinstance(value, str) else value


def scalar(text: str) -> object:
    """One YAML value; ``1e5`` is a number too, which YAML 1.1 reads as text."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError("a value is not valid YAML", found=text) from error
    return _with_numbers(value)


def _with_numbers(value: object) -> object:
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_numbers(item) for key, item in value.items()}
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


@dataclass(frozen=True)
class RunConfig:
    """What `recon` can be told, on the command line or in a file; None where nothing was said."""

    method: str | None = None
    prior: str | None = None
    steps: int | None = None
    samples: int | None = None
    seed: int | None = None
    device: str | None = None
    quantity: str | None = None
    like: str | None = None
    voxel: str | None = None
    shape: str | None = None
    report: str | None = None
    views: str | None = None
    correct: list[str] | None = None
    trust: str | None = None
    traces: list[str] | None = None
    kspace: list[str] | None = None
    tile: int | None = None
    slab: int | None = None
    settings: dict[str, object] | None = None

    def over(self, other: RunConfig) -> RunConfig:
        """What this configuration says, and ``other`` where it says nothing; settings are merged key by key."""
        said = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        said["settings"] = (other.settings or {}) | (self.settings or {})
        return replace(other, **said)


_DEFAULTS = RunConfig(method="auto", samples=1, seed=0, device="auto", trust="basic", settings={})


def resolved(command_line: RunConfig, file: Path | None) -> RunConfig:
    """The command line over the file over the defaults."""
    stored = read_config(file) if file is not None else RunConfig()
    return command_line.over(stored.over(_DEFAULTS))


def read_config(path: Path) -> RunConfig:
    """A run's configuration from YAML: the long options of `recon` without their dashes, and ``settings``.

    Raises
    ------
    InputError
        There is no such file.
    UsageError
        Not YAML, an unknown key, or a value of the wrong kind.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError("the configuration cannot be read", where=path.name, found=error.strerror) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        place = getattr(error, "problem_mark", None)
        line = f"line {place.line + 1}" if place is not None else None
        raise UsageError("the configuration is not valid YAML", where=path.name, found=line) from error
    if content is None:
        return RunConfig()
    if not isinstance(content, dict):
        raise UsageError(
            "a configuration is a list of `key: value` lines", where=path.name, found=type(content).__name__
        )
    return RunConfig(**{str(key): _checked(str(key), value, path.name) for key, value in content.items()})  # type: ignore[arg-type]


_KINDS: dict[str, type | tuple[type, ...]] = {
    "steps": int, "samples": int, "seed": int, "tile": int, "settings": dict, "correct": list, "traces": list,
    "kspace": list,
}  # fmt: skip


def _checked(key: str, value: object, where: str) -> object:
    """One entry of a configuration, in the form of the command line."""
    known = [f.name for f in fields(RunConfig)]
    if key not in known:
        raise unknown_name(f"key in {where}:", key, known)
    if value is None:
        return None
    if key in ("voxel", "shape"):
        return ",".join(str(part) for part in value) if isinstance(value, list) else str(value)
    kind = _KINDS.get(key, str)
    if not isinstance(value, kind) or isinstance(value, bool):
        words = {int: "a whole number", dict: "key: value lines", str: "text", list: "a list"}
        expected = words[kind]  # type: ignore[index]
        raise UsageError(f"{key} has the wrong type", where=where, found=repr(value), expected=expected)
    if key == "correct" and isinstance(value, list):
        return [str(part) for part in value]
    return _with_numbers(value) if key == "settings" else value
