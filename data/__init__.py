"""Volumes, measured data and their files; importing it registers every format.

To add a format, write one module with `reader` or `writer` from `medrecon.data.formats` and import it here; the order
of the imports is the order of sniffing.
"""

# Registers the formats. First those whose files others would take for theirs too: dicom and arrays would.
from medrecon.data import dicom_ct_pd, traces_npz  # noqa: F401

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
    segy_reading,
    segy_writing,
    skyscan,
    tiff_stack,
    twix,
    walnut,
)
from medrecon.data.formats import read, read_scan, read_volume, readers, sniff, write, writers
from medrecon.data.kspace import KSpace
from medrecon.data.scan import Scan
from medrecon.data.traces import Traces
from medrecon.data.volume import Geometry, Volume

__all__ = [
    "Geometry",
    "KSpace",
    "Scan",
    "Traces",
    "Volume",
    "read",
    "read_scan",
    "read_volume",
    "readers",
    "sniff",
    "write",
    "writers",
]
