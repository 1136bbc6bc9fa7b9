"""The description of a training: data, a recipe and changes to it, checked before the training begins."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Discriminator, Field, Tag, ValidationError

from fromnoise.data import Dataset, make
from fromnoise.data.points import names
from fromnoise.errors import InputError, RunError, UnknownName
from fromnoise.registry import STRICT, explain
from fromnoise.run import RunFolder
from fromnoise.settings import Tree, flat, grouped
from fromnoise.training import Plan, TrainConfig, Training

DEEPEST = 16
"""The largest depth of nested lists and groups in a posted job."""

MOST_POINTS = 1_000_000
"""The largest number of points of a built-in data set."""

LARGEST = 50_000_000
"""The most parameters that the studio trains: half a gigabyte with the optimizer's state and the average."""

LONGEST = 10_000
"""The largest whole number among a network's settings: its width, its depth."""

Coordinate = Annotated[float, Field(strict=True, ge=-1e6, le=1e6)]
Label = (
    Annotated[str, Field(strict=True, min_length=1, max_length=40)] | Annotated[int, Field(strict=True, ge=0, le=999)]
)


class Drawing(BaseModel):
    """Points that a user drew.

    Attributes:
        name: the name of the data and of the run.
        points: the points, `[N, 2]`.
        labels: the label of each point.
    """

    model_config = STRICT

    name: Annotated[str, Field(min_length=1, max_length=64)] = "drawing"
    points: Annotated[list[tuple[Coordinate, Coordinate]], Field(min_length=10, max_length=20_000)]
    labels: Annotated[list[Label], Field(max_length=20_000)] | None = None

    def dataset(self) -> Dataset:
        """Return the points as a data set; labels are numbered in the order of their first occurrence.

        Raises:
            InputError: if there is not one label for each point, or there are more than 64 different ones.
        """
        x = torch.tensor(self.points, dtype=torch.float32)
        if self.labels is None:
            return Dataset(x, name=self.name)
        given = [str(label) for label in self.labels]
        known = list(dict.fromkeys(given))
        if len(given) != len(x) or not 1 <= len(known) <= 64:
            raise InputError(f"labels: one of at most 64 for each of {len(x)} points is expected, not {len(given)}")
        return Dataset(x, torch.tensor([known.index(label) for label in given]), tuple(known), self.name)


def _kind(data: Any) -> str:
    return "name" if isinstance(data, str) else "drawing"


