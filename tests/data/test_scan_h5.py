"""scan.h5: what is in the file, exact round trips, hand-written files, and everything that must be refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import file_examples as examples
from medrecon.data import Scan, read, read_scan, read_volume, write
from medrecon.data.limits import Limits
from medrecon.data.provenance import jsonable_dict
from medrecon.data.scan_h5 import read_scan_h5
from medrecon.data.volume import Geometry
from medrecon.errors import CorruptInput, InputError, TooLarge, UnsafeInput
from medrecon.physics.ct_geometry import CTGeometry


def same(a: Scan, b: Scan) -> None:
    np.testing.assert_array_equal(a.data, b.data)
    assert a.geometry == b.geometry and a.noise == b.noise and a.water == b.water and a.modality == b.modality
    assert a.provenance == b.provenance
    np.testing.assert_array_equal(a.volume_geometry.affine, b.volume_geometry.affine)
    assert a.volume_geometry.shape == b.volume_geometry.shape


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "scan.h5", examples.scan(), sidecar=False)


def edited(path, edit: Callable[[h5py.File], None], *, signed: bool = False):
    """The file after an edit; its SHA-256 is dropped unless ``signed``, as a person who edits would do."""
    with h5py.File(path, "r+") as file:
        if not signed:
            del file.attrs["sha256"]
        edit(file)
    return path


def replace(file: h5py.File, name: str, values: object) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = values
    file[name].attrs.update(attributes)


def test_content_by_plain_h5py(path):
    """The schema of docs/scan-h5.md, read without this package."""
    scan = examples.scan()
    with h5py.File(path) as file:
        assert set(file) == {"data", "angles", "geometry", "noise", "volume", "provenance"}
        assert file.attrs["format"] == b"medrecon-scan" and file.attrs["format_version"] == 1
        assert file.attrs["modality"] == b"ct" and len(file.attrs["sha256"]) == 64
        data = file["data"]
        assert data.dtype == "<f4" and data.compression == "gzip" and data.fletcher32
        assert data.attrs["axes"] == b"view,slice,column" and data.attrs["units"] == b"1"
        np.testing.assert_array_equal(data[()], scan.data)
        np.testing.assert_array_equal(file["angles"][()], scan.geometry["angles"])
        assert file["angles"].attrs["units"] == b"rad" and file["angles"].dtype == "<f8"
        geometry = dict(file["geometry"].attrs)
        assert geometry["kind"] == b"parallel" and geometry["columns"] == scan.geometry["columns"]
        assert geometry["column_spacing"] == scan.geometry["column_spacing"] and geometry["length_unit"] == b"mm"
        assert list(geometry["shape"]) == [5, 6, 7] and list(geometry["spacing"]) == [3.1, 0.7, 1.3]
        assert dict(file["noise"].attrs) == {"kind": b"poisson", "photons": 1e5, "electronic": 2.5}
        assert list(file["volume"].attrs["shape"]) == [5, 6, 7] and file["volume"].attrs["water"] == 0.0192
        np.testing.assert_array_equal(file["volume"].attrs["affine"], scan.volume_geometry.affine)
        assert json.loads(file["provenance"].asstr()[()]) == {"source": "test", "seed": 3}


@pytest.mark.parametrize("kind", ["parallel", "flat", "curved"])
def test_round_trip(tmp_path, kind):
    grid = examples.scan().volume_geometry
    if kind == "parallel":
        geometry = CTGeometry.parallel(grid.shape, grid.spacing, 7, detector_offset=0.3, rotation_shift=-0.2)
    else:
        geometry = CTGeometry.fan(grid.shape, grid.spacing, angles=[0.1, 0.5, 3.7], detector=kind, source_origin=200.0)
    scan = examples.scan(geometry=geometry)
    back = read(write(tmp_path / "s.h5", scan))
    assert isinstance(back, Scan) and back.meta["verified"] is True
    same(back, scan)
    assert CTGeometry.from_dict(back.geometry) == geometry


def test_same_scan_same_bytes(tmp_path):
    a, b = (write(tmp_path / name, examples.scan(), sidecar=False).read_bytes() for name in ("a.h5", "b.h5"))
    assert a == b


@settings(max_examples=12, deadline=None)
@given(
    views=st.integers(1, 9),
    shape=st.tuples(st.integers(1, 4), st.integers(4, 7), st.integers(4, 7)),
    spacing=st.tuples(*[st.floats(0.5, 2)] * 3),
    water=st.floats(0.005, 0.5),
    sigma=st.floats(1e-6, 10),
    note=st.dictionaries(st.text(max_size=9), st.one_of(st.integers(-9, 9), st.floats(allow_nan=False), st.booleans())),
)
def test_any_scan_comes_back(tmp_path_factory, views, shape, spacing, water, sigma, note):
    grid = Geometry.from_spacing(shape, spacing)
    geometry = CTGeometry.parallel(shape, spacing, views)
    data = np.random.default_rng(views).normal(size=geometry.data_shape).astype(np.float32)
    noise = {"kind": "gaussian", "sigma": sigma}
    scan = Scan(data, geometry.to_dict(), grid, noise=noise, water=water, provenance=jsonable_dict(note))
    back = read(write(tmp_path_factory.mktemp("any") / "a.h5", scan))
    assert isinstance(back, Scan)
    same(back, scan)


def test_written_by_hand(tmp_path):
    """A user's own projections: the least that docs/scan-h5.md asks for, angles in degrees, float64 data."""
    path = tmp_path / "mine.hdf5"
    with h5py.File(path, "w") as file:
        file["data"] = np.ones((4, 2, 9))
        file["angles"] = [0.0, 45.0, 90.0, 135.0]
        file["angles"].attrs["units"] = "deg"
        geometry = {"kind": "parallel", "columns": 9, "column_spacing": 1.0, "shape": [2, 6, 6], "spacing": [2.0, 1, 1]}
        file.create_group("geometry").attrs.update(geometry)
        affine = Geometry.from_spacing((2, 6, 6), (2, 1, 1)).affine
        file.create_group("volume").attrs.update({"shape": [2, 6, 6], "affine": affine})
    scan = read_scan(path)
    assert scan.data.dtype == np.float32 and scan.meta["verified"] is False
    assert scan.water == 0.0192 and scan.noise == {} and scan.modality == "ct"
    np.testing.assert_allclose(scan.geometry["angles"], np.deg2rad([0, 45, 90, 135]))


