"""Small files of projections as scanners and beamlines write them, made from published layouts and an exact phantom."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medrecon.physics.cone_geometry import ConeGeometry
from medrecon.physics.ct_geometry import CTGeometry
from medrecon.physics.phantoms import EllipsoidPhantom

WHITE, DARK = 30000.0, 100.0
BODY = EllipsoidPhantom(
    centres=np.array([[0.0, 3.0, -2.0], [1.0, -4.0, 5.0]]),
    semi_axes=np.array([[9.0, 10.0, 12.0], [3.0, 3.0, 4.0]]),
    rotations=np.array([0.2, 0.0]),
    values=np.array([0.02, 0.02]),
)
CONE = ConeGeometry.circular(
    (20, 32, 32), (1.0, 1.0, 1.0), 60, source_origin=120.0, source_detector=180.0, rows=26, columns=40, row_spacing=1.5,
    column_spacing=1.5,
)  # fmt: skip
STACK = CTGeometry.parallel((4, 32, 32), (1.0, 1.0, 1.0), 40, columns=40, column_spacing=1.0)


def counts(integrals: np.ndarray, white: float = WHITE, dark: float = DARK) -> np.ndarray:
    return (white * np.exp(-integrals) + dark).astype(np.float32)


def tiff(file: Path, picture: np.ndarray) -> None:
    from PIL import Image

    kind = np.uint16 if picture.max() > 300 else np.float32
    Image.fromarray(np.ascontiguousarray(picture.astype(kind))).save(file)


def data_exchange(folder: Path) -> Path:
    import h5py

    path = folder / "scan.hdf"
    with h5py.File(path, "w") as file:
        group = file.create_group("exchange")
        group["data"] = counts(BODY.project(STACK).numpy()).astype(np.uint16)
        flats = np.random.default_rng(0).poisson(WHITE, (8, 4, 40)) + DARK
        group["data_white"], group["data_dark"] = flats.astype(np.uint16), np.full((2, 4, 40), DARK, np.uint16)
        group["theta"] = np.rad2deg(STACK.angles)
        group["theta"].attrs["units"] = "degrees"
        detector = file.create_group("measurement/instrument/detector")
        detector["pixel_size_x"] = 1000.0
        detector["pixel_size_x"].attrs["units"] = "micron"
    return path


def nxtomo(folder: Path) -> Path:
    import h5py

    path = folder / "scan.nx"
    views = counts(BODY.project(STACK).numpy())
    dark, flat = np.full((2, 4, 40), DARK), np.full((3, 4, 40), WHITE + DARK)
    frames = np.concatenate([dark, flat, views[:25], flat, views[25:]])
    keys = np.repeat([2, 1, 0, 1, 0], [2, 3, 25, 3, 15])
    angles = np.zeros(len(frames))
    angles[keys == 0] = np.rad2deg(STACK.angles)
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry0000")
        detector = entry.create_group("instrument/detector")
        detector["data"], detector["image_key"] = frames.astype(np.float32), keys
        for name in ("x_pixel_size", "y_pixel_size"):
            detector[name] = 1e-3
            detector[name].attrs["units"] = "m"
        entry["sample/rotation_angle"] = angles
        entry["sample/rotation_angle"].attrs["units"] = "degree"
        entry["data/data"] = h5py.SoftLink("/entry0000/instrument/detector/data")
    return path


def htc(folder: Path, version: str) -> Path:
    path = folder / "htc.mat"
    fan = CTGeometry.fan(
        (1, 40, 40), (1.0, 0.8, 0.8), angles=np.arange(90) * 4 * np.pi / 180, source_origin=120.0,
        source_detector=180.0, columns=50, column_spacing=1.2,
    )  # fmt: skip
    sinogram = BODY.project(fan).numpy()[:, 0].astype(np.float64)
    # ASTRA's images have their first row at the largest y: angle and columns as it counts them.
    angles = np.rad2deg(np.pi - np.asarray(fan.angles)) % 360
    sinogram = sinogram[:, ::-1]
    numbers = {"distanceSourceOrigin": 120.0, "distanceSourceDetector": 180.0, "pixelSizePost": 1.2}
    if version == "5":
        from scipy.io import savemat

        savemat(path, {"CtDataFull": {"type": "2d", "sinogram": sinogram, "parameters": numbers | {"angles": angles}}})
        return path
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("CtDataFull/parameters")
        file["CtDataFull/sinogram"], group["angles"] = sinogram.T, angles[:, None]
        for name, value in numbers.items():
            group[name] = [[value]]
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, made for a test".ljust(512))
    return path


def tiff_stack(folder: Path) -> Path:
    for view, picture in enumerate(counts(BODY.project(CONE).numpy())):
        tiff(folder / f"proj_{view:04d}.tif", picture)
    tiff(folder / "flat_0.tif", np.full((26, 40), WHITE + DARK))
    tiff(folder / "dark_0.tif", np.full((26, 40), DARK).astype(np.uint16).astype(np.float32))
    path = folder / "scan.yaml"
    path.write_text(
        "projections: proj_*.tif\nflats: flat_*.tif\ndarks: [dark_0.tif]\nangles: {start: 0, step: 6}\ngeometry:\n"
        "  kind: cone-flat\n  column_spacing: 1.5\n  row_spacing: 1.5\n  source_origin: 120\n  source_detector: 180\n"
    )
    return path


def walnut(folder: Path) -> Path:
    for view, picture in enumerate(counts(BODY.project(CONE).numpy())):
        tiff(folder / f"scan_{view:06d}.tif", picture.T[::-1])
    for name, level in (("io000000", WHITE + DARK), ("io000001", WHITE + DARK), ("di000000", DARK + 0.0)):
        tiff(folder / f"{name}.tif", np.full((40, 26), level))
    np.savetxt(folder / "scan_geom_original.geom", np.ones((60, 12)))
    np.savetxt(folder / "scan_geom_corrected.geom", CONE.vectors)
    return folder


def nikon(folder: Path) -> Path:
    for view, picture in enumerate(counts(BODY.project(CONE).numpy(), 60000.0, 0.0)):
        tiff(folder / f"Sample_{view + 1:04d}.tif", picture[::-1])
    path = folder / "Sample.xtekct"
    path.write_text(
        "[XTekCT]\nName=Sample\nVoxelsX=30\nVoxelSizeX=1\nVoxelsY=30\nVoxelSizeY=1\nVoxelsZ=20\nVoxelSizeZ=1\n"
        "DetectorPixelsX=40\nDetectorPixelSizeX=1.5\nDetectorPixelsY=26\nDetectorPixelSizeY=1.5\nSrcToObject=120\n"
        "SrcToDetector=180\nDetectorOffsetX=0\nDetectorOffsetY=0\nWhiteLevel=60000\nProjections=60\nInitialAngle=0\n"
        "AngularStep=6\n"
    )
    return path


def skyscan(folder: Path) -> Path:
    for view, picture in enumerate(counts(BODY.project(CONE).numpy(), 65535.0, 0.0)):
        tiff(folder / f"bone_{view:08d}.tif", picture[::-1])
    path = folder / "bone_.log"
    path.write_text(
        "[System]\nScanner=Skyscan1172\n[Acquisition]\nFilename Prefix=bone_\nNumber of Files=60\nNumber of Rows=26\n"
        "Number of Columns=40\nOptical Axis (line)=12.5\nCamera to Source (mm)=180\nObject to Source (mm)=120\n"
        "Image Pixel Size (um)=1000\nDepth (bits)=16\nRotation Step (deg)=6\nFlat Field Correction=ON\n"
    )
    return path


def rtk(folder: Path) -> Path:
    from medrecon.physics.exchange import export
    from medrecon.physics.exchange.rtk import to_xml

    values = export(CONE, "rtk")
    path = folder / "geometry.xml"
    path.write_text(to_xml(values))
    origin = " ".join(map(str, values["origin"]))
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
        f"Offset = {origin} 0\nElementSpacing = 1.5 1.5 1\nDimSize = 40 26 60\nElementType = MET_FLOAT\n"
        "ElementDataFile = LOCAL\n"
    )
    (folder / "projections.mha").write_bytes(header.encode() + BODY.project(CONE).numpy().astype("<f4").tobytes())
    return path


HELIX = ConeGeometry.helical(
    (20, 32, 32), (1.0, 1.0, 1.0), 60, 8.0, source_origin=120.0, source_detector=180.0, rows=12, columns=48,
    row_spacing=1.5, column_spacing=1.5,
)  # fmt: skip


def dicom_ct_pd(folder: Path, count: int | None = None) -> Path:
    """Every view a file; the private tags as plain bytes, as many archives hand them out."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    data = BODY.project(HELIX).numpy()
    for view, picture in enumerate(data[:count]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
            "1.2.840.10008.5.1.4.1.1.66",
            f"1.2.3.{view + 1}",
        )
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file = folder / f"{(11 * view) % len(data):05d}.dcm"
        ds = FileDataset(file, {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        ds.PatientName, ds.PatientID, ds.InstanceNumber = "Canary^Yellow", "CANARY-7", view + 1
        ds.Modality, ds.DataCollectionDiameter = "CT", "32"
        ds.Rows, ds.Columns = picture.shape[::-1]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        ds.RescaleSlope, ds.RescaleIntercept = "0.00005", "-0.5"
        ds.PixelData = np.round((picture.T + 0.5) / 0.00005).astype("<u2").tobytes()

        def private(group: int, element: int, *values: float, ds=ds) -> None:
            ds.add_new((group, element), "UN", np.array(values, "<f4").tobytes())

        source = HELIX.source[view]
        for group in (0x7029, 0x7031, 0x7033, 0x7041):
            ds.add_new((group, 0x0010), "LO", "TEST CT PD")
        private(0x7029, 0x1002, 1.5)
        private(0x7029, 0x1006, 1.5)
        ds.add_new((0x7029, 0x1010), "UN", np.array([12], "<u2").tobytes())
        ds.add_new((0x7029, 0x1011), "UN", np.array([48], "<u2").tobytes())
        private(0x7031, 0x1001, float(np.arctan2(source[0], -source[1])))
        private(0x7031, 0x1002, 500.0 + source[2])
        private(0x7031, 0x1003, 120.0)
        private(0x7031, 0x1031, 180.0)
        private(0x7031, 0x1033, 24.5, 6.5)
        ds.add_new((0x7041, 0x1001), "UN", b"0.0193")
        ds.save_as(file, enforce_file_format=True)
    return folder
