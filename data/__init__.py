"""Volumes, measured data and their files; importing it registers every format.

To add a format, write one module with `reader` or `writer` from `medrecon.data.formats` and import it here; the order
of the imports is the order of sniffing.
"""

from medrecon.data import dicom, dicom_write, h5_volume, nifti, ome_zarr, scan_h5  # noqa: F401  (registers the formats)
from medrecon.data.formats import read, read_scan, read_volume, readers, sniff, write, writers
from medrecon.data.scan import Scan
from medrecon.data.volume import Geometry, Volume

__all__ = ["Geometry", "Scan", "Volume", "read", "read_scan", "read_volume", "readers", "sniff", "write", "writers"]
