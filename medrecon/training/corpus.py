"""The slices of a folder of volumes: read once, cut to the object, stored one after the other.

A slice is stored contiguously: taking one along the last axis of a volume would cost several times a training step.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from scipy import ndimage

from medrecon.data import Traces, Volume, read
from medrecon.data.atomic import atomic_write
from medrecon.errors import InputError
from medrecon.prior import OBLONG
from medrecon.training.files import find_volumes, hashes, stamp, write_text
from medrecon.training.settings import Intensity

STEP = 1e-3
"""Stored values are whole multiples of this, in network units: a Hounsfield unit for CT."""

OBJECT = 0.08
"""Network units from empty space beyond which a pixel belongs to the object, as for `medrecon.problem.System`."""

DIRECTIONS = {
    "axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1), "inline": (0, 1, 2), "crossline": (2, 1, 0)
}  # fmt: skip
"""Order of the axes of a volume ``(z, y, x)``, sections ``(row, time, column)``, that makes it a stack of slices."""

_MARGIN = 2  # pixels kept around the object
_RIM = 2  # pixels of air that stay around it
_NARROWEST = 8  # traces of a seismic section: a 2D line is no stack of crosslines
_FORMAT = "medrecon-corpus-3"
_COLUMNS = ("source", "position", "offset", "height", "width", "top", "left")

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """One file (or DICOM folder) of a corpus in one plane, with what a card says about it."""

    name: str
    sha256: str
    md5: str
    plane: str
    shape: tuple[int, int, int]  # slices, height, width
    spacing: tuple[float, float, float]  # mm, likewise
    scale: float  # physical size of a network unit
    slices: int  # that are used


@dataclass(frozen=True)
class Corpus:
    """Slices in network units, cut to the object.

    ``values`` holds int16 multiples of `STEP`; row i of ``index`` says where slice i lies in it (see `_COLUMNS`).
    """

    values: np.ndarray
    index: np.ndarray
    sources: tuple[Source, ...]
    intensity: Intensity
    key: str
    ignored: tuple[str, ...] = ()
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.index)

    def stored(self, i: int) -> np.ndarray:
        """Slice i as it is stored: a view ``(h, w)`` of int16."""
        _, _, offset, height, width, _, _ = self.index[i]
        return self.values[offset : offset + height * width].reshape(height, width)

    def slice(self, i: int) -> np.ndarray:
        """Slice i, cut to the object, float32 network units."""
        return self.stored(i) * np.float32(STEP)

    def whole(self, i: int) -> np.ndarray:
        """Slice i in its full frame, float32 network units."""
        source, _, _, height, width, top, left = self.index[i]
        out = np.zeros(self.sources[source].shape[1:], dtype=np.float32)
        out[top : top + height, left : left + width] = self.slice(i)
        return out

    @cached_property
    def chunks(self) -> list[np.ndarray]:
        """Runs of neighbouring slices of one volume, 8 to 32 long, as numbers of slices."""
        return self.runs(8)

    def runs(self, least: int, most: int = 32) -> list[np.ndarray]:
        """Runs of neighbouring slices of one volume, ``least`` to ``most`` long, as numbers of slices."""
        found = []
        breaks = np.flatnonzero((np.diff(self.index[:, 0]) != 0) | (np.diff(self.index[:, 1]) != 1)) + 1
        for run in np.split(np.arange(len(self.index)), breaks):
            pieces = [run[first : first + most] for first in range(0, len(run), most)]
            found += [piece for piece in pieces if len(piece) >= least]
        return found

    def chunk(self, numbers: np.ndarray, margin: int = 4) -> np.ndarray:
        """Neighbouring slices cut to the box that holds the object in all of them: ``(z, y, x)``."""
        rows = self.index[numbers]
        frame = self.sources[rows[0, 0]].shape[1:]
        low = np.maximum(rows[:, 5:7].min(0) - margin, 0)
        high = np.minimum((rows[:, 5:7] + rows[:, 3:5]).max(0) + margin, frame)
        out = np.zeros((len(numbers), *(high - low)), dtype=np.float32)
        for image, number, row in zip(out, numbers, rows, strict=True):
            top, left = row[5:7] - low
            image[top : top + row[3], left : left + row[4]] = self.slice(number)
        return out

    @property
    def standard_deviation(self) -> float:
        """Of the stored values, network units."""
        return float(self.values[:: max(1, len(self.values) // 1_000_000)].astype(np.float32).std()) * STEP

    def files(self) -> list[dict[str, object]]:
        """Name and hashes of every file that slices come from, for a card."""
        unique = {source.sha256: source for source in self.used}
        return [{"name": s.name, "sha256": s.sha256, "md5": s.md5} for s in unique.values()]

    def subset(self, keep: Callable[[Source], bool]) -> Corpus:
        """The slices of some of the volumes; shares the memory."""
        kept = np.array([keep(source) for source in self.sources])
        key = hashlib.sha256((self.key + "".join("01"[k] for k in kept.astype(int))).encode()).hexdigest()
        index = self.index[kept[self.index[:, 0]]]
        return Corpus(self.values, index, self.sources, self.intensity, key, self.ignored, self.folder)

    @cached_property
    def used(self) -> tuple[Source, ...]:
        """The volumes that have slices in here."""
        return tuple(self.sources[i] for i in np.unique(self.index[:, 0]))


def load_corpus(
    folder: Path,
    cache: Path,
    *,
    intensity: Intensity | None = None,
    planes: tuple[str, ...] = ("axial",),
    minimum_pixels: int = 600,
    progress: Progress | None = None,
) -> Corpus:
    """The slices of all volumes under ``folder``, from ``cache`` where it holds them already.

    Parameters
    ----------
    cache
        Folder for the store; made if it is missing. A store of other files or settings in it is replaced.
    intensity
        By default what fits the quantity of the first volume.
    minimum_pixels
        A slice that shows fewer pixels of the object is left out.
    progress
        Told ``(volumes read, volumes)``.

    Raises
    ------
    InputError
        No volumes, a volume of another quantity or with NaN, no slice that shows enough of an object.
    """
    if unknown := set(planes) - set(DIRECTIONS):
        raise InputError("unknown plane", found=", ".join(sorted(unknown)), expected=", ".join(DIRECTIONS))
    paths, ignored = find_volumes(folder)
    asked = {
        "format": _FORMAT,
        "files": [[str(p.relative_to(folder)), *stamp(p)] for p in paths],
        "intensity": asdict(intensity) if intensity else None,
        "planes": list(planes),
        "minimum_pixels": minimum_pixels,
    }
    request = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    stored = _from_cache(cache, request)
    if stored is not None:
        return stored
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "corpus.json").unlink(missing_ok=True)  # the old description must not stand beside new values
    builder = _Builder(intensity, planes, minimum_pixels)

    def write(target: Path) -> None:
        with target.open("wb") as file:
            for number, path in enumerate(paths):
                builder.add(file, path, str(path.relative_to(folder)))
                if progress is not None:
                    progress(number + 1, len(paths))

    values = atomic_write(cache / "values.int16", write, overwrite=True)
    if not builder.index:
        values.unlink()
        raise InputError(
            "no slice shows enough of an object", where=folder.name,
            found=f"{len(paths)} volumes, at most {builder.largest} pixels of a slice differ from empty space",
            expected=f"{minimum_pixels} pixels or more", hint="Check the quantity and the unit of the volumes.",
        )  # fmt: skip
    for name in ignored:
        log.info("passed over, no reader knows it: %s", name)
    _write_description(cache, request, builder, ignored)
    loaded = _from_cache(cache, request)
    assert loaded is not None
    return loaded


class _Builder:
    """Writes the values of one volume after the other and remembers where they are."""

    def __init__(self, intensity: Intensity | None, planes: tuple[str, ...], minimum_pixels: int) -> None:
        self.intensity, self.planes, self.minimum_pixels = intensity, planes, minimum_pixels
        self.sources: list[Source] = []
        self.index: list[tuple[int, ...]] = []
        self.offset, self.largest = 0, 0
        self.digest = hashlib.sha256()

    def add(self, file: BinaryIO, path: Path, name: str) -> None:
        """Append the slices of one volume."""
        array, spacing, scale, complete = self._network_units(path)
        assert self.intensity is not None
        sha256, md5 = hashes(path)
        for plane in self.planes:
            order = DIRECTIONS[plane]
            first, second, third = (spacing[a] for a in order)
            if not self.intensity.signed and max(second, third) > OBLONG * min(second, third):
                continue  # a plane across thick slices
            stack, whole = array.transpose(order), complete.transpose(order).all(axis=(1, 2))
            before = len(self.index)
            for position in np.flatnonzero(whole):
                self._add_slice(file, stack[position], int(position))
            used = len(self.index) - before
            facts = (plane, stack.shape, (first, second, third), scale, used)
            self.sources.append(Source(Path(name).name, sha256, md5, *facts))

    def _add_slice(self, file: BinaryIO, image: np.ndarray, position: int) -> None:
        assert self.intensity is not None
        if self.intensity.signed and image.shape[1] < _NARROWEST:
            return
        occupied = np.abs(image) > OBJECT
        count = int(occupied.sum())
        self.largest = max(self.largest, count)
        if count < max(self.minimum_pixels, 1):
            return
        margin = max(image.shape) if self.intensity.signed else _MARGIN  # faint is not empty where values have a sign
        (top, bottom), (left, right) = (_extent(occupied.any(axis), margin) for axis in (1, 0))
        part = np.ascontiguousarray(image[top:bottom, left:right])
        codes = np.rint(part / np.float32(STEP)).astype("<i2")
        file.write(codes.tobytes())
        self.digest.update(codes.tobytes())
        self.index.append((len(self.sources), position, self.offset, *part.shape, top, left))
        self.offset += part.size

    def _network_units(self, path: Path) -> tuple[np.ndarray, tuple[float, float, float], float, np.ndarray]:
        """Array ``(z, y, x)`` in LPS order and network units, its spacing, the size of a network unit, what is known.

        The last is false at missing traces, ``(z, 1, x)``.
        """
        content, live = read(path), np.ones((1, 1, 1), dtype=bool)
        if isinstance(content, Traces):
            live = content.live[:, None, :]
        volume = content.to_volume() if isinstance(content, Traces) else content
        if not isinstance(volume, Volume):
            raise InputError("this file holds measured data, not a volume", where=path.name)
        self.intensity = self.intensity or Intensity.of(volume.quantity)
        wanted = self.intensity.quantity
        if volume.quantity != wanted and {volume.quantity, wanted} != {"HU", "1/mm"}:
            raise InputError(
                "a volume of another quantity", where=path.name, found=volume.quantity, expected=wanted,
                hint="Keep volumes of one quantity in the folder.",
            )  # fmt: skip
        volume = volume.to_quantity(wanted).as_orientation("LPS")
        array = volume.array.astype(np.float32)
        if not np.isfinite(array).all():
            raise InputError("NaN or infinity in a volume", where=path.name)
        array -= np.float32(self.intensity.offset)
        complete = np.broadcast_to(live, array.shape)
        sizes = np.abs(array if live.all() else array[complete])
        scale = self.intensity.scale or float(np.percentile(sizes, self.intensity.percentile))
        if scale > 0:
            array /= np.float32(scale)
        clipped = np.clip(array, self.intensity.low, self.intensity.high, out=array)
        if self.intensity.scale is None and not self.intensity.signed:
            clipped[air_around(clipped)] = 0
        return clipped, volume.geometry.spacing, scale, complete


def air_around(array: np.ndarray) -> np.ndarray:
    """Where magnitudes ``(z, y, x)`` in network units show the air around the object: bool, of the same shape.

    There is noise without signal, and the modulus makes a floor of it that is not zero. A prior that takes the floor
    for a part of the object puts it everywhere. Air is what is dark and reaches the sides of the volume; a rim of it
    stays, so that soft edges do.
    """
    dark = ndimage.gaussian_filter(array, 1.0) < OBJECT
    labels, count = ndimage.label(dark)
    sides = (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1])
    outside = np.zeros(count + 1, dtype=bool)
    outside[np.unique(np.concatenate([side.ravel() for side in sides]))] = True
    outside[0] = False
    return ndimage.binary_erosion(outside[labels], iterations=_RIM, border_value=1)


def _extent(occupied: np.ndarray, margin: int) -> tuple[int, int]:
    where = np.flatnonzero(occupied)
    return max(0, int(where[0]) - margin), min(len(occupied), int(where[-1]) + 1 + margin)


def _write_description(cache: Path, request: str, builder: _Builder, ignored: Iterable[str]) -> None:
    assert builder.intensity is not None
    content = {
        "format": _FORMAT,
        "request": request,
        "values_sha256": builder.digest.hexdigest(),
        "length": builder.offset,
        "intensity": asdict(builder.intensity),
        "sources": [asdict(source) for source in builder.sources],
        "ignored": list(ignored),
        "columns": list(_COLUMNS),
        "index": np.array(builder.index, dtype=np.int64).tolist(),
    }
    write_text(cache / "corpus.json", json.dumps(content))


def _from_cache(cache: Path, request: str | None) -> Corpus | None:
    """The stored corpus, None where there is none that answers ``request`` (any, if that is None)."""
    description, values = cache / "corpus.json", cache / "values.int16"
    if not description.is_file() or not values.is_file():
        return None
    try:
        content = json.loads(description.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    if content.get("format") != _FORMAT or (request is not None and content.get("request") != request):
        return None
    if values.stat().st_size != 2 * content["length"]:
        return None
    sources = tuple(
        Source(**(s | {"shape": tuple(s["shape"]), "spacing": tuple(s["spacing"])})) for s in content["sources"]
    )
    key = hashlib.sha256(
        json.dumps([content["values_sha256"], content["index"], content["intensity"]]).encode()
    ).hexdigest()
    return Corpus(
        np.memmap(values, dtype="<i2", mode="r"),
        np.array(content["index"], dtype=np.int64).reshape(-1, len(_COLUMNS)),
        sources,
        Intensity(**content["intensity"]),
        key,
        tuple(content["ignored"]),
        cache,
    )


def stored_corpus(cache: Path) -> Corpus:
    """The corpus in a cache, whatever it was made from. Raises InputError where there is none."""
    corpus = _from_cache(cache, None)
    if corpus is None:
        raise InputError("there is no corpus in this folder", where=cache.name)
    return corpus


def hold_out(corpus: Corpus) -> tuple[Corpus, Corpus | None]:
    """Training and validation part: every tenth volume is set aside, at least one of four; none of fewer."""
    volumes = list(dict.fromkeys(source.sha256 for source in corpus.used))
    if len(volumes) < 4:
        return corpus, None
    aside = set(volumes[:: min(10, len(volumes))])
    return corpus.subset(lambda s: s.sha256 not in aside), corpus.subset(lambda s: s.sha256 in aside)


def check_disjoint(training: Corpus, validation: Corpus) -> None:
    """Raise InputError if a file of the validation part is also trained on."""
    known = {source.sha256: source.name for source in training.used}
    shared = [(s.name, known[s.sha256]) for s in validation.used if s.sha256 in known]
    if shared:
        raise InputError(
            "a volume is in the training and in the validation folder", where=shared[0][0],
            found=f"{len(shared)} such volumes, this one as {shared[0][1]}",
            hint="Validation on training data says nothing; remove it from one of the folders.",
        )  # fmt: skip
