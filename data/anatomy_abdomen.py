"""Solid organs and vessels of the belly for the anatomical phantom."""

from __future__ import annotations

import numpy as np

from medrecon.data.anatomy_body import Person
from medrecon.data.anatomy_bowel import Gut
from medrecon.data.anatomy_canvas import Canvas, Region, ellipsoid, mirror, rotation, tube, vec
from medrecon.data.anatomy_torso import Torso
from medrecon.data.anatomy_trees import grow, segments

Rows = list[np.ndarray]


class Abdomen:
    """The belly of one person; `paint` needs the distance to the diaphragm that the chest gives."""

    def __init__(self, person: Person, torso: Torso, breath: float) -> None:
        self.person, self.torso = person, torso
        rng = person.rng("abdomen")
        self.shift = 0.55 * breath  # the upper organs follow the diaphragm
        self.gut = Gut(person)
        self._solid(rng)
        self._kidneys(rng)
        self._vessels()
        self._inner_trees(rng)
        self._lay_bowel()

    @property
    def phase(self) -> int:
        """0 without contrast medium, 1 portal venous, 2 arterial."""
        return 0 if self.person.contrast < 60 else (1 if self.person.contrast < 180 else 2)

    def level(self, plain: float, venous: float, arterial: float) -> float:
        """HU of a tissue in this person's contrast phase."""
        return (plain, venous, arterial)[self.phase]

    # -- anatomy -----------------------------------------------------------------------------------------

    def _solid(self, rng: np.random.Generator) -> None:
        k = float(np.clip(rng.normal(1.0, 0.07), 0.85, 1.2))
        up = vec(0, 0, self.shift)
        jitter = rng.normal(0, 4, (8, 3))
        self.liver_rows = [
            ellipsoid(vec(-66, -6, -238) + up + jitter[0], (72 * k, 86 * k, 74 * k)),
            ellipsoid(vec(-88, 6, -288) + up + jitter[1], (38 * k, 62 * k, 54 * k)),
            ellipsoid(vec(-8, -56, -226) + up + jitter[2], (72 * k, 42 * k, 34 * k), rotation(roll=12)),
            ellipsoid(vec(-24, -6, -232) + up, (26, 22, 26)),
        ]
        self.gallbladder = [ellipsoid(vec(-46, -56, -288) + up + jitter[3], (13, 20, 27), rotation(pitch=25))]
        self.spleen_rows = [
            ellipsoid(vec(92, 36, -236) + up + jitter[4], (27 * k, 50 * k, 52 * k), rotation(yaw=22, pitch=-15))
        ]
        self.hilum = [ellipsoid(vec(56, 12, -240) + up + jitter[4], (30, 36, 30))]
        lift = 0.5 * self.shift
        self.pancreas_rows = tube(
            [(-30, -14, -302 + lift, 14), (-12, -26, -292 + lift, 11), (12, -34, -282 + lift, 9),
             (40, -14, -270 + lift, 10), (70, 14, -256 + lift, 9)], 8.0)  # fmt: skip
        self.adrenals = []
        for x, y, z in ((-34, 22, -252), (36, 20, -256)):
            for dx, dy in ((-7, 12), (7, 12), (0, -8)):
                self.adrenals += tube([(x, y, z + 6, 2.4), (x + dx, y + dy, z - 4, 2.0)], 6)
        fat = float(rng.random())
        self.liver_value = self.level(57, 105, 74) + rng.normal(0, 4) - (38 if fat < 0.15 else 0)

    def _kidneys(self, rng: np.random.Generator) -> None:
        self.kidneys: list[tuple[Rows, Rows, Rows, Rows]] = []
        for side, z in ((-1, -304.0), (1, -290.0)):
            centre = vec(side * 64, 36, z + 0.6 * self.shift) + rng.normal(0, 4, 3)
            size = float(np.clip(rng.normal(1.0, 0.08), 0.8, 1.2))
            axes = rotation(yaw=side * 32, pitch=-12, roll=side * 9)
            lobe = [ellipsoid(centre, vec(28, 27, 55) * size, axes)]

            def at(u: float, v: float, w: float, c: np.ndarray = centre, a: np.ndarray = axes) -> np.ndarray:
                return c + np.array([u, v, w]) @ a

            sinus = [ellipsoid(at(-side * 15 * size, 0, 0), vec(17, 9, 27) * size, axes)]
            pelvis = [ellipsoid(at(-side * 17 * size, 0, -2), vec(11, 5, 12) * size, axes)]
            pyramids: Rows = []
            for w in np.linspace(-36, 36, 5) * size:
                for u, v in ((10, -12), (14, 0), (10, 12)):
                    shrink = np.sqrt(max(1 - (w / (56 * size)) ** 2, 0.1))
                    pyramids.append(
                        ellipsoid(at(side * u * shrink * size, v * shrink * size, w), (5.5, 5.5, 6.5), axes)
                    )
            self.kidneys.append((lobe, sinus, pelvis, pyramids))
        self.cysts = []
        if self.person.age > 50:
            for _ in range(int(rng.integers(0, 4))):
                side = rng.choice([-1, 1])
                r = rng.uniform(4, 15)
                self.cysts.append(ellipsoid(vec(side * 82, 36, -295) + rng.normal(0, 18, 3), (r, r, r)))

    def _vessels(self) -> None:
        s = self.person.spine
        front = float(s(-300.0)[1]) - 28
        lift = 0.5 * self.shift
        self.arteries = tube([(8, front, -262, 4), (4, front - 22, -266, 4), (-16, front - 24, -262, 3)])
        self.arteries += tube([(4, front - 22, -266, 3.5), (40, -6, -262 + lift, 3), (74, 24, -252 + lift, 2.6)])
        self.arteries += tube(
            [(6, front, -276, 4), (6, front - 16, -290, 4), (4, front - 30, -360, 3.2), (-10, front - 34, -420, 2.2)]
        )
        self.arteries += tube([(6, front, -296, 3), (30, 18, -298, 2.8), (48, 34, -292, 2.6)])
        self.arteries += tube([(4, front, -298, 3), (-28, 20, -302, 2.8), (-46, 34, -304, 2.6)])
        self.portal = tube(
            [
                (-2, front - 28, -380, 5),
                (-8, front - 22, -310, 6),
                (-14, front - 20, -288, 7),
                (-26, front - 14, -262 + lift, 7.5),
                (-38, -18, -246 + self.shift, 6.5),
            ]
        )
        self.portal += tube([(-12, front - 20, -286, 5.5), (30, -16, -272 + lift, 5), (72, 18, -252 + lift, 4.5)])
        self.cava_side = tube([(-20, front + 2, -294, 5), (46, 32, -290, 4.5)]) + tube(
            [(-20, front + 2, -300, 5), (-46, 34, -304, 4.5)]
        )
        for side in (-1, 1):
            self.arteries += tube(
                [
                    (0, float(s(-372.0)[1]) - 28, -370, 8),
                    (side * 26, 8, -420, 6.5),
                    (side * 52, -6, -470, 5.5),
                    (side * 78, -48, -520, 5),
                    (side * 80, -46, -640, 4.4),
                ]
            )
            self.cava_side += tube(
                [
                    (-17, float(s(-372.0)[1]) - 25, -370, 9),
                    (side * 28, 18, -425, 7.5),
                    (side * 56, 2, -472, 6.5),
                    (side * 70, -42, -524, 6),
                    (side * 70, -40, -640, 5.5),
                ]
            )

    def _inner_trees(self, rng: np.random.Generator) -> None:
        """Vessels of the liver and of the mesentery."""
        hilum = vec(-38, -18, -246 + self.shift)
        centres = np.array([row[7:10] for row in self.liver_rows[:3]])
        radii = np.array([row[19:22] for row in self.liver_rows[:3]])
        pick = rng.integers(0, 3, 420)
        direction = rng.standard_normal((420, 3))
        direction *= (rng.random(420) ** (1 / 3) / np.linalg.norm(direction, axis=1))[:, None]
        places = centres[pick] + 0.85 * radii[pick] * direction
        self.liver_portal = segments(grow(places, hilum, vec(-0.8, -0.2, 0.3), rng), 0.55, 0.38, 6.0)
        outlet = vec(-26, 6, -206 + self.shift)
        self.liver_veins = segments(grow(places[::2] + 5, outlet, vec(-0.4, -0.6, -0.7), rng), 0.6, 0.38, 5.0)
        spread = rng.uniform((-70, -75 - 0.6 * self.person.visceral, -450), (75, -20, -320), (260, 3))
        self.mesentery = segments(grow(spread, vec(2, -6, -330), vec(0, -0.6, -0.8), rng), 0.5, 0.33, 2.6)

    def _lay_bowel(self) -> None:
        step = 7.0
        z, y, x = np.arange(-545.0, -310.0, step), np.arange(-150.0, 80.0, step), np.arange(-130.0, 131.0, step)
        canvas = Canvas(z, y, x, (step,) * 3, self.person.noise)
        cavity = self.torso.cavity.region(canvas)
        taken: Rows = [*self.liver_rows, *self.gallbladder, *self.bladder(), *self.core()]
        for pieces in (self.gut.colon, self.gut.stomach):
            taken += [row for piece in pieces for row in piece.rows]
        for lobe, *_ in self.kidneys:
            taken += lobe
        taken += tube([(0, 34, -310, 34), (0, 30, -360, 34), (0, 36, -420, 36), (0, 62, -460, 36), (0, 80, -500, 32)])
        side = tube(
            [(34, 30, -310, 18), (42, 24, -360, 24), (52, 14, -415, 26), (70, -12, -465, 26), (92, -30, -520, 26)]
        )
        taken += side + mirror(side)
        blocked = canvas.region(taken, reach=30.0)
        distance = cavity.distance.copy()
        free = distance < -14.0
        free[blocked.box] &= blocked.distance > 13.0
        self.gut.fill(free, z, y, x, step)

    def bladder(self) -> Rows:
        """The bladder, as full as this seed has it."""
        full = float(self.person.rng("bladder").uniform(0.6, 1.25))
        return [ellipsoid((0, -34, -528 + 16 * (full - 1)), (38 * full, 30 * full, 26 * full), rotation(pitch=12))]

    def core(self) -> Rows:
        """Uterus or prostate with the seminal vesicles."""
        if self.person.female:
            return [ellipsoid((4, 6, -500), (24, 22, 34), rotation(pitch=-40)), ellipsoid((0, 14, -535), (16, 14, 22))]
        return [ellipsoid((0, -8, -562), (23, 18, 20)), ellipsoid((0, 12, -540), (27, 7, 8))]

    # -- painting ----------------------------------------------------------------------------------------

    def fill(self, canvas: Canvas, cavity: Region, above: Region) -> None:
        """Visceral fat, in which everything else lies."""
        if canvas.reaches(-620, -150):
            canvas.paint(cavity.outside(above, 2.0), -103, grain=9, length=20.0)

    def paint(self, canvas: Canvas, cavity: Region, above: Region) -> None:
        """Draw everything between the diaphragm and the floor of the pelvis, back to front."""
        if not canvas.reaches(-620, -150):
            return
        belly = cavity.outside(above, 2.0)
        canvas.tubes(self.mesentery, self.level(35, 110, 130), within=belly)
        wall = self.level(36, 72, 80)
        self.gut.paint(canvas, belly, wall)
        self._paint_kidneys(canvas, belly)
        canvas.paint(canvas.region(self.adrenals), self.level(28, 60, 65))
        pancreas = canvas.region(self.pancreas_rows, blend=4.0, bump=3.0, length=9.0).inside(belly, 1.0)
        canvas.paint(pancreas, self.level(40, 92, 105), grain=26, length=5.0)
        spleen = canvas.region(self.spleen_rows, bump=2.5, length=30.0, reach=4.0).inside(belly, 1.5, blend=4.0)
        spleen = spleen.outside(canvas.region(self.hilum, reach=8.0), blend=8.0)
        canvas.paint(spleen, self.level(50, 118, 125), grain=5 + 25 * (self.phase == 2), length=12.0)
        self._paint_liver(canvas, belly)
        self._paint_pelvis(canvas, belly)
        blood = self.person.contrast
        venous = self.level(42, 0.95 * blood, 0.4 * blood)
        for rows, value in ((self.portal, venous), (self.cava_side, 0.9 * venous + 4), (self.arteries, blood)):
            canvas.paint(canvas.region(rows, blend=1.5), value)

    def _paint_liver(self, canvas: Canvas, belly: Region) -> None:
        liver = canvas.region(self.liver_rows, blend=22.0, bump=3.5, length=38.0, reach=10.0)
        liver = liver.inside(belly, 1.5, blend=5.0)
        bladder = canvas.region(self.gallbladder, bump=1.5, length=16.0, reach=8.0)
        kidney = canvas.region(self.kidneys[0][0], reach=16.0)
        liver = liver.outside(kidney, 5.0, blend=6.0).outside(bladder, 0.0, blend=4.0)
        canvas.paint(liver, self.liver_value, grain=5, length=9.0)
        vessels = self.level(42, 150 if self.person.contrast > 60 else 42, 70)
        canvas.tubes(self.liver_portal, vessels, within=liver.grown(-2.0))
        canvas.tubes(self.liver_veins, self.level(40, 140, 62), within=liver.grown(-2.0))
        canvas.paint(bladder, 35, inset=-0.8)
        canvas.paint(bladder, 6, inset=1.2, over=35)
        slot = np.abs(canvas.x[None, None, :] + 4 + 0.12 * canvas.y[None, :, None]) - 1.0
        slot = np.maximum(slot, canvas.z[:, None, None] + 226 - self.shift)
        slot = np.maximum(slot, canvas.y[None, :, None] + 20)
        canvas.paint(liver.inside(canvas.field(slot)), -70, opacity=0.8)
        if self.person.age > 45 and self.person.rng("liver cyst").random() < 0.4:
            rng = self.person.rng("liver cysts")
            rows = [ellipsoid(vec(-66, -6, -240) + rng.normal(0, 28, 3), [rng.uniform(3, 11)] * 3) for _ in range(3)]
            canvas.paint(canvas.region(rows).inside(liver, 2.0), 8)

    def _paint_kidneys(self, canvas: Canvas, belly: Region) -> None:
        for lobe, sinus, pelvis, pyramids in self.kidneys:
            region = canvas.region(lobe, bump=1.6, length=20.0, reach=6.0)
            if region.empty:
                continue
            hollow = canvas.region(sinus, bump=3.0, length=9.0, reach=6.0)
            fascia = Region(region.box, np.abs(region.distance - 12.0) - 0.5).inside(belly, 2.0)
            canvas.paint(fascia, -55, thin=0.5)
            rim = region.outside(hollow, blend=5.0)
            canvas.paint(rim, self.level(34, 165, 185), grain=6)
            canvas.paint(canvas.region(pyramids, blend=2.0, bump=0.8).inside(rim, 2.5), self.level(29, 140, 75))
            canvas.paint(hollow.inside(region, -3.0), -90, grain=25, length=6.0)
            canvas.paint(canvas.region(pelvis, bump=2.0, length=8.0), 6 if self.phase != 1 else 40)
        canvas.paint(canvas.region(self.cysts).inside(belly, 2.0), 7)

    def _paint_pelvis(self, canvas: Canvas, belly: Region) -> None:
        if not canvas.reaches(-620, -460):
            return
        perineum = [ellipsoid((0, 2, -580), (24, 40, 22)), ellipsoid((0, -18, -560), (11, 13, 20))]
        canvas.paint(canvas.region(perineum, blend=8.0, bump=2.0), 48)
        bladder = canvas.region(self.bladder(), bump=2.0, length=24.0)
        canvas.paint(canvas.region(self.core(), blend=6.0, bump=1.5), self.level(45, 85, 90), grain=14, length=7.0)
        canvas.paint(bladder, self.level(35, 60, 60))
        canvas.paint(bladder, 6, inset=2.6, over=self.level(35, 60, 60))
        floor = Region(belly.box, np.abs(belly.distance + 3.0) - 3.0)
        low = canvas.field(np.maximum(canvas.z[:, None, None] + 515, -canvas.y[None, :, None] - 30))
        canvas.paint(floor.inside(low), 48)
