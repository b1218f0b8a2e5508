"""NIfTI files that this package writes, judged by nifti_tool and read by ITK."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

import file_examples as examples
from medrecon.data import Geometry, Volume, write

FLIPPED = np.array([[0, 0, 3.0, 5.5], [0.7, 0, 0, -250.123456], [0, -0.9, 0, 987.654321], [0, 0, 0, 1]])
GEOMETRIES = {
    "axial": Geometry.from_spacing((4, 6, 6), (2.5, 1.0, 1.0)),
    "oblique": examples.oblique(),
    "anisotropic": Geometry.from_spacing((3, 5, 11), (7.5, 0.3515625, 1.1)),
    "flipped": Geometry((4, 5, 9), FLIPPED),
    "far": Geometry((4, 5, 9), examples.oblique((4, 5, 9)).affine + np.eye(4, k=3) * 1234.5),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_nifti_tool_finds_nothing(tmp_path, name):
    if shutil.which("nifti_tool") is None:
        pytest.skip("program nifti_tool is not installed")
    path = write(tmp_path / "v.nii.gz", examples.volume(GEOMETRIES[name]))
    command = ["nifti_tool", "-check_hdr", "-check_nim", "-infiles", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "header IS GOOD" in done.stdout and "nifti_image IS GOOD" in done.stdout


@pytest.mark.parametrize("name", GEOMETRIES)
def test_itk_agrees(tmp_path, name):
    """ITK accepts orthonormal axes alone; every corner lies within 1e-4 mm and every value is the same."""
    sitk = pytest.importorskip("SimpleITK")
    volume = examples.volume(GEOMETRIES[name])
    image = sitk.ReadImage(str(write(tmp_path / "v.nii.gz", volume)))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image)
    theirs = Volume(array, Geometry(array.shape, np.diag([-1.0, -1, 1, 1]) @ affine), "HU")
    tolerance = 1e-4 if name != "far" else 3e-4  # float32 at 1200 mm
    assert theirs.geometry.almost_equal(volume.geometry, tolerance)
    np.testing.assert_array_equal(array, volume.array)
