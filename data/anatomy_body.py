"""The person whom the anatomical phantom shows: size, build and pose from a seed, spine curve and trunk surfaces.

Canonical millimetres: z = 0 at the jugular notch (level of the disc T2/T3), x to the left, y to the back. A
person of another size is the same drawing on scaled coordinates.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter

from medrecon.data import anatomy_kernels as kernels
from medrecon.data.anatomy_canvas import Canvas, Region

VERTEBRAE: dict[str, float] = {
    "C1": 150, "C2": 131, "C3": 112, "C4": 96, "C5": 80, "C6": 64, "C7": 48,
    "T1": 31, "T2": 11, "T3": -10, "T4": -32, "T5": -54, "T6": -77, "T7": -100, "T8": -125, "T9": -150,
    "T10": -176, "T11": -204, "T12": -233, "L1": -265, "L2": -299, "L3": -334, "L4": -369, "L5": -404,
}  # fmt: skip
"""Height of each vertebral body's centre, canonical mm."""

_SPINE_Z = [
    -560,
    -530,
    -490,
    -455,
    -425,
    -404,
    -369,
    -334,
    -299,
    -265,
    -233,
    -150,
    -100,
    -54,
    -10,
    31,
    64,
    96,
    131,
    170,
]
_SPINE_Y = [62, 74, 72, 56, 38, 27, 19, 18, 23, 30, 38, 48, 49, 45, 34, 18, 4, -6, -8, -4]

# z, half-width, front, back, centre y, exponent of the front: the trunk's inner surface
_TRUNK = np.array([
    (36, 6, 6, 6, 20, 2.0), (22, 36, 24, 26, 16, 2.0), (0, 64, 40, 44, 11, 2.0), (-30, 91, 55, 60, 4, 2.1),
    (-60, 107, 69, 73, -1, 2.2), (-100, 119, 84, 82, -4, 2.3), (-150, 127, 95, 86, -5, 2.3),
    (-200, 131, 100, 86, -5, 2.3), (-250, 130, 100, 82, -5, 2.3), (-300, 124, 98, 74, -5, 2.2),
    (-340, 119, 95, 66, -5, 2.2), (-380, 116, 94, 62, -6, 2.2), (-420, 112, 93, 64, -6, 2.2),
    (-460, 98, 88, 72, -4, 2.2), (-500, 76, 76, 78, 0, 2.2), (-540, 60, 58, 70, 4, 2.2),
    (-575, 46, 44, 50, 8, 2.0), (-600, 20, 25, 25, 10, 2.0),
])  # fmt: skip


class Loft:
    """A closed surface given by radii around an axis: ``radius[level, angle]``, angle 0 in front, pi/2 left."""

    step = 3.0

    def __init__(self, first: float, radius: np.ndarray, centre: np.ndarray) -> None:
        self.first, self.radius, self.centre = first, np.ascontiguousarray(radius), np.ascontiguousarray(centre)
        angles = radius.shape[1]
        around = (np.roll(radius, -1, 1) - np.roll(radius, 1, 1)) / (4 * np.pi / angles) / np.maximum(radius, 3)
        along = np.gradient(radius, self.step, axis=0)
        # smooth, because far from the surface the distance jumps where the cosine does
        self.cosine = gaussian_filter(1 / np.sqrt(1 + around**2 + along**2), (2.0, 2.0), mode=("nearest", "wrap"))

    @classmethod
    def superellipse(cls, knots: np.ndarray, swell: np.ndarray | None = None, angles: int = 180) -> Loft:
        """From rows ``(z, half-width, front, back, centre y, front exponent)``, swollen by ``swell`` (level, angle)."""
        rows = knots[np.argsort(knots[:, 0])]
        z = np.arange(rows[0, 0], rows[-1, 0] + cls.step / 2, cls.step)
        a, f, b, cy, n = (PchipInterpolator(rows[:, 0], rows[:, i])(z)[:, None] for i in range(1, 6))
        phi = np.arange(angles) * 2 * np.pi / angles
        s, c = np.abs(np.sin(phi))[None], np.cos(phi)[None]
        n = np.where(c > 0, n, 2.2)
        deep = np.where(c > 0, f, b)
        radius = ((s / a) ** n + (np.abs(c) / deep) ** n) ** (-1 / n)
        if swell is not None:
            radius = radius * swell
        return cls(float(z[0]), radius, np.concatenate([np.zeros_like(cy), cy], 1))

    @property
    def z(self) -> np.ndarray:
        """Heights of the levels, mm."""
        return self.first + self.step * np.arange(self.radius.shape[0])

    @property
    def phi(self) -> np.ndarray:
        """Angles, radians in [0, 2 pi)."""
        return np.arange(self.radius.shape[1]) * 2 * np.pi / self.radius.shape[1]

    def offset(self, thickness: np.ndarray | float) -> Loft:
        """The surface moved outwards by ``thickness`` mm (level, angle) along its normal."""
        return Loft(self.first, self.radius + np.asarray(thickness) / np.maximum(self.cosine, 0.35), self.centre)

    def point(self, phi: float, z: float, offset: float = 0.0) -> np.ndarray:
        """The point ``(x, y, z)`` of the surface at an angle and height, moved outwards by ``offset`` mm."""
        u = float(np.clip((z - self.first) / self.step, 0, self.radius.shape[0] - 1.001))
        v = (phi / (2 * np.pi) * self.radius.shape[1]) % self.radius.shape[1]
        a, b = int(u), int(v)
        fu, fv, c = u - a, v - b, (int(v) + 1) % self.radius.shape[1]
        weights = np.array([[(1 - fu) * (1 - fv), (1 - fu) * fv], [fu * (1 - fv), fu * fv]])
        r = float((self.radius[a : a + 2][:, [b, c]] * weights).sum())
        g = float((self.cosine[a : a + 2][:, [b, c]] * weights).sum())
        cx, cy = self.centre[a] * (1 - fu) + self.centre[a + 1] * fu
        r += offset / max(g, 0.35)
        return np.array([cx + r * np.sin(phi), cy - r * np.cos(phi), z])

    def region(self, canvas: Canvas) -> Region:
        """Signed distance on the whole canvas."""
        out = np.empty(canvas.image.shape, dtype=np.float32)
        kernels.loft_distance(
            out, canvas.z, canvas.y, canvas.x, self.radius, self.cosine, self.centre, self.first, self.step
        )
        return Region(canvas.whole, out)


