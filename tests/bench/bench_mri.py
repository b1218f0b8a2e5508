"""Speed of MRI operators against other codes, in one process, alternating, one thread: ratios of medians.

python tests/bench/bench_mri.py [--rounds N] [--slices N] [--size N]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from helpers.mri import full_kspace, head, maps_and_image
from medrecon.physics.mri.calibration import espirit
from medrecon.physics.mri.fourier import cropped
from medrecon.physics.mri.masks import make_mask
from medrecon.physics.mri.nonuniform import NonCartesianSense, radial_trajectory
from medrecon.physics.mri.sense import CartesianSense

COILS = 8


def compared(name: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> None:
    """One warm-up of both, then turns; prints both medians and how many times faster ours is."""
    ours(), theirs()
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        turn = []
        for work in (ours, theirs):
            began = time.perf_counter()
            work()
            turn.append(time.perf_counter() - began)
        times.append((turn[0], turn[1]))
    mine, other = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = sorted(other / mine for mine, other in times)
    sys.stdout.write(
        f"{name:34s} {1e3 * mine:9.1f} ms  {1e3 * other:9.1f} ms  ratio {other / mine:5.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f})\n"
    )


def sense(size: int, slices: int, rounds: int) -> None:
    """Normal operator of slices with a mask of lines, against sigpy slice by slice."""
    import sigpy.mri as mr

    shape = (slices, size, size)
    maps = maps_and_image(head(shape), COILS)[0]
    mask = make_mask("gaussian1d", (size,), 4)
    op = CartesianSense(maps[None], torch.from_numpy(mask)[None, None], shape)
    x = torch.randn(shape, dtype=torch.complex64)
    weights = np.broadcast_to(mask, (size, size)).astype(np.float32)
    theirs = [mr.linop.Sense(np.ascontiguousarray(maps[:, z].numpy()), weights=weights).N for z in range(slices)]
    images = [x[z].numpy() for z in range(slices)]
    other = np.stack([linop(image) for linop, image in zip(theirs, images, strict=True)])
    error = np.linalg.norm(other - op.normal(x).numpy()) / np.linalg.norm(other)
    compared(
        f"SENSE normal, sigpy (error {error:.0e})",
        lambda: op.normal(x),
        lambda: [linop(image) for linop, image in zip(theirs, images, strict=True)],
        rounds,
    )


def volume(size: int, rounds: int) -> None:
    """A 3D scan undersampled along z and x: hybrid against three-dimensional transforms."""
    shape = (size // 4, size // 2, size // 2)
    maps = maps_and_image(head(shape), COILS)[0]
    mask = torch.from_numpy(make_mask("poisson2d", (shape[0], shape[2]), 4, centre=8))[:, None]
    hybrid = CartesianSense(maps[None], mask, shape, (0, 1, 2))
    x = torch.randn(shape, dtype=torch.complex64)
    signs = sum(torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")) % 2
    modulated = maps * (1 - 2 * signs)
    mask_full = mask.expand(shape).to(torch.float32).contiguous()

    def whole() -> torch.Tensor:
        spectra = torch.fft.fftn(modulated * x, dim=(1, 2, 3), norm="ortho")
        torch.view_as_real(spectra).mul_(mask_full[..., None])
        images = torch.fft.ifftn(spectra, dim=(1, 2, 3), norm="ortho")
        return (images * modulated.conj()).sum(dim=0)

    error = float((whole() - hybrid.normal(x)).norm() / hybrid.normal(x).norm())
    compared(f"3D normal, full FFT (error {error:.0e})", lambda: hybrid.normal(x), whole, rounds)


def calibration(size: int, rounds: int) -> None:
    """ESPIRiT maps of one slice, against sigpy."""
    import sigpy.mri as mr

    shape = (1, size, size)
    kspace = full_kspace(head(shape), COILS, noise=2.0)
    centre = cropped(kspace, (24, 24)).contiguous()
    data = kspace[:, 0].numpy()
    compared(
        "ESPIRiT, sigpy",
        lambda: espirit(centre, shape, shape, (1, 2)),
        lambda: mr.app.EspiritCalib(data, calib_width=24, show_pbar=False).run(),
        max(2, rounds // 4),
    )


def spokes(size: int, rounds: int) -> None:
    """Radial forward and adjoint, against sigpy's NUFFT; the errors are against double precision."""
    import sigpy as sp

    shape = (1, size, size)
    maps = maps_and_image(head(shape), COILS)[0]
    trajectory = radial_trajectory(size // 4, 2 * size, (size, size))
    op = NonCartesianSense(maps[None], torch.from_numpy(trajectory), shape)
    exact = NonCartesianSense(maps[None].to(torch.complex128), torch.from_numpy(trajectory), shape)
    x = torch.randn(shape, dtype=torch.complex64)
    images = (maps * x)[:, 0].numpy()
    y, reference = op(x), exact(x.to(torch.complex128))
    other = sp.nufft(images, trajectory)
    for label, found in (("ours", y[0]), ("sigpy", torch.from_numpy(other))):
        error = float((found - reference[0]).norm() / reference.norm())
        sys.stdout.write(f"    error of {label}: {error:.1e}\n")
    data = y[0].numpy()
    compared("NUFFT forward, sigpy", lambda: op(x), lambda: sp.nufft(images, trajectory), rounds)
    compared(
        "NUFFT adjoint, sigpy",
        lambda: op.adjoint(y),
        lambda: sp.nufft_adjoint(data, trajectory, (COILS, size, size)),
        rounds,
    )


def reading(size: int, slices: int, rounds: int) -> None:
    """An ISMRMRD file of whole slices: all acquisitions at once, and the sorted k-space, against the package's loop."""
    import ismrmrd

    from helpers import mr_files
    from medrecon.data import hdf5, read
    from medrecon.data.ismrmrd import acquisitions
    from medrecon.data.limits import Limits

    fov = (2.0 * size, float(size), 1.0)
    xml = mr_files.header_xml((2 * size, size, 1), fov, (size, size, 1), (float(size), float(size), 1.0))
    data = mr_files.complex_noise(slices * size, COILS, 2 * size)
    numbers = np.arange(slices * size)
    directions = mr_files.oblique_directions()
    fields = {
        "kspace_encode_step_1": numbers % size, "slice": numbers // size,
        "position": numbers[:, None] // size * directions[2],
        "read_dir": directions[0], "phase_dir": directions[1], "slice_dir": directions[2],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = mr_files.write_ismrmrd(Path(folder) / "scan.h5", xml, mr_files.acquisitions(data, **fields))

        def loop() -> list[np.ndarray]:
            with ismrmrd.Dataset(str(path), "dataset", create_if_needed=False) as dataset:
                return [dataset.read_acquisition(n).data for n in range(dataset.number_of_acquisitions())]

        def bulk() -> list[np.ndarray]:
            with hdf5.open_input(path, "ISMRMRD") as file:
                samples = acquisitions(file, "dataset/data", path.name, Limits())[1]
            return [line.view(np.complex64).reshape(COILS, -1) for line in samples]

        found = read(path).data.transpose(1, 3, 0, 2).reshape(data.shape)
        same = all(np.array_equal(ours, theirs) for ours, theirs in zip(found, loop(), strict=True))
        compared("ISMRMRD, loop", bulk, loop, max(2, rounds // 4))
        compared(f"  sorted, loop (same: {same})", lambda: read(path), loop, max(2, rounds // 4))


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--size", type=int, default=256)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    sense(chosen.size, chosen.slices, chosen.rounds)
    volume(chosen.size, chosen.rounds)
    calibration(chosen.size, chosen.rounds)
    spokes(chosen.size, chosen.rounds)
    reading(chosen.size, chosen.slices, chosen.rounds)


if __name__ == "__main__":
    main()
