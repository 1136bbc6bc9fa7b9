"""What runs of earlier formats were called then, said in today's words.

Format 2 is today's. Format 1 had a prediction by its name alone, labels as the one kind of condition, and other names
for a few settings; what scales the data stood in config.toml.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fromnoise.process import predictions

Tree = dict[str, Any]


def upgraded(raw: Tree) -> Tree:
    """Return the content of a config.toml in today's format."""
    raw = _from_1(raw) if raw.get("format_version") == 1 else raw
    network = raw.get("network")
    unsaid = _UNSAID.get(str(network.get("name")), {}) if isinstance(network, dict) else {}
    return {**raw, "network": {**unsaid, **network}} if unsaid and isinstance(network, dict) else raw


_UNSAID: dict[str, Tree] = {"dit": {"local": False}}
"""By the network's name, settings whose default is not what earlier releases did, which did not have them."""


def _from_1(raw: Tree) -> Tree:
    raw = {**raw, "format_version": 2}
    if isinstance(raw.get("predict"), str):
        raw["predict"] = predictions.complete(raw["predict"])
    if "label_names" in raw:
        names = raw.pop("label_names")
        raw["conditioners"] = [{"name": "labels", "names": names}] if names else []
    raw["codec"] = {"name": "affine", "kind": raw.pop("scaling", "isotropic")}
    measured = raw.get("measured")
    if isinstance(measured, dict):
        raw["measured"] = {key: value for key, value in measured.items() if key not in ("mean", "std")}
    if isinstance(raw.get("train"), dict):
        raw["train"] = {**_SINCE_1, **{key: _renamed(key, value) for key, value in raw["train"].items()}}
    return raw


_SINCE_1 = {"held_out": 0.0, "check_every": 500, "patience": 0, "parts_together": 0}
"""Settings of a training that format 1 did not have, as its runs were trained."""


def _renamed(key: str, value: Any) -> Any:
    """Return a setting of the training with the names of format 1 brought up to date."""
    if key == "times" and isinstance(value, dict) and value.get("name") == "ladder":
        return {**value, "name": "geometric-levels"}
    if key == "loss" and isinstance(value, dict) and "share" in value:
        return {("vlb_weight" if name == "share" else name): setting for name, setting in value.items()}
    return value


def codec_tensors(raw: Tree) -> dict[str, Tensor] | None:
    """Return what the codec of a run of format 1 had measured, which its config.toml held; None for later formats."""
    if raw.get("format_version") != 1:
        return None
    measured = raw["measured"]
    shape = measured.get("shape", [])
    found = {name: torch.tensor(measured.get(name, usual)) for name, usual in (("mean", 0.0), ("std", 1.0))}
    return {name: value.reshape(shape) if value.numel() > 1 else value for name, value in found.items()}


def name_in(format_version: int, name: str) -> str:
    """Return what a weight of today's network is called in a checkpoint of an earlier format."""
    return name.replace(".modulation.", ".told.") if format_version == 1 else name


def names_of_parameters(format_version: int, names: Sequence[str]) -> dict[str, str]:
    """Return what each of a network's parameters is called in the optimizer's file: its number, in format 1."""
    return {name: str(k) if format_version == 1 else name for k, name in enumerate(names)}
