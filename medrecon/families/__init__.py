"""Kinds of networks that a prior may hold: importing this package registers them all."""

from medrecon.families import adm, diffusers_unet, drunet, edm, monai_unet, ncsnpp
from medrecon.families.base import CheckpointFamily, Family, checkpoint_families, families, family_of

__all__ = [
    "CheckpointFamily",
    "Family",
    "adm",
    "checkpoint_families",
    "diffusers_unet",
    "drunet",
    "edm",
    "families",
    "family_of",
    "monai_unet",
    "ncsnpp",
]
