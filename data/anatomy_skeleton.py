"""Bones of the trunk and the neck for the anatomical phantom: spine, rib cage, shoulder girdle."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from medrecon.data.anatomy_body import VERTEBRAE, Loft, Person
from medrecon.data.anatomy_canvas import (
    Canvas,
    blade,
    capsule,
    chain,
    drum,
    ellipsoid,
    mirror,
    plate,
    points_of,
    smooth_path,
    tube,
    vec,
)

Rows = list[np.ndarray]

# first and last height of a rib's bony part, angle of its front end (degrees), height where cartilage meets sternum
_RIBS = (
    (31, -13, 33, -16), (13, -47, 25, -49), (-8, -76, 21, -73), (-30, -106, 20, -96), (-52, -134, 22, -116),
    (-75, -166, 27, -132), (-98, -202, 34, -146), (-123, -236, 43, -158), (-148, -263, 53, -170),
    (-174, -283, 64, -182), (-202, -275, 98, None), (-231, -276, 128, None),
)  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """One vertebra: half-width, half-depth, half-height of the body; radius of the canal; all mm."""

    half_width: float
    half_depth: float
    half_height: float
    canal: float


def sizes(z: float) -> Sizes:
    """Of the vertebra at a height."""
    heights = [-404, -265, -233, -77, 31, 64, 131, 150]
    table = [
        (26, 17.5, 14, 10.5), (21.5, 16.5, 13, 9.5), (20, 15.5, 12.3, 8.5), (14.5, 13, 9.2, 7.8),
        (14.5, 9.5, 8, 8.5), (13, 8.5, 6.4, 8.8), (10.5, 8, 7.6, 9.5), (10, 7, 6, 11),
    ]  # fmt: skip
    return Sizes(*(float(np.interp(z, heights, column)) for column in zip(*table, strict=True)))


def _vertebra(person: Person, name: str, z: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """The body (a row of its own: it has discs above and below) and the arch with its processes."""
    s = sizes(z)
    axes = person.spine_axes(z)
    centre = np.array([*person.spine(z), z])

    def at(x: float, y: float, up: float) -> np.ndarray:
        return centre + np.array([x, y, up]) @ axes

    r, d, h, c = s.half_width, s.half_depth, s.half_height, s.canal
    bodies = [drum(centre, (r, d, h), axes, waist=0.1, hollow=0.18)]
    lumbar, cervical = name[0] == "L", name[0] == "C"
    back = d + 2 * c + 1.5
    side: Rows = [
        capsule(at(0.72 * r, 0.55 * d, 0.3 * h), at(c + 4, d + 0.9 * c, 0.2 * h), 4.6 if lumbar else 3.2),
        blade(at(c + 3.5, d + 0.9 * c, 0), at(0, back + 1, -0.45 * h), axes[1] * 0.8 + axes[0] * 0.5, (2.6, 2.8),
              (0.62 * h, 0.55 * h)),
        blade(at(c + 5.5, d + c + 1, -0.3 * h), at(c + 4.5, d + c + 4, -1.16 * h), axes[1], (3.6, 3.2), (5.0, 4.6)),
        blade(at(c + 5.5, d + c, 0.3 * h), at(c + 5.5, d + c - 1.5, 1.14 * h), axes[1], (3.6, 3.0), (5.0, 4.6)),
    ]  # fmt: skip
    wing = rng.uniform(0.92, 1.08)
    if lumbar:
        side.append(blade(at(c + 6, d + 2, 2), at(43 * wing, d + 8, 3), axes[1], (3.4, 2.4), (5.5, 4.5)))
    elif cervical:
        side.append(capsule(at(r * 0.8, 2, -1), at(r + 8, 1, -2), 3.2, 3.6))
        side.append(capsule(at(r + 7, 1, -2), at(c + 7, d + 0.8 * c, 0), 2.4, 4.0))
    else:
        reach = float(np.interp(z, [-233, -150, -54, 31], [25, 30, 33, 37]))
        side.append(capsule(at(c + 5, d + c, 2), at(reach * wing, d + c + 10, 5), 4.0, 4.6))
    arch = side + mirror_about(side, centre, axes)
    drop = float(np.interp(z, [-404, -265, -233, -190, -120, -20, 31, 64, 131], [5, 7, 12, 26, 34, 28, 16, 9, 6]))
    length = float(np.interp(z, [-404, -265, -120, 31, 50, 64, 112, 131, 150], [27, 30, 20, 26, 30, 19, 14, 18, 5]))
    tall = float(np.interp(z, [-404, -265, -190, -100, 31, 131], [11, 11, 8, 5, 5, 5]))
    arch.append(blade(at(0, back, -0.3 * h), at(rng.normal(0, 1.2), back + length, -0.3 * h - drop), axes[0],
                      (2.6, 3.2), (tall, tall * 0.9)))  # fmt: skip
    return bodies, arch


def mirror_about(rows: Rows, centre: np.ndarray, axes: np.ndarray) -> Rows:
    """Mirror solids in the mid-plane of a bone that is itself shifted and tilted."""
    shift = float(centre[0])
    out = []
    for row in mirror(rows):  # the tilt out of the sagittal plane is a few degrees at most: a shift is enough
        moved = row.copy()
        moved[[5, 6]] += 2 * shift
        for i in range(7, 7 + 3 * points_of(row), 3):
            moved[i] += 2 * shift
        out.append(moved)
    return out


class Skeleton:
    """The bones of one person's trunk and neck as solids, and how they are painted."""

    def __init__(self, person: Person, cavity: Loft) -> None:
        self.person, self.cavity = person, cavity
        rng = person.rng("skeleton")
        self.cortex = float(np.interp(person.age, [20, 85], [1050, 820]) * rng.uniform(0.9, 1.12))
        self.marrow = float(np.interp(person.age, [20, 50, 85], [290, 210, 110]) * rng.uniform(0.85, 1.15))
        self.bodies: Rows = []
        self.arches: Rows = []
        for name, z in VERTEBRAE.items():
            if name == "C1":
                continue
            bodies, arch = _vertebra(person, name, z, rng)
            self.bodies += bodies
            self.arches += arch
        self.atlas = self._atlas()
        self.discs = self._discs()
        self.sternum_front = lambda z: float(cavity.point(0, z)[1])
        self.ribs, self.cartilage = self._rib_cage(rng)
        self.sternum = self._sternum()
        self.shoulder = self._shoulder()

    def _atlas(self) -> Rows:
        x, y = self.person.spine(150.0)
        ring = [(20 * np.sin(a), y + 12 - 17 * np.cos(a) * (1.0 if np.cos(a) < 0 else 0.95), 150) for a in
                np.linspace(0, 2 * np.pi, 21)]  # fmt: skip
        rows = chain(np.array(ring) + vec(x, 0, 0), 3.6)
        for s in (-1, 1):
            rows.append(ellipsoid((x + s * 19, y + 6, 150), (8, 9, 7)))
            rows.append(capsule((x + s * 22, y + 6, 150), (x + s * 37, y + 10, 149), 4.2, 3.8))
        rows.append(capsule((x, y + 0.5, 138), (x, y + 0.5, 156), 5.6, 4.6))  # the dens
        return rows

    def _discs(self) -> Rows:
        names = [n for n in VERTEBRAE if n not in ("C1",)]
        rows = []
        for above, below in pairwise(names):
            z = 0.5 * (VERTEBRAE[above] - sizes(VERTEBRAE[above]).half_height + VERTEBRAE[below]
                       + sizes(VERTEBRAE[below]).half_height)  # fmt: skip
            gap = VERTEBRAE[above] - VERTEBRAE[below]
            s = sizes(z)
            half = max(0.5 * (gap - sizes(VERTEBRAE[above]).half_height - sizes(VERTEBRAE[below]).half_height), 1.5)
            centre = np.array([*self.person.spine(z), z])
            rows.append(drum(centre, (s.half_width * 0.96, s.half_depth * 0.96, half + 0.6),
                             self.person.spine_axes(z), 0.0, 0.15))  # fmt: skip
        return rows

    def rib_path(self, index: int, side: int, wobble: float) -> np.ndarray:
        """Centre line ``(n, 3)`` of a rib's bone from its head to its front end."""
        z0, front_end, end, _ = _RIBS[index]
        z1 = front_end + wobble
        spine = self.person.spine(z0)
        s = sizes(z0)
        d, c = s.half_depth, s.canal
        reach = float(np.interp(z0, [-233, -150, -54, 31], [27, 32, 35, 38]))
        head = (
            spine[0] + side * s.half_width * 1.05,
            spine[1] + 0.75 * d,
            z0 + (0.6 if 0 < index < 9 else 0.0) * s.half_height,
        )
        neck = (spine[0] + side * reach, spine[1] + d + c + 5, z0 + 1)
        finish = np.deg2rad(end)
        begin = np.pi - float(np.interp(index, [0, 2, 8, 11], [0.95, 0.70, 0.62, 0.60]))
        count = max(8, int(44 * (begin - finish) / np.pi) + 4)
        points = []
        for t in np.linspace(0.0, 1.0, count):
            phi = begin + (finish - begin) * t
            z = z0 + (z1 - z0) * (0.06 + 0.94 * (0.65 * t + 0.35 * (0.5 - 0.5 * np.cos(np.pi * t))))
            points.append(self.cavity.point(side * phi, z, 5.5))
        return smooth_path([head, neck, *points], 7.0)

    def _rib_cage(self, rng: np.random.Generator) -> tuple[Rows, Rows]:
        bones: Rows = []
        cartilage: Rows = []
        tilt = rng.normal(0, 5)
        thick, tall = rng.normal(3.5, 0.2), rng.normal(6.2, 0.4)
        for index, (_, z1, end, target) in enumerate(_RIBS):
            for side in (-1, 1):
                wobble = tilt * index / 6 + rng.normal(0, 2)
                path = self.rib_path(index, side, wobble)
                fade = np.ones(len(path))
                if target is None:
                    fade[-4:] = (0.9, 0.8, 0.65, 0.4)
                fade[:3] = (1.0, 0.8, 0.85)
                normals = path - np.stack([np.zeros(len(path)), np.full(len(path), -4.0), path[:, 2]], 1)
                wide = tall * (0.85 if index in (0, 11) else 1.0)
                for i in range(len(path) - 1):
                    f, g = fade[i], fade[i + 1]
                    normal = normals[i] if index else np.array([0.3 * normals[i][0], 0.3 * normals[i][1], 60.0])
                    bones.append(blade(path[i], path[i + 1], normal, (thick * f, thick * g), (wide * f, wide * g)))
                if target is not None:
                    cartilage += self._costal_cartilage(index, side, np.deg2rad(end), z1 + wobble, target, thick)
        return bones, cartilage

    def _costal_cartilage(self, index: int, side: int, angle: float, z: float, target: float, thick: float) -> Rows:
        inner = 16.0 if index else 24.0
        aim = np.arcsin(np.clip(inner / 90, 0, 0.6)) if index < 7 else np.deg2rad(_RIBS[6][2]) * 0.6
        points = []
        for t in np.linspace(-0.04, 1.0, 9):
            sag = -10 * np.sin(np.pi * t) * max(index - 3, 0) / 4
            points.append(
                self.cavity.point(side * (angle + (aim - angle) * t), z + (target - z) * max(t, 0.0) ** 1.5 + sag, 6.0)
            )
        path = np.array(points)
        return [
            blade(path[i], path[i + 1], (0, -1, 0), (thick + 0.6, thick + 0.6), (6.0, 6.0))
            for i in range(len(path) - 1)
        ]

    def _sternum(self) -> Rows:
        def at(z: float) -> tuple[float, float, float]:
            return 0.0, self.sternum_front(z) - 8.5, z

        widths = [(-4, 27), (-16, 28), (-30, 21), (-47, 16)]
        body = [(-52, 14), (-80, 16), (-110, 19), (-135, 18), (-150, 10)]
        rows: Rows = []
        for part in (widths, body):
            rows += [blade(at(a), at(b), (0, 1, 0), (5.2, 5.2), (wa, wb)) for (a, wa), (b, wb) in pairwise(part)]
        rows.append(blade(at(-154), at(-176), (0, 1, 0), (3.0, 2.0), (7, 4)))
        return rows

    def glenoid(self) -> np.ndarray:
        """The left shoulder joint, ``(x, y, z)``."""
        return np.array([126.0, 8.0, -4.0]) if self.person.arms_up else np.array([152.0, 10.0, -22.0])

    def _shoulder(self) -> Rows:
        """Clavicles, shoulder blades and humeri of both sides."""
        g = self.glenoid()
        lift = 20.0 if self.person.arms_up else 0.0
        front = self.sternum_front(-8)
        acromion = g + vec(22, 0, 36)
        end = acromion + vec(-8, -2, -2)
        self.clavicle = [(17, front - 10, -4, 9), (40, front - 13, 2, 6.5),
                         (0.55 * end[0], front - 6, 10 + 0.4 * lift, 6),
                         (0.8 * end[0], front + 18, 16 + 0.8 * lift, 6), (*end, 6.5)]  # fmt: skip
        rows = tube(self.clavicle, 8.0)
        swing = 0.28 if self.person.arms_up else 0.0

        def medial(s: float) -> np.ndarray:
            return self.cavity.point(2.52 - swing * s + 0.02 * np.sin(np.pi * s), -2 + lift - (142 - lift) * s, 21.0)

        low = medial(1.0)

        def at(s: float, t: float) -> np.ndarray:
            border = g + vec(-9, 6, 4 - 10 * s) if s < 0.25 else None
            if border is None:
                u = (s - 0.25) / 0.75
                border = (1 - u) * (g + vec(-9, 6, -8)) + u * low + vec(6 * np.sin(np.pi * u), 3 * np.sin(np.pi * u), 0)
            p = (1 - t) * medial(s) + t * border
            return p + np.array([2, 7 if s < 1 else 0, 0]) * np.sin(np.pi * t)

        grid_s, grid_t = np.linspace(0, 1, 8), np.linspace(0, 1, 5)
        for a, b in pairwise(grid_s):
            for c, e in pairwise(grid_t):
                rows.append(plate(at(a, c), at(b, c), at(a, e), 1.5))
                rows.append(plate(at(b, c), at(b, e), at(a, e), 1.5))
        border_line = np.array([at(s, 1.0) for s in np.linspace(0.1, 1, 8)])
        rows += chain(border_line, np.linspace(6.5, 3.0, 8))
        rows += chain(np.array([at(s, 0.0) for s in np.linspace(0, 1, 8)]), 2.6)
        root = at(0.27, 0.0)
        ridge = smooth_path([root, at(0.2, 0.5) + vec(4, 22, 8), acromion + vec(0, 10, -4), acromion], 10.0)
        base = [at(0.24, t) for t in np.linspace(0, 0.85, len(ridge))]
        rows += chain(ridge, np.linspace(3.0, 6.0, len(ridge)))
        for i in range(len(ridge) - 2):
            rows.append(plate(base[i], base[i + 1], ridge[i], 1.5))
            rows.append(plate(base[i + 1], ridge[i + 1], ridge[i], 1.5))
        rows.append(ellipsoid(g + vec(-4, 2, 0), (6, 13, 18)))
        rows += tube([(*(g + vec(-9, -4, 12)), 7), (*(g + vec(-8, -24, 20)), 6), (*(g + vec(4, -36, 12)), 5)], 6.0)
        self.humerus = self._humerus(g)
        return rows + mirror(rows)

    def _humerus(self, g: np.ndarray) -> Rows:
        head = g + vec(22, 0, 2)
        if self.person.arms_up:
            far = g + vec(35, -30, 290)
            neck = head + vec(10, -4, 26)
        else:
            far = g + vec(62, 24, -300)
            neck = head + vec(10, 0, -26)
        rows = [ellipsoid(head, (23, 23, 23)), capsule(head + vec(5, -2, -2), neck, 21, 14.5)]
        rows += tube(
            [(*neck, 14.5), (*(0.8 * neck + 0.2 * far), 11.5), (*(0.4 * neck + 0.6 * far), 10.5), (*far, 14)], 20
        )
        self.arm = (head, far)
        return rows + mirror(rows)

    def paint_cartilage(self, canvas: Canvas) -> None:
        """Discs and costal cartilage."""
        canvas.paint(canvas.region(self.discs), 85, grain=12)
        ribs = canvas.region(self.cartilage, blend=2.0)
        old = float(np.clip((self.person.age - 35) / 45, 0, 1))
        canvas.paint(ribs, 110 + 120 * old, grain=15 + 90 * old, length=4.0)
        canvas.paint(ribs, 85, inset=1.6, grain=10, over=110 + 120 * old)

    def paint(self, canvas: Canvas) -> None:
        """All bones, each with a cortical shell and marrow."""
        c, m = self.cortex, self.marrow
        self._paint_canal(canvas)
        bodies = canvas.region(self.bodies)
        arches = canvas.region(self.arches, blend=2.0)
        canvas.paint(arches, 0.85 * c, grain=60, length=3.0)
        canvas.paint(arches, m + 110, inset=1.6, grain=70, length=3.0, over=0.85 * c)
        canvas.paint(bodies, 0.72 * c, grain=50, length=3.0)
        canvas.paint(bodies, m, inset=1.1, grain=42, length=3.2, over=0.72 * c)
        self._shell(canvas, self.atlas, 0.9 * c, m + 120, 1.6)
        self._shell(canvas, self.ribs, 1.0 * c, m - 40, 1.15)
        self._shell(canvas, self.sternum, 0.6 * c, m - 60, 1.0)
        self._shell(canvas, self.shoulder, 1.0 * c, m + 30, 1.5)
        humerus = canvas.region(self.humerus, blend=4.0)
        canvas.paint(humerus, 1.15 * c, grain=40, length=4.0)
        canvas.paint(humerus, m - 60, inset=2.6, grain=45, length=4.0, over=1.15 * c)

    def _paint_canal(self, canvas: Canvas) -> None:
        """Dural sac with the cord, in epidural fat."""
        heights = np.arange(-430.0, 168.0, 12.0)
        middle = [(*(self.person.spine(z) + vec(0, sizes(z).half_depth + sizes(z).canal + 0.5)), z) for z in heights]
        width = np.array([sizes(z).canal for z in heights])
        path = np.array(middle)
        canvas.paint(canvas.region(chain(path, width + 1.0)), -45)
        canvas.paint(canvas.region(chain(path, np.maximum(width - 1.6, 4.0))), 14)
        cord = heights > -272
        canvas.paint(canvas.region(chain(path[cord], np.where(path[cord, 2] > 30, 5.6, 4.6))), 40)

    def _shell(self, canvas: Canvas, rows: Rows, cortex: float, marrow: float, thickness: float) -> None:
        region = canvas.region(rows)
        canvas.paint(region, cortex, grain=60, length=4.0)
        canvas.paint(region, marrow, inset=thickness, grain=50, length=3.0, over=cortex)
