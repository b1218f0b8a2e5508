"""Volumes, measured data and their files; importing it registers every format.

To add a format, write one module with `reader` or `writer` from `medrecon.data.formats` and import it here; the order
of the imports is the order of sniffing.
"""

from medrecon.data import dicom_ct_pd  # noqa: F401  (registers the formats; before dicom, whose files these are too)

# isort: split
from medrecon.data import (  # noqa: F401
    arrays,
    cfl,
    data_exchange,
    dicom,
    dicom_write,
    fastmri,
    h5_volume,
    htc2022,
    ismrmrd,
    kspace_h5,
    nifti,
    nikon,
    nxtomo,
    ome_zarr,
    rtk_files,
    scan_h5,
    skyscan,
    tiff_stack,
    twix,
    walnut,
)
from medrecon.data.formats import read, read_scan, read_volume, readers, sniff, write, writers
from medrecon.data.kspace import KSpace
from medrecon.data.scan import Scan
from medrecon.data.volume import Geometry, Volume

__all__ = [
    "Geometry",
    "KSpace",
    "Scan",
    "Volume",
    "read",
    "read_scan",
    "read_volume",
    "readers",
    "sniff",
    "write",
    "writers",
]
