"""What a training can be told."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from medrecon.errors import UsageError
from medrecon.network import UNetConfig
from medrecon.training.augment import Augmentation

DEFAULT_WIDTHS = (48, 96, 160, 224)


@dataclass(frozen=True)
class Intensity:
    """How physical values become network units: ``network = (physical - offset) / scale``, clipped.

    ``offset`` is the value of empty space, so that empty space is 0 in network units. Without ``scale`` each volume is
    divided by the ``percentile`` of its own distance from ``offset`` (magnitude MR, seismic amplitudes: their unit
    means nothing from one volume to the next); the card then says scale 1, and whoever uses the prior must scale
    likewise.
    """

    quantity: str
    scale: float | None = None
    offset: float = 0.0
    low: float = 0.0
    high: float = 1.5
    percentile: float = 99.5

    @property
    def signed(self) -> bool:
        """Whether values swing around zero, so that none of them means empty space."""
        return self.low < 0

    def __post_init__(self) -> None:
        if self.scale is not None and not self.scale > 0:
            raise UsageError("the scale of intensities must be positive", found=self.scale)
        if not self.low <= 0 < self.high or max(-self.low, self.high) > 32:
            raise UsageError(
                "network units must span zero, which is empty space, and stay below 32", found=(self.low, self.high)
            )

    @classmethod
    def of(cls, quantity: str) -> Intensity:
        """The usual mapping of a quantity: Hounsfield units fixed, everything else by the volume's percentile."""
        if quantity in ("HU", "1/mm"):
            return cls("HU", scale=1000.0, offset=-1000.0, high=4.1)
        if quantity == "amplitude":
            return cls(quantity, low=-4.0, high=4.0)
        return cls(quantity)


