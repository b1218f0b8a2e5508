"""Pairs of truth and guides, from simulated scans: what a guided network learns from.

A guide is a classical volume or, with a prior to start from, what that prior made of it.

A pair is a function of the corpus, the seed and its number alone. It is made once and kept as a file, so that a
stopped maker goes on where it was. A modality registers one function that simulates a random scan and reconstructs it
by a classical method.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from medrecon.data.volume import Geometry, Volume
from medrecon.errors import CorruptInput, InputError, MedreconError
from medrecon.noise import KeyedNoise
from medrecon.registry import Entry, Registry
from medrecon.training.augment import enlarge, sharpened
from medrecon.training.corpus import STEP, Corpus, Progress, stored_corpus
from medrecon.training.files import write_array, write_text

if TYPE_CHECKING:
    from medrecon.prior import NetworkPrior
    from medrecon.problem import Problem

_FORMAT = "medrecon-pairs-2"
_PATIENCE = 10.0  # seconds for the process that makes guides to end


@dataclass(frozen=True)
class PairSettings:
    """How pairs are made; the defaults are those of the CT prior that comes with the package."""

    modality: str = "ct"
    count: int = 500
    seed: int = 0
    frame: int = 128  # pixels; larger slices are reduced to it, smaller ones may be enlarged up to it
    slices: int = 32  # of a pair, at most
    enlarged: float = 0.35  # share of pairs that are
    largest_zoom: float = 2.6
    sharpen: float = 0.6
    views: tuple[int, ...] = ()  # each run of slices is seen with these numbers of views; with a random one if empty
    refined: int = 0  # rounds of `refine`, each result a guide more
    mapped: bool = False  # each pair ends with a map of what was measured
    prior: str = ""  # name or file of the prior that refines
    prior_sha256: str = ""


class GuideMaker(Protocol):
    """``make(truth, rng, views)``: a random scan of ``truth`` and its classical volume, in the scan's quantity.

    ``views`` is how much is measured: the number of views for CT, the acceleration for MRI, the percentage of missing
    traces. Registered with it are ``levels``, those of the validation; ``least``, the fewest neighbouring slices that
    it takes (8); ``windows``, true where slices are cut to the frame instead of reduced to it; ``multiple``, of which
    the sides of a slice are made one by empty space around it; ``granted``, the errors that ``refine`` grants a prior
    in making guides, from and to (0.05 to 0.3 of the network's unit); ``edition``, higher than before (1) where it
    makes other pairs than before, so that stored ones are made again.
    """

    def __call__(self, truth: Volume, rng: np.random.Generator, views: int | None = None) -> tuple[Problem, Volume]:
        """Make one."""
        ...


guide_makers: Registry[GuideMaker] = Registry("maker of guides for")
_MAKERS = {  # modules that register one, beside this one
    "mri": "medrecon.training.guides_mri",
    "seismic": "medrecon.training.guides_seismic",
}
_LEAST, _MOST = 8, 32  # neighbouring slices of a pair


def guide_maker(modality: str) -> Entry[GuideMaker]:
    """The maker of guides for a modality, with what was registered with it. Raises UsageError if there is none."""
    if modality in _MAKERS:
        import_module(_MAKERS[modality])
    return guide_makers.entry(modality)


VIEWS = (4, 4, 5, 6, 7, 8, 8, 8, 10, 12, 14, 16, 16, 20, 24, 32)
_AUTOMATIC = 0.5  # share of total-variation volumes that are what the engine makes
_LEVELS, _GRANTED, _WEIGHT = (1.0, 3.0), (0.05, 0.3), (0.3, 3.0)  # of `refine`, around what it is used with


@guide_makers.register("ct", levels=(4, 8, 16, 32))
def sparse_view_ct(truth: Volume, rng: np.random.Generator, views: int | None = None) -> tuple[Problem, Volume]:
    """Parallel beam, few views at random angles, photon noise; then 3D total variation of random strength.

    Half a turn, sometimes a whole one or a limited arc; 2e4 to 5e5 photons; the usual weight and number of iterations,
    or a quarter to three times the one and 0.4 to one times the other.
    """
    from medrecon.physics.ct import CTOperator
    from medrecon.physics.ct_geometry import CTGeometry
    from medrecon.physics.noise import PoissonNoise
    from medrecon.physics.simulate import simulate_ct
    from medrecon.problem import Problem
    from medrecon.samplers.tv import TV

    arc = 2 * math.pi if rng.random() < 0.2 else math.pi
    if rng.random() < 0.06:
        arc = rng.uniform(1.6, 2.8)
    drawn, start = int(rng.choice(VIEWS)), rng.uniform(0, math.pi)
    grid = truth.geometry
    geometry = CTGeometry.parallel(grid.shape, grid.spacing, views or drawn, arc=arc, start=start)
    noise = PoissonNoise(10 ** rng.uniform(4.3, 5.7))
    attenuation = torch.from_numpy(truth.to_quantity("1/mm").array).clamp_min(0)
    data = simulate_ct(attenuation, geometry, noise, seed=int(rng.integers(2**31)))
    problem = Problem(CTOperator(geometry), data, grid, quantity="1/mm", noise_model=noise, lower_bound=0.0)
    weight = _drawn(rng, (0.5, 6.0))  # the automatic one is 2
    method = TV() if rng.random() < _AUTOMATIC else TV(weight=weight, iterations=int(rng.integers(4, 11)) * 10)
    system = problem.system()
    found = system.to_quantity(method.run(system, KeyedNoise(0)).estimate)
    return problem, Volume(found.contiguous().numpy(), grid, "1/mm")


def _drawn(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    """A log-uniform number."""
    return math.exp(rng.uniform(math.log(ends[0]), math.log(ends[1])))


def _granted(maker: Entry[GuideMaker]) -> tuple[float, float]:
    return maker.meta.get("granted", _GRANTED)  # type: ignore[return-value]


def _refined(
    problem: Problem, classical: Volume, prior: NetworkPrior, rounds: int, granted: tuple[float, float],
    rng: np.random.Generator,
) -> list[Volume]:  # fmt: skip
    """What ``refine`` makes of the classical volume with a prior, after each of its rounds."""
    from medrecon.samplers.settings import make_sampler, suited

    level = _drawn(rng, _LEVELS)
    said: dict[str, object] = {
        "steps": rounds, "sigma_max": level, "sigma_min": level, "trust": _drawn(rng, granted) / level,
        "tv": _drawn(rng, _WEIGHT),
    }  # fmt: skip
    problem = replace(problem, prior=prior)
    method, system, keyed = make_sampler("refine", suited("refine", said, problem)), problem.system(), KeyedNoise(0)
    system = replace(system, start=system.from_quantity(torch.from_numpy(classical.array)))
    state, volumes = method.init(system, keyed), []
    while not method.done(state):
        state = method.step(system, state, keyed)
        volumes.append(classical.with_array(system.to_quantity(state.estimate).contiguous().numpy()))
    return volumes


@lru_cache(maxsize=1)
def _prior(name: str, sha256: str) -> NetworkPrior:
    from medrecon.prior import load_prior

    prior = load_prior(name)
    if prior.card.sha256 != sha256:
        raise InputError("the prior that refines guides has changed", where=name)
    return prior


def make_pair(corpus: Corpus, settings: PairSettings, number: int) -> np.ndarray:
    """Pair ``number``: truth, classical volume and what became of it, ``(2 + refined, z, y, x)``, network units.

    With maps one more: 1 where the volume was measured, 0 elsewhere. Raises InputError where the corpus holds no run of
    neighbouring slices.
    """
    maker = guide_maker(settings.modality)
    windows = bool(maker.meta.get("windows"))
    chunks = usable_runs(corpus, settings.modality, settings.slices)
    if not chunks:
        raise InputError(
            "no volume has enough neighbouring slices for a guide", expected="8 slices or more that show an object",
            hint="Train without guides: --set guided=false.",
        )  # fmt: skip
    if windows:  # a large section holds many
        chunks = [run for run in chunks for _ in range(_windows_in(corpus, run, settings.frame))]
    rng = np.random.default_rng([settings.seed, 1, number])
    # Every run of slices is used once before any is used again
    turn, position = divmod(number // max(1, len(settings.views)), len(chunks))
    numbers = chunks[np.random.default_rng([settings.seed, 0, turn]).permutation(len(chunks))[position]]
    views = settings.views[number % len(settings.views)] if settings.views else None
    source = corpus.sources[corpus.index[numbers[0], 0]]
    truth = corpus.chunk(numbers)
    prepare = _window if windows else _zoomed
    truth, spacing = prepare(truth, np.array(source.spacing), settings, rng)
    truth = _padded(truth, _multiple(maker))
    intensity = corpus.intensity
    truth = np.clip(truth, intensity.low, intensity.high)
    grid = Geometry.from_spacing(truth.shape, tuple(float(s) for s in spacing))  # type: ignore[arg-type]
    scale = np.float32(intensity.scale or 1.0)
    physical = Volume(truth * scale + np.float32(intensity.offset), grid, intensity.quantity)
    problem, classical = maker.value(physical, rng, views)
    guides = [classical]
    if settings.refined:
        prior = _prior(settings.prior, settings.prior_sha256)
        guides += _refined(problem, classical, prior, settings.refined, _granted(maker), rng)
    inverse = [(g.to_quantity(intensity.quantity).array - np.float32(intensity.offset)) / scale for g in guides]
    if settings.mapped:
        known = problem.system().known
        inverse.append(np.zeros_like(truth) if known is None else known.numpy())
    return np.stack([truth, *inverse])


def usable_runs(corpus: Corpus, modality: str, slices: int = _MOST) -> list[np.ndarray]:
    """Runs of up to ``slices`` neighbouring slices that are long enough for the modality's maker of guides."""
    return corpus.runs(int(guide_maker(modality).meta.get("least", _LEAST)), slices)  # type: ignore[call-overload]


def _windows_in(corpus: Corpus, run: np.ndarray, frame: int) -> int:
    """How many windows of the frame's size a run of slices holds, at least one."""
    height, width = corpus.sources[corpus.index[run[0], 0]].shape[1:]
    return max(1, round(height / frame)) * max(1, round(width / frame))


def _window(
    truth: np.ndarray, spacing: np.ndarray, settings: PairSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A part of all slices, no larger than the frame, anywhere."""
    height, width = (min(length, settings.frame) for length in truth.shape[1:])
    top, left = (
        int(rng.integers(whole - part + 1)) for whole, part in zip(truth.shape[1:], (height, width), strict=True)
    )
    return truth[:, top : top + height, left : left + width], spacing


def _zoomed(
    truth: np.ndarray, spacing: np.ndarray, settings: PairSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Slices reduced to the frame, or some enlarged up to it; voxel sizes vary by some percent."""
    spacing = spacing * np.exp(rng.uniform(-0.15, 0.15, 3))
    spacing[2] = spacing[1]
    longest, zoom = max(truth.shape[1:]), 1.0
    if longest > settings.frame:
        zoom = settings.frame / longest
    elif rng.random() < settings.enlarged and longest < 0.8 * settings.frame:
        zoom = rng.uniform(1.2, max(1.2, min(settings.largest_zoom, settings.frame / longest)))
    if zoom != 1:
        truth = enlarge(truth, zoom)
        if zoom > 1 and rng.random() < settings.sharpen:
            truth = sharpened(truth, rng.uniform(0.3, 1.5))
        # An enlarged slice stands for a larger body, for smaller pixels, or for something between the two
        spacing[1:] /= zoom ** (rng.uniform(0, 1) if zoom > 1 else 1)
    return truth, spacing


def _multiple(maker: Entry[GuideMaker]) -> int:
    return int(maker.meta.get("multiple", 1))  # type: ignore[call-overload]


def _padded(truth: np.ndarray, multiple: int) -> np.ndarray:
    """Slices with empty space (0 in network units) on both sides, up to the next multiple."""
    missing = [-length % multiple for length in truth.shape[1:]]
    return np.pad(truth, [(0, 0), *((amount // 2, amount - amount // 2) for amount in missing)])


class PairFolder:
    """Pairs as files; number n is ``n.npy``, int16 multiples of `STEP`, as `make_pair` gives them.

    A folder with pairs of another corpus or other settings is emptied first.
    """

    def __init__(self, folder: Path, corpus: Corpus, settings: PairSettings) -> None:
        self.folder, self.corpus, self.settings = folder, corpus, settings
        self._open: dict[int, np.ndarray] = {}
        # Neither the number of pairs wanted nor the place of the prior changes what a pair is
        recipe = asdict(replace(settings, count=0, prior=""))
        if not settings.mapped:  # pairs from before there were such settings stay valid
            del recipe["mapped"]
        if settings.slices == _MOST:
            del recipe["slices"]
        facts = guide_maker(settings.modality).meta
        recipe |= {name: facts[name] for name in ("multiple", "edition") if name in facts}
        if settings.refined and "granted" in facts:
            recipe["granted"] = facts["granted"]
        self._key = hashlib.sha256(json.dumps([_FORMAT, recipe, corpus.key]).encode()).hexdigest()
        folder.mkdir(parents=True, exist_ok=True)
        if self._described() != self._key:
            for old in folder.glob("*.npy"):
                old.unlink()
        # What a process of its own needs to know
        order = {
            "key": self._key,
            "settings": asdict(settings),
            "corpus": str(corpus.folder.resolve()) if corpus.folder else None,
            "corpus_key": corpus.key,
            "sources": np.unique(corpus.index[:, 0]).tolist(),
        }
        write_text(folder / "pairs.json", json.dumps(order))

    @classmethod
    def ordered(cls, folder: Path) -> PairFolder:
        """The folder as an earlier `PairFolder` described it."""
        order = json.loads((folder / "pairs.json").read_text())
        whole = stored_corpus(Path(order["corpus"]))
        index = whole.index[np.isin(whole.index[:, 0], order["sources"])]
        return cls(folder, replace(whole, index=index, key=order["corpus_key"]), PairSettings(**order["settings"]))

    def _described(self) -> str | None:
        try:
            return str(json.loads((self.folder / "pairs.json").read_text())["key"])
        except (OSError, ValueError, KeyError):
            return None

    def path(self, number: int) -> Path:
        """File of one pair."""
        return self.folder / f"{number:06d}.npy"

    def ready(self) -> int:
        """How many pairs there are, counted from number 0 without a gap."""
        number = 0
        while number < self.settings.count and self.path(number).exists():
            number += 1
        return number

    def make(self, progress: Progress | None = None, go_on: Callable[[], bool] = lambda: True) -> None:
        """Make what is missing. Raises InputError where the corpus holds no run of neighbouring slices."""
        for number in range(self.ready(), self.settings.count):
            if not go_on():
                return
            if not self.path(number).exists():
                codes = np.rint(make_pair(self.corpus, self.settings, number) / STEP).clip(-32768, 32767).astype("<i2")
                write_array(self.path(number), codes)
            if progress is not None:
                progress(number + 1, self.settings.count)

    def pair(self, number: int) -> np.ndarray:
        """One pair as it is stored: int16, mapped into memory."""
        if number not in self._open:
            try:
                self._open[number] = np.load(self.path(number), mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise CorruptInput(
                    "a stored pair is damaged", where=self.path(number).name, hint="Delete it; it is made again."
                ) from error
        return self._open[number]


class BackgroundMaker:
    """A process of low priority that fills a `PairFolder`. Use as a context manager: leaving it ends the process."""

    def __init__(self, pairs: PairFolder) -> None:
        self.pairs = pairs
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> BackgroundMaker:
        if self.pairs.ready() < self.pairs.settings.count:
            one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "NUMBA")}
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603 - this interpreter, a module of this package
                    [sys.executable, "-m", "medrecon.training.guides", str(self.pairs.folder)],
                    env={**os.environ, **one_thread}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                )  # fmt: skip
        return self

    @property
    def _log(self) -> Path:
        return self.pairs.folder / "maker.log"

    def check(self) -> None:
        """Raise MedreconError if the process failed."""
        if self._process is not None and self._process.poll() not in (None, 0):
            lines = self._log.read_text(errors="replace").strip().splitlines()
            raise MedreconError(
                "making the guides failed", found=lines[-1] if lines else f"exit code {self._process.returncode}"
            )

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:  # one that was stopped (SIGSTOP) hears nothing
                self._process.kill()
                self._process.wait()


def _main(folder: Path) -> None:
    """Fill a folder until it is full or the process that asked for it is gone."""
    parent = os.getppid()
    if hasattr(os, "nice"):
        os.nice(5)
    torch.set_num_threads(1)
    PairFolder.ordered(folder).make(go_on=lambda: os.getppid() == parent)


if __name__ == "__main__":
    # As a script this module is another one than the makers register with
    import_module("medrecon.training.guides")._main(Path(sys.argv[1]))
