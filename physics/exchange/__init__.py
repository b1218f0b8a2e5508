"""Geometries in the words of other tomography libraries, as plain data: dictionaries of numbers, lists and arrays.

Nothing here imports those libraries. ``export(geometry, "astra")`` gives what they need to measure the same rays
through the same voxels, ``read(values, "astra")`` the geometry that such values describe. A convention is one module
with a pair of functions under `convention`.
"""

from medrecon.physics.exchange import astra, cil, rtk, tigre, tomosipo  # noqa: F401  (registers the conventions)
from medrecon.physics.exchange.base import convention, conventions, export, read

__all__ = ["convention", "conventions", "export", "read"]
