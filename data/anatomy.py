"""The procedural anatomical CT phantom: a person from a seed, seen in a chosen field of view.

The drawing is made of signed distances in millimetres, so the same seed is the same person on every grid, and
edges carry the partial volume of one voxel. It is no patient and no average of patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrecon.data import anatomy_kernels as kernels
from medrecon.data.anatomy_abdomen import Abdomen
from medrecon.data.anatomy_body import Person
from medrecon.data.anatomy_canvas import AIR, Canvas, Region
from medrecon.data.anatomy_head import Head
from medrecon.data.anatomy_neck import Neck
from medrecon.data.anatomy_pelvis import Pelvis
from medrecon.data.anatomy_thorax import Thorax
from medrecon.data.anatomy_torso import Torso
from medrecon.data.volume import Geometry, Volume
from medrecon.errors import InputError
from medrecon.registry import Registry

SLAB = 3_000_000
"""Voxels drawn at a time: bounds the memory of a large volume."""


@dataclass(frozen=True)
class View:
    """What a kind of scan covers: lowest and highest canonical z, and whether the arms are raised for it."""

    low: float
    high: float
    arms_up: bool | None = None


class Body:
    """All parts of one person, ready to be drawn."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.head = Head(person)
        self.torso = Torso(person, self.head.flesh(), self.head.ears())
        self.neck = Neck(person)
        self.chest = Thorax(person, self.torso)
        self.belly = Abdomen(person, self.torso, self.chest.breath)
        self.pelvis = Pelvis(person)


views: Registry[View] = Registry("anatomy")
views.register("thorax")(View(-292.0, 30.0))
views.register("abdomen")(View(-560.0, -170.0, arms_up=True))
views.register("torso")(View(-560.0, 30.0, arms_up=True))
views.register("head")(View(62.0, 340.0, arms_up=False))
views.register("head-neck")(View(-110.0, 340.0, arms_up=False))


def anatomy(
    kind: str,
    shape: tuple[int, int, int] = (128, 128, 128),
    spacing: tuple[float, float, float] | None = None,
    seed: int = 0,
    *,
    table: bool = True,
    texture: bool = True,
) -> Volume:
    """A synthetic person in HU on a grid ``(z, y, x)``.

    Without ``spacing`` (mm, ``(z, y, x)``) the field of view is fitted to the body. With it, the grid is centred on
    the same point, so the same seed shows the same anatomy at every resolution. ``table`` adds a couch and a blanket,
    ``texture`` the fine irregularity of tissue. Outside body and couch the value is exactly -1000.

    Raises UsageError for an unknown kind, InputError for a negative seed and a shape or spacing that is no grid.

    >>> anatomy("thorax", (8, 16, 16), seed=1).quantity
    'HU'
    """
    view = views.get(kind)
    shape, spacing = _grid(shape, spacing)
    if seed < 0:
        raise InputError("a seed is not negative", found=seed)
    person = Person.from_seed(seed)
    if view.arms_up is not None:
        person.arms_up = view.arms_up
    body = Body(person)
    scale = np.asarray(person.scale)
    low, high = _extent(person, body.torso, view)
    centre = 0.5 * (low + high) * scale
    if spacing is None:
        size = (high - low) * scale
        pixel = 1.05 * max(size[1] / shape[1], size[2] / shape[2])
        spacing = (float(size[0] / shape[0]), float(pixel), float(pixel))
    axes = [c + s * (np.arange(n) - (n - 1) / 2) for c, s, n in zip(centre, spacing, shape, strict=True)]
    step = tuple(s / k for s, k in zip(spacing, person.scale, strict=True))
    image = np.empty(shape, dtype=np.float32)
    planes = max(1, SLAB // (shape[1] * shape[2]))
    for start in range(0, shape[0], planes):
        part = slice(start, start + planes)
        canvas = Canvas(axes[0][part] / scale[0], axes[1] / scale[1], axes[2] / scale[2], step, person.noise, texture)  # type: ignore[arg-type]
        _draw(canvas, body, table, texture)
        image[part] = canvas.image
    np.clip(image, AIR, 2000.0, out=image)
    return Volume(image, Geometry.from_spacing(shape, spacing), "HU", {"phantom": kind, "seed": seed})


def thorax(
    shape: tuple[int, int, int] = (128, 128, 128), spacing: tuple[float, float, float] | None = None, seed: int = 0
) -> np.ndarray:
    """A chest as a bare array in HU ``(z, y, x)``, see `anatomy`."""
    return anatomy("thorax", shape, spacing, seed).array


def abdomen(
    shape: tuple[int, int, int] = (128, 128, 128), spacing: tuple[float, float, float] | None = None, seed: int = 0
) -> np.ndarray:
    """An abdomen with the pelvis as a bare array in HU ``(z, y, x)``, see `anatomy`."""
    return anatomy("abdomen", shape, spacing, seed).array


def head(
    shape: tuple[int, int, int] = (128, 128, 128), spacing: tuple[float, float, float] | None = None, seed: int = 0
) -> np.ndarray:
    """A head as a bare array in HU ``(z, y, x)``, see `anatomy`."""
    return anatomy("head", shape, spacing, seed).array


def _grid(
    shape: tuple[int, int, int], spacing: tuple[float, float, float] | None
) -> tuple[tuple[int, int, int], tuple[float, float, float] | None]:
    if len(shape) != 3 or min(int(n) for n in shape) < 1:
        raise InputError("a phantom has three positive dimensions", found=shape, expected="(z, y, x)")
    if spacing is not None and (len(spacing) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing)):
        raise InputError("the spacing must be three positive numbers", found=spacing, expected="mm along (z, y, x)")
    return (int(shape[0]), int(shape[1]), int(shape[2])), spacing


