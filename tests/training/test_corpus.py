"""Slices of a folder of volumes: what is stored, what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import realdata
from file_examples import dicom_series
from helpers.bodies import body, corpus_folder
from helpers.mri import head
from medrecon.data import Geometry, Volume, read_volume, write
from medrecon.errors import CorruptInput, InputError
from medrecon.training.corpus import STEP, check_disjoint, hold_out, load_corpus
from medrecon.training.files import find_volumes
from medrecon.training.settings import Intensity


def test_slices_are_the_volumes(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "data", 2)
    corpus = load_corpus(folder, tmp_path / "cache", minimum_pixels=60)
    assert corpus.intensity == Intensity.of("HU")
    assert len(corpus) == 24 and [source.slices for source in corpus.sources] == [12, 12]
    for number in (0, 7, 23):
        source, position = corpus.index[number, :2]
        truth = (np.clip(body(int(source)).array[position], -1000, 3100) + 1000) / 1000
        np.testing.assert_allclose(corpus.whole(number), truth, atol=0.6 * STEP)


def test_slices_follow_the_affine_not_the_order_of_the_array(tmp_path: Path) -> None:
    for name, letters in (("a", "LPS"), ("b", "RAS"), ("c", "PIR")):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "body.nii.gz", body(5).as_orientation(letters))
    stores = [load_corpus(tmp_path / n, tmp_path / f"cache-{n}", minimum_pixels=60) for n in "abc"]
    for other in stores[1:]:
        np.testing.assert_array_equal(other.values, stores[0].values)
        np.testing.assert_array_equal(other.index, stores[0].index)


def test_the_noise_of_the_air_around_a_head_is_no_part_of_it(tmp_path: Path) -> None:
    truth = head((12, 64, 56), (4.0, 3.0, 3.0))
    inside = ndimage.binary_dilation(ndimage.gaussian_filter(truth.array, 1) > 80, iterations=3)
    hole = (slice(None), slice(30, 34), slice(24, 30))  # dark, but not air: it is closed
    values = truth.array.copy()
    values[hole] = 0
    rng = np.random.default_rng(0)
    noisy = np.hypot(values + rng.normal(0, 15, values.shape), rng.normal(0, 15, values.shape)).astype(np.float32)
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "head.nii.gz", Volume(noisy, truth.geometry, "a.u."))
    corpus = load_corpus(tmp_path / "data", tmp_path / "cache", minimum_pixels=60)
    scale = corpus.sources[0].scale
    stored = np.stack([corpus.whole(number) for number in range(len(corpus))])
    assert noisy[~inside].mean() > 15
    assert not stored[~inside].any()
    kept = truth.array > 100
    np.testing.assert_allclose(stored[kept], np.minimum(noisy[kept] / scale, 1.5), atol=0.6 * STEP)
    np.testing.assert_allclose(stored[hole], noisy[hole] / scale, atol=0.6 * STEP)


def test_a_slice_is_a_view_of_one_block_of_memory(tmp_path: Path) -> None:
    corpus = load_corpus(corpus_folder(tmp_path / "data", 1), tmp_path / "cache", minimum_pixels=60)
    stored = corpus.stored(3)
    assert stored.flags.c_contiguous and np.shares_memory(stored, corpus.values)


def test_hashes_are_those_of_the_files(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "data", 2)
    corpus = load_corpus(folder, tmp_path / "cache", minimum_pixels=60)
    content = (folder / "body01.nii.gz").read_bytes()
    entry = corpus.files()[1]
    assert entry["name"] == "body01.nii.gz"
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert entry["md5"] == hashlib.md5(content).hexdigest()


def test_the_cache_is_used_and_noticed_when_it_is_old(tmp_path: Path) -> None:
    folder, cache = corpus_folder(tmp_path / "data", 2), tmp_path / "cache"
    read: list[int] = []

    def load(**changes: object) -> int:
        read.clear()
        load_corpus(folder, cache, progress=lambda done, total: read.append(done), **({"minimum_pixels": 60} | changes))  # type: ignore[arg-type]
        return len(read)

    assert load() == 2
    assert load() == 0
    assert load(minimum_pixels=61) == 2
    write(folder / "more.nii.gz", body(9))
    assert load() == 3
    (cache / "values.int16").write_bytes(b"short")
    assert load() == 3
    (cache / "corpus.json").write_text("{")
    assert load() == 3


def test_planes_and_spacing(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "data", 1)
    corpus = load_corpus(folder, tmp_path / "cache", minimum_pixels=60, planes=("axial", "sagittal"))
    axial, sagittal = corpus.sources
    assert axial.shape == (12, 40, 36) and axial.spacing == pytest.approx((3, 4, 4))
    assert sagittal.shape == (36, 12, 40) and sagittal.spacing == pytest.approx((4, 3, 4))
    number = int(np.flatnonzero(corpus.index[:, 0] == 1)[0])
    truth = (body(0).array[:, :, corpus.index[number, 1]] + 1000) / 1000
    np.testing.assert_allclose(corpus.whole(number), truth, atol=0.6 * STEP)


def test_other_quantities_are_scaled_by_their_percentile(tmp_path: Path) -> None:
    corpus = load_corpus(corpus_folder(tmp_path / "data", 2, quantity="a.u."), tmp_path / "cache", minimum_pixels=60)
    assert corpus.intensity == Intensity("a.u.")
    for source, seed in zip(corpus.sources, (0, 1), strict=True):
        assert source.scale == pytest.approx(np.percentile(body(seed, quantity="a.u.").array, 99.5), rel=1e-5)
    assert corpus.values.max() * STEP <= 1.5


def test_negative_amplitudes_are_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for number in range(2):
        array = rng.standard_normal((10, 30, 30)).astype(np.float32) * 1e4
        write(
            tmp_path / "data" / f"{number}.h5",
            Volume(array, Geometry.from_spacing(array.shape, (1, 1, 1)), "amplitude"),
        )
    corpus = load_corpus(tmp_path / "data", tmp_path / "cache", minimum_pixels=60)
    assert corpus.values.min() < 0 and abs(corpus.values.astype(float)).max() * STEP <= 4
    assert corpus.standard_deviation == pytest.approx(1 / 2.81, rel=0.05)


def test_chunks_are_neighbours_in_one_frame(tmp_path: Path) -> None:
    corpus = load_corpus(corpus_folder(tmp_path / "data", 2), tmp_path / "cache", minimum_pixels=60)
    assert [len(chunk) for chunk in corpus.chunks] == [12, 12]
    chunk = corpus.chunk(corpus.chunks[1])
    truth = (body(1).array + 1000) / 1000
    rows, columns = (np.flatnonzero((truth > 0.08).any(axis)) for axis in ((0, 2), (0, 1)))
    low, high = np.array([rows[0], columns[0]]) - 6, np.array([rows[-1], columns[-1]]) + 7
    low, high = np.maximum(low, 0), np.minimum(high, truth.shape[1:])
    np.testing.assert_allclose(chunk, truth[:, low[0] : high[0], low[1] : high[1]], atol=0.6 * STEP)


def test_dicom_folders_count_as_volumes_and_strays_are_passed_over(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "data", 1)
    stored = ((body(3).array + 1024) / 1).astype(np.int16)
    (folder / "series").mkdir()
    dicom_series(folder / "series", stored)
    (folder / "notes.txt").write_text("not a volume")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "body.nii.gz").write_bytes((folder / "body00.nii.gz").read_bytes())
    paths, ignored = find_volumes(folder)
    assert [path.name for path in paths] == ["body00.nii.gz", "series"] and ignored == ["notes.txt"]
    corpus = load_corpus(folder, tmp_path / "cache", minimum_pixels=60)
    assert [source.slices for source in corpus.sources] == [12, 12]
    assert len(corpus.files()) == 2


def test_a_tenth_is_held_out_and_never_shared(tmp_path: Path) -> None:
    corpus = load_corpus(corpus_folder(tmp_path / "data", 5), tmp_path / "cache", minimum_pixels=60)
    training, held = hold_out(corpus)
    assert held is not None and len(held.used) == 1 and len(training.used) == 4
    assert len(training) + len(held) == len(corpus) and len(training.files()) == 4
    assert training.key != corpus.key
    check_disjoint(training, held)
    with pytest.raises(InputError, match="in the training and in the validation folder"):
        check_disjoint(corpus, held)
    few = corpus.subset(lambda source: source.name < "body03")
    assert hold_out(few) == (few, None)


# --- bad input -------------------------------------------------------------------------------------------------
def test_folder_without_volumes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: there is no such folder"):
        load_corpus(tmp_path / "nowhere", tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: the folder holds no volume; found no files"):
        load_corpus(tmp_path / "empty", tmp_path / "cache")
    (tmp_path / "empty" / "readme.txt").write_text("nothing here")
    with pytest.raises(InputError, match="1 files that no reader knows"):
        load_corpus(tmp_path / "empty", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "data", 1)
    with pytest.raises(InputError, match="needs a folder"):
        load_corpus(folder / "body00.nii.gz", tmp_path / "cache")


def test_nothing_but_air(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    air = body(0).with_array(np.full((12, 40, 36), -1000, np.float32))
    write(tmp_path / "data" / "air.nii.gz", air)
    with pytest.raises(InputError, match=r"no slice shows enough of an object.*at most 0 pixels"):
        load_corpus(tmp_path / "data", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_mixed_quantities_name_the_file(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "data", 2)
    write(folder / "zebra.nii.gz", body(3, quantity="a.u."))
    with pytest.raises(InputError, match=r"zebra\.nii\.gz: a volume of another quantity; found a\.u\.; expected HU"):
        load_corpus(folder, tmp_path / "cache", minimum_pixels=60)


def test_attenuation_counts_as_hounsfield_units(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "data", 1)
    write(folder / "mu.nii.gz", body(0).to_quantity("1/mm"))
    corpus = load_corpus(folder, tmp_path / "cache", minimum_pixels=60)
    np.testing.assert_allclose(corpus.whole(0), corpus.whole(12), atol=2 * STEP)


def test_damaged_volume_is_an_error(tmp_path: Path) -> None:
    folder = corpus_folder(tmp_path / "data", 2)
    content = (folder / "body01.nii.gz").read_bytes()
    (folder / "body01.nii.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptInput, match=r"body01\.nii\.gz"):
        load_corpus(folder, tmp_path / "cache", minimum_pixels=60)


def test_measured_data_are_no_volumes(tmp_path: Path) -> None:
    from file_examples import scan

    folder = corpus_folder(tmp_path / "data", 1)
    write(folder / "scan.h5", scan())
    with pytest.raises(InputError, match=r"scan\.h5: this file holds measured data"):
        load_corpus(folder, tmp_path / "cache", minimum_pixels=60)


def test_real_volumes(tmp_path: Path) -> None:
    paths = realdata.volumes("ct", "val")[:2]
    (tmp_path / "data").mkdir()
    for path in paths:
        (tmp_path / "data" / path.name).symlink_to(path)
    corpus = load_corpus(tmp_path / "data", tmp_path / "cache")
    volume = read_volume(paths[0]).as_orientation("LPS")
    position = corpus.index[0, 1]
    truth = (np.clip(volume.array[position], -1000, 3100) + 1000) / 1000
    np.testing.assert_allclose(corpus.whole(0) * (truth > 0.08), truth * (truth > 0.08), atol=0.6 * STEP)
    assert json.loads((tmp_path / "cache" / "corpus.json").read_text())["format"] == "medrecon-corpus-3"


def test_planes_across_thick_slices_are_left_out(tmp_path: Path) -> None:
    array = np.zeros((16, 40, 40), dtype=np.float32)
    array[2:14, 6:34, 6:34] = 100
    (tmp_path / "data").mkdir()
    write(tmp_path / "data/thick.nii.gz", Volume(array, Geometry.from_spacing(array.shape, (5.0, 1.0, 1.0)), "a.u."))
    write(tmp_path / "data/cube.nii.gz", Volume(array, Geometry.from_spacing(array.shape, (1.5, 1.0, 1.0)), "a.u."))
    planes = ("axial", "coronal", "sagittal")
    corpus = load_corpus(tmp_path / "data", tmp_path / "cache", planes=planes, minimum_pixels=60)
    assert [(s.name, s.plane) for s in corpus.sources] == [("cube.nii.gz", p) for p in planes] + [
        ("thick.nii.gz", "axial")
    ]
