"""The chest for the anatomical phantom: diaphragm, lungs with their trees, airways, mediastinum."""

from __future__ import annotations

import numpy as np

from medrecon.data.anatomy_body import Person
from medrecon.data.anatomy_canvas import Canvas, Region, blade, ellipsoid, smooth_path, tube, vec
from medrecon.data.anatomy_heart import Heart
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
        self.lung_level = float(np.clip(rng.normal(-850, 25), -905, -790))
        self.heart = Heart(person, self.breath)
        self._airways()
        self.mediastinum = self._mediastinum()
        self._trees()

    # -- anatomy -----------------------------------------------------------------------------------------

    def _airways(self) -> None:
        spine = self.person.spine
        self.trachea = [
            (float(spine(z)[0]) + x, float(spine(z)[1]) - depth, z, r)
            for x, depth, z, r in ((0, 29, 62, 8.0), (0, 32, 30, 8.6), (1, 36, -15, 8.8), (-2, 34, -50, 9.2))
        ]
        self.carina = np.array([-3.0, float(spine(-60.0)[1] - 32), -62.0])
        right, left = np.array([-34.0, 8.0, -88.0]), np.array([37.0, 12.0, -94.0])
        self.hilum = {-1: right, 1: left}
        bend = {side: 0.5 * (self.carina + end) + vec(1.5 * side, 0, 3) for side, end in self.hilum.items()}
        self.bronchi = {
            side: smooth_path([(*self.carina, 7.8), (*bend[side], 6.8), (*self.hilum[side], 6.0)], 5)
            for side in (-1, 1)
        }

    def _mediastinum(self) -> Rows:
        """What the lungs leave free, without the heart: vessels, airways, spine and the fat between them."""
        rows = self.heart.near_lungs()
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
        sac = self.heart.sac(canvas)
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
                    self.veins_lung.append(segments(grow(pick, start, vec(side, -0.2, 0.1), rng), 0.38, 0.36, 5.5))

    # -- painting ----------------------------------------------------------------------------------------

    def paint(self, canvas: Canvas, cavity: Region) -> tuple[Region, Region | None]:
        """Draw what lies between the lungs but for the great vessels.

        Returns the distance to the diaphragm, for the organs below it, and the lungs, which come last.
        """
        above = self.above_floor(canvas)
        if not canvas.reaches(-320, 75):
            return above, None
        lung, sac = self.lungs(canvas, cavity, above)
        self._paint_middle(canvas, cavity, above)
        self.heart.paint(canvas, sac)
        return above, lung

    def paint_air(self, canvas: Canvas, lung: Region | None) -> None:
        """Lungs and airways, after all else: what is not lung in a voxel is what surrounds it."""
        if lung is not None:
            self._paint_lungs(canvas, lung)
            self._paint_airways(canvas)

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
        canvas.roughen(lung, ((3.0, 24.0), (7.0, 16.0)))
        self._fissures(canvas, lung)
        for arteries, veins in zip(self.arteries_lung, self.veins_lung, strict=True):
            canvas.tubes(arteries, 42 + 0.15 * (self.person.contrast - 45), within=lung.grown(2.0))
            canvas.tubes(veins, 40 + 0.12 * (self.person.contrast - 45), within=lung.grown(2.0))

    def _fissures(self, canvas: Canvas, lung: Region) -> None:
        """Oblique fissures of both lungs and the horizontal one of the right: thin sheets."""
        x, y, z = canvas.x[None, None, :], canvas.y[None, :, None], canvas.z[:, None, None]
        slope = y * 0.79 + z * 0.61
        sheets = []
        for side, level in ((-1, -122.0), (1, -112.0)):
            bow = 5 + 0.0011 * (x - side * 70) ** 2 + 7 * np.sin(x / 36 + side)
            sheets.append(np.maximum(np.abs(slope - 0.61 * level + bow) - 0.4, -side * x))
        flat = np.maximum(np.abs(z + 112 + 0.05 * (y + 40) + 5 * np.sin(x / 30)) - 0.35, x)
        sheets.append(np.maximum(flat, slope + 0.61 * 122 + 5))
        for sheet in sheets:
            within = np.maximum(np.broadcast_to(sheet, lung.distance.shape).astype(np.float32), lung.distance + 0.5)
            canvas.paint(Region(canvas.whole, within), -300, thin=0.4)

    def _paint_airways(self, canvas: Canvas) -> None:
        wind = tube(self.trachea) + tube([self.trachea[-1], (*self.carina, 9.0)], 4)
        for side in (-1, 1):
            wind += tube(self.bronchi[side], 5)
        wide = canvas.region(wind, blend=3.0)
        canvas.paint(wide, 45, inset=-1.6)
        canvas.paint(wide, -985, over=45)
        for air in self.air_lung:
            lumen = air.copy()
            lumen[:, 6:] *= 0.78
            walls = air[air[:, 7] > 1.0]
            canvas.tubes(walls, -150)
            canvas.tubes(lumen, -960)
