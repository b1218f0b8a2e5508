"""Hollow organs of the belly for the anatomical phantom: stomach, small bowel, colon, with fluid, stool and gas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrecon.data.anatomy_body import Person
from medrecon.data.anatomy_canvas import Canvas, Region, chain, smooth_path

Rows = list[np.ndarray]


@dataclass(frozen=True)
class Piece:
    """A stretch of gut: its solids, what it holds (HU, grain) and the height y in front of which gas collects."""

    rows: Rows
    value: float
    grain: float
    gas: float | None


class Gut:
    """One person's stomach and bowel. ``free`` says where loops of small bowel may lie."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.stomach: list[Piece] = []
        self.colon: list[Piece] = []
        self.small: list[Piece] = []
        rng = person.rng("gut")
        deep = 0.62 * person.visceral
        self._stomach(rng, deep)
        self._colon(rng, deep)

    def _stomach(self, rng: np.random.Generator, deep: float) -> None:
        full = float(np.clip(rng.normal(1.0, 0.22), 0.6, 1.45))
        path = smooth_path(
            [
                (36, -8, -226, 12), (62, 14, -216, 29 * full), (66, -14, -236, 31 * full), (56, -44, -262, 27 * full),
                (34, -62 - 0.5 * deep, -288, 21 * full), (4, -64 - 0.5 * deep, -296, 15), (-20, -50, -290, 10),
                (-36, -30, -288, 12), (-44, -6, -312, 12), (-34, 4, -338, 11), (0, 0, -342, 10), (26, -8, -326, 10),
            ],
            9.0,
        )  # fmt: skip
        radius = path[:, 3] * (1 + 0.05 * rng.standard_normal(len(path)))
        split = int(np.argmin(np.abs(path[:, 0] + 20) + 1e3 * (path[:, 1] > 0)))
        level = float(rng.uniform(-62, -25))
        content = float(rng.choice([8.0, 25.0, 160.0], p=[0.45, 0.4, 0.15]))
        gas = level if rng.random() < 0.85 else None
        self.stomach.append(Piece(chain(path[:split, :3], radius[:split]), content, float(rng.uniform(4, 40)), gas))
        self.stomach.append(Piece(chain(path[split - 1 :, :3], radius[split - 1 :]), 22.0, 10.0, None))

    def _colon(self, rng: np.random.Generator, deep: float) -> None:
        s = rng.normal(0, 6, (14, 3))
        sag = float(rng.uniform(-20, 35))
        front = -80 - deep
        knots = np.array([
            (-78, -34, -462, 22), (-86, -22, -440, 27), (-92, 2, -388, 24), (-84, -14, -330, 24),
            (-56, front + 20, -322 - 0.5 * sag, 22), (-10, front, -338 - sag, 21),
            (44, front + 8, -322 - 0.6 * sag, 20),
            (88, -34, -276, 20), (100, 10, -262, 18), (102, 24, -330, 15), (100, 10, -410, 14), (72, -18, -462, 14),
            (26, -30, -486, 15), (-14, 10, -478, 15),
        ], dtype=float)  # fmt: skip
        knots[:, :3] += s * np.array([0.7, 0.6, 1.0])
        knots[:, 3] *= float(np.clip(rng.normal(1.0, 0.14), 0.7, 1.4))
        tail = np.array([(-4, 46, -486, 16), (2, 58, -512, 17), (2, 50, -545, 16), (0, 40, -585, 9)], dtype=float)
        path = smooth_path(np.concatenate([knots, tail]), 7.0)
        haustra = 1 + 0.14 * np.sin(np.cumsum(rng.uniform(1.2, 2.2, len(path))))
        radius = path[:, 3] * haustra
        for start in range(0, len(path) - 1, 6):
            part = slice(start, start + 7)
            middle = path[part, :3].mean(0)
            r = float(radius[part].mean())
            gassy = rng.random() < (0.75 if middle[1] < -30 else 0.3)
            gas = float(middle[1] + rng.uniform(-0.9, 0.7) * r) if gassy else None
            stool = float(rng.uniform(-60, 40))
            self.colon.append(Piece(chain(path[part, :3], radius[part]), stool, float(rng.uniform(30, 110)), gas))

    def fill(self, free: np.ndarray, z: np.ndarray, y: np.ndarray, x: np.ndarray, step: float) -> None:
        """Lay loops of small bowel as a self-avoiding walk where ``free`` (z, y, x on a lattice) is true."""
        rng = self.person.rng("small bowel")
        thick = float(np.clip(rng.normal(11.8, 1.2), 9, 15))
        places = np.argwhere(free)
        if len(places) < 30:
            return
        origin = np.array([x[0], y[0], z[0]])

        def allowed(points: np.ndarray) -> np.ndarray:
            index = np.rint((points - origin) / step).astype(int)[:, ::-1]
            ok = ((index >= 0) & (index < free.shape)).all(1)
            ok[ok] = free[tuple(index[ok].T)]
            return ok

        laid = np.zeros((0, 3))
        tries = 0
        while len(laid) < 720 and tries < 420:
            tries += 1
            at = origin + step * places[rng.integers(len(places))][::-1]
            if len(laid) and np.linalg.norm(laid - at, axis=1).min() < 2.15 * thick:
                continue
            loop = [at]
            heading = rng.standard_normal(3)
            while len(loop) < 70:
                options = heading / np.linalg.norm(heading) + 0.75 * rng.standard_normal((16, 3))
                options = loop[-1] + 8.0 * options / np.linalg.norm(options, axis=1)[:, None]
                options = options[allowed(options)]
                others = np.concatenate([laid, np.array(loop[:-4]).reshape(-1, 3)])
                if len(others) and len(options):
                    gap = np.linalg.norm(options[:, None] - others[None], axis=2).min(1)
                    options = options[gap > 2.08 * thick]
                if not len(options):
                    break
                heading = options[0] - loop[-1]
                loop.append(options[0])
            if len(loop) < 5:
                continue
            laid = np.concatenate([laid, np.array(loop)])
            self._pieces(np.array(loop), thick, rng)

    def _pieces(self, loop: np.ndarray, thick: float, rng: np.random.Generator) -> None:
        path = smooth_path(loop, 4.5)
        radius = thick * (1 + 0.12 * np.sin(np.cumsum(rng.uniform(0.2, 0.9, len(path)))))
        drink = float(rng.choice([15.0, 30.0, 220.0], p=[0.5, 0.38, 0.12]))
        for start in range(0, len(path) - 1, 9):
            part = slice(start, start + 10)
            gas = float(path[part, 1].mean() + rng.uniform(-6, 4)) if rng.random() < 0.13 else None
            self.small.append(Piece(chain(path[part], radius[part]), drink + float(rng.normal(0, 6)), 12.0, gas))

    def paint(self, canvas: Canvas, within: Region, wall: float) -> None:
        """Wall, content and gas of every stretch."""
        front = canvas.y[None, :, None]
        for pieces, thickness in ((self.small, 2.2), (self.colon, 2.4), (self.stomach, 4.0)):
            rows = [row for piece in pieces for row in piece.rows]
            bump = 1.0 if pieces is not self.stomach else 2.5
            whole = canvas.region(rows, blend=3.0, bump=bump, length=11.0).inside(within, 1.0)
            canvas.paint(whole, wall, grain=10, length=5.0)
            for piece in pieces:
                part = canvas.region(piece.rows, blend=3.0, bump=bump, length=11.0)
                if part.empty:
                    continue
                part = part.inside(within, 1.0)
                canvas.paint(part, piece.value, inset=thickness, grain=piece.grain, length=5.5)
                if piece.gas is not None:
                    above = np.broadcast_to(front - piece.gas, canvas.image.shape)[part.box].astype(np.float32)
                    canvas.paint(Region(part.box, np.maximum(part.distance + thickness, above)), -985)
