"""Filtered back-projection: absolute values for every beam, scan and detector position; filters; weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medrecon.errors import InputError, UsageError
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.fbp import FILTERS, fbp, filter_response
from medrecon.physics.fbp_weights import angular_cover, redundancy_weights, view_weights
from medrecon.physics.phantoms import EllipsoidPhantom

GRID = ((2, 100, 100), (1.0, 2.0, 2.0))
FAN = {"source_origin": 300.0, "source_detector": 500.0}
DISC = EllipsoidPhantom(
    centres=np.array([[0.0, 5.0, -8.0]]),
    semi_axes=np.array([[math.inf, 60.0, 60.0]]),
    rotations=np.zeros(1),
    values=np.array([0.02]),
)


def parallel(n_views: int = 180, **changes) -> CTGeometry:
    return CTGeometry.parallel(*GRID, n_views, **changes)


def fan(detector: str, n_views: int = 360, **changes) -> CTGeometry:
    return CTGeometry.fan(*GRID, n_views, detector=detector, **{**FAN, **changes})


def short_scan(detector: str, more: float = 0.0, **changes) -> CTGeometry:
    arc = math.pi + fan(detector, **changes).fan_angle + more
    return fan(detector, 240, arc=arc, **changes)


SCANS = {
    "parallel": lambda: parallel(),
    "parallel, other start": lambda: parallel(start=-1.3),
    "parallel, backwards": lambda: parallel(arc=-math.pi),
    "parallel, full turn": lambda: parallel(arc=2 * math.pi),
    "parallel, 250 degrees": lambda: parallel(arc=math.radians(250)),
    "parallel, fine detector": lambda: parallel(column_spacing=0.7),
    "parallel, shifted": lambda: parallel(detector_offset=3.3, rotation_shift=-2.2),
    "parallel, half detector": lambda: parallel(360, arc=2 * math.pi, detector_offset=60.0, columns=100),
    "parallel, other half": lambda: parallel(360, arc=2 * math.pi, detector_offset=-60.0, columns=100),
}
for _detector in ("flat", "curved"):
    SCANS |= {
        f"{_detector}": lambda d=_detector: fan(d),
        f"{_detector}, backwards": lambda d=_detector: fan(d, arc=-2 * math.pi),
        f"{_detector}, shifted": lambda d=_detector: fan(d, detector_offset=4.4, rotation_shift=5.0),
        f"{_detector}, half detector": lambda d=_detector: fan(d, detector_offset=120.0, columns=110),
        f"{_detector}, short": lambda d=_detector: short_scan(d),
        f"{_detector}, short backwards": lambda d=_detector: fan(d, 240, arc=-math.pi - fan(d).fan_angle, start=1.0),
        f"{_detector}, longer than short": lambda d=_detector: short_scan(d, 0.5),
        f"{_detector}, short and shifted": lambda d=_detector: short_scan(d, 0.1, rotation_shift=5.0),
        f"{_detector}, shorter than short": lambda d=_detector: short_scan(d, -0.5 * fan(d).fan_angle),
    }


def disc_regions() -> tuple[np.ndarray, np.ndarray]:
    """Pixels well inside the disc, and well outside it but in every view's field."""
    centre = (np.arange(100) - 49.5) * 2.0
    y, x = np.meshgrid(centre, centre, indexing="ij")
    distance = np.hypot(y - 5.0, x + 8.0)
    return distance < 52, (distance > 68) & (np.hypot(x, y) < 95)


@pytest.mark.parametrize("scan", list(SCANS))
def test_a_disc_is_recovered(scan: str):
    geometry = SCANS[scan]()
    slices = fbp(geometry, DISC.project(geometry)).double().numpy() / 0.02
    inside, outside = disc_regions()
    for image in slices:
        assert image[inside].mean() == pytest.approx(1.0, abs=1e-3)
        assert np.abs(image[inside] - 1.0).max() < 0.01
        assert image[outside].mean() == pytest.approx(0.0, abs=1e-3)
        assert np.abs(image[outside]).max() < 0.1  # streaks of a finite number of views


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("kind", ["parallel", "curved"])
def test_every_filter_keeps_the_values(name: str, kind: str):
    geometry = parallel() if kind == "parallel" else fan("curved")
    image = fbp(geometry, DISC.project(geometry), name, cutoff=0.7)[0].numpy() / 0.02
    inside, _ = disc_regions()
    assert image[inside].mean() == pytest.approx(1.0, abs=2e-3)


def test_smoother_filters_pass_less_noise():
    geometry = parallel(60)
    noise = torch.randn(geometry.data_shape, generator=torch.Generator().manual_seed(0))
    spreads = [float(fbp(geometry, noise, name).std()) for name in FILTERS]
    assert spreads == sorted(spreads, reverse=True)
    assert float(fbp(geometry, noise, "ramp", 0.5).std()) < 0.6 * spreads[0]


