"""Recipes: whole configurations by name, as TOML files."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

from fromnoise.errors import UnknownName

AUTOENCODER = "autoencoder"
"""The recipe of autoencoders; all others are of denoisers."""


def names() -> list[str]:
    """Return the names of the recipes of denoisers."""
    return [name for name in _all() if name != AUTOENCODER]


def _all() -> list[str]:
    return sorted(p.name.removesuffix(".toml") for p in resources.files(__name__).iterdir() if p.name.endswith(".toml"))


def read(name: str) -> dict[str, Any]:
    """Return the recipe of that name, as data.

    Raises:
        UnknownName: if there is no such recipe.
    """
    if name not in _all():
        raise UnknownName("recipe", name, _all())
    return tomllib.loads(resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))
