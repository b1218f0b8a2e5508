"""The outside of the anatomical phantom: skin, subcutaneous fat, muscles of trunk, shoulders and neck."""

from __future__ import annotations

import numpy as np

from medrecon.data import anatomy_kernels as kernels
from medrecon.data.anatomy_body import Loft, Person
from medrecon.data.anatomy_canvas import Canvas, Region, blade, capsule, ellipsoid, mirror, smooth_path, tube, vec
from medrecon.data.anatomy_skeleton import Skeleton

Rows = list[np.ndarray]


class Torso:
    """Envelope and muscles of one person; ``cavity`` is the trunk's inner surface, ``flesh`` its outer one."""

    def __init__(self, person: Person, head: Rows, ears: Rows) -> None:
        self.person = person
        self.cavity = person.cavity()
        self.flesh: Loft = self.cavity.offset(person.wall(self.cavity))
        self.skeleton = Skeleton(person, self.cavity)
        self.limbs = self._limbs() + head
        self.ears = ears
        self.breasts = self._breasts() if person.female else []
        self.muscles = self._muscles()

    # -- outer shape -------------------------------------------------------------------------------------

    def _limbs(self) -> Rows:
        """Shoulders, upper arms, neck, buttocks and thighs: what the loft of the trunk does not cover."""
        m = self.person.muscle
        head, far = self.skeleton.arm
        up = self.person.arms_up
        neck_low, neck_high = self.person.spine(20.0), self.person.spine(120.0)
        rows = [
            ellipsoid(head + vec(2, 2, -12 if not up else 10), (36 * m**0.5, 44 * m**0.5, 52)),
            capsule(head + vec(8, 2, 0), far, 46 * m**0.5, 36 * m**0.5),
            ellipsoid((104, 58, -75), (48, 36 * m**0.5, 95)),
            capsule((26, neck_low[1] + 14, 72), (128, 34, 28 if not up else 44), 20, 18),
            ellipsoid((100, -6, -40), (40, 42, 60)),
        ]  # fmt: skip
        rows += tube([(*p[:3], p[3] + 8) for p in self.skeleton.clavicle], 12.0)
        rows += [capsule((100, 20, -435), (106, 16, -545), 56, 66)]
        rows += [capsule((84, 22, -500), (92, 18, -760), 82 * m**0.3, 72), ellipsoid((66, 62, -525), (66, 52, 85))]
        rows += mirror(rows)
        front_low, front_high = neck_low[1] - 34, neck_high[1] - 38
        rows.append(blade((0, front_low + 36, 0), (0, front_high + 44, 130), (0, 1, 0), (56, 52), (62, 54)))
        return rows

    def _breasts(self) -> Rows:
        rng = self.person.rng("breasts")
        size = float(np.clip(34 + 0.9 * self.person.fat + rng.normal(0, 6), 28, 75))
        centre = self.flesh.point(np.deg2rad(37), -112.0, 0.2 * size)
        row = ellipsoid(centre + np.array([8.0, 0, -6]), (size * 1.15, size * 0.75, size * 1.1))
        return [row, *mirror([row])]

    def envelope(self, canvas: Canvas) -> tuple[Region, Region]:
        """Skin surface and muscle surface on the whole canvas."""
        flesh = self.flesh.region(canvas)
        kernels.union_distance(
            flesh.distance, canvas.z, canvas.y, canvas.x, np.asarray(self.limbs), 45.0 + 1.9 * self.person.fat, 22.0
        )
        skin = flesh.distance - self.person.fat_field(canvas)
        if self.breasts:
            kernels.union_distance(skin, canvas.z, canvas.y, canvas.x, np.asarray(self.breasts), 40.0, 30.0)
        kernels.union_distance(skin, canvas.z, canvas.y, canvas.x, np.asarray(self.ears), 8.0, 4.0)
        couch = np.float32(self.couch_level) - canvas.y.astype(np.float32)[None, :, None]
        pressed = Region(canvas.whole, skin).inside(
            Region(canvas.whole, np.broadcast_to(-couch, skin.shape)), blend=24.0
        )
        return pressed, flesh

    @property
    def couch_level(self) -> float:
        """Height y of the couch's surface, canonical mm: the back is flattened on it."""
        z = np.arange(-260.0, -40.0, 20.0)
        back = max(float(self.flesh.point(phi, h)[1]) for phi in (2.6, np.pi, 3.7) for h in z)
        return back + 8.0 + 0.8 * self.person.fat

    # -- muscles -----------------------------------------------------------------------------------------

    def _muscles(self) -> list[tuple[Rows, float]]:
        """Single muscles, each with the width of the fat plane around it."""
        m, cavity, up = self.person.muscle**0.5, self.cavity, self.person.arms_up
        head, far = self.skeleton.arm
        glenoid = self.skeleton.glenoid()
        groups: list[tuple[Rows, float]] = []

        def both(rows: Rows, plane: float = 1.6) -> None:
            groups.append((rows, plane))
            groups.append((mirror(rows), plane))

        def along_spine(x: float, back: float, radius: tuple[float, float], z: tuple[float, float]) -> Rows:
            heights = np.arange(z[0], z[1], 22.0)
            points = [(*(self.person.spine(h) + vec(x, back + 0.12 * np.clip(-h - 150, 0, 120))), h) for h in heights]
            radii = np.interp(heights, [-440, -330, -200, -60, 60], [0.8, 1.35, 1.0, 0.75, 0.6])
            return [
                blade(points[i], points[i + 1], (0.25, 1, 0), (radius[0] * radii[i], radius[0] * radii[i + 1]),
                      (radius[1] * radii[i], radius[1] * radii[i + 1]))
                for i in range(len(points) - 1)
            ]  # fmt: skip

        both(along_spine(15, 40, (11 * m, 10 * m), (-450, 90)))
        both(along_spine(39, 41, (15 * m, 23 * m), (-440, 40)))

        def sheet(start: list[tuple[float, float]], end: np.ndarray, offset: float, thin: float, wide: float) -> Rows:
            """A fan of strips from points (angle, height) of the chest wall to one insertion."""
            rows = []
            for angle, z in start:
                middle = cavity.point(np.deg2rad(angle + 14), z + 0.25 * (end[2] - z), offset + 1)
                path = smooth_path([cavity.point(np.deg2rad(angle), z, offset), middle, end], 14.0)
                rows += [
                    blade(path[i], path[i + 1], path[i] - (0, 5, path[i][2]), (thin, thin), (wide, wide))
                    for i in range(len(path) - 1)
                ]
            return rows

        crest = head + vec(-6, -20, -34) if not up else head + vec(-8, -20, 18)
        both(sheet([(13, -30), (12, -58), (13, -88), (17, -116)], np.array(crest), 19, 7.5 * m, 17))
        both(sheet([(36, -60), (37, -84), (38, -105)], glenoid + vec(-14, -34, 8), 12.5, 4.5 * m, 12), 1.2)
        both(sheet([(95, -150), (112, -170), (128, -190)], np.array(crest) + vec(-8, 12, -12), 14, 5.0 * m, 16))
        blade_low = cavity.point(2.4, -90, 13)
        both(
            [
                blade(glenoid + vec(-2, 4, -2), cavity.point(2.4, -55, 13), (-0.5, 1, 0), (9, 7 * m), (16, 34)),
                blade(glenoid + vec(-4, 8, -22), blade_low, (-0.5, 1, 0), (8, 6 * m), (14, 30)),
            ]
        )
        both(
            [
                blade(head + vec(-2, 18, 0), cavity.point(2.45, -60, 33), (-0.4, 1, 0), (8, 8 * m), (14, 30)),
                blade(glenoid + vec(0, 20, -24), cavity.point(2.4, -105, 32), (-0.4, 1, 0), (9 * m, 7 * m), (13, 22)),
            ]
        )
        both([blade(head + vec(-4, 14, 16), cavity.point(2.5, 6, 30), (0, 0.4, 1), (8, 9), (12, 14))])
        both(
            [
                blade(
                    (8, self.person.spine(40.0)[1] + 66, 20), glenoid + vec(14, 18, 34), (0, 1, 0.6), (5, 7), (22, 22)
                ),
                blade(
                    (8, self.person.spine(-40.0)[1] + 62, -40),
                    glenoid + vec(-40, 44, 10),
                    (0, 1, 0.2),
                    (4, 6),
                    (26, 16),
                ),
            ]
        )
        outer = head + vec(24, 0, -10 if not up else 16)
        both(
            [
                ellipsoid(outer, (13, 36 * m, 50)),
                ellipsoid(head + vec(2, -30, -6), (24, 12, 36)),
                ellipsoid(head + vec(2, 30, -6), (24, 12, 36)),
            ]
        )
        arm = far - head
        both([capsule(head + 0.3 * arm + vec(2, -20, 0), far + vec(0, -18, 0), 19 * m), ], 2.0)  # fmt: skip
        both([capsule(head + 0.3 * arm + vec(0, 22, 0), far + vec(0, 20, 0), 20 * m)], 2.0)
        neck = self.person.spine(60.0)
        both(
            tube(
                [
                    (*(self.person.spine(150.0) + vec(46, 12)), 150, 7),
                    (40, neck[1] - 12, 75, 8),
                    (20, neck[1] - 34, 8, 7),
                ],
                12,
            ),
            1.4,
        )
        both(
            tube(
                [
                    (*(self.person.spine(150.0) + vec(30, 26)), 150, 11),
                    (*(neck + vec(34, 22)), 70, 12),
                    (70, neck[1] + 28, 30, 9),
                ],
                12,
            )
        )
        return groups

    def paint(self, canvas: Canvas, skin: Region, flesh: Region, cavity: Region) -> None:
        """Skin, fat and muscle; the trunk's cavity is left to its organs."""
        tint = self.person.rng("tint").normal(0, 1, 4)
        cutis, fat = 15 + 12 * tint[0], -104 + 6 * tint[1]
        everywhere = skin.grown(1.2 * canvas.edge)  # `_draw` cuts the skin's own edge when all is done
        canvas.paint(everywhere, cutis, grain=25, length=8.0)
        canvas.paint(skin, fat, inset=1.8, grain=9, length=22.0, over=cutis)
        self._septa(canvas, skin, flesh)
        if self.breasts:
            self._glands(canvas, skin, flesh)
        canvas.paint(flesh, 48 + 5 * tint[2], grain=10, length=14.0, over=fat)
        self._planes(canvas, flesh, cavity)
        self._armpits(canvas, flesh)
        for rows, plane in self.muscles:
            self.paint_muscle(canvas, rows, flesh, plane, 52 + 5 * tint[2])

    def paint_muscle(self, canvas: Canvas, rows: Rows, flesh: Region, plane: float, value: float) -> None:
        """One muscle within the flesh, parted from the next by a plane of fat ``plane`` mm wide."""
        muscle = canvas.region(rows, blend=6.0, bump=0.8, length=16.0, reach=4.0)
        if muscle.empty:
            return
        canvas.paint(muscle.grown(plane).inside(flesh, 1.0), -80, grain=20, length=10.0, opacity=0.85)
        muscle = muscle.inside(flesh, 1.0)
        canvas.paint(muscle, value, grain=7, length=12.0)
        self._marbling(canvas, muscle)

    def _marbling(self, canvas: Canvas, muscle: Region) -> None:
        """Streaks of fat within a muscle, more with age."""
        amount = float(np.clip((self.person.age - 30) / 60, 0.05, 0.9))
        streaks = Region(muscle.box, muscle.distance.copy())
        noise = np.full(muscle.distance.shape, 0.0, dtype=np.float32)
        axes = canvas.z[muscle.box[0]], canvas.y[muscle.box[1]], canvas.x[muscle.box[2]]
        kernels.add_noise(noise, axes[0] / 3.5, axes[1], axes[2], canvas.noise, 1.0, 4.2, 1.0)
        limit = np.float32(1.3 - 0.45 * amount)
        canvas.paint(Region(muscle.box, np.maximum(streaks.distance + 2.5, (limit - noise) * 5.0)), -30, opacity=0.5)

    def _septa(self, canvas: Canvas, skin: Region, flesh: Region) -> None:
        """Strands of connective tissue and small vessels in the fat below the skin."""
        strands = np.zeros(skin.distance.shape, dtype=np.float32)
        kernels.add_noise(strands, canvas.z * 0.6, canvas.y, canvas.x, canvas.noise, 1.0, 11.0, 1.0)
        sheet = (np.abs(strands - np.float32(0.35)) - np.float32(0.045)) * np.float32(7.0)
        inside = np.maximum(np.maximum(sheet, skin.distance + 3), -flesh.distance)
        canvas.paint(Region(canvas.whole, inside), -25, thin=0.3)

    def _glands(self, canvas: Canvas, skin: Region, flesh: Region) -> None:
        """Glandular tissue of the breasts, less with age."""
        amount = float(np.clip((75 - self.person.age) / 50, 0.1, 1.0))
        shrunk = []
        for row in self.breasts:
            r = row[19:22] * (0.35 + 0.35 * amount)
            shrunk.append(ellipsoid(row[7:10] + vec(0, -4, 0), r))
        gland = canvas.region(shrunk, bump=9.0, length=13.0).inside(skin, 6.0).outside(flesh, 4.0)
        canvas.paint(gland, 25, grain=25, length=5.0, opacity=0.35 + 0.5 * amount)

    def _planes(self, canvas: Canvas, flesh: Region, cavity: Region) -> None:
        """Fat between the layers of the wall: sheets at fixed depths, thinning and ending irregularly."""
        wander = np.zeros(flesh.distance.shape, dtype=np.float32)
        kernels.add_noise(wander, canvas.z, canvas.y, canvas.x, canvas.noise, 1.0, 42.0, 1.0)
        low = -490 - canvas.z.astype(np.float32)[:, None, None]
        thickness = 0.25 + 0.05 * min(self.person.fat, 25.0)
        for depth, swing in ((7.0, 1.5), (13.5, 2.5), (24.0, 4.0), (36.0, 5.0)):
            sheet = np.abs(cavity.distance - depth - np.float32(swing) * wander) - np.float32(thickness) * (
                np.float32(1.0) + wander
            )
            sheet = np.maximum(np.maximum(sheet, flesh.distance + 2.0), low)
            canvas.paint(Region(canvas.whole, sheet), -85, thin=thickness)

    def _armpits(self, canvas: Canvas, flesh: Region) -> None:
        """Fat of the axilla with its vessels and nodes."""
        lift = 12.0 if self.person.arms_up else 0.0
        rows = [ellipsoid((113, 6, -78 + lift), (14, 26, 52)), capsule((62, -24, 4), (116, -4, -40 + lift), 9, 14)]
        fat = canvas.region(rows + mirror(rows), blend=12.0, bump=3.0, length=22.0).inside(flesh, 8.0)
        canvas.paint(fat, -95, grain=12, length=14.0)
        glenoid = self.skeleton.glenoid()
        blood = self.person.contrast
        vessels = tube([(34, -16, 8, 4.5), (70, -22, 4, 4.5), (*(glenoid + vec(-26, -18, -24)), 4.0),
                        (*(self.skeleton.arm[0] + vec(-6, -8, -50 if not lift else 60)), 3.2)], 8.0)  # fmt: skip
        canvas.paint(canvas.region(vessels + mirror(vessels)), 0.8 * blood + 10)
        nodes = [ellipsoid((108 + 6 * i % 11, 10 - 9 * i, -60 - 13 * i), (3.5, 5, 4)) for i in range(4)]
        canvas.paint(canvas.region(nodes + mirror(nodes)), 35)
