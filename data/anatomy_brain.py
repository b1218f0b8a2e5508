"""The brain for the anatomical phantom: folded cortex, white matter, ventricles, falx, cerebellum, brainstem."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medrecon.data import anatomy_kernels as kernels
from medrecon.data.anatomy_body import Person
from medrecon.data.anatomy_canvas import Canvas, Region, blade, capsule, ellipsoid, tube

Rows = list[np.ndarray]
Place = Callable[[float, float, float], np.ndarray]


class Brain:
    """One person's brain; ``at`` places points of the upright head, ``axes`` and ``stretch`` are the head's."""

    def __init__(self, person: Person, at: Place, axes: np.ndarray, stretch: np.ndarray) -> None:
        self.person, self.axes, self.stretch = person, axes, stretch
        rng = person.rng("brain")
        old = float(np.clip((person.age - 40) / 45, 0, 1))
        self.gap = 1.2 + 2.2 * old * rng.uniform(0.5, 1.3)  # width of the fluid outside the cortex, mm
        self.sulcus = 0.55 + 0.9 * old
        self.centre = at(0, -14, 228)
        self.radii = np.array([65.0, 84.0, 64.0]) * stretch
        k = float(rng.uniform(0.8, 1.15) * (1 + 0.7 * old))

        def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
            return ellipsoid(at(*centre), np.asarray(radii) * stretch, axes)

        def pipe(points: list[tuple[float, float, float, float]]) -> Rows:
            return tube([(*at(*p[:3]), p[3]) for p in points], 5.0)

        self.ventricles: Rows = []
        self.deep: Rows = []
        self.choroid: Rows = []
        self.cerebellum: Rows = [ball((0, 36, 188), (12, 24, 18))]
        self.insula: Rows = []
        for s in (-1, 1):
            q = k * float(rng.uniform(0.9, 1.1))
            side = [(15, -50, 230, 3.5), (9, -34, 236, 4.6), (11, -8, 243, 4.8), (20, 20, 234, 5.6), (25, 38, 228, 5),
                    (22, 54, 224, 2.4)]  # fmt: skip
            self.ventricles += pipe([(s * x, y, z, r * q) for x, y, z, r in side])
            self.ventricles += pipe([(s * 25, 28, 228, 5 * q), (s * 34, 12, 212, 3 * q), (s * 32, -12, 203, 2.0 * q)])
            self.deep += [ball((s * 11, -4, 222), (8, 14, 9)), ball((s * 25, -18, 223), (6.5, 17, 11))]
            self.deep += pipe([(s * 13, -44, 226, 5.5), (s * 16, -22, 236, 4), (s * 19, 2, 240, 2.5)])
            self.choroid.append(ball((s * 24, 30, 230), (3.0, 4, 3.5)))
            self.cerebellum.append(ball((s * 24, 36, 187), (26, 26, 20)))
            self.insula += [blade(at(s * 34, -40, 214), at(s * 40, 10, 222), axes[0] * 0.9, (1.3, 1.2), (14, 7)),
                            blade(at(s * 36, -20, 216), at(s * 66, -22, 214), 0.6 * axes[2] + 0.8 * axes[1], (1.3, 2.0),
                                  (14, 17))]  # fmt: skip
        self.third = [blade(at(0, -18, 218), at(0, 8, 218), axes[0], (1.8 * k, 1.5 * k), (9, 7))]
        self.fourth = [ball((0, 17, 187), (6, 5, 10))]
        self.stem = pipe(
            [(0, 2, 212, 15), (0, -4, 202, 14), (0, -8, 190, 14), (0, 3, 174, 8.5), (0, 9, 160, 6.5), (0, 9, 140, 6)]
        )
        self.cistern = [
            ball((0, -22, 202), (13, 10, 8)),
            ball((0, 18, 206), (10, 6, 6)),
            ball((0, 34, 168), (16, 8, 6)),
        ]
        self.callosum = pipe(
            [(0, -44, 226, 4.5), (0, -46, 238, 5), (0, -20, 250, 4), (0, 14, 248, 4.5), (0, 26, 238, 5.5)]
        )
        self.falx = [blade(at(0, -90, 246), at(0, 68, 246), axes[0], (0.65, 0.65), (70, 70))]
        self.tent: Rows = []
        for s in (-1, 1):
            self.tent.append(
                blade(at(s * 6, 30, 213), at(s * 46, 34, 200), axes[2] + 0.3 * s * axes[0], (0.9, 0.9), (44, 34))
            )
        self.sinus = pipe([(0, -70, 288, 2.5), (0, -14, 294, 4), (0, 45, 274, 4.5), (0, 68, 232, 5), (0, 66, 206, 5)])
        for s in (-1, 1):
            self.sinus += pipe(
                [(0, 67, 206, 4.5), (s * 34, 52, 200, 4.5), (s * 48, 24, 190, 4.5), (s * 40, 12, 172, 4.5)]
            )
        self.pineal = [ball((0, 14, 219), (2.6, 3, 2.2))] if rng.random() < 0.6 else []
        self.arteries = pipe([(0, -14, 182, 1.9), (0, -18, 196, 1.9), (0, -20, 202, 1.6)])
        for s in (-1, 1):
            self.arteries += pipe(
                [(s * 9, -26, 184, 2.6), (s * 10, -28, 202, 2.2), (s * 26, -30, 206, 1.7), (s * 38, -24, 214, 1.4)]
            )
            self.arteries += pipe([(s * 10, -28, 202, 1.6), (s * 2, -44, 206, 1.5), (s * 2, -52, 232, 1.3)])
        self.at = at
        self.tone = rng.normal(0, 1.2, 2)

    def paint(self, canvas: Canvas, inner: Region) -> None:
        """Fill the skull: fluid first, then brain, ventricles, membranes."""
        if inner.empty or not (inner.distance < canvas.edge).any():
            return
        grey, white = 38.5 + self.tone[0], 27.5 + self.tone[1]
        canvas.paint(inner, 8, grain=2)
        small = canvas.region(self.cerebellum, blend=6.0, bump=0.8, reach=8.0).inside(inner, self.gap)
        below = canvas.region(
            [
                ellipsoid(self.at(0, 40, 182), np.array([58, 49, 23]) * self.stretch, self.axes),
                capsule(self.at(0, 6, 200), self.at(0, 6, 150), 17),
            ],
            blend=6.0, reach=30.0,
        )  # fmt: skip
        cortex = self._cortex(canvas, inner, below)
        canvas.paint(cortex, grey, grain=1.5, length=9.0)
        canvas.paint(cortex, white, inset=2.9, grain=1.5, length=9.0, over=grey)
        canvas.paint(canvas.region(self.callosum), white)
        canvas.paint(canvas.region(self.deep, blend=2.0).inside(inner, 4.0), grey - 1)
        canvas.paint(canvas.region(self.cistern, blend=5.0), 7)
        canvas.paint(small, grey + 1, grain=5, length=3.0)
        canvas.paint(small, white + 4, inset=9.0, grain=4, length=4.0, over=grey + 1)
        canvas.paint(canvas.region(self.stem, blend=3.0), white + 2, grain=1.5)
        fluid = canvas.region(self.ventricles, blend=3.0)
        canvas.paint(fluid, 6)
        canvas.paint(canvas.region(self.third + self.fourth), 6)
        canvas.paint(canvas.region(self.choroid), 140 if self.person.age > 40 else 45)
        canvas.paint(canvas.region(self.pineal), 170)
        blood = self.person.contrast
        membrane = (
            canvas.region(self.falx + self.tent)
            .inside(inner, 0.0)
            .outside(canvas.region(self.callosum, reach=8.0), 4.0)
        )
        membrane = membrane.outside(canvas.region(self.stem, reach=8.0), 3.0).outside(
            canvas.region(self.deep, reach=8.0), 6.0
        )
        canvas.paint(membrane, 60 + 0.15 * (blood - 45), thin=0.7)
        canvas.paint(canvas.region(self.sinus).inside(inner, -1.5), 58 + 0.8 * (blood - 45))
        canvas.paint(canvas.region(self.arteries), 45 + 0.95 * (blood - 45))

    def _cortex(self, canvas: Canvas, inner: Region, below: Region) -> Region:
        """Both hemispheres: the skull's inside less fluid, the fold between them, sulci and the hind brain's room."""
        folds = np.empty(inner.distance.shape, dtype=np.float32)
        axes = canvas.z[inner.box[0]], canvas.y[inner.box[1]], canvas.x[inner.box[2]]
        kernels.folds(folds, *axes, self.axes, self.centre, self.radii, canvas.noise, 17.0, self.sulcus)
        depth = np.float32(15.5) + 6 * canvas.noise_field(inner.box, 24.0)
        sulci = np.maximum(folds, -inner.distance - depth)
        cleft = (
            canvas.region(
                [blade(self.at(0, -96, 252), self.at(0, 74, 240), self.axes[0], (1.0 + self.sulcus,) * 2, (78, 70))],
                reach=8.0,
            )
            .outside(canvas.region(self.callosum, reach=12.0), 5.0)
            .outside(canvas.region(self.deep, reach=14.0), 9.0)
        )
        cortex = inner.grown(-self.gap).outside(Region(inner.box, sulci)).outside(cleft)
        return cortex.outside(canvas.region(self.insula, blend=2.0, reach=8.0)).outside(below, 1.5)
