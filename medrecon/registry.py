"""Named registries: a new operator, sampler, prior or format is one file with one decorator line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Generic, TypeVar

from medrecon.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered thing and what was said about it."""

    name: str
    value: T
    meta: dict[str, object] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (self.value.__doc__ or "").strip().split("\n")[0]


class Registry(Generic[T]):
    """An ordered table from name to object; unknown names raise an error that lists the nearest ones."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry[T]] = {}

    def register(self, name: str, **meta: object) -> Callable[[T], T]:
        """Decorator that adds the decorated object under ``name``."""

        def add(value: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = Entry(name, value, meta)
            return value

        return add

    def entry(self, name: str) -> Entry[T]:
        """The entry called ``name``. Raises UsageError for an unknown name."""
        if name not in self._entries:
            raise unknown_name(self.kind, name, self.names())
        return self._entries[name]

    def get(self, name: str) -> T:
        """The object called ``name``. Raises UsageError for an unknown name."""
        return self.entry(name).value

    def name_of(self, value: T) -> str:
        """The name of a registered object."""
        return next(entry.name for entry in self if entry.value is value)

    def names(self) -> list[str]:
        """All names, in the order of registration."""
        return list(self._entries)

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter(self._entries.values())


def unknown_name(kind: str, name: str, known: list[str]) -> UsageError:
    """The error for a name that nobody registered."""
    near = get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known)}."
    return UsageError(f"unknown {kind} {name!r}", hint=hint)
