"""The anatomical phantom: one person at every resolution, tissues where they belong, and its geometric kernels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from medrecon.data import anatomy as phantom
from medrecon.data import anatomy_kernels as kernels
from medrecon.data.anatomy import Body, anatomy
from medrecon.data.anatomy_body import Loft, Person
from medrecon.data.anatomy_canvas import Canvas, capsule, ellipsoid, mirror, plate, rotation, vec
from medrecon.data.anatomy_trees import grow, segments
from medrecon.errors import InputError, UsageError

KINDS = phantom.views.names()


def body_of(seed: int, arms_up: bool = True) -> Body:
    person = Person.from_seed(seed)
    person.arms_up = arms_up
    return Body(person)


@pytest.fixture(scope="module", params=[1, 6])
def body(request: pytest.FixtureRequest) -> Body:
    return body_of(request.param)


def probe(body: Body, point: np.ndarray | tuple[float, ...], radius: float = 1.0) -> float:
    """Mean value around a point ``(x, y, z)`` of the canonical frame, without texture."""
    axes = [p + radius * np.array([-1.0, 0.0, 1.0]) for p in reversed(tuple(point))]
    canvas = Canvas(*axes, (radius,) * 3, body.person.noise, textured=False)
    phantom._draw(canvas, body, table=False, texture=False)
    return float(canvas.image.mean())


# --- the volume that users see ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_volume_in_hounsfield_units(kind: str) -> None:
    volume = anatomy(kind, (20, 48, 40), seed=3)
    assert volume.array.shape == (20, 48, 40)
    assert volume.array.dtype == np.float32
    assert volume.quantity == "HU"
    assert volume.geometry.orientation == "LPS"
    assert np.isfinite(volume.array).all()
    assert volume.array.min() == -1000.0
    assert 300.0 < volume.array.max() <= 2000.0


def test_the_same_seed_is_the_same_person_and_another_seed_another() -> None:
    first, again, other = (anatomy("thorax", (8, 32, 32), seed=s).array for s in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 40.0


def test_arrays_of_the_short_names() -> None:
    np.testing.assert_array_equal(phantom.thorax((4, 8, 8), seed=2), anatomy("thorax", (4, 8, 8), seed=2).array)
    assert phantom.abdomen((4, 8, 8)).shape == phantom.head((4, 8, 8)).shape == (4, 8, 8)


@pytest.mark.parametrize("kind", ["thorax", "head"])
def test_a_finer_grid_shows_the_same_anatomy(kind: str) -> None:
    shape = (24, 40, 40)
    coarse = anatomy(kind, shape, seed=2, table=False)
    spacing = coarse.geometry.spacing
    fine = anatomy(kind, tuple(2 * n for n in shape), tuple(s / 2 for s in spacing), seed=2, table=False)  # type: ignore[arg-type]
    mean = fine.array.reshape(24, 2, 40, 2, 40, 2).mean((1, 3, 5))
    difference = coarse.array - mean
    assert abs(difference.mean()) < 3.0
    assert np.sqrt((difference**2).mean()) < 0.1 * mean.std()
    assert np.corrcoef(coarse.array.ravel(), mean.ravel())[0, 1] > 0.995


def test_the_field_of_view_follows_the_shape_but_not_the_resolution() -> None:
    small, large = (anatomy("abdomen", shape, seed=1).geometry for shape in ((8, 16, 16), (16, 48, 48)))
    np.testing.assert_allclose(np.multiply(small.spacing, (8, 16, 16)), np.multiply(large.spacing, (16, 48, 48)))
    wide = anatomy("abdomen", (8, 16, 32), seed=1).geometry
    assert wide.spacing[1] == wide.spacing[2] <= small.spacing[1]
    given = anatomy("abdomen", (4, 8, 8), (5.0, 40.0, 50.0), seed=1).geometry
    assert given.spacing == (5.0, 40.0, 50.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_body_lies_within_the_frame_in_exact_air(kind: str) -> None:
    array = anatomy(kind, (40, 64, 64), seed=7, table=False).array
    for border in (array[:, 0], array[:, -1], array[:, :, 0], array[:, :, -1]):
        np.testing.assert_array_equal(border, -1000.0)
    body = (array > -500).any(0)
    assert max(np.ptp(np.flatnonzero(body.any(axis))) for axis in (0, 1)) > 0.8 * 64


def test_drawing_in_slabs_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = anatomy("torso", (9, 24, 24), seed=3).array
    monkeypatch.setattr(phantom, "SLAB", 2 * 24 * 24)
    np.testing.assert_array_equal(anatomy("torso", (9, 24, 24), seed=3).array, whole)


def test_table_and_texture_are_options() -> None:
    shape = (6, 40, 40)
    bare = anatomy("thorax", shape, seed=2, table=False).array
    table = anatomy("thorax", shape, seed=2).array
    body = bare > -1000
    assert ((table > -1000) & ~body).sum() > 100
    assert np.abs(table - bare)[bare > -200].mean() < 1.0
    smooth = anatomy("thorax", shape, seed=2, table=False, texture=False).array
    assert 1.0 < np.abs(smooth - bare)[body].mean() < 20.0


def test_neighbouring_planes_are_alike() -> None:
    array = anatomy("thorax", (20, 40, 40), (2.0, 10.0, 10.0), seed=8).array
    for below, above in pairwise(array):
        assert np.corrcoef(below.ravel(), above.ravel())[0, 1] > 0.97


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"kind": "thorx"}, UsageError),
        ({"kind": "thorax", "shape": (4, 4)}, InputError),
        ({"kind": "thorax", "seed": -1}, InputError),
        ({"kind": "thorax", "shape": (4, 0, 4)}, InputError),
        ({"kind": "thorax", "spacing": (1.0, -1.0, 1.0)}, InputError),
        ({"kind": "thorax", "spacing": (1.0, float("nan"), 1.0)}, InputError),
    ],
)
def test_bad_requests_are_refused(arguments: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        anatomy(**arguments)


# --- tissues where they belong ------------------------------------------------------------------------------


def test_chest(body: Body) -> None:
    person, chest = body.person, body.chest
    assert -960 < probe(body, (85, 10, -110), 6.0) < -640
    assert -960 < probe(body, (-85, 10, -110), 6.0) < -640
    assert probe(body, chest.carina + vec(0, 0, 16)) < -900
    blood = person.contrast
    assert abs(probe(body, chest.heart.aorta_path[9][:3]) - blood) < 12
    left = chest.heart.left_pool[0][7:10]
    assert 30 < probe(body, left) < blood + 30
    assert 60 < probe(body, (*person.spine(-125.0), -125.0), 2.0) < 480


def test_belly_and_pelvis(body: Body) -> None:
    belly, pelvis = body.belly, body.pelvis
    assert abs(probe(body, belly.liver_rows[0][7:10] + vec(-18, 10, -12), 2.0) - belly.liver_value) < 45
    assert 0 < probe(body, belly.bladder()[0][7:10], 3.0) < 15
    assert 150 < probe(body, pelvis.hip, 2.0) < 700
    assert 30 < probe(body, (*(body.person.spine(-380.0) + vec(45, 4)), -380.0), 2.0) < 70
    side = body.torso.flesh.point(2.0, -380.0, 0.5 * body.person.fat)
    assert -135 < probe(body, side) < -40


def test_head() -> None:
    body = body_of(1, arms_up=False)
    at = body.head.frame.at
    assert 20 < probe(body, at(20, -10, 262), 2.0) < 45
    assert 0 < probe(body, at(33, -82, 190)) < 20
    assert probe(body, at(28, -68, 164), 3.0) < 60
    assert probe(body, at(0, -29, 130)) < -900
    crossed = [probe(body, at(0, y, 250)) for y in np.arange(66.0, 88.0, 2.0)]
    assert max(crossed) > 700  # the vault, from inside to the scalp


def test_old_bones_are_softer_and_fat_people_wider() -> None:
    people = [Person.from_seed(seed) for seed in range(40)]
    assert len({p.female for p in people}) == len({p.arms_up for p in people}) == 2
    assert np.std([p.fat for p in people]) > 3
    young, old = body_of(0), body_of(0)
    young.person.age, old.person.age = 25.0, 85.0
    marrow = [Body(p.person).torso.skeleton.marrow for p in (young, old)]
    assert marrow[0] > 1.5 * marrow[1]


# --- geometry -----------------------------------------------------------------------------------------------


def distance_at(row: np.ndarray, point: tuple[float, float, float]) -> float:
    return float(kernels.solid_distance(row, *point))


def test_distances_of_simple_solids() -> None:
    assert distance_at(ellipsoid((1, 2, 3), (5, 5, 5)), (1, 2, 11)) == pytest.approx(3.0)
    assert distance_at(capsule((0, 0, 0), (10, 0, 0), 2.0), (5, 6, 0)) == pytest.approx(4.0)
    assert distance_at(capsule((0, 0, 0), (10, 0, 0), 2.0, 4.0), (14, 0, 0)) == pytest.approx(0.0)
    assert distance_at(plate((0, 0, 0), (10, 0, 0), (0, 10, 0), 1.0), (2, 2, 5)) == pytest.approx(4.0)
    assert distance_at(plate((0, 0, 0), (10, 0, 0), (0, 10, 0), 1.0), (-3, 0, 4)) == pytest.approx(4.0)


def test_bounding_boxes_hold_their_solids() -> None:
    rng = np.random.default_rng(0)
    axes = rotation(pitch=30, roll=-20, yaw=50)
    for row in (ellipsoid((1, 2, 3), (8, 3, 5), axes), capsule((0, 1, 2), (9, -4, 6), 2.0, 3.0)):
        points = rng.uniform(-15, 15, (20000, 3))
        inside = np.array([distance_at(row, tuple(p)) < 0 for p in points])
        low, high = row[[5, 3, 1]], row[[6, 4, 2]]
        assert ((points[inside] >= low) & (points[inside] <= high)).all()
        assert np.allclose(points[inside].min(0), low, atol=1.2)


def test_mirrored_solids_are_mirror_images() -> None:
    row = ellipsoid((10, 2, 3), (8, 3, 5), rotation(pitch=30, roll=-20, yaw=50))
    for p in np.random.default_rng(1).uniform(-20, 20, (50, 3)):
        assert distance_at(mirror([row])[0], (-p[0], p[1], p[2])) == pytest.approx(distance_at(row, tuple(p)))


def test_the_loft_of_a_cylinder_is_a_cylinder() -> None:
    loft = Loft(-50.0, np.full((34, 180), 20.0), np.tile((0.0, 3.0), (34, 1)))
    axis = np.arange(-40.0, 41.0, 8.0)
    canvas = Canvas(np.array([0.0]), axis, axis, (8.0,) * 3, np.zeros((32, 32, 32), np.float32))
    exact = np.hypot(axis[:, None] - 3, axis[None]) - 20
    np.testing.assert_allclose(loft.region(canvas).distance[0], exact, atol=1e-3)
    np.testing.assert_allclose(np.hypot(*(loft.point(1.0, 0.0, 5.0)[:2] - (0, 3))), 25, atol=1e-3)


@pytest.mark.parametrize("step", [0.5, 1.0, 2.0, 4.0])
def test_a_thin_vessel_keeps_its_volume_on_every_grid(step: float) -> None:
    axis = np.arange(-20.0, 20.0, step) + 0.37 * step
    canvas = Canvas(axis, axis, axis, (step,) * 3, np.zeros((32, 32, 32), np.float32))
    canvas.image[:] = 0.0
    canvas.tubes(np.array([[-12.0, 1.0, 2.0, 12.0, -3.0, 5.0, 1.5, 1.5]]), 1.0)
    length = np.linalg.norm([24.0, -4.0, 3.0])
    expected = np.pi * 1.5**2 * length + 4 / 3 * np.pi * 1.5**3
    assert canvas.image.sum() * step**3 == pytest.approx(expected, rel=0.35)


def test_a_tree_reaches_its_points_and_thins_out() -> None:
    rng = np.random.default_rng(2)
    points = rng.uniform(-30, 30, (300, 3))
    node, parent, supply = tree = grow(points, np.array([0.0, 0.0, 60.0]), np.array([0.0, 0.0, -1.0]), rng)
    assert supply[0] == 300
    assert (parent[1:] < np.arange(1, len(parent))).all()
    for index in range(0, len(node), 7):
        children = supply[parent == index].sum()
        assert children in (0, supply[index])
    tips = node[supply == 1]
    gap = np.linalg.norm(points[:, None] - tips[None], axis=2).min(1)
    assert np.median(gap) < 4.0
    tubes = segments(tree, 0.4)
    assert (tubes[:, 7] <= tubes[:, 6] * 1.0001).mean() > 0.9
    assert tubes[:, 7].max() > 4 * tubes[:, 7].min()
