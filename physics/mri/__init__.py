"""How an MR scanner measures: Fourier transforms, sampling, coils, and the operators made of them.

Importing it registers the operators.
"""

from medrecon.physics.mri import nonuniform, sense  # noqa: F401  (registers the operators)
from medrecon.physics.mri.nonuniform import NonCartesianSense
from medrecon.physics.mri.sense import CartesianSense, RealVolume

__all__ = ["CartesianSense", "NonCartesianSense", "RealVolume"]
