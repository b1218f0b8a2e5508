"""Damped rank reduction: plane events make block-Hankel matrices of low rank, frequency by frequency."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.errors import UsageError
from medrecon.samplers.base import samplers
from medrecon.samplers.windowed import Windowed

_QUIET = 1e-3  # of the strongest frequency of a window: what is fainter is left as it is
_REFINEMENTS = 2  # of the subspace in the first iteration; later ones start from it


@samplers.register("drr", family="classical", modality="seismic")
@dataclass(frozen=True)
class DampedRankReduction(Windowed):
    """Multichannel singular spectrum analysis with damping (Oropeza and Sacchi 2011; Chen et al. 2016), in windows.

    In each temporal frequency the traces of a window make a block-Hankel matrix, whose rank is the number of plane
    events. It is cut to ``rank``, its singular values damped (``damping``; large is no damping), anti-diagonals
    averaged, and the live traces put back. Strong on steep and crossing events with irregular holes.
    """

    iterations: int = 10
    rank: int = 6
    damping: float = 3.0
    window: tuple[int, ...] = (16, 64, 16)

    def __post_init__(self) -> None:
        if len(self.window) != 3 or min(self.window) < 1:
            raise UsageError("a window has three sizes (rows, time, columns)", found=self.window)

    def window_for(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """As set; twice as wide where the volume has no other rows."""
        rows, time, columns = self.window
        return rows, time, 2 * columns if shape[0] == 1 else columns

    def fill(self, data: Tensor, mask: Tensor) -> Tensor:
        """All iterations on a batch of windows."""
        time = data.shape[2]
        spectra = torch.fft.rfft(data, dim=2).permute(0, 2, 1, 3)  # (windows, frequencies, rows, columns)
        energy = spectra.abs().square().sum(dim=(2, 3)).sqrt()
        loud = energy > _QUIET * energy.amax(dim=1, keepdim=True)
        observed = spectra[loud]
        known = mask[:, :, 0, :][:, None].expand(spectra.shape)[loud] > 0
        current, basis = observed, None
        for number in range(self.iterations):
            reduced, basis = self._reduced(current, basis, _REFINEMENTS if number == 0 else 1)
            current = torch.where(known, observed, reduced)
        filled = spectra.clone()
        filled[loud] = current
        return torch.fft.irfft(filled.permute(0, 2, 1, 3), n=time, dim=2)

    def _reduced(self, d: Tensor, basis: Tensor | None, refinements: int) -> tuple[Tensor, Tensor]:
        """Low-rank part of every ``(rows, columns)`` matrix in ``d``, and the subspace found.

        ``H[i, j] = d[i + j]`` with 2D indices is never formed: its products are 2D convolutions without wrap-around,
        and so is the averaging over its anti-diagonals.
        """
        rows, columns = d.shape[-2:]
        left = rows // 2 + 1, columns // 2 + 1
        right = rows - left[0] + 1, columns - left[1] + 1
        spectrum = torch.fft.fft2(d)[:, None]
        most = min(left[0] * left[1], right[0] * right[1])
        count = min(self.rank + 1, most)

        def correlate(v: Tensor, size: tuple[int, int]) -> Tensor:
            """``sum_j d[i + j] v[j]`` for ``v`` ``(n, vectors, a, b)``."""
            other = torch.fft.fft2(v.conj(), s=(rows, columns)).conj()
            return torch.fft.ifft2(spectrum * other)[..., : size[0], : size[1]]

        if basis is None:
            generator = torch.Generator().manual_seed(0)
            start = torch.randn(count, *right, dtype=d.dtype, generator=generator)
            basis = start.expand(len(d), *start.shape)
        v = basis
        for _ in range(refinements):
            u = _orthonormal(correlate(v, left))
            v = _orthonormal(correlate(u.conj(), right).conj())  # H^H u
        product = correlate(v, left).flatten(2).transpose(1, 2)  # H V, columns
        u_small, sizes, w = torch.linalg.svd(product, full_matrices=False)
        keep = min(self.rank, count)
        bound = sizes[:, -1:] if count > self.rank else torch.zeros_like(sizes[:, :1])
        damped = sizes[:, :keep] * (1 - (bound / sizes[:, :keep].clamp_min(1e-30)).pow(self.damping))
        # H ~ U S W V^H: columns of U and, turned by W, those of V
        outer = (u_small[:, :, :keep] * damped[:, None, :]).transpose(1, 2).reshape(len(d), keep, *left)
        inner = (w[:, :keep] @ v.flatten(2).conj()).reshape(len(d), keep, *right)
        whole = torch.fft.fft2(outer, s=(rows, columns)) * torch.fft.fft2(inner, s=(rows, columns))
        summed = torch.fft.ifft2(whole.sum(dim=1))
        return summed / _counts(left, right), v


def _orthonormal(x: Tensor) -> Tensor:
    """Vectors ``(n, vectors, a, b)`` made orthonormal."""
    q, _ = torch.linalg.qr(x.flatten(2).transpose(1, 2))
    return q.transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])


def _counts(left: tuple[int, int], right: tuple[int, int]) -> Tensor:
    """How many entries of the matrix hold each trace."""
    rows, columns = (
        torch.tensor([min(k + 1, a, b, a + b - 1 - k) for k in range(a + b - 1)], dtype=torch.float32)
        for a, b in zip(left, right, strict=True)
    )
    return rows[:, None] * columns[None, :]
