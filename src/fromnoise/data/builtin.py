"""The built-in data sets by name: what a configuration can say of data that need no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fromnoise.data import points
from fromnoise.data.dataset import Dataset
from fromnoise.data.digits import digits
from fromnoise.errors import ConfigError, UnknownName

_PICTURES = {"digits": digits}


def names() -> list[str]:
    """Return the names of the built-in data sets."""
    return sorted([*points.names(), *_PICTURES])


def recipe_of(name: str) -> str:
    """Return the recipe that fits a built-in data set."""
    return "image" if name in _PICTURES else "points"


def settings_for(name: str, usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return n and seed of built-in data to train on: as given, or a recipe's usual ones for points drawn anew."""
    return {**({} if name in _PICTURES else usual), **given}


def make(config: Mapping[str, Any]) -> Dataset:
    """Make a built-in data set from {"name": ..., "n": ..., "seed": ...}.

    Raises:
        UnknownName: if there is none of that name.
        ConfigError: if n or seed is out of range, or something else is given.
    """
    given = dict(config)
    name = given.pop("name", None)
    if name not in names():
        raise UnknownName("data set", name, names())
    extra = set(given) - {"n", "seed"}
    if extra:
        raise ConfigError(f"data {name!r}: {', '.join(sorted(extra))} is not a setting of it; known: n, seed")
    return _PICTURES[name](**given) if name in _PICTURES else points.make(name, **given)
