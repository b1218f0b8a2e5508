"""Which samples of k-space are measured: undersampling masks with a calibration centre, keyed by a seed.

A mask is bool over the phase-encoded samples: a vector for one direction, ``(height, width)`` for two. The same seed
gives the same mask. ``acceleration`` is the number of samples over the number measured, calibration included, unless a
mask says otherwise; `real_acceleration` reports what came out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medrecon.errors import UsageError
from medrecon.physics.mri.fourier import central
from medrecon.registry import Registry

Mask1D = Callable[..., np.ndarray]
masks: Registry[Mask1D] = Registry("mask")

_SPREAD = 0.25  # of gaussian1d: standard deviation of the density, in halves of k-space, times two
_POISSON_STEPS = 24
_TRIES = 30


def make_mask(
    name: str, shape: tuple[int, ...], acceleration: float, *, centre: int | None = None, seed: int = 0
) -> np.ndarray:
    """The mask called ``name`` on ``shape``, ``(n,)`` or ``(height, width)``.

    Parameters
    ----------
    centre
        Width of the fully sampled centre, in samples along each direction; by default `default_centre`.

    Raises
    ------
    UsageError
        Unknown name, a shape of the wrong dimension, or an acceleration that leaves nothing to choose.
    """
    entry = masks.entry(name)
    if len(shape) != entry.meta["dimensions"]:
        raise UsageError(f"mask {name} has another dimension", found=shape, expected=entry.meta["dimensions"])
    if not 1 <= acceleration <= min(shape):
        raise UsageError("the acceleration is out of range", found=acceleration, expected=f"1 to {min(shape)}")
    centre = default_centre(shape, acceleration) if centre is None else centre
    if not 0 <= centre <= min(shape):
        raise UsageError("the calibration centre does not fit the mask", found=centre, expected=f"0 to {min(shape)}")
    if acceleration == 1:
        return np.ones(shape, dtype=bool)
    return entry.value(shape, acceleration, centre, np.random.default_rng([seed, *shape]))


def default_centre(shape: tuple[int, ...], acceleration: float) -> int:
    """Lines of calibration: 0.32 / acceleration of all, the share that fastMRI takes, but at least 12 (20 in 2D)."""
    least = 12 if len(shape) == 1 else 20
    return min(max(round(0.32 / acceleration * min(shape)), least), min(shape))


def dimensions_of(name: str) -> int:
    """Number of undersampled directions of a mask."""
    return int(str(masks.entry(name).meta["dimensions"]))


def real_acceleration(mask: np.ndarray) -> float:
    """All samples over the measured ones."""
    return float(mask.size / max(int(np.count_nonzero(mask)), 1))


def _with_centre(shape: tuple[int, ...], centre: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(central(n, centre) for n in shape)] = True
    return mask


def _lines_left(mask: np.ndarray, acceleration: float) -> int:
    left = round(mask.size / acceleration) - int(mask.sum())
    if left < 0:
        raise UsageError(
            "the calibration centre alone has more samples than the acceleration allows",
            found=f"{int(mask.sum())} of {mask.size}",
            expected=f"at most {round(mask.size / acceleration)}",
            hint="Take a smaller centre or a lower acceleration.",
        )
    return left


def _draw(mask: np.ndarray, density: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """``count`` more samples without replacement, in proportion to ``density``."""
    weights = np.where(mask, 0.0, density).ravel()
    chosen = random.choice(mask.size, size=count, replace=False, p=weights / weights.sum())
    mask.ravel()[chosen] = True
    return mask


# --- one direction -------------------------------------------------------------------------------------------------
@masks.register("uniform1d", dimensions=1)
def uniform1d(shape: tuple[int, ...], acceleration: float, centre: int, random: np.random.Generator) -> np.ndarray:
    """Lines at random with equal probability."""
    mask = _with_centre(shape, centre)
    return _draw(mask, np.ones(shape), _lines_left(mask, acceleration), random)


@masks.register("gaussian1d", dimensions=1)
def gaussian1d(shape: tuple[int, ...], acceleration: float, centre: int, random: np.random.Generator) -> np.ndarray:
    """Lines at random, denser near the centre: a Gaussian of standard deviation an eighth of k-space plus a floor."""
    mask = _with_centre(shape, centre)
    position = (np.arange(shape[0]) - shape[0] // 2) / (shape[0] / 2)
    return _draw(mask, np.exp(-0.5 * (position / _SPREAD) ** 2) + 0.02, _lines_left(mask, acceleration), random)


@masks.register("fastmri-random", dimensions=1)
def fastmri_random(shape: tuple[int, ...], acceleration: float, centre: int, random: np.random.Generator) -> np.ndarray:
    """Each line beyond the centre with one probability, so that the *expected* number fits (fastMRI's random mask)."""
    mask = _with_centre(shape, centre)
    probability = _lines_left(mask, acceleration) / max(mask.size - centre, 1)
    return mask | (random.random(shape) < probability)


@masks.register("fastmri-equispaced", dimensions=1)
def fastmri_equispaced(
    shape: tuple[int, ...], acceleration: float, centre: int, random: np.random.Generator
) -> np.ndarray:
    """Every n-th line from a random first one, n adjusted for the centre (fastMRI's equispaced-fraction mask)."""
    mask = _with_centre(shape, centre)
    lines = shape[0]
    left = _lines_left(mask, acceleration)
    if left == 0:
        return mask
    distance = (lines - centre) / left
    offset = random.uniform(0, min(distance, lines))
    places = np.round(np.arange(offset, lines - 0.5, distance)).astype(int)
    mask[places[places < lines]] = True
    return mask


@masks.register("equispaced1d", dimensions=1)
def equispaced1d(shape: tuple[int, ...], acceleration: float, centre: int, random: np.random.Generator) -> np.ndarray:
    """Every n-th line, n the acceleration itself, with the centre on top: the acceleration comes out lower."""
    step = round(acceleration)
    mask = _with_centre(shape, centre)
    mask[int(random.integers(step)) :: step] = True
    return mask


# --- two directions ------------------------------------------------------------------------------------------------
@masks.register("poisson2d", dimensions=2)
def poisson2d(shape: tuple[int, ...], acceleration: float, centre: int, random: np.random.Generator) -> np.ndarray:
    """Poisson discs whose radius grows from the centre outwards; corners beyond the ellipse are left out.

    Dart throwing over a random order of all grid points (Cook 1986), the radius scaled by bisection until the
    acceleration fits to 1 %; the last few samples are added or taken away at random.
    """
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    radius = np.hypot((rows - height // 2) / (height / 2), (columns - width // 2) / (width / 2))
    base = _with_centre(shape, centre)
    wanted = int(base.sum()) + _lines_left(base, acceleration)
    inside = np.argwhere((radius <= 1) & ~base)
    if len(inside) + int(base.sum()) < wanted:
        raise UsageError(
            "the ellipse of a Poisson mask has fewer samples than the acceleration asks for",
            found=f"{acceleration:g}", expected=f"at least {base.size / (len(inside) + int(base.sum())):.3g}",
        )  # fmt: skip
    order = inside[random.permutation(len(inside))]
    low, high = 0.0, 4.0 * float(np.sqrt(acceleration))
    mask = base
    for _ in range(_POISSON_STEPS):
        scale = (low + high) / 2
        distances = scale * (0.35 + radius)
        mask = base | _darts(shape, order, distances)
        count = int(mask.sum())
        if abs(count - wanted) <= 0.002 * wanted:
            break
        low, high = (scale, high) if count > wanted else (low, scale)
    return _adjusted(mask, base, radius <= 1, wanted, random)


def _darts(shape: tuple[int, ...], order: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Points taken in order unless one nearer than their own distance was taken before."""
    height, width = shape
    free = np.ones(shape, dtype=bool)
    taken = np.zeros(shape, dtype=bool)
    largest = int(np.ceil(distances.max()))
    rows, columns = np.mgrid[-largest : largest + 1, -largest : largest + 1]
    separation = np.hypot(rows, columns)
    for row, column in order:
        if not free[row, column]:
            continue
        taken[row, column] = True
        reach = distances[row, column]
        whole = int(np.ceil(reach))
        top, left = max(row - whole, 0), max(column - whole, 0)
        bottom, right = min(row + whole + 1, height), min(column + whole + 1, width)
        disc = separation[
            largest + top - row : largest + bottom - row, largest + left - column : largest + right - column
        ]
        free[top:bottom, left:right] &= disc >= reach
    return taken


def _adjusted(
    mask: np.ndarray, base: np.ndarray, allowed: np.ndarray, wanted: int, random: np.random.Generator
) -> np.ndarray:
    """Exactly ``wanted`` samples, by adding or removing a few outside the centre."""
    missing = wanted - int(mask.sum())
    pool = np.flatnonzero(allowed & ~mask) if missing > 0 else np.flatnonzero(mask & ~base)
    chosen = random.choice(pool, size=min(abs(missing), len(pool)), replace=False)
    mask = mask.copy()
    mask.ravel()[chosen] = missing > 0
    return mask


@masks.register("radial", dimensions=2)
def radial(shape: tuple[int, ...], acceleration: float, centre: int, random: np.random.Generator) -> np.ndarray:
    """Cartesian samples nearest to straight lines through the centre, turned by the golden angle.

    As many lines as the acceleration allows; for measurements along real spokes see `nonuniform`.
    """
    mask = _with_centre(shape, centre)
    wanted = int(mask.sum()) + _lines_left(mask, acceleration)
    length = 2 * max(shape) + 1
    t = np.linspace(-0.5, 0.5, length)
    angle = random.uniform(0, np.pi)
    for _ in range(mask.size):
        rows = np.round(shape[0] // 2 + t * shape[0] * np.sin(angle)).astype(int)
        columns = np.round(shape[1] // 2 + t * shape[1] * np.cos(angle)).astype(int)
        keep = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
        more = mask.copy()
        more[rows[keep], columns[keep]] = True
        if int(more.sum()) > wanted:
            return mask
        mask, angle = more, angle + np.pi * (5**0.5 - 1) / 2
    return mask


# --- partial Fourier -----------------------------------------------------------------------------------------------
def partial_fourier(mask: np.ndarray, share: float, axis: int = 0) -> np.ndarray:
    """The mask without the first ``1 - share`` of the samples along an axis.

    Raises UsageError unless more than half remains, so that the centre is in it.
    """
    if not 0.5 < share <= 1:
        raise UsageError("partial Fourier keeps more than half of k-space", found=share, expected="0.5 to 1")
    kept = mask.copy()
    cut = round((1 - share) * mask.shape[axis])
    kept[(slice(None),) * axis + (slice(0, cut),)] = False
    return kept


def calibration_widths(mask: np.ndarray) -> tuple[int, ...]:
    """Width of the largest fully sampled block around the centre, along each axis; 0 where the centre is missing."""
    middle = tuple(n // 2 for n in mask.shape)
    if not mask[middle]:
        return (0,) * mask.ndim
    widths = [1] * mask.ndim
    growing = set(range(mask.ndim))
    while growing:
        for axis in sorted(growing):
            wider = [w + (a == axis) for a, w in enumerate(widths)]
            if (
                wider[axis] > mask.shape[axis]
                or not mask[tuple(central(n, w) for n, w in zip(mask.shape, wider, strict=True))].all()
            ):
                growing.discard(axis)
            else:
                widths = wider
    return tuple(widths)
