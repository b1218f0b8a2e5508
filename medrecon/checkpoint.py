"""Checkpoints of a run: tensors as safetensors, what they belong to as JSON in its header, and a hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path

import torch
from torch import Tensor

from medrecon.data.atomic import atomic_write
from medrecon.errors import ResumeError
from medrecon.samplers.base import State

_FORMAT = "medrecon-checkpoint-2"
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Progress:
    """Where a run of several samples stands: ``sample`` are finished, one is under way.

    ``mean`` of the finished ones, and ``deviations``: the sum of their squared differences from it (Welford 1962).
    """

    sample: int
    state: State
    mean: Tensor
    deviations: Tensor

    def finished(self, x: Tensor) -> Progress:
        """With the estimate of one more sample."""
        count = self.sample + 1
        mean = self.mean + (x - self.mean) / count
        return replace(self, sample=count, mean=mean, deviations=self.deviations + (x - self.mean) * (x - mean))

    def spread(self) -> Tensor:
        """Standard deviation of the finished samples, of which there are at least two."""
        return (self.deviations.clamp_min(0) / (self.sample - 1)).sqrt()


@dataclass(frozen=True)
class RunKey:
    """What a checkpoint belongs to.

    ``digest`` is a hash of settings, seed, data, weights and version; ``fingerprint`` a few numbers that depend on the
    operator and the noise model, compared with a tolerance because another machine rounds otherwise.
    """

    digest: str
    fingerprint: tuple[float, ...] = ()

    def belongs_to(self, other: RunKey) -> bool:
        """Whether both describe the same run."""
        alike = len(self.fingerprint) == len(other.fingerprint) and all(
            isclose(a, b, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
            for a, b in zip(self.fingerprint, other.fingerprint, strict=True)
        )
        return alike and self.digest == other.digest


def run_key(description: dict, tensors: list[Tensor], fingerprint: Sequence[float] = ()) -> RunKey:
    """The key of a run with this description, data and start."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode())
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    return RunKey(digest.hexdigest(), tuple(fingerprint))


def _digest(header: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """Hash of all that a checkpoint says, so that damage to any part of it is seen."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _stored_order(tensor: Tensor) -> list[int]:
    """Axes from the slowest to the fastest in memory."""
    return sorted(range(tensor.ndim), key=lambda axis: (-tensor.stride()[axis], axis))


def save_progress(path: Path, key: RunKey, progress: Progress) -> None:
    """Write a checkpoint in one piece; the previous one stays until the new one is complete.

    Tensors keep their memory layout: sums run in memory order, so a resumed run would round differently otherwise.
    """
    from safetensors.torch import save_file

    tensors = {f"state.{name}": value for name, value in progress.state.tensors.items()}
    tensors |= {"estimate": progress.state.estimate, "mean": progress.mean, "deviations": progress.deviations}
    orders = {name: _stored_order(value) for name, value in tensors.items()}
    # safetensors refuses tensors that share memory
    tensors = {name: value.permute(orders[name]).contiguous().clone() for name, value in tensors.items()}
    header = {
        "format": _FORMAT,
        "key": key.digest,
        "fingerprint": json.dumps(key.fingerprint),
        "sample": str(progress.sample),
        "step": str(progress.state.step),
        "orders": json.dumps(orders, sort_keys=True),
    }
    metadata = header | {"digest": _digest(header, tensors)}
    atomic_write(path, lambda target: save_file(tensors, target, metadata=metadata), overwrite=True)


def load_progress(path: Path, key: RunKey) -> Progress:
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
    digest = header.pop("digest", None)
    if header.get("format") != _FORMAT or digest != _digest(header, tensors):
        raise ResumeError("the checkpoint is damaged", where=path.name, hint="Delete it to start afresh.")
    if not RunKey(header["key"], tuple(json.loads(header["fingerprint"]))).belongs_to(key):
        raise ResumeError("the checkpoint belongs to another run", where=path.name, hint=hint)
    for name, order in json.loads(header["orders"]).items():
        tensors[name] = tensors[name].permute([order.index(axis) for axis in range(len(order))])
    state = State(
        int(header["step"]),
        tensors["estimate"],
        {name.removeprefix("state."): value for name, value in tensors.items() if name.startswith("state.")},
    )
    return Progress(int(header["sample"]), state, tensors["mean"], tensors["deviations"])


def empty_progress(shape: tuple[int, ...], state: State) -> Progress:
    """Progress of a run that has just begun."""
    return Progress(0, state, torch.zeros(shape), torch.zeros(shape))
