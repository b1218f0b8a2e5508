"""Sizes are checked before memory is taken, so that a small hostile file cannot ask for all of it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medrecon.errors import TooLarge

_SHARE = 0.6  # of the memory that is free: the rest is for what is computed from the data


@dataclass(frozen=True)
class Limits:
    """What a reader may allocate. ``max_bytes=None`` means 60 % of the memory that is free when it reads."""

    max_bytes: int | None = None

    def check(self, shape: Sequence[int], itemsize: int, *, where: str) -> int:
        """Bytes of an array of this shape. Raises TooLarge if they exceed the limit."""
        needed = math.prod(int(n) for n in shape) * itemsize
        allowed = self.max_bytes if self.max_bytes is not None else int(_SHARE * available_memory())
        if needed > allowed:
            raise TooLarge(
                "the data would not fit into memory",
                where=where,
                found=f"{' x '.join(map(str, shape))} values = {_readable(needed)}",
                expected=f"at most {_readable(allowed)}",
                hint="If the file is right, use a machine with more memory or a smaller part of it.",
            )
        return needed


def available_memory() -> int:
    """Bytes that this process can still take: free memory of the machine, or of its container if that is less."""
    candidates = [_from_meminfo(), _from_cgroup()]
    known = [n for n in candidates if n is not None]
    if known:
        return max(min(known), 0)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (ValueError, OSError, AttributeError):
        return 2 << 30


def _from_meminfo() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


def _from_cgroup() -> int | None:
    root = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            return int((root / limit).read_text("ascii")) - int((root / used).read_text("ascii"))
        except (OSError, ValueError):  # absent, or "max"
            continue
    return None


def _readable(n: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n} bytes"
