"""Networks on parts of a slice: overlapping tiles that show no seams, and patches that know where they lie.

Tiles are for slices that are larger than memory, or than those that a network was trained on: any network will do.
Patches are how some priors were trained in the first place; they fit slices of every size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medrecon.errors import UsageError
from medrecon.network import Denoiser

OVERLAP = 32
"""Pixels that neighbouring tiles share, unless said otherwise."""

PatchModel = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Clean patches ``(n, 1, s, s)`` from noisy ones, their level ``(1,)`` and positions ``(n, 2, s, s)``."""


class TiledDenoiser(Denoiser):
    """Another denoiser on overlapping tiles, one after the other; their answers fade into each other.

    A quarter of the overlap at each inner edge of a tile does not count at all, and the next half fades. So the answer
    is that on the whole slice, rounding apart, where the network looks no farther than a quarter of the overlap. One
    with norms over all that it sees, as the lean U-Net, answers a little differently in each tile; that fades too.
    """

    def __init__(self, inner: Denoiser, size: int, overlap: int = OVERLAP) -> None:
        super().__init__()
        step = inner.multiple
        if size % step or overlap % step or overlap < 4 or 2 * overlap > size:
            raise UsageError(
                "the tiles do not fit the network",
                found=f"{size} pixels, {overlap} of them shared",
                expected=f"multiples of {step}, at most half of a tile shared, and 4 pixels at least",
            )
        self.inner, self.size, self.overlap = inner, size, overlap

    @property
    def guides(self) -> int:
        """As of the network itself."""
        return self.inner.guides

    @property
    def mapped(self) -> bool:
        """As of the network itself."""
        return self.inner.mapped

    @property
    def groups(self) -> int:
        """As of the network itself."""
        return self.inner.groups

    @property
    def multiple(self) -> int:
        """As of the network itself."""
        return self.inner.multiple

    def forward(self, x: Tensor, sigma: Tensor, guide: Tensor | None = None) -> Tensor:
        """See `Denoiser`."""
        total, weight = torch.zeros_like(x), x.new_zeros(x.shape[-2:])
        rows, columns = (self._tiles(length) for length in x.shape[-2:])
        for row, down in rows:
            for column, across in columns:
                fade = (down[:, None] * across).to(x)
                beside = None if guide is None else guide[..., row, column]
                answer = self.inner(x[..., row, column], sigma, beside)
                total[..., row, column] = total[..., row, column] + answer * fade
                weight[row, column] += fade
        return total / weight

    def _tiles(self, length: int) -> list[tuple[slice, Tensor]]:
        """Places along one axis, and how much each pixel of them counts."""
        if length <= self.size:
            return [(slice(0, length), torch.ones(length))]
        starts = [*range(0, length - self.size, self.size - self.overlap), length - self.size]
        ramp = ((torch.arange(self.overlap) + 0.5) / self.overlap * 2 - 0.5).clamp(0, 1)
        tiles = []
        for start in starts:
            counts = torch.ones(self.size)
            if start > 0:
                counts[: self.overlap] *= ramp
            if start < length - self.size:
                counts[-self.overlap :] *= ramp.flip(0)
            tiles.append((slice(start, start + self.size), counts))
        return tiles


class PatchDenoiser(Denoiser):
    """Slices of any size as patches side by side, on a grid that lies elsewhere in each step (Hu et al. 2024, PaDIS).

    The density of a slice is the geometric mean, over all places of the grid, of the product of those of its patches;
    its denoiser the mean of the patchwise ones. In place of that mean one grid is drawn for each step (their algorithm
    1), so that no seam stays where it is. Around the slice are zeros, empty space in network units. ``model`` is told
    where a patch lies by two channels, along x and y, from -1 to 1 over the slice with a border of one patch.
    """

    def __init__(self, model: PatchModel, size: int, seed: int = 0) -> None:
        super().__init__()
        if size < 1:
            raise UsageError("a patch has at least one pixel", found=size)
        self.model, self.size, self.seed = model, size, seed
        self.place = (0, 0)

    @property
    def multiple(self) -> int:
        """Any size will do."""
        return 1

    @property
    def whole(self) -> bool:
        """Positions are those in whole slices."""
        return True

    def at(self, turn: int) -> Self:
        """The grid of another step."""
        key = np.array([self.seed, turn], dtype=np.uint64)
        row, column = np.random.Generator(np.random.Philox(key=key)).integers(self.size, size=2)
        return self.with_grid(int(row), int(column))

    def with_grid(self, row: int, column: int) -> Self:
        """The grid whose first patch begins at this row and column of the border, both below the size of a patch."""
        moved = copy.copy(self)
        moved.place = (row, column)
        return moved

    def forward(self, x: Tensor, sigma: Tensor, guide: Tensor | None = None) -> Tensor:
        """See `Denoiser`."""
        size, shape = self.size, x.shape[-2:]
        before = [size - place for place in self.place]  # zeros above and to the left
        counts = [-(-(first + length) // size) for first, length in zip(before, shape, strict=True)]
        after = [n * size - first - length for n, first, length in zip(counts, before, shape, strict=True)]
        padded = functional.pad(x, (before[1], after[1], before[0], after[0]))
        down, across = (
            2 * (torch.arange(n * size).to(x) - first + size) / (length + 2 * size - 1) - 1
            for n, first, length in zip(counts, before, shape, strict=True)
        )
        positions = torch.stack(torch.meshgrid(across, down, indexing="xy")).expand(len(x), -1, -1, -1)
        clean = self.model(self._cut(padded), sigma, self._cut(positions))
        whole = clean.reshape(len(x), *counts, size, size).transpose(2, 3).reshape(padded.shape)
        return whole[..., before[0] : before[0] + shape[0], before[1] : before[1] + shape[1]]

    def _cut(self, x: Tensor) -> Tensor:
        """Patches of ``(n, c, h, w)``, row by row, ``(n * patches, c, size, size)``."""
        parts = x.unfold(2, self.size, self.size).unfold(3, self.size, self.size)
        return parts.permute(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1], self.size, self.size)
