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
# # Missing seismic traces, from a file with holes to a judged volume
#
# A survey after stack has lost half of its traces and a block around an obstacle. They are filled by several methods,
# which are judged without a truth, on live traces that are hidden, and with it. Everything here is also a command:
# `medrecon simulate seismic`, `info`, `recon`, `report`.

# %%
import os
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image, display

import medrecon
from medrecon.calibration import in_words
from medrecon.data.segy import open_segy
from medrecon.data.seismic_model import seismic_model
from medrecon.data.survey import survey_of
from medrecon.physics.seismic import make_trace_mask
from medrecon.physics.slopes import local_slopes
from medrecon.scans import problem_from_scan
from medrecon.seismic_figures import fk_png, live_map_png, wiggle_png
from medrecon.trace_metrics import compare_traces, fk_amplitude

small = os.environ.get("MEDRECON_NOTEBOOK_SIZE") == "small"  # set by the tests
shape = (20, 24, 64) if small else (40, 48, 128)  # rows, columns, samples
folder = Path(mkdtemp())

# %% [markdown]
# ## A survey, and holes in it
#
# Layers, folds and faults from a seed. Half of the traces go at random, and a block that no line crosses. The file is
# SEG-Y, as any other program reads it; a trace that is missing is not in it.

# %%
truth = seismic_model("volume", shape, seed=3)
keep = make_trace_mask("random", shape[:2], 0.5, seed=1) & make_trace_mask("hole", shape[:2], 0.05, seed=2)
medrecon.write(folder / "holes.sgy", truth.keeping(keep))
traces = medrecon.read(folder / "holes.sgy")
for name, value in traces.summary().items():
    print(f"{name:16} {value}")

# %% [markdown]
# ## Where traces are missing, and why
#
# The reader goes by the headers of the traces, never by their number or order. Dead, silent and broken traces count as
# missing too; here all are absent (blue).

# %%
survey = survey_of(traces)
Image(live_map_png(survey))

# %% [markdown]
# ## Methods
#
# Linear interpolation; POCS in overlapping windows; damped rank reduction; interpolation along the local slopes of
# events. Signal to noise is taken on the missing traces alone: over all traces, zeros would already have 3 dB.

# %%
problem = problem_from_scan(traces)
results = {name: medrecon.reconstruct(problem, name) for name in ("linear", "pocs", "drr", "dip")}
reference = truth.to_volume().array
for name, result in results.items():
    figures = compare_traces(result.volume.array, reference, ~traces.live)
    print(f"{name:8}" + "".join(f"  {key} {value:6.2f}" for key, value in figures.items()))

# %% [markdown]
# ## The slopes that `dip` follows
#
# How many samples later an event is in one column than in the column before: found on the live traces first, then on
# what was filled.

# %%
row = int(np.argmax((~traces.live).sum(axis=1)))
columns_first = results["dip"].volume.array.swapaxes(0, 2)
slopes = local_slopes(columns_first).swapaxes(0, 2)
clip = float(np.percentile(np.abs(reference), 98))
panels = {"with holes": np.where(traces.live[:, None], reference, np.nan), "dip": results["dip"].volume.array}
panels |= {"truth": reference, "slope, samples a column": slopes}
figure, axes = plt.subplots(1, len(panels), figsize=(11, 3.2), layout="constrained")
for axis, (name, volume) in zip(axes, panels.items(), strict=True):
    limit, colours = (1.0, "RdBu_r") if name.startswith("slope") else (clip, "gray")
    axis.imshow(volume[row], cmap=colours, vmin=-limit, vmax=limit, aspect="auto")
    axis.set_title(name, fontsize=9)
    axis.set_axis_off()

# %% [markdown]
# ## The traces themselves, and their spectrum
#
# Wiggles of the same section, filled traces in blue. Random holes smear energy over all wavenumbers; what was filled
# gathers it again.

# %%
section = results["dip"].volume.array[row]
Image(wiggle_png(section, ~traces.live[row], survey.columns, survey, 0, clip))

