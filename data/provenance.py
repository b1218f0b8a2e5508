"""``NAME.json`` beside every output: what made it, from what, and how it can be checked.

The record holds versions, settings, seed, SHA-256 of inputs, weights and output, geometry, units, residual, times and
peak memory. It holds file names without their folders and no patient data.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path, PurePath

import numpy as np

from medrecon.data.atomic import sha256_of_file, sha256_of_folder
from medrecon.data.kspace import KSpace
from medrecon.data.reading import reading
from medrecon.data.scan import Scan
from medrecon.data.traces import Traces
from medrecon.data.volume import Geometry, Volume
from medrecon.errors import CorruptInput

RECORD_VERSION = 1
LARGEST_RECORD = 16 << 20
_LIBRARIES = ("numpy", "scipy", "torch", "numba", "nibabel", "pydicom", "h5py", "safetensors")
_SUFFIXES = (".nii.gz", ".ome.zarr")
_WHOLE_PATH = re.compile(r"(?:~|\.{1,2}|[A-Za-z]:)?[\\/].*[^\\/]", re.DOTALL)
_FILE_IN_FOLDER = re.compile(r".*[\\/][^\\/]+\.[A-Za-z][A-Za-z0-9]{0,11}", re.DOTALL)
_PATH_IN_TEXT = re.compile(r"(?<![^\s='\"(])(?:~|\.{1,2}|[A-Za-z]:)?[\\/](?:[^\s\\/]+[\\/])*([^\s\\/]+)")


def describe_run(
    *,
    inputs: Iterable[str | Path] = (),
    weights: Iterable[str | Path] = (),
    settings: Mapping[str, object] | None = None,
    seed: int | None = None,
    residual: Mapping[str, object] | None = None,
    timings: Mapping[str, float] | None = None,
    extra: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The part of the record that a run knows, for `medrecon.data.formats.write`.

    Parameters
    ----------
    inputs, weights
        Files (or DICOM folders) that were read; name and SHA-256 of each are noted.
    settings
        Method and resolved options; paths in it are cut down to their names.
    residual
        Data residual and discrepancy as the engine reports them.
    timings
        Seconds of each part of the run.
    extra
        Further top-level entries, for instance ``{"status": "converged"}``.
    """
    record: dict[str, object] = {
        "versions": versions(),
        "settings": jsonable(settings or {}),
        "seed": seed,
        "inputs": [_file_entry(path) for path in inputs],
        "weights": [_file_entry(path) for path in weights],
        "residual": jsonable(residual or {}),
        "timings": jsonable(timings or {}),
        "peak_memory_bytes": peak_memory(),
    }
    for key, value in (extra or {}).items():
        record[key] = jsonable(value)
    return record


def describe_output(
    name: str, sha256: str, content: Volume | Scan | KSpace | Traces, run: Mapping[str, object] | None = None
) -> dict[str, object]:
    """The whole record of one output file: ``run`` plus what the file holds."""
    output: dict[str, object] = {"name": name, "sha256": sha256}
    if isinstance(content, Volume):
        output |= {"holds": "volume", "quantity": content.quantity, "grid": _grid(content.geometry)}
    elif isinstance(content, KSpace):
        output |= {
            "holds": "k-space",
            "modality": content.modality,
            "data_shape": list(content.data.shape),
            "encoded": list(content.encoded),
            "field_of_view_mm_zyx": [float(length) for length in content.field_of_view],
            "grid": _grid(content.volume_geometry),
        }
    elif isinstance(content, Traces):
        output |= {
            "holds": "traces",
            "modality": content.modality,
            "quantity": content.quantity,
            "data_shape": list(content.data.shape),
            "rows": content.rows.describe(),
            "columns": content.columns.describe(),
            "interval_us": content.interval,
            "missing": content.counts(),
            "filled": 0 if content.filled is None else int(content.filled.sum()),
        }
    else:
        output |= {
            "holds": "scan",
            "modality": content.modality,
            "data_shape": list(content.data.shape),
            "geometry": jsonable(content.geometry),
            "noise": jsonable(content.noise),
            "water_per_mm": float(content.water),
            "grid": _grid(content.volume_geometry),
        }
    output["units"] = {"length": "mm", "angle": "rad", "time": "s"}
    body = dict(run) if run is not None else {"versions": versions()}
    written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"medrecon_record": RECORD_VERSION, "output": output, "written": written, **jsonable_dict(body)}


def sidecar_path(output: str | Path) -> Path:
    """Where the record of an output stands: ``recon.json`` for ``recon.nii.gz``.

    If a JSON file that does not describe this output has that name (another program's, or that of ``recon.h5``), it is
    ``recon.nii.gz.json``: no foreign file is replaced.
    """
    output = Path(output)
    first, second = _sidecar_names(output)
    if not first.exists() or _described_name(first) == output.name:
        return first
    return second


