"""Batches as a function of the step: the same step gives the same batch, whoever asks and whenever."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from medrecon.training.augment import crop, draw_centre, place, sign, turned
from medrecon.training.corpus import STEP, Corpus
from medrecon.training.guides import PairFolder
from medrecon.training.settings import TrainingSettings

_MISSING, _TRIES = 0.05, 8  # of a crop, at least: beside a gap the guide is the truth, and nothing is to be learnt
_CLASSICAL = 0.4  # share of guides that are classical volumes, where there are refined ones


@dataclass(frozen=True, eq=False)
class Batch:
    """Clean crops ``(n, 1, s, s)``, guides ``(n, g, s, s)`` or none, noise levels ``(n,)``, white noise like the crops.

    All in network units. Maps of where the guides were measured follow them as channels, where there are some.
    """

    clean: Tensor
    guide: Tensor | None
    sigma: Tensor
    noise: Tensor

    def to(self, device: str) -> Batch:
        """On another device."""
        if device == "cpu":
            return self
        guide = None if self.guide is None else self.guide.to(device)
        return Batch(self.clean.to(device), guide, self.sigma.to(device), self.noise.to(device))


class Batches:
    """Draws batches from a corpus, and from pairs where there are some."""

    def __init__(self, corpus: Corpus, pairs: PairFolder | None, settings: TrainingSettings) -> None:
        self.corpus, self.pairs, self.settings = corpus, pairs, settings
        self._shares = np.cumsum([share for _, _, share in settings.sizes])
        self._counts: list[int] = []  # slices of each pair, added up
        self._lock = Lock()

    def batch(self, step: int, pairs: int) -> Batch:
        """The batch of a step when the first ``pairs`` pairs may be used."""
        settings = self.settings
        rng = np.random.Generator(np.random.Philox(key=np.array([settings.seed, step], dtype=np.uint64)))
        kind = int(np.searchsorted(self._shares, rng.random() * self._shares[-1], side="right"))
        size, count, _ = settings.sizes[kind]
        guided = rng.random() >= settings.unguided and pairs > 0
        guide = None
        if guided:
            both = np.stack([self._pair_crop(rng, size, pairs) for _ in range(count)])
            clean, guide = both[:, :1], torch.from_numpy(both[:, 1:])
        else:
            clean = np.stack([self._plain_crop(rng, size) for _ in range(count)])[:, None]
        level = rng.standard_normal(count) * settings.sigma_spread + settings.sigma_mean
        noise = rng.standard_normal(clean.shape, dtype=np.float32)
        quiet = np.zeros(count, dtype=bool)
        if guided:
            low, high = np.log(settings.blind_levels)
            chance = rng.random(count)
            level = np.where(chance < settings.blind, rng.uniform(low, high, count), level)
            quiet = chance < settings.blind * settings.quiet
        sigma = np.exp(level).clip(*settings.sigma_range).astype(np.float32)
        if guide is not None and quiet.any():  # the error of the guide is all the noise there is
            own = guide[quiet, settings.guides // 2, None].numpy()
            noise[quiet] = (own - clean[quiet]) / sigma[quiet, None, None, None]
        return Batch(
            torch.from_numpy(np.ascontiguousarray(clean)), guide, torch.from_numpy(sigma), torch.from_numpy(noise)
        )

    def _plain_crop(self, rng: np.random.Generator, size: int) -> np.ndarray:
        source = self.corpus.slice(int(rng.integers(len(self.corpus))))
        intensity = self.corpus.intensity
        return crop(rng, source, size, self.settings.augmentation, (intensity.low, intensity.high))

    def _pair_crop(self, rng: np.random.Generator, size: int, pairs: int) -> np.ndarray:
        """Truth and neighbouring guide slices, then their maps if there are any, ``(1 + channels, size, size)``."""
        assert self.pairs is not None
        settings = self.settings.augmentation
        number, position = self._locate(int(rng.integers(self._slices(pairs))))
        truth, classical, *refined = self.pairs.pair(number)
        known = [refined.pop()] if self.settings.mapped else []
        guide = classical
        if refined and rng.random() >= _CLASSICAL:
            guide = refined[int(rng.integers(len(refined)))]
        reach = self.settings.guides // 2
        around = np.clip(np.arange(position - reach, position + reach + 1), 0, len(truth) - 1)
        if rng.random() < 0.5:  # the volume may as well stand on its head
            around = around[::-1]
        stack = np.concatenate([truth[position][None], guide[around], *(part[around] for part in known)])
        values = stack * np.float32(STEP)
        missing = [(part[position] == 0).astype(np.float32) for part in known]
        for _ in range(_TRIES if missing else 1):
            centre = tuple(draw_centre(rng, length, size, settings.overhang) for length in truth.shape[1:])
            if all(place(part, size, centre).mean() >= _MISSING for part in missing):
                break
        image = turned(rng, place(values, size, centre), settings)
        image[: 1 + len(around)] *= sign(rng, settings)
        return image

    def _slices(self, pairs: int) -> int:
        """Slices in the first ``pairs`` pairs."""
        assert self.pairs is not None
        with self._lock:
            for number in range(len(self._counts), pairs):
                before = self._counts[-1] if self._counts else 0
                self._counts.append(before + self.pairs.pair(number).shape[1])
        return self._counts[pairs - 1]

    def _locate(self, flat: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._counts, flat, side="right"))
        return number, flat - (self._counts[number - 1] if number else 0)


def in_order(draw: Callable[[int], Batch], first: int, workers: int) -> Iterator[Batch]:
    """``draw(first), draw(first + 1), ...``, drawn ahead by threads if there are any."""
    if workers == 0:
        step = first
        while True:
            yield draw(step)
            step += 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Batch]] = deque()
        step = first
        try:
            while True:
                while len(waiting) < 2 * workers:
                    waiting.append(pool.submit(draw, step))
                    step += 1
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