@dataclass(frozen=True)
class TrainingSettings:
    """One training. The defaults are those of the CT prior that comes with the package.

    Attributes
    ----------
    name, description, licence
        For the card; the name is the output's by default.
    modality
        Picks the maker of guides and the augmentation; ``"ct"``, ``"mri"`` or ``"seismic"``.
    intensity
        By default what fits the quantity of the first volume.
    planes
        Slices to train on: ``"axial"``, ``"coronal"``, ``"sagittal"``; of seismic volumes ``"inline"`` and
        ``"crossline"``. By default axial ones, of seismic volumes both.
    steps, minutes
        The budget: optimiser steps, or minutes of wall-clock time. One of them; an hour if neither is given. With
        ``steps=0`` nothing is trained: ``init`` is validated and gets a card.
    widths
        Channels at each resolution, finest first; by default those of the prior to start from, or (48, 96, 160, 224).
    guided
        The network also sees slices of a classical volume, and works without one.
    guides
        How many neighbouring slices of the classical volume it sees; odd.
    mapped
        The network is also shown where these slices were measured. By default where the data are voxels of the volume
        itself: in seismic data.
    pairs
        How many classical volumes to make.
    pair_slices
        How many neighbouring slices each of them has, at most; many short ones show more scans in the same time.
    pairs_in_background
        Make them in a process of their own while the training runs, instead of before it. What the network sees then
        depends on the speed of both, so that two runs differ.
    frame
        Pixels: larger slices are reduced to it before they are measured for a guide; of seismic sections a window of
        this size is taken.
    refined
        Rounds of ``refine`` with the prior to start from, whose results are guides too: the second stage of a training,
        for a prior that is to go on from its own results.
    refined_by
        Name or file of another guided prior that does this, so that a later training keeps the pairs of an earlier one.
    unguided
        Share of batches without a guide, taken from all slices, with wide augmentation.
    sizes
        Crops: (pixels, slices per batch, share of batches).
    sigma_mean, sigma_spread, sigma_range
        Log-normal distribution of noise levels, network units.
    blind, blind_levels
        Share of guided crops at levels, log-uniform between these two, at which the noisy slice says next to nothing
        and the network answers from its guide: what ``refine`` asks for.
    quiet
        Share of those whose noisy slice is the guide's own slice instead of truth and noise: what ``refine`` shows.
    sigma_data
        Standard deviation of the data, network units; None to measure it.
    guide_error
        Standard deviation of the guide's error, network units.
    decay
        Last part of the budget, in which the learning rate falls by a cosine to a fiftieth.
    ema
        Decay of the running mean of the weights, which is what a prior consists of.
    validation_slices, validation_pairs, sampled_slices
        How many are looked at: slices for the denoising error, pairs for the error with a guide, samples for the
        search for memorised slices.
    minimum_pixels
        A slice that shows fewer pixels of the object is not used.
    workers
        Threads that prepare batches ahead; 0 prepares them between steps, which costs little on a CPU.
    """

    name: str = ""
    description: str = ""
    licence: str = ""
    modality: str = "ct"
    intensity: Intensity | None = None
    planes: tuple[str, ...] = None  # type: ignore[assignment]  # those of the modality
    steps: int | None = None
    minutes: float | None = None
    widths: tuple[int, ...] | None = None
    blocks: int = 2
    embedding: int = 128
    guided: bool = True
    guides: int = 3
    mapped: bool = None  # type: ignore[assignment]  # that of the modality
    pairs: int = 500
    pair_slices: int = 32
    pairs_in_background: bool = True
    frame: int = 128
    refined: int = 0
    refined_by: str = ""
    unguided: float = 0.2
    sizes: tuple[tuple[int, int, float], ...] = ((64, 8, 0.75), (96, 4, 0.25))
    sigma_mean: float = -1.6
    sigma_spread: float = 1.4
    sigma_range: tuple[float, float] = (0.002, 20.0)
    blind: float = 0.5
    blind_levels: tuple[float, float] = (1.0, 4.0)
    quiet: float = 0.5
    sigma_data: float | None = 0.4
    guide_error: float = 0.1
    learning_rate: float = 1e-3
    warm_up: int = 200
    decay: float = 0.35
    weight_decay: float = 1e-3
    clip: float = 1.0
    ema: float = 0.999
    augmentation: Augmentation = None  # type: ignore[assignment]  # that of the modality
    minimum_pixels: int = 600
    seed: int = 0
    device: str = "cpu"
    workers: int = 0
    checkpoint_every: int = 500
    validation_slices: int = 48
    validation_pairs: int = 8
    sampled_slices: int = 16

    def __post_init__(self) -> None:
        seismic = self.modality == "seismic"
        usual = {
            "augmentation": Augmentation.of(self.modality),
            "planes": ("inline", "crossline") if seismic else ("axial",),
            "mapped": seismic and self.guided,
        }
        for name, value in usual.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        if self.frame < 16:
            raise UsageError("the frame of guides is too small", found=self.frame, expected="16 pixels or more")
        if self.refined_by and not self.refined:
            raise UsageError("refined_by names a prior for guides that are not asked for", hint="Say refined=2.")
        if self.pair_slices < 8:
            raise UsageError("a pair has too few slices", found=self.pair_slices, expected="8 or more")
        if self.steps is not None and self.minutes is not None:
            raise UsageError("give the budget in steps or in minutes, not both", found=(self.steps, self.minutes))
        if (self.steps or 0) < 0 or not (self.minutes is None or self.minutes > 0):
            raise UsageError("the budget must be positive", found=self.steps if self.minutes is None else self.minutes)
        for width in self.widths or ():
            if width < 4 or width % min(8, width // 4):
                raise UsageError(
                    "a width cannot be divided into groups", found=width, expected="multiples of 8 (or 4 to 7 below 32)"
                )
        if self.widths == () or self.blocks < 1:
            raise UsageError("a network has at least one resolution and one block", found=(self.widths, self.blocks))
        if self.guided and (self.guides < 1 or self.guides % 2 == 0):
            raise UsageError("the number of guide slices must be odd: they stand around one slice", found=self.guides)
        if not self.guide_error > 0 or not (self.sigma_data is None or self.sigma_data > 0):
            raise UsageError("standard deviations are positive", found=(self.sigma_data, self.guide_error))
        shares = (self.unguided, self.blind, self.quiet, self.decay)
        if not all(0 <= share <= 1 for share in shares) or not 0 <= self.ema < 1:
            raise UsageError(
                "unguided, blind, quiet and decay are shares, ema a decay", found=(*shares, self.ema),
                expected="0 to 1",
            )  # fmt: skip
        if not 0 < self.blind_levels[0] <= self.blind_levels[1]:
            raise UsageError("noise levels are positive and in order", found=self.blind_levels)
        multiple = self.architecture().multiple if self.widths else 1  # not known yet: `train` looks at --init first
        if any(size < multiple or size % multiple or count < 1 for size, count, _ in self.sizes):
            raise UsageError("crops must fit the network", found=self.sizes, expected=f"multiples of {multiple} pixels")

    def architecture(self) -> UNetConfig:
        """The network."""
        channels = 1 + (self.guides * (2 if self.mapped else 1) if self.guided else 0)
        return UNetConfig(
            channels_in=channels, widths=self.widths or DEFAULT_WIDTHS, blocks=self.blocks, embedding=self.embedding,
            mapped=self.guided and self.mapped,
        )  # fmt: skip

    def sigma_trained(self) -> tuple[float, float]:
        """The range of noise levels, network units, that holds 99 % of those trained on."""
        reach = 2.576 * self.sigma_spread
        low, high = self.sigma_range
        return max(low, math.exp(self.sigma_mean - reach)), min(high, math.exp(self.sigma_mean + reach))

    def to_dict(self) -> dict:
        """Plain values, for the card and for the key of a checkpoint."""
        return asdict(self)
