"""A survey with missing traces: the mask as an operator, and masks as surveys have them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import UsageError
from medrecon.physics.linop import LinearOperator, Space, operators
from medrecon.physics.trace_band import slowed
from medrecon.physics.trace_holes import beside_holes, holes_like
from medrecon.registry import Registry

_FEW = 8  # rows or columns: sections across fewer say nothing


class TraceMask(LinearOperator):
    """Keeps the live traces of sections ``(row, time, column)`` and sets the others to zero.

    It is a projection: its own adjoint, ``A'A = A``, of norm one.
    """

    couples_slices = False

    def __init__(self, shape: tuple[int, int, int], live: Tensor) -> None:
        rows, _, columns = shape
        if tuple(live.shape) != (rows, columns):
            raise UsageError("the live map does not fit", found=tuple(live.shape), expected=(rows, columns))
        self.domain = self.range = Space(tuple(shape))
        self.live = live.bool()
        self._mask = self.live[:, None, :]

    def _forward(self, x: Tensor) -> Tensor:
        # Not a product: what stands at a missing place may be NaN
        return torch.where(self._mask, x, torch.zeros((), dtype=x.dtype))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)

    def _normal(self, x: Tensor) -> Tensor:
        return self._forward(x)

    def norm(self, *, tolerance: float = 1e-3, max_iterations: int = 100) -> float:
        """One, or zero where nothing is live."""
        return 1.0 if bool(self.live.any()) else 0.0

    @property
    def data_count(self) -> int:
        """Live samples."""
        return int(self.live.sum()) * self.domain.shape[1]

    @property
    def known(self) -> Tensor:
        """1 where a trace is live, ``(rows, 1, columns)``: there the data are the volume itself."""
        return self._mask.to(torch.float32)

    @property
    def method_settings(self) -> dict[str, dict[str, object]]:
        """Defaults of methods that suit traces better than those for bodies.

        Rows and columns show the same kind of section, so that one prior serves both in turns; but where whole sections
        are missing there is nothing that it could see. Waves are no patches of one value, so that differences are
        squared, and along the rows alone.
        """
        live = self.live.cpu()
        seen = [axis for axis, lines in ((0, live.any(1)), (2, live.any(0))) if bool(lines.all())]
        turns = tuple(seen or (0, 2)) if min(live.shape) >= _FEW else (0,)
        own: dict[str, object] = {"directions": turns, "penalty": "l2", "tv_axes": (0,)}
        return {"refine": own, "pnp": own, "repaint": {"directions": turns}}

    @property
    def missing_share(self) -> float:
        """Share of the traces that are not live."""
        return 1 - float(self.live.float().mean())

    holdout_axis = 2
    """Columns are compared as wholes."""

    @property
    def holdout_groups(self) -> int:
        """Traces are hidden as tests, of those that are live."""
        return int(self.live.sum())

    direct_method = "linear"
    """What every other method is judged against."""

    @property
    def classical_methods(self) -> tuple[str, ...]:
        """What ``auto`` chooses from: which is best depends on dips and holes, by many dB.

        Where whole lines are missing at regular distances, spectra repeat themselves: methods that sharpen them bring
        back the zeros between the lines, and predict hidden traces of the lines themselves all the better for it. Only
        methods that tell events from aliases are asked there.
        """
        return ("linear", "pocs-fan", "dip") if self.is_decimated else ("linear", "pocs", "drr", "dip")

    starting_method = "dip"
    """A prior makes 3 to 5 dB more of it than of `linear` (docs/methods.md)."""

    @property
    def is_decimated(self) -> bool:
        """Whether all live traces lie on every n-th row or column."""
        return max(self._steps()[1]) > 1

    def _steps(self) -> tuple[list[np.ndarray], list[int]]:
        """Rows and columns with live traces, and how far they are apart at least."""
        lines = [np.unique(places) for places in torch.nonzero(self.live).cpu().numpy().T]
        return lines, [int(np.gcd.reduce(np.diff(found))) if len(found) > 1 else 1 for found in lines]

    def held_out(self, y: Tensor, seed: int = 0) -> tuple[TraceMask, Tensor, list[tuple[str, float, Tensor, int]]]:
        """The survey and the data to test on, and what to hide, by kind: name, share of what is missing, map, holes.

        Maps are ``(rows, 1, columns)``, 1 where hidden, and do not overlap; the holes are those of a compact kind.
        Between lines that are all n apart no trace is live that could be hidden. There the survey to test on is that of
        the live lines alone, all but every n-th hidden, with the data at 1/n of their frequencies: the same problem on
        a scale n times as coarse.
        """
        if (coarse := self._coarser(y)) is not None:
            return coarse
        parts = holes_like(self.live.cpu().numpy(), seed=seed)
        maps = [torch.from_numpy(part.traces)[:, None].to(torch.float32) for part in parts]
        return self, y, [(part.name, part.share, map_, part.holes) for part, map_ in zip(parts, maps, strict=True)]

    def beside_holes(self) -> list[tuple[str, float, Tensor, int]]:
        """Live traces beside compact holes, in the form of :meth:`held_out`; none where that is on another scale."""
        if self.is_decimated:
            return []
        return [
            (part.name, part.share, torch.from_numpy(part.traces)[:, None].to(torch.float32), part.holes)
            for part in beside_holes(self.live.cpu().numpy())
        ]

    def complete(self) -> TraceMask:
        """The same grid with every trace live."""
        return TraceMask((self.domain.shape[0], self.domain.shape[1], self.domain.shape[2]), torch.ones_like(self.live))

    def _coarser(self, y: Tensor) -> tuple[TraceMask, Tensor, list[tuple[str, float, Tensor, int]]] | None:
        """See `held_out`; None where no line lies between two others, or nothing of it is live."""
        lines, steps = self._steps()
        steps = [step if found[-1] - found[0] >= step * step else 1 for found, step in zip(lines, steps, strict=True)]
        factor = max(steps)
        if factor == 1:
            return None
        kept = [torch.arange(found[0], found[-1] + 1, step) for found, step in zip(lines, steps, strict=True)]
        live = self.live[kept[0]][:, kept[1]]
        shown = live.clone()
        for axis, step in enumerate(steps):
            between = torch.arange(live.shape[axis]) % step > 0
            shown[between if axis == 0 else (slice(None), between)] = False
        hidden = live & ~shown
        if not bool(hidden.any()) or not bool(shown.any()):
            return None
        data = torch.from_numpy(slowed(y.cpu()[kept[0]][..., kept[1]].numpy(), factor)).to(y)
        ordinal = {2: "second", 3: "third"}.get(factor, f"{factor}th")
        name = f"lines between every {ordinal} of the live ones, at 1/{factor} of the frequencies"
        part = (name, 1.0, hidden[:, None].to(torch.float32), 0)
        return TraceMask((data.shape[0], data.shape[1], data.shape[2]), live), data, [part]


def _example() -> TraceMask:
    return TraceMask((3, 4, 5), torch.from_numpy(trace_masks.get("random")((3, 5), 0.4, 1)))


# --- masks -------------------------------------------------------------------------------------------------------
trace_masks: Registry = Registry("way for traces to be missing")
"""``mask(shape, fraction, seed)`` gives the traces that stay, bool ``(rows, columns)``."""


@trace_masks.register("random")
def random_traces(shape: tuple[int, int], fraction: float, seed: int) -> np.ndarray:
    """Single traces anywhere."""
    count = shape[0] * shape[1]
    gone = np.random.default_rng([seed, 1]).permutation(count)[: round(fraction * count)]
    live = np.ones(count, dtype=bool)
    live[gone] = False
    return live.reshape(shape)


@trace_masks.register("regular")
def regular_columns(shape: tuple[int, int], fraction: float, seed: int) -> np.ndarray:
    """Every n-th column stays, ``n = 1 / (1 - fraction)`` rounded: coarse lines. The seed plays no part."""
    live = np.zeros(shape, dtype=bool)
    live[:, :: max(2, round(1 / (1 - fraction)))] = True
    return live


@trace_masks.register("gap")
def gap_of_columns(shape: tuple[int, int], fraction: float, seed: int) -> np.ndarray:
    """One gap of neighbouring columns, not at the border where there is room."""
    columns = shape[1]
    width = min(max(1, round(fraction * columns)), columns - 1)
    margin = 1 if columns - width >= 2 else 0
    first = int(np.random.default_rng([seed, 2]).integers(margin, columns - width - margin + 1))
    live = np.ones(shape, dtype=bool)
    live[:, first : first + width] = False
    return live


@trace_masks.register("lines")
def whole_columns(shape: tuple[int, int], fraction: float, seed: int) -> np.ndarray:
    """Whole columns at random."""
    live = np.ones(shape, dtype=bool)
    live[:, ~random_traces((1, shape[1]), fraction, seed)[0]] = False
    return live


@trace_masks.register("hole")
def square_hole(shape: tuple[int, int], fraction: float, seed: int) -> np.ndarray:
    """One block of neighbouring rows and columns, as around an obstacle."""
    height, width = (min(n - 1, max(1, round(n * fraction**0.5))) if n > 1 else 1 for n in shape)
    random = np.random.default_rng([seed, 3])
    top, left = (int(random.integers(0, n - size + 1)) for n, size in zip(shape, (height, width), strict=True))
    live = np.ones(shape, dtype=bool)
    live[top : top + height, left : left + width] = False
    return live


def make_trace_mask(kind: str, shape: tuple[int, int], fraction: float, *, seed: int = 0) -> np.ndarray:
    """The traces that stay, bool ``(rows, columns)``. Raises UsageError for a kind or fraction that cannot be."""
    if not 0 < fraction < 1:
        raise UsageError("the missing share lies between 0 and 1", found=fraction)
    live = trace_masks.get(kind)(shape, fraction, seed)
    if live.all() or not live.any():
        raise UsageError("too few traces for this share", found=f"{shape[0]} x {shape[1]} traces", hint="Take another.")
    return np.asarray(live)


operators.register("seismic-traces", example=_example)(TraceMask)
