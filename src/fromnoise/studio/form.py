"""The data of the page's form: names, recipes, and the configuration's schema with a description of each setting."""

from __future__ import annotations

import inspect
import logging
import re
from functools import cache
from typing import Any

from fromnoise import recipes
from fromnoise.data import codecs
from fromnoise.data.points import names
from fromnoise.nn import networks
from fromnoise.process import predictions
from fromnoise.registry import Registry
from fromnoise.samplers import samplers
from fromnoise.schedule import schedules
from fromnoise.settings import Tree, flat
from fromnoise.studio.jobs import MOST_POINTS
from fromnoise.training import Plan, TrainConfig, time_laws, weightings
from fromnoise.training.losses import losses

_log = logging.getLogger(__name__)

_KINDS: dict[str, Registry[Any]] = {
    "schedule": schedules,
    "predict": predictions,
    "codec": codecs,
    "network": networks,
    "train.loss": losses,
    "train.weighting": weightings,
    "train.times": time_laws,
}
"""The settings that name a component, each with the registry of its names."""


_FROM_DATA = ("dim", "classes", "cond_dim")
"""The settings of a network that follow from the data."""

_DATA = {
    "n": {"type": "integer", "minimum": 1, "maximum": MOST_POINTS, "description": "the number of points."},
    "seed": {"type": "integer", "minimum": 0, "default": 0, "description": "the seed of the draw."},
}


@cache
def form() -> Tree:
    """Return the form: the data sets, the recipes' settings, the schemas, and the samplers' names."""
    return {
        "data": names(),
        "recipes": {
            name: _settings(plan)
            for name in recipes.names()
            if _takes_points((plan := Plan.from_recipe(name)).network["name"])
        },
        "schema": {
            "data": _DATA,
            "train": _described(TrainConfig.model_json_schema(), TrainConfig),
            "components": {key: _components(registry) for key, registry in _KINDS.items()},
        },
        "samplers": [name for name in samplers.names() if not samplers.build(name).of_few_steps],
    }


def _components(registry: Registry[Any]) -> Tree:
    """Return the schemas of a registry's components, except a user's own whose settings no form can hold."""
    found: Tree = {}
    for name in registry.names():
        if registry is networks and not _takes_points(name):
            continue
        try:
            found[name] = _component(registry, name)
        except Exception as error:  # pydantic raises various errors for a type that is not data
            _log.info("%s %r is not in the form: %s", registry.kind, name, error)
    return found


def _component(registry: Registry[Any], name: str) -> Tree:
    schema = _described(registry.schema(name).model_json_schema(), registry.find(name))
    properties = {key: value for key, value in schema["properties"].items() if key not in _FROM_DATA}
    return {**schema, "properties": properties, "required": [k for k in schema.get("required", []) if k in properties]}


def _takes_points(network: str) -> bool:
    """Return whether a network is not one of pictures, which are not trained on here."""
    return "shape" not in networks.schema(network).model_fields


def _settings(plan: Plan) -> Tree:
    """Return every setting of a plan as one flat table, a.b = value; a network's defaults are filled in."""
    tree = plan.model_dump(mode="json")
    fields = networks.schema(plan.network["name"]).model_fields
    defaults = {key: field.default for key, field in fields.items() if not field.is_required()}
    tree["network"] = {**{key: value for key, value in defaults.items() if key not in _FROM_DATA}, **tree["network"]}
    return flat(tree)


def _described(schema: Tree, cls: type) -> Tree:
    """Return a schema with the descriptions of the class and of each setting from the class's docstring."""
    doc = inspect.getdoc(cls) or ""
    about = _about(doc)
    properties = {
        key: {**value, **({"description": about[key]} if key in about else {})}
        for key, value in schema.get("properties", {}).items()
    }
    return {**schema, "description": " ".join(doc.split("\n\n")[0].split()), "properties": properties}


def _about(doc: str) -> dict[str, str]:
    """Return the description of each name in the Attributes: or Args: of a docstring."""
    section = re.search(r"^(?:Attributes|Args):\n((?:[ ]+.*\n?|\n)+)", doc, re.MULTILINE)
    found: dict[str, str] = {}
    name = None
    for line in (section[1] if section else "").splitlines():
        start = re.match(r" {4}(\w+): (.*)", line)
        if start:
            name, found[start[1]] = start[1], start[2].strip()
        elif name is not None and line.startswith(" " * 8):
            found[name] += f" {line.strip()}"
    return found
