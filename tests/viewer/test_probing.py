"""Lines and regions drawn on layers, in mm, on volumes of unequal grids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medrecon.data import Geometry, Volume
from medrecon.errors import InputError
from medrecon.viewer.layers import volume_layer
from medrecon.viewer.probing import LINE, REGIONS, Drawings, flicker, labels, profiles, statistics

pytestmark = pytest.mark.filterwarnings("default")  # those of napari and its libraries


def ramp(spacing: tuple[float, float, float], size: tuple[float, float, float] = (40.0, 60.0, 80.0)) -> Volume:
    """Values are mm to the patient's left of the middle, on a grid about the middle."""
    shape = tuple(round(s / p) for s, p in zip(size, spacing, strict=True))
    geometry = Geometry.from_spacing(shape, spacing)
    x = -(geometry.affine[0, 0] * np.arange(shape[2]) + geometry.affine[0, 3])
    return Volume(np.broadcast_to(x, shape).astype(np.float32), geometry, "HU")


@pytest.fixture
def two(model: Any) -> list[Any]:
    """The same ramp on a fine and on a coarse grid."""
    shown = []
    for name, spacing in (("result", (4.0, 1.0, 1.0)), ("truth", (5.0, 2.0, 4.0))):
        data, keywords, _ = volume_layer(ramp(spacing), name, role=name)
        shown.append(model.add_image(data, **keywords))
    return shown


def test_a_line_reads_the_same_values_from_every_grid(model: Any, two: list[Any]) -> None:
    changes: list[int] = []
    drawings = Drawings(model, lambda: changes.append(1))
    assert drawings.line() is None
    drawings.draw(LINE, two[0])
    assert model.layers.selection.active.mode == "add_line"
    drawn = model.layers[LINE]
    drawn.add_lines(np.array([[5, 30, 20], [5, 30, 60.0]]))
    assert changes
    curves = profiles(drawings.line(), two)
    assert [curve.name for curve in curves] == ["result", "truth"] and curves[1].dashed and not curves[0].dashed
    for curve in curves:
        assert curve.x[-1] == pytest.approx(40.0)
        assert np.asarray(curve.y) == pytest.approx(np.linspace(-19.5, 20.5, len(curve.x)), abs=1e-3)
    drawn.add_lines(np.array([[5, 30, 20], [5, 40, 20.0]]))
    assert profiles(drawings.line(), two)[0].x[-1] == pytest.approx(10.0)  # the last one counts
    drawings.draw(LINE, two[0])
    assert [layer.name for layer in model.layers].count(LINE) == 1
    model.layers.remove(drawn)
    assert drawings.line() is None


def test_regions_give_statistics_in_the_unit_of_the_volume(model: Any, two: list[Any]) -> None:
    drawings = Drawings(model, lambda: None)
    drawings.draw(REGIONS, two[0])
    shapes = model.layers[REGIONS]
    shapes.add_rectangles(np.array([[5, 19.5, 27.5], [5, 19.5, 51.5], [5, 39.5, 51.5], [5, 39.5, 27.5]]))
    shapes.add_ellipses(np.array([[5, 20, 30], [5, 20, 50], [5, 40, 50], [5, 40, 30.0]]))
    assert [kind for kind, _ in drawings.regions()] == ["rectangle", "ellipse"]
    found = statistics(drawings.regions(), two)
    assert set(found) == {(n, name) for n in (1, 2) for name in ("result", "truth")}
    square = found[1, "result"]
    assert square.area == pytest.approx(480) and square.mean == pytest.approx(0, abs=1e-3)
    assert square.deviation == pytest.approx(np.std(np.arange(24)), rel=1e-3)
    assert found[1, "truth"].area == pytest.approx(480) and found[1, "truth"].mean == pytest.approx(0, abs=1e-3)
    assert found[2, "result"].area == pytest.approx(np.pi * 100, rel=0.03)


def test_a_region_outside_of_one_volume_is_left_out_there(model: Any, two: list[Any]) -> None:
    data, keywords, _ = volume_layer(ramp((4.0, 1.0, 1.0), (8.0, 60.0, 80.0)), "flat")
    flat = model.add_image(data, **keywords)
    corners = np.array([[9, 10, 10], [9, 10, 20], [9, 20, 20], [9, 20, 10.0]])
    world = np.array([two[0].data_to_world(corner) for corner in corners])
    assert set(statistics([("rectangle", world)], [two[0], flat])) == {(1, "result")}


def test_flicker_is_seen(model: Any) -> None:
    smooth = ramp((4.0, 1.0, 1.0))
    flickering = smooth.with_array(smooth.array + 30 * (np.arange(10) % 2)[:, None, None].astype(np.float32))
    shown = []
    for role, volume in (("result", flickering), ("baseline", smooth)):
        data, keywords, _ = volume_layer(replace(volume, meta={}), role, role=role)
        shown.append(model.add_image(data, **keywords))
    high, low = flicker(shown)
    assert high.name == "result" and np.asarray(high.y) == pytest.approx([30] * 9)
    assert np.asarray(low.y) == pytest.approx([0] * 9, abs=1e-4)
    data, keywords, _ = volume_layer(ramp((5.0, 1.0, 1.0)), "other")
    with pytest.raises(InputError, match="unequal grids"):
        flicker([*shown, model.add_image(data, **keywords)])


def test_layers_of_one_role_go_by_their_names(model: Any, two: list[Any]) -> None:
    assert labels(two) == ["result", "truth"]
    for layer in two:
        layer.metadata["role"] = "result"
    two[1].name = "a name that is much too long for a plot"
    first, second = labels(two)
    assert first == "result" and len(second) == 26 and second.startswith("…") and second.endswith("for a plot")
