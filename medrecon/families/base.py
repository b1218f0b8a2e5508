"""Families of networks that a prior may hold, in one registry.

``load_prior`` asks the family that a card names for the network. A family of published checkpoints also reads their
files: it finds the architecture in the names and shapes of the weights and says what the network predicts.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, cast

from torch import Tensor, nn

from medrecon.errors import CorruptInput, InputError, UsageError
from medrecon.network import Denoiser, EDMDenoiser, UNetConfig
from medrecon.parameterisation import ParameterisedDenoiser, noise_map_of
from medrecon.registry import Registry, unknown_name

if TYPE_CHECKING:
    from medrecon.prior import PriorCard

families: Registry[type[Family]] = Registry("network family")

LEAN = "lean"
"""Name of this package's own network: the family of cards that name none."""


class Family(ABC):
    """A kind of network, built from what a card says about it."""

    @classmethod
    @abstractmethod
    def denoiser(cls, card: PriorCard) -> Denoiser:
        """The network that the card describes, without its weights."""


def family_of(card: PriorCard) -> type[Family]:
    """The family that the card names. Raises UsageError for one that is not known."""
    return families.get(str(card.architecture.get("family", LEAN)))


@families.register(LEAN)
class Lean(Family):
    """The lean U-Net of this package, EDM-preconditioned."""

    @classmethod
    def denoiser(cls, card: PriorCard) -> Denoiser:
        """Its architecture is a `UNetConfig`."""
        values = {key: value for key, value in card.architecture.items() if key != "family"}
        return EDMDenoiser(UNetConfig.from_dict(values), card.sigma_data, card.guide_error)


@dataclass(frozen=True)
class Checkpoint:
    """A file that somebody else's training wrote, as plain values; nothing in it was executed.

    ``weights`` are the tensors to use, in the order of the file, without the prefix of a parallel wrapper. ``content``
    is everything, ``configs`` the JSON files of a folder by their relative names.
    """

    name: str
    weights: dict[str, Tensor]
    content: object = None
    configs: Mapping[str, object] = field(default_factory=dict)

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of one tensor. Raises CorruptInput where it is missing."""
        if key not in self.weights:
            raise CorruptInput("a part of the network is missing", where=self.name, expected=key)
        return tuple(self.weights[key].shape)

    def __contains__(self, key: str) -> bool:
        return key in self.weights

    def has(self, pattern: str) -> bool:
        """Whether the name of a tensor begins with this regular expression."""
        expression = re.compile(pattern)
        return any(expression.match(key) for key in self.weights)

    def count(self, pattern: str) -> int:
        """How many different first groups of this regular expression the names have."""
        return len({match[1] for key in self.weights if (match := re.match(pattern, key))})


@dataclass(frozen=True)
class Found:
    """What a checkpoint turned out to hold.

    ``config`` builds the network, ``weights`` fill it. ``network_range`` is the interval of clean values that it was
    trained on, None where the file cannot tell.
    """

    config: dict
    weights: dict[str, Tensor]
    predicts: str
    noise: dict
    channels: int
    network_range: tuple[float, float] | None = None


class Settings:
    """What a person said about a checkpoint beyond its file; every setting must be used by the family that reads it."""

    def __init__(self, said: Mapping[str, object], family: str) -> None:
        self._said, self._family = dict(said), family
        self._known: list[str] = []

    def _said_as(self, name: str, kind: type, default: object) -> object:
        """What was said, as ``kind``; whole numbers do for numbers. Raises UsageError for anything else."""
        self._known.append(name)
        value = self._said.get(name, default)
        if kind is float and type(value) is int:
            value = float(value)
        if kind is int and type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not kind:
            raise UsageError(
                f"{name} has the wrong type", where=self._family, found=repr(value), expected=kind.__name__
            )
        return value

    def number(self, name: str, default: float) -> float:
        """A setting that is a number."""
        return cast(float, self._said_as(name, float, default))

    def whole(self, name: str, default: int) -> int:
        """A setting that is a whole number."""
        return cast(int, self._said_as(name, int, default))

    def text(self, name: str, default: str) -> str:
        """A setting that is a word."""
        return cast(str, self._said_as(name, str, default))

    def flag(self, name: str, default: bool) -> bool:
        """A setting that is true or false."""
        return cast(bool, self._said_as(name, bool, default))

    def check_used(self) -> None:
        """Raise UsageError for a setting that nobody asked for."""
        for name in self._said:
            if name not in self._known:
                raise unknown_name(f"setting of {self._family}", name, sorted(set(self._known)))


class CheckpointFamily(Family):
    """A published kind of network, read from its own files.

    ``names`` are regular expressions that together match every tensor of such a file and as few others as possible.
    """

    names: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def read(cls, checkpoint: Checkpoint, settings: Settings) -> Found:
        """Architecture, weights and parameterisation. Raises InputError for variants that are not read."""

    @classmethod
    @abstractmethod
    def network(cls, config: dict) -> nn.Module:
        """The network without its weights: ``network(scaled, label)``."""

    @classmethod
    @abstractmethod
    def multiple(cls, config: dict) -> int:
        """Height and width must be multiples of this."""

    @classmethod
    def share(cls, checkpoint: Checkpoint) -> float:
        """Share of the tensors whose names are of this family."""
        expressions = [re.compile(name) for name in cls.names]
        matched = sum(any(e.fullmatch(key) for e in expressions) for key in checkpoint.weights)
        return matched / max(1, len(checkpoint.weights))

    @classmethod
    def denoiser(cls, card: PriorCard) -> Denoiser:
        """The network with its parameterisation, as `architecture_of` wrote it."""
        values = card.architecture
        return ParameterisedDenoiser(
            cls.network(values["network"]),
            values["predicts"],
            noise_map_of(values["noise"]),
            stretch=values["stretch"],
            shift=values["shift"],
            multiple=cls.multiple(values["network"]),
        )


def checkpoint_families() -> dict[str, type[CheckpointFamily]]:
    """Families that read files of others, by name."""
    return {entry.name: entry.value for entry in families if issubclass(entry.value, CheckpointFamily)}


def vp_noise(settings: Settings, betas: str = "linear") -> dict:
    """The noise of a discrete variance-preserving training, from what was said about it."""
    return {
        "kind": "vp",
        "betas": settings.text("betas", betas),
        "steps": settings.whole("steps", 1000),
        "beta_start": settings.number("beta_start", 1e-4),
        "beta_end": settings.number("beta_end", 0.02),
    }


def refuse_class_conditional(checkpoint: Checkpoint, pattern: str) -> None:
    """Raise InputError for a network that wants a class label."""
    if checkpoint.has(pattern):
        raise InputError("the network wants a class label, which a volume does not have", where=checkpoint.name)


def refuse_3d(checkpoint: Checkpoint, first_layer: str) -> None:
    """Raise InputError unless the first layer is a convolution in two dimensions."""
    if len(checkpoint.shape(first_layer)) != 4:
        raise InputError(
            "this is not a network for 2D slices", where=checkpoint.name,
            found=f"a first layer of shape {checkpoint.shape(first_layer)}",
        )  # fmt: skip
