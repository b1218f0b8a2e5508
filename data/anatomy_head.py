"""The head for the anatomical phantom: skull, face, sinuses, teeth, eyes; its own pose relative to the trunk."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from medrecon.data.anatomy_body import Person
from medrecon.data.anatomy_brain import Brain
from medrecon.data.anatomy_canvas import Canvas, Region, blade, capsule, ellipsoid, plate, rotation, smooth_path, tube

Rows = list[np.ndarray]
PIVOT = np.array([0.0, -2.0, 158.0])
"""Where the head nods: the joint between atlas and skull, canonical mm."""


class Frame:
    """Places solids given in the frame of an upright head into the canonical frame: size, shape and pose."""

    def __init__(self, person: Person) -> None:
        rng = person.rng("head")
        size = rng.normal(1.0, 0.025) / np.asarray(person.scale[::-1]) ** 0.7  # heads vary less than bodies
        long = rng.normal(0, 0.035)
        self.stretch = size * np.array([1 - long, 1 + long, 1 + rng.normal(0, 0.02)])
        pitch, roll, yaw = rng.normal(2, 6), rng.normal(0, 2), rng.normal(0, 3)
        self.axes = rotation(pitch=float(np.clip(pitch, -14, 14)), roll=float(roll), yaw=float(yaw))

    def at(self, x: float, y: float, z: float) -> np.ndarray:
        """A point."""
        return PIVOT + ((np.array([x, y, z]) - PIVOT) * self.stretch) @ self.axes

    def turn(self, x: float, y: float, z: float) -> np.ndarray:
        """A direction."""
        return np.array([x, y, z]) @ self.axes

    def ball(self, centre: tuple[float, float, float], radii: tuple[float, float, float], yaw: float = 0.0,
             pitch: float = 0.0) -> np.ndarray:  # fmt: skip
        """An ellipsoid."""
        axes = rotation(yaw=yaw, pitch=pitch) @ self.axes
        return ellipsoid(self.at(*centre), np.asarray(radii) * self.stretch, axes)

    def rod(
        self, a: tuple[float, float, float], b: tuple[float, float, float], ra: float, rb: float | None = None
    ) -> np.ndarray:
        """A capsule."""
        return capsule(self.at(*a), self.at(*b), ra, rb)

    def strip(self, a: tuple[float, float, float], b: tuple[float, float, float], normal: tuple[float, float, float],
              thin: tuple[float, float], wide: tuple[float, float]) -> np.ndarray:  # fmt: skip
        """A tube of elliptic section."""
        return blade(self.at(*a), self.at(*b), self.turn(*normal), thin, wide)

    def pipe(self, points: list[tuple[float, float, float, float]], step: float = 6.0) -> Rows:
        """A tube through ``(x, y, z, radius)``."""
        return tube([(*self.at(*p[:3]), p[3]) for p in points], step)

    def sheet(self, corners: list[tuple[float, float, float]], thickness: float) -> Rows:
        """A fan of plates around the first corner."""
        p = [self.at(*c) for c in corners]
        return [plate(p[0], a, b, thickness) for a, b in pairwise(p[1:])]


class Head:
    """One person's head."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.frame = Frame(person)
        rng = person.rng("skull")
        self.thick = float(np.clip(rng.normal(6.2, 0.9), 4.5, 8.5))
        self.cavity = self._cavity()
        self.brain = Brain(person, self.frame.at, self.frame.axes, self.frame.stretch)
        self._base(rng)
        self._face(rng)
        self._jaw(rng)
        self._hollows(rng)
        self._eyes()
        self._soft()

    # -- anatomy, all in the frame of an upright head -----------------------------------------------------

    def _cavity(self) -> Rows:
        f = self.frame
        rows = [
            f.ball((0, -14, 234), (65, 84, 61)),
            f.ball((0, 26, 194), (48, 40, 30)),
            f.ball((0, -60, 222), (46, 34, 26)),
        ]
        rows += [f.ball((s * 38, -24, 198), (24, 29, 20)) for s in (-1, 1)]
        return rows

    def flesh(self) -> Rows:
        """Outer shape without skin and fat, to be joined with that of the neck."""
        f, grow = self.frame, self.thick + 4.0
        rows = [
            f.ball((0, -14, 234), (65 + grow, 84 + grow, 61 + grow)),
            f.ball((0, 26, 196), (52 + grow, 42 + grow, 32 + grow)),
        ]
        rows += [f.ball((0, -58, 222), (48 + grow, 36 + grow, 30 + grow)), f.ball((0, -52, 168), (56, 46, 46))]
        rows += [
            f.rod((0, -104, 196), (0, -116, 168), 6, 10),
            f.ball((0, -84, 128), (26, 20, 26)),
            f.ball((0, -82, 98), (22, 20, 16)),
        ]
        for s in (-1, 1):
            rows += [
                f.rod((s * 46, -18, 116), (s * 18, -80, 100), 17, 16),
                f.rod((s * 50, -12, 160), (s * 46, -18, 116), 18, 17),
            ]
            rows += [f.ball((s * 42, -66, 168), (22, 24, 22)), f.rod((s * 8, -108, 160), (s * 10, -104, 160), 7)]
            rows += [f.ball((s * 60, -20, 190), (16, 30, 34)), f.ball((s * 32, -78, 190), (16, 14, 14))]
        return rows

    def ears(self) -> Rows:
        """Auricles."""
        f = self.frame
        return [f.ball((s * 78, 10, 180), (4, 15, 29), yaw=s * 22) for s in (-1, 1)]

    def _base(self, rng: np.random.Generator) -> None:
        f = self.frame
        self.sphenoid = [f.ball((0, -26, 181), (18, 20, 13)), f.rod((0, -14, 183), (0, -8, 168), 8, 7)]
        self.petrous, self.mastoid = [], []
        for s in (-1, 1):
            self.petrous.append(f.rod((s * 50, 6, 176), (s * 14, -14, 179), 11, 7))
            self.mastoid.append(f.ball((s * 55, 15, 166), (12, 16, 21)))
            self.sphenoid += [f.strip((s * 14, -38, 172), (s * 15, -37, 148), (1, 0.2, 0), (1.6, 1.3), (8, 6))]
            self.sphenoid += [
                f.ball((s * 18, 2, 161), (7, 12, 6)),
                f.rod((s * 46, -2, 160), (s * 40, -16, 138), 2.2, 1.2),
            ]
        self.air_cells = float(rng.uniform(-0.2, 0.35))

    def _face(self, rng: np.random.Generator) -> None:
        f = self.frame
        rows: Rows = []
        rows += f.sheet(
            [(0, -101, 201), (5, -99, 199), (9, -106, 180), (0, -115, 182), (-9, -106, 180), (-5, -99, 199)], 1.3
        )
        for s in (-1, 1):
            rows += f.pipe(
                [
                    (s * 42, -84, 172, 6),
                    (s * 54, -72, 169, 6),
                    (s * 64, -50, 168, 4),
                    (s * 67, -26, 169, 3.4),
                    (s * 62, -8, 172, 4.5),
                ]
            )
            rows += f.pipe(
                [
                    (s * 48, -76, 176, 5),
                    (s * 49, -76, 192, 4.5),
                    (s * 45, -80, 206, 5),
                    (s * 30, -92, 209, 4.5),
                    (s * 14, -97, 205, 4.5),
                ]
            )
            rows += f.pipe(
                [(s * 42, -86, 172, 4), (s * 30, -92, 173, 3), (s * 17, -95, 180, 3.5), (s * 14, -97, 200, 4)]
            )
            rows += f.pipe([(s * 14, -94, 178, 3), (s * 13, -93, 160, 3.2), (s * 16, -92, 146, 4.5)])
            rows += f.pipe([(s * 40, -78, 166, 4.5), (s * 33, -72, 150, 4.5)])
            rows += f.sheet(
                [(s * 47, -74, 190), (s * 45, -74, 176), (s * 38, -46, 184), (s * 40, -46, 200), (s * 46, -74, 205)],
                1.5,
            )
        arch = self.arch(28, 46, 140, 0.0)
        rows += [blade(a, b, f.turn(0, 0, 1), (7.5, 7.5), (5.5, 5.5)) for a, b in pairwise(arch)]
        rows += [f.ball((0, -66, 147), (25, 28, 2.0))]
        rows += f.sheet([(0, -96, 148), (0, -40, 150), (0, -36, 172), (0, -60, 190), (0, -92, 186)], 0.8)
        self.face = rows

    def arch(self, half: float, deep: float, z: float, shift: float) -> np.ndarray:
        """The curve of a row of teeth, ``(n, 3)``, from one side to the other."""
        t = np.linspace(-1, 1, 31)
        x = half * np.sign(t) * np.abs(t) ** 0.75
        y = -92 + shift + deep * t**2 * np.abs(t) ** 0.3
        return np.array([self.frame.at(float(a), float(b), z) for a, b in zip(x, y, strict=True)])

    def _jaw(self, rng: np.random.Generator) -> None:
        f = self.frame
        low = self.arch(31, 52, 104, 4.0)
        self.jaw = [blade(a, b, f.turn(0, 0, 1), (13, 13), (5.5, 5.5)) for a, b in pairwise(low)]
        for s in (-1, 1):
            self.jaw += f.pipe([(s * 32, -44, 103, 7), (s * 41, -28, 106, 6.5), (s * 46, -16, 116, 5),
                                (s * 50, -10, 140, 4.5), (s * 52, -8, 158, 4.5), (s * 52, -8, 166, 6)])  # fmt: skip
            self.jaw += f.sheet(
                [(s * 46, -16, 114), (s * 42, -36, 112), (s * 46, -40, 160), (s * 50, -20, 152), (s * 51, -8, 160)], 2.6
            )
        self.teeth: list[Rows] = []
        missing = float(np.interp(self.person.age, [25, 85], [0.01, 0.35]))
        self.fillings: Rows = []
        for half, deep, root, crown, shift in ((27, 46, 137, 127.5, 0.0), (27, 46, 112, 122.0, 2.0)):
            curve = self.arch(half, deep, crown, shift)
            roots = self.arch(half, deep, root, shift + 0.5)
            path = smooth_path(curve, 0.8)
            along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
            below = smooth_path(roots, 0.8)[: len(path)]
            for place in np.linspace(0.03, 0.97, 14):
                i = int(np.clip(np.searchsorted(along, place * along[-1]), 0, len(below) - 1))
                if rng.random() < missing:
                    continue
                molar = abs(place - 0.5) > 0.22
                top, tip = path[i], below[i]
                size = 4.4 if molar else 3.3
                self.teeth.append(
                    [
                        capsule(top, 0.6 * top + 0.4 * tip, size, size),
                        capsule(0.6 * top + 0.4 * tip, tip, size * 0.75, 1.8),
                    ]
                )
                if molar and rng.random() < 0.12:
                    self.fillings.append(ellipsoid(top, (2.4, 2.4, 2.0)))

    def _hollows(self, rng: np.random.Generator) -> None:
        f = self.frame
        size = rng.uniform(0.75, 1.15, 6)
        self.sinuses: list[tuple[Rows, bool]] = []
        for i, s in enumerate((-1, 1)):
            k = size[i]
            self.sinuses.append(
                ([f.ball((s * 28, -68, 164), (12.5 * k, 17 * k, 15 * k), yaw=s * 12)], rng.random() < 0.12)
            )
            k = size[2 + i]
            cells = [f.ball((s * (7 + 1.0 * (j % 2)), -84 + 9.5 * j, 190), (4.8, 4.9, 9 * k)) for j in range(5)]
            self.sinuses.append((cells, rng.random() < 0.1))
            self.sinuses.append(([f.ball((s * 9, -35, 181), (7.5 * k, 11, 9 * k))], False))
            if size[4] > 0.82:
                k = size[4 + i] - 0.1
                self.sinuses.append(([f.ball((s * 13, -96, 217), (13 * k, 5.5 * k, 13 * k), pitch=12)], False))
        self.nose: Rows = []
        self.turbinates: Rows = []
        for s in (-1, 1):
            self.nose += [f.strip((s * 7, -94, 160), (s * 8, -42, 160), (1, 0, 0), (5.0, 6.5), (13, 13)),
                          f.strip((s * 4.5, -90, 178), (s * 4.5, -48, 180), (1, 0, 0), (2.2, 2.2), (13, 12)),
                          f.rod((s * 7, -96, 156), (s * 8, -112, 152), 4.5, 4.0)]  # fmt: skip
            self.turbinates.append(f.strip((s * 9, -88, 155), (s * 9.5, -46, 155), (1, 0, 0), (3.4, 4.2), (8.5, 7)))
            self.turbinates.append(f.strip((s * 8, -78, 169), (s * 8, -46, 170), (1, 0, 0), (2.6, 3.0), (5, 6)))
        self.throat = f.pipe([(0, -42, 160, 8), (0, -32, 156, 7.5), (0, -27, 138, 7), (0, -27, 126, 7)])
        self.throat += [f.strip((-9, -34, 157), (9, -34, 157), (0, 1, 0.3), (5.5, 5.5), (10, 10))]
        self.mouth = [f.strip((0, -84, 128), (0, -44, 134), (0, 0, 1), (1.6, 2.0), (16, 18))]
        self.ear_air = []
        for s in (-1, 1):
            self.ear_air += f.pipe([(s * 82, 6, 176, 4), (s * 66, 3, 174, 3.4), (s * 52, 0, 174, 3.4)])
            self.ear_air.append(f.ball((s * 47, -1, 175), (3.5, 6, 6)))

    def _eyes(self) -> None:
        f = self.frame
        self.orbits, self.globes, self.lenses, self.nerves, self.recti = [], [], [], [], []
        for s in (-1, 1):
            self.orbits += [
                f.ball((s * 32, -72, 190), (17.5, 22, 17)),
                f.rod((s * 28, -62, 190), (s * 13, -40, 190), 13, 3),
            ]
            self.globes.append(f.ball((s * 33, -82, 190), (12, 12.2, 12)))
            self.lenses.append(f.ball((s * 33, -90.5, 190), (4.4, 2.2, 4.4)))
            self.nerves += f.pipe(
                [(s * 33, -70, 190, 2.4), (s * 24, -54, 191, 2.1), (s * 13, -38, 190, 2.2), (s * 4, -28, 194, 2.2)]
            )
            for dx, dz in ((10, 0), (-9, 0), (0, 9), (0, -9)):
                self.recti.append(
                    f.strip(
                        (s * 33 + s * dx, -76, 190 + dz),
                        (s * 15, -42, 190 + 0.2 * dz),
                        (dx, 0, dz),
                        (1.7, 1.4),
                        (4.2, 2),
                    )
                )

    def _soft(self) -> None:
        f, m = self.frame, self.person.muscle**0.5
        self.muscles: Rows = []
        for s in (-1, 1):
            self.muscles += [
                f.strip((s * 62, -42, 164), (s * 54, -22, 110), (1, -0.4, 0), (7 * m, 8 * m), (17, 16)),
                f.strip((s * 67, -30, 222), (s * 54, -40, 168), (1, 0, 0), (4 * m, 8 * m), (36, 12)),
                f.strip((s * 18, -38, 164), (s * 41, -20, 116), (1, -0.3, 0), (6 * m, 6 * m), (11, 12)),
                f.strip((s * 20, -42, 172), (s * 48, -12, 164), (0, 0.3, 1), (6 * m, 5 * m), (9, 6)),
                f.strip((s * 15, 48, 168), (s * 15, 42, 112), (0.25 * s, 1, 0), (9 * m, 9 * m), (13, 14)),
                f.strip((s * 30, 46, 172), (s * 26, 50, 112), (0.75 * s, 1, 0), (3.5 * m, 4.5 * m), (19, 20)),
                f.strip((s * 24, 28, 163), (s * 20, 26, 132), (0.3 * s, 1, 0), (6 * m, 6 * m), (12, 9)),
                f.rod((s * 16, -70, 104), (s * 30, 4, 152), 4, 4),
            ]  # fmt: skip
        self.tongue = [f.ball((0, -62, 120), (21, 27, 19)), f.ball((0, -48, 112), (19, 18, 20))]
        self.glands = [f.ball((s * 57, 2, 138), (9, 15, 25)) for s in (-1, 1)]
        self.glands += [f.ball((s * 30, -42, 96), (9, 15, 10)) for s in (-1, 1)]
        self.cheek = [f.ball((s * 44, -58, 148), (10, 19, 26)) for s in (-1, 1)] + [
            f.ball((s * 26, -30, 148), (6, 10, 20)) for s in (-1, 1)
        ]
        self.foramen = [f.rod((0, 10, 150), (0, 10, 182), 14.5)]

    # -- painting -----------------------------------------------------------------------------------------

    def paint(self, canvas: Canvas, skin: Region, flesh: Region, cortex: float) -> None:
        """Draw the head inside its skin."""
        if not canvas.reaches(80, 340):
            return
        self._paint_soft(canvas, skin, flesh)
        inner = canvas.region(self.cavity, blend=22.0, bump=1.0, length=40.0, reach=14.0)
        if not inner.empty:
            inner = inner.outside(canvas.region(self.petrous + self.sphenoid, reach=8.0), 0.0, blend=4.0)
        self._paint_skull(canvas, inner, cortex)
        self._paint_face(canvas, skin, cortex)
        self._paint_orbits(canvas, inner, cortex)
        self.brain.paint(canvas, inner)
        self._paint_air(canvas, skin, inner)
        self._paint_jaw(canvas, cortex)

    def _paint_soft(self, canvas: Canvas, skin: Region, flesh: Region) -> None:
        inside = flesh.grown(-1.0)
        canvas.paint(canvas.region(self.cheek, bump=3.0, length=16.0).inside(inside), -95, grain=15)
        muscle = canvas.region(self.muscles, bump=0.8, reach=4.0)
        canvas.paint(muscle.grown(2.0).inside(inside), -85, grain=15, opacity=0.9)
        canvas.paint(muscle.inside(inside), 56, grain=7)
        canvas.paint(canvas.region(self.glands, bump=2.0, length=11.0).inside(inside), 5, grain=22, length=5.0)
        tongue = canvas.region(self.tongue, blend=8.0)
        canvas.paint(tongue.grown(1.5), -40, grain=20, opacity=0.7)
        canvas.paint(tongue, 50, grain=22, length=6.0)

    def _paint_skull(self, canvas: Canvas, inner: Region, cortex: float) -> None:
        outer = canvas.disturbed(inner.grown(self.thick), 1.5, 42.0)
        canvas.paint(outer, 1.25 * cortex, grain=40, length=5.0)  # solid: the brain is cut out of it
        diploe = outer.grown(-1.9).outside(inner, 1.7)
        canvas.paint(diploe, 0.5 * cortex, grain=130, length=4.0, over=1.25 * cortex)
        base = canvas.region(self.sphenoid, blend=3.0)
        canvas.paint(base, cortex, grain=50)
        canvas.paint(base, 330, inset=1.7, grain=90, length=4.0, over=cortex)
        canvas.paint(canvas.region(self.petrous), 1.45 * cortex, grain=180, length=4.0)
        mastoid = canvas.region(self.mastoid, blend=3.0)
        canvas.paint(mastoid, cortex)
        cells = Region(
            mastoid.box,
            np.maximum(mastoid.distance + 2.0, -canvas.noise_field(mastoid.box, 5.0) * 4.0 - self.air_cells * 8),
        )
        canvas.paint(cells, -800)
        canvas.paint(canvas.region(self.foramen), 20)

    def _paint_face(self, canvas: Canvas, skin: Region, cortex: float) -> None:
        face = canvas.region(self.face).inside(skin, 2.5)
        canvas.paint(face, 0.95 * cortex, grain=60)
        canvas.paint(face, 380, inset=1.9, grain=90, length=3.5, over=0.95 * cortex)
        for rows, _ in self.sinuses:
            canvas.paint(
                canvas.region(rows, blend=1.0, bump=1.5, length=10.0, reach=3.0).inside(skin, 5.0),
                0.8 * cortex,
                inset=-1.4,
            )

    def _paint_orbits(self, canvas: Canvas, inner: Region, cortex: float) -> None:
        orbit = canvas.region(self.orbits, blend=6.0, reach=4.0)
        back = canvas.region([self.frame.ball((0, -40, 190), (70, 42, 40))], reach=60.0)
        canvas.paint(orbit.grown(1.9).inside(back, -2.0), 0.95 * cortex)
        canvas.paint(orbit, -92, grain=12, length=7.0)
        canvas.paint(canvas.region(self.recti), 48)
        canvas.paint(canvas.region(self.nerves), 32)
        globe = canvas.region(self.globes)
        canvas.paint(globe, 55, inset=-0.4)
        canvas.paint(globe, 8, inset=1.3, over=55)
        canvas.paint(canvas.region(self.lenses), 85)

    def _paint_air(self, canvas: Canvas, skin: Region, inner: Region) -> None:
        for rows, filled in self.sinuses:
            room = canvas.region(rows, blend=1.0, bump=1.5, length=10.0).outside(inner, 2.0)
            canvas.paint(room, 30)
            canvas.paint(room, 18 if filled else -995, inset=0.8, over=30)
        nose = canvas.region(self.nose, blend=3.0)
        canvas.paint(nose, 35, inset=-1.5)
        canvas.paint(nose, -995, over=35)
        canvas.paint(canvas.region(self.turbinates, bump=0.8, length=8.0), 40)
        septum = self.frame.sheet([(0, -108, 152), (0, -40, 150), (0, -40, 186), (0, -92, 190)], 1.2)
        canvas.paint(canvas.region(septum), 200)
        throat = canvas.region(self.throat, blend=3.0, bump=1.0)
        canvas.paint(throat, 45, inset=-2.5)
        canvas.paint(throat, -995, over=45)
        canvas.paint(canvas.region(self.mouth), -600, opacity=0.8)
        ears = canvas.region(self.ear_air, blend=1.0)
        canvas.paint(ears, -960)
        loops = [self.frame.ball((s * 36, -2, 177), (2.2, 2.2, 2.2)) for s in (-1, 1)]
        loops += [self.frame.rod((s * 22, 0, 178), (s * 32, 2, 178), 2.2) for s in (-1, 1)]
        canvas.paint(canvas.region(loops), 20)

    def _paint_jaw(self, canvas: Canvas, cortex: float) -> None:
        jaw = canvas.region(self.jaw)
        canvas.paint(jaw, 1.25 * cortex, grain=40)
        canvas.paint(jaw, 260, inset=2.1, grain=90, length=4.0, over=1.25 * cortex)
        for tooth in self.teeth:
            region = canvas.region(tooth)
            canvas.paint(region, 1500)
        crowns = [tooth[0] for tooth in self.teeth]
        canvas.paint(canvas.region(crowns), 1900)
        canvas.paint(canvas.region(self.fillings), 2400)
