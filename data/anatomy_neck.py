"""The neck for the anatomical phantom: pharynx, larynx, thyroid gland, vessels."""

from __future__ import annotations

import numpy as np

from medrecon.data.anatomy_body import Person
from medrecon.data.anatomy_canvas import Canvas, Region, ellipsoid, plate, tube, vec

Rows = list[np.ndarray]


class Neck:
    """What lies between the chest and the head."""

    def __init__(self, person: Person) -> None:
        self.person = person
        rng = person.rng("neck")
        s = person.spine

        def before(x: float, depth: float, z: float) -> np.ndarray:
            """A point ``depth`` mm in front of the spine's middle."""
            centre = s(z)
            return vec(centre[0] + x, centre[1] - depth, z)

        self.before = before
        self.airway = tube(
            [
                (*before(0, 21, 128), 7.5),
                (*before(0, 20, 108), 7),
                (*before(0, 24, 92), 6),
                (*before(0, 30, 78), 6.5),
                (*before(0, 29, 60), 8.0),
            ],
            4,
        )
        self.hyoid = tube(
            [(*before(s_ * 22, 20, 98), 2.2) if abs(s_) == 1 else (*before(0, 44, 94), 4.5) for s_ in (-1, 0, 1)], 4
        )
        self.cartilage: Rows = []
        front_top, front_low = before(0, 49, 82), before(0, 46, 64)
        for side in (-1, 1):
            top, low = before(side * 20, 20, 84), before(side * 17, 22, 62)
            self.cartilage += [plate(front_top, top, low, 1.7), plate(front_top, front_low, low, 1.7)]
        ring = np.linspace(0, 2 * np.pi, 17)
        self.cartilage += tube([(*before(11.5 * np.sin(a), 29 + 11.5 * np.cos(a), 58), 2.4) for a in ring], 4)
        size = float(rng.uniform(0.8, 1.25))
        self.thyroid = [ellipsoid(before(side * 17, 24, 44), vec(8, 10, 20) * size) for side in (-1, 1)]
        self.thyroid += tube([(*before(-12, 34, 38), 4), (*before(0, 40, 37), 3), (*before(12, 34, 38), 4)], 5)
        self.arteries: Rows = []
        self.veins: Rows = []
        for side in (-1, 1):
            self.arteries += tube([(*before(side * 30, 10, 60), 3.5), (*before(side * 29, 10, 105), 4),
                                   (*before(side * 27, 8, 118), 4.2), (*before(side * 27, 4, 150), 2.8),
                                   (*before(side * 26, 2, 168), 2.6)])  # fmt: skip
            self.arteries += tube(
                [
                    (*before(side * 25, 20, 118), 2.5),
                    (*before(side * 34, 18, 140), 2),
                    (*before(side * 44, 10, 160), 1.6),
                ]
            )
            self.arteries += tube([(*before(side * 15, 0, 50), 1.9), (*before(side * 15, 0, 140), 1.9)])
            wide = float(rng.uniform(4.0, 7.5))
            self.veins += tube(
                [
                    (*before(side * 38, 8, 30), wide),
                    (*before(side * 39, 4, 80), wide),
                    (*before(side * 38, 2, 120), 0.85 * wide),
                    (*before(side * 33, -4, 166), 4),
                ]
            )
        spots = [
            before(float(rng.choice([-1, 1])) * rng.uniform(38, 50), rng.uniform(-12, 20), rng.uniform(20, 125))
            for _ in range(16)
        ]
        self.nodes = [ellipsoid(p, rng.uniform(2, 4.5, 3)) for p in spots]
        self.spaces = []
        for side in (-1, 1):
            self.spaces += tube(
                [(*before(side * 36, 8, 20), 12), (*before(side * 38, 6, 80), 11), (*before(side * 36, 4, 150), 9)], 10
            )
            self.spaces += tube([(*before(side * 52, -20, 20), 11), (*before(side * 46, -22, 80), 8)], 10)
        self.strap = tube([(*before(0, 46, 98), 6), (*before(0, 46, 60), 5), (*before(0, 48, 10), 6)], 10)

    def paint(self, canvas: Canvas, skin: Region) -> None:
        """Everything but the airway, before the bones."""
        if not canvas.reaches(10, 180):
            return
        inside = skin.grown(-4.0)
        canvas.paint(
            canvas.region(self.spaces, blend=6.0, bump=4.0, length=16.0).inside(inside), -88, grain=18, length=9.0
        )
        blood = self.person.contrast
        gland = canvas.region(self.thyroid, blend=4.0, bump=1.8, length=10.0)
        canvas.paint(gland, 110 + 0.4 * (blood - 45), grain=18, length=5.0)
        canvas.paint(canvas.region(self.nodes).inside(inside), 45)
        canvas.paint(canvas.region(self.veins), 45 + 0.75 * (blood - 45))
        canvas.paint(canvas.region(self.arteries), 45 + (blood - 45))

    def paint_airway(self, canvas: Canvas) -> None:
        """Larynx and pharynx, after the bones."""
        if not canvas.reaches(45, 140):
            return
        wall = canvas.region(self.airway, blend=2.0, bump=0.8, length=10.0)
        canvas.paint(wall, 48, inset=-3.0)
        old = float(np.clip((self.person.age - 25) / 50, 0, 1))
        canvas.paint(canvas.region(self.hyoid), 450, grain=80)
        canvas.paint(canvas.region(self.cartilage), 110 + 320 * old, grain=60 + 120 * old, length=5.0)
        canvas.paint(wall, -995)
