"""`Volume`: an array `(z, y, x)` with its place in the world and its quantity."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from medrecon.errors import InputError

WATER = 0.0192
"""Linear attenuation of water, 1/mm, near 70 keV: the default of the Hounsfield scale."""

_POSITIVE, _NEGATIVE = "RAS", "LPI"


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the voxels are.

    ``shape`` is ``(z, y, x)``. ``affine`` is NIfTI's: it maps the voxel index ``(i=x, j=y, k=z, 1)`` to
    millimetres in a frame whose axes point Right, Anterior and Superior (RAS+).
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError("a volume has three positive dimensions", found=shape, expected="(z, y, x)")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise InputError("the affine must be a finite 4x4 matrix", found=affine.tolist())
        if not np.allclose(affine[3], (0, 0, 0, 1)) or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise InputError("the affine cannot be inverted: a voxel has no volume", found=affine.tolist())
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def from_spacing(cls, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Geometry:
        """A grid centred at the origin, ``spacing`` mm along (z, y, x), axes Left, Posterior, Superior.

        This is the orientation in which DICOM stores axial slices: x runs to the patient's left, y to the back.
        """
        affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
        return cls(shape, affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along (z, y, x), mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def orientation(self) -> str:
        """Anatomical direction in which x, y and z grow, nearest axis: ``"LPS"``, ``"RAS"``, ..."""
        letters = [""] * 3
        for column, row in enumerate(self._nearest_axes()):
            positive = self.affine[row, column] > 0
            letters[column] = (_POSITIVE if positive else _NEGATIVE)[row]
        return "".join(letters)

    def _nearest_axes(self) -> list[int]:
        """World axis (0 R, 1 A, 2 S) of each of x, y, z: the assignment with the largest total alignment."""
        from itertools import permutations

        cosines = np.abs(self.affine[:3, :3]) / np.linalg.norm(self.affine[:3, :3], axis=0)
        return list(max(permutations(range(3)), key=lambda p: sum(cosines[row, c] for c, row in enumerate(p))))

    def almost_equal(self, other: Geometry, tolerance: float = 1e-3) -> bool:
        """Same shape, and every corner voxel within ``tolerance`` mm."""
        if self.shape != other.shape:
            return False
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
        corners[:, :3] *= np.array(self.shape[::-1]) - 1
        return bool(np.abs(corners @ (self.affine - other.affine).T).max() <= tolerance)


@dataclass(frozen=True, eq=False)
class Volume:
    """What is reconstructed: values ``(z, y, x)``, their geometry and their quantity.

    ``quantity`` names the unit: ``"HU"``, ``"1/mm"``, ``"a.u."``, ``"amplitude"``. ``meta`` never holds patient data.
    """

    array: np.ndarray
    geometry: Geometry
    quantity: str = "a.u."
    meta: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if tuple(self.array.shape) != self.geometry.shape:
            raise InputError("array and geometry disagree", found=self.array.shape, expected=self.geometry.shape)

    def with_array(self, array: np.ndarray, quantity: str | None = None) -> Volume:
        """Other values on the same grid."""
        return replace(self, array=array, quantity=quantity or self.quantity)

    def to_quantity(self, quantity: str, water: float = WATER) -> Volume:
        """The same volume in ``"HU"`` or ``"1/mm"`` (mu = water * (1 + HU / 1000)).

        Raises InputError where no conversion exists.
        """
        if quantity == self.quantity:
            return self
        scale, offset = affine_between(self.quantity, quantity, water)
        return self.with_array((self.array * np.float32(scale) + np.float32(offset)).astype(np.float32), quantity)

    def as_orientation(self, letters: str) -> Volume:
        """Axes permuted and flipped so that x, y and z grow towards ``letters``; every value stays in its place."""
        wanted = [a for c in letters.upper() for a in range(3) if c in (_POSITIVE[a], _NEGATIVE[a])]
        if len(letters) != 3 or sorted(wanted) != [0, 1, 2]:
            raise InputError("not an orientation", found=letters, expected="three letters such as LPS or RAS")
        axes = self.geometry._nearest_axes()
        order = [axes.index(world) for world in wanted]  # source column of each new column
        affine = self.geometry.affine.copy()
        affine[:, :3] = affine[:, :3][:, order]
        array = self.array.transpose(2, 1, 0).transpose(order)
        for column, letter in enumerate(letters.upper()):
            world = wanted[column]
            if (affine[world, column] > 0) != (letter == _POSITIVE[world]):
                affine[:3, 3] += affine[:3, column] * (array.shape[column] - 1)
                affine[:3, column] *= -1
                array = np.flip(array, column)
        array = np.ascontiguousarray(array.transpose(2, 1, 0))
        return replace(self, array=array, geometry=Geometry(array.shape, affine))  # type: ignore[arg-type]


def affine_between(source: str, target: str, water: float = WATER) -> tuple[float, float]:
    """``(scale, offset)`` with ``target = scale * source + offset``. Raises InputError for unrelated quantities."""
    if source == target:
        return 1.0, 0.0
    if (source, target) == ("HU", "1/mm"):
        return water / 1000.0, water
    if (source, target) == ("1/mm", "HU"):
        return 1000.0 / water, -1000.0
    raise InputError("there is no conversion between these quantities", found=f"{source} to {target}")
