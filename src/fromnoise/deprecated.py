"""Names of the release before, which work for one release more and say what they are called now."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def warn(old: str, new: str, stacklevel: int = 3) -> None:
    """Tell the caller's caller that `old` is now called `new`."""
    message = f"{old} is now called {new}; the old name goes in the next release"
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel)


class Renamed:
    """A method or attribute under its old name: `fresh = Renamed("draw")` in the body of a class.

    Args:
        new: what it is called now.
    """

    def __init__(self, new: str) -> None:
        self._new = new

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        place = next(base for base in owner.__mro__ if self in vars(base).values())
        old = next(name for name, value in vars(place).items() if value is self)
        warn(f"{place.__name__}.{old}", self._new)
        return getattr(instance, self._new)


def renamed(module: str, names: Mapping[str, str], stacklevel: int = 3) -> Callable[[str], Any]:
    """Return a module's `__getattr__` that finds names under their old ones.

    Args:
        module: the module's `__name__`.
        names: old names, and where they are now: a name of the module, or `package.module:name`.
        stacklevel: how far up the user's line is.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, new = names[name].rpartition(":")
        warn(f"{module}.{name}", f"{place or module}.{new}", stacklevel)
        return getattr(importlib.import_module(place or module), new)

    return find


def alias(owner: type, old: str, new: str, function: Callable[..., Any]) -> None:
    """Let a static or class method be called under its old name.

    Args:
        owner: the class.
        old: its name there.
        new: what it is called now, as a message names it.
        function: what it does.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        warn(f"{owner.__name__}.{old}", new)
        return function(*args, **kwargs)

    setattr(owner, old, staticmethod(call))


def retired(owner: type, old: str, new: str, function: Callable[..., Any]) -> None:
    """Let a method be called that another one has taken the place of.

    Args:
        owner: the class.
        old: its name there.
        new: what does its work now, as a message names it.
        function: what it does, given the instance.
    """

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        warn(f"{owner.__name__}.{old}", new)
        return function(self, *args, **kwargs)

    setattr(owner, old, call)


def renamed_argument(old: str, new: str, convert: Callable[[Any], Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function that takes an argument under its old name too.

    Args:
        old: its name in the release before.
        new: its name now.
        convert: turns what was given then into what is given now.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if old in kwargs:
                warn(f"{function.__qualname__.removesuffix('.__init__')}({old}=...)", f"{new}=...")
                kwargs[new] = convert(kwargs.pop(old))
            return function(*args, **kwargs)

        return call

    return decorate


class _Moved(ModuleType):
    """A package under its old name, for `from fromnoise.sample import DDIM`."""

    def __init__(self, old: str, new: str) -> None:
        super().__init__(old)
        self.__dict__["_new"] = new

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        warn(self.__name__, self._new)
        return getattr(importlib.import_module(self._new), name)


def moved(old: str, new: str) -> None:
    """Let a package be imported under its old name, without taking that name in the package above it."""
    sys.modules.setdefault(old, _Moved(old, new))
