"""Measured MR data: a brain (mikgroup/sigpy-mri-tutorial) beside sigpy and BART, a Siemens phantom against itself.

    python tests/bench/measured_mri.py brain -o docs/results/mri-brain.jsonl [--prior mr] [--picture brain.png]
    python tests/bench/measured_mri.py brain --methods tv refine:steps=3,trust=0.05 --prior mr -o tried.jsonl
    python tests/bench/measured_mri.py phantom -o docs/results/mri-phantom.jsonl [--prior mr]

The brain was measured 8 times undersampled, no full reference exists. So a twentieth of the measured samples outside of
the calibration is hidden, and each volume, times the coil maps it was made with, predicts them: the error relative to
their size. The weights of sigpy and BART are the best of a grid on another choice of hidden samples; ours are the
defaults. The phantom was fully sampled: it is undersampled after the fact, and compared with the volume of all samples.
That volume has noise of its own, which undersampled data share: a volume without noise would reach ``ceiling`` dB, and
zero filling, which keeps the noise of the samples it has, can lie above it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cases import parsed

import realdata
from helpers.bart import bart, slice_for_bart
from medrecon.data import read
from medrecon.data.kspace import KSpace
from medrecon.engine import reconstruct
from medrecon.metrics import compare_volumes
from medrecon.mri import coil_maps, measurement_of, mri_problem
from medrecon.mri_phase import complex_volume, imaginary_errors, imaginary_part_predicts, with_phase_of
from medrecon.physics.mri.fourier import centred_fft
from medrecon.physics.mri.masks import calibration_widths, make_mask, real_acceleration
from medrecon.prior import NetworkPrior, load_prior
from medrecon.samplers.l1_wavelet import L1Wavelet

WEIGHTS = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
CHOOSING = 100  # seed of the hidden samples on which the weights of the others are chosen
Predict = Callable[[KSpace, float], tuple[np.ndarray, np.ndarray]]


def hidden_samples(kspace: KSpace, seed: int, share: float = 0.05) -> np.ndarray:
    """True where a measured sample is hidden, ``(1, y, x)``; the calibration stays."""
    measured = np.asarray(kspace.sampling)[0]
    widths = calibration_widths(measured[None])[1:]
    centre = np.zeros_like(measured)
    centre[tuple(slice((n - w) // 2, (n + w) // 2 + 1) for n, w in zip(measured.shape, widths, strict=True))] = True
    hidden = measured & ~centre & (np.random.default_rng([seed, 7]).random(measured.shape) < share)
    return hidden[None]


def without(kspace: KSpace, hidden: np.ndarray) -> KSpace:
    """The same scan as if the hidden samples had not been measured."""
    return replace(kspace, data=kspace.data * ~hidden, mask=np.asarray(kspace.sampling) & ~hidden)


def ours(described: str, prior: NetworkPrior | None) -> Predict:
    """A method of this package, ``NAME[:key=value,...]``: predicted k-space ``(coils, 1, y, x)`` and magnitude."""
    method, settings = parsed(described)

    def predict(kspace: KSpace, _: float) -> tuple[np.ndarray, np.ndarray]:
        maps = coil_maps(measurement_of(kspace))
        problem, start = mri_problem(kspace, maps=maps), None
        # As `recon` has it; nothing of this sees a hidden sample
        errors = imaginary_errors(problem) if method in ("tv", "pnp", "refine") else None
        if errors is not None and imaginary_part_predicts(errors):
            maps = with_phase_of(maps, complex_volume(problem))
            problem = mri_problem(kspace, maps=maps)
        if prior is not None and method in ("refine", "pnp"):
            start, problem = reconstruct(problem, "tv").volume, replace(problem, prior=prior)
        if method == "l1-wavelet":
            return _with_maps(complex_volume(problem, L1Wavelet())[0].numpy(), maps[0, :, 0].numpy())
        volume = reconstruct(problem, method, start=start, **settings).volume
        return _with_maps(volume.array[0], maps[0, :, 0].numpy())

    return predict


def _with_maps(image: np.ndarray, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """k-space and magnitude of a complex image ``(y, x)`` seen through maps ``(coils, y, x)``."""
    spectra = centred_fft(torch.from_numpy((maps * image)[:, None].astype(np.complex64)), (2, 3))
    return spectra.numpy(), np.abs(image)


def with_sigpy(kspace: KSpace, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """ESPIRiT and L1-wavelet of sigpy; data in its usual scale, largest value 1."""
    from sigpy.mri import app

    data, scale = _scaled(kspace.data[:, 0])
    maps = app.EspiritCalib(data, calib_width=24, crop=0.8, show_pbar=False).run()
    image = app.L1WaveletRecon(data, maps, lamda=weight, show_pbar=False, max_iter=100).run()
    return _with_maps(image * scale, maps)


def with_bart(kspace: KSpace, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """``ecalib`` and ``pics -l1`` of BART."""
    data = slice_for_bart(kspace.data)
    with tempfile.TemporaryDirectory() as folder:
        maps = bart(Path(folder), ["ecalib", "-m1", "-r24", "-c0.8", "ksp", "out"], ksp=data)
        command = ["pics", "-S", "-l1", "-r", str(weight), "-i", "100", "ksp", "maps", "out"]
        image = bart(Path(folder), command, ksp=data, maps=maps)
        coil_images = image[:, :, None, None] * maps
        spectra = bart(Path(folder), ["fft", "-u", "3", "images", "out"], images=coil_images)  # its own convention
    predicted, measured = np.moveaxis(spectra[:, :, 0], -1, 0)[:, None], np.asarray(kspace.sampling)[0]
    turn = np.vdot(predicted[:, 0, measured], kspace.data[:, 0, measured])  # its sign depends on the size
    return predicted * (turn / abs(turn)), np.abs(image)


def _scaled(data: np.ndarray) -> tuple[np.ndarray, float]:
    scale = float(np.abs(data).max())
    return data / scale, scale


def error(kspace: KSpace, hidden: np.ndarray, predict: Predict, weight: float) -> tuple[float, np.ndarray]:
    """Relative error of the hidden samples, and the magnitude."""
    predicted, image = predict(without(kspace, hidden), weight)
    where = np.broadcast_to(hidden, kspace.data.shape)
    measured = kspace.data[where]
    return float(np.linalg.norm(predicted[where] - measured) / np.linalg.norm(measured)), image


def brain(options: argparse.Namespace, prior: NetworkPrior | None) -> list[dict]:
    """Every method on three choices of hidden samples."""
    kspace = read(realdata.root() / "mri-raw/cartesian_ksp.npy")
    methods: dict[str, Predict] = {m: ours(m, None) for m in ("zero-filled", "cg-sense", "l1-wavelet", "tv")}
    if prior is not None:
        methods |= {m: ours(m, prior) for m in ("pnp", "refine")}
    if options.methods:
        methods = {m: ours(m, prior) for m in options.methods}
    else:
        methods |= {"sigpy L1-ESPIRiT": with_sigpy, "BART L1-ESPIRiT": with_bart}
    records, pictures = [], {}
    for name, predict in methods.items():
        weight, began = 0.0, time.perf_counter()
        if name.startswith(("sigpy", "BART")):
            hidden = hidden_samples(kspace, CHOOSING)
            weight = min(WEIGHTS, key=lambda w: error(kspace, hidden, predict, w)[0])
        for seed in options.seeds:
            found, image = error(kspace, hidden_samples(kspace, seed), predict, weight)
            pictures.setdefault(name, image)
            records.append({"method": name, "seed": seed, "error": found, "weight": weight})
        sys.stderr.write(f"{name}: {found:.4f}, weight {weight:g}, {time.perf_counter() - began:.0f} s\n")
    if options.picture:
        _picture(pictures, options.picture)
    return records


def phantom(options: argparse.Namespace, prior: NetworkPrior | None) -> list[dict]:
    """The phantom, lines taken away after the fact, against its volume of all lines."""
    whole = read(realdata.root() / "mri-raw/siemens_gre.dat")
    reference = reconstruct(mri_problem(whole), "cg-sense").volume
    level = float(np.percentile(reference.array, 99.9))
    ceiling = 20 * float(np.log10(level / measurement_of(whole).level))
    records = []
    for rate in (2.0, 4.0):
        for seed in options.seeds:
            lines = make_mask("gaussian1d", (whole.data.shape[3],), rate, seed=seed)
            mask = np.asarray(lines).reshape(1, 1, -1)
            scan = replace(whole, data=whole.data * mask, mask=mask)
            problem, start = mri_problem(scan), None
            for method in ("zero-filled", "cg-sense", "l1-wavelet", "tv", *(("pnp", "refine") if prior else ())):
                needs = method in ("pnp", "refine")
                posed = replace(problem, prior=prior) if needs else problem
                result = reconstruct(posed, method, seed=seed, start=start if needs else None)
                start = result.volume if method == "tv" else start
                figures = compare_volumes(result.volume, reference, data_range=level)
                record = {
                    "method": method, "acceleration": rate, "real_acceleration": real_acceleration(mask), "seed": seed,
                    "psnr": figures["psnr"], "ssim": figures["ssim"], "ceiling": ceiling,
                    "discrepancy": result.assessment["discrepancy"],
                }  # fmt: skip
                records.append(record)
                sys.stderr.write(f"x{rate:g} {method}: {figures['psnr']:.2f} dB\n")
    return records


def _picture(images: dict[str, np.ndarray], path: Path) -> None:
    """All magnitudes at one window."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    top = np.percentile(images["l1-wavelet"], 99.7)
    columns = (len(images) + 1) // 2
    figure, axes = plt.subplots(2, columns, figsize=(3 * columns, 7.4), layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for ax, (name, image) in zip(axes.flat, images.items(), strict=False):
        ax.imshow(image, cmap="gray", vmin=0, vmax=top)
        ax.set_title(name)
    figure.savefig(path, dpi=90)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one of the two and write its records."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("brain", "phantom"))
    parser.add_argument("--prior", help="name or file of an MR prior; without it classical methods only")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", help="brain: these of ours alone, name or name:key=value,key=value")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    prior = load_prior(options.prior) if options.prior else None
    records = (brain if options.what == "brain" else phantom)(options, prior)
    options.output.write_text("".join(json.dumps(record) + "\n" for record in records))


if __name__ == "__main__":
    main()
