"""RTK's CPU projectors (itk-rtk) for a ConeGeometry; used by comparisons only.

RTK turns about its y axis: its (x, y, z) are our (x, z, -y).
"""

from __future__ import annotations

import numpy as np

from medrecon.physics.cone_geometry import ConeGeometry


def to_rtk(points: np.ndarray) -> np.ndarray:
    """Our (x, y, z) as RTK's."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


class RtkProjector:
    """Joseph forward and back projection, and FDK, of arrays in our order of axes; flat detectors."""

    def __init__(self, geometry: ConeGeometry, threads: int = 1) -> None:
        import itk
        from itk import RTK as rtk  # noqa: N811

        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)
        itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(threads)
        self.itk, self.rtk, self.geometry = itk, rtk, geometry
        self.kind = itk.Image[itk.F, 3]
        self.views = rtk.ThreeDCircularProjectionGeometry.New()
        for source, centre, u, v in zip(geometry.source, geometry.centre, geometry.across, geometry.up, strict=True):
            source, centre, u, v = (to_rtk(part) for part in (source, centre, u, v))
            point, vector = itk.Point[itk.D, 3], itk.Vector[itk.D, 3]
            done = self.views.AddProjection(*(point(p.tolist()) for p in (source, centre)),
                                            *(vector(p.tolist()) for p in (u, v)))  # fmt: skip
            assert done

    def volume_image(self, volume: np.ndarray):
        """``(z, y, x)`` as an ITK image."""
        s_z, s_y, s_x = self.geometry.spacing
        return self._image(np.transpose(volume, (1, 0, 2))[::-1], (s_x, s_z, s_y))

    def data_image(self, data: np.ndarray):
        """``(views, rows, columns)`` as an ITK image."""
        pitch = (float(self.geometry.column_pitch[0]), float(self.geometry.row_pitch[0]), 1.0)
        image = self._image(data, pitch)
        image.SetOrigin([*list(image.GetOrigin())[:2], 0.0])
        return image

    def _image(self, array: np.ndarray, spacing: tuple[float, ...]):
        image = self.itk.image_from_array(np.ascontiguousarray(array, dtype=np.float32))
        image.SetSpacing(list(spacing))
        image.SetOrigin([-0.5 * (n - 1) * s for n, s in zip(array.shape[::-1], spacing, strict=True)])
        return image

    def _filter(self, cls, first, second):
        step = cls[self.kind, self.kind].New()
        step.SetGeometry(self.views)
        step.InPlaceOff()
        step.SetInput(0, first)
        step.SetInput(1, second)
        return step

    def forward_filter(self, volume: np.ndarray):
        """A filter whose ``Update`` projects."""
        empty = self.data_image(np.zeros(self.geometry.data_shape, np.float32))
        return self._filter(self.rtk.JosephForwardProjectionImageFilter, empty, self.volume_image(volume))

    def adjoint_filter(self, data: np.ndarray):
        """A filter whose ``Update`` projects back."""
        empty = self.volume_image(np.zeros(self.geometry.shape, np.float32))
        return self._filter(self.rtk.JosephBackProjectionImageFilter, empty, self.data_image(data))

    def fdk_filter(self, data: np.ndarray):
        """A filter whose ``Update`` reconstructs; a ramp without a window, full turn."""
        step = self.rtk.FDKConeBeamReconstructionFilter[self.kind].New()
        step.SetGeometry(self.views)
        step.InPlaceOff()
        step.SetInput(0, self.volume_image(np.zeros(self.geometry.shape, np.float32)))
        step.SetInput(1, self.data_image(data))
        return step

    def result(self, step) -> np.ndarray:
        """The output of a filter in our order of axes: of a volume, or of data."""
        step.Update()
        array = self.itk.array_from_image(step.GetOutput())
        if array.shape == self.geometry.data_shape and array.shape != self.volume_shape:
            return array
        return np.transpose(array[::-1], (1, 0, 2))

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        """Shape of a volume in RTK's order."""
        z, y, x = self.geometry.shape
        return y, z, x
