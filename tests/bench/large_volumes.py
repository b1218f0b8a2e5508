"""Time and memory of large volumes, by the command that users type, each in a process of its own.

    python tests/bench/large_volumes.py mri [--mask poisson2d] [--methods tv refine]
    python tests/bench/large_volumes.py slabs [--size 512] [--views 60] [--slab 32] [--methods fbp tv:iterations=4]

``mri``: the average head, enlarged to 160 x 232 x 160 voxels of 1 mm, 8 coils, 8 times undersampled, noise of 1 %.
``slabs``: a drawn abdomen and parallel beams; few iterations, because more take longer and no more memory. Written
files stay in a temporary folder, which is removed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from medrecon.data.nifti import write_nifti
from medrecon.data.sample_files import average_brain
from medrecon.data.volume import Geometry, Volume

_HEAD = (160, 232, 160)


def command(*arguments: str) -> tuple[float, float]:
    """Seconds by the clock, and GiB at the peak, of one run of medrecon; its messages go to the terminal."""
    script = "from medrecon.cli.app import main; main()"
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"medrecon {' '.join(arguments)}: failed")
    return time.perf_counter() - began, usage.ru_maxrss / 2**20


def measured(scan: Path, folder: Path, described: str, *options: str) -> None:
    """Reconstruct by one method and print what the whole command took."""
    method, _, settings = described.partition(":")
    chosen = [part for setting in settings.split(",") if setting for part in ("--set", setting)]
    seconds, peak = command(
        "recon", str(scan), "-o", str(folder / f"{method}.nii.gz"), "--method", method, *chosen, *options
    )
    sys.stdout.write(f"{described}: {seconds:.0f} s, {peak:.2f} GiB at the peak\n")
    sys.stdout.flush()


def main() -> None:
    """Simulate, reconstruct, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["mri", "slabs"])
    parser.add_argument("--mask", default="poisson2d")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--views", type=int, default=60)
    parser.add_argument("--slab", type=int, default=32)
    parser.add_argument("--methods", nargs="+")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth, scan = folder / "truth.nii.gz", folder / "scan.h5"
        if chosen.what == "mri":
            small = average_brain()
            grid = Geometry.from_spacing(_HEAD, (1.0, 1.0, 1.0))
            factors = tuple(wanted / had for wanted, had in zip(_HEAD, small.geometry.shape, strict=True))
            array = np.clip(ndimage.zoom(small.array.astype(np.float32), factors, order=1), 0, None)
            write_nifti(truth, Volume(array, grid, "a.u."))
            how = ("--mask", chosen.mask, "--acceleration", "8", "--coils", "8", "--noise", "0.01", "--refine", "1")
            command("simulate", "mri", str(truth), "-o", str(scan), *how)
            for method in chosen.methods or ["tv", "refine"]:
                measured(scan, folder, method)
            return
        command("simulate", "ct-phantom", "abdomen", "-o", str(truth), "--shape", ",".join(3 * [str(chosen.size)]))
        how = ("--views", str(chosen.views), "--photons", "1e5", "--refine", "1")
        command("simulate", "ct", str(truth), "-o", str(scan), *how)
        for method in chosen.methods or ["fbp", "tv:iterations=4,cg_iterations=4"]:
            measured(scan, folder, method, "--slab", str(chosen.slab))


if __name__ == "__main__":
    main()
