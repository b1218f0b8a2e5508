"""Checkpoints as plain values: tensors, numbers, text; nothing in a file is executed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 - the name of an error; nothing is unpickled by it

import torch
from torch import Tensor

from medrecon.data.limits import Limits
from medrecon.errors import CorruptInput, InputError, TooLarge, UnsafeInput
from medrecon.families.base import Checkpoint

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_EARLIER_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how files of torch before 1.6 begin
_LARGEST_CONFIG = 1 << 20
_PLACES = (
    "ema", "ema_state_dict", "model_ema", "state_dict", "model_state_dict", "model", "net", "params_ema", "params",
)  # fmt: skip
_PREFIXES = ("module.", "_orig_mod.")
_WEIGHTS = (
    "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin",
    "models/model.pt", "models/model.pth", "models/diffusion_model.pt", "models/unet.pt",
)  # fmt: skip
_SAFE_CONVERSION = (
    "It can run any program when it is opened, so it is not opened here. Where you trust its source, save the tensors "
    "alone with that source's own code: torch.save(network.state_dict(), 'weights.pt'), and import that file."
)


def read_checkpoint(path: Path) -> Checkpoint:
    """The weights of a file, or of a folder as diffusers and MONAI write them, with the configurations beside them.

    Raises
    ------
    UnsafeInput
        A pickle, or a file that holds more than tensors and plain values.
    CorruptInput
        Damaged or truncated.
    TooLarge
        More than the free memory.
    InputError
        No such file, or no weights in it.
    """
    if not path.exists():
        raise InputError("there is no such file", where=path.name)
    if not path.is_dir():
        return _checkpoint(path.name, _content(path), {})
    for relative in _WEIGHTS:
        if (path / relative).is_file():
            return _checkpoint(path.name, _content(path / relative), _configs(path))
    raise InputError(
        "the folder holds no weights under a known name", where=path.name, expected=" or ".join(_WEIGHTS[2:5]),
        hint="Sharded weights are not read; a file of weights alone can be imported by its own name.",
    )  # fmt: skip


def _configs(folder: Path) -> dict[str, object]:
    """Small JSON files of the folder and one level below, by their relative names."""
    found: dict[str, object] = {}
    for file in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        if file.stat().st_size <= _LARGEST_CONFIG:
            try:
                found[str(file.relative_to(folder))] = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise CorruptInput("not valid JSON", where=file.name) from error
    return found


def _content(path: Path) -> object:
    """The content of one file of weights."""
    with path.open("rb") as handle:
        start = handle.read(16)
    Limits().check((path.stat().st_size,), 1, where=path.name)
    if path.suffix == ".safetensors":
        return _from_safetensors(path)
    if path.suffix == ".pkl" or (start.startswith(_PICKLE) and start[: len(_EARLIER_TORCH)] != _EARLIER_TORCH):
        raise UnsafeInput("this is a pickle of a program's objects", where=path.name, hint=_SAFE_CONVERSION)
    if start.startswith(_ZIP):
        _check_archive(path)
    elif not start.startswith(_EARLIER_TORCH):
        raise InputError(
            "not a checkpoint", where=path.name, expected="what torch.save writes, safetensors, or a folder of them"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if "GLOBAL" in str(error) or "Unsupported" in str(error):
            raise UnsafeInput(
                "the file holds more than tensors and plain values", where=path.name, found=_refused(str(error)),
                hint=_SAFE_CONVERSION,
            ) from error  # fmt: skip
        raise CorruptInput("the checkpoint is damaged", where=path.name) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise CorruptInput("the checkpoint is damaged or truncated", where=path.name) from error


def _refused(message: str) -> str:
    """The name of the object that torch did not want to make."""
    words = message.replace("`", " ").split()
    return next((words[n + 1] for n, word in enumerate(words[:-1]) if word == "GLOBAL"), "an unknown object").strip(".")


def _check_archive(path: Path) -> None:
    """Raise TooLarge for an archive that unpacks to more than fits, CorruptInput for a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CorruptInput("the checkpoint is damaged or truncated", where=path.name) from error
    size = sum(entry.file_size for entry in entries)
    if size > 4 * path.stat().st_size + (1 << 20):
        raise TooLarge("the archive unpacks to far more than it is large", where=path.name, found=f"{size} bytes")
    if not any(entry.filename.endswith("data.pkl") for entry in entries):
        raise InputError("not a checkpoint", where=path.name, found="an archive of other files")
    Limits().check((size,), 1, where=path.name)


def _from_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CorruptInput("not a readable safetensors file", where=path.name) from error


def _checkpoint(name: str, content: object, configs: dict[str, object]) -> Checkpoint:
    """The weights to use: averaged ones before others; in floating point, without the prefix of a wrapper."""
    weights = _tensors(content)
    if weights is None and isinstance(content, dict):
        weights = next((found for place in _PLACES if (found := _tensors(content.get(place))) is not None), None)
    if weights is None:
        shown = sorted(map(str, content))[:8] if isinstance(content, dict) else type(content).__name__
        raise InputError("no table of named tensors was found", where=name, found=shown, expected=" or ".join(_PLACES))
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in weights):
            weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    for key, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CorruptInput("the weights hold NaN or infinity", where=name, found=key)
    return Checkpoint(name, {key: value.float() for key, value in weights.items()}, content, configs)


def _tensors(content: object) -> dict[str, Tensor] | None:
    """A table of named tensors, or None where it is something else."""
    if not isinstance(content, dict) or not content:
        return None
    named = all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    return dict(content) if named else None
