"""Keyed noise: a slice's numbers depend on (seed, sample, step, slice) and on nothing else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medrecon.noise import KeyedNoise

PLANE = (40, 40)


def test_the_same_key_gives_the_same_numbers():
    a, b = (KeyedNoise(5, 2).volume(3, (4, 6, 5)) for _ in range(2))
    assert torch.equal(a, b)
    assert a.dtype == torch.float32


def test_no_global_generator_is_used_or_moved():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = KeyedNoise(5).volume(0, (2, 3, 3))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(KeyedNoise(5).volume(0, (2, 3, 3)), first)


def test_every_part_of_the_key_matters():
    """All keys with small parts, where sums or shifted parts would collide; 4 numbers identify a draw."""
    seen = set()
    keys = list(itertools.product(range(4), range(4), range(4), range(-2, 4)))
    for seed, sample, step, index in keys:
        seen.add(KeyedNoise(seed, sample).slice_normal(step, index, (4,)).tobytes())
    assert len(seen) == len(keys)


@given(
    st.lists(
        st.tuples(st.integers(0, 1000), st.integers(0, 100_000), st.integers(-500, 100_000)),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
def test_two_keys_give_two_draws(keys: list[tuple[int, int, int]]):
    """Samples, steps and slices far beyond what a run has."""
    (sample_a, step_a, index_a), (sample_b, step_b, index_b) = keys
    a = KeyedNoise(0, sample_a).slice_normal(step_a, index_a, (4,))
    b = KeyedNoise(0, sample_b).slice_normal(step_b, index_b, (4,))
    assert not np.array_equal(a, b)


def test_slices_do_not_depend_on_how_many_there_are():
    """The first slices of a tall volume are those of a low one: a slice's noise knows only its own index."""
    tall, low = (KeyedNoise(1).volume(2, (n, *PLANE), correlation=1.7) for n in (9, 4))
    assert torch.equal(tall[:4], low)


@pytest.mark.parametrize("correlation", [0.0, 0.2, 1.0, 3.0, 8.0])
def test_moments(correlation: float):
    """Mean 0, variance 1 in every slice, the first and last included.

    1600 values a slice: the standard error of the variance is sqrt(2 / 1600) = 0.035, of the mean 0.025; the
    bounds are 4 of them.
    """
    x = KeyedNoise(0).volume(0, (6, *PLANE), correlation)
    assert (x.var(dim=(1, 2)) - 1).abs().max() < 0.14
    assert x.mean(dim=(1, 2)).abs().max() < 0.1


@pytest.mark.parametrize("correlation", [0.0, 1.0, 2.5])
def test_correlation_along_z_is_as_documented(correlation: float):
    """``exp(-d^2 / (4 c^2))`` at distance d, 0 where c is 0.

    48 slices of 1600 values: at least (48 / (2 c sqrt(pi))) x 1600 independent products, standard error below
    0.01; truncating the kernel at 3 c adds less than 0.002.
    """
    x = KeyedNoise(0).volume(0, (48, *PLANE), correlation).double()
    for distance in (1, 2, 4, 8):
        expected = np.exp(-(distance**2) / (4 * correlation**2)) if correlation else 0.0
        found = float((x[distance:] * x[:-distance]).mean())
        assert found == pytest.approx(expected, abs=0.03)


def test_correlated_noise_is_a_weighted_sum_of_the_white_slices_around():
    """Slice z of the smoothed volume is centred on the white slice of the same number."""
    noise, z, spread = KeyedNoise(3), 2, 1.5
    offsets = np.arange(-5, 6)
    weights = np.exp(-0.5 * (offsets / spread) ** 2)
    white = np.stack([noise.slice_normal(7, z + offset, (4, 6)) for offset in offsets])
    expected = np.tensordot(weights / np.sqrt((weights**2).sum()), white, axes=1)
    np.testing.assert_allclose(noise.volume(7, (5, 4, 6), spread)[z].numpy(), expected, atol=1e-6)


def test_the_numbers_of_a_key_never_change():
    """A seed noted in a report must give the same volume in every release and on every machine."""
    expected = [-0.02759512, 0.30230352, 0.96443915]
    np.testing.assert_allclose(KeyedNoise(2024, sample=3).slice_normal(5, 7, (3,)), expected, rtol=1e-6)


def test_white_in_the_plane():
    """Neighbours in a slice are independent also where slices are correlated; standard error 1 / sqrt(9600)."""
    x = KeyedNoise(0).volume(0, (6, *PLANE), 2.0)
    assert abs(float((x[:, :, 1:] * x[:, :, :-1]).mean())) < 0.05
    assert abs(float((x[:, 1:] * x[:, :-1]).mean())) < 0.05


def test_seeds_samples_and_steps_are_uncorrelated():
    reference = KeyedNoise(0, 0).volume(0, (4, *PLANE), 1.0)
    for other in (
        KeyedNoise(1, 0).volume(0, (4, *PLANE), 1.0),
        KeyedNoise(0, 1).volume(0, (4, *PLANE), 1.0),
        KeyedNoise(0, 0).volume(1, (4, *PLANE), 1.0),
    ):
        assert abs(float((reference * other).mean())) < 0.06  # 4 standard errors of 6400 correlated values


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (7, 1, 2)])
def test_odd_shapes(shape: tuple[int, int, int]):
    assert KeyedNoise(0).volume(0, shape, 2.0).shape == shape


@pytest.mark.parametrize("seed", [0, 2**31, 2**63 - 1])
def test_large_seeds(seed: int):
    assert torch.isfinite(KeyedNoise(seed).volume(0, (1, 2, 2))).all()
