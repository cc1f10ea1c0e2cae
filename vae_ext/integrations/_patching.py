"""Patches of other packages: what is put in the place of what, and taken back."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

MISSING = object()


class Swap(Protocol):
    def put(self) -> None: ...

    def take_back(self) -> None: ...


@dataclass(frozen=True)
class Everywhere:
    """One object for another in all modules of a package, whatever they call it."""

    package: str
    old: object
    new: object

    def put(self) -> None:
        self._replace(self.old, self.new)

    def take_back(self) -> None:
        self._replace(self.new, self.old)  # also in modules that were loaded since

    def _replace(self, old: object, new: object) -> None:
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == self.package and module is not None:
                for key, value in list(vars(module).items()):
                    if value is old:
                        setattr(module, key, new)


@dataclass
class Attribute:
    """An attribute of a class."""

    owner: Any
    name: str
    new: object
    old: object = MISSING

    def put(self) -> None:
        self.old = vars(self.owner).get(self.name, MISSING)
        setattr(self.owner, self.name, self.new)

    def take_back(self) -> None:
        if self.old is MISSING:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.old)


class Patches:
    """The patches of a package that are in force, oldest first: the newest counts, in whatever
    order they end."""

    def __init__(self) -> None:
        self._active: dict[contextlib.ExitStack, Callable[[], Sequence[Swap]]] = {}
        self._newest: contextlib.ExitStack | None = None
        self._put: Sequence[Swap] = ()

    def add(self, swaps: Callable[[], Sequence[Swap]]) -> contextlib.ExitStack:
        """What `swaps` names, seen from the package as it is without any of these patches, until
        the context manager ends or is closed."""
        patch = contextlib.ExitStack()
        self._active[patch] = swaps
        patch.callback(self._end, patch)
        self._install()
        return patch

    def _end(self, patch: contextlib.ExitStack) -> None:
        del self._active[patch]
        self._install()

    def _install(self) -> None:
        newest = next(reversed(self._active), None)
        if newest is self._newest:
            return
        for swap in reversed(self._put):
            swap.take_back()
        self._newest = newest
        self._put = () if newest is None else self._active[newest]()
        for swap in self._put:
            swap.put()
