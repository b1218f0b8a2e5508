"""Centred orthonormal Fourier transforms without shifted copies, for even and odd sizes.

The centre of image and k-space is sample ``n // 2``::

    F[k] = n^-1/2 sum_j f[j] exp(-2 pi i (k - c) (j - c') / n),   c = n // 2,  c' = m // 2

Expanding the product leaves an ordinary transform between two modulations: of the image by ``exp(2 pi i c j / n)`` and
of k-space by ``exp(2 pi i (k - c) c' / n)``. For even sizes both are a chequerboard of signs. Operators fold the first
into their coil maps. With fewer image samples than frequencies, ``m < n``, the image lies centrally in the transform.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def _turns(numerator: Tensor, n: int) -> Tensor:
    """``exp(2 pi i numerator / n)``; the integer is reduced first, so that large products lose no digits."""
    angle = 2 * torch.pi * (numerator % n).double() / n
    return torch.polar(torch.ones_like(angle), angle)


def image_modulation(m: int, n: int) -> Tensor:
    """Factor of image sample ``j < m`` before a transform of length ``n``; complex128."""
    return _turns(torch.arange(m) * (n // 2), n)


def frequency_modulation(m: int, n: int) -> Tensor:
    """Factor of frequency ``k < n`` after the transform of ``m`` image samples; complex128."""
    return _turns((torch.arange(n) - n // 2) * (m // 2), n)


def along(values: Tensor, axis: int, ndim: int) -> Tensor:
    """A vector as a tensor of ``ndim`` dimensions that varies along ``axis``."""
    shape = [1] * ndim
    shape[axis] = values.numel()
    return values.reshape(shape)


def centred_fft(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Centred orthonormal transform from image to k-space along ``axes`` of a complex tensor."""
    return _transform(x, axes, inverse=False)


def centred_ifft(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Its inverse, which is its adjoint."""
    return _transform(x, axes, inverse=True)


def _transform(x: Tensor, axes: Sequence[int], *, inverse: bool) -> Tensor:
    axes = tuple(axes)
    if not axes:
        return x
    before, after = torch.ones((), dtype=torch.complex128), torch.ones((), dtype=torch.complex128)
    for axis in axes:
        n = x.shape[axis]
        before = before * along(image_modulation(n, n), axis, x.ndim)
        after = after * along(frequency_modulation(n, n), axis, x.ndim)
    before, after = before.to(x.device, x.dtype), after.to(x.device, x.dtype)
    if inverse:
        return torch.fft.ifftn(x * after.conj(), dim=axes, norm="ortho").mul_(before.conj())
    return torch.fft.fftn(x * before, dim=axes, norm="ortho").mul_(after)


def central(n: int, m: int) -> slice:
    """The ``m`` of ``n`` samples that lie centrally: sample ``m // 2`` of them is ``n // 2`` of all."""
    start = n // 2 - m // 2
    return slice(start, start + m)


def cropped(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """The central part of the last ``len(sizes)`` axes; a view."""
    first = x.ndim - len(sizes)
    for axis, m in enumerate(sizes):
        part = central(x.shape[first + axis], m)
        x = x.narrow(first + axis, part.start, m)
    return x


def embedded(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Zeros of the given sizes along the last axes, ``x`` in their centre: the adjoint of :func:`cropped`."""
    leading = x.shape[: x.ndim - len(sizes)]
    out = torch.zeros((*leading, *sizes), dtype=x.dtype, device=x.device)
    cropped(out, x.shape[x.ndim - len(sizes) :]).copy_(x)
    return out
