"""Overlapping windows of a volume, and the weights that put their results together without seams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

_LEAST_WEIGHT = 0.02  # at the border of a window: no voxel is without any weight


@dataclass(frozen=True)
class Windows:
    """Windows of ``size`` (cut to ``shape``) that overlap by about half and end at the borders of the volume."""

    shape: tuple[int, int, int]
    size: tuple[int, int, int]

    @property
    def window(self) -> tuple[int, int, int]:
        """Size of every window."""
        a, b, c = (min(n, m) for n, m in zip(self.size, self.shape, strict=True))
        return a, b, c

    def starts(self, axis: int) -> list[int]:
        """Where windows begin along an axis: evenly spread from the first to the last place."""
        free, step = self.shape[axis] - self.window[axis], max(1, self.window[axis] // 2)
        count = -(-free // step) + 1
        return [round(i * free / max(count - 1, 1)) for i in range(count)]

    def __len__(self) -> int:
        return len(self.starts(0)) * len(self.starts(1)) * len(self.starts(2))

    def __iter__(self) -> Iterator[tuple[slice, slice, slice]]:
        for corner in product(*(self.starts(axis) for axis in range(3))):
            a, b, c = (slice(first, first + n) for first, n in zip(corner, self.window, strict=True))
            yield a, b, c

    def share(self, part: int, parts: int) -> list[tuple[slice, slice, slice]]:
        """The windows of one of ``parts`` shares of the work, in their order: sums do not depend on the shares."""
        places = list(self)
        return places[len(places) * part // parts : len(places) * (part + 1) // parts]

    def in_one_band(self) -> list[tuple[slice, slice, slice]]:
        """The windows that begin in one row, as places in the rows that they cover."""
        _, b, c = self.window
        rows = slice(0, self.window[0])
        return [(rows, slice(t, t + b), slice(k, k + c)) for t in self.starts(1) for k in self.starts(2)]

    def taper(self) -> Tensor:
        """Weight of each voxel of a window: a squared sine along each axis."""
        weight = torch.ones(self.window)
        for axis, n in enumerate(self.window):
            if n < self.shape[axis]:
                sine = torch.sin(torch.pi * (torch.arange(n) + 0.5) / n).square().clamp_min(_LEAST_WEIGHT)
                weight = weight * sine.reshape([n if a == axis else 1 for a in range(3)])
        return weight

    def total_weight(self) -> Tensor:
        """Sum of the tapers of all windows at each voxel."""
        total, taper = torch.zeros(self.shape), self.taper()
        for place in self:
            total[place] += taper
        return total