class Job(BaseModel):
    """A training that was asked for.

    Attributes:
        data: a built-in data set by name, or points.
        recipe: the recipe, which gives all other settings.
        changes: changes to the recipe, as for `Plan.from_recipe`; {"train.steps": 300} means {"train": {"steps": 300}}.
    """

    model_config = STRICT

    data: Annotated[Annotated[str, Tag("name")] | Annotated[Drawing, Tag("drawing")], Discriminator(_kind)]
    recipe: Annotated[str, Field(max_length=64)] = "points"
    changes: Tree = {}

    @classmethod
    def from_post(cls, posted: Any) -> Job:
        """Read a posted job.

        Raises:
            InputError: if the job is wrong; the message says in one line what is wrong with it.
        """
        if not isinstance(posted, Mapping):
            raise InputError('a training is asked for as {"data": ..., "recipe": ..., "changes": {...}}')
        if _depth(posted) > DEEPEST:
            raise InputError(f"the training: lists and groups are nested more than {DEEPEST} deep")
        try:
            job = cls(**posted)
        except ValidationError as error:
            raise explain(error, "the training") from None
        except TypeError as error:  # a key that is no name
            raise InputError(f"the training: {error}") from None
        return job.model_copy(update={"changes": grouped(job.changes.items())})

    @property
    def name(self) -> str:
        """Return the name of its data."""
        return self.data if isinstance(self.data, str) else self.data.name

    def plan(self) -> Plan:
        """Return the settings, checked.

        Raises:
            InputError: if a setting is wrong.
        """
        if isinstance(self.data, str) and self.data not in names():
            raise UnknownName("data set", self.data, names())
        if isinstance(self.data, Drawing) and self.changes.get("data"):
            raise InputError("data.n and data.seed go with a built-in data set: points are taken as they are")
        return Plan.from_recipe(self.recipe, self.changes)

    def points(self, plan: Plan, at_most: int = MOST_POINTS) -> Dataset:
        """Return the data; of a built-in data set at most `at_most` points."""
        if isinstance(self.data, Drawing):
            return self.data.dataset()
        settings = dict(plan.data)
        n = settings.get("n")
        if isinstance(n, int):
            if n > MOST_POINTS:
                raise InputError(f"data.n: the studio trains on up to {MOST_POINTS:,} points, not {n:,}")
            settings["n"] = min(n, at_most)
        return make({"name": self.data, **settings})

    def training(self) -> Training:
        """Return the training, made exactly as `fromnoise train` makes it."""
        plan = self.plan()
        training = plan.assemble(self.points(plan))
        return replace(training, config=often(training.config, self.changes.get("train", {})))

    def check(self) -> Plan:
        """Return the settings after a check of the whole: the network can be built and trained on the data.

        The network is built without memory for its weights, so that no size can exhaust the memory.

        Raises:
            InputError: if something is wrong; the message says in one line what.
        """
        plan = self.plan()
        for key, value in plan.network.items():
            if isinstance(value, int) and value > LONGEST:
                raise InputError(f"network.{key}: the studio builds up to {LONGEST:,}, not {value:,}")
        try:
            training = plan.assemble(self.points(plan, at_most=1000), device="meta")
        except (RuntimeError, NotImplementedError):  # a network of the user's own may need its memory to be built
            return plan
        size = sum(weight.numel() for weight in training.denoiser.parameters())
        if size > LARGEST:
            raise InputError(
                f"this network has {size:,} parameters, and the studio trains up to {LARGEST:,}: make network.hidden "
                "smaller, or train it with fromnoise train"
            )
        training.check()
        return plan

    def command(self, out: Path) -> list[str] | None:
        """Return the words of the command for the same training; None for a drawing, which no command takes."""
        if isinstance(self.data, Drawing):
            return None
        settings = [
            word for key, value in flat(self.changes).items() for word in ("--set", f"{key}={json.dumps(value)}")
        ]
        return ["fromnoise", "train", self.data, "--recipe", self.recipe, "--out", str(out), *settings]


def going_on(path: Path) -> Training:
    """Return the training of a run, to go on with, from its folder alone.

    Raises:
        RunError: if there is no checkpoint, or the training is complete.
    """
    folder = RunFolder(path)
    config = folder.config
    train, steps = TrainConfig(**config.train), folder.steps()
    if not steps:
        raise RunError(f"{path} has no checkpoint to go on from: train it anew")
    if steps[0] >= train.steps:
        raise RunError(f"{path} is trained to its end, step {train.steps}")
    folder.latest(config.skeleton())  # before memory is taken for the network
    return Training(folder.denoiser(), folder.data(), train)


def often(train: TrainConfig, given: Mapping[str, Any]) -> TrainConfig:
    """Return the settings with logs and checkpoints frequent enough to watch, except where `given` sets them.

    Neither changes the trained weights (`FREE_KEYS`).
    """
    chosen = {"log_every": min(train.log_every, max(1, train.steps // 50)), "save_every": max(1, train.steps // 20)}
    return train.model_copy(update={key: value for key, value in chosen.items() if key not in given})


def folder_name(name: str) -> str:
    """Return a name in the form of a folder's name: lower-case letters, digits, _ and -."""
    return re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")[:48] or "drawing"


def _depth(value: Any) -> int:
    """Return the depth of nested lists and groups, counted to at most one more than is allowed."""
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        depth += bool(level)
    return depth
