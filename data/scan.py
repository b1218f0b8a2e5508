"""`Scan`: what an instrument measured, with all that is needed to reconstruct it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from medrecon.data.volume import WATER, Geometry
from medrecon.errors import InputError


@dataclass(frozen=True, eq=False)
class Scan:
    """Measured data, their geometry and their noise.

    Attributes
    ----------
    data
        For ``modality="ct"``: line integrals (dimensionless), float32 ``(views, slices, columns)``, of a cone beam
        ``(views, rows, columns)``.
    geometry
        How they were measured: the dictionary of ``CTGeometry.to_dict()`` or ``ConeGeometry.to_dict()`` (lengths in
        mm, angles in radians).
    volume_geometry
        The grid to reconstruct on.
    noise
        ``{"kind": "poisson", "photons": 1e5, "electronic": 0.0}``, ``{"kind": "gaussian", "sigma": 0.01}`` or ``{}``.
    water
        Linear attenuation of water, 1/mm: the Hounsfield scale of the result.
    provenance
        Where the data come from; plain JSON values, no patient data.
    meta
        What a reader has to say: ``{"verified": True}`` when checksums were there and agreed.
    """

    data: np.ndarray
    geometry: dict
    volume_geometry: Geometry
    modality: str = "ct"
    noise: dict = field(default_factory=dict)
    water: float = WATER
    provenance: dict = field(default_factory=dict)
    meta: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.modality == "ct" and (self.data.ndim != 3 or min(self.data.shape) < 1):
            raise InputError(
                "projections have three dimensions",
                found=self.data.shape,
                expected="(views, slices, columns), or (views, rows, columns) of a cone beam",
            )
        if not (np.isfinite(self.water) and 0 < self.water < 1):
            raise InputError(
                "the attenuation of water is out of range",
                found=self.water,
                expected="1/mm, about 0.0192",
                hint="Values in 1/cm are ten times larger.",
            )

    @property
    def is_cone(self) -> bool:
        """Whether this is a cone beam: one volume behind all rows, not a slice behind each."""
        return self.modality == "ct" and str(self.geometry.get("kind", "")).startswith("cone")