def read_sidecar(output: str | Path) -> dict[str, object] | None:
    """The record beside an output, or None where there is none."""
    output = Path(output)
    for path in _sidecar_names(output):
        if _described_name(path) == output.name:
            return _load(path)
    return None


def load_record(path: str | Path) -> dict[str, object]:
    """A record by the path of its file. Raises InputError where it is none, CorruptInput where it is damaged."""
    path = Path(path)
    with reading(path, "record"):
        return _load(path)


def input_entry(path: str | Path) -> dict[str, object]:
    """Name and SHA-256 of an input as `describe_run` notes them."""
    return _file_entry(path)


def verify_sidecar(output: str | Path) -> bool:
    """True if the SHA-256 of the file or folder is the one in the record beside it, False if there is no record.

    Raises CorruptInput when they differ.
    """
    output = Path(output)
    record = read_sidecar(output)
    if record is None:
        return False
    described = record["output"]
    stated = described.get("sha256") if isinstance(described, dict) else None
    with reading(output, "input"):
        actual = sha256_of_folder(output) if output.is_dir() else sha256_of_file(output)
    if stated != actual:
        kind = "folder" if output.is_dir() else "file"
        raise CorruptInput(
            f"the {kind} is not the one that {_sidecar_names(output)[0].name} describes",
            where=output.name,
            found=f"SHA-256 {actual[:12]}...",
            expected=f"{str(stated)[:12]}...",
            hint="It was damaged or changed. If you changed it on purpose, remove the JSON file.",
        )
    return True


def write_json(path: Path, record: Mapping[str, object]) -> None:
    """Write a record, readable and strictly JSON (no NaN). Call through `atomic_write`."""
    path.write_text(json.dumps(jsonable(record), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries under it; nothing is imported for it."""
    from medrecon import __version__

    found = {
        "medrecon": __version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
    }
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def peak_memory() -> int | None:
    """Largest resident size of this process so far, bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def jsonable(value: object) -> object:
    """The same as plain JSON values: arrays to lists, paths to file names, NaN to None, infinity to a word."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return without_folders(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else ("infinity" if value > 0 else "-infinity")
    if isinstance(value, PurePath):
        return value.name
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, Mapping):
        return jsonable_dict(value)
    if isinstance(value, Iterable):
        return [jsonable(item) for item in value]
    return without_folders(str(value))


def jsonable_dict(value: Mapping[str, object]) -> dict[str, object]:
    """`jsonable` for a dictionary."""
    return {without_folders(str(key)): jsonable(item) for key, item in value.items()}


def without_folders(text: str) -> str:
    """Text with every path in it cut down to its last part: folders often carry names of people."""
    if "/" not in text and "\\" not in text:
        return text
    if _WHOLE_PATH.fullmatch(text):
        return re.split(r"[\\/]", text)[-1]
    text = _PATH_IN_TEXT.sub(r"\1", text)
    return re.split(r"[\\/]", text)[-1] if _FILE_IN_FOLDER.fullmatch(text) else text


def _sidecar_names(output: Path) -> tuple[Path, Path]:
    name = output.name
    stem = next((name[: -len(s)] for s in _SUFFIXES if name.lower().endswith(s)), output.stem)
    return output.with_name(f"{stem or name}.json"), output.with_name(f"{name}.json")


def _described_name(path: Path) -> str | None:
    """Name of the output that a JSON file describes, None if it is no record of this package."""
    try:
        record = _load(path)
    except (OSError, ValueError, RecursionError):
        return None
    output = record.get("output")
    return output.get("name") if isinstance(output, dict) else None


def _load(path: Path) -> dict[str, object]:
    if path.stat().st_size > LARGEST_RECORD:
        raise ValueError("too large for a record")
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict) or "medrecon_record" not in record:
        raise ValueError("no record of this package")
    return record


def _file_entry(path: str | Path) -> dict[str, object]:
    path = Path(path)
    if not path.is_dir():
        return {"name": path.name, "sha256": sha256_of_file(path)}
    # A folder of slices is the set of its files, whatever they are called.
    hashes = sorted(sha256_of_file(file) for file in path.rglob("*") if file.is_file())
    return {"name": path.name, "files": len(hashes), "sha256": hashlib.sha256("".join(hashes).encode()).hexdigest()}


def _grid(geometry: Geometry) -> dict[str, object]:
    return {
        "shape_zyx": list(geometry.shape),
        "spacing_mm_zyx": list(geometry.spacing),
        "orientation_xyz": geometry.orientation,
        "affine_ras_mm": geometry.affine.tolist(),
    }
