"""Compared layers side by side, as a wipe and as a difference, on napari's model of a viewer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helpers.command_line import body
from medrecon.errors import InputError
from medrecon.viewer.arranging import AS_LISTED, DIFFERENCE, SIDE_BY_SIDE, WIPE, Arrangement, Wipe
from medrecon.viewer.layers import layer_volume, volume_layer, volume_of, with_companions

pytestmark = pytest.mark.filterwarnings("default")  # those of napari and its libraries


def filled(model: Any) -> tuple[Any, Any, Any]:
    """A result with a baseline 5 HU above it and a spread; and a volume that has nothing to do with them."""
    volume = body().as_orientation("RAS")
    beside = {
        "baseline": volume.with_array(volume.array + 5),
        "spread": replace(volume.with_array(np.abs(volume.array) / 100), meta={"map": "spread"}),
    }
    model.add_image(np.zeros((3, 4, 5)), name="other")
    for data, keywords, _ in with_companions(volume, beside, "run"):
        model.add_image(data, **keywords)
    return model.layers["run"], model.layers["run baseline"], model.layers["run spread"]


def visible(model: Any) -> set[str]:
    return {layer.name for layer in model.layers if layer.visible}


def test_side_by_side_goes_from_the_known_to_the_new_and_back(model: Any) -> None:
    result, baseline, spread = filled(model)
    before = visible(model)
    arrangement = Arrangement(model)
    arrangement.show(SIDE_BY_SIDE, [result, baseline, spread])
    assert model.canvas.grid.enabled
    assert visible(model) == {"run", "run baseline", "run spread"}
    places = [
        model.canvas.grid.position(model.layers.index(layer), model.layers) for layer in (baseline, result, spread)
    ]
    assert places == [(0, 0), (0, 1), (0, 2)]
    assert result.name_overlay.visible and spread.colorbar.visible and not result.colorbar.visible
    arrangement.show(AS_LISTED, [result, baseline, spread])
    assert not model.canvas.grid.enabled and visible(model) == before
    assert not result.name_overlay.visible and not spread.colorbar.visible


def test_a_wipe_shows_the_result_left_of_its_edge(model: Any) -> None:
    result, baseline, _ = filled(model)
    arrangement = Arrangement(model)
    arrangement.show(WIPE, [result, baseline], wipe=0.25)
    made = arrangement.made
    assert visible(model) == {made.name}
    width = result.data.shape[2]
    for share in (0.25, 0.75, 0.5, 0.0, 1.0):
        arrangement.wipe_to(share)
        edge = round(share * width)
        assert np.array_equal(made.data[..., :edge], result.data[..., :edge])
        assert np.array_equal(made.data[..., edge:], baseline.data[..., edge:])
    assert tuple(made.contrast_limits) == tuple(result.contrast_limits)
    assert tuple(made.scale) == tuple(result.scale) and tuple(made.translate) == tuple(result.translate)
    with pytest.raises(InputError, match="for looking alone"):
        volume_of(made.data, {"name": made.name, "metadata": made.metadata})
    arrangement.restore()
    assert made not in model.layers


def test_a_wipe_runs_across_the_picture_that_is_shown(model: Any) -> None:
    result, baseline, _ = filled(model)
    model.dims.order = (2, 0, 1)  # sagittal: y runs across
    arrangement = Arrangement(model)
    arrangement.show(WIPE, [result, baseline], wipe=0.5)
    middle = result.data.shape[1] // 2
    assert np.array_equal(arrangement.made.data[:, :middle], result.data[:, :middle])
    assert np.array_equal(arrangement.made.data[:, middle:], baseline.data[:, middle:])


def test_a_difference_is_a_volume_in_the_unit_of_both(model: Any) -> None:
    result, baseline, _ = filled(model)
    arrangement = Arrangement(model)
    arrangement.show(DIFFERENCE, [result, baseline])
    made = arrangement.made
    assert np.allclose(made.data, -5)
    low, high = made.contrast_limits
    assert low == -high < 0
    found = layer_volume(made)
    assert found.quantity == "HU" and found.geometry.almost_equal(layer_volume(result).geometry)


@pytest.mark.parametrize("mode", [WIPE, DIFFERENCE])
def test_what_cannot_be_compared_is_said_and_changes_nothing(model: Any, mode: str) -> None:
    result, _, _ = filled(model)
    data, keywords, _ = volume_layer(body((4, 24, 24)), "small")
    small = model.add_image(data, **keywords)
    before = visible(model)
    arrangement = Arrangement(model)
    with pytest.raises(InputError, match="different grids"):
        arrangement.show(mode, [result, small])
    with pytest.raises(InputError, match="two volumes"):
        arrangement.show(mode, [result])
    assert visible(model) == before and arrangement.made is None


def test_layers_that_went_away_do_not_come_back(model: Any) -> None:
    result, baseline, _ = filled(model)
    arrangement = Arrangement(model)
    arrangement.show(WIPE, [result, baseline])
    model.layers.remove(arrangement.made)
    model.layers.remove(baseline)
    arrangement.restore()
    assert {layer.name for layer in model.layers} == {"other", "run", "run spread"}


def test_an_edge_copies_only_what_it_passes() -> None:
    near, far = np.ones((2, 3, 10)), np.zeros((2, 3, 10))
    wipe = Wipe(near, far, axis=-1)
    wipe.to(0.5)
    wipe.array[..., 0] = 7  # a mark that a full copy would remove
    wipe.to(0.8)
    wipe.to(0.3)
    assert (wipe.array[..., 0] == 7).all() and wipe.array[..., 1:].sum() == 2 * 3 * 2
