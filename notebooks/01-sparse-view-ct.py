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
# # Sparse-view CT, from a file to a judged volume
#
# A chest is measured with 16 views instead of hundreds. Filtered back-projection gives streaks, total variation gives
# patches; a diffusion prior on the slices, held to the data, does better. How much better, and how far to trust it, is
# what this notebook measures. Everything here is also a command: `medrecon simulate ct`, `recon`, `compare`, `report`.
#
# Research use only.

# %%
import os
from pathlib import Path
from tempfile import mkdtemp

from IPython.display import Image

import medrecon
from medrecon import figures
from medrecon.data.anatomy import anatomy
from medrecon.metrics import compare_volumes
from medrecon.physics.noise import PoissonNoise
from medrecon.report import ReportData, write_report
from medrecon.scans import prior_for, problem_from_scan
from medrecon.simulate import coarsened, ct_geometry, describe_simulation, simulate_scan

small = os.environ.get("MEDRECON_NOTEBOOK_SIZE") == "small"  # set by the tests
slices, pixels, steps = (6, 48, 3) if small else (32, 128, 20)
folder = Path(mkdtemp())

# %% [markdown]
# ## The truth, and a measurement of it
#
# The phantom is drawn on a grid twice as fine as the one to reconstruct, and projected there: data made by the operator
# that later reconstructs them would hide its errors. Any CT volume in Hounsfield units can stand here instead:
# `medrecon.read("chest.nii.gz")`.

# %%
fine = anatomy("thorax", (slices, 2 * pixels, 2 * pixels), seed=1)
truth = coarsened(fine, 2)
geometry = ct_geometry(truth, "parallel", views=16)
scan = simulate_scan(fine, geometry, PoissonNoise(photons=1e5), seed=0, refine=1)
medrecon.write(folder / "scan.h5", scan)
print(geometry.describe(), describe_simulation(scan), sep="\n")

# %% [markdown]
# ## The problem
#
# A `Problem` is plain data: operator, measured values, their noise, the grid, the prior. The noise model gives every
# datum its weight; nobody sets one by hand.

# %%
prior = prior_for("ct")
problem = problem_from_scan(medrecon.read(folder / "scan.h5"), prior=prior)
print(problem.op)
print(problem.noise_model)
print(f"prior {prior.card.name}: {prior.card.quantity} from {prior.card.range[0]:g} to {prior.card.range[1]:g}")

# %% [markdown]
# ## Classical volumes
#
# The weight of total variation is found by the discrepancy principle: the residual is brought to the noise.

# %%
fbp = medrecon.reconstruct(problem, "fbp", quantity="HU")
tv = medrecon.reconstruct(problem, "tv", quantity="HU")
print(f"total variation: residual {tv.assessment['discrepancy']:.2f} times the noise")

# %% [markdown]
# ## With the prior
#
# A callback is told of every step; returning `False` from it would stop the run.


# %%
def progress(report):
    if report.stage != "baseline" and report.step % 5 == 0:
        residual = report.stats["discrepancy"]
        print(f"step {report.step}/{report.total_steps}: residual/noise {residual:.2f}, {report.remaining:.0f} s left")


diffusion = medrecon.reconstruct(problem, "pnp", quantity="HU", steps=steps, start=tv.volume, callback=progress)

# %%
volumes = {"truth": truth, "fbp": fbp.volume, "tv": tv.volume, "pnp": diffusion.volume}
Image(figures.montage_png(volumes, title="16 views"), width=900)

# %% [markdown]
# ## Against the truth
#
# On a fixed range of 2000 HU. `z_roughness` compares steps between neighbouring slices with those of the truth: above 1
# slices flicker, below 1 they are smeared.

# %%
for name in ("fbp", "tv", "pnp"):
    f = compare_volumes(volumes[name], truth)
    planes = "  ".join(f"{plane} {f[f'ssim_{plane}']:.3f}" for plane in ("axial", "coronal", "sagittal"))
    print(f"{name:4} PSNR {f['psnr']:5.2f} dB   SSIM {planes}   z-roughness {f['z_roughness']:.2f}")

# %% [markdown]
# ## How far to trust it
#
# Independent samples differ where the data do not decide. Their spread is a lower bound of the uncertainty: where all
# samples share an error of the prior, it shows nothing.

# %%
samples = medrecon.reconstruct(problem, "dds", quantity="HU", samples=3, steps=steps, start=tv.volume)
error = abs(samples.volume.array - truth.array)
inside = figures.body_mask(truth)
share = (error[inside] <= 2 * samples.spread.array[inside]).mean()
print(f"mean of three samples: {compare_volumes(samples.volume, truth)['psnr']:.2f} dB")
print(f"the error is within twice the spread in {share:.0%} of the body")

# %% [markdown]
# ## The report, and the volume with its record

# %%
medrecon.write(folder / "recon.nii.gz", diffusion.volume)
report = write_report(
    folder / "report.html",
    ReportData(
        title="A chest with 16 views",
        volume=diffusion.volume,
        method=diffusion.method,
        baseline=tv.volume,
        baseline_method="tv",
        truth=truth,
        uses_prior=True,
        history=diffusion.stats,
        assessment=diffusion.assessment,
        settings=diffusion.provenance["settings"],
    ),
)
print(sorted(path.name for path in folder.iterdir()))