@dataclass
class Person:
    """Build, pose and tissue values drawn from a seed; the same seed is the same person in every view.

    ``scale`` (z, y, x) turns canonical into real mm. ``fat`` is the typical thickness of subcutaneous fat and
    ``visceral`` the growth of the belly, both mm. ``contrast`` is the HU of enhanced blood (45: none).
    """

    seed: int
    female: bool = False
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fat: float = 12.0
    visceral: float = 0.0
    muscle: float = 1.0
    arms_up: bool = True
    contrast: float = 45.0
    age: float = 55.0
    noise: np.ndarray = field(default_factory=lambda: np.zeros((1, 1, 1)))

    @classmethod
    def from_seed(cls, seed: int) -> Person:
        """Draw a person."""
        person = cls(seed)
        rng = person.rng("person")
        person.female = bool(rng.random() < 0.45)
        size = rng.normal(0.94 if person.female else 1.02, 0.045)
        width, depth = rng.normal(1.0, 0.04), rng.normal(1.0, 0.055)
        person.scale = tuple(np.clip([size, size * depth, size * width], 0.78, 1.2).tolist())
        person.fat = float(np.clip(np.exp(rng.normal(np.log(16 if person.female else 12), 0.5)), 4.0, 40.0))
        person.visceral = float(np.clip(rng.normal(1.1 * person.fat - 12, 9), -14, 45))
        person.muscle = float(np.clip(rng.normal(0.9 if person.female else 1.05, 0.12), 0.65, 1.35))
        person.arms_up = bool(rng.random() < 0.82)
        person.contrast = float(rng.choice([45.0, rng.uniform(110, 180), rng.uniform(180, 380)], p=[0.45, 0.3, 0.25]))
        person.age = float(rng.uniform(22, 85))
        lattice = person.rng("noise").standard_normal((kernels.LATTICE,) * 3)
        person.noise = np.ascontiguousarray(lattice, dtype=np.float32)
        return person

    def rng(self, part: str) -> np.random.Generator:
        """The random stream of one body part: adding a part never changes another."""
        return np.random.default_rng([self.seed, zlib.crc32(part.encode())])

    def spine(self, z: float | np.ndarray) -> np.ndarray:
        """Centre ``(x, y)`` of the vertebral bodies at a height, last axis 2."""
        heights, curve = self.spine_curve
        return np.stack([np.interp(z, heights, curve[:, 0]), np.interp(z, heights, curve[:, 1])], -1)

    @cached_property
    def spine_curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Heights (n,) and centres (n, 2) of the vertebral bodies, every millimetre."""
        rng = self.rng("spine")
        bend, shift, kyphosis = rng.normal(0, 2.5), rng.uniform(0, 6.3), rng.normal(0, 4)
        h = np.arange(-560.0, 171.0)
        y = PchipInterpolator(_SPINE_Z, _SPINE_Y)(h) + kyphosis * np.exp(-(((h + 100) / 90) ** 2))
        x = bend * np.sin(h / 75 + shift) * np.clip((140 - h) / 120, 0, 1)
        return h, np.stack([x, y], -1)

    def spine_axes(self, z: float) -> np.ndarray:
        """Local axes of the spine at a height: rows left, back, up."""
        up = np.array([*((self.spine(z + 8) - self.spine(z - 8)) / 16), 1.0])
        up /= np.linalg.norm(up)
        back = np.array([0.0, 1.0, 0.0]) - up * up[1]
        back /= np.linalg.norm(back)
        return np.stack([np.cross(back, up), back, up])

    def cavity(self) -> Loft:
        """The inner surface of the trunk: pleura above, peritoneum and pelvic floor below."""
        rng = self.rng("cavity")
        knots = _TRUNK.copy()
        z = knots[:, 0]
        belly = np.exp(-(((z + 350) / 95) ** 2))
        barrel = rng.normal(0, 0.04) * np.exp(-(((z + 150) / 110) ** 2))
        knots[:, 1] *= 1 + barrel + belly * self.visceral / 260
        knots[:, 2] *= 1 - barrel
        knots[:, 2] += belly * self.visceral
        if self.female:
            knots[:, 1] *= 1 + 0.06 * np.exp(-(((z + 470) / 60) ** 2)) - 0.05 * np.exp(-(((z + 330) / 60) ** 2))
        levels = np.arange(knots[:, 0].min(), knots[:, 0].max() + Loft.step / 2, Loft.step)
        phi = np.arange(180) * 2 * np.pi / 180
        swell = np.ones((levels.size, 180))
        for order, amplitude in ((1, 0.012), (2, 0.012), (3, 0.010), (4, 0.006)):
            strength = PchipInterpolator(np.linspace(-620, 60, 6), rng.normal(0, amplitude, 6))(levels)
            swell += strength[:, None] * np.cos(order * phi + rng.uniform(0, 6.3))[None]
        return Loft.superellipse(knots, swell)

    def wall(self, cavity: Loft) -> np.ndarray:
        """Thickness of the trunk's wall without skin and fat (level, angle), mm."""
        z, phi = cavity.z[:, None], cavity.phi[None]
        turn = np.abs((phi + np.pi) % (2 * np.pi) - np.pi)  # 0 in front, pi behind
        chest = 1 / (1 + np.exp(-(z + 235) / 18))

        def lobe(centre: float, width: float) -> np.ndarray:
            return np.exp(-(((turn - centre) / width) ** 2))

        upper = np.exp(-(((z + 62) / 55) ** 2))
        thorax = (
            10.5
            + 9 * lobe(0, 0.22)
            + self.muscle
            * (
                15 * upper * lobe(0.75, 0.4)
                + 12 * np.exp(-(((z + 110) / 70) ** 2)) * lobe(1.95, 0.55)
                + 16 * lobe(2.72, 0.3)
                + 12 * lobe(np.pi, 0.25)
            )
        )
        flank = (
            8 + self.muscle * (7 * lobe(0.3, 0.35) + 16 * lobe(1.5, 0.5) + 33 * lobe(2.6, 0.42)) + 12 * lobe(np.pi, 0.3)
        )
        pelvis = np.exp(-(((z + 540) / 70) ** 2)) * 10 / (1 + np.exp((0.9 - turn) / 0.15))
        return chest * thorax + (1 - chest) * flank + pelvis

    def fat_field(self, canvas: Canvas) -> np.ndarray:
        """Thickness of skin and subcutaneous fat, mm, on the canvas (broadcastable)."""
        rng = self.rng("fat")
        z = canvas.z[:, None, None]
        y, x = canvas.y[None, :, None] - 5.0, canvas.x[None, None, :]
        rho = np.sqrt(x**2 + y**2) + 20
        front = (-y / rho).astype(np.float32)
        belly = np.exp(-(((z + 370) / 130) ** 2))
        hip = np.exp(-(((z + 500) / 80) ** 2))
        high = 1 / (1 + np.exp(-(z - 10) / 25))
        level = 0.75 + 0.45 * belly + 0.7 * hip - 0.3 * high
        tilt = 0.15 + rng.normal(0.05, 0.1) + 0.25 * belly - 0.55 * hip
        thin = 1 - 0.62 / (1 + np.exp(-(z - 115) / 18))  # little fat on the head
        return ((3.0 + self.fat * level * (1 + tilt * front)) * thin).astype(np.float32)
