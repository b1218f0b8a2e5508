"""How far a training is: time and share of the budget, learning rate, pairs that may be used."""

from __future__ import annotations

import math
import time
from threading import Lock

from medrecon.training.guides import PairFolder
from medrecon.training.settings import TrainingSettings
from medrecon.training.state import TrainingState

POOL_STEPS = 100
"""New pairs are taken in every so many steps."""

_LAST_RATE = 0.02  # of the learning rate, at the end


class Pool:
    """How many pairs a step may use: looked up once every hundred steps, so that a resumed run sees the same."""

    def __init__(self, pairs: PairFolder | None, state: TrainingState) -> None:
        self.pairs = pairs
        self._lock = Lock()
        self._known: dict[int, int] = {}
        if state.step % POOL_STEPS and pairs is not None:
            self._known[state.step // POOL_STEPS] = min(state.pairs, pairs.ready())

    def at(self, step: int) -> int:
        """Pairs for this step."""
        if self.pairs is None:
            return 0
        block = step // POOL_STEPS
        with self._lock:
            if block not in self._known:
                self._known[block] = self.pairs.ready()
            return self._known[block]


class Clock:
    """Counts the time of a training across interruptions, and how much of the budget is used."""

    def __init__(self, state: TrainingState, settings: TrainingSettings) -> None:
        self.state, self.settings = state, settings
        self._first, self._seconds = state.step, state.seconds
        self._last, self._cpu = time.monotonic(), time.process_time()

    def tick(self) -> None:
        """Add what has passed since the last call."""
        now, cpu = time.monotonic(), time.process_time()
        self.state.seconds += now - self._last
        self.state.cpu_seconds += cpu - self._cpu
        self._last, self._cpu = now, cpu

    def fraction(self) -> float:
        """Share of the budget that is used."""
        if self.settings.steps is not None:
            return self.state.step / self.settings.steps if self.settings.steps else 1.0
        assert self.settings.minutes is not None
        return self.state.seconds / (60 * self.settings.minutes)

    def remaining(self) -> float:
        """Seconds left, by the pace of this run."""
        if self.settings.steps is None:
            assert self.settings.minutes is not None
            return max(0.0, 60 * self.settings.minutes - self.state.seconds)
        pace = (self.state.seconds - self._seconds) / max(1, self.state.step - self._first)
        return pace * (self.settings.steps - self.state.step)


def learning_rate(settings: TrainingSettings, step: int, fraction: float) -> float:
    """Linear warm-up over the first steps, constant, then a cosine over the last share ``decay`` of the budget."""
    rate = settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warm_up))
    if fraction > 1 - settings.decay:
        position = (fraction - (1 - settings.decay)) / settings.decay
        rate *= _LAST_RATE + (1 - _LAST_RATE) * (0.5 + 0.5 * math.cos(math.pi * min(position, 1.0)))
    return rate
