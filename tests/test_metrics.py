"""Metrics against scikit-image, against numbers worked out by hand, and against tempting mistakes."""

from __future__ import annotations

import math

import numpy as np
import pytest

import file_examples as examples
from medrecon.data.volume import Geometry, Volume
from medrecon.errors import InputError
from medrecon.metrics import (
    PLANES,
    compare_volumes,
    difference,
    nmse,
    psnr,
    rmse,
    slices_with_tissue,
    ssim,
    z_roughness,
)


def body(shape: tuple[int, int, int] = (20, 24, 28), spacing: tuple[float, float, float] = (2.5, 1.2, 1.1)) -> Volume:
    """A smooth blob of 0 to 300 HU in air, off centre, with some slices of air at every side."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = (z / 0.7) ** 2 + ((y - 0.1) / 0.75) ** 2 + ((x + 0.05) / 0.8) ** 2 < 1
    texture = np.random.default_rng(3).normal(0, 60, shape)
    array = np.where(inside, 150 * (1 + np.sin(4 * x + 3 * y * z)) + texture, -1000.0)
    return Volume(array.astype(np.float32), Geometry.from_spacing(shape, spacing), "HU")


def noisy(volume: Volume, sigma: float = 40.0, seed: int = 0) -> Volume:
    noise = np.random.default_rng(seed).normal(0, sigma, volume.array.shape)
    return volume.with_array((volume.array + noise).astype(np.float32))


def test_known_values():
    truth = np.zeros((2, 2, 2), np.float32)
    recon = truth + 10
    assert rmse(recon, truth) == 10
    assert psnr(recon, truth, data_range=1000) == pytest.approx(40)
    assert psnr(truth, truth, data_range=1000) == math.inf
    assert nmse(truth + 3, truth + 4) == pytest.approx(1 / 16)
    assert nmse(truth - 900, truth - 800, zero=-1000) == pytest.approx(1 / 4)
    mask = np.zeros(truth.shape, bool)
    mask[0, 0, 0] = True
    recon[0, 0, 0] = 100
    assert rmse(recon, truth, mask) == 100


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("data_range", [2000.0, 300.0])
def test_ssim_is_that_of_scikit_image(plane, data_range):
    from skimage.metrics import structural_similarity

    axis = PLANES[plane]
    truth = body().array + 1000
    recon = noisy(body()).array + 1000
    expected = np.mean(
        [
            structural_similarity(
                recon.take(n, axis).astype(float),
                truth.take(n, axis).astype(float),
                data_range=data_range,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for n in range(truth.shape[axis])
        ]
    )
    assert ssim(recon, truth, data_range=data_range, axis=axis) == pytest.approx(expected, abs=1e-9)


def test_psnr_is_that_of_scikit_image():
    from skimage.metrics import peak_signal_noise_ratio

    truth, recon = body().array, noisy(body()).array
    expected = peak_signal_noise_ratio(truth.astype(float), recon.astype(float), data_range=2000)
    assert psnr(recon, truth, data_range=2000) == pytest.approx(expected, abs=1e-9)


def test_masked_ssim_averages_the_map_inside():
    from skimage.metrics import structural_similarity

    truth, recon = body().array.astype(float) + 1000, noisy(body()).array.astype(float) + 1000
    mask = np.zeros(truth.shape, bool)
    mask[8, 9:14, 10:20] = True
    _, full = structural_similarity(
        recon[8], truth[8], data_range=2000, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert ssim(recon, truth, data_range=2000, mask=mask) == pytest.approx(full[mask[8]].mean(), abs=1e-9)


def test_slabs_do_not_matter(monkeypatch):
    truth, recon = body().array, noisy(body()).array
    whole = ssim(recon, truth, data_range=2000, axis=1)
    monkeypatch.setattr("medrecon.metrics._SLAB", 1)
    assert ssim(recon, truth, data_range=2000, axis=1) == pytest.approx(whole, abs=1e-12)


def test_small_slices_have_no_ssim():
    assert math.isnan(ssim(np.zeros((3, 10, 30)), np.zeros((3, 10, 30)), data_range=1))


def test_z_roughness():
    truth = body().array
    assert z_roughness(truth, truth) == 1
    assert z_roughness(2 * truth, truth) == pytest.approx(2)
    flicker = truth + 200 * (np.arange(20) % 2)[:, None, None]
    smeared = 0.5 * (truth + np.roll(truth, 1, axis=0))
    assert z_roughness(flicker, truth) > 1.1 and z_roughness(smeared, truth) < 0.9


def test_slices_of_air_are_left_out():
    truth = body()
    figures = compare_volumes(noisy(truth), truth)
    counts = figures["slices_compared"]
    for plane, axis in PLANES.items():
        tissue = slices_with_tissue(truth.array, axis, threshold=-960)
        assert counts[plane] == tissue.sum() < truth.array.shape[axis]  # type: ignore[index]
        selected = np.flatnonzero(tissue)
        shifted = [v.array.astype(float) + 1000 for v in (noisy(truth), truth)]
        expected = ssim(shifted[0].take(selected, axis), shifted[1].take(selected, axis), data_range=2000, axis=axis)
        assert figures[f"ssim_{plane}"] == pytest.approx(expected, abs=1e-6)


def test_figures_of_a_comparison():
    truth = body()
    figures = compare_volumes(truth.with_array(truth.array + 20), truth)
    assert figures["rmse"] == pytest.approx(20)
    for key in ("psnr", "psnr_axial", "psnr_coronal", "psnr_sagittal"):
        assert figures[key] == pytest.approx(40)
    assert figures["z_roughness"] == pytest.approx(1, abs=1e-5)
    assert figures["data_range"] == 2000 and figures["quantity"] == "HU" and figures["masked"] is False
    assert 0.9 < float(str(figures["ssim"])) < 1
    best = compare_volumes(truth, truth)
    assert best["psnr"] == math.inf and best["ssim"] == pytest.approx(1) and best["nmse"] == 0


def test_range_is_fixed():
    """Flattening both volumes must not leave the figures unchanged, as min-max scaling of each image would."""
    truth = body()
    recon = noisy(truth)
    flat = [v.with_array(v.array * 0.1 - 900) for v in (recon, truth)]
    assert compare_volumes(*flat)["psnr"] == pytest.approx(
        float(str(compare_volumes(recon, truth)["psnr"])) + 20, abs=1e-3
    )


@pytest.mark.parametrize("letters", ["RAS", "PIR", "LIA", "SAL"])
def test_axis_order_makes_no_difference(letters):
    truth = body()
    expected = compare_volumes(noisy(truth), truth)
    turned = noisy(truth).as_orientation(letters)
    mask = truth.with_array((truth.array > -900).astype(np.float32))
    assert compare_volumes(turned, truth) == expected
    assert compare_volumes(noisy(truth), truth.as_orientation(letters)) == expected
    assert compare_volumes(turned, truth, mask) == compare_volumes(noisy(truth), truth, mask.as_orientation("ASR"))


def test_oblique_grids():
    truth = body().with_array(body().array)
    affine = truth.geometry.affine.copy()
    affine[:3] = examples.rotation(14) @ affine[:3]
    oblique = Volume(truth.array, Geometry(truth.array.shape, affine), "HU")  # type: ignore[arg-type]
    assert compare_volumes(oblique.as_orientation("RAS"), oblique)["psnr"] == math.inf
    with pytest.raises(InputError, match="different grids"):
        compare_volumes(oblique, truth)


def test_other_grids_are_refused_with_both_described():
    truth = body()
    shifted = truth.geometry.affine.copy()
    shifted[0, 3] += 0.5
    for other in (
        Volume(truth.array, Geometry(truth.geometry.shape, shifted), "HU"),
        Volume(truth.array, Geometry.from_spacing(truth.geometry.shape, (2.5, 1.2, 1.2)), "HU"),
        body((20, 24, 27)),
    ):
        with pytest.raises(
            InputError, match=r"found 20 x 24 x 2\d .*expected 20 x 24 x 28 \(z, y, x\) of 2.5 x 1.2 x 1.1 mm, axes LPS"
        ):
            compare_volumes(other, truth)


def test_units():
    truth = body()
    recon = noisy(truth)
    figures = compare_volumes(recon.to_quantity("1/mm"), truth)
    assert figures["psnr"] == pytest.approx(compare_volumes(recon, truth)["psnr"], abs=1e-3)
    in_mu = compare_volumes(recon, truth.to_quantity("1/mm"))
    assert in_mu["data_range"] == pytest.approx(0.0384) and in_mu["psnr"] == pytest.approx(figures["psnr"], abs=1e-3)
    assert in_mu["ssim"] == pytest.approx(figures["ssim"], abs=1e-4)
    with pytest.raises(InputError, match="no conversion"):
        compare_volumes(Volume(recon.array, recon.geometry, "a.u."), truth)


def test_arbitrary_units_take_the_largest_of_the_truth():
    truth = Volume(np.abs(body().array), body().geometry, "a.u.")
    figures = compare_volumes(truth, truth)
    assert figures["data_range"] == truth.array.max() and figures["data_range_from"] == "largest magnitude of the truth"
    assert compare_volumes(truth, truth, data_range=5)["data_range_from"] == "given"


def test_mask_and_refusals():
    truth = body()
    recon = truth.with_array(np.where(truth.array > -900, truth.array + 10, truth.array + 500).astype(np.float32))
    assert compare_volumes(recon, truth, truth.array > -900)["rmse"] == pytest.approx(10)
    with pytest.raises(InputError, match="mask is empty"):
        compare_volumes(recon, truth, np.zeros(truth.array.shape))
    with pytest.raises(InputError, match="another shape"):
        compare_volumes(recon, truth, np.ones((2, 2, 2)))
    with pytest.raises(InputError, match="nothing but air"):
        compare_volumes(recon, truth.with_array(np.full_like(truth.array, -1000)))
    with pytest.raises(InputError, match="data range"):
        compare_volumes(recon, truth, data_range=0)


def test_inputs_are_not_changed():
    truth, recon = body(), noisy(body())
    before = truth.array.copy(), recon.array.copy()
    compare_volumes(recon, truth, truth.array > 0)
    np.testing.assert_array_equal(truth.array, before[0])
    np.testing.assert_array_equal(recon.array, before[1])


def test_difference_is_taken_on_the_grid_of_the_reference():
    reference = body()
    moved = reference.with_array(reference.array + 5).as_orientation("SPR")
    found = difference(moved, reference)
    assert found.geometry.almost_equal(reference.geometry) and found.quantity == "HU"
    np.testing.assert_allclose(found.array, 5, atol=1e-3)
    np.testing.assert_allclose(difference(reference.to_quantity("1/mm"), reference).array, 0, atol=0.01)
    other = Volume(reference.array[:-1], Geometry.from_spacing(reference.array[:-1].shape, reference.geometry.spacing))
    with pytest.raises(InputError, match="different grids"):
        difference(other, reference)
