"""Volumes that come with the package; their notices stand in ``samples/NOTICE.md``."""

from __future__ import annotations

from pathlib import Path

from medrecon.data.formats import read_volume
from medrecon.data.volume import Volume

_FOLDER = Path(__file__).parent / "samples"


def average_brain() -> Volume:
    """The T1 average of 152 brains at 2 mm (MNI ICBM 152, 2009a), 0 to 255, axes RAS: smoother than any person's."""
    return read_volume(_FOLDER / "mni152-t1-2mm.nii.gz", quantity="a.u.")
