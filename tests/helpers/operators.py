"""Small linear operators whose matrices are known."""

from __future__ import annotations

from copy import copy

import numpy as np
import torch
from torch import Tensor

from medrecon.physics.linop import LinearOperator, Space


class MatrixOperator(LinearOperator):
    """A dense matrix between tensors of any shape; real or complex."""

    def __init__(self, matrix: Tensor, domain: tuple[int, ...], range_: tuple[int, ...]) -> None:
        self.matrix = matrix
        self.domain = Space(domain, matrix.dtype)
        self.range = Space(range_, matrix.dtype)

    def _forward(self, x: Tensor) -> Tensor:
        return (self.matrix @ x.reshape(-1)).reshape(self.range.shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        return (self.matrix.conj().T @ y.reshape(-1)).reshape(self.domain.shape)


class SliceProjector(LinearOperator):
    """Parallel projections of every slice, pixels split linearly between two bins: a small stand-in for CT.

    ``(z, y, x) -> (views, z, columns)``. Like the real CT kernels it returns tensors that are stored with the slices
    innermost, whatever layout it is given.
    """

    couples_slices = False

    def __init__(self, shape: tuple[int, int, int], views: int = 6) -> None:
        slices, height, width = shape
        columns = int(np.ceil(np.hypot(height, width))) + 2
        rows, cols = np.mgrid[:height, :width]
        y, x = rows.ravel() - (height - 1) / 2, cols.ravel() - (width - 1) / 2
        matrix = np.zeros((views, columns, height * width), dtype=np.float32)
        pixels = np.arange(height * width)
        for view, angle in enumerate(np.pi * np.arange(views) / views + 0.1):
            position = x * np.cos(angle) + y * np.sin(angle) + (columns - 1) / 2
            left = np.floor(position).astype(int)
            matrix[view, left, pixels] = 1 - (position - left)
            matrix[view, left + 1, pixels] += position - left
        self.matrix = torch.from_numpy(matrix.reshape(views * columns, -1))
        self.views, self.columns, self.plane = views, columns, (height, width)
        self.domain = Space(shape)
        self.range = Space((views, slices, columns))

    def _forward(self, x: Tensor) -> Tensor:
        flat = self.matrix @ x.permute(1, 2, 0).reshape(self.matrix.shape[1], -1)
        return flat.reshape(self.views, self.columns, -1).permute(0, 2, 1)

    def _adjoint(self, y: Tensor) -> Tensor:
        flat = self.matrix.T @ y.permute(0, 2, 1).reshape(self.matrix.shape[0], -1)
        return flat.reshape(*self.plane, -1).permute(2, 0, 1)

    def view_subsets(self, count: int) -> list[tuple[list[int], SliceProjector]]:
        """Every ``count``-th view, from each first one on."""
        made = []
        for group in (list(range(first, self.views, count)) for first in range(min(count, self.views))):
            part = copy(self)
            part.matrix = self.matrix.reshape(self.views, self.columns, -1)[group].flatten(0, 1)
            part.views, part.range = len(group), Space((len(group), self.range.shape[1], self.columns))
            made.append((group, part))
        return made

    def direct_inverse(self, y: Tensor, filter: str = "hann", cutoff: float = 1.0) -> Tensor:
        """The damped least-squares inverse, in place of filtered back-projection."""
        matrix = self.matrix.double()
        gram = matrix.T @ matrix + 0.5 * torch.eye(matrix.shape[1], dtype=torch.float64)
        flat = torch.linalg.solve(gram, matrix.T @ y.double().permute(0, 2, 1).reshape(matrix.shape[0], -1))
        return flat.reshape(*self.plane, -1).permute(2, 0, 1).float()


class MaskedHartley(LinearOperator):
    """The chosen columns of the orthonormal Hartley transform of every slice.

    A periodic covariance with a symmetric spectrum S is diagonal under this real transform: its eigenvalue at
    frequency k is S(k). With a Gaussian prior of that covariance every posterior is known in closed form.
    """

    couples_slices = False

    def __init__(self, shape: tuple[int, int, int], columns: Tensor) -> None:
        self.columns = columns
        self.domain, self.range = Space(shape), Space((*shape[:2], len(columns)))

    @staticmethod
    def transform(x: Tensor) -> Tensor:
        """Its own inverse and adjoint."""
        spectrum = torch.fft.fft2(x, norm="ortho")
        return spectrum.real - spectrum.imag

    def _forward(self, x: Tensor) -> Tensor:
        return self.transform(x)[..., self.columns]

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.transform(self.embed(y))

    def embed(self, y: Tensor) -> Tensor:
        """Data on the whole spectrum, zero where nothing was measured."""
        full = torch.zeros(self.domain.shape)
        full[..., self.columns] = y
        return full


def as_matrix(op: LinearOperator) -> Tensor:
    """All columns of a small operator."""
    size = torch.Size(op.domain.shape).numel()
    unit = torch.eye(size, dtype=op.domain.dtype)
    return torch.stack([op(column.reshape(op.domain.shape)).reshape(-1) for column in unit], dim=1)