def test_example_of_the_documentation(tmp_path, monkeypatch):
    """The code in docs/scan-h5.md runs as it stands and gives a readable scan."""
    text = (Path(__file__).parents[2] / "docs" / "scan-h5.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    views, slices, columns = 7, 3, 181
    known = {
        "counts": np.full((views, slices, columns), 500.0),
        "dark": 0.0,
        "flat": 1000.0,
        "slices": slices,
        "angles_in_degrees": np.arange(views) * 25.0,
    }
    exec(code, known)
    scan = read_scan(tmp_path / "scan.h5")
    np.testing.assert_allclose(scan.data, np.log(2), rtol=1e-6)
    np.testing.assert_allclose(scan.geometry["angles"], np.deg2rad(known["angles_in_degrees"]))
    assert scan.noise == {"kind": "poisson", "photons": 1e5, "electronic": 0.0}


CASES: list[tuple[str, Callable[[h5py.File], None], str]] = [
    ("no data", lambda f: f.__delitem__("data"), "/data is missing|no reader"),
    ("no angles", lambda f: f.__delitem__("angles"), "/angles is missing"),
    ("no geometry", lambda f: f.__delitem__("geometry"), "/geometry is missing"),
    ("no grid", lambda f: f.__delitem__("volume"), "output grid is missing"),
    ("views", lambda f: replace(f, "angles", np.zeros(5)), "5 angles and data of shape"),
    ("columns", lambda f: f["geometry"].attrs.__setitem__("columns", 11), "do not fit the geometry"),
    ("slices", lambda f: f["geometry"].attrs.__setitem__("shape", [4, 6, 7]), "do not fit the geometry"),
    ("grid", lambda f: f["volume"].attrs.__setitem__("shape", [5, 6, 8]), "not the grid of /geometry"),
    ("degrees", lambda f: replace(f, "angles", np.arange(6) * 30.0), "radian|degrees"),
    ("unit", lambda f: f["angles"].attrs.__setitem__("units", "grad"), "unknown unit of the angles"),
    ("length unit", lambda f: f["geometry"].attrs.__setitem__("length_unit", "cm"), "length_unit"),
    ("kind", lambda f: f["geometry"].attrs.__setitem__("kind", "helix"), "unknown kind"),
    ("spacing", lambda f: f["geometry"].attrs.__setitem__("column_spacing", -1.0), "positive"),
    ("misses", lambda f: f["geometry"].attrs.__setitem__("detector_offset", 1e5), "misses the volume"),
    ("text", lambda f: f["geometry"].attrs.__setitem__("column_spacing", "wide"), "number|cannot be used"),
    ("water", lambda f: f["volume"].attrs.__setitem__("water", 19.2), "attenuation of water"),
    ("water text", lambda f: f["volume"].attrs.__setitem__("water", "wet"), "not a number"),
    ("affine", lambda f: f["volume"].attrs.__setitem__("affine", np.zeros((4, 4))), "affine"),
    ("nan affine", lambda f: f["volume"].attrs.__setitem__("affine", np.full((4, 4), np.nan)), "affine"),
    ("rank", lambda f: replace(f, "data", np.zeros((6, 9))), "three dimensions"),
    ("complex", lambda f: replace(f, "data", np.zeros((6, 5, 11), complex)), "wrong type of number"),
    ("future", lambda f: f.attrs.__setitem__("format_version", 2), "newer version"),
    ("version", lambda f: f.attrs.__setitem__("format_version", "one"), "unreadable"),
    ("provenance", lambda f: replace(f, "provenance", "{not json"), "not JSON"),
    ("group", lambda f: (f.__delitem__("data"), f.create_group("data")), "/data is missing"),
]


@pytest.mark.parametrize(("edit", "text"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_contradictions_are_refused(path, edit, text):
    with pytest.raises(InputError, match=text) as info:
        read(edited(path, edit))
    message = str(info.value)
    assert "scan.h5" in message and str(path.parent) not in message and info.value.exit_code == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(("name", "text"), [("data", "in the measured data"), ("angles", "in the angles")])
def test_nan_and_infinity(path, value, name, text):
    def edit(file: h5py.File) -> None:
        file[name][(3,) + (0,) * (file[name].ndim - 1)] = value

    with pytest.raises(InputError, match=f"NaN or infinity {text}.*first at index .3"):
        read(edited(path, edit))


def test_a_changed_value_is_noticed(path):
    def edit(file: h5py.File) -> None:
        file["geometry"].attrs["column_spacing"] = 0.70001

    with pytest.raises(CorruptInput, match="SHA-256"):
        read(edited(path, edit, signed=True))


@pytest.mark.parametrize("name", ["data", "geometry", "volume", "provenance", "extra"])
@pytest.mark.parametrize("link", ["external", "soft"])
def test_links_are_refused(path, tmp_path, name, link):
    write(tmp_path / "other.h5", examples.scan(seed=1))

    def edit(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = h5py.ExternalLink("other.h5", f"/{name}") if link == "external" else h5py.SoftLink("/angles")

    with pytest.raises(UnsafeInput, match="link to another place"):
        read_scan_h5(edited(path, edit))


def test_external_storage_is_refused(path, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(6 * 5 * 11 * 4))

    def edit(file: h5py.File) -> None:
        del file["data"]
        file.create_dataset("data", (6, 5, 11), "<f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    with pytest.raises(UnsafeInput, match="other files"):
        read(edited(path, edit))


def test_virtual_dataset_is_refused(path, tmp_path):
    write(tmp_path / "other.h5", examples.scan(seed=1))

    def edit(file: h5py.File) -> None:
        shape = file["data"].shape
        del file["data"]
        layout = h5py.VirtualLayout(shape, "<f4")
        layout[...] = h5py.VirtualSource(tmp_path / "other.h5", "data", shape)
        file.create_virtual_dataset("data", layout)

    with pytest.raises(UnsafeInput, match="other files"):
        read(edited(path, edit))


def test_size_without_values(path):
    """1.4 kB can claim terabytes; a plausible size without stored values is no measurement either."""

    def huge(file: h5py.File) -> None:
        del file["data"]
        file.create_dataset("data", (100_000, 100_000, 100), "<f4", chunks=(1, 1000, 100))

    def empty(file: h5py.File) -> None:
        del file["data"]
        file.create_dataset("data", (6, 5, 11), "<f4", chunks=(1, 5, 11))

    with pytest.raises(TooLarge):
        read(edited(path, huge))
    with h5py.File(path, "r+") as file:
        empty(file)
    with pytest.raises(CorruptInput, match="no values"):
        read(path)


def test_limits(path):
    with pytest.raises(TooLarge):
        read_scan_h5(path, limits=Limits(max_bytes=100))


def test_loops_and_crowds_of_groups(path):
    def loop(file: h5py.File) -> None:
        file["geometry/again"] = file["/"]

    with pytest.raises(InputError, match="too many objects"):
        read(edited(path, loop))


def test_writer_refuses_contradictions(tmp_path):
    scan = examples.scan()
    cut = Scan(scan.data[:-1], scan.geometry, scan.volume_geometry)
    with pytest.raises(InputError, match="number of angles"):
        write(tmp_path / "a.h5", cut)
    bad = Scan(np.full_like(scan.data, np.inf), scan.geometry, scan.volume_geometry)
    with pytest.raises(InputError, match="NaN or infinity"):
        write(tmp_path / "a.h5", bad)
    assert list(tmp_path.iterdir()) == []


def test_wrong_kind_of_file(tmp_path, path):
    with pytest.raises(InputError, match="measured data, not a volume"):
        read_volume(path)
    with pytest.raises(InputError, match="a volume, not measured data"):
        read_scan(write(tmp_path / "v.h5", examples.volume()))


def test_provenance_keeps_no_folders(tmp_path):
    scan = examples.scan()
    scan.provenance["input"] = "/home/someone/patients/Canary/ct.nii.gz"
    path = write(tmp_path / "a.h5", scan)
    assert read_scan(path).provenance["input"] == "ct.nii.gz"
    assert b"Canary" not in path.read_bytes() and "Canary" not in (tmp_path / "a.json").read_text()
