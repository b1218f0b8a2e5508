"""What a live map lacks, by kind, and what is hidden to test methods on it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medrecon.physics.seismic import make_trace_mask
from medrecon.physics.trace_holes import beside_holes, holes_like, kinds_of_holes

GRID = (40, 48)


def mask(*kinds: tuple[str, float], shape: tuple[int, int] = GRID) -> np.ndarray:
    """The traces that several masks leave."""
    return np.all([make_trace_mask(kind, shape, share, seed=n) for n, (kind, share) in enumerate(kinds, 1)], axis=0)


def shares(live: np.ndarray) -> dict[str, float]:
    return {kind.name: float(kind.missing.sum() / (~live).sum()) for kind in kinds_of_holes(live)}


@pytest.mark.parametrize(
    ("kinds", "name"),
    [
        ([("random", 0.05)], "single traces"),
        ([("random", 0.5)], "single traces"),
        ([("random", 0.9)], "single traces"),
        ([("regular", 0.5)], "columns"),
        ([("regular", 0.75)], "columns"),
        ([("lines", 0.5)], "columns"),
        ([("lines", 0.05)], "columns"),
        ([("gap", 0.2)], "gaps"),
        ([("hole", 0.05)], "blocks"),
        ([("hole", 0.4)], "blocks"),
    ],
)
@pytest.mark.parametrize("shape", [GRID, (96, 200), (12, 60)])
def test_every_mask_is_of_its_kind(kinds: list, name: str, shape: tuple[int, int]):
    live = mask(*kinds, shape=shape)
    found = kinds_of_holes(live)
    assert [kind.name for kind in found] == [name]
    np.testing.assert_array_equal(found[0].missing, ~live)
    turned = {"columns": "rows"}.get(name, name)
    assert [kind.name for kind in kinds_of_holes(live.T)] == [turned]


def test_a_block_is_seen_between_scattered_holes():
    """Half the traces are gone at random, and a block, which every map of connected holes would merge with them."""
    live = mask(("random", 0.5), ("hole", 0.05))
    block = ~make_trace_mask("hole", GRID, 0.05, seed=2)
    found = {kind.name: kind.missing for kind in kinds_of_holes(live)}
    assert set(found) == {"blocks", "single traces"}
    assert found["blocks"][block].all() and found["blocks"].sum() < 1.5 * block.sum()
    np.testing.assert_array_equal(found["blocks"] ^ found["single traces"], ~live)


def test_kinds_are_told_apart_in_a_mixture():
    live = mask(("regular", 0.5), ("random", 0.1), ("hole", 0.1))
    assert set(shares(live)) == {"columns", "blocks", "single traces"}
    both = np.zeros(GRID, bool)
    both[::2, ::2] = True
    assert shares(both) == {"columns": pytest.approx(2 / 3), "rows": pytest.approx(1 / 3)}


@pytest.mark.parametrize(("fraction", "name"), [(0.5, "single traces"), (0.2, "single traces")])
def test_of_a_line_single_traces_are_no_gaps(fraction: float, name: str):
    assert list(shares(mask(("random", fraction), shape=(1, 200)))) == [name]
    assert list(shares(mask(("gap", fraction), shape=(1, 200)))) == ["gaps"]


def test_hidden_traces_are_live_few_and_in_proportion():
    """The block is an eighth of what is missing; it is hidden as a copy of itself, the others by their share of 5 %."""
    live = mask(("random", 0.5), ("hole", 0.05))
    parts = {part.name: part for part in holes_like(live, seed=3)}
    assert {name: part.share for name, part in parts.items()} == pytest.approx(shares(live))
    hidden = np.any([part.traces for part in parts.values()], axis=0)
    assert hidden.sum() == sum(part.traces.sum() for part in parts.values()) and not (hidden & ~live).any()
    assert parts["single traces"].traces.sum() == round(64 * parts["single traces"].share)
    assert 0.05 < hidden.sum() / live.sum() < 0.25
    assert parts["blocks"].holes >= 1 and parts["single traces"].holes == 0
    large = [ndimage.binary_opening(gone, np.ones((8, 9))) for gone in (~live, ~live | parts["blocks"].traces)]
    assert large[0].sum() < 130 and large[1].sum() > 1.7 * large[0].sum()  # nothing is left inside of the copy


@pytest.mark.parametrize("seed", range(6))
def test_a_gap_is_tested_at_its_width_inside_and_whole(seed: int):
    live = mask(("gap", 8 / 48))
    (part,) = holes_like(live, seed=seed)
    columns = np.flatnonzero(part.traces.any(axis=0))
    assert part.traces[:, columns].all() and len(columns) == 8 and np.ptp(columns) == 7 and part.holes == 1
    gap = np.flatnonzero(~live.any(axis=0))
    assert columns.min() > 0 and columns.max() < 47
    assert columns.max() < gap.min() - 1 or columns.min() > gap.max() + 1  # no wider gap comes of it


def test_what_lies_at_a_border_is_tested_at_a_border():
    live = np.ones(GRID, bool)
    live[:, :6] = False
    (part,) = holes_like(live)
    assert np.flatnonzero(part.traces.any(axis=0)).tolist() == list(range(42, 48))
    live = np.ones(GRID, bool)
    live[:10, :10] = False
    (part,) = holes_like(live)
    assert part.traces.any(axis=1)[[0, -1]].any() and part.traces.any(axis=0)[[0, -1]].any()


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_what_is_too_large_is_tested_smaller(share: float):
    for kind, whole in (("gap", True), ("hole", False)):
        live = mask((kind, share))
        (part,) = holes_like(live)
        assert 0.02 < part.traces.sum() / live.sum() <= 0.35
        assert part.traces[:, part.traces.any(axis=0)].all() == whole


def test_lines_at_regular_distances_are_hidden_whole():
    live = mask(("regular", 0.5))
    (part,) = holes_like(live)
    columns = part.traces.any(axis=0)
    np.testing.assert_array_equal(part.traces[:, columns], live[:, columns])
    assert columns.sum() == 2


def test_few_traces_are_hidden_one_by_one():
    one = np.zeros((3, 3), bool)
    one[1, 1] = True
    assert [int(part.traces.sum()) for part in holes_like(one)] == [1]
    two = np.ones((1, 3), bool)
    two[0, 1] = False
    assert [int(part.traces.sum()) for part in holes_like(two)] == [1]
    (part,) = holes_like(np.ones(GRID, bool))  # nothing is missing
    assert (part.name, int(part.traces.sum())) == ("single traces", 96)


def test_the_seed_decides():
    live = mask(("random", 0.5), ("hole", 0.05))
    first, again, other = (np.any([p.traces for p in holes_like(live, seed=s)], axis=0) for s in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_what_lies_beside_a_hole():
    """A gap of columns has neighbours left and right, a block on four sides, one at a border on three; all are live."""
    live = np.ones((30, 40), bool)
    live[:, 18:22] = False
    (gaps,) = beside_holes(live)
    assert gaps.name == "gaps" and gaps.share == 1
    expected = np.zeros_like(live)
    expected[:, 14:18], expected[:, 22:26] = True, True
    np.testing.assert_array_equal(gaps.traces, expected)
    for rows, count in ((slice(10, 16), 4), (slice(0, 6), 3)):
        live = np.ones((30, 40), bool)
        live[rows, 20:27] = False
        (blocks,) = beside_holes(live)
        assert blocks.name == "blocks" and blocks.traces.sum() == count * 6 * 7 and not blocks.traces[~live].any()
    line = np.ones((1, 60), bool)
    line[0, 5:12] = False
    (gaps,) = beside_holes(line)
    assert np.flatnonzero(gaps.traces[0]).tolist() == [*range(5), *range(12, 19)]  # five of seven fit on the left


def test_beside_holes_no_more_than_half_of_the_live_traces_are_taken():
    live = np.ones((20, 60), bool)
    live[:, 20:38] = False
    assert beside_holes(live)[0].traces.sum() == 20 * 18  # on one side; on both it were 36 of 42 columns
    wide = np.ones((20, 60), bool)
    wide[:, 5:45] = False
    assert beside_holes(wide) == [] and kinds_of_holes(wide)[0].name == "gaps"
    assert beside_holes(make_trace_mask("random", GRID, 0.5, seed=0)) == []


def test_beside_a_gap_scattered_traces_may_be_missing():
    live = mask(("random", 0.3), ("gap", 0.15))
    found = {part.name: part.traces for part in beside_holes(live)}
    assert set(found) == {"gaps"} and live[found["gaps"]].all()
    assert 0.5 < found["gaps"].any(axis=0).sum() / (2 * 7) <= 1.01
