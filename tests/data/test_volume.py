"""Volumes: geometry, orientation by permutation alone, and the Hounsfield scale."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medrecon.data.volume import WATER, Geometry, Volume, affine_between
from medrecon.errors import InputError

ORIENTATIONS = [
    "".join(letters) for axes in itertools.permutations(("RL", "AP", "SI")) for letters in itertools.product(*axes)
]


def example(shape: tuple[int, int, int] = (2, 3, 4)) -> Volume:
    """All values different, spacings different, and a place off the origin."""
    geometry = Geometry.from_spacing(shape, (3.0, 0.5, 0.75))
    affine = geometry.affine.copy()
    affine[:3, 3] += (10.0, -20.0, 30.0)
    return Volume(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), Geometry(shape, affine), "HU", {"a": 1})


def values_by_place(volume: Volume) -> dict[tuple[float, ...], float]:
    """World position in mm -> value."""
    table = {}
    for k, j, i in np.ndindex(volume.array.shape):
        place = volume.geometry.affine @ (i, j, k, 1.0)
        table[tuple(np.round(place[:3], 6))] = float(volume.array[k, j, i])
    return table


# --- geometry ----------------------------------------------------------------------------------------------


def test_from_spacing_is_centred_and_grows_to_left_posterior_superior():
    geometry = Geometry.from_spacing((5, 4, 3), (2.0, 1.0, 0.5))
    assert geometry.orientation == "LPS"
    assert geometry.spacing == (2.0, 1.0, 0.5)
    centre = geometry.affine @ (1.0, 1.5, 2.0, 1.0)
    np.testing.assert_allclose(centre[:3], 0, atol=1e-12)


def test_the_orientation_of_an_oblique_grid_is_the_nearest():
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([2.0, 3.0, 4.0])
    geometry = Geometry((5, 5, 5), affine)
    assert geometry.orientation == "RAS"
    np.testing.assert_allclose(geometry.spacing, (4.0, 3.0, 2.0))


def test_at_45_degrees_every_axis_still_gets_its_own_letter():
    affine = np.eye(4)
    affine[:2, :2] = np.array([[1, 1], [1, -1]]) / np.sqrt(2)
    letters = Geometry((2, 2, 2), affine).orientation
    assert all(sum(letter in axis for letter in letters) == 1 for axis in ("RL", "AP", "SI"))


def test_the_affine_cannot_be_changed_from_outside():
    affine = np.eye(4)
    geometry = Geometry((2, 2, 2), affine)
    affine[0, 3] = 7
    assert geometry.affine[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 3] = 7


@pytest.mark.parametrize(
    ("shape", "affine", "message"),
    [
        ((2, 2), np.eye(4), "three positive dimensions"),
        ((2, 0, 2), np.eye(4), "three positive dimensions"),
        ((2, 2, 2), np.eye(3), "finite 4x4"),
        ((2, 2, 2), np.full((4, 4), np.nan), "finite 4x4"),
        ((2, 2, 2), np.diag([1.0, 1.0, 0.0, 1.0]), "cannot be inverted"),
        ((2, 2, 2), np.diag([1.0, 1.0, 1.0, 2.0]), "cannot be inverted"),
    ],
)
def test_impossible_geometries_are_refused(shape, affine, message):
    with pytest.raises(InputError, match=message):
        Geometry(shape, affine)


def test_almost_equal_is_measured_in_millimetres_at_the_corners():
    geometry = Geometry.from_spacing((11, 11, 101), (1.0, 1.0, 1.0))

    def moved(**changes: float) -> Geometry:
        affine = geometry.affine.copy()
        affine[0, 3] += changes.get("shift", 0.0)
        affine[0, 0] *= 1 + changes.get("stretch", 0.0)
        return Geometry(geometry.shape, affine)

    assert geometry.almost_equal(moved(shift=5e-4))
    assert not geometry.almost_equal(moved(shift=2e-3))
    assert not geometry.almost_equal(moved(stretch=1e-4))  # 0.01 mm at the far corner, 100 voxels away
    assert not geometry.almost_equal(Geometry.from_spacing((11, 11, 100), (1.0, 1.0, 1.0)))


# --- volumes -----------------------------------------------------------------------------------------------


def test_array_and_geometry_must_agree():
    with pytest.raises(InputError, match="array and geometry disagree"):
        Volume(np.zeros((4, 3, 2), np.float32), Geometry.from_spacing((2, 3, 4), (1, 1, 1)))


@pytest.mark.parametrize("letters", ORIENTATIONS)
def test_reorienting_leaves_every_value_in_its_place(letters: str):
    volume = example()
    turned = volume.as_orientation(letters)
    assert turned.geometry.orientation == letters
    assert values_by_place(turned) == values_by_place(volume)
    assert (turned.quantity, turned.meta) == (volume.quantity, volume.meta)
    assert turned.array.flags.c_contiguous


@pytest.mark.parametrize("letters", ORIENTATIONS)
def test_there_and_back_is_exact(letters: str):
    volume = example()
    back = volume.as_orientation(letters).as_orientation("LPS")
    assert np.array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.geometry.affine, volume.geometry.affine, atol=1e-12)


def test_lower_case_is_understood():
    assert example().as_orientation("ras").geometry.orientation == "RAS"


@pytest.mark.parametrize("letters", ["", "LP", "LLS", "LRS", "XYZ", "LPX", "LPSS", "LPXS"])
def test_what_is_not_an_orientation_is_refused(letters: str):
    with pytest.raises(InputError, match="not an orientation"):
        example().as_orientation(letters)


def test_reorienting_does_not_touch_the_original():
    volume = example()
    array, affine = volume.array.copy(), volume.geometry.affine.copy()
    volume.as_orientation("RAS").array[:] = 0
    assert np.array_equal(volume.geometry.affine, affine)
    assert np.array_equal(volume.array, array)


def test_hounsfield_scale():
    """Air is -1000 and 0, water 0 and its attenuation, bone of 1000 HU twice that."""
    hu = example((1, 1, 3)).with_array(np.array([[[-1000, 0, 1000]]], np.float32))
    mu = hu.to_quantity("1/mm")
    np.testing.assert_allclose(mu.array.ravel(), [0, WATER, 2 * WATER], atol=1e-9)
    assert (mu.quantity, mu.array.dtype) == ("1/mm", np.float32)
    np.testing.assert_allclose(mu.to_quantity("HU").array, hu.array, atol=1e-3)
    np.testing.assert_allclose(hu.to_quantity("1/mm", water=0.02).array.ravel(), [0, 0.02, 0.04], atol=1e-9)


def test_unrelated_quantities_have_no_conversion():
    with pytest.raises(InputError, match=r"no conversion.*HU to a.u."):
        example().to_quantity("a.u.")
    assert affine_between("a.u.", "a.u.") == (1.0, 0.0)
