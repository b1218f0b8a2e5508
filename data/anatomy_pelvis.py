"""Bones and muscles of the pelvis and the hips for the anatomical phantom."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from medrecon.data.anatomy_body import Person
from medrecon.data.anatomy_canvas import (
    Canvas,
    Region,
    blade,
    capsule,
    chain,
    ellipsoid,
    mirror,
    plate,
    smooth_path,
    tube,
    vec,
)
from medrecon.data.anatomy_torso import Torso

Rows = list[np.ndarray]

_CREST = [(40, 80, -446), (68, 66, -398), (106, 24, -383), (126, -22, -402), (120, -54, -434)]
_RIM = [(44, 62, -486), (60, 47, -492), (72, 26, -500), (82, 4, -506), (94, -28, -500)]
_SACRUM = [(42, -432, 17, 52), (58, -460, 15, 47), (70, -487, 12, 36), (75, -508, 9, 26), (72, -528, 7, 17)]


class Pelvis:
    """Hip bones, sacrum, femora and the muscles around them."""

    def __init__(self, person: Person) -> None:
        self.person = person
        rng = person.rng("pelvis")
        self.wide = float(rng.normal(1.05 if person.female else 1.0, 0.03))
        self.bowl = vec(self.wide, 1.0, 1.0)
        self.hip = vec(89, -2, -530) * self.bowl
        self.wings = self._wings()
        self.socket, self.rami = self._lower()
        self.femur = self._femur()
        self.sacrum = self._sacrum()
        self.muscles = self._muscles()

    def _wings(self) -> Rows:
        crest, rim = smooth_path(_CREST, 14.0) * self.bowl, smooth_path(_RIM, 14.0) * self.bowl
        count = 11
        index = np.linspace(0, 1, count)
        top = np.stack([np.interp(index, np.linspace(0, 1, len(crest)), crest[:, i]) for i in range(3)], 1)
        low = np.stack([np.interp(index, np.linspace(0, 1, len(rim)), rim[:, i]) for i in range(3)], 1)
        levels = np.linspace(0, 1, 6)
        rows: Rows = []
        hollow = vec(7, 2, 0)
        sheet = [
            [t + (b - t) * v + hollow * np.sin(np.pi * v) * np.sin(np.pi * u) for v in levels]
            for u, t, b in zip(index, top, low, strict=True)
        ]
        for a, b in pairwise(range(count)):
            for c, d in pairwise(range(levels.size)):
                ends = max(0.0, 1 - 4 * index[a]) * 5 + max(0.0, 4 * index[a] - 3) * 2.0
                half = 2.2 + 2.4 * abs(levels[c] - 0.45) + ends
                rows.append(plate(sheet[a][c], sheet[b][c], sheet[a][d], half))
                rows.append(plate(sheet[b][c], sheet[b][d], sheet[a][d], half))
        rows += chain(top, np.array([7, 8, 7, 6, 6, 6.5, 7, 7, 6, 5.5, 6.0])[: len(top)])
        rows += chain(low, np.linspace(8, 10, len(low)))
        return rows + mirror(rows)

    def _lower(self) -> tuple[Rows, Rows]:
        k = self.bowl
        socket = [ellipsoid(self.hip + vec(-5, 1, 4), (34, 34, 34))]
        x = float(self.wide)
        rami = tube([(70 * x, -20, -526, 10), (42, -42, -538, 8.5), (12, -50, -550, 11)], 10)
        rami += tube([(11, -48, -556, 9), (24, -30, -582, 6), (48, 8, -606, 8), (60, 26, -606, 11)], 10)
        rami += tube([(80 * x, 26, -535, 13), (70, 36, -570, 13), (62, 30, -606, 13)], 10)
        rami.append(capsule(vec(74, 34, -512) * k, vec(66, 40, -535) * k, 9, 9))
        return socket + mirror(socket), rami + mirror(rami)

    def _femur(self) -> Rows:
        h = self.hip
        rows = [ellipsoid(h, (24, 24, 24)), capsule(h + vec(8, 2, -6), h + vec(38, 8, -32), 16, 17)]
        rows += [ellipsoid(h + vec(42, 16, -24), (13, 19, 22))]
        rows += tube(
            [(*(h + vec(36, 10, -36)), 18), (*(h + vec(34, 10, -70)), 16.5), (*(h + vec(18, 4, -260)), 14.5)], 25
        )
        return rows + mirror(rows)

    def _sacrum(self) -> Rows:
        shift = self.person.spine(-430.0)[0]
        rows = [
            blade((shift, y0, z0), (shift, y1, z1), (0, 1, 0.55), (d0, d1), (w0 * self.wide, w1 * self.wide))
            for (y0, z0, d0, w0), (y1, z1, d1, w1) in pairwise(_SACRUM)
        ]
        for side in (-1, 1):
            rows.append(ellipsoid((shift + side * 38 * self.wide, 50, -446), (19, 19, 26)))
        crest = [(shift, y + d + 11, z, 6.0) for y, z, d, _ in _SACRUM[:4]]
        rows += tube(crest, 10)
        for side in (-1, 1):
            rows += tube([(shift + side * 18, y + d + 4, z, 5.0) for y, z, d, _ in _SACRUM[:4]], 10)
        rows += chain(np.array([(shift, 70, -540), (shift, 66, -552), (shift, 58, -566)]), np.array([6.0, 5, 3]))
        return rows

    def _muscles(self) -> list[Rows]:
        m = self.person.muscle**0.5
        h, spine = self.hip, self.person.spine
        groups: list[Rows] = []
        course = ((-262, 24, 4, 7), (-300, 31, 6, 13), (-340, 38, 6, 18), (-380, 45, 4, 21), (-420, 52, -8, 22))
        psoas = [(*(spine(z) + vec(x, y)), z, r * m) for z, x, y, r in course]
        psoas += [(68, -14, -460, 20 * m), (86, -32, -505, 17 * m), (98, -26, -548, 15 * m), (96, 6, -590, 10 * m)]
        groups.append(tube(psoas, 14.0))
        inner = [0.5 * (vec(*a) + vec(*b)) * self.bowl for a, b in zip(_CREST, _RIM, strict=True)]
        groups.append([blade(a + vec(-12, -8, 0), b + vec(-13, -10, -6), (-0.7, -0.7, 0), (8 * m, 9 * m), (34, 36))
                       for a, b in pairwise(inner[1:])])  # fmt: skip
        groups.append([blade(spine_point(spine(z), 54, 24, z), spine_point(spine(z - 25), 56, 26, z - 25), (0.3, 1, 0),
                             (8 * m, 9 * m), (18 * m, 20 * m)) for z in (-262, -286, -310, -335, -360)])  # fmt: skip
        groups.append(
            [
                blade(vec(42, 86, -452), h + vec(36, 36, -40), (-0.3, 1, 0.1), (14 * m, 20 * m), (44, 42)),
                blade(vec(30, 88, -500), h + vec(32, 36, -80), (-0.3, 1, 0.1), (14 * m, 20 * m), (36, 36)),
            ]
        )
        outer = [p + vec(20, 16, 0) for p in inner]
        groups.append([blade(p, h + vec(44, 10, -10), (0.8, 0.55, 0), (13 * m, 12 * m), (26, 14)) for p in outer[1:4]])
        groups.append(
            [blade(vec(122, -50, -440) * self.bowl, h + vec(44, -32, -80), (0.6, -0.8, 0), (9 * m, 10 * m), (14, 17))]
        )
        groups.append([blade(vec(118, -54, -446) * self.bowl, h + vec(0, -44, -200), (0.2, -1, 0), (7, 8), (12, 14))])
        groups.append([capsule(h + vec(10, -32, -14), h + vec(14, -40, -220), 15 * m, 27 * m)])
        groups.append([capsule(h + vec(44, -6, -60), h + vec(42, -10, -240), 17 * m, 25 * m)])
        groups.append([capsule(vec(22, -44, -566), h + vec(-12, -16, -220), 14 * m, 27 * m)])
        groups.append([capsule(vec(34, -8, -600), h + vec(-18, 20, -230), 20 * m, 26 * m)])
        groups.append([capsule(vec(62, 36, -612), h + vec(6, 44, -240), 14 * m, 27 * m)])
        groups.append([blade(vec(28, -30, -560), h + vec(-24, -8, -8), (-0.8, 0.4, 0), (8, 9), (20, 20))])
        groups.append([blade(vec(34, 62, -490), h + vec(34, 24, -12), (0.2, 1, 0), (6, 6), (20, 10))])
        return groups

    def paint_muscles(self, canvas: Canvas, torso: Torso, flesh: Region) -> None:
        """Psoas, iliacus, the glutei and the thighs."""
        if not canvas.reaches(-800, -250):
            return
        for rows in self.muscles:
            for side in (rows, mirror(rows)):
                torso.paint_muscle(canvas, side, flesh, 2.0, 54.0)

    def paint_bones(self, canvas: Canvas, cortex: float, marrow: float) -> None:
        """Hip bones, sacrum and femora."""
        if not canvas.reaches(-800, -375):
            return
        head = canvas.region(self.femur, blend=5.0, reach=4.0)
        hip = canvas.region(self.wings + self.rami)
        cup = canvas.region(self.socket).outside(head, 2.2)
        x = np.abs(canvas.x)[None, None, :]
        lip = canvas.field(x - self.hip[0] - 4 + 0.45 * (canvas.z[:, None, None] - self.hip[2]) * -1)
        cup = cup.inside(lip)
        sacrum = canvas.region(self.sacrum, blend=5.0, bump=0.8, length=14.0)
        canvas.paint(hip, 40, inset=-1.4)
        canvas.paint(sacrum, 0.55 * cortex, grain=60, length=4.0)
        canvas.paint(sacrum, 0.6 * marrow, inset=1.5, grain=55, length=4.0, over=0.55 * cortex)
        self._foramina(canvas)
        for region, hard, shell in ((cup, 0.85, 2.2), (hip, 0.95, 1.7)):
            canvas.paint(region, hard * cortex, grain=50, length=4.0)
            canvas.paint(region, marrow - 10, inset=shell, grain=50, length=3.5, over=hard * cortex)
        canvas.paint(canvas.region([capsule((0, -56, -545), (0, -46, -565), 4.5)]), 90)
        canvas.paint(head, 1.2 * cortex, grain=40, length=4.0)
        canvas.paint(head, marrow + 70, inset=2.0, grain=55, length=4.0, over=1.2 * cortex)
        shaft = canvas.region(self.femur, blend=5.0).inside(canvas.field(canvas.z[:, None, None] + 585))
        canvas.paint(shaft, 1.2 * cortex)
        canvas.paint(shaft, 20, inset=5.5, grain=30, over=1.2 * cortex)

    def _foramina(self, canvas: Canvas) -> None:
        shift = self.person.spine(-430.0)[0]
        holes: Rows = []
        for (y0, z0, d0, _), (y1, z1, d1, _) in pairwise(_SACRUM[:4]):
            y, z, d = 0.5 * (y0 + y1), 0.5 * (z0 + z1), 0.5 * (d0 + d1)
            for side in (-1, 1):
                holes.append(capsule((shift + side * 21, y - d - 4, z - 5), (shift + side * 17, y + d, z), 4.6, 3.6))
        canvas.paint(canvas.region(holes), -40)
        canal = tube(
            [(shift, y + d + 1.5, z, r) for (y, z, d, _), r in zip(_SACRUM[:4], (9, 7, 5, 3), strict=True)], 10
        )
        canvas.paint(canvas.region(canal), 5)


def spine_point(centre: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
    """A point beside the spine, ``centre`` being ``(x, y)`` of the vertebral bodies there."""
    return vec(centre[0] + x, centre[1] + y, z)