def test_the_ramp_is_the_band_limited_one():
    """Close to pi |f| pitch... at its end, and above zero where |f| is zero: Kak and Slaney, figure 3.16."""
    geometry = parallel(column_spacing=0.5)
    response = filter_response(geometry, "ramp", 1.0)
    assert float(response[-1]) == pytest.approx(1 / (2 * 0.5), rel=0.01)
    assert 0 < float(response[0]) < 0.01 * float(response[-1])
    assert (filter_response(geometry, "hann", 0.5)[len(response) // 2 + 1 :] == 0).all()


@pytest.mark.parametrize("kind", ["parallel", "flat", "curved"])
def test_other_units_give_the_inverse_values(kind: str):
    geometry = parallel(20) if kind == "parallel" else fan(kind, 20)
    values = geometry.to_dict()
    for name in ("column_spacing", "source_origin", "source_detector"):
        if name in values:
            values[name] *= 10
    values["spacing"] = [10 * s for s in values["spacing"]]
    y = DISC.project(geometry)
    small, large = fbp(geometry, y), fbp(CTGeometry.from_dict(values), y)
    assert float((10 * large - small).norm() / small.norm()) < 1e-4


def test_threads_and_layout_change_no_bit():
    geometry = fan("flat", 40)
    y = torch.randn(geometry.data_shape, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = fbp(geometry, y)
        torch.set_num_threads(3)
        three = fbp(geometry, y.permute(2, 0, 1).contiguous().permute(1, 2, 0))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, three)
    assert one.permute(1, 2, 0).is_contiguous()


def test_many_slices_equal_single_ones():
    geometry = CTGeometry.parallel((70, 20, 20), (1.0, 1.0, 1.0), 12)
    y = torch.randn(geometry.data_shape, generator=torch.Generator().manual_seed(0))
    whole = fbp(geometry, y)
    for z in (0, 63, 64, 69):
        single = fbp(geometry.with_slices(1), y[:, z : z + 1])
        assert torch.allclose(whole[z : z + 1], single, atol=1e-6)


def test_wrong_settings_are_refused():
    geometry = parallel(5)
    y = torch.zeros(geometry.data_shape)
    with pytest.raises(UsageError, match="shepp-logan"):
        fbp(geometry, y, "ram-lak")
    with pytest.raises(UsageError, match="Nyquist"):
        fbp(geometry, y, cutoff=1.5)
    with pytest.raises(InputError, match="wrong shape"):
        fbp(geometry, y[:, :1])
    beside = parallel(100, arc=2 * math.pi, detector_offset=80.0, columns=60)
    with pytest.raises(InputError, match="does not reach the axis"):
        fbp(beside, torch.zeros(beside.data_shape))


# --- weights ----------------------------------------------------------------------------------------------------
def test_views_share_the_angular_integral():
    even = np.arange(10) * math.pi / 10
    assert angular_cover(even, math.pi)[0] == pytest.approx(np.full(10, math.pi / 10))
    shares, _, arc = angular_cover(np.array([0.0, 0.1, 0.3, 3.0]), math.pi)
    assert shares.sum() < math.pi
    assert arc < math.pi
    assert angular_cover(np.array([0.4]), math.pi)[0] == pytest.approx([math.pi])


def test_a_limited_arc_counts_its_end_views_once():
    shares, start, arc = angular_cover(np.deg2rad(np.arange(40, 130, 3.0)), math.pi)
    assert shares == pytest.approx(np.full(30, math.radians(3)))
    assert (start, arc) == pytest.approx((math.radians(40), math.radians(90)))


def test_repeated_views_share():
    twice = np.concatenate([np.arange(10), np.arange(10)]) * math.pi / 10
    assert view_weights(parallel(n_views=None, angles=twice)) == pytest.approx(np.full(20, math.pi / 20))


@pytest.mark.parametrize("detector", ["flat", "curved"])
@pytest.mark.parametrize("more", [-0.2, 0.0, 0.3])
def test_rays_along_one_line_share_one(detector: str, more: float):
    """Redundancy weights interpolated at a ray and at the same line seen from the other side add up to one."""
    geometry = short_scan(detector, more, rotation_shift=4.0)
    weights = redundancy_weights(geometry)
    origins, directions = geometry.rays()
    lateral = origins[..., 0] * directions[..., 1] - origins[..., 1] * directions[..., 0]
    heading = np.arctan2(directions[..., 1], directions[..., 0])
    random = np.random.default_rng(0)
    step = geometry.angles[1] - geometry.angles[0]
    column_step = np.abs(np.diff(lateral[0])).max()
    checked = 0
    for _ in range(300):
        view, column = random.integers(20, 220), random.integers(3, geometry.columns - 3)
        turn = (heading - heading[view, column] + math.pi) % (2 * math.pi)
        gap = np.abs(np.minimum(turn, 2 * math.pi - turn)) / step
        miss = np.hypot(gap, (lateral + lateral[view, column]) / column_step)
        other = np.unravel_index(np.argmin(miss), miss.shape)
        if miss[other] < 0.8:
            checked += 1
            assert weights[view, column] + weights[other] == pytest.approx(1.0, abs=0.08)
    assert checked > 50
