"""Trees of settings: what recipes, files, flags and forms say of a training, laid over one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fromnoise.errors import ConfigError, shown

Tree = dict[str, Any]
"""Settings by name; a group of them, or a component, is a tree in it."""

_DEEPEST = 16


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """Lay changes over a tree of settings. A component of another name replaces the old one whole."""
    merged = dict(base)
    for key, given in changes.items():
        old: Any = merged.get(key)
        value: Any = {"name": given} if isinstance(given, str) and isinstance(old, Mapping) else given
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        same = both and (name_of(old) is None or value.get("name") in (None, name_of(old)))
        merged[key] = merge(old, value) if same else value
    return merged


def name_of(component: Any) -> Any:
    """Return the name in a component's settings, or what stands in their place."""
    return component.get("name") if isinstance(component, Mapping) else component


def grouped(pairs: Iterable[tuple[str, Any]]) -> Tree:
    """Return the tree of pairs of a key `a.b` and a value. Of a value given twice the last counts.

    `codec = "affine"` and `codec.kind = "columns"` are a component's name and a setting of it, in any order.

    Raises:
        ConfigError: if something that is no name is given both as a value and as a group, or a key has too many dots.
    """
    tree: Tree = {}
    for key, value in pairs:
        *path, last = key.split(".")
        if len(path) > _DEEPEST:
            raise ConfigError(f"{shown(key)}: settings lie at most {_DEEPEST} groups deep")
        place = tree
        for name in path:
            place = _group(place, name)
        _put(place, last, value)
    return tree


def _put(place: Tree, name: str, value: Any) -> None:
    if isinstance(value, Mapping):
        group = _group(place, name)
        for key, part in value.items():
            _put(group, key, part)
    elif isinstance(place.get(name), dict):
        _put(place[name], "name", _named(name, value)["name"])
    else:
        place[name] = value


def _group(place: Tree, name: str) -> Tree:
    """Return the group of that name; a component's name that stands there moves into it."""
    old = place.setdefault(name, {})
    if not isinstance(old, dict):
        place[name] = _named(name, old)
    return place[name]


def _named(key: str, value: Any) -> Tree:
    if not isinstance(value, str):
        raise ConfigError(f"{key} is given twice, as a value and as a group")
    return {"name": value}


def flat(tree: Mapping[str, Any], prefix: str = "") -> Tree:
    """Return a tree's values by their keys `a.b`."""
    found: Tree = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
