"""What a training consists of at one step, and its checkpoint: safetensors, the counters as JSON in its header."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from medrecon.data.atomic import atomic_write
from medrecon.errors import InputError, ResumeError, UsageError
from medrecon.network import EDMDenoiser, UNetConfig
from medrecon.training.settings import TrainingSettings

_FORMAT = "medrecon-training-1"
_BETAS = (0.9, 0.99)


@dataclass(eq=False)
class TrainingState:
    """Network, running mean of its weights, optimiser and counters. Random numbers are keyed by the step: no state."""

    network: EDMDenoiser
    mean: EDMDenoiser
    optimiser: torch.optim.AdamW
    step: int = 0
    seconds: float = 0.0  # wall clock
    cpu_seconds: float = 0.0
    pairs: int = 0  # that batches may use at this step
    history: list[dict] = field(default_factory=list)
    running: list[float] = field(default_factory=list)  # losses since the last entry of the history

    @classmethod
    def new(cls, settings: TrainingSettings, sigma_data: float, start: EDMDenoiser | None = None) -> TrainingState:
        """Before the first step, from random weights that depend on the seed alone, or from those of ``start``."""
        guide_error = start.guide_error if start is not None and start.guides else settings.guide_error
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = EDMDenoiser(settings.architecture(), sigma_data, guide_error)
        if start is not None:
            network.load_state_dict(widened(start, settings.architecture()))
        network = network.to(settings.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        mean = copy.deepcopy(network).requires_grad_(False).eval()
        rate, decay = settings.learning_rate, settings.weight_decay
        optimiser = torch.optim.AdamW(network.parameters(), lr=rate, betas=_BETAS, weight_decay=decay, fused=True)
        return cls(network, mean, optimiser)

    def update(self, loss: Tensor, learning_rate: float, settings: TrainingSettings) -> None:
        """One optimiser step down the gradient of ``loss``, then one of the running mean."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip)
        self.optimiser.step()
        self.step += 1
        # The mean forgets the random start quickly, then settles
        decay = min(settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.mean.parameters()), list(self.network.parameters()), 1 - decay)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a resumed run needs, by name."""
        named = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        named |= {f"mean.{name}": value for name, value in self.mean.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for kind, value in self.optimiser.state.get(parameter, {}).items():
                named[f"optimiser.{kind}.{name}"] = value
        return {name: value.detach().cpu().contiguous().clone() for name, value in named.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        for part, module in (("network", self.network), ("mean", self.mean)):
            prefix = f"{part}."
            module.load_state_dict({n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)})
        for name, parameter in self.network.named_parameters():
            if (count := tensors.get(f"optimiser.step.{name}")) is None:
                continue
            state = {"step": count.to(parameter.device)}
            for kind in ("exp_avg", "exp_avg_sq"):
                stored = tensors[f"optimiser.{kind}.{name}"]
                state[kind] = torch.empty_like(parameter, requires_grad=False).copy_(stored)
            self.optimiser.state[parameter] = state


def widened(start: EDMDenoiser, wanted: UNetConfig) -> dict[str, Tensor]:
    """The weights of ``start`` for a network that sees more channels: those it did not know have no effect yet.

    Raises UsageError if the networks differ in anything else.
    """
    have = start.network.config
    if have.channels_in > wanted.channels_in:
        raise UsageError(
            "the prior to start from sees more channels than the training has", found=have.channels_in - 1,
            expected=f"at most {wanted.channels_in - 1} guides", hint="Train with guides: --set guided=true.",
        )  # fmt: skip
    free = {"channels_in": 0, "mapped": False}
    if have.to_dict() | free != wanted.to_dict() | free or (have.mapped and not wanted.mapped):
        raise UsageError(
            "the prior to start from has another architecture", found=f"widths {have.widths}, {have.blocks} blocks",
            expected=f"widths {wanted.widths}, {wanted.blocks} blocks", hint="Leave widths out to take the prior's.",
        )  # fmt: skip
    weights = dict(start.state_dict())
    stem = weights["network.stem.weight"]
    more = (wanted.channels_in - have.channels_in) * wanted.stem**2
    # Pixel-unshuffle keeps the pixels of a channel together, so that new channels come last
    weights["network.stem.weight"] = torch.cat([stem, stem.new_zeros(len(stem), more, *stem.shape[2:])], dim=1)
    return weights


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(path: Path, key: str, state: TrainingState) -> None:
    """Write everything in one piece; the previous checkpoint stays until the new one is complete."""
    from safetensors.torch import save_file

    tensors = state.tensors()
    counters = {
        "step": state.step,
        "seconds": state.seconds,
        "cpu_seconds": state.cpu_seconds,
        "pairs": state.pairs,
        "history": state.history,
        "running": state.running,
    }
    header = {"format": _FORMAT, "key": key, "digest": _digest(tensors), "counters": json.dumps(counters)}
    atomic_write(path, lambda target: save_file(tensors, target, metadata=header), overwrite=True)


def load_checkpoint(path: Path, key: str, state: TrainingState) -> None:
    """Bring ``state`` to where the checkpoint stands.

    Raises ResumeError when the file is damaged or belongs to other data, settings or another start.
    """
    from safetensors import SafetensorError, safe_open

    afresh = "Start afresh with --overwrite."
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise ResumeError("the checkpoint is damaged", where=path.name, hint=afresh) from error
    if header.get("format") != _FORMAT or header.get("digest") != _digest(tensors):
        raise ResumeError("the checkpoint is damaged", where=path.name, hint=afresh)
    if header["key"] != key:
        raise ResumeError(
            "the checkpoint belongs to another training: other data, settings or start", where=path.name,
            hint="Resume with the settings that it was made with, or start afresh with --overwrite.",
        )  # fmt: skip
    state.restore(tensors)
    for name, value in json.loads(header["counters"]).items():
        setattr(state, name, value)


def check_start(card_quantity: str, scale: float, offset: float, wanted: tuple[str, float, float], where: str) -> None:
    """Raise InputError if a prior to start from counts in other units than the corpus."""
    found = (card_quantity, scale, offset)
    if found != wanted:
        texts = [f"{quantity}, scale {unit:g}, offset {zero:g}" for quantity, unit, zero in (found, wanted)]
        raise InputError(
            "the prior to start from has another quantity or scale than the volumes", where=where,
            found=texts[0], expected=texts[1],
        )  # fmt: skip
