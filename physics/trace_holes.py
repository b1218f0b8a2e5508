"""What a live map lacks, by kind of hole, and holes of the same kinds in live traces to test methods on.

Traces that go missing one by one, whole lines, gaps of lines and blocks are told apart by chance: a hole is compact if
traces (or lines) that go missing independently, as many as there are, would hardly ever leave one of its size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

COMPACT = ("gaps", "blocks")
"""Kinds of holes of which a survey has few, so that a test on some like them is one on few places."""

_CHANCE = 0.01  # of a hole as large as that anywhere, if traces went missing independently
_SMALL = 4  # traces of a hole that is scattered whatever its form
_ENOUGH = 64  # traces to test on: of smaller surveys up to twice their share is hidden
_LARGEST = 0.2  # of the live traces: what one hole to test on hides at most, if it is no single line
_MOST_HOLES = 64  # to test on, of a kind: enough to tell methods apart
_COVERED = 0.5  # of the live traces that are usual in a hole of this size: what it has to hide at least


@dataclass(frozen=True, eq=False)
class Hole:
    """A compact hole: ``form``, bool ``(height, width)``, and whether it lies at a border, along rows and columns."""

    form: np.ndarray
    at_border: tuple[bool, bool]

    def shrunk(self, factor: float, whole: tuple[bool, bool]) -> Hole:
        """A smaller copy; along an axis that it crosses as a ``whole`` it stays as long as it is."""
        free = 2 - sum(whole)
        sizes = [
            n if kept else max(1, round(n * factor ** (1 / free)))
            for n, kept in zip(self.form.shape, whole, strict=True)
        ]
        picked = [
            ((np.arange(size) + 0.5) * n / size).astype(int) for n, size in zip(self.form.shape, sizes, strict=True)
        ]
        return Hole(self.form[np.ix_(*picked)], self.at_border)


@dataclass(frozen=True, eq=False)
class Kind:
    """Missing traces of one kind: where, bool ``(rows, columns)``, and their compact holes, none if they have none."""

    name: str
    missing: np.ndarray
    holes: tuple[Hole, ...] = ()


@dataclass(frozen=True, eq=False)
class Hidden:
    """Live traces to hide, bool ``(rows, columns)``, as a test of one kind of hole; ``share`` of the missing traces."""

    name: str
    share: float
    traces: np.ndarray

    @property
    def holes(self) -> int:
        """How many compact holes they are; 0 where they are scattered."""
        return int(ndimage.label(self.traces, np.ones((3, 3)))[1]) if self.name in COMPACT else 0


# --- what is missing -----------------------------------------------------------------------------------------------
def kinds_of_holes(live: np.ndarray) -> list[Kind]:
    """The missing traces of a live map, bool ``(rows, columns)``, each in one kind; the kinds that occur.

    ``gaps`` are neighbouring whole lines, ``columns`` and ``rows`` whole lines by themselves, ``blocks`` compact holes
    of any form (of a 2D line: gaps), ``single traces`` the rest.
    """
    missing = ~live
    dead = _dead_lines(missing), _dead_lines(missing.T)  # columns, rows
    gaps: list[tuple[int, int, int]] = []
    lines: list[tuple[int, int, int]] = []
    for axis, gone in ((1, dead[0]), (0, dead[1])):
        for first, last, is_gap in _runs(gone):
            for start, end in [(first, last)] if is_gap else [(n, n + 1) for n in range(first, last)]:
                (gaps if is_gap else lines).append((axis, start, end))
    blocks, holes = _blocks(missing, *dead)
    named = [
        ("gaps", *_whole(live.shape, gaps)),
        ("columns", *_whole(live.shape, [line for line in lines if line[0] == 1])),
        ("rows", *_whole(live.shape, [line for line in lines if line[0] == 0])),
        ("blocks" if min(live.shape) > 1 else "gaps", blocks, holes),
        ("single traces", missing, ()),
    ]
    left, found = missing.copy(), []
    for name, where, compact in named:
        own = where & left
        left &= ~own
        if own.any():
            found.append(Kind(name, own, tuple(compact)))
    return found


def _dead_lines(missing: np.ndarray) -> np.ndarray:
    """Columns without a live trace, bool; none where single traces, as many as are missing, leave so many."""
    rows, columns = missing.shape
    dead = missing.all(axis=0)
    by_chance = columns * float(missing.mean()) ** rows
    return np.asarray(dead) if dead.sum() > by_chance + 3 * by_chance**0.5 + 0.5 else np.zeros(columns, dtype=bool)


def _least(places: int, missing: int) -> int:
    """How many neighbours are more than chance among so many places, so many of which are missing."""
    expected = float(places)  # runs of this length, at most; drawn without putting back
    for length in range(missing):
        if expected < _CHANCE:
            return max(length, 2)
        expected *= (missing - length) / (places - length)
    return missing + 1 if expected >= _CHANCE else max(missing, 2)


def _runs(gone: np.ndarray) -> Iterator[tuple[int, int, bool]]:
    """Neighbouring dead lines: first, end, and whether they are too many for lines that went one by one."""
    least = _least(len(gone), int(gone.sum()))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], gone.astype(np.int8), [0]])))
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield first, last, last - first >= least


def _whole(shape: tuple[int, ...], lines: list[tuple[int, int, int]]) -> tuple[np.ndarray, list[Hole]]:
    """Map and holes of whole lines ``(axis, first, end)`` of a grid."""
    where, holes = np.zeros(shape, bool), []
    for axis, first, last in lines:
        where[(slice(None), slice(first, last)) if axis == 1 else slice(first, last)] = True
        size = (shape[0], last - first) if axis == 1 else (last - first, shape[1])
        ends = first == 0 or last == shape[axis]
        holes.append(Hole(np.ones(size, bool), (ends and axis == 0, ends and axis == 1)))
    return where, holes


def _blocks(missing: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, list[Hole]]:
    """Map and forms of the compact holes that are left without the dead lines, which may run through them."""
    kept = np.flatnonzero(~rows), np.flatnonzero(~columns)
    rest = missing[np.ix_(*kept)]
    compact = np.zeros_like(rest)
    for size in _sizes(rest):
        compact |= ndimage.grey_opening(rest.astype(np.uint8), size=size, mode="constant") > 0
    labels, _ = ndimage.label(compact)
    nearest = [
        np.searchsorted(k, np.arange(n), side="right").clip(1) - 1 for k, n in zip(kept, missing.shape, strict=True)
    ]
    labels = labels[np.ix_(*nearest)]
    holes = []
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        border = [part.start == 0 or part.stop == n for part, n in zip(box, missing.shape, strict=True)]
        holes.append(Hole(labels[box] == number, (border[0], border[1])))
    return (labels > 0) & missing, holes


def _sizes(rest: np.ndarray) -> list[tuple[int, int]]:
    """Boxes of missing traces, from long to square to high, that are just too large for chance."""
    least = max(_SMALL + 1, _least(rest.size, int(rest.sum())))
    thin = [1 << power for power in range(int(math.sqrt(least)).bit_length())]
    sizes = [(n, -(-least // n)) for n in thin] + [(-(-least // n), n) for n in thin]
    side = math.isqrt(least - 1) + 1
    return [size for size in {*sizes, (side, side)} if size[0] <= rest.shape[0] and size[1] <= rest.shape[1]]


# --- holes to test on ----------------------------------------------------------------------------------------------
def holes_like(live: np.ndarray, share: float = 0.05, *, seed: int = 0) -> list[Hidden]:
    """Live traces to hide as a test, in holes of the kinds that there are, about ``share`` of them in proportion.

    Of small surveys it is up to twice that share, for enough traces to tell methods by.
    Single traces are hidden at random, whole lines as whole lines, and gaps and blocks as copies of them, in the inside
    or at the border as they lie themselves. Of every kind but single traces there are two holes where both hide no more
    than a fifth of the live traces, and one else, made smaller where it alone would hide more; that may be more than
    their share.

    Returns
    -------
    list of Hidden
        The kinds do not overlap; at least one and at most half of the live traces are hidden in all.
    """
    random = np.random.default_rng([seed, 4])
    count, missing = int(live.sum()), int((~live).sum())
    wanted = max(1, round(share * count), min(_ENOUGH, round(2 * share * count), count // 2))
    kinds = kinds_of_holes(live)
    compact = np.zeros_like(live)
    for kind in kinds:
        if kind.name in COMPACT:
            compact |= kind.missing
    found, free = list[Hidden](), live.copy()
    for kind in kinds:
        own = int(kind.missing.sum()) / missing
        traces = _hide(kind, free, compact, count, max(1, round(wanted * own)), random)
        if traces.any():
            found.append(Hidden(kind.name, own, traces))
            free &= ~traces
    if not found or int(free.sum()) < count // 2:
        traces = np.zeros_like(live)
        traces.ravel()[random.choice(np.flatnonzero(live.ravel()), wanted, replace=False)] = True
        return [Hidden("single traces", 1.0, traces)]
    total = sum(part.share for part in found)
    return [Hidden(part.name, part.share / total, part.traces) for part in found]


def beside_holes(live: np.ndarray) -> list[Hidden]:
    """Live traces beside the compact holes, as much of them as these are large, along every axis and on either side.

    A method that fills a hole well predicts them back from what it filled, so that they test it at the very hole. At
    most half of the live traces are taken.
    """
    count, missing = int(live.sum()), int((~live).sum())
    free, left, found = live.copy(), count // 2, []
    for kind in kinds_of_holes(live):
        if kind.name not in COMPACT:
            continue
        near = np.zeros_like(live)
        for box in ndimage.find_objects(ndimage.label(kind.missing, np.ones((3, 3)))[0]):
            places = np.argwhere(kind.missing[box]) + [part.start for part in box]
            height, width = (part.stop - part.start for part in box)
            for shift in ((0, width), (0, -width), (height, 0), (-height, 0)):
                moved = places + shift
                moved = moved[((moved >= 0) & (moved < live.shape)).all(axis=1)]
                moved = moved[free[tuple(moved.T)]]
                if _COVERED * len(places) * count / live.size <= len(moved) <= left:
                    near[tuple(moved.T)], free[tuple(moved.T)] = True, False
                    left -= len(moved)
        if near.any():
            found.append(Hidden(kind.name, int(kind.missing.sum()) / missing, near))
    return found


def _hide(
    kind: Kind, free: np.ndarray, compact: np.ndarray, count: int, wanted: int, random: np.random.Generator
) -> np.ndarray:
    """About ``wanted`` of the ``free`` live traces in holes of one kind, clear of compact holes and of one another."""
    hidden = np.zeros_like(free)
    if not kind.holes:
        places = np.flatnonzero(free.ravel())
        hidden.ravel()[random.choice(places, min(wanted, len(places)), replace=False)] = True
        return hidden
    sizes = np.array([hole.form.sum() for hole in kind.holes], dtype=np.float64)
    usual = float(free.sum()) / max(int((~compact).sum()), 1)  # live traces of a place outside compact holes
    taken = compact.copy()
    for number in range(_MOST_HOLES):
        hole = kind.holes[int(random.choice(len(sizes), p=sizes / sizes.sum()))]
        placed = _placed(hole, free & ~hidden, taken, usual, _LARGEST * count, random)
        if placed is None:
            break
        hidden |= placed & free
        if kind.name in COMPACT:
            taken |= placed
        covered = int(hidden.sum())
        if covered >= wanted and (number > 0 or 2 * covered > _LARGEST * count):
            break
    return hidden


def _placed(
    hole: Hole, free: np.ndarray, taken: np.ndarray, usual: float, most: float, random: np.random.Generator
) -> np.ndarray | None:
    """The hole somewhere among live traces, smaller where it is too large or nowhere else to go; None without room."""
    whole = hole.form.shape[0] == free.shape[0], hole.form.shape[1] == free.shape[1]
    if all(whole):
        whole = (False, False)
    near = ndimage.binary_dilation(taken, np.ones((3, 3)))
    covered = usual * hole.form.sum()
    if covered > most:
        hole = hole.shrunk(most / covered, whole)
    while True:
        height, width = hole.form.shape
        enough = _box_sums(free, height, width) >= max(1.0, _COVERED * usual * height * width)
        clear = enough & (_box_sums(near, height, width) == 0)
        for room in (clear & _at(clear.shape, hole.at_border, whole), clear):
            places = np.argwhere(room)
            if len(places):
                top, left = places[int(random.integers(len(places)))]
                placed = np.zeros_like(free)
                placed[top : top + height, left : left + width] = hole.form
                return placed
        smaller = hole.shrunk(0.5, whole)
        if smaller.form.shape == hole.form.shape:
            return None
        hole = smaller


def _at(shape: tuple[int, ...], border: tuple[bool, bool], whole: tuple[bool, bool]) -> np.ndarray:
    """Places where a hole is at the borders that it is to be at, and at no other."""
    allowed = np.ones(shape, bool)
    for axis in (0, 1):
        if not whole[axis]:
            ends = np.zeros(shape[axis], bool)
            ends[[0, -1]] = True
            allowed &= (ends == border[axis])[:, None] if axis == 0 else ends == border[axis]
    return allowed


def _box_sums(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sum over every box of this size, by its first row and column."""
    sums = np.zeros((values.shape[0] + 1, values.shape[1] + 1), np.int64)
    sums[1:, 1:] = values.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    rows, columns = slice(None, values.shape[0] - height + 1), slice(None, values.shape[1] - width + 1)
    return sums[height:, width:] - sums[height:, columns] - sums[rows, width:] + sums[rows, columns]
