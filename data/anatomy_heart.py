"""Heart and great vessels for the anatomical phantom, and the gullet that runs among them."""

from __future__ import annotations

import numpy as np

from medrecon.data.anatomy_body import Person
from medrecon.data.anatomy_canvas import Canvas, Region, capsule, ellipsoid, rotation, smooth_path, tube, vec

Rows = list[np.ndarray]


class Heart:
    """One person's heart with the vessels of chest, neck and belly; it moves with the diaphragm (``breath``, mm)."""

    def __init__(self, person: Person, breath: float) -> None:
        self.person = person
        rng = person.rng("heart")
        self.size = float(np.clip(rng.normal(1.0, 0.07), 0.85, 1.2))
        self._chambers(rng, breath)
        self._great_arteries(rng)
        self._great_veins()
        self.gullet = self._gullet()

    def _chambers(self, rng: np.random.Generator, breath: float) -> None:
        k = self.size
        c = np.array([22.0, -36.0, -155.0]) + rng.normal(0, 3, 3)
        c[2] += breath + 46 * (k - 1)  # it rests on the diaphragm
        self.centre = c
        axes = rotation(yaw=-38 + rng.normal(0, 5), roll=28 + rng.normal(0, 5))  # long axis left, forward, down

        def at(u: float, v: float, w: float) -> np.ndarray:
            return c + np.array([u, v, w]) @ axes * k

        self.left_wall = [ellipsoid(at(18, 8, 0), (50 * k, 34 * k, 36 * k), axes)]
        self.left_pool = [ellipsoid(at(14, 8, 0), (40 * k, 22 * k, 24 * k), axes)]
        self.right_pool = [
            ellipsoid(at(6, -30, 0), (44 * k, 17 * k, 31 * k), axes),
            capsule(at(-8, -32, 16), at(-14, -26, 46), 17 * k, 14 * k),
        ]
        lines = [[at(u, -12, side * w) for u, w in ((-22, 37), (4, 36), (26, 33), (44, 28))] for side in (-1, 1)]
        self.grooves = [row for line in lines for row in tube([(*p, 4.6) for p in line], 8)]
        self.coronaries = [row for line in lines for row in tube([(*p, 1.7 - 0.25 * i) for i, p in enumerate(line)], 8)]
        self.right_atrium = [ellipsoid(c + vec(-46 * k, 4 * k, 12 * k), (24 * k, 26 * k, 34 * k))]
        self.left_atrium = [ellipsoid(c + vec(-14 * k, 40 * k, 24 * k), (34 * k, 20 * k, 24 * k))]
        self.rows = [
            *self.left_wall,
            ellipsoid(at(6, -29, 0), (49 * k, 22 * k, 37 * k), axes),
            ellipsoid(c + vec(-46 * k, 4 * k, 12 * k), (26 * k, 28 * k, 36 * k)),
            ellipsoid(c + vec(-14 * k, 40 * k, 24 * k), (36 * k, 22 * k, 26 * k)),
        ]

    def _beside(self, x: float, y: float, z: float, r: float) -> tuple[float, float, float, float]:
        """A point of a vessel beside the spine."""
        centre = self.person.spine(z)
        return float(centre[0] + x), float(centre[1] + y), z, r

    def _great_arteries(self, rng: np.random.Generator) -> None:
        c, k, beside = self.centre, self.size, self._beside
        w = float(rng.normal(1.0, 0.07) * np.interp(self.person.age, [20, 85], [0.88, 1.15]))
        a = float(rng.normal(0, 3))  # height of the arch
        self.aorta_path = [
            (*(c + np.array([-18, 4, 34]) * k), 15 * w), (-22, -34, -86, 15.5 * w), (-21, -36, -58, 15 * w),
            (-8, -31, -34 + a, 14 * w), (13, -13, -25 + a, 13.2 * w), (25, 7, -29 + a, 13 * w),
            (27, 23, -44 + a, 12.6 * w), beside(26, -14, -68, 12.5 * w),
            beside(25, -18, -110, 12 * w), beside(21, -23, -165, 11.5 * w),
            beside(12, -27, -225, 11 * w), beside(6, -27, -265, 10.5 * w), beside(4, -28, -330, 9.5 * w),
            beside(2, -28, -372, 9 * w),
        ]  # fmt: skip
        self.aorta = tube(self.aorta_path, 6.0)
        self.arteries = tube([(-10, -31, -32 + a, 6.5), (-16, -18, -6, 6.5), (-26, -12, 14, 5.5), (-30, -8, 40, 3.6),
                              (-30, -12, 62, 3.5)])  # fmt: skip
        self.arteries += tube([(4, -22, -26 + a, 5), (10, -12, 0, 4.2), (24, -6, 26, 3.6), (30, -10, 62, 3.5)])
        self.arteries += tube([(20, 0, -26 + a, 5.5), (24, 6, 0, 5), (36, -4, 16, 4.6), (58, -18, 8, 4.2)])
        self.arteries += tube([(-24, -12, 12, 4.6), (-40, -8, 18, 4.5), (-58, -18, 8, 4.2)])
        fork = (14, -28, -74, 13 * w)
        self.trunk = tube([(*(c + np.array([4, -34, 40]) * k), 15 * w), (14, -44, -96, 14.5 * w), fork])
        self.trunk += tube([fork, (-6, -10, -76, 11 * w), (-28, -2, -80, 10.5 * w), (-44, 2, -88, 8.5)])
        self.trunk += tube([fork, (28, -8, -70, 11 * w), (40, 8, -76, 10 * w), (44, 16, -90, 8)])

    def _great_veins(self) -> None:
        c, beside = self.centre, self._beside
        a = c + np.array([-14, 40, 24]) * self.size
        self.pulmonary_veins: Rows = []
        for side, x in ((-1, -50), (1, 48)):
            for dz, dy in ((24, -14), (-8, 6)):
                self.pulmonary_veins += tube([(*(a + vec(side * 20, 0, 0.3 * dz)), 8), (x, a[1] + dy, a[2] + dz, 5.5)])
        self.veins = tube([(-34, -22, 12, 6), (-34, -26, -14, 8.5), (-33, -24, -50, 10), (-36, -18, -92, 10.5),
                           (*(c + vec(-44, 2, 34)), 11)])  # fmt: skip
        self.veins += tube([(32, -26, 10, 6), (14, -36, -10, 7), (-12, -38, -20, 7.5), (-32, -28, -30, 8)])
        self.veins += tube([(34, -26, 12, 6), (38, -12, 34, 6)]) + tube([(-34, -22, 12, 6.5), (-38, -12, 34, 6.5)])
        self.cava = tube([(*(c + vec(-42, 10, -14)), 13), (-32, 0, -196, 12), (-26, 6, -240, 11.5),
                          beside(-20, -26, -290, 11), beside(-17, -25, -372, 10)])  # fmt: skip
        self.azygos = tube([beside(-8, -18, -220, 2.5), beside(-9, -19, -100, 3.6), beside(-14, -14, -66, 4.5),
                            (-24, 8, -52, 4.5), (-32, -16, -54, 4.5)])  # fmt: skip

    def _gullet(self) -> Rows:
        beside = self._beside
        return tube([beside(2, -15, 60, 6), beside(5, -21, 0, 7), beside(6, -26, -60, 7), beside(4, -27, -110, 7.5),
                     beside(10, -38, -170, 8), (24, -2, -212, 9), (34, -8, -226, 10)])  # fmt: skip

    def near_lungs(self) -> Rows:
        """The vessels that dent the lungs."""
        return [*self.trunk, *self.veins[:30], *self.aorta[:60], *self.gullet, *self.cava[:8]]

    def sac(self, canvas: Canvas) -> Region:
        """The pericardium with the fat in it."""
        sac = canvas.region(self.rows, blend=16.0, bump=1.5, length=30.0, reach=14.0)
        return sac.grown(3.0 + 0.12 * self.person.fat)

    def paint(self, canvas: Canvas, sac: Region) -> None:
        """The heart in its sac."""
        blood = self.person.contrast
        right = blood * float(self.person.rng("phase").uniform(0.75, 1.3)) if blood > 60 else blood
        if sac.empty:
            return
        canvas.paint(sac, 20, inset=0.0)
        canvas.paint(sac, -95, inset=1.4, grain=16, length=14.0, over=20)
        heart = canvas.region(self.rows, blend=9.0, bump=1.2, length=22.0)
        canvas.paint(heart, 45 + 0.28 * (blood - 45), grain=5, length=9.0)
        veins = canvas.region(self.pulmonary_veins, blend=2.0)
        canvas.paint(veins, 40, inset=-0.8)
        canvas.paint(canvas.region(self.right_pool, blend=8.0, bump=1.0), right, grain=5, length=10.0)
        canvas.paint(canvas.region(self.right_atrium, blend=4.0, bump=1.5), right, inset=2.0, grain=7, length=10.0)
        canvas.paint(canvas.region(self.left_atrium, blend=4.0, bump=1.5), blood, inset=2.0, grain=5, length=10.0)
        canvas.paint(veins, blood, inset=0.4)
        wall = canvas.region(self.left_wall, bump=0.8)
        canvas.paint(wall, 52 + 0.3 * (blood - 45), inset=1.0, grain=5)
        canvas.paint(canvas.region(self.left_pool, bump=2.0, length=14.0), blood, grain=4)
        rng = self.person.rng("coronaries")
        groove = canvas.region(self.grooves)
        canvas.paint(groove.inside(sac, 1.0), -85, opacity=0.9)
        calcified = self.person.age > 62 and rng.random() < 0.6
        canvas.paint(canvas.region(self.coronaries).inside(sac), 420 if calcified else 0.9 * blood)

    def paint_vessels(self, canvas: Canvas) -> None:
        """Great vessels, the gullet: after the organs of chest and belly, which they cross."""
        blood = self.person.contrast
        venous = 45 + (blood - 45) * float(self.person.rng("phase").uniform(0.4, 1.25))
        for rows, value in (
            (self.veins, venous), (self.azygos, venous), (self.cava, 0.9 * venous + 4),
            (self.trunk, blood * 0.95 + 2), (self.arteries, blood), (self.aorta, blood),
        ):  # fmt: skip
            region = canvas.region(rows, blend=2.0)
            canvas.paint(region, 38, inset=-0.9)
            canvas.paint(region, value, inset=0.4, grain=4, length=7.0, over=38)
        gullet = canvas.region(self.gullet, blend=1.0, bump=0.8)
        canvas.paint(gullet, 38)
        if self.person.rng("gullet").random() < 0.5:
            canvas.paint(gullet, -700, inset=5.2, opacity=0.9, over=38)
        if self.person.age > 60:
            self._calcify(canvas)

    def _calcify(self, canvas: Canvas) -> None:
        """Plaques in the wall of an old aorta."""
        rng = self.person.rng("plaque")
        path = smooth_path(self.aorta_path, 5.0)
        spots = []
        for i in rng.integers(12, len(path), int((self.person.age - 55) / 3)):
            direction = rng.standard_normal(3)
            direction[2] *= 0.3
            direction /= np.linalg.norm(direction)
            spots.append(ellipsoid(path[i, :3] + direction * path[i, 3], rng.uniform(1.2, 3.2, 3)))
        canvas.paint(canvas.region(spots), 620, opacity=0.9)
