"""Checkpoints of a run: tensors as safetensors, what they belong to as JSON in its header, and a hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from medrecon.data.atomic import atomic_write
from medrecon.errors import ResumeError
from medrecon.samplers.base import State

_FORMAT = "medrecon-checkpoint-1"


@dataclass(frozen=True)
class Progress:
    """Where a run of several samples stands: finished ones are summed, one is under way."""

    sample: int
    state: State
    total: Tensor
    squares: Tensor


def run_key(description: dict, tensors: list[Tensor]) -> str:
    """Hash of everything that decides the result: settings, seed, data, weights, version."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode())
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_progress(path: Path, key: str, progress: Progress) -> None:
    """Write a checkpoint in one piece; the previous one stays until the new one is complete."""
    from safetensors.torch import save_file

    tensors = {f"state.{name}": value.contiguous() for name, value in progress.state.tensors.items()}
    tensors |= {
        "estimate": progress.state.estimate.contiguous(),
        "total": progress.total.contiguous(),
        "squares": progress.squares.contiguous(),
    }
    # safetensors refuses tensors that share memory
    tensors = {name: value.clone() for name, value in tensors.items()}
    header = {
        "format": _FORMAT,
        "key": key,
        "sample": str(progress.sample),
        "step": str(progress.state.step),
        "digest": _digest(tensors),
    }
    atomic_write(path, lambda target: save_file(tensors, target, metadata=header), overwrite=True)


def load_progress(path: Path, key: str) -> Progress:
    """Read a checkpoint back.

    Raises ResumeError when the file is damaged or belongs to other data, settings, weights or another version.
    """
    from safetensors import SafetensorError, safe_open

    hint = "Delete it to start afresh, or run with the settings that it was made with."
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ResumeError("the checkpoint is damaged", where=path.name, hint="Delete it to start afresh.") from error
    if header.get("format") != _FORMAT or header.get("digest") != _digest(tensors):
        raise ResumeError("the checkpoint is damaged", where=path.name, hint="Delete it to start afresh.")
    if header["key"] != key:
        raise ResumeError("the checkpoint belongs to another run", where=path.name, hint=hint)
    state = State(
        int(header["step"]),
        tensors["estimate"],
        {name.removeprefix("state."): value for name, value in tensors.items() if name.startswith("state.")},
    )
    return Progress(int(header["sample"]), state, tensors["total"], tensors["squares"])


def empty_progress(shape: tuple[int, ...], state: State) -> Progress:
    """Progress of a run that has just begun."""
    return Progress(0, state, torch.zeros(shape), torch.zeros(shape))
