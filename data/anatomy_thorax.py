"""Organs of the chest for the anatomical phantom: lungs with their trees, airways, heart and great vessels."""

from __future__ import annotations

import numpy as np

from medrecon.data import anatomy_kernels as kernels
from medrecon.data.anatomy_body import Person
from medrecon.data.anatomy_canvas import Canvas, Region, vec, blade, capsule, ellipsoid, mirror, rotation, smooth_path, tube
from medrecon.data.anatomy_torso import Torso
from medrecon.data.anatomy_trees import grow, segments, shifted

Rows = list[np.ndarray]


class Thorax:
    """The chest of one person. ``paint`` draws it on a canvas, in the order in which organs cover each other."""

    def __init__(self, person: Person, torso: Torso) -> None:
        self.person, self.torso = person, torso
        rng = person.rng("thorax")
        self.breath = float(rng.normal(0, 9))  # height of the diaphragm, mm
        self.dome = np.array([(-64, -14, -186 + self.breath), (62, -12, -200 + self.breath)]) + rng.normal(0, 4, (2, 3))
        self.heart_size = float(np.clip(rng.normal(1.0, 0.07), 0.85, 1.2))
        self.lung_level = float(np.clip(rng.normal(-850, 25), -905, -790))
        self._heart(rng)
        self._vessels(rng)
        self.mediastinum = self._mediastinum()
        self._trees()

    # -- anatomy -----------------------------------------------------------------------------------------

    def _heart(self, rng: np.random.Generator) -> None:
        k = self.heart_size
        c = np.array([22.0, -36.0, -150.0]) + rng.normal(0, 3, 3)
        c[2] += 0.6 * self.breath
        self.heart_centre = c
        axes = rotation(yaw=-38 + rng.normal(0, 5), roll=28 + rng.normal(0, 5))  # long axis left, forward, down

        def at(u: float, v: float, w: float) -> np.ndarray:
            return c + np.array([u, v, w]) @ axes * k

        self.muscle_left = [ellipsoid(at(18, 8, 0), (50 * k, 34 * k, 36 * k), axes)]
        self.pool_left = [ellipsoid(at(14, 8, 0), (40 * k, 22 * k, 24 * k), axes)]
        self.pool_right = [
            ellipsoid(at(6, -30, 0), (44 * k, 17 * k, 31 * k), axes),
            capsule(at(-8, -32, 16), at(-14, -26, 46), 17 * k, 14 * k),
        ]
        lines = [[at(u, -12, side * w) for u, w in ((-22, 37), (4, 36), (26, 33), (44, 28))] for side in (-1, 1)]
        self.grooves = [row for line in lines for row in tube([(*p, 4.6) for p in line], 8)]
        self.coronaries = [row for line in lines for row in tube([(*p, 1.7 - 0.25 * i) for i, p in enumerate(line)], 8)]
        self.atrium_right = [ellipsoid(c + vec(-46 * k, 4 * k, 12 * k), (24 * k, 26 * k, 34 * k))]
        self.atrium_left = [ellipsoid(c + vec(-14 * k, 40 * k, 24 * k), (34 * k, 20 * k, 24 * k))]
        self.heart_rows = (
            self.muscle_left
            + [ellipsoid(at(6, -29, 0), (49 * k, 22 * k, 37 * k), axes)]
            + [ellipsoid(c + vec(-46 * k, 4 * k, 12 * k), (26 * k, 28 * k, 36 * k))]
            + [ellipsoid(c + vec(-14 * k, 40 * k, 24 * k), (36 * k, 22 * k, 26 * k))]
        )

    def _vessels(self, rng: np.random.Generator) -> None:
        c, k = self.heart_centre, self.heart_size
        wide = float(rng.normal(1.0, 0.07) * np.interp(self.person.age, [20, 85], [0.88, 1.15]))
        arch = rng.normal(0, 3)
        root = c + np.array([-18, 4, 34]) * k
        spine = self.person.spine

        def beside(x: float, y: float, z: float, r: float) -> tuple[float, float, float, float]:
            s = spine(z)
            return float(s[0] + x), float(s[1] + y), z, r

        self.aorta = [
            (*root, 15 * wide), (-22, -34, -86, 15.5 * wide), (-21, -36, -58, 15 * wide), (-8, -31, -34 + arch, 14 * wide),
            (13, -13, -25 + arch, 13.2 * wide), (25, 7, -29 + arch, 13 * wide), (27, 23, -44 + arch, 12.6 * wide), beside(26, -14, -68, 12.5 * wide),
            beside(25, -18, -110, 12 * wide), beside(21, -23, -165, 11.5 * wide), beside(12, -27, -225, 11 * wide),
            beside(6, -27, -265, 10.5 * wide), beside(4, -28, -330, 9.5 * wide), beside(2, -28, -372, 9 * wide),
        ]  # fmt: skip
        self.aorta_rows = tube(self.aorta, 6.0)
        branches = tube(
            [
                (-10, -31, -32 + arch, 6.5),
                (-16, -18, -6, 6.5),
                (-26, -12, 14, 5.5),
                (-30, -8, 40, 3.6),
                (-32, -10, 110, 3.4),
            ]
        )
        branches += tube(
            [(4, -22, -26 + arch, 5), (10, -12, 0, 4.2), (24, -6, 26, 3.6), (30, -8, 60, 3.5), (32, -10, 110, 3.4)]
        )
        branches += tube([(20, 0, -26 + arch, 5.5), (24, 6, 0, 5), (36, -4, 16, 4.6), (58, -18, 8, 4.2)])
        branches += tube([(-24, -12, 12, 4.6), (-40, -8, 18, 4.5), (-58, -18, 8, 4.2)])
        self.arteries = branches
        self.trunk = tube(
            [(*(c + np.array([4, -34, 40]) * k), 15 * wide), (14, -44, -96, 14.5 * wide), (14, -28, -74, 14 * wide)]
        )
        self.trunk += tube(
            [(14, -28, -74, 13 * wide), (-6, -10, -76, 11 * wide), (-28, -2, -80, 10.5 * wide), (-44, 2, -88, 8.5)]
        )
        self.trunk += tube(
            [(14, -28, -74, 13 * wide), (28, -8, -70, 11 * wide), (40, 8, -76, 10 * wide), (44, 16, -90, 8)]
        )
        a = c + np.array([-14, 40, 24]) * k
        self.pulmonary_veins = []
        for side, x in ((-1, -50), (1, 48)):
            for dz, dy in ((24, -14), (-8, 6)):
                self.pulmonary_veins += tube([(*(a + vec(side * 20, 0, 0.3 * dz)), 8), (x, a[1] + dy, a[2] + dz, 5.5)])
        self.veins = tube(
            [
                (-34, -22, 12, 6),
                (-34, -26, -14, 8.5),
                (-33, -24, -50, 10),
                (-36, -18, -92, 10.5),
                (*(c + np.array([-44, 2, 34])), 11),
            ]
        )
        self.veins += tube([(32, -26, 10, 6), (14, -36, -10, 7), (-12, -38, -20, 7.5), (-32, -28, -30, 8)])
        self.veins += tube([(34, -26, 12, 6), (40, -20, 50, 5.5), (42, -12, 110, 5.5)]) + tube(
            [(-34, -22, 12, 6.5), (-42, -18, 50, 6.5), (-43, -12, 110, 6)]
        )
        self.cava = tube(
            [
                (*(c + np.array([-42, 10, -14])), 13),
                (-32, 0, -196, 12),
                (-26, 6, -240, 11.5),
                beside(-20, -26, -290, 11),
                beside(-17, -25, -372, 10),
            ]
        )
        self.azygos = tube(
            [
                beside(-8, -18, -220, 2.5),
                beside(-9, -19, -100, 3.6),
                beside(-14, -14, -66, 4.5),
                (-24, 8, -52, 4.5),
                (-32, -16, -54, 4.5),
            ]
        )
        front = self.person.spine
        self.gullet = tube([(2, front(60.0)[1] - 15, 60, 6), (5, front(0.0)[1] - 21, 0, 7), (6, front(-60.0)[1] - 26, -60, 7),
                            (4, front(-110.0)[1] - 27, -110, 7.5), (10, front(-170.0)[1] - 38, -170, 8), (24, -2, -212, 9), (34, -8, -226, 10)])  # fmt: skip
        ty = front(20.0)[1]
        self.trachea = [
            (0, ty - 40, 70, 8.5),
            (0, ty - 34, 30, 8.6),
            (1, front(-15.0)[1] - 36, -15, 8.8),
            (-2, front(-45.0)[1] - 34, -50, 9.2),
        ]
        self.carina = np.array([-3.0, float(front(-60.0)[1] - 32), -62.0])
        right, left = np.array([-34.0, 8.0, -88.0]), np.array([37.0, 12.0, -94.0])
        self.hilum = {-1: right, 1: left}
        middle = 0.5 * (self.carina + left) + vec(2, 0, 4)
        self.bronchi = {
            -1: smooth_path(
                [(*self.carina, 8.0), (*(0.5 * (self.carina + right) + vec(-1, 0, 2)), 7.2), (*right, 6.4)], 5
            ),
            1: smooth_path([(*self.carina, 7.6), (*middle, 6.4), (*left, 5.6)], 5),
        }

    def _mediastinum(self) -> Rows:
        """What the lungs leave free, without the heart: vessels, airways, spine and the fat between them."""
        rows = [
            row.copy() for row in (*self.trunk, *self.veins[:30], *self.aorta_rows[:60], *self.gullet, *self.cava[:8])
        ]
        rows += tube([(*p[:3], p[3] + 5) for p in self.trachea])
        for side in (-1, 1):
            rows += tube([(*p[:3], p[3] + 3) for p in self.bronchi[side][::2]])
        rows += [ellipsoid((0, -18, -20), (40, 30, 48)), ellipsoid((2, -48, -62), (24, 30, 46))]
        front = self.torso.skeleton.sternum_front
        rows += tube([(0, front(z) + 4, z, 9.0) for z in (0, -30, -60, -95, -130, -165, -195)], 12)
        rows += tube(
            [
                (*(self.person.spine(z) + vec(0, 3)), z, 17.5 + 0.02 * max(-z, 0))
                for z in (40, 0, -60, -120, -180, -240, -310)
            ],
            14,
        )
        heights = (40, -20, -80, -150, -200, -240, -310)
        behind = [vec(*(self.person.spine(z) + vec(0, 36)), z) for z in heights]
        wide = np.interp(np.negative(heights), [-40, 120, 190, 240], [17, 19, 36, 50])
        rows += [
            blade(behind[i], behind[i + 1], (0, 1, 0), (24, 26), (wide[i], wide[i + 1])) for i in range(len(behind) - 1)
        ]
        return rows

    def _floor(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Height of the diaphragm over (y, x), mm."""
        domes = []
        for (cx, cy, top), side in zip(self.dome, (-1, 1), strict=True):
            u = ((x - cx) / np.where(side * (x - cx) > 0, 74.0, 88.0)) ** 2
            v = ((y - cy) / np.where(y > cy, 92.0, 104.0)) ** 2
            drop = sum(
                depth * q**1.25 / (1 + 0.25 * q) for depth, q in ((92, u), (102, v * (y > cy)), (26, v * (y <= cy)))
            )
            domes.append(top - drop)
        centre = self.dome[:, 2].mean() - 10 - 90 * (np.abs(x / 75) ** 3 + np.clip(y - 15, 0, None) ** 2 / 2400)
        k = 14.0
        top = np.maximum(domes[0], domes[1]) + 0.25 * k * np.clip(1 - np.abs(domes[0] - domes[1]) / k, 0, 1) ** 2
        return np.maximum(top, centre) + 0.25 * k * np.clip(1 - np.abs(top - centre) / k, 0, 1) ** 2

    def above_floor(self, canvas: Canvas) -> Region:
        """Signed distance to the diaphragm's upper face, negative above it."""
        y, x = canvas.y[:, None], canvas.x[None, :]
        height = self._floor(x, y)
        gx, gy = (self._floor(x + 2, y) - height) / 2, (self._floor(x, y + 2) - height) / 2
        cosine = 1 / np.sqrt(1 + gx**2 + gy**2)
        return canvas.field((height[None] - canvas.z[:, None, None]) * cosine[None])

    def lungs(self, canvas: Canvas, cavity: Region, above: Region) -> tuple[Region, Region]:
        """Both lungs as one region, and the heart's sac."""
        sac = canvas.region(self.heart_rows, blend=16.0, bump=1.5, length=30.0, reach=14.0).grown(
            3.0 + 0.12 * self.person.fat
        )
        middle = canvas.region(self.mediastinum, blend=16.0, reach=8.0).grown(1.5)
        lung = cavity.inside(above, 3.0, blend=5.0).outside(middle, blend=10.0).outside(sac, blend=6.0)
        return lung.inside(cavity, 2.0), sac

    def _trees(self) -> None:
        """Airways, arteries and veins of both lungs, grown in the lungs as seen on a 6 mm lattice."""
        step = 6.0
        z, y, x = (np.arange(a, b, step) for a, b in ((-312, 40), (-118, 104), (-150, 150)))
        canvas = Canvas(z, y, x, (step,) * 3, self.person.noise)
        cavity = self.torso.cavity.region(canvas)
        lung, _ = self.lungs(canvas, cavity, self.above_floor(canvas))
        deep = np.argwhere(lung.distance < -3.5)
        places = np.stack([x[deep[:, 2]], y[deep[:, 1]], z[deep[:, 0]]], 1)
        rng = self.person.rng("trees")
        self.arteries_lung, self.veins_lung, self.air_lung = [], [], []
        for side in (-1, 1):
            mine = places[side * places[:, 0] > 0]
            hilum = self.hilum[side]
            heading = np.array([side * 0.6, 0.1, -0.75])
            for kind, count in (("arteries", 1500), ("veins", 1300)):
                pick = mine[rng.integers(0, len(mine), count)] + rng.uniform(-step / 2, step / 2, (count, 3))
                if kind == "arteries":
                    tree = grow(pick, hilum, heading, rng)
                    airways = segments(tree, 0.40, 0.375, 6.2)
                    self.air_lung.append(airways[airways[:, 7] > 0.75])
                    towards = np.array([side * 0.62, -0.45, 0.64])
                    self.arteries_lung.append(segments(shifted(tree, towards, 0.6, 0.30), 0.42, 0.375, 6.5))
                else:
                    start = hilum + vec(side * 8, -6, -8)
                    self.veins_lung.append(segments(grow(pick, start, (side, -0.2, 0.1), rng), 0.38, 0.36, 5.5))

    # -- painting ----------------------------------------------------------------------------------------

    def paint(self, canvas: Canvas, cavity: Region) -> Region:
        """Draw the chest but for its great vessels; returns the distance to the diaphragm for the organs below it."""
        above = self.above_floor(canvas)
        if canvas.z[-1] < -320 or canvas.z[0] > 140:
            return above
        lung, sac = self.lungs(canvas, cavity, above)
        self._paint_middle(canvas, cavity, above)
        self._paint_lungs(canvas, lung)
        self._paint_heart(canvas, sac)
        self._paint_airways(canvas)
        return above

    def _paint_middle(self, canvas: Canvas, cavity: Region, above: Region) -> None:
        """Mediastinal fat fills the chest first; the lungs are cut out of it afterwards."""
        chest = cavity.inside(above)
        canvas.paint(chest, -92, grain=14, length=18.0)
        sheet = Region(canvas.whole, np.maximum(np.abs(above.distance + 1.2) - np.float32(1.6), cavity.distance))
        canvas.paint(sheet, 42)
        rng = self.person.rng("nodes")
        places = rng.uniform((-30, -30, -95), (30, 12, -20), (14, 3))
        nodes = [ellipsoid(p, rng.uniform(2, 5, 3)) for p in places]
        canvas.paint(canvas.region(nodes).inside(cavity, 2.0), 38)

    def _paint_lungs(self, canvas: Canvas, lung: Region) -> None:
        if not (lung.distance < canvas.edge).any():
            return
        canvas.paint(lung, self.lung_level, grain=14, length=30.0)
        weight = 62.0 * np.clip((canvas.y + 20) / 80, -1, 1.3).astype(np.float32)
        alpha = np.clip(0.5 - lung.distance / np.float32(canvas.edge), 0, 1)
        canvas.image += alpha * weight[None, :, None]
        noise = np.zeros(lung.distance.shape, dtype=np.float32)
        for length, amplitude in ((3.0, 24.0), (7.0, 16.0)):
            kernels.add_noise(
                noise, canvas.z, canvas.y, canvas.x, canvas.noise, amplitude * canvas.fading(length), length, 1e6
            )
        canvas.image += alpha * noise
        self._fissures(canvas, lung)
        for arteries, veins, side in zip(self.arteries_lung, self.veins_lung, (-1, 1), strict=True):
            del side
            canvas.tubes(arteries, 42 + 0.15 * (self.person.contrast - 45), within=lung.grown(2.0))
            canvas.tubes(veins, 40 + 0.12 * (self.person.contrast - 45), within=lung.grown(2.0))

    def _fissures(self, canvas: Canvas, lung: Region) -> None:
        """Oblique fissures of both lungs and the horizontal one of the right: thin sheets."""
        x, y, z = canvas.x[None, None, :], canvas.y[None, :, None], canvas.z[:, None, None]
        for side, level in ((-1, -122.0), (1, -112.0)):
            bowed = y * 0.79 + (z - level) * 0.61 + 5 + 0.0011 * (x - side * 70) ** 2 + 7 * np.sin(x / 36 + side)
            sheet = np.maximum(np.abs(bowed) - 0.35, -side * x)
            canvas.paint(
                Region(canvas.whole, np.maximum(sheet.astype(np.float32), lung.distance + 0.5)), -560, opacity=0.75
            )
        flat = np.maximum(np.abs(z + 112 + 0.05 * (y + 40) + 5 * np.sin(x / 30)) - 0.3, x)
        flat = np.maximum(flat, y * 0.79 + (z + 122) * 0.61 + 5)
        flat = np.maximum(np.broadcast_to(flat, lung.distance.shape).astype(np.float32), lung.distance + 0.5)
        canvas.paint(Region(canvas.whole, flat), -600, opacity=0.6)

    def _paint_heart(self, canvas: Canvas, sac: Region) -> None:
        blood = self.person.contrast
        right = blood * float(self.person.rng("phase").uniform(0.75, 1.3)) if blood > 60 else blood
        if sac.empty:
            return
        canvas.paint(sac, 20, inset=0.0)
        canvas.paint(sac, -95, inset=1.4, grain=16, length=14.0)
        heart = canvas.region(self.heart_rows, blend=9.0, bump=1.2, length=22.0)
        canvas.paint(heart, 45 + 0.28 * (blood - 45), grain=5, length=9.0)
        veins = canvas.region(self.pulmonary_veins, blend=2.0)
        canvas.paint(veins, 40, inset=-0.8)
        canvas.paint(canvas.region(self.pool_right, blend=8.0, bump=1.0), right, grain=5, length=10.0)
        canvas.paint(canvas.region(self.atrium_right, blend=4.0, bump=1.5), right, inset=2.0, grain=7, length=10.0)
        canvas.paint(canvas.region(self.atrium_left, blend=4.0, bump=1.5), blood, inset=2.0, grain=5, length=10.0)
        canvas.paint(veins, blood, inset=0.4)
        wall = canvas.region(self.muscle_left, bump=0.8)
        canvas.paint(wall, 52 + 0.3 * (blood - 45), inset=1.0, grain=5)
        canvas.paint(canvas.region(self.pool_left, bump=2.0, length=14.0), blood, grain=4)
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
            (self.trunk, blood * 0.95 + 2), (self.arteries, blood), (self.aorta_rows, blood),
        ):  # fmt: skip
            region = canvas.region(rows, blend=2.0)
            canvas.paint(region, 38, inset=-0.9)
            canvas.paint(region, value, inset=0.4, grain=4, length=7.0)
        gullet = canvas.region(self.gullet, blend=1.0, bump=0.8)
        canvas.paint(gullet, 38)
        if self.person.rng("gullet").random() < 0.5:
            canvas.paint(gullet, -700, inset=5.2, opacity=0.9)
        if self.person.age > 60:
            self._calcify(canvas)

    def _calcify(self, canvas: Canvas) -> None:
        """Plaques in the wall of an old aorta."""
        rng = self.person.rng("plaque")
        path = smooth_path(self.aorta, 5.0)
        spots = []
        for i in rng.integers(12, len(path), int((self.person.age - 55) / 3)):
            direction = rng.standard_normal(3)
            direction[2] *= 0.3
            direction /= np.linalg.norm(direction)
            spots.append(ellipsoid(path[i, :3] + direction * path[i, 3], rng.uniform(1.2, 3.2, 3)))
        canvas.paint(canvas.region(spots), 620, opacity=0.9)

    def _paint_airways(self, canvas: Canvas) -> None:
        wind = tube(self.trachea) + tube([self.trachea[-1], (*self.carina, 9.0)], 4)
        for side in (-1, 1):
            wind += tube(self.bronchi[side], 5)
        wide = canvas.region(wind, blend=3.0)
        canvas.paint(wide, 45, inset=-1.6)
        canvas.paint(wide, -985)
        for air in self.air_lung:
            lumen = air.copy()
            lumen[:, 6:] *= 0.78
            walls = air[air[:, 7] > 1.0]
            canvas.tubes(walls, -150)
            canvas.tubes(lumen, -960)


__all__ = ["Thorax", "mirror"]
