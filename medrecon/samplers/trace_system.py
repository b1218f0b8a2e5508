"""The live traces of a normalised seismic problem, for methods that work on traces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import UsageError
from medrecon.physics.seismic import TraceMask
from medrecon.physics.trace_interpolation import interpolation_weights
from medrecon.problem import System


@dataclass(frozen=True, eq=False)
class TraceSystem:
    """Sections ``(row, time, column)`` in internal units, zero where not ``live``, bool ``(rows, columns)``."""

    data: Tensor
    live: Tensor

    @property
    def mask(self) -> Tensor:
        """1 where live, broadcastable to the data."""
        return self.live[:, None, :].to(self.data.dtype)

    def with_live(self, estimate: Tensor) -> Tensor:
        """The estimate with the live traces as they were measured."""
        return torch.where(self.live[:, None, :], self.data, estimate)

    def linear(self) -> Tensor:
        """Missing traces interpolated linearly, time by time, from the live ones around them."""
        weights = interpolation_weights(self.live.numpy())
        columns = self.data.permute(0, 2, 1)
        known = columns[self.live].numpy()
        out = columns.clone()
        out[~self.live] = torch.from_numpy(np.asarray(weights @ known, dtype=np.float32))
        return out.permute(0, 2, 1).contiguous()


def trace_system(system: System) -> TraceSystem:
    """The live traces that may be used. Raises UsageError for data that are not seismic."""
    op = system.raw.op
    if not isinstance(op, TraceMask):
        raise UsageError("this method is for seismic traces", hint="Choose another --method.")
    live = op.live.cpu()
    if system.raw.used is not None:
        used = system.raw.used.cpu()
        live = live & (used.expand(live.shape[0], used.shape[1], live.shape[1])[:, 0] > 0)
    values = system.from_quantity(system.raw.y.cpu())
    return TraceSystem(torch.where(live[:, None, :], values, torch.zeros(())), live)
