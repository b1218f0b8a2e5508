"""Files as layers: volumes, reconstructions with what stands beside them, and measured data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medrecon.errors import InputError

if TYPE_CHECKING:
    from medrecon.viewer.layers import Layer

Paths = str | Sequence[str]


def get_reader(path: Paths) -> Callable[[Paths], list[Layer]] | None:
    """The function that reads these files, or None where one of them is of no format that this package knows."""
    from medrecon.data import sniff

    try:
        for each in _listed(path):
            sniff(each)
    except InputError:
        return None  # another plugin may know it
    return read_layers


def read_layers(path: Paths) -> list[Layer]:
    """The layers of all files. Raises InputError with the text that the command line gives."""
    return [layer for each in _listed(path) for layer in _read(Path(each))]


def _listed(path: Paths) -> list[str]:
    return [str(path)] if isinstance(path, str | Path) else [str(each) for each in path]


def _read(path: Path) -> list[Layer]:
    from medrecon.data import Volume, read, read_volume
    from medrecon.data.provenance import read_sidecar
    from medrecon.data.traces import Traces
    from medrecon.viewer.layers import measurement_layer, volume_layer, with_companions

    content = read(path)
    name = _stem(path)
    if isinstance(content, Traces):
        return [volume_layer(content.to_volume(), name, file=str(path))]
    if not isinstance(content, Volume):
        return [measurement_layer(content, name, file=str(path))]
    record = read_sidecar(path) or {}
    if "run" not in record:
        return [volume_layer(content, name, file=str(path))]
    named = record.get("beside")
    named = named if isinstance(named, dict) else {}
    files = {str(role): path.with_name(Path(str(file)).name) for role, file in named.items() if role != "measurement"}
    beside = {role: read_volume(file) for role, file in files.items() if file.is_file()}
    return with_companions(content, beside, name, file=str(path), record=record)


def _stem(path: Path) -> str:
    name = path.name
    return name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else path.stem
