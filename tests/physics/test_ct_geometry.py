"""Geometry of CT scans: conventions, defaults, checks, files."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from medrecon.errors import InputError
from medrecon.physics.ct_geometry import CTGeometry

GRID = ((4, 64, 48), (2.0, 1.0, 1.5))


def parallel(**changes: object) -> CTGeometry:
    return CTGeometry.parallel(*GRID, **{"n_views": 12, **changes})


def fan(detector: str = "flat", **changes: object) -> CTGeometry:
    views = {} if "angles" in changes else {"n_views": 12}
    values = {**views, "source_origin": 300.0, "source_detector": 500.0, **changes}
    return CTGeometry.fan(*GRID, detector=detector, **values)


GEOMETRIES = {"parallel": parallel(), "flat": fan("flat"), "curved": fan("curved")}


@pytest.fixture(params=list(GEOMETRIES))
def geometry(request: pytest.FixtureRequest) -> CTGeometry:
    return GEOMETRIES[request.param]


def test_defaults_see_the_whole_slice(geometry: CTGeometry):
    assert geometry.field_radius >= geometry.radius * (1 - 1e-9)
    assert geometry.notes() == []


def test_default_columns_are_one_pixel_wide_at_the_axis(geometry: CTGeometry):
    assert geometry.column_spacing / geometry.magnification == pytest.approx(1.0)


def test_default_views():
    assert parallel().angles == pytest.approx([math.pi * i / 12 for i in range(12)])
    assert fan().angles == pytest.approx([2 * math.pi * i / 12 for i in range(12)])
    assert parallel(n_views=3, arc=0.3, start=0.1).angles == pytest.approx([0.1, 0.2, 0.3])


def test_rays_at_view_zero_run_down_the_columns():
    origins, directions = parallel().rays()
    assert directions[0] == pytest.approx(np.broadcast_to([0.0, 1.0], directions[0].shape))
    assert (np.diff(origins[0, :, 0]) > 0).all()


@pytest.mark.parametrize("detector", ["flat", "curved"])
def test_the_source_starts_above_the_image_and_turns_clockwise(detector: str):
    origins, _ = fan(detector, angles=[0.0, math.pi / 2]).rays()
    assert origins[0, 0] == pytest.approx([0.0, -300.0])
    assert origins[1, 0] == pytest.approx([300.0, 0.0])


@pytest.mark.parametrize("detector", ["flat", "curved"])
def test_the_rays_of_a_fan_end_on_its_detector(detector: str):
    geometry = fan(detector, detector_offset=3.0, angles=[0.0])
    origins, directions = geometry.rays()
    position = geometry.column_positions
    reach = np.hypot(500.0, position) if detector == "flat" else 500.0
    ends = origins[0] + directions[0] * np.broadcast_to(reach, position.shape)[:, None]
    if detector == "flat":
        assert ends[:, 0] == pytest.approx(position)
        assert ends[:, 1] == pytest.approx(np.full(len(position), 200.0))
    else:
        assert np.arctan2(ends[:, 0], ends[:, 1] + 300.0) * 500.0 == pytest.approx(position)


def test_lateral_distance_is_that_of_the_rays():
    """The field of view follows from the same lines as the projections."""
    for geometry in (parallel(rotation_shift=2.0), fan("flat", rotation_shift=2.0), fan("curved", rotation_shift=2.0)):
        origins, directions = geometry.rays()
        lateral = origins[0, :, 0] * directions[0, :, 1] - origins[0, :, 1] * directions[0, :, 0]
        assert [geometry._lateral(float(p)) for p in geometry.column_positions] == pytest.approx(lateral)


def test_json_round_trip(geometry: CTGeometry):
    assert CTGeometry.from_dict(json.loads(json.dumps(geometry.to_dict()))) == geometry


def test_numpy_numbers_become_plain_ones():
    geometry = parallel(columns=np.int64(80), column_spacing=np.float32(0.5), detector_offset=np.float32(0.25))
    assert json.loads(json.dumps(geometry.to_dict()))["detector_offset"] == 0.25


def test_from_dict_names_what_is_missing_and_unknown():
    values = GEOMETRIES["flat"].to_dict()
    del values["columns"]
    with pytest.raises(InputError, match=r"missing \['columns'\], unknown \['colums'\]"):
        CTGeometry.from_dict({**values, "colums": 3})
    with pytest.raises(InputError, match="length_unit"):
        CTGeometry.from_dict({**GEOMETRIES["flat"].to_dict(), "length_unit": "pixel"})


def test_refining_keeps_the_detector_and_the_grid(geometry: CTGeometry):
    fine = geometry.refined(2, 3)
    assert fine.columns * fine.column_spacing == pytest.approx(geometry.columns * geometry.column_spacing)
    assert fine.radius == pytest.approx(geometry.radius)
    middle = fine.column_positions.reshape(-1, 3).mean(axis=1)
    assert middle == pytest.approx(geometry.column_positions, abs=1e-9)


def test_describe_says_what_matters(geometry: CTGeometry):
    text = geometry.describe()
    assert "12 views" in text
    assert "field of view" in text
    assert ("magnification 1.667" in text) == (geometry.kind != "parallel")


def test_notes_tell_of_truncation_and_limited_angle():
    notes = " ".join(parallel(columns=20, arc=1.0).notes())
    assert "truncated" in notes
    assert "limited angle" in notes


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: parallel(n_views=None, angles=np.arange(0, 180, 1.0)), "radians"),
        (lambda: parallel(n_views=4, arc=180.0), "look like degrees"),
        (lambda: parallel(n_views=None, angles=[0.0, math.nan]), "1 NaN"),
        (lambda: parallel(n_views=None, angles=[]), "one list"),
        (lambda: parallel(n_views=None, angles=[["a"]]), "one list"),
        (lambda: parallel(n_views=None), "either the number of views"),
        (lambda: parallel(n_views=0), "at least 1"),
        (lambda: parallel(n_views=2.5), "whole number"),
        (lambda: parallel(column_spacing=0.0), "positive"),
        (lambda: parallel(column_spacing=math.inf), "positive and finite"),
        (lambda: parallel(columns=True), "must be a number"),
        (lambda: parallel(detector_offset=math.nan), "detector_offset"),
        (lambda: parallel(columns=30, detector_offset=500.0), "misses the volume"),
        (lambda: fan(columns=30, rotation_shift=250.0), "misses the volume"),
        (lambda: CTGeometry.parallel((64, 48), (1.0, 1.0, 1.0), 5), "three entries"),
        (lambda: CTGeometry.parallel((4, 64, 0), (1.0, 1.0, 1.0), 5), "at least 1"),
        (lambda: CTGeometry.parallel((4, 64, 64), (1.0, -1.0, 1.0), 5), "positive"),
        (lambda: fan(source_origin=30.0), "inside the circle around the volume"),
        (lambda: fan(source_detector=200.0), "between the source and the axis"),
        (lambda: fan(source_origin=None), "needs the distances"),
        (lambda: fan("curved", columns=2000, column_spacing=1.0), "half a turn"),
        (lambda: fan("bent"), "unknown kind"),
        (lambda: CTGeometry("parallel", (0.0,), 9, 1.0, *GRID, source_origin=300.0), "no source distance"),
    ],
)
def test_what_cannot_be_is_refused(make, message: str):
    with pytest.raises(InputError, match=message):
        make()


JUNK = [None, "x", [], [1.0], [[1.0], [1.0, 2.0]], {}, math.nan, -math.inf, 1e308, -1, 10**12, True, 2j]


@pytest.mark.parametrize("name", sorted(GEOMETRIES["curved"].to_dict()))
def test_junk_in_a_file_is_an_input_error_or_harmless(name: str):
    for junk in JUNK:
        values = {**GEOMETRIES["curved"].to_dict(), name: junk}
        try:
            geometry = CTGeometry.from_dict(values)
        except InputError:
            continue
        assert CTGeometry.from_dict(geometry.to_dict()) == geometry
    with pytest.raises(InputError, match="table"):
        CTGeometry.from_dict([1, 2])


def test_an_error_says_what_was_found_and_what_to_do():
    with pytest.raises(InputError) as caught:
        parallel(n_views=None, angles=np.arange(0, 180, 1.0))
    assert caught.value.found == "179"
    assert "deg2rad" in (caught.value.hint or "")


# --- slices narrower than a column ----------------------------------------------------------------------------


@pytest.mark.parametrize("pitch", [None, 0.3, 1.0, 1.5, 2.0, 40.0])
@pytest.mark.parametrize("shape", [(4, 1, 1), (2, 1, 16), (2, 16, 1), (1, 2, 2)], ids=str)
@pytest.mark.parametrize("detector", [None, "flat", "curved"])
def test_automatic_columns_see_the_thinnest_slice(
    shape: tuple[int, int, int], pitch: float | None, detector: str | None
):
    """Every view has a ray through the middle of a slice that is narrower than a column."""
    spacing = (1.0, 1.0, 1.0)
    angles = [0.0, math.pi / 4, math.pi / 2]
    if detector is None:
        geometry = CTGeometry.parallel(shape, spacing, angles=angles, column_spacing=pitch)
    else:
        geometry = CTGeometry.fan(shape, spacing, angles=angles, detector=detector, column_spacing=pitch)
    assert geometry.field_radius >= geometry.radius * (1 - 1e-9)
    if min(shape[1:]) == 1 and (pitch or 1.0) * 595 / 1085.6 >= 1:
        assert geometry.columns % 2 == 1


def test_ordinary_slices_keep_their_number_of_columns():
    """The diagonal of 64 x 48 pixels of 1 x 1.5 mm measures 96.3 mm: 97 columns of 1 mm, and one more for the ends."""
    assert parallel().columns == 98


def test_a_chosen_detector_that_passes_a_single_voxel_says_so():
    """Two columns of 2 mm: their rays run 1 mm to either side of a voxel of 1 mm."""
    with pytest.raises(InputError, match=r"misses the volume.*1 x 1 mm"):
        CTGeometry.parallel((4, 1, 1), (1.0, 1.0, 1.0), angles=[0.0], columns=2, column_spacing=2.0)


def test_with_views_takes_those_views_alone(geometry: CTGeometry):
    part = geometry.with_views([5, 2])
    assert part.angles == (geometry.angles[5], geometry.angles[2])
    assert part.data_shape == (2, geometry.shape[0], geometry.columns)


@pytest.mark.parametrize("kind", ["parallel", "flat", "curved"])
def test_pictures_and_fitted_slices(kind: str):
    grid = ((2, 20, 20), (2.0, 1.0, 1.0))
    if kind == "parallel":
        geometry = CTGeometry.parallel(*grid, 9, columns=31, column_spacing=2.0, detector_offset=3.0)
    else:
        geometry = CTGeometry.fan(*grid, 9, detector=kind, columns=31, source_origin=50.0, source_detector=75.0)
    figure = geometry.plot()
    assert len(figure.axes) == 1 and len(figure.axes[0].lines) >= 7
    fitted = geometry.fit_volume()
    assert 2 * fitted.field_radius - fitted.shape[1] * fitted.spacing[1] < 1.01 * fitted.spacing[1]
    assert fitted.spacing[1] == pytest.approx(geometry.column_spacing / geometry.magnification)
    assert not any("truncated" in note for note in fitted.notes())
    with pytest.raises(InputError, match="no circle"):
        CTGeometry.parallel(*grid, 9, columns=31, detector_offset=17.0).fit_volume()
