# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Compressed-sensing MRI, from k-space to a judged volume
#
# A brain is measured with eight coils and every fourth line of k-space. The inverse Fourier transform of what was
# measured is blurred and aliased; coils, and a model of the image, complete it. Everything here is also a command:
# `medrecon simulate mri`, `info`, `recon`, `compare`.
#
# Research use only.

# %%
import os
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Image

import medrecon
from medrecon import figures
from medrecon.data.sample_files import average_brain
from medrecon.data.volume import Geometry, Volume
from medrecon.kspace_text import kspace_summary
from medrecon.metrics import compare_volumes
from medrecon.mri import coil_maps, measurement_of
from medrecon.mri_figures import measurement_png
from medrecon.physics.mri.masks import make_mask, real_acceleration
from medrecon.scans import problem_from_scan
from medrecon.simulate_mri import simulate_kspace

small = os.environ.get("MEDRECON_NOTEBOOK_SIZE") == "small"  # set by the tests
slices, iterations = (8, 10) if small else (16, 60)
folder = Path(mkdtemp())

# %% [markdown]
# ## The object, and a measurement of it
#
# The bundled T1 average of 152 brains at 2 mm, some slices of it. It is smoother than any person's brain: figures on it
# flatter methods that smooth. The simulation knows coils (loops around the head, by Biot and Savart), a phase of the
# object, noise, and a grid twice as fine as the one that reconstructs.

# %%
whole = average_brain().as_orientation("LPS")
affine = whole.geometry.affine.copy()
affine[:3, 3] += affine[:3, 2] * 30
array = whole.array[30 : 30 + slices].copy()
truth = Volume(array, Geometry(array.shape, affine), "a.u.")
scan = simulate_kspace(truth, "gaussian1d", 4, coils=8, noise=0.01, seed=0)
medrecon.write(folder / "kspace.h5", scan)
for name, value in kspace_summary(medrecon.read(folder / "kspace.h5")).items():
    print(f"{name:24} {value}")

# %% [markdown]
# Raw data of fastMRI, ISMRMRD, BART, Siemens and bare arrays are read the same way: `medrecon.read("FILE")`.
#
# ## Masks
#
# The acceleration is all samples over those measured, calibration included.

# %%
shown = {"gaussian1d": (128,), "fastmri-equispaced": (128,), "poisson2d": (128, 128), "radial": (128, 128)}
figure, axes = plt.subplots(1, len(shown), figsize=(10, 2.8))
for axis, (name, shape) in zip(axes, shown.items(), strict=True):
    mask = make_mask(name, shape, 6, seed=1)
    axis.imshow(np.broadcast_to(mask, (128, 128)), cmap="gray")
    axis.set_title(f"{name}, {real_acceleration(mask):.2f}", fontsize=9)
    axis.set_axis_off()

# %% [markdown]
# ## Coil maps
#
# From the fully sampled centre by ESPIRiT; the phase of the object is absorbed into them, so that what is left to
# reconstruct is a real volume that is not negative.

# %%
maps = coil_maps(measurement_of(scan))
print(tuple(maps.shape), f"length {float(maps.abs().square().sum(dim=1).max()):.4f}")
problem = problem_from_scan(scan)
print(problem.noise_model)

# %% [markdown]
# ## Methods
#
# Zero-filled; least squares over the coils (CG-SENSE); sparse wavelets with random shifts (L1-ESPIRiT); total variation
# in three dimensions. A prior trained with `medrecon train` (docs/training.md) would join them with `method="pnp"`.

# %%
results = {
    "zero-filled": medrecon.reconstruct(problem, "zero-filled"),
    "cg-sense": medrecon.reconstruct(problem, "cg-sense"),
    "l1-wavelet": medrecon.reconstruct(problem, "l1-wavelet", iterations=iterations),
    "tv": medrecon.reconstruct(problem, "tv", iterations=iterations),
}
for name, result in results.items():
    f = compare_volumes(result.volume, truth)
    planes = "  ".join(f"{plane} {f[f'ssim_{plane}']:.3f}" for plane in ("axial", "coronal", "sagittal"))
    residual = result.assessment["discrepancy"]
    print(f"{name:12} PSNR {f['psnr']:5.2f} dB   SSIM {planes}   residual/noise {residual:.2f}")

# %%
volumes = {"truth": truth} | {name: result.volume for name, result in results.items()}
Image(figures.montage_png(volumes, title="1 of 4 lines, 8 coils"), width=900)

# %% [markdown]
# ## Where the data are not fitted
#
# The residual of the samples, over all coils. It is larger than the noise near the centre of k-space: coil maps and a
# real volume describe the object only nearly.

# %%
Image(measurement_png(scan, problem, results["tv"].volume), width=900)

# %% [markdown]
# ## A test without a truth
#
# Hide some of the lines that were measured, reconstruct from the others, and predict the hidden ones. Measured data of
# a scanner have no truth either; this is how methods are compared there.

# %%
outer = np.flatnonzero(scan.mask[0, 0])
outer = outer[np.abs(outer - scan.data.shape[3] // 2) > 8]  # the centre makes the coil maps
hidden = np.zeros_like(scan.mask)
hidden[..., outer[::3]] = True
fewer = problem_from_scan(replace(scan, data=scan.data * ~hidden, mask=scan.mask & ~hidden))
columns = np.flatnonzero(scan.mask[0, 0])
left_out = np.isin(columns, np.flatnonzero(hidden[0, 0]))
for name, settings in (("zero-filled", {}), ("cg-sense", {}), ("tv", {"iterations": iterations})):
    volume = medrecon.reconstruct(fewer, name, **settings).volume
    predicted = problem.op(torch.from_numpy(volume.array))[:, :, left_out]
    measured = problem.y[:, :, left_out]
    error = (predicted - measured).norm() / measured.norm()
    print(f"{name:12} hidden lines are predicted with an error of {float(error):.0%}")