# %%
spectra = {
    "with holes": fk_amplitude(np.where(traces.live[:, None], reference, 0)),
    "filled": fk_amplitude(results["dip"].volume.array),
}
for name, spectrum in spectra.items():
    print(name)
    display(Image(fk_png(spectrum, spectra["filled"].max(), survey.interval, 1.0, "trace")))

# %% [markdown]
# ## Without a truth
#
# `auto` hides some of the live traces, in holes of the kinds that there are: single ones, and copies of the block. The
# block is tested where it is, too: methods fill it, and predict the traces beside it back from what they filled. Each
# kind counts by its share of the missing traces; the mixture of methods that predicts them best is taken. The verdict
# goes by those figures, and by traces that were filled too faintly. Compare with the table above.

# %%
chosen = medrecon.reconstruct(problem)
print(chosen.method, "-", chosen.assessment["selection"]["reason"])
for part in chosen.assessment["selection"]["hidden"]:
    gains = {name: 20 * np.log10(part["signal"] / error) for name, error in part["errors"].items()}
    print(f"{part['name']:14}" + "".join(f"  {name} {gain:5.1f} dB" for name, gain in gains.items()))
print(chosen.assessment["verdict"]["text"])
figures = compare_traces(chosen.volume.array, reference, ~traces.live)
print(f"against the truth: {figures['snr_missing']:.2f} dB on the missing traces")

# %% [markdown]
# ### How far filled samples may be off
#
# What was missed of the hidden traces, relative to the loudness around, makes intervals: nine in ten missing samples
# should lie within the half-width. `recon` writes it beside the result. Below, a filled trace of the block.

# %%
width = chosen.layers["half-width"].array
inside = np.abs(chosen.volume.array - reference) <= width
missing = np.broadcast_to(~traces.live[:, None], reference.shape)
print(in_words(chosen.assessment["intervals"], "amplitude"))
print(f"of the missing samples {inside[missing].mean():.0%} do")
block = np.argwhere(~make_trace_mask("hole", shape[:2], 0.05, seed=2))
place = tuple(block[len(block) // 2])
figure, axis = plt.subplots(figsize=(11, 2.6), layout="constrained")
time = np.arange(shape[2]) * survey.interval
middle, half = chosen.volume.array[place[0], :, place[1]], width[place[0], :, place[1]]
axis.fill_between(time, middle - half, middle + half, color="C0", alpha=0.3, label="nine in ten")
axis.plot(time, middle, "C0", label="filled")
axis.plot(time, reference[place[0], :, place[1]], "k", linewidth=1, label="truth")
axis.set_xlabel("ms")
_ = axis.legend(fontsize=8)

# %% [markdown]
# ## Lines missing at regular distances
#
# Every second column alone: the spectrum repeats itself, and a method that sharpens spectra brings the holes back.
# Dips, found at low frequencies, tell events from their repetitions.

# %%
decimated = truth.keeping(make_trace_mask("regular", shape[:2], 0.5))
for name in ("linear", "pocs", "pocs-fan", "dip"):
    found = medrecon.reconstruct(problem_from_scan(decimated), name, judgement="none").volume.array
    figures = compare_traces(found, reference, ~decimated.live)
    print(f"{name:8} {figures['snr_missing']:6.2f} dB on the missing traces")

# %% [markdown]
# ## The file back
#
# Live traces and their headers are those of the input, byte for byte; filled ones get headers of their own and a mark.

# %%
medrecon.write(folder / "full.sgy", traces.with_volume(chosen.volume))
before, after = (open_segy(folder / name) for name in ("holes.sgy", "full.sgy"))
full = medrecon.read(folder / "full.sgy")
same = after.traces[full.grid.index[traces.live]].tobytes() == before.traces[traces.grid.index[traces.live]].tobytes()
print(f"{len(before)} traces became {len(after)}; live ones are the same: {same}")
