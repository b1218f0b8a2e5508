"""Random objects for training: shapes, cavities, shells and tubes of many materials, like no body in particular.

A prior that has seen nothing but patients suits nothing but patients. These objects share with bodies and with
specimens only what any reconstruction has to get right: smooth outlines, thin walls, fine branches, light next to
dense.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medrecon.data import anatomy_kernels as kernels
from medrecon.data.anatomy_canvas import AIR, Canvas, Region, capsule, ellipsoid, plate, rotation
from medrecon.data.volume import Geometry, Volume
from medrecon.errors import InputError

_MATERIALS = ((-880, -600), (-140, -60), (-20, 80), (-20, 80), (30, 70), (90, 300), (300, 1500))  # HU
_WIDTH = 360.0  # mm: the field of view without a spacing


def random_shapes(
    shape: tuple[int, int, int] = (64, 128, 128), spacing: tuple[float, float, float] | None = None, seed: int = 0
) -> Volume:
    """A random object in HU on a grid ``(z, y, x)``; the same seed is the same object on every grid.

    Without ``spacing`` (mm, ``(z, y, x)``) pixels are 360 mm over the number of columns, slices 3 mm apart. Raises
    InputError for a negative seed and a shape or spacing that is no grid.

    >>> random_shapes((4, 16, 16), seed=1).quantity
    'HU'
    """
    if len(shape) != 3 or min(shape) < 1:
        raise InputError("a phantom has three positive dimensions", found=shape, expected="(z, y, x)")
    spacing = spacing or (3.0, _WIDTH / shape[2], _WIDTH / shape[2])
    if len(spacing) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing):
        raise InputError("the spacing must be three positive numbers", found=spacing, expected="mm along (z, y, x)")
    if seed < 0:
        raise InputError("a seed is not negative", found=seed)
    rng = np.random.default_rng([seed, 20])
    noise = np.ascontiguousarray(rng.standard_normal((kernels.LATTICE,) * 3), dtype=np.float32)
    z, y, x = (s * (np.arange(n) - (n - 1) / 2) for n, s in zip(shape, spacing, strict=True))
    canvas = Canvas(z, y, x, spacing, noise)
    for _ in range(1 + int(rng.random() < 0.25)):
        _object(canvas, rng)
    image = np.clip(canvas.image, AIR, 2500.0)
    return Volume(image, Geometry.from_spacing(shape, spacing), "HU", {"phantom": "shapes", "seed": seed})


def _object(canvas: Canvas, rng: np.random.Generator) -> None:
    """A hull with what it holds."""
    size = 150 - 100 * rng.random() ** 1.5
    centre = rng.uniform(-1, 1, 3) * (160 - size) * np.array([1.0, 1.0, 0.0])
    hull = canvas.region(
        _solids(rng, centre, size, long=True),
        blend=rng.uniform(0, 30),
        bump=rng.uniform(0, 6),
        length=rng.uniform(30, 90),
    )
    before = canvas.image.copy()
    canvas.paint(hull, _material(rng))
    if rng.random() < 0.6:  # a wall or a skin, with what it surrounds
        canvas.paint(hull, _material(rng), inset=rng.uniform(1.5, 14))
    for _ in range(int(rng.integers(4, 20))):
        place = centre + rng.uniform(-0.75, 0.75, 3) * np.array([size, size, 70.0])
        part = canvas.region(
            _solids(rng, place, size * 0.08 * 6.5 ** rng.random()), blend=rng.uniform(0, 12), bump=rng.uniform(0, 3),
            length=rng.uniform(10, 50),
        ).inside(hull, rng.uniform(0, 12))  # fmt: skip
        _part(canvas, rng, part)
    for _ in range(int(rng.integers(0, 4))):
        canvas.tubes(_branches(rng, centre, size), _material(rng), within=hull)
    spectrum = [(rng.uniform(1.5, 5), rng.uniform(0, 25)), (rng.uniform(5, 50), rng.uniform(0, 15))]
    canvas.roughen(hull, spectrum)
    inside = np.zeros(canvas.image.shape, dtype=np.float32)
    inside[hull.box] = np.clip(0.5 - hull.distance / np.float32(canvas.edge), 0, 1)
    canvas.image = before + inside * (canvas.image - before)


def _part(canvas: Canvas, rng: np.random.Generator, part: Region) -> None:
    """One thing inside: solid, or a dense shell, or light with dense branches through it."""
    kind = rng.random()
    if kind < 0.55:
        canvas.paint(part, _material(rng), grain=rng.uniform(0, 40), length=rng.uniform(3, 15))
    elif kind < 0.8:
        dense = rng.uniform(300, 1600)
        canvas.paint(part, dense)
        canvas.paint(part, _material(rng), inset=rng.uniform(1, 6), over=dense)
    else:
        canvas.paint(part, rng.uniform(-1000, -650), grain=rng.uniform(0, 60), length=rng.uniform(4, 20))
        if not part.empty:
            middle = [float(np.mean(axis[s])) for axis, s in zip((canvas.z, canvas.y, canvas.x), part.box, strict=True)]
            size = 0.5 * max(float(np.ptp(canvas.y[part.box[1]])), float(np.ptp(canvas.x[part.box[2]])))
            canvas.tubes(_branches(rng, np.array(middle[::-1]), size), rng.uniform(-100, 300), within=part)


def _solids(rng: np.random.Generator, centre: np.ndarray, size: float, long: bool = False) -> Sequence[np.ndarray]:
    """One to three solids around a point ``(x, y, z)``; ``long`` ones reach through all slices."""
    rows = []
    for _ in range(int(rng.integers(1, 4))):
        where = centre + rng.normal(size=3) * (0.15 if long else 0.3) * size
        turn = rotation(pitch=rng.uniform(-40, 40), roll=rng.uniform(-40, 40), yaw=rng.uniform(0, 180))
        kind = rng.random()
        if long or kind < 0.5:
            radii = size * rng.uniform(0.5 if long else 0.3, 1.0, 3)
            if long:
                turn = rotation(pitch=rng.uniform(-15, 15), roll=rng.uniform(-15, 15), yaw=rng.uniform(0, 180))
                radii[2] = rng.uniform(150, 900)
            rows.append(ellipsoid(where, radii, turn))
        elif kind < 0.85:
            away = turn[0] * size
            rows.append(capsule(where - away, where + away, size * rng.uniform(0.1, 0.5), size * rng.uniform(0.1, 0.5)))
        else:
            a, b, c = (where + size * rng.normal(size=3) * 0.8 for _ in range(3))
            rows.append(plate(a, b, c, rng.uniform(1.0, 5.0)))
    return rows


def _branches(rng: np.random.Generator, centre: np.ndarray, size: float) -> np.ndarray:
    """Tapering tubes that part again and again, rows ``(a, b, radius at a, radius at b)``, points ``(x, y, z)``."""
    rows: list[list[float]] = []
    width = rng.uniform(1.5, 7)
    tips = [
        (centre + rng.normal(size=3) * 0.4 * size, rng.normal(size=3), width) for _ in range(int(rng.integers(1, 4)))
    ]
    while tips and len(rows) < 400:
        start, direction, radius = tips.pop(0)
        direction = direction / np.linalg.norm(direction)
        end = start + direction * size * rng.uniform(0.12, 0.35)
        thin = radius * rng.uniform(0.7, 0.95)
        rows.append([*start, *end, radius, thin])
        if thin > 0.5:
            tips += [(end, direction + 0.6 * rng.normal(size=3), thin * rng.uniform(0.7, 0.95)) for _ in range(2)]
    return np.array(rows)


def _material(rng: np.random.Generator) -> float:
    """A value in HU: air among lung-like foams, fat, water, soft, dense, bone-like."""
    low, high = _MATERIALS[int(rng.integers(len(_MATERIALS)))]
    return float(rng.uniform(low, high))