def _extent(person: Person, torso: Torso, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Corners ``(z, y, x)`` of the body within the view, canonical mm, found on a 10 mm lattice."""
    step = 10.0
    z, y, x = np.arange(view.low, view.high + 1, step), np.arange(-290.0, 260.0, step), np.arange(-340.0, 341.0, step)
    canvas = Canvas(z, y, x, (step,) * 3, person.noise)
    skin, _ = torso.envelope(canvas)
    inside = skin.distance < 0
    top = z[np.flatnonzero(inside.any((1, 2)))[-1]]
    rows, columns = np.flatnonzero(inside.any((0, 2))), np.flatnonzero(inside.any((0, 1)))
    low = np.array([view.low, y[rows[0]] - step, x[columns[0]] - step])
    high = np.array([min(view.high, float(top) + 1.5 * step), y[rows[-1]] + step, x[columns[-1]] + step])
    return low, high


def _draw(canvas: Canvas, body: Body, table: bool, texture: bool) -> None:
    person, torso = body.person, body.torso
    if table:
        _couch(canvas, person, torso)
        if canvas.reaches(150, 330):
            _head_rest(canvas, body)
    skin, flesh = torso.envelope(canvas)
    if table:
        _blanket(canvas, person, skin)
    around = canvas.image.copy()
    cavity = torso.cavity.region(canvas)
    torso.paint(canvas, skin, flesh, cavity)
    above, lung = body.chest.paint(canvas, cavity)
    body.belly.fill(canvas, cavity, above)
    body.pelvis.paint_muscles(canvas, torso, flesh)
    body.belly.paint(canvas, cavity, above)
    body.chest.heart.paint_vessels(canvas)
    skeleton = torso.skeleton
    skeleton.paint_cartilage(canvas)
    body.pelvis.paint_bones(canvas, skeleton.cortex, skeleton.marrow)
    body.neck.paint(canvas, skin)
    skeleton.paint(canvas)
    body.head.paint(canvas, skin, flesh, skeleton.cortex)
    body.neck.paint_airway(canvas)
    body.chest.paint_air(canvas, lung)
    if texture:
        calm = 1 - 0.5 / (1 + np.exp(-(canvas.z - 150) / 12))  # the brain is the most even tissue
        canvas.roughen(skin.grown(canvas.edge), ((2.4, 11.0), (5.5, 6.0), (40.0, 5.0)), calm)
    inside = np.clip(0.5 - skin.distance / np.float32(canvas.edge), 0, 1)
    canvas.image = around + inside * (canvas.image - around)


def _couch(canvas: Canvas, person: Person, torso: Torso) -> None:
    """A carbon couch, flat or curved, with a foam mattress."""
    rng = person.rng("couch")
    y, x = canvas.y[:, None], canvas.x[None, :]
    radius = float(rng.choice([420.0, 650.0, 4000.0]))
    wide = float(rng.uniform(200, 265))
    top = torso.couch_level + 14 + radius - np.sqrt(np.maximum(radius**2 - np.clip(x, -wide, wide) ** 2, 1.0))
    top = np.where(radius > 1000, torso.couch_level + 14, torso.couch_level + 14 - (top - torso.couch_level - 14))
    thick = float(rng.uniform(24, 42))
    d = np.maximum(np.maximum(top - y, y - top - thick), np.abs(x) - wide)
    foam = np.maximum(np.maximum(torso.couch_level - 1 - y, y - top), np.abs(x) - wide * 0.92)
    end = canvas.z[:, None, None] - 145.0
    canvas.paint(canvas.field(np.maximum(foam[None], end)), float(rng.uniform(-965, -900)))
    shell, core, skin = (float(rng.uniform(a, b)) for a, b in ((-350, -60), (-960, -900), (1.2, 2.6)))
    board = canvas.field(np.maximum(d[None], end))
    canvas.paint(board, shell)
    canvas.paint(board, core, inset=skin, over=shell)


def _head_rest(canvas: Canvas, body: Body) -> None:
    """A shell with foam that holds the back of the head; it stands where the couch ends."""
    rng = body.person.rng("head rest")
    x, y, _ = body.head.frame.at(0, -5, 232)
    r = np.hypot(canvas.x[None, :] - x, (canvas.y[:, None] - y))
    gap, wide = float(rng.uniform(99, 108)), float(rng.uniform(70, 100))
    sector = y + 25 - canvas.y[:, None] + np.zeros_like(r)
    if rng.random() < 0.5:
        sector = np.maximum(sector, np.abs(canvas.x[None, :] - x) - wide)
    ends = np.maximum(150 - canvas.z, canvas.z - 330)[:, None, None]
    foam = np.maximum(np.maximum(gap - r, r - gap - 10), sector)[None]
    canvas.paint(canvas.field(np.maximum(foam, ends)), float(rng.uniform(-970, -900)))
    shell = np.maximum(np.maximum(gap + 10 - r, r - gap - 10 - float(rng.uniform(2, 5))), sector)[None]
    canvas.paint(canvas.field(np.maximum(shell, ends)), float(rng.uniform(-600, -150)))


def _blanket(canvas: Canvas, person: Person, skin: Region) -> None:
    """A sheet laid over the front."""
    rng = person.rng("blanket")
    if rng.random() < 0.5:
        return
    lift = np.zeros(skin.distance.shape, dtype=np.float32)
    kernels.add_noise(lift, canvas.z, canvas.y, canvas.x, canvas.noise, 1.0, 38.0, 1.0)
    cloth = np.abs(skin.distance - 6.0 - np.float32(5.0) * lift) - np.float32(1.2)
    cloth = np.maximum(cloth, canvas.y.astype(np.float32)[None, :, None] - 40.0)
    canvas.paint(Region(canvas.whole, cloth), float(rng.uniform(-900, -760)))
