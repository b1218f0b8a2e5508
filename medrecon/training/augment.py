"""Variation of training slices: where they lie, how large, which way round, and what lies around the body.

Everything draws from the generator it is given and works in network units, where empty space is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

_EMPTY = 0.05  # below this a pixel counts as empty space


@dataclass(frozen=True)
class Augmentation:
    """Probabilities and ranges; the defaults suit axial CT whose surroundings were masked."""

    flip: float = 0.5  # left to right
    turn: float = 0.2  # by a random multiple of a quarter
    zoom: float = 0.35
    zoom_range: tuple[float, float] = (0.85, 2.6)  # up to a head that fills the frame
    tilt: float = 0.12  # standard deviation of the angle of a zoomed slice, radians
    sharpen: float = 0.6  # of the slices that were enlarged: gives back the edges that interpolation took
    texture: float = 0.14
    table: float = 0.15  # arcs of a table or head-rest in the empty space
    gain: float = 0.0  # standard deviation of the logarithm of a factor on all values
    polarity: float = 0.0  # all values change their sign
    overhang: float = 0.1  # of a crop, may lie beyond the border of a slice that is larger than it

    @classmethod
    def of(cls, modality: str) -> Augmentation:
        """What suits a modality.

        Nothing lies around a body in MR, and its scale is known within a few percent. A seismic section has an axis of
        time, which is neither turned nor stretched, and no border.
        """
        if modality == "seismic":
            return cls(turn=0.0, zoom=0.0, texture=0.0, table=0.0, gain=0.15, polarity=0.5, overhang=0.0)
        if modality == "mri":
            return cls(table=0.0, turn=0.35, zoom_range=(0.8, 1.6), gain=0.08)
        return cls()


def place(source: np.ndarray, size: int, centre: tuple[float, ...]) -> np.ndarray:
    """The square of ``size`` pixels around ``centre`` (row, column) of ``(..., h, w)``; empty outside the source."""
    height, width = source.shape[-2:]
    top, left = round(centre[0] - size / 2), round(centre[1] - size / 2)
    out = np.zeros((*source.shape[:-2], size, size), dtype=np.float32)
    y0, x0, y1, x1 = max(0, top), max(0, left), min(height, top + size), min(width, left + size)
    if y1 > y0 and x1 > x0:
        out[..., y0 - top : y1 - top, x0 - left : x1 - left] = source[..., y0:y1, x0:x1]
    return out


def draw_centre(rng: np.random.Generator, length: int, size: float, overhang: float) -> float:
    """Where along a side of the object the crop is centred: anywhere that shows it whole, or well inside it."""
    if length <= size:
        return length / 2 + rng.uniform(-1, 1) * max(3.0, (size - length) / 2)
    inside = size * (0.5 - overhang)
    return rng.uniform(inside, length - inside)


def sign(rng: np.random.Generator, settings: Augmentation) -> np.float32:
    """1, or -1 where the polarity is to change."""
    return np.float32(-1 if settings.polarity and rng.random() < settings.polarity else 1)


def turned(rng: np.random.Generator, image: np.ndarray, settings: Augmentation) -> np.ndarray:
    """Flip and quarter turns of ``(channels, size, size)``."""
    if rng.random() < settings.flip:
        image = image[..., ::-1]
    if rng.random() < settings.turn:
        image = np.rot90(image, int(rng.integers(4)), axes=(-2, -1))
    return image


def crop(
    rng: np.random.Generator, source: np.ndarray, size: int, settings: Augmentation, limits: tuple[float, float]
) -> np.ndarray:
    """A square crop of one slice ``(h, w)`` in network units, varied: float32 ``(size, size)``."""
    zoomed = rng.random() < settings.zoom
    zoom = math.exp(rng.uniform(*np.log(settings.zoom_range))) if zoomed else 1.0
    height, width = source.shape
    centre = tuple(draw_centre(rng, length, size / zoom, settings.overhang) for length in (height, width))
    if zoomed:
        tilt = rng.normal() * settings.tilt
        image = resample(source, size, centre, zoom, tilt)
        if zoom > 1.2 and rng.random() < settings.sharpen:
            image = sharpened(image, rng.uniform(0.3, 1.5))
    else:
        image = place(source, size, centre)
    if rng.random() < settings.texture:
        image = textured(rng, image)
    if settings.gain:
        image = image * np.float32(math.exp(rng.normal() * settings.gain))
    image = image * sign(rng, settings)
    image = turned(rng, np.clip(image, *limits)[None], settings)[0]
    if rng.random() < settings.table:
        image = with_table(rng, image)
    return np.ascontiguousarray(image, dtype=np.float32)


def resample(source: np.ndarray, size: int, centre: tuple[float, ...], zoom: float, tilt: float) -> np.ndarray:
    """The crop around ``centre``, enlarged by ``zoom`` and turned by ``tilt`` radians: bicubic ``(size, size)``."""
    window = 2 * math.ceil(size / zoom * (abs(math.cos(tilt)) + abs(math.sin(tilt))) / 2) + 4
    tile = torch.from_numpy(place(source, window, centre))[None, None]
    if zoom < 1:  # takes away what the coarser grid cannot hold
        tile = torch.lerp(tile, _blurred(tile), 0.3)
    scale = size / zoom / window
    cosine, sine = scale * math.cos(tilt), scale * math.sin(tilt)
    affine = torch.tensor([[[cosine, -sine, 0.0], [sine, cosine, 0.0]]])
    grid = functional.affine_grid(affine, [1, 1, size, size], align_corners=False)
    return functional.grid_sample(tile, grid, mode="bicubic", align_corners=False)[0, 0].numpy()


def enlarge(volume: np.ndarray, zoom: float) -> np.ndarray:
    """Slices ``(z, y, x)`` on a grid finer by ``zoom`` (coarser below 1): bicubic, antialiased when it shrinks."""
    height, width = volume.shape[1:]
    size = max(1, round(height * zoom)), max(1, round(width * zoom))
    source = torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[:, None]
    out = functional.interpolate(source, size=size, mode="bicubic", align_corners=False, antialias=zoom < 1)
    return out[:, 0].numpy()


def sharpened(image: np.ndarray, amount: float) -> np.ndarray:
    """Unsharp mask over 3x3 pixels of the last two axes."""
    x = torch.from_numpy(np.ascontiguousarray(image))
    stack = x.reshape(-1, 1, *x.shape[-2:])
    return torch.add(stack, stack - _blurred(stack), alpha=amount).reshape(x.shape).numpy()


def textured(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Fine irregularity inside the object, as tissue has it at smaller pixels."""
    white = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0.005, 0.03))
    grain = torch.from_numpy(white)[None, None]
    grain = _blurred(grain) + 0.3 * grain
    return np.where(image > _EMPTY, image + grain[0, 0].numpy(), image)


def with_table(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """An arc of a table or head-rest behind the object, in the empty space only."""
    size = image.shape[-1]
    radius = rng.uniform(40, 200) * size / 64
    convex = rng.random() < 0.8
    row = rng.uniform(size * 0.75, size) - (radius if convex else -radius)
    column = size / 2 + rng.normal() * 8
    half_width, brightness = rng.uniform(0.7, 2.5), rng.uniform(0.1, 0.9)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    distance = np.abs(np.hypot(y - row, x - column) - radius)
    arc = brightness / (1 + np.exp(np.clip(3 * (distance - half_width), -30, 30)))
    arc *= (y > row) if convex else (y < row)
    return np.where(image < _EMPTY, np.maximum(image, arc), image).astype(np.float32)


def _blurred(x: torch.Tensor) -> torch.Tensor:
    """Mean over 3x3 pixels, borders repeated."""
    return functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
