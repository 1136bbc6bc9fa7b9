"""Recipes: whole configurations by name, as TOML files."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

from fromnoise.errors import UnknownName


def names() -> list[str]:
    """Return the recipes' names."""
    return sorted(p.name.removesuffix(".toml") for p in resources.files(__name__).iterdir() if p.name.endswith(".toml"))


def read(name: str) -> dict[str, Any]:
    """Return the recipe of that name, as data.

    Raises:
        UnknownName: if there is no such recipe.
    """
    if name not in names():
        raise UnknownName("recipe", name, names())
    return tomllib.loads(resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))
